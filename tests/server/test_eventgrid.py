from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping

import pytest

from offhook.media.egress import Refused
from offhook.server import eventgrid
from offhook.server.delivery import Reply
from offhook.server.eventgrid import Endpoints, EndpointStatus
from offhook.testing.clock import run

URL = "http://app.example/incoming?code=SECRET"
SHOWN = "http://app.example/incoming"


class App:
    """An endpoint in memory: up from `up_at` on, answering notifications with `statuses` in turn (0: not at all)."""

    def __init__(self, up_at: float = 0, *statuses: int, validation: Reply | None = None) -> None:
        self.up_at = up_at
        self.statuses = list(statuses) or [200]
        self.validation = validation
        self.validations: list[float] = []
        self.notifications: list[tuple[float, bytes]] = []
        self.asked: dict[str, str] = {}

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        now = round(asyncio.get_running_loop().time(), 3)
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        if headers["aeg-event-type"] == "SubscriptionValidation":
            self.validations.append(now)
            self.asked = json.loads(body)
            if now < self.up_at:
                raise ConnectionRefusedError("connection refused")
            return self.validation or Reply(200, json.dumps({"validationResponse": self.asked["code"]}).encode())
        assert headers["aeg-event-type"] == "Notification"
        self.notifications.append((now, body))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if not status:
            await asyncio.Event().wait()
        return Reply(status)

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.notifications]


def make(*apps: App) -> Endpoints:
    """Endpoints at http://app.example/0, /1, …; a single one is at URL."""
    urls = [URL] if len(apps) == 1 else [f"http://app.example/{number}" for number in range(len(apps))]
    by_url = dict(zip(urls, apps, strict=True))

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        return await by_url[url](url, headers, body)

    return Endpoints(
        urls, post, "https://server.example/", lambda code, url: json.dumps({"code": code, "url": url}).encode()
    )


def offer(app: App, *, after: float = 0, ring_s: float = 60, seconds: float = 200) -> EndpointStatus:
    """Start, offer one call after a while, wait; return the endpoint's status."""

    async def scenario() -> EndpointStatus:
        endpoints = make(app)
        endpoints.start()
        await asyncio.sleep(after)
        endpoints.offer(endpoints._endpoints, b"call", ring_s)
        await asyncio.sleep(seconds)
        await endpoints.close()
        return endpoints.status()[0]

    return run(scenario())


def test_an_endpoint_that_is_there_is_validated_and_told() -> None:
    app = App()
    assert offer(app) == EndpointStatus(SHOWN, True, None)
    assert app.validations == [0]
    assert app.notifications == [(0, b"call")]
    assert app.asked["url"] == f"https://server.example/eventgrid/validate?code={app.asked['code']}"


def test_the_handshake_is_tried_until_the_app_is_up() -> None:
    app = App(up_at=100)
    offer(app, after=150)
    assert app.validations == [0, 0.5, 1.5, 3.5, 8.5, *[18.5 + 10 * n for n in range(10)]]
    assert app.times == [150]


def test_a_call_makes_the_handshake_hurry() -> None:
    app = App(up_at=20)
    offer(app, after=19)
    assert app.validations == [0, 0.5, 1.5, 3.5, 8.5, 18.5, 19, 19.5, 20.5]
    assert app.times == [20.5]


def test_no_notification_without_validation() -> None:
    app = App(up_at=1000)
    status = offer(app)
    assert app.notifications == []
    assert status == EndpointStatus(SHOWN, False, "not validated: connection refused")


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200),
        Reply(200, b'{"validationResponse": "wrong"}'),
        Reply(200, b"[]"),
        Reply(200, b"\xff"),
        Reply(404),
    ],
)
def test_only_200_with_the_right_code_is_a_proof(answer: Reply) -> None:
    app = App(validation=answer)
    status = offer(app)
    assert not status.valid
    assert status.error
    assert app.notifications == []
    assert len(app.validations) > 10


def test_202_is_no_proof_even_with_the_right_code() -> None:
    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        return Reply(202, json.dumps({"validationResponse": body.decode()}).encode())

    async def scenario() -> str | None:
        endpoints = Endpoints([URL], post, "http://server.example", lambda code, url: code.encode())
        endpoints.start()
        await asyncio.sleep(1)
        await endpoints.close()
        return endpoints.status()[0].error

    assert run(scenario()) == "not validated: HTTP 202 instead of 200"


def test_the_validation_url_completes_the_handshake() -> None:
    app = App(up_at=1000)

    async def scenario() -> None:
        endpoints = make(app)
        endpoints.start()
        await asyncio.sleep(30)
        assert not endpoints.confirm("some other code")
        assert not endpoints.status()[0].valid
        assert endpoints.confirm(app.asked["code"])
        assert endpoints.confirm(app.asked["code"])
        assert endpoints.status()[0] == EndpointStatus(SHOWN, True, None)
        tries = len(app.validations)
        endpoints.offer(endpoints._endpoints, b"call", 60)
        await asyncio.sleep(100)
        assert len(app.validations) == tries
        assert app.times == [30]
        await endpoints.close()

    run(scenario())


def test_the_code_stays_the_same_so_that_a_copied_url_stays_good() -> None:
    app = App(up_at=1000)

    async def scenario() -> None:
        endpoints = make(app)
        endpoints.start()
        await asyncio.sleep(0)
        first = app.asked["code"]
        await asyncio.sleep(100)
        assert app.asked["code"] == first
        await endpoints.close()

    run(scenario())


@pytest.mark.parametrize("status", [200, 201, 202, 203, 204])
def test_200_to_204_is_success(status: int) -> None:
    app = App(0, status)
    offer(app)
    assert app.times == [0]


