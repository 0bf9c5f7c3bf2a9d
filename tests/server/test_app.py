"""The server in one piece, on real sockets on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web

from offhook.server import app as server_app
from offhook.server import tls
from offhook.server.app import Server
from offhook.server.config import ConfigError, Settings
from offhook.server.listening import SERVER_FILE, free_port
from offhook.testing.caller import Caller
from offhook.wire import auth

pytestmark = pytest.mark.sockets

OWN_KEY = "b3duIGtleSBvZiBhIHByb2R1Y3Rpb24gc2VydmVyLCBsb25nIGVub3VnaCB0byBiZSBhY2NlcHRlZA=="


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: keys and certificates are made once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_app, "GRACE_S", 0.3)


class App:
    """An app of the usual kind: an Event Grid endpoint, a callback and a media socket; it answers what comes in."""

    def __init__(self, validates: bool) -> None:
        self.server: Server
        self.url = ""
        self.callback = "/callback"  # where it wants its events: /stuck takes them and never answers
        self._validates = validates  # else somebody has to do it by hand
        self.validation_url = ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.tokens: dict[str, str] = {}  # the newest, of callbacks and of media sockets
        self.messages: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        routes = web.Application()
        routes.add_routes(
            [
                web.post("/incoming", self._incoming),
                web.post("/callback", self._on_event),
                web.post("/stuck", self._stuck),
                web.get("/audio", self._audio),
            ]
        )
        runner = web.AppRunner(routes, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def told(self, *kinds: str) -> None:
        """Wait until events of these kinds have come, in this order, whatever came in between."""

        def come() -> bool:
            names = iter(kind for kind, _ in self.events)
            return all(kind in names for kind in kinds)

        await self.until(come)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(condition)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        if request.headers["aeg-event-type"] == "SubscriptionValidation":
            self.validation_url = event["data"]["validationUrl"]
            await self._notify()
            code = event["data"]["validationCode"]
            return web.json_response({"validationResponse": code}) if self._validates else web.Response(status=500)
        options = {
            "transportType": "websocket",
            "audioChannelType": "mixed",
            "transportUrl": self.url.replace("http", "ws") + "/audio",
            "startMediaStreaming": True,
        }
        body = {
            "incomingCallContext": event["data"]["incomingCallContext"],
            "callbackUri": self.url + self.callback,
            "mediaStreamingOptions": options,
        }
        await rest(self.server, "POST", "/calling/callConnections:answer", body)
        return web.Response()

    async def _on_event(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        self.tokens["callback"] = request.headers["Authorization"].removeprefix("Bearer ")
        self.events.append((event["type"].removeprefix("Microsoft.Communication."), event["data"]))
        await self._notify()
        return web.Response()

    async def _stuck(self, request: web.Request) -> web.Response:
        self.events.append(("stuck", {}))
        await self._notify()
        await asyncio.Event().wait()
        raise AssertionError

    async def _audio(self, request: web.Request) -> web.WebSocketResponse:
        self.tokens["socket"] = request.headers["Authorization"].removeprefix("Bearer ")
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        async for message in opened:
            self.messages.append(json.loads(message.data))
            await self._notify()
        return opened


async def rest(server: Server, method: str, path: str, body: Any = None, scheme: str = "https") -> tuple[int, Any]:
    """Make a signed request; return status and JSON."""
    port = server.https if scheme == "https" else server.http
    host = f"127.0.0.1:{port}"
    content = b"" if body is None else json.dumps(body).encode()
    target = f"{path}?api-version=2025-06-15"
    headers = auth.sign(method, target, host, content, server.keys[0], formatdate(usegmt=True))
    return await get(server, f"{scheme}://{host}{target}", method, headers, content)


async def get(
    server: Server, url: str, method: str = "GET", headers: dict[str, str] | None = None, content: bytes = b""
) -> tuple[int, Any]:
    trust = tls.client_context([server.tls.ca])
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, data=content, ssl=trust) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text.startswith("{") else text


def settings(data_dir: Path, **more: Any) -> Settings:
    return Settings(**{"data_dir": data_dir, "http": 0, "https": 0, **more})


def hold(data_dir: Path, scenario: Callable[[Server, App, Caller], Awaitable[None]], validates: bool = True) -> None:
    """Run `scenario` with a server, an app that answers its calls, and somebody to call."""

    async def main() -> None:
        async with (
            App(validates).running() as app,
            Server(settings(data_dir, incoming=[f"{app.url}/incoming"])) as server,
            Caller(server.url, server.keys[0], tls.client_context([server.tls.ca])) as caller,
        ):
            app.server = server
            await scenario(server, app, caller)

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ start and end


def test_both_ports_serve_the_same(data_dir: Path) -> None:
    async def scenario() -> None:
        async with Server(settings(data_dir)) as server:
            assert server.url == f"https://127.0.0.1:{server.https}"
            for scheme, port in (("http", server.http), ("https", server.https)):
                status, body = await get(server, f"{scheme}://127.0.0.1:{port}/health")
                own = {"status": "ok", "pid": os.getpid(), "calls": 0, "workers": [{"up": True, "calls": 0}]}
                assert (status, body) == (200, own)
                status, body = await rest(server, "GET", "/calling/callConnections/none", scheme=scheme)
                assert (status, body["error"]["code"]) == (404, "8522")

    asyncio.run(scenario())


@pytest.mark.parametrize("off", ["http", "https"])
def test_a_port_may_be_off(data_dir: Path, off: str) -> None:
    async def scenario() -> None:
        async with Server(settings(data_dir, **{off: None})) as server:
            assert getattr(server, off) is None
            assert server.url.startswith("http://" if off == "https" else "https://")
            assert (await get(server, f"{server.url}/health"))[0] == 200

    asyncio.run(scenario())


def test_the_server_file_is_there_while_it_runs(data_dir: Path) -> None:
    path = data_dir / SERVER_FILE

    async def scenario() -> None:
        async with Server(settings(data_dir)) as server:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert json.loads(path.read_text()) == {
                "http": f"http://127.0.0.1:{server.http}",
                "https": f"https://127.0.0.1:{server.https}",
                "sip": None,
                "sips": None,
                "key": server.keys[0],
                "ca": str(server.tls.ca),
                "identityHeader": (data_dir / "identity-header").read_text(),
                "pid": os.getpid(),
                "reloads": 0,
                "reload": {"changed": [], "waiting": [], "problems": []},
            }

    asyncio.run(scenario())
    assert not path.exists()


@pytest.mark.parametrize("which", ["http", "https"])
def test_a_port_that_is_taken_is_said(data_dir: Path, which: str) -> None:
    async def scenario() -> None:
        async with Server(settings(data_dir)) as server:
            port = getattr(server, which)
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: "):
                async with Server(settings(data_dir, **{which: port})):
                    pass
            assert (await get(server, f"{server.url}/health"))[0] == 200, "the first one is not disturbed"
            assert (data_dir / SERVER_FILE).exists()

    asyncio.run(scenario())


def test_a_start_that_fails_gives_its_ports_back(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no listener today")

    port = free_port("127.0.0.1", socket.SOCK_STREAM)
    monkeypatch.setattr(Server, "tell_client_verbs", broken)

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="no listener today"):
            async with Server(settings(data_dir, http=port)):
                pass
        socket.create_server(("127.0.0.1", port)).close()

    asyncio.run(scenario())


def test_calls_end_with_the_server_and_apps_are_told(data_dir: Path) -> None:
    async def scenario(server: Server, app: App, caller: Caller) -> None:
        await caller.call("+15550199")
        await app.told("MediaStreamingStarted")
        await server.__aexit__()
        await app.told("MediaStreamingStarted", "MediaStreamingStopped", "CallDisconnected")

    hold(data_dir, scenario)


def test_a_server_that_drains_takes_no_new_calls(data_dir: Path) -> None:
    async def scenario(server: Server, app: App, caller: Caller) -> None:
        party = await caller.call("+15550199")
        await app.told("MediaStreamingStarted")
        draining = asyncio.create_task(server.drain())
        await asyncio.sleep(0)
        for path, body in (
            ("/offhook/calls", {"to": "+15550199"}),
            ("/offhook/phones", {"id": "somebody"}),
            ("/calling/callConnections", {"targets": [{"rawId": "4:+15550177"}], "callbackUri": app.url}),
        ):
            status, answer = await rest(server, "POST", path, body)
            assert (status, answer["error"]["code"]) == (503, "8506")
            assert "stopped" in answer["error"]["message"]
        assert await get(server, f"{server.url}/health") == (
            503,
            {"status": "draining", "pid": os.getpid(), "calls": 1, "workers": [{"up": True, "calls": 1}]},
        )
        assert party.connected
        assert not draining.done()
        await party.hang_up()
        await draining
        await app.told("MediaStreamingStarted", "CallDisconnected")

    hold(data_dir, scenario)


def test_calls_that_do_not_end_are_ended_when_the_time_to_drain_is_over(data_dir: Path) -> None:
    async def scenario() -> None:
        async with (
            App(validates=True).running() as app,
            Server(settings(data_dir, incoming=[f"{app.url}/incoming"], drain_timeout_s=0.2)) as server,
            Caller(server.url, server.keys[0], tls.client_context([server.tls.ca])) as caller,
        ):
            app.server = server
            await caller.call("+15550199")
            await app.told("MediaStreamingStarted")
            await server.drain()
            await server.__aexit__()
            await app.told("MediaStreamingStarted", "CallDisconnected")

    asyncio.run(scenario())


# ------------------------------------------------------------------------------------------------ a call


def test_a_whole_call(data_dir: Path) -> None:
    async def scenario(server: Server, app: App, caller: Caller) -> None:
        party = await caller.call("+15550199")
        await party.wait_for("connected", timeout=30)
        await app.told("CallConnected", "ParticipantsUpdated", "MediaStreamingStarted")
        await app.until(lambda: len(app.messages) > 5)
        assert [message["kind"] for message in app.messages[:2]] == ["AudioMetadata", "AudioData"]
        assert (await get(server, f"{server.url}/health"))[1]["calls"] == 1
        connection = app.events[0][1]["callConnectionId"]
        assert (await rest(server, "DELETE", f"/calling/callConnections/{connection}"))[0] == 204
        await party.wait_for("ended", timeout=30)
        await app.told("MediaStreamingStarted", "MediaStreamingStopped", "CallDisconnected")
        assert (await get(server, f"{server.url}/health"))[1]["calls"] == 0

    hold(data_dir, scenario)


def test_apps_can_verify_who_calls_them(data_dir: Path) -> None:
    async def scenario(server: Server, app: App, caller: Caller) -> None:
        await caller.call("+15550199")
        await app.told("MediaStreamingStarted")
        _, openid = await get(server, f"{server.url}/calling/.well-known/acsopenidconfiguration")
        _, jwks = await get(server, openid["jwks_uri"])
        keys = jwt.PyJWKSet.from_dict(jwks)
        for kind, life in (("callback", 300), ("socket", 24 * 3600)):
            token = app.tokens[kind]
            key = keys[jwt.get_unverified_header(token)["kid"]]
            audience = server.settings.resource
            claims = jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=openid["issuer"])
            assert claims["exp"] - claims["iat"] == life

    hold(data_dir, scenario)


@pytest.mark.usefixtures("_short_grace")
def test_an_app_whose_callback_hangs_delays_nobody(data_dir: Path) -> None:
    async def scenario(server: Server, app: App, caller: Caller) -> None:
        app.callback = "/stuck"
        first = await caller.call("+15550199", from_="+15550101")
        await app.told("stuck")
        app.callback = "/callback"
        await caller.call("+15550199", from_="+15550102")
        await app.told("stuck", "CallConnected", "ParticipantsUpdated", "MediaStreamingStarted")
        assert first.connected
        assert (await get(server, f"{server.url}/health"))[1]["calls"] == 2

    hold(data_dir, scenario)


def test_somebody_confirms_the_subscription_by_hand(data_dir: Path) -> None:
    async def scenario(server: Server, app: App, caller: Caller) -> None:
        await caller.call("+15550199")
        await app.until(lambda: bool(app.validation_url))
        status, _ = await get(server, app.validation_url.partition("?")[0] + "?code=guessed")
        assert status == 400
        assert app.events == []
        status, text = await get(server, app.validation_url)
        assert (status, "validated" in text) == (200, True)
        await app.told("CallConnected")

    hold(data_dir, scenario, validates=False)


# ------------------------------------------------------------------------------------------------ production


def production(data_dir: Path, **more: Any) -> Settings:
    made = tls.ensure(data_dir, [])
    own = {"host": "0.0.0.0", "http": None, "https": 0, "keys": [OWN_KEY], "tls_cert": made.cert, "tls_key": made.key}
    return Settings(data_dir=data_dir, **{**own, **more})


@pytest.mark.parametrize("missing", [{"keys": []}, {"tls_cert": None, "tls_key": None}, {"http": 0}])
def test_production_does_not_start_without_what_is_its_own(data_dir: Path, missing: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(missing))):
        Server(production(data_dir, **missing))


def test_production_is_closed(data_dir: Path) -> None:
    async def scenario() -> None:
        async with Server(production(data_dir)) as server:
            assert server.http is None
            for path, body in (("/offhook/calls", {"to": "+15550199"}), ("/offhook/phones", {"id": "somebody"})):
                status, answer = await rest(server, "POST", path, body)
                assert (status, answer["error"]["code"]) == (404, "8522"), "there is no caller API"
            create = {"targets": [{"rawId": "4:+15550177"}], "callbackUri": "https://127.0.0.1/callback"}
            status, answer = await rest(server, "POST", "/calling/callConnections", create)
            assert (status, answer["error"]["message"]) == (400, "callbackUri: a loopback address")
            assert (await get(server, f"https://127.0.0.1:{server.https}/health"))[0] == 200

    asyncio.run(scenario())
