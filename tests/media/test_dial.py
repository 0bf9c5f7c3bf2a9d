"""Dialling apps over real loopback sockets: what an app may answer, how a socket ends, and what a slow one holds."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from offhook import bot
from offhook.media import dial
from offhook.media import websocket as polled
from offhook.media.dial import Dialer, DialError
from offhook.media.egress import AddressPolicy
from offhook.media.websocket import MESSAGE_LIMIT, SocketListener
from offhook.server import tls
from offhook.wire.websocket import BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, masked

pytestmark = pytest.mark.sockets

LOCAL = AddressPolicy(allow_private=True)
HEADERS = {"Authorization": "Bearer secret-token", "x-ms-call-connection-id": "c", "x-ms-call-correlation-id": "k"}

WITHIN_S = 30  # whatever is bound to happen: a busy machine takes its time

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Keeps what a socket reports."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.too_large: list[int] = []
        self.writable: list[bool] = []
        self.closed: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    def on_message(self, message: memoryview) -> None:
        self.messages.append(bytes(message))
        self._changed.set()

    def on_too_large(self, size: int) -> None:
        self.too_large.append(size)
        self._changed.set()

    def on_writable(self, writable: bool) -> None:
        self.writable.append(writable)
        self._changed.set()

    def on_closed(self, clean: bool, detail: str) -> None:
        self.closed.set_result((clean, detail))
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> tls.TlsFiles:
    return tls.ensure(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def listening(handle: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A TCP (or TLS) server whose connections `handle` serves; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await handle(reader, writer)
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.wait(tasks, timeout=WITHIN_S) if tasks else None
    await asyncio.sleep(0.01)


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Answer 101; return the request's head."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(accepted(head))
    return head


def accepted(head: bytes) -> bytes:
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def frame(kind: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """A WebSocket frame from a server."""
    first = bytes([kind | (0x80 if fin else 0)])
    if len(data) < 126:
        return first + bytes([len(data)]) + data
    if len(data) < 1 << 16:
        return first + b"\x7e" + len(data).to_bytes(2, "big") + data
    return first + b"\x7f" + len(data).to_bytes(8, "big") + data


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one WebSocket frame from a client: its kind and content."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    mask = await reader.readexactly(4)
    data = await reader.readexactly(size)
    return first & 0xF, bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


class Polled:
    """An open socket that is polled, as a row of the plane polls it, until it is closed."""

    def __init__(self, socket: dial.AppSocket) -> None:
        self._socket = socket
        self.close, self.wait_closed = socket.close, socket.wait_closed
        self._polling = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            self._socket.poll(asyncio.get_running_loop().time())
            await asyncio.sleep(0.002)

    def send(self, text: bytes) -> None:
        self._socket.send(masked(TEXT, text, os.urandom(KEY)))


async def dialled(url: str, listener: SocketListener, context: ssl.SSLContext | None = None) -> Polled:
    return Polled(await Dialer(LOCAL, context or ssl.create_default_context())(url, HEADERS, listener))


async def opened(port: int, listener: Listener, path: str = "/") -> Polled:
    return await dialled(f"ws://127.0.0.1:{port}{path}", listener)


async def refusal(url: str, policy: AddressPolicy = LOCAL, context: ssl.SSLContext | None = None) -> DialError:
    """Dial; return why it failed."""
    with pytest.raises(DialError) as failed:
        await Dialer(policy, context or ssl.create_default_context())(url, HEADERS, Listener())
    return failed.value


# ------------------------------------------------------------------------------------------------ opening


def test_the_upgrade_carries_path_query_and_headers_and_offers_nothing() -> None:
    heads: list[bytes] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await upgrade(reader, writer))
        await read_frame(reader)

    async def main() -> None:
        async with listening(app) as port:
            connection = await opened(port, Listener(), "/audio/x%20y?key=a%2Bb&n=1")
            connection.close()
            await connection.wait_closed()
        head = heads[0].decode()
        assert head.startswith("GET /audio/x%20y?key=a%2Bb&n=1 HTTP/1.1\r\n")
        for name, value in HEADERS.items():
            assert f"{name}: {value}\r\n" in head
        assert "sec-websocket-protocol" not in head.lower()
        assert "sec-websocket-extensions" not in head.lower()

    asyncio.run(main())


def test_nothing_listens_there() -> None:
    async def main() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            error = await refusal(f"ws://127.0.0.1:{unused.getsockname()[1]}/")
        assert (error.failure, error.final) == ("unreachable", False)
        assert "connection refused" in error.detail

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "failure", "final", "said"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "unauthenticated", True, "HTTP 401"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "forbidden", True, "HTTP 403"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "unreachable", False, "HTTP 404"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "unreachable", False, "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "unreachable", False, "HTTP 200"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "unreachable", False, ""),
        (b"SSH-2.0-server\r\n\r\n", "unreachable", False, "HTTP/1.1"),
        (b"", "unreachable", False, "closed without an answer"),
    ],
)
def test_an_answer_that_is_no_upgrade(answer: bytes, failure: str, final: bool, said: str) -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def main() -> None:
        async with listening(app) as port:
            error = await refusal(f"ws://127.0.0.1:{port}/?key=secret")
        assert (error.failure, error.final) == (failure, final)
        assert said in error.detail
        assert "HTTP 101" not in error.detail
        assert "secret" not in error.detail

    asyncio.run(main())


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    requests: list[bytes] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        target = f"ws://127.0.0.1:{writer.get_extra_info('sockname')[1]}/elsewhere"
        writer.write(f"HTTP/1.1 {status} Elsewhere\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
        await reader.read()

    async def main() -> None:
        async with listening(app) as port:
            error = await refusal(f"ws://127.0.0.1:{port}/")
        assert len(requests) == 1
        assert "redirects are not followed" in error.detail

    asyncio.run(main())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.example",
        "http://127.0.0.1/?key=secret",
        "https://127.0.0.1/?key=secret",
        "ws://",
        "ws:///path?key=secret",
        "ws://[::1/?key=secret",
        "ws://127.0.0.1:99999/?key=secret",
        "ws://127.0.0.1:port/?key=secret",
        "wss://127.0.0.1/?key=secret#fragment",
        "ws://" + "ä" * 300 + ".example/?key=secret",
    ],
)
def test_a_bad_url_is_said_to_be_one_and_not_tried_again(url: str) -> None:
    error = asyncio.run(refusal(url))
    assert (error.failure, error.final) == ("unreachable", True)
    assert "URL is not valid" in error.detail
    assert "secret" not in error.detail


def test_a_private_address_is_refused_where_the_policy_says_so() -> None:
    reached: list[bytes] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(1))

    async def main() -> None:
        async with listening(app) as port:
            for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
                error = await refusal(f"ws://{host}:{port}/", AddressPolicy(allow_private=False))
                assert (error.failure, error.final) == ("forbidden", True)
                assert "loopback" in error.detail
        assert reached == []

    asyncio.run(main())


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", unknown)
    error = asyncio.run(refusal("ws://app.invalid/"))
    assert (error.failure, error.final) == ("unreachable", False)
    assert error.detail == "the host name cannot be resolved: app.invalid: Name or service not known"


# ------------------------------------------------------------------------------------------------ slow and given up


def test_an_app_that_does_not_answer_is_given_up_and_its_connection_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "OPEN_TIMEOUT_S", 1.0)  # in which the request is sent, however busy the machine is
    ends: asyncio.Queue[bytes] = asyncio.Queue()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        ends.put_nowait(await reader.read())

    async def main() -> None:
        async with listening(app) as port:
            error = await refusal(f"ws://127.0.0.1:{port}/")
            async with asyncio.timeout(WITHIN_S):
                assert await ends.get() == b""
        assert (error.failure, error.final) == ("unreachable", False)
        assert "no WebSocket upgrade within 1 s" in error.detail

    asyncio.run(main())


def test_a_101_after_the_dial_was_cancelled_opens_nothing() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    ends: asyncio.Queue[bytes] = asyncio.Queue()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        writer.write(accepted(head) + frame(TEXT, b"too late"))
        ends.put_nowait(await reader.read())

    async def main() -> None:
        async with listening(app) as port:
            listener = Listener()
            dialling = asyncio.create_task(opened(port, listener))
            await asked.wait()
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling
            answer.set()
            async with asyncio.timeout(WITHIN_S):
                assert await ends.get() == b""
            assert listener.messages == []
            assert not listener.closed.done()

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ TLS


def test_tls_with_a_certificate_that_is_trusted(trust: tls.TlsFiles) -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        kind, content = await read_frame(reader)
        writer.write(frame(kind, content[::-1]))
        await read_frame(reader)

    async def main() -> None:
        async with listening(app, tls.server_context(trust.cert, trust.key)) as port:
            for host in ("localhost", "127.0.0.1"):
                listener = Listener()
                connection = await dialled(f"WSS://{host}:{port}/", listener, tls.client_context([trust.ca]))
                connection.send(b"abc")
                await listener.until(lambda heard=listener: heard.messages == [b"cba"])  # type: ignore[misc]
                connection.close()
                await connection.wait_closed()

    asyncio.run(main())


def test_handshakes_are_done_in_one_thread_that_is_not_the_loops(
    trust: tls.TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    under_way = threading.Lock()
    handshake = ssl.SSLSocket.do_handshake

    def noted(self: ssl.SSLSocket, block: bool = False) -> None:
        assert under_way.acquire(blocking=False), "two steps at once"
        try:
            threads.append(threading.current_thread())
            handshake(self, block)
        finally:
            under_way.release()

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", noted)

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        await read_frame(reader)

    async def main() -> None:
        async with listening(app, tls.server_context(trust.cert, trust.key)) as port:
            dialer = Dialer(LOCAL, tls.client_context([trust.ca]))
            url = f"wss://localhost:{port}/"
            sockets = [Polled(each) for each in await asyncio.gather(*(dialer(url, {}, Listener()) for _ in range(8)))]
            for each in sockets:
                each.close()
                await each.wait_closed()

    asyncio.run(main())
    assert len(threads) >= 8
    assert len(set(threads)) == 1
    assert threading.current_thread() not in threads


def test_an_app_that_says_nothing_does_not_hold_up_the_handshakes_of_others(trust: tls.TlsFiles) -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        await read_frame(reader)

    async def main() -> None:
        dialer = Dialer(LOCAL, tls.client_context([trust.ca]))
        with socket.create_server(("127.0.0.1", 0)) as mute:
            async with listening(app, tls.server_context(trust.cert, trust.key)) as port:
                url = f"wss://127.0.0.1:{mute.getsockname()[1]}/"
                waiting = [asyncio.create_task(dialer(url, {}, Listener())) for _ in range(4)]
                await asyncio.sleep(0.05)
                connection = Polled(await dialer(f"wss://localhost:{port}/", {}, Listener()))
                assert not any(each.done() for each in waiting)
                connection.close()
                await connection.wait_closed()
            for each in waiting:
                each.cancel()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)

    asyncio.run(main())


def test_tls_with_a_certificate_that_is_not(trust: tls.TlsFiles, tmp_path: Path) -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's view of a failed handshake
        async with listening(app, tls.server_context(trust.cert, trust.key)) as port:
            error = await refusal(f"wss://localhost:{port}/")
            assert (error.failure, error.final) == ("unreachable", True)
            assert error.detail.startswith("TLS: the certificate is not trusted: ")
            other = tls.ensure(tmp_path)
            error = await refusal(f"wss://localhost:{port}/", context=tls.client_context([other.ca]))
            assert error.detail.startswith("TLS: the certificate is not trusted: ")
        async with listening(app) as port:
            error = await refusal(f"wss://localhost:{port}/")
            assert (error.failure, error.final) == ("unreachable", True)
            assert error.detail.startswith("TLS: ")

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ messages


async def received(sent: bytes, holds: Callable[[Listener], bool]) -> Listener:
    """Let an app send `sent` after the upgrade; return what the listener got once `holds`."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.write(sent)
        while (await read_frame(reader))[0] != CLOSE:
            pass
        writer.write(frame(CLOSE, b"\x03\xe8"))
        await reader.read()

    listener = Listener()
    async with listening(app) as port:
        connection = await opened(port, listener)
        await listener.until(lambda: holds(listener))
        connection.close()
        await connection.wait_closed()
    return listener


