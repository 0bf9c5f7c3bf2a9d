"""The WebSocket server that a call's audio is streamed to: one handler call, one task, per connection."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

import picows
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSProtocolError, WSTransport, WSUpgradeRequest

from offhook.bot.stream import WAIT_ABOVE, MediaStream, Message, StreamClosed
from offhook.wire.streaming import AudioData, AudioMetadata, Ignored, parse_from_server

# Largest message read; a larger one closes its connection (1009). Offhook's stay under 2 KiB (contract 4.2), and the
# vendor's page speaks of 64 KiB.
MESSAGE_LIMIT = 64 << 10
PING_S = 20.0  # a silent connection is pinged after this long, and lost when there is no pong for as long again
HANDLER_TIMEOUT_S = 5.0  # for handlers to return once `Server.close` has ended their streams
RATES = range(8_000, 48_001, 50)  # Hz: what a stream may have; ACS has 16000 and 24000 (contract 2.4)
_FRAMES_PER_S = 50

Handler = Callable[[MediaStream], Awaitable[None]]

_log = logging.getLogger(__name__)


async def serve(
    handler: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    path: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Server:
    """Listen for calls' audio; `handler(stream)` runs once for each connection, from its first message on.

    `port` 0 picks a free one. With `path` ("/audio") any other path is answered 404; without, every path is taken.
    With `ssl_context` it serves wss. When a handler returns, its stream is closed with 1000; when it raises, the error
    is logged and the stream closed with 1011. Raises OSError when it cannot listen.
    """
    server = Server(handler, path)

    def connect(request: WSUpgradeRequest) -> WSListener | None:
        if path is not None and request.path.decode("latin-1").partition("?")[0] != path:
            return None
        return _Connection(request, server)

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


class Server:
    """What `serve` returns: where it listens, and the way to end it. Also an async context manager that closes it."""

    def __init__(self, handler: Handler, path: str | None) -> None:
        self.handler = handler
        self.port = 0  # the one it listens on, never 0 once `serve` has returned
        self.url = ""  # what a call's transportUrl should be, as seen from this machine
        self._path = path
        self._listening: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
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
        return [connection.stream for connection in self._connections if connection.stream is not None]

    async def close(self) -> None:
        """Listen no more, end every stream with 1001 and wait for the handlers; after 5 s they are cancelled."""
        if self._listening is not None:
            self._listening.close()
        await asyncio.gather(*(connection.close() for connection in list(self._connections)))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=HANDLER_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def opened(self, connection: _Connection) -> None:
        """A connection was upgraded."""
        self._connections.add(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def start(self, stream: MediaStream) -> None:
        """A connection has become a stream: run the handler on it."""
        task = asyncio.create_task(self._handle(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, stream: MediaStream) -> None:
        code = WSCloseCode.OK
        try:
            await self.handler(stream)
        except StreamClosed:
            pass  # the usual end of a handler that only speaks
        except Exception:
            _log.exception("the handler of call connection %s failed", stream.call_connection_id or "(no id)")
            code = WSCloseCode.INTERNAL_ERROR
        if stream.dropped:
            _log.warning("the handler read too slowly: %d messages were dropped", stream.dropped)
        await stream.close(code.value)


class _Connection(WSListener):
    """One socket: joins fragments, bounds and parses messages; the first that tells the rate makes the stream."""

    def __init__(self, request: WSUpgradeRequest, server: Server) -> None:
        self.stream: MediaStream | None = None
        self._request = request
        self._server = server
        self._transport: WSTransport | None = None
        self._parts = bytearray()  # of a message that comes in fragments; at most MESSAGE_LIMIT
        self._complained = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.underlying_transport.set_write_buffer_limits(high=WAIT_ABOVE)
        self._transport = transport
        self._server.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.CLOSE:
            if self.stream is not None:
                self.stream.end()
            if not transport.is_close_frame_sent:
                transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            if frame.fin and not self._parts:
                self._on_message(frame.get_payload_as_memoryview())
                return
            if len(self._parts) + frame.payload_size > MESSAGE_LIMIT:
                raise WSProtocolError(WSCloseCode.MESSAGE_TOO_BIG, f"at most {MESSAGE_LIMIT} bytes in one message")
            self._parts += frame.get_payload_as_memoryview()
            if frame.fin:
                message, self._parts = self._parts, bytearray()
                self._on_message(memoryview(message))

    def _on_message(self, data: memoryview) -> None:
        message = parse_from_server(data)
        if isinstance(message, Ignored):
            if not self._complained:
                self._complained = True
                _log.warning("a message that cannot be read is ignored, as are all later ones: %s", message.cause)
            return
        metadata = _metadata(message) if self.stream is None or isinstance(message, AudioMetadata) else None
        if metadata is not None and (metadata.sample_rate not in RATES or metadata.channels != 1):
            raise WSProtocolError(WSCloseCode.UNSUPPORTED_DATA, "only mono audio of 8 to 48 kHz is taken")
        if self.stream is not None:
            self.stream.feed(message)
        elif metadata is not None:
            assert self._transport is not None
            self.stream = MediaStream(
                self._transport, metadata, self._request.headers, self._request.path.decode("latin-1")
            )
            self.stream.feed(message)
            self._server.start(self.stream)

    def pause_writing(self) -> None:
        if self.stream is not None:
            self.stream.pause()

    def resume_writing(self) -> None:
        if self.stream is not None:
            self.stream.resume()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.stream is not None:
            self.stream.end()
        self._server.lost(self)

    async def close(self) -> None:
        if self.stream is not None:
            await self.stream.close(WSCloseCode.GOING_AWAY.value)
        elif self._transport is not None:
            self._transport.send_close(WSCloseCode.GOING_AWAY)
            self._transport.disconnect()


def _metadata(first: Message) -> AudioMetadata | None:
    """What the first message says of the stream. It should be AudioMetadata (contract 4.2); where it is audio, the rate
    follows from a frame being 20 ms. A digit says nothing."""
    if isinstance(first, AudioMetadata):
        return first
    if isinstance(first, AudioData) and first.pcm:
        length = len(first.pcm)
        return AudioMetadata(
            subscription_id="", encoding="PCM", sample_rate=length // 2 * _FRAMES_PER_S, channels=1, length=length
        )
    return None
