"""What the SDK scenarios play on: a running server, the app's endpoints, and the parties that call and are called.

A scenario (`scenario.py`, `js/scenario.mjs`) is the app's own code: a process of its own, with the environment that
`offhook env` and `offhook keys` print, that knows Offhook only through an official SDK. The rest is the `Stage`, which
it asks over HTTP for what happens around it: "a caller calls", "the caller speaks", "which event came".
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from aiohttp import WSMsgType, web
from anyio.from_thread import start_blocking_portal

from offhook.testing.caller import Caller, Party

HERE = Path(__file__).parent
SDK = HERE.parent.parent / ".sdk"
OFFHOOK = Path(sys.executable).with_name("offhook")
PATIENCE_S = 15.0  # for anything that a scenario waits for; nothing takes a tenth of it
SCENARIO_TIMEOUT_S = 120
RATE = 24_000
VOICE_FRAMES = 25  # half a second, without a silent frame in it
POLL_S = 0.01

T = TypeVar("T")


@dataclass
class Socket:
    """One audio WebSocket that the server opened to the app."""

    connection: str  # call connection id, of the upgrade headers
    socket: web.WebSocketResponse
    messages: list[str] = field(default_factory=list)


@dataclass
class Act:
    """One scenario: its app's number, what its endpoints were sent, and who plays in it."""

    url: str
    number: str
    phone_number: str
    voice: bytes  # what its callers say: noise, another one in each act
    incoming: list[dict[str, Any]] = field(default_factory=list)  # IncomingCall events not taken by the scenario yet
    callbacks: list[str] = field(default_factory=list)  # bodies, as they came
    untaken: list[dict[str, Any]] = field(default_factory=list)  # events the scenario has not asked for yet
    sockets: list[Socket] = field(default_factory=list)
    callers: list[Party] = field(default_factory=list)
    phone: Party | None = None

    def kinds(self) -> list[str]:
        """The callbacks' events, in the order in which they came."""
        return [json.loads(body)[0]["type"].rpartition(".")[2] for body in self.callbacks]