def test_text_and_binary_messages_are_passed_on() -> None:
    sent = frame(TEXT, b"one") + frame(BINARY, b"two") + frame(TEXT) + frame(TEXT, b"four")
    listener = asyncio.run(received(sent, lambda heard: len(heard.messages) == 4))
    assert listener.messages == [b"one", b"two", b"", b"four"]


def test_fragments_are_joined_even_around_a_ping() -> None:
    sent = (
        frame(TEXT, b"", fin=False)
        + frame(CONTINUATION, b"ab", fin=False)
        + frame(PING, b"are you there")
        + frame(CONTINUATION, b"cd", fin=False)
        + frame(CONTINUATION, b"", fin=True)
        + frame(TEXT, b"ef", fin=False)
        + frame(CONTINUATION, b"gh")
        + frame(TEXT, b"last")
    )
    listener = asyncio.run(received(sent, lambda heard: b"last" in heard.messages))
    assert listener.messages == [b"abcd", b"efgh", b"last"]


def test_a_message_of_1_mib_is_read_and_a_larger_one_dropped_and_counted() -> None:
    whole = bytes(MESSAGE_LIMIT)
    half, more = bytes(MESSAGE_LIMIT // 2), bytes(MESSAGE_LIMIT // 2 + 1)
    sent = b"".join(
        (
            frame(TEXT, whole),
            frame(TEXT, whole + b"x"),
            frame(TEXT, half, fin=False) + frame(CONTINUATION, half),
            frame(TEXT, half, fin=False) + frame(CONTINUATION, more),
            frame(TEXT, whole + whole, fin=False) + frame(CONTINUATION, b"end"),
            frame(TEXT, b"alive"),
        )
    )
    listener = asyncio.run(received(sent, lambda heard: b"alive" in heard.messages))
    assert [len(message) for message in listener.messages] == [MESSAGE_LIMIT, MESSAGE_LIMIT, 5]
    assert listener.too_large == [MESSAGE_LIMIT + 1, MESSAGE_LIMIT + 1, 2 * MESSAGE_LIMIT + 3]
    assert not listener.closed.done()


# ------------------------------------------------------------------------------------------------ how it ends


async def ending(last: bytes, reset: bool = False) -> tuple[tuple[bool, str], tuple[int, bytes] | None]:
    """Let an app end the socket with `last`; return what the listener is told, and the frame that answers."""
    answer: list[tuple[int, bytes]] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        if last:
            writer.write(last)
            answer.append(await read_frame(reader))
        elif reset:
            linger = b"\1\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    listener = Listener()
    async with listening(app) as port:
        await opened(port, listener)
        async with asyncio.timeout(WITHIN_S):
            told = await listener.closed
    return told, answer[0] if answer else None


@pytest.mark.parametrize(
    ("code", "clean", "answer"),
    [
        (None, True, 1000),  # "no code" is not to be sent back
        (1000, True, 1000),
        (1001, True, 1001),
        (1008, False, 1008),
        (1011, False, 1011),
        (4001, False, 4001),
    ],
)
def test_the_app_closes_with_a_code(code: int | None, clean: bool, answer: int) -> None:
    content = b"" if code is None else code.to_bytes(2, "big") + b"reason"
    told, answered = asyncio.run(ending(frame(CLOSE, content)))
    assert told == (clean, f"the app closed the socket with {code or 'no code'}")
    assert answered == (CLOSE, answer.to_bytes(2, "big"))


@pytest.mark.parametrize("reset", [False, True])
def test_the_connection_is_lost_without_a_close_frame(reset: bool) -> None:
    told, _ = asyncio.run(ending(b"", reset))
    assert told == (False, "the connection was lost")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\xc3\x00", "a reserved bit is set"),
        (b"\x83\x00", "no opcode 3"),
        (b"\x81\x81abcdx", "a server does not mask"),
        (frame(PING, bytes(126)), "a control frame"),
        (frame(PING, fin=False), "a control frame"),
        (frame(CONTINUATION, b"x"), "goes on without a beginning"),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), "begins within another"),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection_and_is_said(sent: bytes, said: str) -> None:
    (clean, detail), answered = asyncio.run(ending(sent))
    assert not clean
    assert detail.startswith("the connection was given up: ")
    assert said in detail
    assert answered == (CLOSE, (1002).to_bytes(2, "big"))