@pytest.mark.parametrize("status", [205, 302, 400, 404, 500])
def test_anything_else_is_tried_again_within_the_ring_time(status: int) -> None:
    app = App(0, status)
    assert offer(app, ring_s=60).error == f"HTTP {status}"
    assert app.times == [0, 1, 3, 8, 18, 28, 38, 48, 58]


def test_a_notification_that_passes_in_the_end_clears_the_error() -> None:
    app = App(0, 500, 0, 200)
    assert offer(app).error is None
    assert app.times == [0, 1, 13]  # the second one hung for 10 s, then came 2 s of waiting


def test_nothing_is_sent_after_the_ring_time() -> None:
    app = App(up_at=40)
    offer(app, ring_s=30)
    assert app.notifications == []
    hung = App(0, 0)
    offer(hung, ring_s=15)
    assert hung.times == [0, 11]


def test_one_hung_endpoint_delays_no_other() -> None:
    hung, fine = App(0, 0), App()

    async def scenario() -> None:
        endpoints = make(hung, fine)
        endpoints.start()
        for call in (b"1", b"2"):
            endpoints.offer([f"http://app.example/{number}" for number in range(2)], call, 60)
        await asyncio.sleep(0.1)
        assert fine.notifications == [(0, b"1"), (0, b"2")]
        await endpoints.close()

    run(scenario())


def test_an_incoming_call_is_settled_when_no_endpoint_is_to_be_told_any_more() -> None:
    settled: list[float] = []

    async def scenario() -> None:
        endpoints = make(App(), App(up_at=5), App(up_at=1000))
        endpoints.start()
        for ring_s in (8.0, 20.0):
            endpoints.offer(
                endpoints._endpoints, b"call", ring_s, lambda: settled.append(asyncio.get_running_loop().time())
            )
        await asyncio.sleep(10)
        await endpoints.close()

    run(scenario())
    assert settled == [8], "the last one stops with the ringing; that the server stops settles nothing"


def test_a_validation_that_hangs_is_cut_off() -> None:
    tries: list[float] = []

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        tries.append(asyncio.get_running_loop().time())
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> None:
        endpoints = Endpoints([URL], post, "http://server.example", lambda code, url: b"")
        endpoints.start()
        await asyncio.sleep(40)
        assert endpoints.status()[0].error == "not validated: no answer within 30 s"
        await endpoints.close()

    run(scenario())
    assert tries == [0, 30.5]


def test_notifications_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventgrid, "PENDING", 3)
    app = App(up_at=5)

    async def scenario() -> None:
        endpoints = make(app)
        endpoints.start()
        for number in range(5):
            endpoints.offer([URL], str(number).encode(), 60)
        assert endpoints.status()[0].error == "3 notifications wait for it, dropped one more"
        await asyncio.sleep(30)
        assert [body for _, body in app.notifications] == [b"0", b"1", b"2"]
        endpoints.offer([URL], b"again", 60)
        await asyncio.sleep(1)
        assert app.notifications[-1][1] == b"again"
        await endpoints.close()

    run(scenario())


def test_closing_leaves_no_task() -> None:
    async def scenario() -> None:
        endpoints = make(App(0, 0), App(up_at=1000))
        endpoints.start()
        endpoints.offer(endpoints._endpoints, b"call", 60)
        await asyncio.sleep(1)
        await endpoints.close()
        assert len(asyncio.all_tasks()) == 1  # this one

    run(scenario())


def test_a_refused_endpoint_says_why() -> None:
    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        raise Refused("app.example is refused: 10.0.0.1 is a private address")

    async def scenario() -> str | None:
        endpoints = Endpoints([URL], post, "http://server.example", lambda code, url: b"")
        endpoints.start()
        await asyncio.sleep(1)
        await endpoints.close()
        return endpoints.status()[0].error

    assert run(scenario()) == "not validated: app.example is refused: 10.0.0.1 is a private address"


def test_logs_say_a_thing_once_and_without_the_query(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        offer(App(up_at=100), seconds=300)
    assert caplog.text.count("connection refused") == 1
    assert f"{SHOWN} takes incoming calls" in caplog.text
    assert "SECRET" not in caplog.text


def test_endpoints_can_be_replaced_while_calls_ring() -> None:
    stays, goes, comes = App(), App(0, 503), App()
    apps = {"http://app.example/stays": stays, "http://app.example/goes": goes, "http://app.example/comes": comes}

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        return await apps[url](url, headers, body)

    async def scenario() -> None:
        first, second, third = apps
        endpoints = Endpoints([first, second], post, "", lambda code, url: json.dumps({"code": code}).encode())
        endpoints.start()
        await asyncio.sleep(1)
        endpoints.offer([first, second], b"before", 10)
        await asyncio.sleep(0)
        endpoints.use([third, first])
        await asyncio.sleep(1)
        endpoints.offer([first, second, third], b"after", 10)
        await asyncio.sleep(20)
        assert [body for _, body in stays.notifications] == [b"before", b"after"]
        assert stays.validations == [0]
        assert {body for _, body in goes.notifications} == {b"before"}
        assert len(goes.notifications) > 1  # It is asked again as long as that call rings.
        assert [body for _, body in comes.notifications] == [b"after"]
        await endpoints.close()

    run(scenario())


def test_a_handshake_with_an_endpoint_that_is_taken_away_stops() -> None:
    app = App(up_at=1000)

    async def scenario() -> None:
        endpoints = make(app)
        endpoints.start()
        await asyncio.sleep(1)
        endpoints.use([])
        await asyncio.sleep(100)
        await endpoints.close()

    run(scenario())
    assert max(app.validations) < 1
