"""MediaStream without a socket: what it gives the handler, what it sends, and where it stops."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.bot import MediaStream, Message, StreamClosed
from offhook.bot.stream import INBOX_FRAMES, PIECE, REFUSE_ABOVE
from offhook.wire.streaming import AudioData, AudioMetadata, DtmfData

METADATA = AudioMetadata(subscription_id="s", encoding="PCM", sample_rate=16_000, channels=1, length=640)


class FakeTransport:
    """Keeps what is sent; `waiting` is what the test says the network has not taken."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.waiting = 0
        self.close_code: int | None = None
        self.gone = asyncio.Event()

    def unsent(self) -> int:
        return self.waiting

    def send(self, message: bytes) -> None:
        self.sent.append(json.loads(message))

    def close(self, code: int, reason: str) -> None:
        self.close_code = code
        self.gone.set()

    async def wait_closed(self) -> None:
        await self.gone.wait()

    @property
    def pcm(self) -> bytes:
        return b"".join(b64decode(message["AudioData"]["Data"]) for message in self.sent)


def frame(number: int, who: str | None = None) -> AudioData:
    return AudioData(timestamp="", participant_raw_id=who, pcm=number.to_bytes(2, "little"), silent=False)


def digit(tone: str) -> DtmfData:
    return DtmfData(tone)


def numbers(messages: list[Message]) -> list[int]:
    return [int.from_bytes(message.pcm, "little") for message in messages if isinstance(message, AudioData)]