class Stage:
    """`async with Stage(data_dir)`: a server that tells this stage of its calls, and the stage around it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.environment: dict[str, str] = {}  # what a scenario's process needs to be told
        self._acts: dict[str, Act] = {}
        self._stack = AsyncExitStack()

    def act(self, name: str) -> Act:
        """Begin an act: calls to its number, and requests below its URL, belong to it."""
        number = len(self._acts)
        noise = np.random.default_rng(number).integers(-8000, 8000, VOICE_FRAMES * RATE // 50)
        act = Act(f"{self._url}/{name}", f"+1555010{number:02}", f"+1555020{number:02}", noise.astype("<i2").tobytes())
        self._acts[name] = act
        return act

    async def __aenter__(self) -> Stage:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._url = await self._open()
        log = self._stack.enter_context((self.data_dir / "serve.log").open("wb"))
        options = ("--http", "0", "--https", "0", "--incoming", f"{self._url}/incoming", *self._data_dir)
        server = await asyncio.create_subprocess_exec(
            OFFHOOK, "serve", *options, stdout=subprocess.PIPE, stderr=log, env=_without_proxies()
        )
        self._stack.push_async_callback(_end, server)
        assert server.stdout is not None
        async with asyncio.timeout(60):
            line = await server.stdout.readline()
        assert line, (self.data_dir / "serve.log").read_text()
        ready = json.loads(line)
        keys, env = await asyncio.gather(_output("keys", "--json", *self._data_dir), _output("env", *self._data_dir))
        connection_string = json.loads(keys)["https"]
        exports = (word.partition("=") for word in shlex.split(env, comments=True) if word != "export")
        self.environment = {"ACS_CONNECTION_STRING": connection_string, **{name: value for name, _, value in exports}}
        key = connection_string.partition("accesskey=")[2]
        self._caller = await self._stack.enter_async_context(Caller(f"http://127.0.0.1:{ready['http']}", key))

    @property
    def _data_dir(self) -> tuple[str, str]:
        return "--data-dir", str(self.data_dir)

    async def _open(self) -> str:
        app = web.Application(middlewares=[_in_time], client_max_size=1 << 24)
        app.add_routes(
            [
                web.post("/incoming", self._incoming),
                *(
                    web.route(method, f"/{{act}}/{name}", self._within(handler))
                    for method, name, handler in (
                        ("POST", "callbacks", self._callback),
                        ("GET", "audio", self._audio),
                        ("POST", "call", self._call),
                        ("POST", "phone", self._phone),
                        ("POST", "speak", self._speak),
                        ("POST", "send", self._send),
                        ("POST", "hangup", self._hang_up),
                        ("GET", "heard", self._heard),
                        ("GET", "party", self._party),
                        ("GET", "event", self._event),
                        ("GET", "callbacks", self._callbacks),
                        ("GET", "sockets", self._sockets),
                    )
                ),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    def _within(self, handler: Any) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            answer = await handler(request, self._acts[request.match_info["act"]])
            return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

        return handle

    # ------------------------------------------------------------------------------------- the app's own endpoints

    async def _incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        data = event["data"]
        if event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent":
            return web.json_response({"validationResponse": data["validationCode"]})
        assert event["eventType"] == "Microsoft.Communication.IncomingCall"
        (act,) = (act for act in self._acts.values() if data["to"]["rawId"] == f"4:{act.number}")
        act.incoming.append(data)
        return web.Response()

    async def _callback(self, request: web.Request, act: Act) -> web.Response:
        body = await request.text()
        act.callbacks.append(body)
        act.untaken += json.loads(body)
        return web.Response()

    async def _audio(self, request: web.Request, act: Act) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        mine = Socket(request.headers["x-ms-call-connection-id"], socket)
        act.sockets.append(mine)
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            mine.messages.append(message.data)
        return socket

    # ------------------------------------------------------------------------------------- what a scenario asks for

    async def _call(self, request: web.Request, act: Act) -> Any:
        """A caller calls the app; the answer is the IncomingCall that this brought."""
        act.callers.append(await self._caller.call(act.number, rate=RATE))
        return await _until(lambda: act.incoming.pop() if act.incoming else None)

    async def _phone(self, request: web.Request, act: Act) -> Any:
        """A phone waits for calls, and answers them."""
        assert act.phone is None
        act.phone = phone = await self._caller.phone(act.phone_number, RATE)

        async def answer() -> None:
            while await phone.wait_for("ringing") == "ringing":
                await phone.answer()
                await phone.wait_for("waiting")

        answering = asyncio.create_task(answer())
        self._stack.callback(answering.cancel)
        return act.phone_number

    async def _speak(self, request: web.Request, act: Act) -> Any:
        """The caller says something; the answer comes when the app has been sent all of it."""
        await act.callers[-1].say(act.voice)
        await act.callers[-1].played(PATIENCE_S)
        messages = act.sockets[-1].messages
        enough = len(messages) + 10
        await _until(lambda: len(messages) >= enough)
        return None

    async def _send(self, request: web.Request, act: Act) -> Any:
        """The app sends this text on its newest audio socket."""
        await act.sockets[-1].socket.send_str(await request.text())
        return None

    async def _hang_up(self, request: web.Request, act: Act) -> Any:
        await act.callers[-1].hang_up()
        return None

    async def _heard(self, request: web.Request, act: Act) -> Any:
        """Wait until the caller hears its own voice, any `sound` now, or `silence`: for 200 ms."""
        caller = act.callers[-1]
        heard: Callable[[], bool] = {
            "voice": lambda: act.voice in caller.heard,
            "sound": lambda: any(caller.frames[-1]),
            "silence": lambda: not any(map(any, list(caller.frames)[-10:])),
        }[request.query["what"]]
        await _until(heard)
        return caller.frames_heard

    async def _party(self, request: web.Request, act: Act) -> Any:
        """Wait until the caller, or the phone, is in this state; the answer is the reason that it was told."""
        party = act.phone if request.query["who"] == "phone" else act.callers[-1]
        assert party is not None
        await party.wait_for(request.query["state"], timeout=PATIENCE_S)
        assert party.state == request.query["state"], party.states
        return party.states[-1].reason

    async def _event(self, request: web.Request, act: Act) -> Any:
        """Wait for an event of this type on this connection; each is handed out once."""
        kind, connection = f"Microsoft.Communication.{request.query['type']}", request.query["connection"]

        def take() -> dict[str, Any] | None:
            for event in act.untaken:
                if event["type"] == kind and event["data"]["callConnectionId"] == connection:
                    act.untaken.remove(event)
                    return event
            return None

        return await _until(take)

    async def _callbacks(self, request: web.Request, act: Act) -> Any:
        return act.callbacks

    async def _sockets(self, request: web.Request, act: Act) -> Any:
        """Wait for so many audio sockets with a message on them; the answer is all they brought so far."""
        count = int(request.query["count"])
        await _until(lambda: len(act.sockets) >= count and act.sockets[count - 1].messages)
        return [{"callConnectionId": each.connection, "messages": each.messages} for each in act.sockets]


async def _until(probe: Callable[[], T | None]) -> T:
    """Return what `probe` returns once that is not false; raise TimeoutError after PATIENCE_S.

    It polls, because what is waited for lies with parties, sockets and endpoints that have no event in common.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not (found := probe()):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
    return found


