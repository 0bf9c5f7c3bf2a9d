"""A server of several processes, some of which are killed: counts of what is lost and what is told, on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from offhook.audio import pcm
from offhook.legs.sip.locate import Target
from offhook.legs.sip.uri import parse_uri
from offhook.server import options_probe, processes, supervisor
from offhook.server.config import DEVELOPMENT_KEY, Settings
from offhook.server.supervisor import RESTARTS, Supervisor
from offhook.testing.caller import Caller, CallerError, Party
from offhook.wire import auth, streaming

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has the media in one process"),
]

RATE = 16_000
FRAME = RATE // 50  # samples


def numbered(frames: int) -> bytes:
    """PCM whose n-th frame of 20 ms has the value n in all its samples, from 1 on."""
    return np.repeat(np.arange(1, frames + 1), FRAME).astype("<i2").tobytes()


class App:
    """An app that answers what comes in, and keeps what it is told and hears by callConnectionId."""

    def __init__(self) -> None:
        self.server: Supervisor | Serve
        self.url = ""
        self.events: dict[str, list[str]] = {}
        self.heard: dict[str, list[int]] = {}  # numbers of the frames that are not silent
        self.cut: set[str] = set()  # whose audio socket is closed
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        routes = web.Application()
        routes.add_routes(
            [web.post("/incoming", self._incoming), web.post("/callback", self._event), web.get("/audio", self._audio)]
        )
        runner = web.AppRunner(routes, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.session = aiohttp.ClientSession()
        try:
            yield self
        finally:
            await self.session.close()
            await runner.cleanup()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(condition)

    async def rest(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Make a signed request over http; return status and JSON."""
        host = f"127.0.0.1:{self.server.http}"
        content = b"" if body is None else json.dumps(body).encode()
        headers = auth.sign(method, path, host, content, self.server.keys[0], formatdate(usegmt=True))
        async with self.session.request(method, f"http://{host}{path}", headers=headers, data=content) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        if request.headers["aeg-event-type"] == "SubscriptionValidation":
            return web.json_response({"validationResponse": event["data"]["validationCode"]})
        options = {
            "transportType": "websocket",
            "audioChannelType": "mixed",
            "transportUrl": self.url.replace("http", "ws") + "/audio",
            "startMediaStreaming": True,
        }
        body = {
            "incomingCallContext": event["data"]["incomingCallContext"],
            "callbackUri": self.url + "/callback",
            "mediaStreamingOptions": options,
        }
        await self.rest("POST", "/calling/callConnections:answer?api-version=2025-06-15", body)
        return web.Response()

    async def _event(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        kind = event["type"].removeprefix("Microsoft.Communication.")
        self.events.setdefault(event["data"]["callConnectionId"], []).append(kind)
        await self._notify()
        return web.Response()

    async def _audio(self, request: web.Request) -> web.WebSocketResponse:
        heard = self.heard.setdefault(request.headers["x-ms-call-connection-id"], [])
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        async for message in opened:
            parsed = streaming.parse_from_server(message.data.encode())
            if isinstance(parsed, streaming.AudioData) and (number := int.from_bytes(parsed.pcm[:2], "little")):
                heard.append(number)
                await self._notify()
        self.cut.add(request.headers["x-ms-call-connection-id"])
        await self._notify()
        return opened


def hold(data_dir: Path, scenario: Callable[[Supervisor, App, Caller], Awaitable[None]], **more: Any) -> None:
    """Run `scenario` with a server of two media workers, an app that answers its calls, and somebody to call.

    Both workers are there: the server does not wait for the second one as long as for the first.
    """

    async def main() -> None:
        async with App().running() as app:
            given = {"data_dir": data_dir, "http": 0, "https": None, "workers": 2, "incoming": [f"{app.url}/incoming"]}
            async with (
                Supervisor(Settings(**{**given, **more})) as server,
                Caller(server.url, server.keys[0]) as caller,
            ):
                app.server = server
                await until_health(app, lambda told: told["status"] == "ok")
                await scenario(server, app, caller)

    asyncio.run(main())


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: keys and certificates are made once."""
    return tmp_path_factory.mktemp("data")


async def health(app: App) -> Any:
    return (await app.rest("GET", "/health"))[1]


async def until_health(app: App, condition: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as it should be."""
    async with asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientError):
                if condition(told := await health(app)):
                    return told
            await asyncio.sleep(0.05)


async def place(caller: Caller, app: App, count: int) -> list[Party]:
    """Let `count` callers be answered and streamed."""
    streams = len(app.heard)
    parties = [await caller.call("+15550199", from_=f"+1555010{number:04}", rate=RATE) for number in range(count)]
    for party in parties:
        await party.wait_for("connected", timeout=60)
    await app.until(lambda: sum("MediaStreamingStarted" in kinds for kinds in app.events.values()) == streams + count)
    return parties


