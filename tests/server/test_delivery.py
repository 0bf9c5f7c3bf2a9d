from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from offhook.media.egress import AddressPolicy, Refused
from offhook.server import delivery, tls
from offhook.server.delivery import Deliverer, HttpPoster, Reply, without_query
from offhook.testing.clock import run

URL = "https://app.example/callback?code=SECRET"
STRICT, OPEN = AddressPolicy(allow_private=False), AddressPolicy(allow_private=True)


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


class App:
    """A callback endpoint in memory. `answers` are given in turn, the last one for ever."""

    def __init__(self, *answers: Reply | Exception | None) -> None:
        self.answers = list(answers) or [Reply(200)]
        self.got: list[tuple[float, str]] = []
        self.headers: list[Mapping[str, str]] = []

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.got.append((now(), body.decode()))
        self.headers.append(headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.got]

    @property
    def bodies(self) -> list[str]:
        return [body for _, body in self.got]


Results = list[tuple[str, str, str, bool, str]]


def deliver(post: Any, *bodies: str, lane: str = "c1", seconds: float = 1000) -> tuple[Deliverer, Results]:
    """Send `bodies` on one lane and let `seconds` pass; return the deliverer and what it reported."""
    results: Results = []

    async def scenario() -> Deliverer:
        deliverer = Deliverer(post, lambda: "token", lambda *result: results.append(result))
        for body in bodies:
            deliverer.send(lane, URL, body.encode(), "CallConnected")
        await asyncio.sleep(seconds)
        await deliverer.close(0)
        return deliverer

    return run(scenario()), results


def test_one_event_a_post_in_order_with_its_headers() -> None:
    app = App()
    deliverer, results = deliver(app, "a", "b", "c")
    assert app.bodies == ["a", "b", "c"]
    assert app.headers[0] == {"Content-Type": "application/json; charset=utf-8", "Authorization": "Bearer token"}
    assert (deliverer.sent, deliverer.retried, deliverer.failed, deliverer.dropped) == (3, 0, 0, 0)
    assert results[0] == ("c1", "CallConnected", "https://app.example/callback", True, "HTTP 200")


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_acknowledges(status: int) -> None:
    app = App(Reply(status))
    assert deliver(app, "a")[0].sent == len(app.got) == 1


@pytest.mark.parametrize(
    "failure", [Reply(408), Reply(429), Reply(500), Reply(503), ConnectionResetError("gone"), TimeoutError()]
)
def test_what_may_pass_is_tried_again_before_the_next_event(failure: Reply | Exception) -> None:
    app = App(failure, failure, Reply(200))
    deliverer, _ = deliver(app, "a", "b")
    assert app.got == [(0, "a"), (0.5, "a"), (1.5, "a"), (1.5, "b")]
    assert (deliverer.sent, deliverer.retried, deliverer.failed) == (2, 2, 0)


@pytest.mark.parametrize(
    "failure", [Reply(400), Reply(401), Reply(404), Reply(410), Reply(302), Refused("private"), ValueError("no URL")]
)
def test_what_will_not_pass_is_not_tried_again(failure: Reply | Exception) -> None:
    app = App(failure, Reply(200))
    deliverer, results = deliver(app, "a", "b")
    assert app.got == [(0, "a"), (0, "b")]
    assert (deliverer.sent, deliverer.retried, deliverer.failed) == (1, 0, 1)
    assert [ok for _, _, _, ok, _ in results] == [False, True]


def test_an_event_is_given_up_after_two_minutes_and_the_next_one_gets_as_long() -> None:
    app = App(Reply(503))
    deliverer, results = deliver(app, "a", "b")
    schedule = [0, 0.5, 1.5, 3.5, 8.5, 18.5, 38.5, 68.5, 98.5]
    assert app.times == schedule + [98.5 + at for at in schedule]
    assert (deliverer.failed, deliverer.retried) == (2, 16)
    assert results[0] == ("c1", "CallConnected", "https://app.example/callback", False, "HTTP 503")


@pytest.mark.parametrize(("retry_after", "second_try"), [(0.0, 0.5), (7.0, 7.0), (3600.0, 30.0), (None, 0.5)])
def test_retry_after_is_honoured_within_bounds(retry_after: float | None, second_try: float) -> None:
    app = App(Reply(503, retry_after=retry_after), Reply(200))
    deliver(app, "a")
    assert app.times == [0, second_try]