def test_a_ping_is_answered_with_what_it_says() -> None:
    _, answered = asyncio.run(ending(frame(PING, b"are you there")))
    assert answered == (PONG, b"are you there")


def test_an_app_that_answers_no_ping_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polled, "PING_S", 0.05)

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        await reader.read()

    async def main() -> None:
        async with listening(app) as port:
            listener = Listener()
            await opened(port, listener)
            async with asyncio.timeout(WITHIN_S):
                clean, detail = await listener.closed
        assert not clean
        assert "ping" in detail

    asyncio.run(main())


def test_closing_sends_1000_after_what_was_sent_and_the_listener_hears_nothing_more() -> None:
    got: list[tuple[int, bytes]] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        while not got or got[-1][0] != CLOSE:
            writer.write(frame(TEXT, bytes(1000)))  # it goes on sending until it reads the close frame
            got.append(await read_frame(reader))
        writer.write(frame(CLOSE, got[-1][1]))
        assert await reader.read() == b""

    async def main() -> None:
        async with listening(app) as port:
            listener = Listener()
            connection = await opened(port, listener)
            for number in range(20):
                connection.send(b"%d" % number)
            heard = len(listener.messages)
            connection.close()
            connection.send(b"too late")
            async with asyncio.timeout(WITHIN_S):
                await connection.wait_closed()
            assert len(listener.messages) == heard
            assert not listener.closed.done()
        assert got == [*((TEXT, b"%d" % number) for number in range(20)), (CLOSE, b"\x03\xe8")]

    asyncio.run(main())


