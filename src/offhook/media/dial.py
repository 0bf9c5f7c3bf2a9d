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
from typing import Protocol

import picows
from picows.url import WSParsedURL

from offhook.media.egress import AddressPolicy, Refused, connect

OPEN_TIMEOUT_S = 10.0  # one try: name, TCP, TLS and upgrade together
PING_S = 15.0  # a ping this often; no pong for as long again: the socket is lost
MESSAGE_LIMIT = 1 << 20  # bytes of one message from the app; a larger one is dropped and counted
FRAME_LIMIT = 16 << 20  # bytes of one WebSocket frame; the library closes the socket over this
SEND_BUFFER = 16 << 10  # SO_SNDBUF: the kernel keeps about a quarter of a second of frames, not a minute of them


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

    def close(self, code: int = 1000) -> None: ...


class SocketListener(Protocol):
    """Who an open socket reports to; called on the event loop, never from within `AppSocket.send`."""

    def on_message(self, message: memoryview) -> None:
        """One whole message, valid during the call only."""

    def on_too_large(self, size: int) -> None: ...

    def on_writable(self, writable: bool) -> None:
        """False: what is sent now waits in our memory; True: the socket has taken all of it."""

    def on_closed(self, clean: bool, detail: str) -> None:
        """The socket is gone; `clean`: the app closed it on purpose (1000, 1001 or no code)."""


Dial = Callable[[str, Mapping[str, str], SocketListener], Awaitable[AppSocket]]


class _Listener(picows.WSListener):
    """Joins fragments, bounds messages, and passes on what `SocketListener` wants to know."""

    def __init__(self, listener: SocketListener) -> None:
        self._listener = listener
        self._parts = bytearray()  # of a fragmented message; at most MESSAGE_LIMIT
        self._skipped = 0  # bytes of a fragmented message that grew too large

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        # Any byte the kernel does not take at once makes us stop sending: the queue that drops is ours.
        transport.underlying_transport.set_write_buffer_limits(high=0)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind is picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION):
            self._on_data(frame)

    def _on_data(self, frame: picows.WSFrame) -> None:
        whole = frame.fin and not self._parts and not self._skipped
        if whole and frame.payload_size <= MESSAGE_LIMIT:
            self._listener.on_message(frame.get_payload_as_memoryview())
            return
        if self._skipped or len(self._parts) + frame.payload_size > MESSAGE_LIMIT:
            self._skipped += len(self._parts) + frame.payload_size
            self._parts.clear()
        else:
            self._parts += frame.get_payload_as_memoryview()
        if frame.fin:
            if self._skipped:
                self._listener.on_too_large(self._skipped)
            else:
                self._listener.on_message(memoryview(bytes(self._parts)))
            self._parts.clear()
            self._skipped = 0

    def pause_writing(self) -> None:
        self._listener.on_writable(False)

    def resume_writing(self) -> None:
        self._listener.on_writable(True)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        received = transport.close_handshake.recv
        if received is None:
            self._listener.on_closed(False, "the connection was lost")
            return
        code = int(received.code.value)
        self._listener.on_closed(code in (0, 1000, 1001, 1005), f"the app closed the socket with {code or 'no code'}")


class _Socket:
    def __init__(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        self._text = picows.WSMsgType.TEXT
        self._gone = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        with suppress(Exception):  # Why it was lost is told by on_closed; here it only has to be fetched.
            await self._transport.wait_disconnected()

    def send(self, message: bytes) -> None:
        self._transport.send(self._text, message)

    def close(self, code: int = 1000) -> None:
        self._transport.send_close(picows.WSCloseCode(code))
        self._transport.disconnect()


class Dialer:
    """Opens WebSockets to apps, to allowed addresses only, with the given trust. An instance is a `Dial`."""

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext) -> None:
        self._policy = policy
        self._tls = tls
        _seed_mask_keys()

    async def __call__(self, url: str, headers: Mapping[str, str], listener: SocketListener) -> AppSocket:
        """Return the open socket; raise `DialError` saying what went wrong."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                transport, _ = await picows.ws_connect(
                    lambda: _Listener(listener),
                    url,
                    ssl_context=self._tls,
                    websocket_handshake_timeout=OPEN_TIMEOUT_S,
                    enable_auto_ping=True,
                    auto_ping_idle_timeout=PING_S,
                    auto_ping_reply_timeout=PING_S,
                    max_frame_size=FRAME_LIMIT,
                    extra_headers=headers,
                    max_redirects=0,
                    socket_factory=self._connect,
                )
        except Exception as error:
            raise _explain(error) from error
        return _Socket(transport)

    async def _connect(self, url: WSParsedURL) -> socket.socket:
        return await connect(url.host, url.port, self._policy, send_buffer=SEND_BUFFER, timeout=OPEN_TIMEOUT_S)


def _explain(error: Exception) -> DialError:
    """Say in the app author's words why dialling failed."""
    match error:
        case picows.WSInvalidURL():
            return DialError("unreachable", f"the transport URL is not valid: {error}", final=True)
        case ssl.SSLCertVerificationError():
            return DialError("unreachable", f"TLS: the certificate is not trusted: {error.verify_message}", final=True)
        case ssl.SSLError():
            return DialError("unreachable", f"TLS: {error.reason or error}", final=True)
        case Refused():
            return DialError("forbidden", str(error), final=True)
        case socket.gaierror():
            return DialError("unreachable", f"the host name cannot be resolved: {error.strerror}")
        case TimeoutError():
            return DialError("unreachable", f"no WebSocket upgrade within {OPEN_TIMEOUT_S:g} s")
        case ConnectionRefusedError():
            return DialError("unreachable", "connection refused: nothing listens there")
        case picows.WSHandshakeError() if error.response is not None:
            status = int(error.response.status)
            failure = {401: "unauthenticated", 403: "forbidden"}.get(status, "unreachable")
            detail = f"the server answered HTTP {status} instead of 101"
            return DialError(failure, detail, final=status in (401, 403))
        case _:
            return DialError("unreachable", f"{type(error).__name__}: {error}")


def _seed_mask_keys() -> None:
    """Seed libc's `rand()`: picows draws its mask keys from it and does not seed it (RFC 6455 10.3 wants them new)."""
    name = ctypes.util.find_library("c")
    if name is not None:
        ctypes.CDLL(name).srand(int.from_bytes(os.urandom(4)))