def test_a_hung_endpoint_delays_its_own_lane_only() -> None:
    app = App()

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if body == b"hung":
            await asyncio.Event().wait()
        return await app(url, headers, body)

    async def scenario() -> None:
        deliverer = Deliverer(post, lambda: "")
        for body in ("hung", "behind it"):
            deliverer.send("c1", URL, body.encode(), "E")
        for body in ("a", "b"):
            deliverer.send("c2", URL, body.encode(), "E")
        await asyncio.sleep(1)
        assert app.bodies == ["a", "b"]
        await deliverer.close(0)
        assert (deliverer.sent, deliverer.dropped) == (2, 2)

    run(scenario())


def test_a_full_lane_drops_the_newest_but_takes_the_last() -> None:
    app = App()

    async def scenario() -> Deliverer:
        deliverer = Deliverer(app, lambda: "")
        for number in range(delivery.LANE_EVENTS + 5):
            deliverer.send("c1", URL, str(number).encode(), "E")
        assert deliverer.dropped == 5
        deliverer.send("c1", URL, b"last", "CallDisconnected", last=True)
        deliverer.send("c1", URL, b"behind the last", "E")
        assert deliverer.dropped == 6
        await deliverer.close(10)
        return deliverer

    assert run(scenario()).sent == delivery.LANE_EVENTS + 1
    assert app.bodies == [*map(str, range(delivery.LANE_EVENTS)), "last"]


def test_nothing_follows_the_last_event() -> None:
    app = App()

    async def scenario() -> int:
        deliverer = Deliverer(app, lambda: "")
        deliverer.send("c1", URL, b"last", "CallDisconnected", last=True)
        deliverer.send("c1", URL, b"late", "E")
        await deliverer.close(1)
        return deliverer.dropped

    assert run(scenario()) == 1
    assert app.bodies == ["last"]


def test_the_number_of_lanes_is_bounded_and_a_lane_ends_when_it_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LANES", 2)

    async def scenario() -> None:
        deliverer = Deliverer(App(), lambda: "")
        for lane in ("c1", "c2", "c3"):
            deliverer.send(lane, URL, b"", "E")
        assert deliverer.dropped == 1
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) == 1  # this one
        deliverer.send("c3", URL, b"", "E")
        await deliverer.close(1)
        assert (deliverer.sent, deliverer.dropped) == (3, 1)

    run(scenario())


def test_each_try_asks_for_a_token() -> None:
    app = App(Reply(503), Reply(200))
    tokens = iter(["first", "second"])

    async def scenario() -> None:
        deliverer = Deliverer(app, lambda: next(tokens))
        deliverer.send("c1", URL, b"", "E")
        await deliverer.close(5)

    run(scenario())
    assert [headers["Authorization"] for headers in app.headers] == ["Bearer first", "Bearer second"]


def test_a_fault_of_ours_does_not_stop_a_lane(caplog: pytest.LogCaptureFixture) -> None:
    app = App(KeyError(URL), Reply(200))
    deliverer, _ = deliver(app, "a", "b")
    assert (deliverer.sent, deliverer.failed) == (1, 1)
    assert "internal error: KeyError" in caplog.text
    assert "SECRET" not in caplog.text