def test_an_app_that_does_not_answer_the_close_frame_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polled, "CLOSE_TIMEOUT_S", 0.1)
    hung_up = asyncio.Event()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upgrade(reader, writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await hung_up.wait()

    async def main() -> None:
        async with listening(app) as port:
            listener = Listener()
            connection = await opened(port, listener)
            while not listener.writable:
                connection.send(bytes(1400))
                await asyncio.sleep(0)
            connection.close()
            async with asyncio.timeout(WITHIN_S):
                await connection.wait_closed()
            hung_up.set()

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ slow readers

FRAME_24K = bytes(1371)  # about one AudioData message at 24 kHz


class SlowApp(threading.Thread):
    """A server with the smallest receive buffer that answers the upgrade, then reads nothing until `reads` is set."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(daemon=True)
        self._context = context
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.port = self._listening.getsockname()[1]
        self.reads = threading.Event()
        self.received = bytearray()

    def run(self) -> None:
        accepting, _ = self._listening.accept()
        self._listening.close()
        connection = self._context.wrap_socket(accepting, server_side=True) if self._context else accepting
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            connection.sendall(accepted(head))
            self.reads.wait()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
            with suppress(OSError):
                while data := connection.recv(1 << 16):
                    self.received += data

    async def until_received(self, count: int) -> None:
        """Wait until so many bytes have been read."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.received) < count:  # noqa: ASYNC110 - a thread does not tell
                await asyncio.sleep(0.001)


@pytest.fixture(params=["ws", "wss"])
def slow_app(request: pytest.FixtureRequest, trust: tls.TlsFiles) -> Iterator[tuple[str, SlowApp]]:
    app = SlowApp(tls.server_context(trust.cert, trust.key) if request.param == "wss" else None)
    app.start()
    yield f"{request.param}://localhost:{app.port}/", app
    app.reads.set()
    app.join(WITHIN_S)


@pytest.mark.skipif(sys.platform != "linux", reason="socket buffers are the kernel's affair")
def test_a_slow_app_is_noticed_within_a_second_of_frames(
    slow_app: tuple[str, SlowApp], trust: tls.TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polled, "CLOSE_TIMEOUT_S", 0.2)  # it reads our close frame, but does not answer
    url, app = slow_app

    async def main() -> None:
        listener = Listener()
        connection = await dialled(url, listener, tls.client_context([trust.ca]))
        held = 0
        while not listener.writable:
            connection.send(held.to_bytes(2, "big") + FRAME_24K)
            held += 1
            await asyncio.sleep(0)
        assert listener.writable == [False]
        assert held <= 50
        assert held > 15, "more than is under way to an app that is 300 ms away and back"
        app.reads.set()
        await listener.until(lambda: listener.writable[-1])
        size = 8 + 2 + len(FRAME_24K)  # a client's header and mask
        await app.until_received(held * size)  # so that nothing stands between it and the close frame
        connection.close()
        await connection.wait_closed()
        app.join(WITHIN_S)
        assert len(app.received) == held * size + 8  # each message once, and the close frame

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ the rest


def test_a_bot_of_ours_hears_and_answers() -> None:
    async def echo(stream: bot.MediaStream) -> None:
        async for message in stream:
            if isinstance(message, bot.AudioData):
                stream.send_audio_nowait(message.pcm)

    async def main() -> None:
        async with await bot.serve(echo) as server:
            listener = Listener()
            connection = await dialled(server.url, listener)
            connection.send(
                b'{"kind":"AudioMetadata","audioMetadata":{"subscriptionId":"s","encoding":"PCM",'
                b'"sampleRate":16000,"channels":1,"length":640}}'
            )
            connection.send(
                b'{"kind":"AudioData","audioData":{"timestamp":"2024-11-15T19:16:12.925Z",'
                b'"data":"AQACAA==","silent":false}}'
            )
            await listener.until(lambda: bool(listener.messages))
            assert b"AQACAA==" in listener.messages[0]
            connection.close()
            await connection.wait_closed()

    asyncio.run(main())
