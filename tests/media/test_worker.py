"""A media worker with a real socket to a real app: its counts add up, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref

import pytest

from offhook import bot
from offhook.media.dial import Dialer
from offhook.media.egress import AddressPolicy
from offhook.media.link import CloseStream, EndLeg, OpenStream
from offhook.media.memory_link import memory_pair
from offhook.media.plane import Row
from offhook.media.tidings import StreamEnded, StreamUp, Tiding
from offhook.media.worker import MediaWorker
from offhook.testing.clock import run
from offhook.testing.memory import MemoryMedia

FRAMES = 50  # a second


class Caller:
    """Says numbered frames, keeps the numbers of those it hears back."""

    def __init__(self) -> None:
        self.said = 0
        self.heard: list[int] = []
        self.all_heard = asyncio.Event()

    def poll(self, now: float) -> bytes | None:
        if self.said == FRAMES:
            return None
        self.said += 1
        return self.said.to_bytes(2, "little") * 320

    def send(self, data: bytes | memoryview) -> None:
        if number := int.from_bytes(data[:2], "little"):
            self.heard.append(number)
            if number == FRAMES:
                self.all_heard.set()


def order(stream: str, url: str) -> OpenStream:
    return OpenStream(stream, "call", "connection", "correlation", "s", "app", url, "t", 16_000, False, True, False)


@pytest.mark.sockets
def test_what_a_caller_says_comes_back_from_an_echo_app_frame_by_frame() -> None:
    async def echo(stream: bot.MediaStream) -> None:
        async for message in stream:
            stream.send_audio_nowait(getattr(message, "pcm", b""))

    async def main() -> None:
        control, end = memory_pair()
        dialer = Dialer(AddressPolicy(allow_private=True), ssl.create_default_context())
        worker = MediaWorker(end, dialer, 0.0)
        worker.start()
        tidings: asyncio.Queue[Tiding] = asyncio.Queue()
        control.on_receive(tidings.put_nowait)
        caller = Caller()
        async with await bot.serve(echo) as server:
            control.send(order("stream", server.url))
            assert await tidings.get() == StreamUp("stream")
            worker.plane.add(Row("call", "caller", 16_000, caller, caller))
            async with asyncio.timeout(20):
                await caller.all_heard.wait()
            assert caller.heard == list(range(1, FRAMES + 1))
            control.send(CloseStream("stream"))
            ended = await tidings.get()
            assert isinstance(ended, StreamEnded)
            assert ended.stats["sent"] + 1 >= ended.stats["received"] >= FRAMES  # it echoes the metadata, too
            assert ended.stats["dropped"] == ended.stats["faults"] == 0, ended.stats
            await worker.close()

    asyncio.run(main())


@pytest.mark.sockets
def test_a_worker_that_closes_waits_for_its_sockets() -> None:
    closed: list[bool] = []

    async def listen(stream: bot.MediaStream) -> None:
        async for _ in stream:
            pass
        closed.append(stream.closed)

    async def main() -> None:
        control, end = memory_pair()
        dialer = Dialer(AddressPolicy(allow_private=True), ssl.create_default_context())
        worker = MediaWorker(end, dialer, 0.0)
        worker.start()
        tidings: asyncio.Queue[Tiding] = asyncio.Queue()
        control.on_receive(tidings.put_nowait)
        async with await bot.serve(listen) as server:
            for number in range(3):
                control.send(order(f"stream {number}", server.url))
            assert {type(await tidings.get()) for _ in range(3)} == {StreamUp}
            control.send(CloseStream("stream 0"))
            await asyncio.sleep(0)
            await worker.close()
        assert closed == [True] * 3
        assert [type(tidings.get_nowait()) for _ in range(3)] == [StreamEnded] * 3
        assert tidings.empty()

    asyncio.run(main())


def test_nothing_of_a_call_that_is_over_waits_for_the_garbage_collector() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.party("stays", call="other")
        caller = await media.party("caller")
        await media.app("app")
        await asyncio.sleep(0.2)
        left: list[weakref.ref[object]] = [
            weakref.ref(media.worker._streams["app"]),
            weakref.ref(media.legs._legs["caller"]),
        ]
        await media.order(CloseStream("app"))
        await media.order(EndLeg("caller", "over"))
        media.apps.clear()
        caller._leg = None
        await asyncio.sleep(0.1)
        assert [thing() for thing in left] == [None, None]
        await media.worker.close()

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()
