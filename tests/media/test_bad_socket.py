"""An app's socket in bad weather: lost and not read at the very frame, once, and noted."""

from __future__ import annotations

import asyncio
import socket
from datetime import datetime

import pytest

from offhook.media.link import CloseStream, OpenStream
from offhook.media.tidings import StreamOddity, StreamUp
from offhook.media.weather import Weather
from offhook.media.websocket import WebSocket
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia
from offhook.wire import streaming


async def opened(media: MemoryMedia, weather: Weather, *, unmixed: bool = False) -> MemoryApp:
    """An app with a stream under `weather`, in a call with one other party."""
    app = media.apps["app"] = MemoryApp()
    await media.party("caller")
    order = OpenStream("app", "call", "c", "c", "s", "app", "app", "token", 16_000, unmixed, True, True, weather)
    await media.order(order)
    return app


def noted(media: MemoryMedia) -> list[str]:
    return [tiding.detail for tiding in media.told(StreamOddity) if tiding.cause == "weather"]


@pytest.mark.parametrize(("drop_at", "others"), [(1, 0), (2, 0), (100, 0), (50, 2)])
def test_a_socket_is_lost_after_so_many_frames_and_the_next_one_is_not(drop_at: int, others: int) -> None:
    async def main() -> None:
        media = MemoryMedia()
        for number in range(others):  # With them there are several frames at once.
            await media.party(f"other {number}")
        app = await opened(media, Weather(drop_at=drop_at), unmixed=True)
        await asyncio.sleep(5)
        assert [code for _, code in app.closed] == [1006], "without a close frame"
        assert len(app.opened) == 2
        begins = [number for number, (_, text) in enumerate(app.messages) if b'"kind":"AudioMetadata"' in text]
        assert begins == [0, drop_at], "so many on the first one"
        assert [up.again for up in media.told(StreamUp)] == [False, True]
        assert noted(media) == [f"the socket is lost after {drop_at} frames"]

    run(main())


def test_a_stream_that_is_closed_is_not_lost_as_well() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await opened(media, Weather(drop_at=3, stall_at=3))
        while len(app.messages) < 3:
            await asyncio.sleep(0.001)
            if len(app.messages) == 2:
                media.apps["app"].on_message = lambda message: media.worker._close_stream(CloseStream("app"))
        await asyncio.sleep(1)
        assert [code for _, code in app.closed] == [1000]
        assert noted(media) == []

    run(main())


def test_an_app_stops_reading_after_so_many_frames_and_nothing_is_lost_within_a_second() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await opened(media, Weather(stall_at=50, stall_s=0.6))
        await asyncio.sleep(3)
        times = [at for at, _ in app.messages]
        assert times[50] - times[49] == pytest.approx(0.6, abs=0.02)
        assert noted(media) == ["the app reads nothing for 0.600 s after 50 frames"]
        stats = await media.stats("app")
        assert stats["dropped"] == 0

    run(main())


def test_a_socket_that_is_full_after_the_stall_is_not_taken_for_free() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await opened(media, Weather(stall_at=10, stall_s=0.2))
        await asyncio.sleep(0.3)
        app.stall()
        await asyncio.sleep(0.3)
        count = len(app.messages)
        assert count < 25, "the weather is over, but the socket is full"
        app.resume()
        await asyncio.sleep(0.1)
        assert len(app.messages) > count + 10

    async def full_meanwhile() -> None:
        media = MemoryMedia()
        app = await opened(media, Weather(stall_at=10, stall_s=0.3))
        await asyncio.sleep(0.25)
        app.resume()
        await asyncio.sleep(0.02)
        assert len(app.messages) == 10, "a socket that takes more is no app that reads"
        app.stall()
        await asyncio.sleep(0.5)
        assert len(app.messages) == 10
        app.resume()
        await asyncio.sleep(0.1)
        assert len(app.messages) > 30

    run(main())
    run(full_meanwhile())


@pytest.mark.parametrize("unmixed", [False, True])
def test_the_clock_is_wrong_on_every_socket_and_nothing_else_is_touched(unmixed: bool) -> None:
    async def main(skew_s: float) -> list[streaming.AudioData]:
        media = MemoryMedia(1_800_000_000.0)
        app = await opened(media, Weather(skew_s=skew_s, drop_at=20), unmixed=unmixed)
        await asyncio.sleep(1.5)
        media.worker.pressed("call", "caller", "5")
        assert streaming.parse_from_server(app.messages[0][1]) == streaming.parse_from_server(
            streaming.audio_metadata("s", 16_000)
        )
        assert isinstance(streaming.parse_from_server(app.messages[-1][1]), streaming.DtmfData)
        return app.audio

    right, wrong = run(main(0.0)), run(main(-3600.5004))
    assert len(right) == len(wrong) > 40
    for one, other in zip(right, wrong, strict=True):
        difference = datetime.fromisoformat(other.timestamp) - datetime.fromisoformat(one.timestamp)
        assert difference.total_seconds() == -3600.5
        assert (one.pcm, one.silent, one.participant_raw_id) == (other.pcm, other.silent, other.participant_raw_id)


class Listener:
    def __init__(self) -> None:
        self.closed: list[tuple[bool, str]] = []

    def on_message(self, message: memoryview) -> None: ...
    def on_too_large(self, size: int) -> None: ...
    def on_writable(self, writable: bool) -> None: ...
    def on_closed(self, clean: bool, detail: str) -> None:
        self.closed.append((clean, detail))


def test_an_aborted_socket_ends_without_a_close_frame_and_is_told_once() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    listener = Listener()
    opened = WebSocket(ours, listener, b"", 0.0)
    opened.abort("by the weather")
    opened.abort("again")
    opened.poll(0.02)
    opened.send(b"nothing")
    assert listener.closed == [(False, "by the weather")]
    with theirs:
        assert theirs.recv(100) == b""