def test_an_observer_that_fails_does_not_stop_a_lane(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    def observer(*_: object) -> None:
        raise RuntimeError("observer")

    async def scenario() -> int:
        deliverer = Deliverer(app, lambda: "", observer)
        deliverer.send("c1", URL, b"a", "E")
        deliverer.send("c1", URL, b"b", "E")
        await deliverer.close(1)
        deliverer.send("c1", URL, b"c", "E")
        return deliverer.sent

    assert run(scenario()) == 2
    assert "on_result failed" in caplog.text


def test_an_event_is_settled_once_when_it_is_on_its_way_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivered, given up, or dropped for want of room; not when the server stops before it was delivered."""
    monkeypatch.setattr(delivery, "LANE_EVENTS", 2)
    app = App(Reply(200), Reply(400), Reply(503))
    settled: list[str] = []

    async def scenario() -> None:
        deliverer = Deliverer(app, lambda: "")
        for name in ("delivered", "given up", "no room"):
            deliverer.send("c1", URL, b"", "E", settled=partial(settled.append, name))
        assert settled == ["no room"]
        await asyncio.sleep(1)
        deliverer.send("c1", URL, b"", "E", settled=partial(settled.append, "left over"))
        await deliverer.close(1)

    run(scenario())
    assert settled == ["no room", "delivered", "given up"]


def test_closing_gives_queued_events_their_grace_and_drops_the_rest() -> None:
    async def scenario(app: App, grace_s: float) -> tuple[Deliverer, float]:
        deliverer = Deliverer(app, lambda: "")
        for body in ("a", "b", "c"):
            deliverer.send("c1", URL, body.encode(), "E")
        await deliverer.close(grace_s)
        deliverer.send("c1", URL, b"too late", "E")
        return deliverer, now()

    done, at = run(scenario(App(Reply(503), Reply(200)), 5))
    assert (done.sent, done.dropped, at) == (3, 1, 0.5)
    cut, at = run(scenario(App(Reply(200), None), 5))
    assert (cut.sent, cut.dropped, at) == (1, 3, 5)


def test_logs_and_reports_have_no_query_string(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        _, results = deliver(App(Reply(503), Reply(404)), "a")
    assert "https://app.example/callback: HTTP 404" in caplog.text
    assert "SECRET" not in caplog.text + str(results)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@app.example:8443/a/b?c=d#e", "https://app.example:8443/a/b"),
        ("http://[::1]:80?x", "http://[::1]:80"),
        ("http://[broken", "(not a URL)"),
        ("no url?secret", "://no url"),
    ],
)
def test_without_query(url: str, shown: str) -> None:
    assert without_query(url) == shown


# ---------------------------------------------------------------------------------------------------- over HTTP

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class Endpoint:
    """An HTTP server that answers each request with fixed bytes (None: not at all) and notes what it got."""

    def __init__(self, answer: bytes | None = NO_CONTENT, *, hang_up: bool = False) -> None:
        self.answer = answer
        self.hang_up = hang_up
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    @asynccontextmanager
    async def listen(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        writers: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writers.append(writer)
            while head := await _head(reader):
                length = re.search(rb"Content-Length: (\d+)", head)
                self.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
                if self.answer is not None:
                    writer.write(self.answer)
                if self.hang_up:
                    break
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"{'https' if tls else 'http'}://localhost:{self.port}"
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            await server.wait_closed()
            await asyncio.sleep(0)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def posting(policy: AddressPolicy = OPEN, total_s: float = 30, tls: ssl.SSLContext | None = None) -> Any:
    poster = HttpPoster(policy, tls or ssl.create_default_context(), total_s)
    try:
        yield poster
    finally:
        await poster.close()


def post_to(
    endpoint: Endpoint, path: str = "/", policy: AddressPolicy = OPEN, host: str = "", total_s: float = 30
) -> Reply:
    async def scenario() -> Reply:
        async with endpoint.listen() as base, posting(policy, total_s) as post:
            url = (f"http://{host}:{endpoint.port}" if host else base) + path
            reply: Reply = await post(url, {"X-Test": "1"}, b"[{}]")
            return reply

    return asyncio.run(scenario())


@pytest.mark.sockets
def test_the_request_goes_out_exactly_as_given() -> None:
    endpoint = Endpoint()
    assert post_to(endpoint, "/a%2Fb//c/../d?code=x%20y+z&e=%E4;f") == Reply(204)
    (request,) = endpoint.requests
    assert request.startswith(b"POST /a%2Fb//c/../d?code=x%20y+z&e=%E4;f HTTP/1.1\r\n")
    assert b"\r\nX-Test: 1\r\n" in request
    assert request.endswith(b"\r\n\r\n[{}]")


@pytest.mark.sockets
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "127.1", "0x7f000001", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0"]
)
def test_loopback_is_refused_in_whatever_form(host: str) -> None:
    endpoint = Endpoint()
    with pytest.raises((Refused, ValueError)):
        post_to(endpoint, policy=STRICT, host=host)
    assert endpoint.connections == 0


@pytest.mark.sockets
def test_a_literal_address_is_refused_although_it_needs_no_resolver() -> None:
    with pytest.raises(Refused, match=r"127\.0\.0\.1 is a loopback address"):
        post_to(Endpoint(), policy=STRICT, host="127.0.0.1")


@pytest.mark.sockets
def test_a_refused_name_is_named() -> None:
    with pytest.raises(Refused, match=r"localhost is refused: .* is a loopback address"):
        post_to(Endpoint(), policy=STRICT, host="localhost")


def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    dialled: list[str] = []

    answers = ["8.8.8.8", "127.0.0.1", "127.0.0.1"]

    class Rebinding(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

        async def sock_connect(self, sock: socket.socket, address: Any) -> None:
            dialled.append(address[0])
            raise ConnectionRefusedError(111, "Connection refused")

    async def scenario() -> None:
        async with posting(STRICT) as post:
            with pytest.raises(ConnectionError):
                await post("http://rebinding.example/", {}, b"")

    with asyncio.Runner(loop_factory=Rebinding) as runner:
        runner.run(scenario())
    assert dialled == ["8.8.8.8"]


@pytest.mark.sockets
def test_redirects_are_not_followed() -> None:
    endpoint = Endpoint(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
    assert post_to(endpoint).status == 307
    assert len(endpoint.requests) == 1


@pytest.mark.sockets
def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post_to(Endpoint()).status == 204


@pytest.mark.sockets
def test_cookies_are_not_kept_and_connections_are() -> None:
    endpoint = Endpoint(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok")

    async def scenario() -> list[Reply]:
        async with endpoint.listen() as url, posting() as post:
            return [await post(url, {}, b"") for _ in range(3)]

    assert asyncio.run(scenario()) == [Reply(200, b"ok")] * 3
    assert endpoint.connections == 1
    assert not any(b"Cookie" in request for request in endpoint.requests)


@pytest.mark.sockets
def test_of_a_long_answer_only_the_beginning_is_read() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000)
    assert len(post_to(Endpoint(answer)).body) == delivery.ANSWER_LIMIT


@pytest.mark.sockets
def test_a_compressed_answer_is_not_unpacked() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    assert post_to(Endpoint(answer)).body == b"\x1f\x8b\x08\x00"


@pytest.mark.sockets
@pytest.mark.parametrize("hang_up", [True, False])
def test_a_status_counts_although_the_body_breaks_off(hang_up: bool) -> None:
    endpoint = Endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", hang_up=hang_up)
    assert post_to(endpoint, total_s=30 if hang_up else 2) == Reply(200, b"half")


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17.0),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0),
        ("9" * 50, 999_999_999.0),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("Mon, 01 Jan 2024 00:00:00 -0000", None),  # without a zone there is no telling
    ],
)
def test_retry_after_is_parsed(header: str, seconds: float | None) -> None:
    answer = f"HTTP/1.1 503 Busy\r\nRetry-After: {header}\r\nContent-Length: 0\r\n\r\n"
    assert post_to(Endpoint(answer.encode())).retry_after == seconds


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, TimeoutError),
        (b"\0 this is not HTTP\r\n\r\n", ConnectionError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", ConnectionError),
        (b"", ConnectionError),
    ],
)
def test_what_goes_wrong_is_told_without_the_query(answer: bytes | None, error: type[OSError]) -> None:
    with pytest.raises(error, match="localhost port") as caught:
        post_to(Endpoint(answer, hang_up=answer is not None), "/?code=SECRET", total_s=0.2 if answer is None else 30)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/path",
        "ftp://a.example/?SECRET",
        "http://",
        "http://[broken?SECRET",
        "http://user:pass@a.example/?SECRET",
        "http://a.example:99999/?SECRET",
        "http://a:b/?SECRET",
        "http://a..example/?SECRET",
        "http://a b.example/?SECRET",
    ],
)
def test_what_is_no_url_is_told_without_the_query(url: str) -> None:
    async def scenario() -> None:
        async with posting() as post:
            await post(url, {}, b"")

    with pytest.raises((ValueError, OSError)) as caught:
        asyncio.run(scenario())
    assert "SECRET" not in str(caught.value)


@pytest.mark.sockets
def test_a_user_in_the_url_is_told_and_does_not_replace_our_token() -> None:
    endpoint = Endpoint()
    with pytest.raises(ValueError, match="with a user and a password"):
        post_to(endpoint, host="user:pass@localhost")
    assert endpoint.connections == 0


@pytest.mark.sockets
def test_an_endpoint_over_tls_has_to_be_trusted(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path)

    async def scenario(trust: ssl.SSLContext) -> Reply:
        async with Endpoint().listen(tls.server_context(files.cert, files.key)) as url, posting(tls=trust) as post:
            reply: Reply = await post(url, {}, b"")
            return reply

    assert asyncio.run(scenario(tls.client_context([files.ca]))) == Reply(204)
    with pytest.raises(ConnectionError, match=r"certificate of localhost port .* is not trusted"):
        asyncio.run(scenario(tls.client_context([])))