@web.middleware
async def _in_time(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except TimeoutError:
        raise web.HTTPGatewayTimeout(text=f"waited {PATIENCE_S:g} s in vain for {request.path_qs}") from None
    return answer


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(OFFHOOK, *command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, command
    return output.decode()


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.wait()


def _without_proxies() -> dict[str, str]:
    """The environment, less what would send a request to this machine elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


# ---------------------------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server and one stage for all scenarios."""
    with start_blocking_portal() as portal:
        stage = Stage(tmp_path_factory.mktemp("sdk"))
        with portal.wrap_async_context_manager(stage):
            yield stage


@pytest.fixture(scope="session")
def sdk() -> Callable[[str], Path]:
    """The folder of an official SDK by its name in `install.py`, installed if need be.

    Without it the test skips, or with OFFHOOK_REQUIRE_PEERS=1 fails.
    """

    @cache  # what cannot be fetched is not tried again for each test
    def missing(name: str) -> str:
        done = subprocess.run([sys.executable, HERE / "install.py", name], capture_output=True, text=True, check=False)
        if name == "js" and shutil.which("node") is None:
            return "node is not installed: the official JavaScript SDKs are NOT TESTED"
        return "" if (SDK / name).is_dir() else done.stderr.strip()

    def folder(name: str) -> Path:
        if reason := missing(name):
            (pytest.fail if os.environ.get("OFFHOOK_REQUIRE_PEERS") == "1" else pytest.skip)(reason)
        return SDK / name

    return folder


Play = Callable[..., Act]


@pytest.fixture
def play(stage: Stage, request: pytest.FixtureRequest) -> Play:
    """Run a scenario to its end as a process of its own; return its act. A scenario that fails is a test that fails."""

    def run(command: list[str | Path], **variables: str) -> Act:
        name = request.node.name.replace("[", "-").rstrip("]")
        act = stage.act(name)
        environment = _without_proxies() | stage.environment | {"STAGE": act.url} | variables
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SCENARIO_TIMEOUT_S, check=False
        )
        if done.returncode:
            log = (stage.data_dir / "serve.log").read_text("utf-8")
            pytest.fail(f"{done.stdout}{done.stderr}\ncallbacks: {act.kinds()}\nserver: …{log[-2000:]}", pytrace=False)
        return act

    return run
