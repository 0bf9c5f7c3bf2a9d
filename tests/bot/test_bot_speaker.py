"""The speaker on virtual time, against a service that plays what it gets and can say what was heard."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from offhook.audio.pcm import tone, tone_level
from offhook.bot import MediaStream, StreamClosed
from offhook.bot.memory import MemorySocket
from offhook.bot.speaker import ANSWER_S, LEAD_S, QUEUE
from offhook.testing import clock
from offhook.wire import streaming

RATE = 16_000
FRAME = 640
SECOND = tone(440, RATE, 1.0).astype("<i2").tobytes()


class Service:
    """Plays what the app sends, 20 ms a tick, `late_s` after it was sent; answers stops and marks when `tells`."""

    def __init__(self, stream_to: MemorySocket, tells: bool, late_s: float) -> None:
        self.socket = stream_to
        self.tells = tells
        self.late_s = late_s
        self.arrived: list[tuple[float, int]] = []  # when, bytes
        self.to_service: deque[bytes] = deque()  # on their way; timers of the same time fire in no certain order
        self.to_app: deque[bytes] = deque()
        self.queue = bytearray()
        self.heard = bytearray()
        self.flushed = 0
        self.marks: list[tuple[int, str]] = []

    def on_message(self, raw: bytes) -> None:
        loop = asyncio.get_running_loop()
        match streaming.parse(raw):
            case streaming.Audio(pcm):
                self.arrived.append((loop.time(), len(pcm)))
        self.to_service.append(raw)
        loop.call_later(self.late_s, self.take)

    def take(self) -> None:
        match streaming.parse(self.to_service.popleft()):
            case streaming.Audio(pcm):
                self.queue += pcm
            case streaming.StopAudio():
                flushed, self.queue = len(self.queue), bytearray()
                self.flushed += flushed
                for _, mark in self.marks:
                    self.tell(streaming.mark_data(mark, "Cancelled"))
                self.marks = []
                self.tell(streaming.heard_data(ms(len(self.heard)), ms(flushed)))
            case streaming.Mark(mark):
                self.marks.append((len(self.heard) + self.flushed + len(self.queue), mark))
                self.return_marks()

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time()
        while True:
            self.heard += self.queue[:FRAME]
            del self.queue[:FRAME]
            self.return_marks()
            deadline += 0.02
            await asyncio.sleep(deadline - loop.time())

    def return_marks(self) -> None:
        while self.marks and self.marks[0][0] <= len(self.heard) + self.flushed:
            self.tell(streaming.mark_data(self.marks.pop(0)[1], "Completed"))

    def tell(self, raw: bytes) -> None:
        if self.tells:
            self.to_app.append(raw)
            asyncio.get_running_loop().call_later(self.late_s, lambda: self.socket.receive(self.to_app.popleft()))


def ms(size: int) -> float:
    return 1000 * size / 2 / RATE


def talk(
    test: Callable[[MediaStream, Service], Awaitable[None]],
    *,
    asks: bool = False,
    tells: bool | None = None,
    late_s: float = 0.0,
) -> Service:
    async def main() -> Service:
        opened: asyncio.Future[MediaStream] = asyncio.get_running_loop().create_future()

        async def handler(stream: MediaStream) -> None:
            opened.set_result(stream)
            await stream.deliver(lambda _: None)

        def on_message(raw: bytes) -> None:
            service.on_message(raw)

        path = "/?offhook-heard=1" if asks else "/"
        async with MemorySocket(handler, rate=RATE, path=path, on_message=on_message) as socket:
            service = Service(socket, asks if tells is None else tells, late_s)
            playing = asyncio.create_task(service.play())
            await test(await opened, service)
            playing.cancel()
        return service

    return clock.run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


async def pieces(data: bytes, *sizes: int, then: BaseException | None = None) -> AsyncIterator[bytes]:
    """The data in pieces of these sizes, again and again."""
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1
    if then is not None:
        raise then


def test_a_clip_is_heard_to_its_end_and_sent_a_little_ahead() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        began = now()
        said = stream.speaker.say(SECOND)
        assert await said is True
        assert now() - began == pytest.approx(1.0)
        assert said.played_ms == stream.speaker.played_ms == pytest.approx(1000)
        assert stream.speaker.exact is False
        ahead = [sum(size for _, size in service.arrived[: n + 1]) / 2 / RATE - (at - began)
                 for n, (at, _) in enumerate(service.arrived)]  # fmt: skip
        assert max(ahead) <= LEAD_S + 0.02 + 1e-9
        assert min(ahead[10:]) >= LEAD_S - 1e-9
        assert {size for _, size in service.arrived} == {FRAME}
        await asyncio.sleep(0.1)
        assert service.heard == SECOND

    talk(test)


def test_the_pace_does_not_drift_and_catches_up_after_a_pause() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        for _ in range(3):
            began = now()
            for _ in range(5):
                stream.speaker.say(SECOND)
            await stream.speaker.drained()
            assert now() - began == pytest.approx(5.0)
            await asyncio.sleep(0.77)

    service = talk(test)
    assert len(service.heard) == 15 * len(SECOND)


@pytest.mark.parametrize("asks", [False, True])
def test_several_things_are_said_in_order_without_a_gap(asks: bool) -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        words = [bytes([number]) * (FRAME * number + 10 * number) for number in range(1, 8)]
        said = [stream.speaker.say(word) for word in words]
        assert stream.speaker.speaking
        await stream.speaker.drained()
        assert not stream.speaker.speaking
        assert [await one for one in said] == [True] * 7
        await asyncio.sleep(0.1)
        assert service.heard == b"".join(words)

    talk(test, asks=asks)


def test_an_interruption_loses_no_more_than_the_lead() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        first, second = stream.speaker.say(SECOND), stream.speaker.say(SECOND)
        await asyncio.sleep(0.5)
        lost = await stream.speaker.interrupt()
        assert 180 <= lost <= 220
        assert (await first, await second) == (False, False)
        assert first.played_ms == pytest.approx(500)
        assert second.played_ms == 0
        sent = sum(size for _, size in service.arrived)
        await asyncio.sleep(1)
        assert sum(size for _, size in service.arrived) == sent
        assert ms(sent) - lost == pytest.approx(stream.speaker.played_ms, abs=1)
        # and it can go on
        assert await stream.speaker.say(SECOND)

    talk(test)


def test_heard_truth_is_exact_whatever_the_way_to_the_service() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        assert stream.speaker.exact
        first, second = stream.speaker.say(SECOND), stream.speaker.say(SECOND)
        await asyncio.sleep(1.5)
        lost = await stream.speaker.interrupt()
        assert lost == round(ms(service.flushed))
        heard = len(service.heard)
        assert stream.speaker.played_ms == pytest.approx(ms(heard))
        assert (await first, await second) == (True, False)
        assert second.played_ms == pytest.approx(ms(heard) - 1000)
        third = stream.speaker.say(SECOND)
        await asyncio.sleep(0.43)
        await stream.speaker.interrupt()
        assert third.played_ms == pytest.approx(ms(len(service.heard) - heard))
        assert stream.speaker.exact

    talk(test, asks=True, late_s=0.057)


def test_between_reports_the_clock_is_the_services() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        said = stream.speaker.say(SECOND * 2)
        for _ in range(8):
            await asyncio.sleep(0.2)
            # What the service has told is itself 57 ms old when it comes.
            assert abs(said.played_ms - ms(len(service.heard))) <= 57 + 20
        assert await said
        assert ms(len(service.heard)) == pytest.approx(2000)

    talk(test, asks=True, late_s=0.057)


def test_a_service_that_does_not_tell_is_estimated_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        assert stream.speaker.exact
        said = stream.speaker.say(SECOND)
        await asyncio.sleep(0.5)
        began = now()
        assert 180 <= await stream.speaker.interrupt() <= 220
        assert now() - began == pytest.approx(ANSWER_S)
        assert not stream.speaker.exact
        assert said.played_ms == pytest.approx(500)
        began = now()
        assert await stream.speaker.say(SECOND)
        assert await stream.speaker.interrupt() == 0
        assert now() - began == pytest.approx(1.0)  # it is not waited for again

    with caplog.at_level(logging.WARNING):
        talk(test, asks=True, tells=False)
    assert caplog.text.count("does not say what was heard") == 1


def test_marks_that_never_come_do_not_hold_an_utterance() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        began = now()
        assert await stream.speaker.say(SECOND)
        assert now() - began == pytest.approx(1.0 + ANSWER_S)
        assert not stream.speaker.exact

    talk(test, asks=True, tells=False)


def test_without_the_query_the_wire_has_audio_and_stops_only() -> None:
    kinds: set[str] = set()

    async def test(stream: MediaStream, service: Service) -> None:
        service.on_message = lambda raw: kinds.add(type(streaming.parse(raw)).__name__)  # type: ignore[method-assign]
        stream.speaker.say(SECOND)
        await asyncio.sleep(0.3)
        await stream.speaker.interrupt()
        await stream.speaker.say(SECOND)

    talk(test)
    assert kinds == {"Audio", "StopAudio"}


def test_a_stream_of_odd_pieces_is_said_whole() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        assert await stream.speaker.say(pieces(SECOND, 1, 333, 7, 2001))
        await asyncio.sleep(0.1)
        assert service.heard == SECOND

    talk(test)


def test_a_slow_source_leaves_gaps_but_loses_nothing_and_keeps_the_count() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for at in range(0, len(SECOND), 3200):
            await asyncio.sleep(0.3)
            yield SECOND[at : at + 3200]

    async def test(stream: MediaStream, service: Service) -> None:
        assert await stream.speaker.say(slowly())
        assert stream.speaker.played_ms == pytest.approx(1000)
        await asyncio.sleep(0.1)
        assert service.heard == SECOND

    talk(test)


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("streamed", [False, True])
def test_another_rate_is_converted(rate: int, streamed: bool) -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        pcm = tone(1000, rate, 0.995, dbfs=-12).astype("<i2").tobytes()
        assert await stream.speaker.say(pieces(pcm, 777) if streamed else pcm, rate=rate)
        await asyncio.sleep(0.1)
        heard = np.frombuffer(bytes(service.heard), "<i2")
        assert len(heard) == round(0.995 * RATE)
        assert tone_level(heard, 1000, RATE) == pytest.approx(-12, abs=0.2)
        # No shift in time: it is the same sine as one made at this rate.
        wanted = tone(1000, RATE, 0.995, dbfs=-12).astype(float)
        inner = slice(400, -400)
        assert np.abs(heard.astype(float) - wanted)[inner].max() < 0.15 * np.abs(wanted).max()

    talk(test)


def test_the_source_is_read_no_further_than_is_said_and_closed_on_an_interruption() -> None:
    read = 0
    closed = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read, closed
        try:
            while True:
                read += 1
                yield bytes(FRAME)
        finally:
            closed = True

    async def test(stream: MediaStream, service: Service) -> None:
        said = stream.speaker.say(endless())
        await asyncio.sleep(1.0)
        assert 50 <= read <= 62
        await stream.speaker.interrupt()
        assert await said is False
        await asyncio.sleep(0)
        assert closed

    talk(test)


def test_a_source_that_swallows_its_cancellation_is_not_heard_again() -> None:
    async def stubborn() -> AsyncIterator[bytes]:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)
            yield b"\x7f\x7f" * 320

    async def test(stream: MediaStream, service: Service) -> None:
        stream.speaker.say(stubborn())
        await asyncio.sleep(0.51)
        await stream.speaker.interrupt()
        sent = len(service.arrived)
        said = stream.speaker.say(SECOND)
        await asyncio.sleep(0.1)
        service.heard.clear()
        assert len(service.arrived) > sent
        assert await said
        assert b"\x7f\x7f\x7f\x7f" not in service.heard

    talk(test)


def test_a_source_that_fails_is_told_to_who_awaits_it_and_the_next_is_said() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        bad = stream.speaker.say(pieces(SECOND[:FRAME], FRAME, then=RuntimeError("no more voice")))
        good = stream.speaker.say(SECOND)
        with pytest.raises(RuntimeError, match="no more voice"):
            await bad
        assert await good

    talk(test)


def test_a_waiter_that_is_cancelled_cancels_nothing() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        said = stream.speaker.say(SECOND)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await said
        assert not said.done
        assert await said is True

    talk(test)


def test_an_interrupt_that_is_cancelled_has_still_interrupted() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        said = stream.speaker.say(SECOND)
        await asyncio.sleep(0.5)
        interrupting = asyncio.create_task(stream.speaker.interrupt())
        await asyncio.sleep(0)
        interrupting.cancel()
        assert await said is False
        await asyncio.sleep(1)
        # The answer came later, and was still taken in.
        assert stream.speaker.played_ms == pytest.approx(ms(len(service.heard)))

    talk(test, asks=True, late_s=0.1)


def test_the_queue_is_bounded() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        for _ in range(QUEUE):
            stream.speaker.say(SECOND)
        with pytest.raises(asyncio.QueueFull):
            stream.speaker.say(SECOND)
        await stream.speaker.interrupt()
        assert await stream.speaker.say(SECOND[:FRAME])

    talk(test)


@pytest.mark.parametrize("asks", [False, True])
def test_the_end_of_the_stream_ends_everything(asks: bool) -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        first, second = stream.speaker.say(SECOND), stream.speaker.say(SECOND)
        await asyncio.sleep(0.5)
        interrupting = asyncio.create_task(stream.speaker.interrupt()) if asks else None
        await asyncio.sleep(0)
        stream.end()
        assert (await first, await second) == (False, False)
        await stream.speaker.drained()
        if interrupting is not None:
            assert await interrupting > 0
        assert first.played_ms == pytest.approx(450, abs=70)  # in the service, or on the way there
        with pytest.raises(StreamClosed):
            stream.speaker.say(SECOND)

    talk(test, asks=asks, late_s=0.05)


def test_raw_audio_counts_too_and_an_empty_clip_is_heard_at_once() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        assert await stream.speaker.say(b"") is True
        await stream.send_audio(SECOND * 5)
        await asyncio.sleep(2)
        assert await stream.speaker.interrupt() == 3000
        assert stream.speaker.played_ms == pytest.approx(2000)

    talk(test)


def test_a_wav_file_by_path_or_bytes_says_its_own_rate(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "hello.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setparams((2, 2, 24_000, 0, "NONE", "not compressed"))
        mono = tone(1000, 24_000, 0.5)
        wav.writeframes(np.repeat(mono, 2).astype("<i2").tobytes())

    async def test(stream: MediaStream, service: Service) -> None:
        for source in (path, str(path), path.read_bytes()):
            assert await stream.speaker.say(source)
        await asyncio.sleep(0.1)
        assert ms(len(service.heard)) == pytest.approx(1500)
        with pytest.raises(ValueError, match="WAV file has 24000 Hz"):
            stream.speaker.say(path, rate=16_000)

    talk(test)


def test_what_cannot_be_said_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "not.wav").write_bytes(b"hello")

    async def test(stream: MediaStream, service: Service) -> None:
        for rate in (0, 7_999, 11_025, 96_000):
            with pytest.raises(ValueError, match="rate"):
                stream.speaker.say(SECOND, rate=rate)
        with pytest.raises(TypeError, match="int: not PCM"):
            stream.speaker.say(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="format 'd'"):
            stream.speaker.say(np.zeros(3))  # type: ignore[arg-type]
        with pytest.raises(OSError, match=r"missing\.wav"):
            stream.speaker.say(tmp_path / "missing.wav")
        with pytest.raises(ValueError, match="not a WAV file"):
            stream.speaker.say(tmp_path / "not.wav")
        with pytest.raises(ValueError, match="cannot be read"):
            stream.speaker.say(b"RIFF\x04\0\0\0WAVE")
        assert not stream.speaker.speaking

    talk(test)


def test_it_waits_for_a_slow_network_and_an_interruption_ends_that() -> None:
    async def test(stream: MediaStream, service: Service) -> None:
        service.socket.full(True)
        said = stream.speaker.say(SECOND)
        await asyncio.sleep(0.5)
        assert not service.arrived
        await stream.speaker.interrupt()
        assert await said is False
        service.socket.full(False)
        await asyncio.sleep(0.5)
        assert not service.arrived

    talk(test)
