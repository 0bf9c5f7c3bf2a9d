"""Calls of the `caller` to apps in this process, on virtual time. Sound is made of tones: no speech is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from offhook.audio.pcm import Samples, tone
from offhook.bot import AudioData, BargeIn, DtmfData, MediaStream, SpeechEnded, SpeechStarted, apps
from offhook.testing.call import AppFailed, CallEnded, NotHeard
from offhook.testing.harness import TestCaller
from offhook.testing.inprocess import App

RATE = 16_000


@pytest.fixture
def caller() -> Iterator[TestCaller]:
    with TestCaller() as caller:
        caller.speak = lambda text, rate: tone(100 * len(text), rate, 0.5)  # a voice of a pitch for each length
        caller.recognize = written
        yield caller


def written(samples: Samples) -> str:
    """A recogniser of tones: one word for each, by its pitch."""
    spectrum = np.abs(np.fft.rfft(samples)) / len(samples)
    hertz = int(np.argmax(spectrum)) * RATE // len(samples)
    return f"Tuesday, {round(hertz, -2)}." if spectrum.max() > 100 else ""


async def clerk(stream: MediaStream) -> None:
    """Greets, can be interrupted, answers 0.6 s after the caller with a short tone, a pause and a long one."""
    barge_in = BargeIn()
    greeting = stream.speaker.say(tone(300, RATE, 3.0))
    async for message in stream:
        if isinstance(message, AudioData):
            match barge_in.feed(message):
                case SpeechStarted() if not greeting.done:
                    await stream.speaker.interrupt()
                case SpeechEnded():
                    answer = (tone(500, RATE, 0.3), np.zeros(RATE // 2, np.int16), tone(700, RATE, 1.0))
                    stream.speaker.say(np.concatenate(answer))


async def silent(stream: MediaStream) -> None:
    async for _ in stream:
        pass


def test_a_tone_comes_back_at_its_level_and_then_there_is_silence(caller: TestCaller) -> None:
    call = caller.call(apps.echo)
    said = call.say(tone(440, RATE, 1.0, -12))
    assert said.to_s - said.from_s == pytest.approx(1.0, abs=0.001)
    heard = call.hears_tone(440, level=-12, within=1)
    assert heard.from_s < said.to_s, "the echo came while the caller spoke, and is found all the same"
    assert call.hears_silence(for_=1, within=1).from_s == pytest.approx(said.to_s, abs=0.05)
    call.hang_up()
    assert call.over
    assert call.outcome == "hung up"
    named = [event.what for event in call.events if "Call" in event.what or "Streaming" in event.what]
    assert named == ["IncomingCall", "CallConnected", "StreamingStarted", "StreamingStopped", "CallDisconnected"]


def test_what_was_said_and_heard_lie_on_one_axis(caller: TestCaller) -> None:
    call = caller.call(apps.echo)
    call.wait(0.5)
    span = call.say(tone(440, RATE, 0.2))
    call.wait(1)
    assert len(call.said) == len(call.heard)
    begin = round(span.from_s * RATE)
    assert not call.said[: begin - 1].any()
    delay = int(np.flatnonzero(call.heard)[0] - np.flatnonzero(call.said)[0])
    assert 0 <= delay <= 0.04 * RATE  # an app in memory answers within the tick
    assert np.array_equal(call.heard[delay:], call.said[: len(call.heard) - delay]), "to the sample"


def test_a_minute_of_dialogue_has_its_latencies_with_fillers_told_apart(caller: TestCaller) -> None:
    call = caller.call(clerk)
    call.hears_tone(300, within=1)
    call.hears_silence(for_=3)
    for _ in range(10):
        call.say("hello")
        call.hears_tone(700, within=3)
        call.wait(4)
    assert call.now_s > 50
    first = call.turns[0]
    assert first.filler_latency_s == pytest.approx(0.6, abs=0.08)
    assert first.latency_s == pytest.approx(0.6 + 0.8, abs=0.08)
    assert len(call.latency) == 10
    assert all(latency == pytest.approx(1.4, abs=0.08) for latency in call.latency)


def test_a_caller_barges_in_and_the_app_stops(caller: TestCaller) -> None:
    call = caller.call(clerk)
    interruption = call.barge_in(tone(440, RATE, 0.5), after=0.5)
    assert interruption.from_s == pytest.approx(0.6, abs=0.2)
    assert interruption.stopped_after_s is not None
    assert 0.05 < interruption.stopped_after_s < 0.2
    call.hears_silence(for_=0.3, within=0.1)


def test_an_app_that_does_not_stop_is_found_out(caller: TestCaller) -> None:
    call = caller.call(apps.tone)
    assert call.barge_in(tone(600, RATE, 0.5)).stopped_after_s is None
    with pytest.raises(NotHeard, match=r"silence for 1 s within 2 s.*mostly 44\d Hz at"):
        call.hears_silence(for_=1, within=1)


def test_words_are_found_whatever_their_case(caller: TestCaller) -> None:
    call = caller.call(clerk)
    heard = call.hears("TUESDAY 300")
    assert heard.text == "Tuesday, 300."
    assert call.transcript() == "Tuesday, 300."
    with pytest.raises(NotHeard, match=r"words 'Wednesday' within 1 s.*wrote down 'Tuesday, 300\.'"):
        call.hears("Wednesday", within=1)
    assert len(call.excerpts) == 1
    with pytest.raises(ValueError, match="no words"):
        call.hears("…")


def test_digits_and_files_reach_the_app(caller: TestCaller, tmp_path: Path) -> None:
    pressed: list[str] = []
    loudest: list[int] = []

    async def listener(stream: MediaStream) -> None:
        async for message in stream:
            if isinstance(message, DtmfData):
                pressed.append(message.tone)
            elif isinstance(message, AudioData):
                loudest.append(int(np.abs(np.frombuffer(message.pcm, "<i2").astype(int)).max(initial=0)))

    soundfile.write(tmp_path / "said.wav", tone(440, 24_000, 0.5), 24_000)
    call = caller.call(listener)
    call.press("12#")
    call.play(tmp_path / "said.wav")
    call.wait(0.1)
    assert pressed == ["1", "2", "#"]
    assert max(loudest) == pytest.approx(8230, rel=0.02)
    with pytest.raises(ValueError, match="'x'"):
        call.press("x")


@pytest.mark.parametrize(("outcome", "cause"), [("busy", "busy"), ("decline", "declined"), ("no_answer", "no answer")])
def test_an_app_that_calls_out_is_turned_down(caller: TestCaller, outcome: str, cause: str) -> None:
    received: list[str] = []
    phone = caller.phone(App(silent, on_event=lambda event: received.append(event["type"].rpartition(".")[2])))
    call = getattr(phone, outcome)()
    assert not call.answered
    assert {event.details.get("cause") for event in call.events if event.what == "CreateCallFailed"} == {cause}
    with pytest.raises(CallEnded):
        call.hears_speech()
    caller.close()
    assert received[0] == "CreateCallFailed"


def test_an_app_that_calls_out_is_answered_and_hung_up_on(caller: TestCaller) -> None:
    call = caller.phone(clerk).answer()
    call.hears_tone(300)
    call.hang_up()
    assert call.over
    call.wait(1)
    with pytest.raises(CallEnded):
        call.say("more")


def test_an_app_that_hangs_up_is_heard_to(caller: TestCaller) -> None:
    async def farewell(stream: MediaStream) -> None:
        await stream.speaker.say(tone(440, RATE, 0.5))

    call = caller.call(App(farewell, hangs_up=True))
    call.hears_tone(440)
    call.ends(within=2)
    assert call.outcome == "the other side hung up"
    staying = caller.call(farewell)
    with pytest.raises(NotHeard, match="the call to end within 2 s"):
        staying.ends(within=2)


def test_an_unmixed_app_at_its_own_rate_that_takes_its_time(caller: TestCaller) -> None:
    seen: list[tuple[int, str | None]] = []

    async def listener(stream: MediaStream) -> None:
        async for message in stream:
            if isinstance(message, AudioData):
                seen.append((stream.metadata.sample_rate, message.participant_raw_id))

    call = caller.call(App(listener, rate=24_000, unmixed=True, answer_after=3.0))
    call.wait(0.1)
    assert set(seen) == {(24_000, "4:+15550100")}
    events = {event.what: event.at_s for event in call.events}
    assert events["IncomingCall"] == pytest.approx(-3, abs=0.05)


def test_an_error_of_the_app_is_the_tests(caller: TestCaller) -> None:
    async def broken(stream: MediaStream) -> None:
        raise KeyError("appointment")

    call = caller.call(broken)
    with pytest.raises(AppFailed, match="KeyError: 'appointment'") as failure:
        call.hears_speech()
    assert isinstance(failure.value.__cause__, KeyError)
    with pytest.raises(AppFailed):
        call.hang_up()


def test_an_error_of_the_event_handler_is_the_tests(caller: TestCaller) -> None:
    def broken(event: dict[str, Any]) -> None:
        raise KeyError(event["type"])

    call = caller.call(App(silent, on_event=broken))
    with pytest.raises(AppFailed, match="KeyError"):
        call.hang_up()


def test_time_stands_still_between_statements(caller: TestCaller) -> None:
    async def ticking(stream: MediaStream) -> None:
        while not stream.closed:
            times.append(asyncio.get_running_loop().time())
            await asyncio.sleep(1)

    times: list[float] = []
    call = caller.call(ticking)
    call.wait(3600 / 60)
    assert len(times) == 60
    assert call.now_s == 60


@pytest.mark.parametrize(("sound", "error"), [(b"odd", ValueError), (7, TypeError), ("missing.wav", OSError)])
def test_what_is_no_sound_cannot_be_said(caller: TestCaller, sound: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        caller.call(silent).say(sound)
