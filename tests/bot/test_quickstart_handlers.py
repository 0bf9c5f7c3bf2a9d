"""The quickstart's handler as users paste it, and the same app on `offhook.bot`: the demo's caller talks to both."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

pytest.importorskip("azure.communication.callautomation")
pytest.importorskip("hibari")

from azure.communication.callautomation import CallAutomationClient
from rich.console import Console

from offhook.audio.pcm import Samples, tone, tone_level
from offhook.bot.memory import MemorySocket
from offhook.demo import script
from offhook.demo.app import web_app
from offhook.demo.timeline import Timeline
from offhook.server.app import Server
from offhook.server.config import Settings
from offhook.testing.caller import Caller
from offhook.testing.clock import run
from offhook.wire import streaming

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ["quickstart_handler", "quickstart_on_offhook_bot"]
RATE = script.RATE


@pytest.fixture(scope="module")
def words() -> script.Words:
    return script.Words.spoken()


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def program(name: str) -> AsyncIterator[int]:
    """Run an example as its docstring says; gives the port of its audio socket."""
    command = (sys.executable, str(EXAMPLES / f"{name}.py"), "--port", "0")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            ready = json.loads(await process.stdout.readline())
        yield ready["port"]
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def answering(data: Path, audio_url: str, told: list[str]) -> AsyncIterator[Caller]:
    """Run a server and the HTTP half of an app on the official SDK, which has calls streamed to `audio_url`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        own_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = Settings.load(data_dir=data, http=0, https="off", incoming=[f"{own_url}/api/incomingCall"])
        async with Server(settings) as server:
            # The SDK's parser drops one scheme.
            client = CallAutomationClient.from_connection_string(
                f"endpoint=http://{server.plain_url};accesskey={server.keys[0]}"
            )
            app = web_app(client, f"{own_url}/api/callbacks", audio_url, lambda what, **_: told.append(what))
            config = uvicorn.Config(app, lifespan="off", ws="none", log_level="warning", timeout_graceful_shutdown=1)
            http = uvicorn.Server(config)
            serving = asyncio.create_task(http.serve(sockets=[listening]))
            with client:
                assert server.plain_url is not None
                async with Caller(server.plain_url, server.keys[0]) as caller:
                    yield caller
                http.should_exit = True
                await serving


@pytest.mark.sockets
@pytest.mark.parametrize("name", NAMES)
def test_the_demos_caller_hears_both(name: str, words: script.Words, tmp_path: Path) -> None:
    told: list[str] = []

    async def main() -> script.Held:
        async with program(name) as port, answering(tmp_path, f"ws://127.0.0.1:{port}/", told) as caller:
            with Timeline(Console(file=io.StringIO())) as timeline:
                return await script.hold(caller, "+15550199", words, timeline)

    call = asyncio.run(main())
    assert {"call comes in", "call answered"} <= set(told)
    begin = np.flatnonzero(call.heard)[0]
    # In pieces: a busy machine may lose a frame between two of them.
    whistle = np.array_split(call.heard[begin : begin + round(0.6 * RATE)], 6)
    assert max(tone_level(piece, 880, RATE) for piece in whistle) == pytest.approx(-12, abs=1)
    # Its own words, from the parrot.
    pieces = np.array_split(words.question, 12)
    assert max(likeness(call.heard[begin + RATE :], piece) for piece in pieces) > 0.95


def likeness(heard: Samples, said: Samples) -> float:
    """How alike, up to 1, the most similar stretch of `heard` is."""
    heard_, said_ = heard.astype(np.float64), said.astype(np.float64)
    size = 1 << int(np.ceil(np.log2(len(heard) + len(said))))
    products = np.fft.irfft(np.fft.rfft(heard_, size) * np.conj(np.fft.rfft(said_, size)), size)
    at = int(np.argmax(products[: len(heard) - len(said)]))
    stretch = heard_[at : at + len(said)]
    return float(stretch @ said_ / np.sqrt((stretch @ stretch) * (said_ @ said_)))


# ------------------------------------------------------------------------------------------------ golden

QUIET = bytes(640)
LOUD = tone(440, 16_000, 0.02).astype("<i2").tobytes()
CALL = [QUIET] * 10 + [LOUD] * 10 + [QUIET] * 40  # of 20 ms at 16 kHz
AUDIO = re.compile(rb'{"Kind":"AudioData","AudioData":{"Data":"([A-Za-z0-9+/]+={0,2})"},"StopAudio":null}')
STOP = b'{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}'


class Websocket:
    """What the quickstart's handler uses of its socket."""

    def __init__(self, messages: list[bytes]) -> None:
        self.sent: list[bytes] = []
        self._messages = iter(messages)

    async def send(self, message: str) -> None:
        self.sent.append(message.encode())

    def __aiter__(self) -> Websocket:
        return self

    async def __anext__(self) -> str:
        for message in self._messages:
            return message.decode()
        raise StopAsyncIteration


def messages() -> list[bytes]:
    """The call as the service sends it."""
    envelope = streaming.AudioEnvelope(None)
    audio = [
        b"".join((envelope.head, streaming.timestamp(0), envelope.middle, base64.b64encode(pcm), streaming.TAIL[False]))
        for pcm in CALL
    ]
    return [streaming.audio_metadata("s", 16_000), *audio]


def test_the_quickstarts_handler_sends_what_contract_4_4_lists_for_python() -> None:
    websocket = Websocket(messages())
    asyncio.run(load("quickstart_handler").handle_client(websocket))
    whistle, stop, repeated = (re.sub(rb"(?<=[:,]) ", b"", sent) for sent in websocket.sent)  # json.dumps spaces
    assert AUDIO.fullmatch(whistle)
    assert stop == STOP
    matched = AUDIO.fullmatch(repeated)
    assert matched is not None
    assert base64.b64decode(matched[1]) == b"".join(CALL[10:20])


def test_offhook_bot_sends_the_same_byte_for_byte() -> None:
    async def main() -> list[bytes]:
        async with MemorySocket(load("quickstart_on_offhook_bot").parrot) as service:
            for message in messages():
                service.receive(message)
                await asyncio.sleep(0.02)
            await asyncio.sleep(1)
            return service.messages

    sent = run(main())
    stopped = sent.index(STOP)
    before, after = ([AUDIO.fullmatch(message) for message in part] for part in (sent[:stopped], sent[stopped + 1 :]))
    assert before
    assert None not in before + after
    assert b"".join(base64.b64decode(found[1]) for found in after if found) == b"".join(CALL[10:20])
