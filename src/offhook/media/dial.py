"""Dialling the app's WebSocket, and the open socket as a stream sees it."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import picows
from picows.url import WSParsedURL

from offhook.media.egress import AddressPolicy, Refused, connect

OPEN_TIMEOUT_S = 10.0  # one try: name, TCP, TLS and upgrade together
CLOSE_TIMEOUT_S = 2.0  # for the app to answer our close frame; then the socket is cut
PING_S = 15.0  # a ping this often; no pong for as long again: the socket is lost
MESSAGE_LIMIT = 1 << 20  # bytes of one message from the app; a larger one is dropped and counted
FRAME_LIMIT = 16 << 20  # bytes of one WebSocket frame; over this the library closes the socket, and it is dialled again

# What waits for a slow app shall wait in our queue, where the oldest is dropped. Measured with frames of 24 kHz and an
# app that has stopped reading: with these buffers the kernel (which doubles SO_SNDBUF) and the libraries take in 0.2 s
# by ws and 0.45 s by wss before they say so; without, most of a minute and 4 s more for TLS. What the app's own kernel
# takes in, a second or so, is not ours to bound.
SEND_BUFFER = 16 << 10
TLS_BUFFERS = {"ssl_outgoing_bio_size": 16 << 10, "ssl_incoming_bio_size": 64 << 10}  # 16 KiB is the least


class DialError(Exception):
    """The socket could not be opened. `failure` is a `call.model.StreamFailure` value."""

    def __init__(self, failure: str, detail: str, *, final: bool = False) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.final = final  # trying again would not help


class AppSocket(Protocol):
    """An open socket to the app."""

    def send(self, message: bytes) -> None:
        """Send one text message; when the socket is slow it is kept (see `SocketListener.on_writable`)."""

    def close(self, code: int = 1000) -> None:
        """Close after what was sent; the listener hears nothing more. Without an answer it is cut after 2 s."""

    async def wait_closed(self) -> None:
        """Wait until the socket is gone."""


class SocketListener(Protocol):
    """Who an open socket reports to; called on the event loop."""

    def on_message(self, message: memoryview) -> None:
        """One whole message, valid during the call only."""

    def on_too_large(self, size: int) -> None:
        """A message of at least `size` bytes was dropped."""

    def on_writable(self, writable: bool) -> None:
        """False: what is sent now waits in our memory (may come from within `AppSocket.send`); True: all is sent."""

    def on_closed(self, clean: bool, detail: str) -> None:
        """The socket is gone; `clean`: the app closed it on purpose (1000, 1001 or no code)."""


Dial = Callable[[str, Mapping[str, str], SocketListener], Awaitable[AppSocket]]


class _Listener(picows.WSListener):
    """Joins fragments, bounds messages, and passes on what `SocketListener` wants to know."""

    def __init__(self, listener: SocketListener) -> None:
        self._listener = listener
        self._parts = bytearray()  # of a fragmented message; at most MESSAGE_LIMIT
        self._size = 0  # of it, what was dropped included
        self.over = False  # nobody wants to hear of this socket any more

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        # Any byte the kernel does not take at once makes us stop sending: the queue that drops is ours.
        transport.underlying_transport.set_write_buffer_limits(high=0)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind is picows.WSMsgType.CLOSE:
            code = frame.get_close_code()
            if not transport.is_close_frame_sent:  # "No code" is not to be sent (RFC 6455 7.4.1).
                transport.send_close(picows.WSCloseCode.OK if code == picows.WSCloseCode.NO_INFO else code)
            transport.disconnect()
        elif not self.over and kind in (
            picows.WSMsgType.TEXT,
            picows.WSMsgType.BINARY,
            picows.WSMsgType.CONTINUATION,
        ):
            self._on_data(frame)

    def _on_data(self, frame: picows.WSFrame) -> None:
        if frame.fin and not self._size and frame.payload_size <= MESSAGE_LIMIT:
            self._listener.on_message(frame.get_payload_as_memoryview())
            return
        self._size += frame.payload_size
        if self._size <= MESSAGE_LIMIT:
            self._parts += frame.get_payload_as_memoryview()
        else:
            self._parts = bytearray()
        if frame.fin:
            size, message = self._size, self._parts
            self._size, self._parts = 0, bytearray()
            if size <= MESSAGE_LIMIT:
                self._listener.on_message(memoryview(message))
            else:
                self._listener.on_too_large(size)

    def pause_writing(self) -> None:
        if not self.over:
            self._listener.on_writable(False)

    def resume_writing(self) -> None:
        if not self.over:
            self._listener.on_writable(True)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        if self.over:
            return
        closing: Any = transport.close_handshake  # None without one, which its type does not say
        if closing is None:
            self._listener.on_closed(False, "the connection was lost")
        elif closing.recv is not None:
            code = int(closing.recv.code)  # 0: none was given
            self._listener.on_closed(code in (0, 1000, 1001), f"the app closed the socket with {code or 'no code'}")
        else:  # The library gave up: no pong, or what came breaks the protocol.
            if closing.sent.code == picows.WSCloseCode.MESSAGE_TOO_BIG:
                self._listener.on_too_large(FRAME_LIMIT)
            self._listener.on_closed(False, f"the connection was given up: {closing.sent.reason}")


class _Socket:
    def __init__(self, transport: picows.WSTransport, listener: _Listener) -> None:
        self._transport = transport
        self._listener = listener
        self._text = picows.WSMsgType.TEXT
        self._gone = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        with suppress(Exception):  # Why it was lost is told by on_closed; here it only has to be fetched.
            await self._transport.wait_disconnected()

    def send(self, message: bytes) -> None:
        self._transport.send(self._text, message)

    def close(self, code: int = 1000) -> None:
        # The connection stays until the app has answered: cut at once, with audio of the app still coming in, it would
        # be reset, and the app might never see the close frame.
        self._listener.over = True
        self._transport.send_close(picows.WSCloseCode(code))
        cut = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.disconnect, False)
        self._gone.add_done_callback(lambda _: cut.cancel())

    async def wait_closed(self) -> None:
        await asyncio.shield(self._gone)


class Dialer:
    """Opens WebSockets to apps, to allowed addresses only, with the given trust. An instance is a `Dial`."""

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext) -> None:
        self._policy = policy
        self._tls = tls
        _seed_mask_keys()

    async def __call__(self, url: str, headers: Mapping[str, str], listener: SocketListener) -> AppSocket:
        """Return the open socket; raise `DialError` saying what went wrong."""
        passes_on = _Listener(listener)
        connections: list[socket.socket] = []
        options: dict[str, Any] = TLS_BUFFERS if url.lower().startswith("wss:") else {}

        async def connected(parsed: WSParsedURL) -> socket.socket:
            connections.append(await self._connect(parsed))
            return connections[-1]

        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                transport, upgraded = await picows.ws_connect(
                    lambda: passes_on,
                    url,
                    ssl_context=self._tls,
                    websocket_handshake_timeout=None,
                    enable_auto_ping=True,
                    auto_ping_idle_timeout=PING_S,
                    auto_ping_reply_timeout=PING_S,
                    max_frame_size=FRAME_LIMIT,
                    extra_headers=headers,
                    max_redirects=0,
                    socket_factory=connected,
                    **options,
                )
            if upgraded is None:
                raise ConnectionResetError("the connection was closed without an answer to the upgrade")
        except BaseException as error:
            # The library leaves behind what it was doing; a late 101 must not make an open socket that nobody holds.
            passes_on.over = True
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            if isinstance(error, Exception):
                raise _explain(error) from error
            raise
        return _Socket(transport, passes_on)

    async def _connect(self, url: WSParsedURL) -> socket.socket:
        return await connect(url.host, url.port, self._policy, send_buffer=SEND_BUFFER, timeout=OPEN_TIMEOUT_S)


def _explain(error: Exception) -> DialError:
    """Say in the app author's words why dialling failed. The URL is left out: it may hold a secret."""
    match error:
        case ssl.SSLCertVerificationError():
            return DialError("unreachable", f"TLS: the certificate is not trusted: {error.verify_message}", final=True)
        case ssl.SSLError():
            return DialError("unreachable", f"TLS: {error.reason or error}", final=True)
        case picows.WSInvalidURL() | ValueError():
            reason = str(error).rpartition(": ")[2]
            return DialError("unreachable", f"the transport URL is not valid: {reason}", final=True)
        case Refused():
            return DialError("forbidden", str(error), final=True)
        case socket.gaierror():
            return DialError("unreachable", f"the host name cannot be resolved: {error.strerror}")
        case TimeoutError() if error.errno is None:
            return DialError("unreachable", f"no WebSocket upgrade within {OPEN_TIMEOUT_S:g} s")
        case ConnectionRefusedError():
            return DialError("unreachable", "connection refused: nothing listens there")
        case picows.WSHandshakeError() if error.response is not None and error.response.status != 101:
            status = int(error.response.status)
            failure = {401: "unauthenticated", 403: "forbidden"}.get(status, "unreachable")
            hint = "; redirects are not followed" if 300 <= status < 400 else ""
            detail = f"the server answered HTTP {status} instead of 101{hint}"
            return DialError(failure, detail, final=status in (401, 403))
        case OSError() | picows.WSHandshakeError():
            return DialError("unreachable", str(error) or type(error).__name__)
        case _:
            return DialError("unreachable", f"{type(error).__name__}: {error}")


def _seed_mask_keys() -> None:
    """Seed libc's `rand()`: picows draws its mask keys from it and does not seed it (RFC 6455 10.3 wants them new)."""
    name = ctypes.util.find_library("c")
    if name is not None:
        ctypes.CDLL(name).srand(int.from_bytes(os.urandom(4)))
