"""The same handler under other WebSocket servers: `websockets`, and Starlette or FastAPI.

Each takes the server's own connection and gives a `MediaStream` for as long as the `async with` lasts. They cost some
times what `offhook.bot.serve` does for each message; in return an app that has such a server keeps its routes, its
middleware and its port.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from offhook.bot.connection import Connection, end
from offhook.bot.errors import StreamClosed
from offhook.bot.stream import INTERNAL_ERROR, OK, WAIT_ABOVE, MediaStream

if TYPE_CHECKING:
    from starlette.websockets import WebSocket
    from websockets.asyncio.server import ServerConnection

CLOSE_TIMEOUT_S = 2.0  # for the other side to answer a close


@asynccontextmanager
async def from_websockets(ws: ServerConnection) -> AsyncIterator[MediaStream]:
    """The stream of a connection of the `websockets` package (`websockets.serve`, asyncio; 14 and later).

        async def handler(ws: ServerConnection) -> None:
            async with from_websockets(ws) as stream:
                ...

    Waits for the first message that tells the rate; raises StreamClosed when the socket is closed before. The socket is
    closed with the context: with 1000, or 1011 when it ends in an exception. A StreamClosed from within, the usual end
    of a handler that only speaks, ends it quietly.
    """
    from websockets.exceptions import ConnectionClosed

    async def receive(connection: Connection) -> None:
        async for message in ws:
            connection.receive(message)

    request = ws.request
    headers: Mapping[str, str] = request.headers if request else {}
    outbox = _Outbox(ws.send, ws.close, ConnectionClosed)
    async with _stream(outbox, headers, request.path if request else "/", receive) as stream:
        yield stream


@asynccontextmanager
async def from_starlette(websocket: WebSocket) -> AsyncIterator[MediaStream]:
    """The stream of a Starlette or FastAPI WebSocket, which is accepted here if it was not yet.

        @app.websocket("/audio")
        async def audio(websocket: WebSocket) -> None:
            async with from_starlette(websocket) as stream:
                ...

    Everything else is as with `from_websockets`.
    """
    from starlette.websockets import WebSocketDisconnect, WebSocketState

    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.accept()

    async def receive(connection: Connection) -> None:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            text = message.get("text")
            connection.receive(message["bytes"] if text is None else text)

    path = websocket.url.path + (f"?{websocket.url.query}" if websocket.url.query else "")
    outbox = _Outbox(websocket.send_text, websocket.close, WebSocketDisconnect, RuntimeError)
    async with _stream(outbox, websocket.headers, path, receive) as stream:
        yield stream


@asynccontextmanager
async def _stream(
    outbox: _Outbox, headers: Mapping[str, str], path: str, receive: Callable[[Connection], Awaitable[None]]
) -> AsyncIterator[MediaStream]:
    opened: asyncio.Future[MediaStream] = asyncio.get_running_loop().create_future()
    connection = outbox.connection = Connection(outbox, headers, path, opened.set_result)
    reading = asyncio.create_task(_read(receive, connection, outbox))
    writing = asyncio.create_task(outbox.write(connection))
    try:
        either: list[asyncio.Future[Any]] = [opened, reading]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            raise StreamClosed("the socket was closed before any message told the rate")
        stream, code = opened.result(), INTERNAL_ERROR
        try:
            with suppress(StreamClosed):
                yield stream
            code = OK
        finally:
            await end(stream, code)
    finally:
        reading.cancel()
        writing.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)


async def _read(receive: Callable[[Connection], Awaitable[None]], connection: Connection, outbox: _Outbox) -> None:
    try:
        with suppress(*outbox.lost):
            await receive(connection)
    finally:
        connection.end()
        outbox.gone.set()


class _Outbox:
    """The `Transport` over a socket whose sends are awaited: what waits is sent by one task, in order.

    What waits is bounded by `MediaStream`, which is told to pause above 256 KiB.
    """

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[int, str], Awaitable[None]],
        *lost: type[Exception],
    ) -> None:
        self.connection: Connection | None = None  # whom to tell
        self.lost = lost  # what the socket raises when it is gone
        self.gone = asyncio.Event()
        self._send = send
        self._close = close
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._paused = False
        self._closing: tuple[int, str] | None = None
        self._changed = asyncio.Event()

    def send(self, message: bytes) -> None:
        self._waiting.append(message)
        self._bytes += len(message)
        self._changed.set()
        if self._bytes > WAIT_ABOVE and not self._paused and self.connection is not None:
            self._paused = True
            self.connection.pause()

    def unsent(self) -> int:
        return self._bytes

    def close(self, code: int, reason: str) -> None:
        self._closing = self._closing or (code, reason)
        self._changed.set()

    async def wait_closed(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.gone.wait()

    async def write(self, connection: Connection) -> None:
        """Send until it is closed or lost."""
        try:
            with suppress(*self.lost):
                while await self._has_next():
                    await self._send(self._waiting[0].decode())
                    self._bytes -= len(self._waiting.popleft())
                    if self._paused and self._bytes <= WAIT_ABOVE:
                        self._paused = False
                        connection.resume()
                if self._closing is not None:
                    await self._close(*self._closing)
        finally:
            connection.end()
            self.gone.set()

    async def _has_next(self) -> bool:
        """Wait for something to send; False when there is only a close."""
        while not self._waiting and self._closing is None:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._waiting)
