"""What media operations want done: orders to the worker, clips and words from the studio, timers; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offhook.call import messages as m
from offhook.call import operation_messages as o
from offhook.call.call import Call
from offhook.call.model import CallData, Connection, MediaStream, StreamState
from offhook.call.operations import Choice, Failure, Outcome, Problem, RecognizeOptions
from offhook.call.prompts import Source
from offhook.media import link, tidings
from offhook.server.adoption import INTERRUPTED
from offhook.server.operations import Operations
from offhook.server.records import CallRecord
from offhook.server.studio import StudioError
from offhook.speech.values import Recognition
from offhook.testing.clock import run

CALLER, APP, WALL = "4:+15550100", "8:acs:res_app", 1_800_000_000.0


@dataclass
class Studio:
    """Takes a second for everything. A text `!kind` fails with that kind; `?` fails with something unforeseen."""

    kept: list[Path] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    hears: str = "hello"

    def warm_up(self) -> None:
        """It is always ready."""

    async def clip(self, source: Source) -> Path:
        await asyncio.sleep(1)
        if source.text.startswith("!"):
            raise StudioError(source.text[1:], f"{source.text[1:]}!")
        if source.text == "?":
            raise RuntimeError("unforeseen")
        return self._keep(source.text)

    async def hold_music(self) -> Path:
        await asyncio.sleep(1)
        return self._keep("music")

    def release(self, path: Path) -> None:
        self.kept.remove(path)

    async def recognise(self, pcm: bytes, locale: str, phrases: tuple[str, ...]) -> Recognition:
        self.asked.append((pcm, locale, phrases))
        await asyncio.sleep(1)
        if self.hears.startswith("!"):
            raise StudioError(self.hears[1:], f"{self.hears[1:]}!")
        return Recognition(self.hears, 0.5)

    def _keep(self, name: str) -> Path:
        self.kept.append(Path(name))
        return self.kept[-1]


@dataclass
class FakeWorker:
    orders: list[link.Order] = field(default_factory=list)

    def send(self, order: link.Order) -> None:
        self.orders.append(order)


class Stage:
    """One call (a caller on leg "caller" talks to app "a"), and what carries out what it wants."""

    def __init__(self, data: CallData | None = None) -> None:
        self.studio = Studio()
        self.worker = FakeWorker()
        self.events: list[tuple[float, m.Event]] = []
        self.operations = Operations(self.studio, self.submit, self.wall)
        self.record = CallRecord(Call(data or talking()), self.worker, WALL)  # type: ignore[arg-type]

    def wall(self) -> float:
        return WALL + asyncio.get_running_loop().time()

    def submit(self, record: CallRecord, message: m.Message) -> None:
        for effect in record.call.handle(message, 0):
            if isinstance(effect, m.Notify):
                self.events.append((asyncio.get_running_loop().time(), effect.event))
            elif isinstance(effect, o.Effect):
                self.operations.carry_out(record, effect)

    def tell(self, message: m.Message) -> None:
        self.submit(self.record, message)

    def hear(self, tiding: tidings.Tiding) -> None:
        self.operations.on_tiding(tiding)

    @property
    def happened(self) -> list[m.Event]:
        return [event for _, event in self.events]

    def check_nothing_left(self) -> None:
        held = vars(self.operations)
        left = {name: held[name] for name in ("_records", "_tasks", "_clips", "_timers") if held[name]}
        assert left == {}
        assert self.studio.kept == []


def talking() -> CallData:
    call = Call(CallData("call", "server", "correlation", CALLER))
    stream = MediaStream("s-a", None, StreamState.DISABLED)
    connection = Connection("a", APP, "https://app.example", "2025-06-15", stream)
    for message in (m.PlaceCall("caller", "i", APP), m.LegReady("caller"), m.Answer("i", connection)):
        call.handle(message, 0)
    call.handle(m.LegConnected("caller"), 0)
    return call.data


def on_stage(script: Callable[[Stage], Awaitable[None]], check: bool = True) -> Stage:
    async def main() -> Stage:
        stage = Stage()
        await script(stage)
        await asyncio.sleep(0)
        if check:
            stage.check_nothing_left()
        return stage

    return run(main())


def text(words: str) -> Source:
    return Source("text", text=words)


# ------------------------------------------------------------------------------------------------ play


def test_a_play_is_prepared_played_and_let_go() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Play("a", "p", (text("one"), text("two")), to=(CALLER,)))
        assert stage.worker.orders == []
        await asyncio.sleep(2.1)
        assert stage.worker.orders == [link.StartPlay("p", "call", APP, ("one", "two"), (CALLER,), False)]
        assert len(stage.studio.kept) == 2
        stage.hear(tidings.PlayBegan("p"))
        stage.hear(tidings.PlayEnded("p"))

    assert on_stage(script).happened == [o.PlayStarted(None), o.PlayCompleted(None)]


def test_what_comes_before_a_bad_source_is_played() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Play("a", "p", (text("one"), text("!download"), text("three"))))
        await asyncio.sleep(3)
        assert stage.worker.orders == [link.StartPlay("p", "call", APP, ("one",))]
        stage.hear(tidings.PlayEnded("p"))

    failure = Failure(Problem.DOWNLOAD, "download!", 1)
    assert on_stage(script).happened == [o.PlayFailed(failure, None)]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [("format", Problem.FORMAT), ("unsupported", Problem.UNSUPPORTED), ("failed", Problem.SPEECH_SERVICE)],
)
def test_why_a_source_is_bad(kind: str, problem: Problem) -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Play("a", "p", (text(f"!{kind}"),)))
        await asyncio.sleep(2)

    assert on_stage(script).happened == [o.PlayFailed(Failure(problem, f"{kind}!", 0), None)]


def test_what_was_not_foreseen_ends_the_operation_too(caplog: pytest.LogCaptureFixture) -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Play("a", "p", (text("?"),)))
        await asyncio.sleep(2)

    (event,) = on_stage(script).happened
    assert isinstance(event, o.PlayFailed)
    assert event.failure.problem is Problem.SPEECH_SERVICE
    assert "unforeseen" in caplog.text


def test_a_clip_that_the_worker_cannot_play() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Play("a", "p", (text("one"),)))
        await asyncio.sleep(2)
        stage.hear(tidings.PlayEnded("p", 0, "no such file"))

    assert on_stage(script).happened == [o.PlayFailed(Failure(Problem.FORMAT, "no such file", 0), None)]


def test_one_that_is_canceled_is_prepared_no_further() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Play("a", "p", (text("one"), text("two"))))
        await asyncio.sleep(1.5)
        assert stage.studio.kept
        stage.tell(o.CancelMedia("a"))
        await asyncio.sleep(5)
        assert stage.worker.orders == []

    assert on_stage(script).happened == [o.PlayCanceled(None)]


def test_hold_music() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Hold("a", "h", CALLER))
        await asyncio.sleep(2)
        assert stage.worker.orders == [
            link.RouteParty("call", CALLER, on_hold=True),
            link.StartPlay("h", "call", APP, ("music",), (CALLER,), True),
        ]
        stage.tell(o.Unhold("a", CALLER))
        assert stage.worker.orders[2:] == [link.StopPlay("h"), link.RouteParty("call", CALLER)]

    on_stage(script)


# ------------------------------------------------------------------------------------------------ recognize


KEYS = RecognizeOptions(keys=True, inter_tone_s=2.0, initial_silence_s=5.0)


def test_the_initial_silence() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Recognize("a", "r", CALLER, KEYS))
        await asyncio.sleep(10)

    ((at, event),) = on_stage(script).events
    assert at == pytest.approx(5)
    assert event == o.RecognizeFailed(Failure(Problem.INITIAL_SILENCE), None)


def test_the_silence_between_keys_counts_from_the_last_one() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Recognize("a", "r", CALLER, KEYS))
        for _ in range(3):
            await asyncio.sleep(1.5)
            stage.tell(o.TonesPressed("caller", "1"))
        await asyncio.sleep(10)

    ((at, event),) = on_stage(script).events
    assert at == pytest.approx(6.5)
    assert event == o.RecognizeCompleted(Outcome.INTER_TONE_TIMEOUT, "111", None)


CHOICES = RecognizeOptions(
    speech=True, end_silence_ms=700, locale="en-GB", choices=(Choice("Yes", ("yes",)), Choice("No", ("no", "never")))
)


def test_speech_is_recognised_among_the_phrases() -> None:
    async def script(stage: Stage) -> None:
        stage.studio.hears = "never"
        stage.tell(o.Recognize("a", "r", CALLER, CHOICES))
        assert stage.worker.orders == [link.Listen("r", "call", CALLER, 700)]
        stage.hear(tidings.SpeechBegan("r"))
        await asyncio.sleep(8)
        stage.hear(tidings.SpeechEnded("r", b"pcm"))
        await asyncio.sleep(2)
        assert stage.studio.asked == [(b"pcm", "en-GB", ("yes", "no", "never"))]

    chosen = o.Chosen("No", o.Words("never", 0.5))
    assert on_stage(script).happened == [o.RecognizeCompleted(Outcome.CHOICE_BY_SPEECH, chosen, None)]


def test_what_a_script_says_is_not_recognised() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Recognize("a", "r", CALLER, CHOICES))
        stage.hear(tidings.SpeechBegan("r"))
        stage.hear(tidings.SpeechEnded("r", b"pcm", "yes"))
        assert stage.studio.asked == []

    chosen = o.Chosen("Yes", o.Words("yes", 1.0))
    assert on_stage(script).happened == [o.RecognizeCompleted(Outcome.CHOICE_BY_SPEECH, chosen, None)]


def test_an_engine_that_fails() -> None:
    async def script(stage: Stage) -> None:
        stage.studio.hears = "!unsupported"
        stage.tell(o.Recognize("a", "r", CALLER, CHOICES))
        stage.hear(tidings.SpeechBegan("r"))
        stage.hear(tidings.SpeechEnded("r", b"pcm"))
        await asyncio.sleep(2)

    failed = o.RecognizeFailed(Failure(Problem.UNSUPPORTED, "unsupported!"), None)
    assert on_stage(script).happened == [failed]


def test_canceled_while_it_is_recognised() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.Recognize("a", "r", CALLER, CHOICES))
        stage.hear(tidings.SpeechBegan("r"))
        stage.hear(tidings.SpeechEnded("r", b"pcm"))
        await asyncio.sleep(0.5)
        stage.tell(o.CancelMedia("a"))
        await asyncio.sleep(2)

    assert on_stage(script).happened == [o.RecognizeCanceled(None)]


# ------------------------------------------------------------------------------------------------ tones


def test_tones_are_sent_and_reported() -> None:
    async def script(stage: Stage) -> None:
        stage.tell(o.SendTones("a", "s", CALLER, "12#"))
        assert stage.worker.orders == [link.SendDigits("caller", "12#", "s")]
        stage.hear(tidings.DigitsSent("caller", "s"))

    assert on_stage(script).happened == [o.SendTonesCompleted(None)]


def test_a_tiding_of_something_else_is_ignored() -> None:
    async def script(stage: Stage) -> None:
        stage.hear(tidings.LegJoined("caller"))
        stage.hear(tidings.PlayEnded("gone"))

    assert on_stage(script).happened == []


# ------------------------------------------------------------------------------------------------ a new control


def killed_at(seconds: float, first: Callable[[Stage], Awaitable[None]], then: Callable[[Stage], None]) -> Stage:
    """Have `first` happen in one control process, which is killed after `seconds`, and `then` in the next one."""

    async def main() -> Stage:
        stage = Stage()
        await first(stage)
        await asyncio.sleep(seconds)
        copy = msgspec.msgpack.decode(msgspec.msgpack.encode(stage.record.data), type=CallData)
        await stage.operations.close()
        after = Stage(copy)
        after.operations.adopt(after.record)
        await asyncio.sleep(20)
        then(after)
        after.check_nothing_left()
        return after

    return run(main())


def test_what_was_being_prepared_is_prepared_anew() -> None:
    async def first(stage: Stage) -> None:
        stage.tell(o.Play("a", "p", (text("one"),)))

    def then(stage: Stage) -> None:
        assert stage.worker.orders == [link.StartPlay("p", "call", APP, ("one",))]
        stage.hear(tidings.PlayEnded("p"))

    assert killed_at(0.5, first, then).happened == [o.PlayCompleted(None)]


def test_what_was_played_is_played_on() -> None:
    async def first(stage: Stage) -> None:
        stage.tell(o.Play("a", "p", (text("one"),)))

    def then(stage: Stage) -> None:
        assert stage.worker.orders == []
        stage.hear(tidings.PlayEnded("p"))

    assert killed_at(1.5, first, then).happened == [o.PlayCompleted(None)]


def test_timers_run_on() -> None:
    async def first(stage: Stage) -> None:
        stage.tell(o.Recognize("a", "r", CALLER, KEYS))

    ((at, event),) = killed_at(3, first, lambda stage: None).events
    assert at == pytest.approx(5)
    assert event == o.RecognizeFailed(Failure(Problem.INITIAL_SILENCE), None)


def test_a_time_that_ran_out_meanwhile_has_run_out() -> None:
    async def main() -> None:
        stage = Stage()
        stage.tell(o.Recognize("a", "r", CALLER, KEYS))
        data = stage.record.data
        await stage.operations.close()
        await asyncio.sleep(60)
        after = Stage(data)
        after.operations.adopt(after.record)
        await asyncio.sleep(0.01)
        assert after.happened == [o.RecognizeFailed(Failure(Problem.INITIAL_SILENCE), None)]

    run(main())


def test_speech_that_was_being_recognised_is_given_up() -> None:
    async def first(stage: Stage) -> None:
        stage.tell(o.Recognize("a", "r", CALLER, CHOICES))
        stage.hear(tidings.SpeechBegan("r"))
        stage.hear(tidings.SpeechEnded("r", b"pcm"))

    failed = o.RecognizeFailed(Failure(Problem.SPEECH_SERVICE, INTERRUPTED), None)
    assert killed_at(0.5, first, lambda stage: None).happened == [failed]


def test_speech_that_came_without_its_audio_is_not_recognised() -> None:
    async def main() -> None:
        stage = Stage()
        stage.tell(o.Recognize("a", "r", CALLER, CHOICES))
        stage.hear(tidings.SpeechBegan("r"))
        stage.hear(tidings.SpeechEnded("r", b""))
        await asyncio.sleep(2)
        (event,) = stage.happened
        assert isinstance(event, o.RecognizeFailed)
        assert event.failure.problem is Problem.SPEECH_SERVICE
        await stage.operations.close()

    run(main())


def test_a_prompt_that_was_too_long_to_be_kept_fails_when_it_is_its_turn() -> None:
    async def main() -> None:
        lost = Failure(Problem.SPEECH_SERVICE, INTERRUPTED, 0)
        stage = Stage()
        stage.tell(o.Play("a", "p", (text("one"),)))
        stage.tell(o.Play("a", "q", (text("two"),)))
        data = stage.record.data
        await stage.operations.close()
        for operation in data.operations.values():
            operation.sources, operation.failure = (), lost
        after = Stage(data)
        after.operations.adopt(after.record)
        await asyncio.sleep(0.01)
        assert after.happened == [o.PlayFailed(lost, None), o.PlayFailed(lost, None)]

    run(main())
