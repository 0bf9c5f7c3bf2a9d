"""Dialling the app's WebSocket: name, address, TCP, TLS and the upgrade; what opens is a polled `WebSocket`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import io
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from picows.url import WSInvalidURL, WSParsedURL, parse_url

from offhook.media.egress import AddressPolicy, Refused, connect
from offhook.media.websocket import SocketListener, WebSocket

OPEN_TIMEOUT_S = 10.0  # one try: name, TCP, TLS and upgrade together
HEAD_LIMIT = 16 << 10  # bytes of the answer to the upgrade
OPENING_POLL_S = (0.002, 0.05)  # how often a socket that opens is looked at: at first, and less and less often at last

# What waits for a slow app shall wait in our queue, where the oldest is dropped: the kernel (which doubles SO_SNDBUF)
# would keep most of a minute. But what is under way to a far app waits there for its ACK, too: this much carries 24 kHz
# over a round trip of 300 ms (half of it did not), and is 1 s of 16 kHz at most. What the app's own kernel takes in, a
# second or so, is not ours to bound.
SEND_BUFFER = 32 << 10

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})(?: |$)")
_T = TypeVar("_T")


class DialError(Exception):
    """The socket could not be opened. `failure` is a `call.model.StreamFailure` value."""

    def __init__(self, failure: str, detail: str, *, final: bool = False) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.final = final  # trying again would not help


class AppSocket(Protocol):
    """An open socket to the app."""

    @property
    def receive(self) -> Callable[[memoryview], int] | None:
        """What reads it as `poll` would, as long as whole messages come; None when that cannot be done. Even so it is
        to be polled every second or so."""

    @property
    def transmit(self) -> Callable[[bytes | memoryview], int] | None:
        """What writes a message as `send` would; None when that cannot be done. `SocketListener.on_writable` tells when
        that changes."""

    def poll(self, now: float, received: memoryview | None = None) -> None:
        """Tell the listener what has come, after what was `received` already. Called every 20 ms; `now`: loop time."""

    def send(self, message: bytes | memoryview) -> None:
        """Send one masked message (`wire.websocket`); when the socket is slow it is kept (`SocketListener`)."""

    def close(self, code: int = 1000) -> None:
        """Close after what was sent; the listener hears nothing more. Without an answer it is cut after 2 s."""

    def abort(self, detail: str) -> None:
        """Cut the connection without a close frame, as when it is lost; the listener is told of it, with `detail`."""

    async def wait_closed(self) -> None:
        """Wait until the socket is gone."""


Dial = Callable[[str, Mapping[str, str], SocketListener], Awaitable[AppSocket]]


class _NoUpgrade(Exception):
    """The answer is no 101 that a WebSocket can begin with; `status` is 0 where there was none."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class Dialer:
    """Opens WebSockets to apps, to allowed addresses only, with the given trust. An instance is a `Dial`.

    TLS handshakes take 1 to 2 ms of CPU each, in steps of which many can be due at once: they are done in one thread of
    their own, one step after the other, and hold up no tick. A step never waits for the app.
    """

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext) -> None:
        self._policy = policy
        self._tls = tls
        self._handshakes = ThreadPoolExecutor(1, "tls")

    async def __call__(self, url: str, headers: Mapping[str, str], listener: SocketListener) -> AppSocket:
        """Return the open socket; raise `DialError` saying what went wrong."""
        connection: socket.socket | None = None
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                where = parse_url(url)
                if re.search(r"[^!-~]", where.resource_name):
                    raise ValueError("it has a space or a control character")
                connection = await connect(
                    where.host, where.port, self._policy, send_buffer=SEND_BUFFER, timeout=OPEN_TIMEOUT_S
                )
                if where.is_secure:
                    connection = await self._secure(connection, where.host)
                received = await _upgrade(connection, where, headers)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, Exception):
                raise _explain(error) from error
            raise
        return WebSocket(connection, listener, received, asyncio.get_running_loop().time())

    async def _secure(self, connection: socket.socket, host: str) -> ssl.SSLSocket:
        secure = self._tls.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
        try:
            await _done(secure.do_handshake, self._handshakes)
        except BaseException:
            self._handshakes.submit(secure.close)  # in its turn: a step that nobody waits for any more may be under way
            raise
        return secure


