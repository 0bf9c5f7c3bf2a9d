"""The browser phone in Chromium, with a fake microphone, against a running server and an echo app."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import wave
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from offhook.server.config import DEVELOPMENT_KEY
from offhook.wire import auth

if TYPE_CHECKING:
    from tests.web.conftest import Browser

HERE = Path(__file__).parent
OFFHOOK = Path(sys.executable).with_name("offhook")
APP_RATE = 16_000
UNWANTED = "4:+15550166"  # a number whose calls the app rejects
SCENARIO_TIMEOUT_S = 240


class EchoApp:
    """An app without an SDK: answers over signed REST, and sends every frame of audio back. `server` is its URL."""

    def __init__(self) -> None:
        self.server = ""
        self.heard: list[bytearray] = []  # PCM of each audio socket
        self.tones: list[str] = []
        self.subscribed = asyncio.Event()
        self._url = ""

    async def listen(self) -> web.AppRunner:
        app = web.Application()
        app.add_routes([web.post("/incoming", self._incoming), web.post("/callbacks", self._callbacks)])
        app.add_routes([web.get("/audio", self._audio)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    @property
    def incoming(self) -> str:
        return f"{self._url}/incoming"

    async def _incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        data = event["data"]
        if "validationCode" in data:
            self.subscribed.set()
            return web.json_response({"validationResponse": data["validationCode"]})
        context = {"incomingCallContext": data["incomingCallContext"]}
        if data["to"]["rawId"] == UNWANTED:
            await self._ask("reject", {**context, "callRejectReason": "none"})
        else:
            await self._ask("answer", {**context, "callbackUri": f"{self._url}/callbacks", **self._streaming()})
        return web.Response()

    def _streaming(self) -> dict[str, Any]:
        options = {
            "transportUrl": self._url.replace("http:", "ws:") + "/audio",
            "transportType": "websocket",
            "contentType": "audio",
            "audioChannelType": "mixed",
            "audioFormat": "Pcm16KMono",
            "startMediaStreaming": True,
            "enableBidirectional": True,
            "enableDtmfTones": True,
        }
        return {"mediaStreamingOptions": options}

    async def _ask(self, what: str, body: dict[str, Any]) -> None:
        path = f"/calling/callConnections:{what}?api-version=2025-06-15"
        data = json.dumps(body).encode()
        host = self.server.removeprefix("http://")
        headers = auth.sign("POST", path, host, data, DEVELOPMENT_KEY, formatdate(usegmt=True))
        headers["Content-Type"] = "application/json"
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.server + path, data=data, headers=headers) as answer,
        ):
            assert answer.ok, await answer.text()

    async def _callbacks(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _audio(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        heard = bytearray()
        self.heard.append(heard)
        async for message in socket:
            told = json.loads(message.data)
            match told["kind"]:
                case "AudioData":
                    pcm = told["audioData"]["data"]
                    heard += base64.b64decode(pcm)
                    await socket.send_json({"kind": "AudioData", "audioData": {"data": pcm}})
                case "DtmfData":
                    self.tones.append(told["dtmfData"]["data"])
        return socket


def dominant_hertz(pcm: bytearray) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum.argmax() * APP_RATE / len(samples))


def beeps(path: Path, hertz: int = 1000, rate: int = 48_000) -> Path:
    """A WAV of a beep of 0.6 s and a pause of 1 s: Chromium's fake microphone plays it over and over."""
    times = np.arange(int(0.6 * rate)) / rate
    beep = 8000 * np.sin(2 * np.pi * hertz * times)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes(np.concatenate([beep, np.zeros(rate)]).astype("<i2").tobytes())
    return path


async def play(scenario: str, browser: Browser, folder: Path) -> tuple[EchoApp, dict[str, Any]]:
    """Run a scenario against a fresh server; return the app and what the scenario printed."""
    app = EchoApp()
    runner = await app.listen()
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    options = ("--http", "0", "--https", "off", "--data-dir", folder / "data", "--incoming", app.incoming)
    server = await asyncio.create_subprocess_exec(
        OFFHOOK, "serve", *options, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(60):
            app.server = f"http://127.0.0.1:{json.loads(await server.stdout.readline())['http']}"
            await app.subscribed.wait()
        tools = {"CHROMIUM": browser.chromium, "PACKAGES": str(browser.packages)}
        person = await asyncio.create_subprocess_exec(
            *(browser.node, HERE / scenario, f"{app.server}/phone"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | tools | {"MICROPHONE": str(beeps(folder / "microphone.wav"))},
        )
        async with asyncio.timeout(SCENARIO_TIMEOUT_S):
            output, errors = await person.communicate()
    finally:
        server.terminate()
        await server.wait()
        await runner.cleanup()
    if person.returncode:
        pytest.fail(errors.decode(), pytrace=False)
    return app, json.loads(output)


@pytest.mark.sockets
@pytest.mark.timeout(300)
def test_a_person_at_the_browser_phone_and_an_echo_app_hear_each_other(browser: Browser, tmp_path: Path) -> None:
    app, seen = asyncio.run(play("phone.mjs", browser, tmp_path))
    assert seen["noise"] == []  # no error and no warning on the console
    microphone, tone = app.heard  # two calls were answered
    assert dominant_hertz(microphone) == pytest.approx(1000, abs=5)
    assert dominant_hertz(tone) == pytest.approx(440, abs=5)
    assert app.tones == ["5", "#"]


def test_the_pages_own_modules(node: str) -> None:
    tests = HERE / "modules.test.mjs"
    done = subprocess.run([node, "--test", tests], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
