"""The same handler under `websockets` and Starlette, over real sockets."""

import asyncio
import logging
import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed

from offhook.bot import AudioData, Handler, MediaStream, StreamClosed
from offhook.bot.adapters import from_starlette, from_websockets
from offhook.bot.stream import WAIT_ABOVE
from offhook.wire import streaming

pytestmark = pytest.mark.sockets

METADATA = streaming.audio_metadata("s", 16_000).decode()
PCM = bytes(range(256)) * 2
Test = Callable[[str], Awaitable[None]]


def audio(pcm: bytes) -> str:
    envelope = streaming.AudioEnvelope(None)
    data = b64encode(pcm)
    return b"".join((envelope.head, b"t", envelope.middle, data, streaming.TAIL[0])).decode()


async def under_websockets(handler: Handler, test: Test) -> None:
    async def connected(ws: ServerConnection) -> None:
        with suppress(StreamClosed):
            async with from_websockets(ws) as stream:
                await handler(stream)

    async with serve_websockets(connected, "127.0.0.1", 0) as server:
        await test(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")


async def under_starlette(handler: Handler, test: Test) -> None:
    async def connected(websocket: WebSocket) -> None:
        with suppress(StreamClosed):
            async with from_starlette(websocket) as stream:
                await handler(stream)

    app = Starlette(routes=[WebSocketRoute("/{path:path}", connected)])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", log_level="error", ws="websockets-sansio", timeout_graceful_shutdown=1)
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await test(f"ws://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            server.should_exit = True
            await serving


UNDER = pytest.mark.parametrize("under", [under_websockets, under_starlette], ids=["websockets", "starlette"])
Under = Callable[[Handler, Test], Awaitable[None]]


def run(under: Under, handler: Handler, test: Callable[[ClientConnection], Awaitable[None]]) -> None:
    async def dial(url: str) -> None:
        headers = {"X-Ms-Call-Connection-Id": "c-1"}
        async with connect(f"{url}/a?key=1", additional_headers=headers, compression=None) as ws:
            await test(ws)

    async def main() -> None:
        async with asyncio.timeout(60):
            await under(handler, dial)

    asyncio.run(main())


async def close_code(ws: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            await ws.recv()
    return ws.close_code


@UNDER
def test_a_handler_hears_speaks_and_knows_the_call(under: Under) -> None:
    seen: list[str | int] = []
    ended = asyncio.Event()

    async def echo(stream: MediaStream) -> None:
        seen.extend((stream.call_connection_id, stream.path, stream.metadata.sample_rate))
        async for message in stream:
            if isinstance(message, AudioData):
                await stream.send_audio(message.pcm)
        ended.set()

    async def test(ws: ClientConnection) -> None:
        await ws.send("nonsense")
        await ws.send(METADATA)
        await ws.send(audio(PCM))
        await ws.send(audio(PCM).encode())  # as binary
        for _ in range(2):
            text = await ws.recv()
            assert isinstance(text, str)
            assert text.encode() == streaming.audio_data_out(PCM)
        assert seen == ["c-1", "/a?key=1", 16_000]
        await ws.close()
        await ended.wait()

    run(under, echo, test)


@UNDER
@pytest.mark.parametrize(("fails", "code"), [(False, 1000), (True, 1011)])
def test_the_socket_is_closed_when_the_handler_ends(
    under: Under, fails: bool, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(stream: MediaStream) -> None:
        stream.send_audio_nowait(PCM)
        if fails:
            raise ValueError("a fault in the app")

    async def test(ws: ClientConnection) -> None:
        await ws.send(METADATA)
        assert streaming.parse(await ws.recv()) == streaming.Audio(PCM)  # what was sent goes before the close
        assert await close_code(ws) == code

    with caplog.at_level(logging.CRITICAL):
        run(under, handler, test)


@UNDER
def test_a_speaker_whose_call_has_ended_ends_quietly(under: Under, caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def handler(stream: MediaStream) -> None:
        try:
            while True:
                await stream.speaker.say(bytes(640))
        finally:
            ended.set()

    async def test(ws: ClientConnection) -> None:
        await ws.send(METADATA)
        await ws.recv()
        await ws.close()
        await ended.wait()

    run(under, handler, test)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@UNDER
def test_a_socket_that_tells_no_rate_never_becomes_a_stream(under: Under) -> None:
    async def handler(stream: MediaStream) -> None:
        raise AssertionError("there is no stream")

    async def test(ws: ClientConnection) -> None:
        await ws.send('{"kind":"DtmfData","dtmfData":{"data":"3"}}')
        await ws.close()

    run(under, handler, test)


@UNDER
def test_impossible_audio_is_refused(under: Under) -> None:
    async def handler(stream: MediaStream) -> None:
        raise AssertionError("there is no stream")

    async def test(ws: ClientConnection) -> None:
        await ws.send(METADATA.replace("16000", "1000000"))
        assert await close_code(ws) == 1003

    run(under, handler, test)


@UNDER
def test_a_slow_network_holds_send_audio_and_nothing_is_lost(under: Under) -> None:
    waited = asyncio.Event()
    read = asyncio.Event()
    sent = 0

    async def handler(stream: MediaStream) -> None:
        nonlocal sent
        while not waited.is_set():
            sending = asyncio.create_task(stream.send_audio(sent.to_bytes(2, "little") * 16_000))
            if not (await asyncio.wait([sending], timeout=0.3))[0]:
                assert stream._transport.unsent() > WAIT_ABOVE
                waited.set()
            await sending
            sent += 1
        await read.wait()

    async def test(ws: ClientConnection) -> None:
        await ws.send(METADATA)
        await waited.wait()
        number = 0
        while number < sent or number == 0:
            assert streaming.parse(await ws.recv()) == streaming.Audio(number.to_bytes(2, "little") * 16_000)
            number += 1
        read.set()

    run(under, handler, test)