def test_a_killed_worker_takes_only_its_own_calls_along(data_dir: Path) -> None:
    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        parties = await place(caller, app, 10)
        for party in parties:
            await party.say(numbered(200))
        told = await health(app)
        assert [worker["calls"] for worker in told["workers"]] == [5, 5], "by load"
        killed = server.workers[0].pid
        assert told["workers"][0]["pid"] == killed
        await asyncio.sleep(1)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await app.until(lambda: sum("CallDisconnected" in kinds for kinds in app.events.values()) == 5)
        async with asyncio.timeout(60):
            while sum(party.ended for party in parties) < 5:  # noqa: ASYNC110 - their sockets may close after the link
                await asyncio.sleep(0.02)
        survivors = [party for party in parties if not party.ended]
        assert len(survivors) == 5
        for party in survivors:
            await party.played(timeout=60)
        await app.until(lambda: sum(heard[-1:] == [200] for heard in app.heard.values()) == 5)
        await asyncio.sleep(0.5)
        ends = Counter(kinds.count("CallDisconnected") for kinds in app.events.values())
        assert ends == {0: 5, 1: 5}, "one each of the killed worker's, none of the other's"
        assert all(kinds[-1] == "CallDisconnected" for kinds in app.events.values() if "CallDisconnected" in kinds)
        alive = [app.heard[id] for id, kinds in app.events.items() if "CallDisconnected" not in kinds]
        assert alive == [list(range(1, 201))] * 5, "no frame is lost, doubled or out of order"

        told = await until_health(app, lambda told: told["status"] == "ok")
        assert told["workers"][0]["pid"] not in (killed, None)
        assert [worker["restarts"] for worker in told["workers"]] == [1, 0]
        await place(caller, app, 2)
        told = await health(app)
        assert [worker["calls"] for worker in told["workers"]] == [2, 5], "new calls go where there are fewer"

    hold(data_dir, scenario)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that does not wait for ten beats."""
    monkeypatch.setattr(processes, "MISSED_BEATS", 4)


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_hangs_is_killed_and_ends_as_one_that_died(data_dir: Path) -> None:
    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        await place(caller, app, 4)
        hung = server.workers[0].pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        await app.until(lambda: sum("CallDisconnected" in kinds for kinds in app.events.values()) == 2)
        told = await until_health(app, lambda told: told["status"] == "ok")
        assert told["workers"][0]["pid"] not in (hung, None)
        assert [(worker["restarts"], worker["calls"]) for worker in told["workers"]] == [(1, 0), (0, 2)]

    hold(data_dir, scenario)


@pytest.mark.usefixtures("impatient")
def test_after_a_control_process_that_hangs_the_next_one_goes_on(data_dir: Path) -> None:
    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        await place(caller, app, 2)
        hung = server.control.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        await until_health(
            app, lambda told: told["pid"] != hung and sum(worker["calls"] for worker in told["workers"]) == 2
        )
        assert server.control.pid not in (hung, None)
        assert [worker.slot.restarts for worker in server.workers] == [0, 0]
        for connection in list(app.events):
            path = f"/calling/callConnections/{connection}:terminate?api-version=2025-06-15"
            assert (await app.rest("POST", path))[0] == 204
        await app.until(lambda: all("CallDisconnected" in kinds for kinds in app.events.values()))

    hold(data_dir, scenario)


def test_calls_that_lost_control_and_their_worker_at_once_are_gone_and_the_others_are_not(data_dir: Path) -> None:
    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        await place(caller, app, 4)
        killed = (server.control.pid, server.workers[0].pid)
        for pid in killed:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        await app.until(lambda: len(app.cut) == 2)
        told = await until_health(
            app, lambda told: told["status"] == "ok" and all("pid" in each for each in told["workers"])
        )
        assert told["workers"][0]["pid"] != killed[1]
        assert [worker["calls"] for worker in told["workers"]] == [0, 2]
        path = "/calling/callConnections/{}?api-version=2025-06-15"
        found = {connection: (await app.rest("GET", path.format(connection)))[0] for connection in app.events}
        assert sorted(found.values()) == [200, 200, 404, 404]
        assert {connection for connection, status in found.items() if status == 404} == app.cut
        assert not any("CallDisconnected" in kinds for kinds in app.events.values())
        await place(caller, app, 1)

    hold(data_dir, scenario)


def test_a_phone_comes_to_the_worker_that_has_the_call(data_dir: Path) -> None:
    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        phones = [await caller.phone(number, rate=RATE) for number in ("+15550177", "+15550188")]
        before = [phone.socket for phone in phones]
        targets = [{"rawId": "4:+15550177"}, {"rawId": "4:+15550188"}]
        body = {"targets": targets, "callbackUri": f"{app.url}/callback"}
        assert (await app.rest("POST", "/calling/callConnections?api-version=2025-06-15", body))[0] == 201
        for phone in phones:
            await phone.wait_for("ringing", timeout=60)
        assert [phone.socket is socket for phone, socket in zip(phones, before, strict=True)] == [True, False]
        assert [worker["calls"] for worker in (await health(app))["workers"]] == [1, 0]
        for phone in phones:
            await phone.answer()
            await phone.wait_for("connected", timeout=60)
        await phones[1].say(np.full(50 * FRAME, 1000, "<i2"))
        await phones[1].played(timeout=60)
        await phones[0].wait_for_frames(phones[0].frames_heard + 10, timeout=60)
        assert any(b"\xe8\x03" in frame for frame in phones[0].frames), "they hear each other"
        await phones[1].hang_up()
        await phones[1].wait_for("waiting", timeout=60)

    hold(data_dir, scenario)


def test_a_phone_is_moved_to_a_call_of_the_other_worker(data_dir: Path) -> None:
    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        numbers = ("+15550177", "+15550188", "+15550166")
        phones = [await caller.phone(number, rate=RATE) for number in numbers]  # at workers 0, 1, 0
        connections = []
        for called in (phones[:1], phones[1:2]):
            targets = [{"rawId": phone.raw_id} for phone in called]
            body = {"targets": targets, "callbackUri": f"{app.url}/callback"}
            _, created = await app.rest("POST", "/calling/callConnections?api-version=2026-03-12", body)
            connections.append(created["callConnectionId"])
            for phone in called:
                await phone.wait_for("ringing", timeout=60)
                await phone.answer()
                await phone.wait_for("connected", timeout=60)
        assert [worker["calls"] for worker in (await health(app))["workers"]] == [1, 1]
        body = {"targetParticipants": [{"rawId": phones[1].raw_id}], "fromCall": connections[1]}
        path = f"/calling/callConnections/{connections[0]}/participants:moveHere?api-version=2026-03-12"
        assert (await app.rest("POST", path, body))[0] == 202
        await app.until(lambda: "MoveParticipantSucceeded" in app.events.get(connections[0], ()))
        tones = (440.0, 560.0)
        for phone, hz in zip(phones, tones, strict=False):
            await phone.say(pcm.tone(hz, RATE, 30))
        await until_heard(phones[0], tones[1], but=tones[0])
        await until_heard(phones[1], tones[0], but=tones[1])
        await phones[0].hang_up()
        await app.rest("DELETE", f"/calling/callConnections/{connections[0]}?api-version=2026-03-12")
        await phones[1].wait_for("waiting", timeout=60)
        await app.until(lambda: "CallDisconnected" in app.events[connections[0]])

    hold(data_dir, scenario)


async def until_heard(phone: Party, hz: float, but: float) -> None:
    """Wait for half a second of a tone at its level, and nothing of the other one: a worker that is held up leaves
    frames out."""
    async with asyncio.timeout(60):
        while True:
            await phone.wait_for_frames(phone.frames_heard + 25)
            heard = pcm.as_samples(phone.heard[-25 * 2 * FRAME :])
            if abs(pcm.tone_level(heard, hz, RATE) + 12) < 1 and pcm.tone_level(heard, but, RATE) < -60:
                return


def test_a_worker_that_dies_again_and_again_is_given_up(data_dir: Path) -> None:
    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        for deaths in range(1, RESTARTS + 2):
            pid = server.workers[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            last = deaths > RESTARTS
            await until_health(app, partial(_came_back, pid, last))
        told = await health(app)
        assert told["status"] == "degraded"
        assert told["workers"][0] == {"up": False, "calls": 0, "pid": None, "restarts": RESTARTS, "parked": True}
        await place(caller, app, 3)
        assert [worker["calls"] for worker in (await health(app))["workers"]] == [0, 3], "the node serves on"
        assert not server.ended.is_set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "WITHIN_S", 120.0)  # on a slow machine a start takes its time
        hold(data_dir, scenario)


def _came_back(pid: int, parked: bool, told: Any) -> bool:
    """Whether the first worker is there as another process than `pid`, or `parked`."""
    worker = told["workers"][0]
    return bool(worker["parked"]) if parked else worker["up"] and worker["pid"] != pid


def test_a_server_without_any_worker_left_ends(data_dir: Path) -> None:
    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        pid = server.workers[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until_health(app, partial(_came_back, pid, False))
        assert server.workers[0].pid is not None
        os.kill(server.workers[0].pid, signal.SIGKILL)
        await asyncio.wait_for(server.ended.wait(), 60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "RESTARTS", 1)
        patch.setattr(supervisor, "WITHIN_S", 120.0)
        hold(data_dir, scenario, workers=1)


# ------------------------------------------------------------------------------------------------ the end


class Serve:
    """`offhook serve`, told of an app that answers its calls; the `server` of that app."""

    def __init__(self, data_dir: Path, app: App, workers: int) -> None:
        self._command = [sys.executable, "-m", "offhook", "serve", "--data-dir", str(data_dir)]
        self._command += ["--workers", str(workers)]
        self._command += ["--http", "0", "--https", "off", "--incoming", f"{app.url}/incoming"]
        self.keys = [DEVELOPMENT_KEY]
        self.http = 0

    async def __aenter__(self) -> Serve:
        self.process = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.PIPE)
        assert self.process.stdout is not None
        self.http = json.loads(await self.process.stdout.readline())["http"]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


def hold_command(data_dir: Path, scenario: Callable[[Serve, App, Caller], Awaitable[None]], workers: int = 2) -> None:
    """As `hold`, with the supervisor in a process of its own, as people start it."""

    async def main() -> None:
        async with (
            App().running() as app,
            Serve(data_dir, app, workers) as server,
            Caller(f"http://127.0.0.1:{server.http}", DEVELOPMENT_KEY) as caller,
        ):
            app.server = server
            await until_health(app, lambda told: told["status"] == "ok")
            await scenario(server, app, caller)

    asyncio.run(main())


def ended(app: App) -> list[bool]:
    """Of each connection, whether it has been told of its end, once and last."""
    return [kinds.count("CallDisconnected") == 1 and kinds[-1] == "CallDisconnected" for kinds in app.events.values()]


@pytest.mark.parametrize("workers", [0, 2])
def test_sigterm_lets_calls_go_on_and_the_last_one_ends_the_server(data_dir: Path, workers: int) -> None:
    async def scenario(server: Serve, app: App, caller: Caller) -> None:
        parties = await place(caller, app, 3)
        server.process.send_signal(signal.SIGTERM)
        await until_health(app, lambda told: told["status"] == "draining")
        with pytest.raises(CallerError, match="503: This server is being stopped"):
            await caller.call("+15550199")
        for party in parties:
            await party.say(numbered(50))
            await party.played(timeout=60)
        await app.until(lambda: list(app.heard.values()) == [list(range(1, 51))] * 3)
        for party in parties:
            assert server.process.returncode is None
            await party.hang_up()
        assert await asyncio.wait_for(server.process.wait(), 60) == 0
        await app.until(lambda: ended(app) == [True] * 3)

    hold_command(data_dir, scenario, workers)


@pytest.mark.parametrize("signals", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT]])
def test_a_second_sigterm_or_sigint_ends_calls_with_their_events(data_dir: Path, signals: list[int]) -> None:
    async def scenario(server: Serve, app: App, caller: Caller) -> None:
        await place(caller, app, 3)
        for number in signals[:-1]:
            server.process.send_signal(number)
            await until_health(app, lambda told: told["status"] == "draining")  # Two that wait count as one.
        server.process.send_signal(signals[-1])
        assert await asyncio.wait_for(server.process.wait(), 60) == 0
        await app.until(lambda: ended(app) == [True] * 3)

    hold_command(data_dir, scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_outlives_a_killed_supervisor(data_dir: Path) -> None:
    async def scenario(server: Serve, app: App, caller: Caller) -> None:
        await place(caller, app, 3)
        pids = children(server.process.pid)
        assert {worker["pid"] for worker in (await health(app))["workers"]} < pids
        server.process.kill()
        await app.until(lambda: ended(app) == [True] * 3)
        async with asyncio.timeout(60):
            while any(map(runs, pids)):  # noqa: ASYNC110  they are none of our children
                await asyncio.sleep(0.05)

    hold_command(data_dir, scenario)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def runs(pid: int) -> bool:
    """Whether there is such a process (one that nobody has waited for yet does not count)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_new_control_process_has_the_sip_ports_of_the_one_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options_probe, "PATIENCE_S", 30.0)

    async def scenario(server: Supervisor, app: App, caller: Caller) -> None:
        ready = server.ready()
        assert ready["sip"] > 0
        assert ready["sips"] > 0
        before = server.control.pid
        assert before is not None
        assert await options(ready["sip"]) == 200
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(60):
            while not (server.control.ready and server.control.pid != before):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.05)
        assert server.ready() == ready
        assert await options(ready["sip"]) == 200

    async def options(port: int) -> int:
        uri, target = parse_uri(f"sip:127.0.0.1:{port};transport=tcp"), Target("tcp", "127.0.0.1", port)
        return await options_probe.ask(uri, target, ssl.create_default_context())

    trunk = {"name": "here", "allow": ["127.0.0.0/8"]}
    hold(tmp_path, scenario, sip={"port": 0, "tls_port": 0}, trunk=[trunk], workers=1)
