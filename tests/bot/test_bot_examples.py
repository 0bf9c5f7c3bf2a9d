"""The examples of the WebSocket side, each as a user would run it."""

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from offhook.audio.pcm import tone
from offhook.bot.memory import MemorySocket
from offhook.testing import clock
from offhook.wire import streaming

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 16_000
FRAMES = [bytes([number]) * 640 for number in range(1, 6)]


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


async def echoed(url: str) -> bytes:
    """Call as the service does, say some frames, and return what comes back."""
    from websockets.asyncio.client import connect

    envelope = streaming.AudioEnvelope(None)
    heard = b""
    async with asyncio.timeout(60), connect(url, open_timeout=None) as ws:  # it may listen and not run yet
        await ws.send(streaming.audio_metadata("s", RATE).decode())
        for frame in FRAMES:
            data = streaming.audio_data_out(frame).split(b'"Data":"')[1].partition(b'"')[0]
            message = (envelope.head, streaming.timestamp(0), envelope.middle, data, streaming.TAIL[0])
            await ws.send(b"".join(message).decode())
            read = streaming.parse(await ws.recv())
            assert isinstance(read, streaming.Audio)
            heard += read.pcm
    return heard


@pytest.mark.sockets
@pytest.mark.parametrize("name", ["bot_echo", "bot_websockets", "bot_by_hand"])
def test_an_echo_answers(name: str) -> None:
    with running(sys.executable, str(EXAMPLES / f"{name}.py"), "--port", "0") as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        assert asyncio.run(echoed(f"ws://127.0.0.1:{port}/")) == b"".join(FRAMES)


@pytest.mark.sockets
@pytest.mark.skipif(os.name == "nt", reason="a listening socket is handed over")
@pytest.mark.parametrize("name", ["bot_fastapi_before", "bot_fastapi"])
def test_the_fastapi_app_answers_before_and_after(name: str) -> None:
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "--app-dir",
            str(EXAMPLES),
            f"{name}:app",
            "--ws",
            "websockets-sansio",
        ]
        command += ["--fd", str(listening.fileno())]
        os.set_inheritable(listening.fileno(), True)
        with subprocess.Popen(command, close_fds=False, stderr=subprocess.DEVNULL) as process:
            try:
                url = f"ws://127.0.0.1:{listening.getsockname()[1]}/audio"
                assert asyncio.run(echoed(url)) == b"".join(FRAMES)
            finally:
                process.terminate()


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_talker_is_interrupted_and_begins_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "greeting.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, 24_000, 0, "NONE", "not compressed"))
        wav.writeframes(tone(440, 24_000, 3.0).astype("<i2").tobytes())
    voice = tone(220, RATE, 0.02).astype("<i2").tobytes()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with MemorySocket(load("bot_barge_in").talker(path.read_bytes()), rate=RATE) as service:

            async def say(frame: bytes, seconds: float) -> None:
                ends = loop.time() + seconds
                while loop.time() < ends - 0.01:
                    service.audio(frame)
                    await asyncio.sleep(0.02)

            await say(bytes(640), 1.0)
            await say(voice, 1.0)
            assert service.stops == 1
            heard = len(service.heard)
            await say(bytes(640), 1.0)
            assert len(service.heard) > heard

    clock.run(main())
    told = capsys.readouterr().out
    assert "interrupted: 10" in told  # about 1080 ms after it began
    assert "(about)" in told
