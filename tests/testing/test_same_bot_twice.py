"""One bot file, the same tests: in memory on virtual time, and as a whole app beside a running server, in real time."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("azure.communication.callautomation")
pytest.importorskip("hibari")
pytest.importorskip("pocketsphinx")

from offhook.audio.pcm import tone
from offhook.bot import serve
from offhook.bot.memory import MemorySocket
from offhook.testing.call import Call
from offhook.testing.clock import run
from offhook.testing.harness import TestCaller
from offhook.testing.scenario import Command
from offhook.testing.scenario_app import hosted
from offhook.testing.speech import speak
from offhook.wire import streaming

BOT = Path(__file__).parents[2] / "examples" / "testing" / "salon.py"
RATE = 16_000


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("salon", BOT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


salon = _load()


@pytest.fixture(
    scope="module",
    params=["in memory", pytest.param("on a server", marks=[pytest.mark.sockets, pytest.mark.timeout(240)])],
)
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What is called: the bot's handler, or the URL of a server that has the bot's app beside it."""
    if request.param == "in memory":
        yield salon.clerk
        return
    command = Command(f"{sys.executable} {BOT.name} --port {{port}}")
    with hosted(command, BOT.parent, tmp_path_factory.mktemp("logs")) as running:
        yield running.url


@pytest.fixture
def call(app: Any) -> Iterator[Call]:
    with TestCaller() as caller:
        yield caller.call(app)


def test_it_greets_and_waits(call: Call) -> None:
    call.hears_speech(within=5)
    call.hears_silence(for_=1, within=10)
    assert "salon" in call.transcript()


def test_it_answers_what_is_said(call: Call) -> None:
    call.hears_silence(for_=1, within=10)
    call.say("Do you have time on Monday?")
    call.hears("Monday", within=5)
    (latency,) = call.latency
    # What the conversation takes: 0.6 s until speech is over, and the way there and back. Not what the machine takes.
    assert latency is not None
    assert latency > 0.6


def test_it_stops_when_it_is_interrupted(call: Call) -> None:
    interruption = call.barge_in("Do you have time on Monday, please?", within=5, after=0.5)
    assert interruption.stopped_after_s is not None
    call.hears("Monday", within=5)


def test_it_takes_a_key_and_sees_the_call_end(call: Call) -> None:
    call.hears_speech(within=5)
    call.wait(1)
    call.press("0")
    call.hears("thank you", within=5)
    call.hang_up()
    events = iter([event.what for event in call.events])
    for expected in ("IncomingCall", "CallConnected", "StreamingStarted", "CallDisconnected"):
        assert expected in events


# ------------------------------------------------------------------------------------------------ golden

# Contract 4.4, the form of Python apps.
AUDIO = re.compile(rb'{"Kind":"AudioData","AudioData":{"Data":"([A-Za-z0-9+/]+={0,2})"},"StopAudio":null}')
STOP = b'{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}'
INTERRUPTION = tone(300, RATE, 0.02).astype("<i2").tobytes()
FRAMES = [bytes(640)] * 25 + [INTERRUPTION] * 10  # half a second of silence, 0.2 s of a caller


def check(sent: list[bytes]) -> None:
    """They are the greeting's beginning and one StopAudio, in the contract's bytes and no others."""
    assert sent.count(STOP) == 1
    stopped = sent.index(STOP)
    assert stopped == len(sent) - 1
    audio = [AUDIO.fullmatch(message) for message in sent[:stopped]]
    assert None not in audio
    pcm = b"".join(base64.b64decode(found[1]) for found in audio if found)
    assert len(pcm) > RATE / 2
    assert pcm == speak(salon.GREETING, RATE).astype("<i2").tobytes()[: len(pcm)]


def test_in_memory_it_sends_the_bytes_of_the_contract_and_no_others() -> None:
    async def main() -> list[bytes]:
        async with MemorySocket(salon.clerk, rate=RATE) as service:
            for frame in FRAMES:
                service.audio(frame)
                await asyncio.sleep(0.02)
            return list(service.messages)

    check(run(main()))


@pytest.mark.sockets
def test_on_a_socket_it_sends_the_bytes_of_the_contract_and_no_others() -> None:
    from websockets.asyncio.client import connect

    envelope = streaming.AudioEnvelope(None)

    async def main() -> list[bytes]:
        sent: list[bytes] = []
        async with asyncio.timeout(30), await serve(salon.clerk) as server, connect(server.url) as ws:
            await ws.send(streaming.audio_metadata("s", RATE).decode())
            for frame in FRAMES:
                parts = (envelope.head, streaming.timestamp(0), envelope.middle, base64.b64encode(frame))
                await ws.send(b"".join((*parts, streaming.TAIL[False])).decode())
                await asyncio.sleep(0.02)
            while STOP not in sent:
                message = await ws.recv()
                assert isinstance(message, str), "all are text"
                sent.append(message.encode())
        return sent

    check(asyncio.run(main()))
