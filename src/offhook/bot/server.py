"""The WebSocket server that a call's audio is streamed to: one handler call, one task, per connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import picows
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from offhook.bot.connection import Connection, Handler, run
from offhook.bot.stream import WAIT_ABOVE, MediaStream

if TYPE_CHECKING:
    from offhook.bot.auth import TokenVerifier

# Largest message read; a larger one closes its connection (1009). Offhook's stay under 2 KiB (contract 4.2), and the
# vendor's page speaks of 64 KiB.
MESSAGE_LIMIT = 64 << 10
PING_S = 20.0  # a silent connection is pinged after this long, and lost when there is no pong for as long again
CLOSE_TIMEOUT_S = 2.0  # for the other side to answer a close; then the socket is cut
HANDLER_TIMEOUT_S = 5.0  # for handlers to return once `Server.close` has ended their streams


async def serve(
    handler: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    path: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    verify: TokenVerifier | None = None,
) -> Server:
    """Listen for calls' audio; `handler(stream)` runs once for each connection, from its first message on.

    `port` 0 picks a free one. With `path` ("/audio") any other path is answered 404; without, every path is taken.
    With `ssl_context` it serves wss. With `verify` (an `offhook.bot.auth.TokenVerifier`) an upgrade without a good
    token is answered 401, and 503 while the keys to judge it by are not at hand. When a handler returns, its stream is
    closed with 1000; when it raises, the error is logged and the stream closed with 1011. Raises OSError when it cannot
    listen.
    """
    server = Server(handler, path)
    if verify is not None:
        await verify.prepare()

    def connect(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        if path is not None and request.path.decode("latin-1").partition("?")[0] != path:
            return None
        if verify is not None and (status := verify.status(request.headers)) is not HTTPStatus.OK:
            return _refusal(status)
        return _Socket(request, server)

    listening = await picows.ws_create_server(
        connect,
        host,
        port,
        ssl=ssl_context,
        enable_auto_ping=True,
        auto_ping_idle_timeout=PING_S,
        auto_ping_reply_timeout=PING_S,
        max_frame_size=MESSAGE_LIMIT,
    )
    server.listens(listening, host, secure=ssl_context is not None)
    return server


def _refusal(status: HTTPStatus) -> WSUpgradeResponseWithListener:
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else {"Retry-After": "1"}
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, extra_headers=headers), None)


class Server:
    """What `serve` returns: where it listens, and the way to end it. Also an async context manager that closes it."""

    def __init__(self, handler: Handler, path: str | None) -> None:
        self.handler = handler
        self.port = 0  # the one it listens on, never 0 once `serve` has returned
        self.url = ""  # what a call's transportUrl should be, as seen from this machine
        self._path = path
        self._listening: asyncio.Server | None = None
        self._sockets: set[_Socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def listens(self, listening: asyncio.Server, host: str, *, secure: bool) -> None:
        """Called once, by `serve`."""
        self._listening = listening
        self.port = listening.sockets[0].getsockname()[1]
        authority = f"[{host}]" if ":" in host else host
        self.url = f"{'wss' if secure else 'ws'}://{authority}:{self.port}{self._path or '/'}"

    @property
    def streams(self) -> list[MediaStream]:
        """The streams that are open now."""
        return [socket.connection.stream for socket in self._sockets if socket.connection.stream is not None]

    async def close(self) -> None:
        """Listen no more, end every stream with 1001 and wait for the handlers; after 5 s they are cancelled."""
        if self._listening is not None:
            self._listening.close()
        await asyncio.gather(*(socket.go_away() for socket in list(self._sockets)))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=HANDLER_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def opened(self, socket: _Socket) -> None:
        """A connection was upgraded."""
        self._sockets.add(socket)

    def lost(self, socket: _Socket) -> None:
        """A connection is gone."""
        self._sockets.discard(socket)

    def start(self, stream: MediaStream) -> None:
        """A connection has become a stream: run the handler on it."""
        task = asyncio.create_task(run(self.handler, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Socket(WSListener):
    """One socket's events: joins fragments and bounds messages."""

    def __init__(self, request: WSUpgradeRequest, server: Server) -> None:
        self._request = request
        self._server = server
        self._parts = bytearray()  # of a message that comes in fragments; at most MESSAGE_LIMIT

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.underlying_transport.set_write_buffer_limits(high=WAIT_ABOVE)
        self.transport = _Transport(transport)
        path = self._request.path.decode("latin-1")
        self.connection = Connection(self.transport, self._request.headers, path, self._server.start)
        self._server.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.TEXT and frame.fin:  # nearly always
            self.connection.receive(frame.get_payload_as_memoryview())
        elif kind is WSMsgType.CLOSE:
            self.connection.end()
            code = frame.get_close_code()
            if not transport.is_close_frame_sent:  # "No code" is not to be sent (RFC 6455 7.4.1).
                transport.send_close(WSCloseCode.OK if code is WSCloseCode.NO_INFO else code)
            transport.disconnect()
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            if len(self._parts) + frame.payload_size > MESSAGE_LIMIT:
                raise WSProtocolError(WSCloseCode.MESSAGE_TOO_BIG, f"at most {MESSAGE_LIMIT} bytes in one message")
            self._parts += frame.get_payload_as_memoryview()
            if frame.fin:
                message, self._parts = self._parts, bytearray()
                self.connection.receive(message)

    def pause_writing(self) -> None:
        self.connection.pause()

    def resume_writing(self) -> None:
        self.connection.resume()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.connection.end()
        self.transport.gone.set()
        self._server.lost(self)

    async def go_away(self) -> None:
        """Close with 1001 and wait until it is gone."""
        self.connection.end()
        self.transport.close(WSCloseCode.GOING_AWAY.value, "")
        await self.transport.wait_closed()


class _Transport:
    """The `Transport` of a picows socket."""

    def __init__(self, transport: WSTransport) -> None:
        self.send: Callable[[bytes], None] = partial(transport.send, WSMsgType.TEXT)
        self.gone = asyncio.Event()
        self._transport = transport

    def unsent(self) -> int:
        return self._transport.underlying_transport.get_write_buffer_size()

    def close(self, code: int, reason: str) -> None:
        if not self.gone.is_set() and not self._transport.is_close_frame_sent:
            self._transport.send_close(WSCloseCode(code), reason)
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._cut)

    async def wait_closed(self) -> None:
        await self.gone.wait()

    def _cut(self) -> None:
        if not self.gone.is_set():
            self._transport.disconnect(graceful=False)