async def _done(attempt: Callable[[], _T], executor: Executor | None = None) -> _T:
    """Return what `attempt` returns, once it does not have to wait any more. With an `executor` it is called there."""
    loop = asyncio.get_running_loop()
    pause, longest = OPENING_POLL_S
    while True:
        try:
            return attempt() if executor is None else await loop.run_in_executor(executor, attempt)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            # Watching the descriptor would be exact, but not every event loop can, and a call opens only once.
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, longest)


async def _upgrade(connection: socket.socket, where: WSParsedURL, headers: Mapping[str, str]) -> bytes:
    """Ask for the WebSocket (RFC 6455 4.1) and check the answer; return what came after it."""
    key = base64.b64encode(os.urandom(16))
    lines = {
        "Host": _host(where),
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key.decode(),
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    request = f"GET {where.resource_name} HTTP/1.1\r\n{fields}\r\n".encode("latin-1")
    while request:
        request = request[await _done(partial(connection.send, request)) :]
    received = b""
    while b"\r\n\r\n" not in received:
        more = await _done(partial(connection.recv, 4096))
        if not more:
            raise _NoUpgrade("the connection was closed without an answer to the upgrade")
        received += more
        if len(received) > HEAD_LIMIT:
            raise _NoUpgrade(f"the answer to the upgrade has more than {HEAD_LIMIT} bytes")
    head, _, rest = received.partition(b"\r\n\r\n")
    _check(head, key)
    return rest


def _host(where: WSParsedURL) -> str:
    host = f"[{where.host}]" if ":" in where.host else where.host
    return host if where.port == (443 if where.is_secure else 80) else f"{host}:{where.port}"


def _check(head: bytes, key: bytes) -> None:
    status_line, _, fields = head.partition(b"\r\n")
    if (status := _STATUS.match(status_line)) is None:
        raise _NoUpgrade("the answer to the upgrade is not HTTP/1.1")
    if status[1] != b"101":
        raise _NoUpgrade("no 101", int(status[1]))
    answered = http.client.parse_headers(io.BytesIO(fields + b"\r\n\r\n"))
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
    if answered.get("Upgrade", "").lower() != "websocket" or "upgrade" not in answered.get("Connection", "").lower():
        raise _NoUpgrade("the answer says 101, but not that it upgrades to a WebSocket")
    if answered.get("Sec-WebSocket-Accept", "").strip() != accept:
        raise _NoUpgrade("the answer's Sec-WebSocket-Accept is not for our key")
    if "Sec-WebSocket-Extensions" in answered or "Sec-WebSocket-Protocol" in answered:
        raise _NoUpgrade("the answer has an extension or protocol that was not offered")


def _explain(error: Exception) -> DialError:
    """Say in the app author's words why dialling failed. The URL is left out: it may hold a secret."""
    match error:
        case ssl.SSLCertVerificationError():
            return DialError("unreachable", f"TLS: the certificate is not trusted: {error.verify_message}", final=True)
        case ssl.SSLError():
            return DialError("unreachable", f"TLS: {error.reason or error}", final=True)
        case WSInvalidURL() | ValueError():
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
        case _NoUpgrade(status=status) if status:
            failure = {401: "unauthenticated", 403: "forbidden"}.get(status, "unreachable")
            hint = "; redirects are not followed" if 300 <= status < 400 else ""
            detail = f"the server answered HTTP {status} instead of 101{hint}"
            return DialError(failure, detail, final=status in (401, 403))
        case OSError() | _NoUpgrade():
            return DialError("unreachable", str(error) or type(error).__name__)
        case _:
            return DialError("unreachable", f"{type(error).__name__}: {error}")
