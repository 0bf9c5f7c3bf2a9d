"""Heard truth on a running server: what an app is told was heard is what the caller's recording holds, within 20 ms.

All is compared by positions in the audio, so that a busy machine changes when things happen, but not what is true.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import WSMsgType, web

pytest.importorskip("azure.communication.callautomation")

from azure.communication.callautomation import (
    AudioFormat,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient

from offhook.audio.pcm import Samples, as_samples
from offhook.bot import AudioData, HeardData, MediaStream, OutStreamingData, StreamingData, serve
from offhook.server.app import Server
from offhook.server.config import Settings
from offhook.testing.caller import Caller, Party

RATE = 24_000
SECONDS = 3.0  # of each utterance, sent at once
LEVELS = (1000, 2000, 4000)  # the caller's recording tells by them which utterance a sample belongs to
LISTENED = (25, 60, 41)  # frames that the app hears before it stops each
TOLERANCE_MS = 20

pytestmark = pytest.mark.sockets


def utterance(level: int) -> Samples:
    """Noise of one sign: no sample of it is 0, nor within reach of another level."""
    noise = np.random.default_rng(level).integers(-100, 100, round(SECONDS * RATE))
    return (level + noise).astype(np.int16)


def recorded_ms(party: Party, level: int) -> float:
    """How much of an utterance is in what the caller heard."""
    heard = as_samples(party.heard).astype(int)
    return float(np.count_nonzero(np.abs(heard - level) <= 100) * 1000 / RATE)


@asynccontextmanager
async def called(data: Path, audio_url: str) -> AsyncIterator[Party]:
    """A caller who is connected to an app on the official SDK that has its calls streamed to `audio_url`."""
    streaming = MediaStreamingOptions(
        transport_url=audio_url,
        transport_type=StreamingTransportType.WEBSOCKET,
        content_type=MediaStreamingContentType.AUDIO,
        audio_channel_type=MediaStreamingAudioChannelType.MIXED,
        start_media_streaming=True,
        enable_bidirectional=True,
        audio_format=AudioFormat.PCM24_K_MONO,
    )
    client: CallAutomationClient

    async def incoming(request: web.Request) -> web.Response:
        (event,) = await request.json()
        if "validationCode" in event["data"]:
            return web.json_response({"validationResponse": event["data"]["validationCode"]})
        context = event["data"]["incomingCallContext"]
        await client.answer_call(context, str(request.url.with_path("/callbacks")), media_streaming=streaming)
        return web.Response()

    async def callbacks(request: web.Request) -> web.Response:
        return web.Response()

    async with listening({"/incoming": incoming, "/callbacks": callbacks}) as url:
        settings = Settings.load(data_dir=data, http=0, https="off", incoming=[f"{url}/incoming"])
        async with Server(settings) as server:
            assert server.plain_url is not None
            # The SDK's parser drops one scheme.
            secret = f"endpoint=http://{server.plain_url};accesskey={server.keys[0]}"
            client = CallAutomationClient.from_connection_string(secret)
            async with client, Caller(server.plain_url, server.keys[0]) as caller:
                party = await caller.call("+15550199", rate=RATE)
                assert await party.wait_for("connected", "ended", timeout=30) == "connected"
                yield party


@asynccontextmanager
async def listening(routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]) -> AsyncIterator[str]:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until(done: asyncio.Future[Any]) -> Any:
    async with asyncio.timeout(60):
        return await done


def test_heard_ms_on_the_wire_is_what_the_caller_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        told: asyncio.Future[list[HeardData]] = asyncio.get_running_loop().create_future()

        async def audio(request: web.Request) -> web.WebSocketResponse:
            """Say something, listen, stop; thrice."""
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            answers: list[HeardData] = []
            listened = 0
            await socket.send_str(OutStreamingData.audio(utterance(LEVELS[0]).tobytes()))
            async for message in socket:
                assert message.type is WSMsgType.TEXT
                match StreamingData.parse(message.data):
                    case AudioData():
                        listened += 1
                        if len(answers) < len(LEVELS) and listened == LISTENED[len(answers)]:
                            await socket.send_str(OutStreamingData.stop_audio())
                    case HeardData() as answer:
                        answers.append(answer)
                        listened = 0
                        if len(answers) == len(LEVELS):
                            told.set_result(answers)
                        else:
                            await socket.send_str(OutStreamingData.audio(utterance(LEVELS[len(answers)]).tobytes()))
            return socket

        async with (
            listening({"/audio": audio}) as url,
            called(tmp_path, f"{url.replace('http', 'ws')}/audio?offhook-heard=1") as party,
        ):
            answers = await until(told)
            await party.wait_for_frames(party.frames_heard + 10, timeout=30)
        before_ms = 0.0
        for level, answer in zip(LEVELS, answers, strict=True):
            heard_ms, before_ms = answer.heard_ms - before_ms, answer.heard_ms
            assert 0 < heard_ms < SECONDS * 1000
            assert heard_ms == pytest.approx(recorded_ms(party, level), abs=TOLERANCE_MS)
            assert heard_ms + answer.flushed_ms == pytest.approx(SECONDS * 1000, abs=0.1)

    asyncio.run(main())


def test_a_speaker_that_was_interrupted_knows_what_the_caller_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offhook.bot.speaker.ANSWER_S", 30.0)  # else a busy machine may have it estimated

    async def main() -> None:
        told: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()

        async def talker(stream: MediaStream) -> None:
            played = []
            for level, frames in zip(LEVELS, LISTENED, strict=True):
                said = stream.speaker.say(utterance(level))
                for _ in range(frames):
                    await anext(stream)
                await stream.speaker.interrupt()
                assert stream.speaker.exact
                played.append(said.played_ms)
            told.set_result(played)
            async for _ in stream:
                pass

        async with (
            await serve(talker) as bot,
            called(tmp_path, f"{bot.url}?offhook-heard=1") as party,
        ):
            played = await until(told)
            await party.wait_for_frames(party.frames_heard + 10, timeout=30)
        for level, played_ms in zip(LEVELS, played, strict=True):
            assert 0 < played_ms < SECONDS * 1000
            assert played_ms == pytest.approx(recorded_ms(party, level), abs=TOLERANCE_MS)

    asyncio.run(main())
