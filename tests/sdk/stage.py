"""What the SDKs are played on: a running server, an app's endpoints, and the parties that call and are called.

The server is `offhook serve`, and the app knows of it what `offhook env` and `offhook keys` print. The endpoints belong
to an `Act`: the events that one app is sent, its audio sockets, the files it plays, and the people it talks to.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile
from aiohttp import WSMsgType, web

from offhook.testing.caller import Caller, Party

OFFHOOK = Path(sys.executable).with_name("offhook")
PATIENCE_S = 30.0  # for anything that an act waits for; nothing takes a tenth of it on an idle machine
RATE = 24_000  # of all parties, in Hz
VOICE_FRAMES = 25  # half a second, without a silent frame in it
TONE_S, TONE_HZ, TONE_RATE = 0.3, 440, 16_000  # of the file that is played
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
    """One app: where it is found, what its endpoints were sent, and who it talks to."""

    url: str
    number: str  # the app's own, E.164
    voice: bytes  # what its callers say: noise, another one in each act
    caller_api: Caller
    incoming: list[dict[str, Any]] = field(default_factory=list)  # IncomingCall events not taken yet
    callbacks: list[dict[str, Any]] = field(default_factory=list)  # events, as they came
    untaken: list[dict[str, Any]] = field(default_factory=list)  # events not taken yet
    sockets: list[Socket] = field(default_factory=list)
    parties: dict[str, Party] = field(default_factory=dict)
    calls: list[Party] = field(default_factory=list)  # every caller there was
    _answering: list[asyncio.Task[None]] = field(default_factory=list)

    async def call(self) -> dict[str, Any]:
        """Have `caller` call the app; return the IncomingCall that this brings."""
        caller = await self.caller_api.call(self.number, rate=RATE)
        self.parties["caller"] = caller
        self.calls.append(caller)
        return await until(lambda: self.incoming.pop() if self.incoming else None)

    async def phone(self, name: str, address: str, habit: str) -> None:
        """Let a phone wait for calls. Its `habit`, when it rings: answer, decline, or let it ring."""
        self.parties[name] = phone = await self.caller_api.phone(address, RATE)
        act: Mapping[str, Callable[[], Any]] = {"answers": phone.answer, "declines": phone.decline}
        if habit in act:
            self._answering.append(asyncio.create_task(_each_ring(phone, act[habit])))

    async def close(self) -> None:
        """Let everyone leave."""
        for task in self._answering:
            task.cancel()
        for party in {*self.parties.values(), *self.calls}:
            await party.close()

    def kinds(self) -> list[str]:
        """The callbacks' events, in the order in which they came."""
        return [kind(event) for event in self.callbacks]


async def _each_ring(phone: Party, act: Callable[[], Any]) -> None:
    while await phone.wait_for("ringing") == "ringing":
        await act()
        await phone.wait_for("waiting")


def kind(event: Mapping[str, Any]) -> str:
    """Return the name of a callback's event, without prefix."""
    return str(event["type"]).rpartition(".")[2]


class Stage:
    """`async with Stage(data_dir)`: a server that tells this stage of its calls, and the endpoints of all acts."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.environment: dict[str, str] = {}  # what an app's process needs to be told
        self.http = ""  # base URL of the server
        self._acts: dict[str, Act] = {}
        self._stack = AsyncExitStack()
        self._tone = _tone()

    def act(self, name: str) -> Act:
        """Begin an act: calls to its number, and requests below its URL, belong to it."""
        number = len(self._acts)
        noise = np.random.default_rng(number).integers(-8000, 8000, VOICE_FRAMES * RATE // 50)
        act = Act(f"{self._url}/{name}", f"+155501{number:03}", noise.astype("<i2").tobytes(), self._caller)
        self._acts[name] = act
        return act

    def log(self) -> str:
        """The end of what the server has logged."""
        return (self.data_dir / "serve.log").read_text("utf-8")[-3000:]

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
            OFFHOOK, "serve", *options, stdout=subprocess.PIPE, stderr=log, env=without_proxies()
        )
        self._stack.push_async_callback(_end, server)
        assert server.stdout is not None
        async with asyncio.timeout(60):
            line = await server.stdout.readline()
        assert line, self.log()
        self.http = f"http://127.0.0.1:{json.loads(line)['http']}"
        keys, env = await asyncio.gather(_output("keys", "--json", *self._data_dir), _output("env", *self._data_dir))
        connection_string = json.loads(keys)["https"]
        exports = (word.partition("=") for word in shlex.split(env, comments=True) if word != "export")
        self.environment = {"ACS_CONNECTION_STRING": connection_string, **{name: value for name, _, value in exports}}
        key = connection_string.partition("accesskey=")[2]
        self._caller = await self._stack.enter_async_context(Caller(self.http, key))

    @property
    def _data_dir(self) -> tuple[str, str]:
        return "--data-dir", str(self.data_dir)

    async def _open(self) -> str:
        app = web.Application(client_max_size=1 << 24)
        app.add_routes(
            [
                web.post("/incoming", self._incoming),
                web.post("/{act}/callbacks", self._callback),
                web.get("/{act}/audio", self._audio),
                web.get("/{act}/forbidden", self._forbidden),
                web.get("/{act}/tone.wav", self._sound),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    # ------------------------------------------------------------------------------------- the apps' endpoints

    async def _incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        data = event["data"]
        if event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent":
            return web.json_response({"validationResponse": data["validationCode"]})
        assert event["eventType"] == "Microsoft.Communication.IncomingCall"
        (act,) = (act for act in self._acts.values() if data["to"]["rawId"] == f"4:{act.number}")
        act.incoming.append(data)
        return web.Response()

    async def _callback(self, request: web.Request) -> web.Response:
        act = self._acts[request.match_info["act"]]
        (event,) = await request.json()  # one a POST: JavaScript's parser reads only the first
        act.callbacks.append(event)
        act.untaken.append(event)
        return web.Response()

    async def _audio(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        mine = Socket(request.headers["x-ms-call-connection-id"], socket)
        self._acts[request.match_info["act"]].sockets.append(mine)
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            mine.messages.append(message.data)
        return socket

    async def _forbidden(self, request: web.Request) -> web.Response:
        raise web.HTTPForbidden

    async def _sound(self, request: web.Request) -> web.Response:
        return web.Response(body=self._tone, content_type="audio/wav")


async def until(probe: Callable[[], T | None]) -> T:
    """Return what `probe` returns once that is not false; raise TimeoutError after PATIENCE_S.

    It polls, because what is waited for lies with parties, sockets and endpoints that have no event in common.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not (found := probe()):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
    return found


def without_proxies() -> dict[str, str]:
    """The environment, less what would send a request to this machine elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def _tone() -> bytes:
    """A WAV file of the kind that ACS wants: 16 kHz, 16 bit, mono."""
    wave = 8000 * np.sin(2 * np.pi * TONE_HZ * np.arange(int(TONE_S * TONE_RATE)) / TONE_RATE)
    file = io.BytesIO()
    soundfile.write(file, wave.astype(np.int16), TONE_RATE, format="WAV")
    return file.getvalue()


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(OFFHOOK, *command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, command
    return output.decode()


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.wait()