def with_stream(test: Callable[[MediaStream, FakeTransport], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        transport = FakeTransport()
        headers = {"x-ms-call-connection-id": "c-1", "x-ms-call-correlation-id": "r-1"}
        await test(MediaStream(transport, METADATA, headers, "/audio?key=1"), transport)

    asyncio.run(run())


def test_messages_come_in_order_and_the_iteration_ends_with_the_socket() -> None:
    async def test(stream: MediaStream, _: FakeTransport) -> None:
        sent: list[Message] = [METADATA, frame(1), digit("5"), frame(2)]
        for message in sent:
            stream.feed(message)
        stream.end()
        assert [message async for message in stream] == sent

    with_stream(test)


def test_a_reader_that_waits_is_woken_by_a_message_and_by_the_end() -> None:
    async def test(stream: MediaStream, _: FakeTransport) -> None:
        heard: list[Message] = []

        async def read() -> None:
            heard.extend([message async for message in stream])

        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        stream.feed(frame(7))
        await asyncio.sleep(0)
        stream.end()
        await reader
        assert numbers(heard) == [7]

    with_stream(test)


def test_the_upgrade_and_the_newest_metadata_are_at_hand() -> None:
    async def test(stream: MediaStream, _: FakeTransport) -> None:
        assert (stream.call_connection_id, stream.correlation_id, stream.path) == ("c-1", "r-1", "/audio?key=1")
        newer = AudioMetadata(subscription_id="t", encoding="PCM", sample_rate=24_000, channels=1, length=960)
        stream.feed(newer)
        assert stream.metadata == newer

    with_stream(test)


def test_ten_seconds_are_kept_for_a_slow_reader_then_the_oldest_audio_goes_but_no_digit() -> None:
    async def test(stream: MediaStream, _: FakeTransport) -> None:
        stream.feed(digit("9"))
        for number in range(INBOX_FRAMES + 10):
            stream.feed(frame(number))
        stream.end()
        messages = [message async for message in stream]
        assert len(messages) == INBOX_FRAMES
        assert messages[0] == digit("9")
        assert numbers(messages) == list(range(11, INBOX_FRAMES + 10))
        assert stream.dropped == 11

    with_stream(test)


def test_an_unmixed_stream_keeps_ten_seconds_of_each_of_at_most_four_participants() -> None:
    async def test(stream: MediaStream, _: FakeTransport) -> None:
        for number in range(INBOX_FRAMES * 5):
            stream.feed(frame(0, who=f"8:acs:{number % 5}"))
        assert stream.dropped == INBOX_FRAMES

    with_stream(test)


def test_digits_alone_are_bounded_too() -> None:
    async def test(stream: MediaStream, _: FakeTransport) -> None:
        for _i in range(INBOX_FRAMES + 3):
            stream.feed(digit("1"))
        assert stream.dropped == 3

    with_stream(test)


def test_deliver_gives_what_waits_and_then_each_message_at_once() -> None:
    async def test(stream: MediaStream, _: FakeTransport) -> None:
        heard: list[Message] = []
        stream.feed(frame(1))
        delivering = asyncio.create_task(stream.deliver(heard.append))
        await asyncio.sleep(0)
        stream.feed(frame(2))
        assert numbers(heard) == [1, 2]  # with no turn of the loop between
        stream.end()
        await delivering

    with_stream(test)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_every_sample_is_sent_once_in_order_however_the_bytes_are_cut(chunks: list[bytes]) -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        for chunk in chunks:
            assert stream.send_audio_nowait(chunk)
        whole = b"".join(chunks)
        assert transport.pcm == whole[: len(whole) & ~1]

    with_stream(test)


def test_long_audio_goes_in_pieces_and_arrays_as_little_endian() -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        samples = np.arange(PIECE, dtype=np.int16)
        assert await stream.send_audio(samples)
        assert len(transport.sent) == 2
        assert transport.pcm == samples.astype("<i2").tobytes()

    with_stream(test)


def test_send_audio_waits_for_a_slow_network() -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        stream.pause()
        sending = asyncio.create_task(stream.send_audio(b"ab"))
        await asyncio.sleep(0)
        assert not transport.sent
        stream.resume()
        assert await sending
        assert transport.pcm == b"ab"

    with_stream(test)


def test_send_audio_nowait_refuses_only_when_far_too_much_waits() -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        stream.pause()
        transport.waiting = REFUSE_ABOVE
        assert stream.send_audio_nowait(b"ab")
        transport.waiting += 1
        assert not stream.send_audio_nowait(b"cd")
        assert (transport.pcm, stream.refused) == (b"ab", 1)

    with_stream(test)


def test_stop_audio_ends_sends_that_wait_and_nothing_of_them_follows_it() -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        stream.pause()
        first = asyncio.create_task(stream.send_audio(b"ab"))
        second = asyncio.create_task(stream.send_audio(b"cd"))
        await asyncio.sleep(0)
        stream.stop_audio()
        stream.resume()
        assert (await first, await second) == (False, False)
        assert [message["Kind"] for message in transport.sent] == ["StopAudio"]
        assert await stream.send_audio(b"ef")
        assert transport.sent[1]["Kind"] == "AudioData"

    with_stream(test)


def test_stop_audio_forgets_half_a_sample() -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        stream.send_audio_nowait(b"abc")
        stream.stop_audio()
        transport.sent.clear()
        stream.send_audio_nowait(b"xy")
        assert transport.pcm == b"xy"

    with_stream(test)


def test_a_closed_stream_takes_nothing_more() -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        stream.pause()
        waiting = asyncio.create_task(stream.send_audio(b"ab"))
        await asyncio.sleep(0)
        stream.end()
        with pytest.raises(StreamClosed):
            await waiting
        with pytest.raises(StreamClosed):
            await stream.send_audio(b"ab")
        assert not stream.send_audio_nowait(b"ab")
        stream.stop_audio()
        assert not transport.sent

    with_stream(test)


def test_close_tells_the_transport_once_and_waits_for_it() -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        await stream.close(1001)
        assert (transport.close_code, stream.closed) == (1001, True)
        transport.close_code = None
        await stream.close()
        assert transport.close_code is None

    with_stream(test)


def test_a_receiver_that_fails_closes_the_stream_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test(stream: MediaStream, transport: FakeTransport) -> None:
        def fails(message: Message) -> None:
            raise RuntimeError("a fault in the app")

        delivering = asyncio.create_task(stream.deliver(fails))
        await asyncio.sleep(0)
        stream.feed(frame(1))
        await delivering
        assert transport.close_code == 1011

    with_stream(test)
    assert "a fault in the app" in caplog.text


def test_a_transcription_socket_carries_no_audio() -> None:
    async def run() -> None:
        metadata = AudioMetadata(subscription_id="s", encoding="", sample_rate=0, channels=1, length=0)
        stream = MediaStream(FakeTransport(), metadata)
        with pytest.raises(ValueError, match="transcription socket"):
            stream.send_audio_nowait(b"ab")
        with pytest.raises(ValueError, match="transcription socket"):
            stream.speaker.say(b"ab")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/", False),
        ("/a?offhook-heard=1", True),
        ("/a?key=x&offhook-heard=1", True),
        ("/a?offhook-heard=0", False),
        ("/offhook-heard=1", False),
        ("/a?x=offhook-heard=1", False),
    ],
)
def test_whether_the_app_asks_for_what_was_heard(path: str, asked: bool) -> None:
    async def run() -> bool:
        return MediaStream(FakeTransport(), METADATA, None, path).heard_asked

    assert asyncio.run(run()) is asked


def test_one_task_reads() -> None:
    async def test(stream: MediaStream, _: FakeTransport) -> None:
        reader = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(stream)
        reader.cancel()
        await asyncio.wait([reader])
        stream.feed(frame(3))
        assert numbers([await anext(stream)]) == [3]  # a reader that was cancelled is no reader

    with_stream(test)
