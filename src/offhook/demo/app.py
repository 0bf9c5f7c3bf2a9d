"""A talking app, written with the official Azure Communication Services SDK and nothing of Offhook's server.

    ACS_CONNECTION_STRING="endpoint=https://…;accesskey=…" python -m offhook.demo.app --listen 8080

It answers every incoming call, greets the caller, gives one long answer to the first thing it is asked, and falls
silent the moment it is interrupted. The answer is sent at once, far ahead of real time, as apps on a language model
do: so falling silent takes a StopAudio. Point an Event Grid subscription (or `offhook serve --incoming`) at
`/api/incomingCall`.

What happens is told on stdout, one JSON object a line: `{"ready": true, "http": PORT, "ws": PORT}`, then
`{"at": unix time, "what": …}`, where "event" carries a callback as it came. SIGTERM ends it with exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
import wave
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvicorn
from azure.communication.callautomation import (
    AudioFormat,
    CallAutomationClient,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    StreamingTransportType,
)
from azure.core.exceptions import AzureError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offhook.bot import AudioData, MediaStream, serve
from offhook.demo.turns import Turn, TurnTaker
from offhook.demo.voices import speak

HOST = "127.0.0.1"
RATE = 24_000
GREETING = "Hello, this is Offhook's demo bot. How can I help?"
ANSWER = (
    "I am glad you asked. You are talking to a small app that was written with the official software kit, "
    "and a server on this very machine carries our voices. "
    "I can talk like this for a long time, because all my words were sent ahead in one burst. "
    "But as soon as you speak, I will stop."
)

Tell = Callable[..., None]


def tell(what: str, **more: Any) -> None:
    """One line for whoever runs the app."""
    print(json.dumps({"at": time.time(), "what": what, **more}), flush=True)


class Bot:
    """The conversation. Its words are made when it is, so that a call never waits for them.

    `heard` keeps what the newest call said, as a mono WAV; it grows by 3 MB a minute, for as long as the call lasts.
    """

    def __init__(self, heard: Path | None = None, tell: Tell = tell) -> None:
        self._heard = heard
        self._tell = tell
        self._words = {text: speak(text, "bot", RATE) for text in (GREETING, ANSWER)}

    async def __call__(self, stream: MediaStream) -> None:
        """Hold one call's conversation, from its first message to the end of its audio socket."""
        rate = stream.metadata.sample_rate
        if rate != RATE:
            raise ValueError(f"the stream is {rate} Hz, and {RATE} was asked for when the call was answered")
        turns = TurnTaker(rate)
        answers = [ANSWER]
        with ExitStack() as files:
            heard = files.enter_context(wave.open(str(self._heard), "wb")) if self._heard else None
            if heard is not None:
                heard.setparams((1, 2, rate, 0, "NONE", "not compressed"))
            self._tell("stream opened", callConnectionId=stream.call_connection_id, rate=rate)
            self._say(GREETING, stream, turns)
            async for message in stream:
                if isinstance(message, AudioData):
                    pcm = message.pcm or bytes(stream.metadata.length)
                    if heard is not None:
                        heard.writeframesraw(pcm)
                    self._take(turns.hear(pcm), stream, turns, answers)
        self._tell("stream closed", callConnectionId=stream.call_connection_id)

    def _take(self, turn: Turn | None, stream: MediaStream, turns: TurnTaker, answers: list[str]) -> None:
        match turn:
            case Turn.INTERRUPTED:
                stream.stop_audio()
                turns.stop()
                self._tell("bot interrupted")
            case Turn.HEARD:
                self._tell("bot heard speech")
            case Turn.ENDED if answers:
                self._say(answers.pop(), stream, turns)

    def _say(self, text: str, stream: MediaStream, turns: TurnTaker) -> None:
        words = self._words[text]
        # Without waiting: a bot that waits for the network does not hear that it is interrupted.
        stream.send_audio_nowait(words)
        turns.say(len(words))
        self._tell("bot speaks", text=text, seconds=round(len(words) / RATE, 2))


def web_app(client: CallAutomationClient, callback_url: str, transport_url: str, tell: Tell = tell) -> Starlette:
    """The HTTP half: incoming calls from Event Grid, and the events of calls that were answered."""
    media_streaming = MediaStreamingOptions(
        transport_url=transport_url,
        transport_type=StreamingTransportType.WEBSOCKET,
        content_type=MediaStreamingContentType.AUDIO,
        audio_channel_type=MediaStreamingAudioChannelType.MIXED,
        start_media_streaming=True,
        enable_bidirectional=True,
        audio_format=AudioFormat.PCM24_K_MONO,
    )

    async def incoming_call(request: Request) -> Response:
        for event in await request.json():
            match event["eventType"]:
                case "Microsoft.EventGrid.SubscriptionValidationEvent":
                    return JSONResponse({"validationResponse": event["data"]["validationCode"]})
                case "Microsoft.Communication.IncomingCall":
                    caller = event["data"]["from"]["rawId"]
                    tell("call comes in", caller=caller)
                    try:
                        # The client is synchronous: on the event loop it would stop every other call's audio.
                        answered = await run_in_threadpool(
                            client.answer_call,
                            event["data"]["incomingCallContext"],
                            callback_url,
                            media_streaming=media_streaming,
                        )
                    except AzureError as error:  # most often the caller has given up
                        tell("call could not be answered", caller=caller, error=str(error))
                    else:
                        tell("call answered", callConnectionId=answered.call_connection_id)
        return Response()

    async def callbacks(request: Request) -> Response:
        for event in await request.json():
            tell("event", event=event)
        return Response()

    return Starlette(
        routes=[
            Route("/api/incomingCall", incoming_call, methods=["POST"]),
            Route("/api/callbacks", callbacks, methods=["POST"]),
        ]
    )


async def run(connection_string: str, listen: int, stream: int, heard: Path | None) -> None:
    """Serve HTTP and audio until SIGTERM or SIGINT."""
    client = CallAutomationClient.from_connection_string(connection_string)
    bot = await asyncio.to_thread(Bot, heard)
    async with await serve(bot, HOST, stream) as audio:
        with client, socket.create_server((HOST, listen)) as listening:
            port = listening.getsockname()[1]
            app = web_app(client, f"http://{HOST}:{port}/api/callbacks", audio.url)
            config = uvicorn.Config(app, lifespan="off", ws="none", log_level="warning", timeout_graceful_shutdown=3)
            # uvicorn ends on these by itself, and then hands them to whoever had them before: for us, that was all.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            print(json.dumps({"ready": True, "http": port, "ws": audio.port}), flush=True)
            await uvicorn.Server(config).serve(sockets=[listening])


def main() -> None:
    """Read the command line and the environment, and run."""
    parser = argparse.ArgumentParser(
        prog="python -m offhook.demo.app", description="A talking app on the official SDK."
    )
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="of HTTP; 0 picks a free one")
    parser.add_argument("--stream", type=int, default=0, metavar="PORT", help="of the audio WebSocket; 0 as above")
    parser.add_argument("--heard", type=Path, metavar="FILE.wav", help="keep what the bot heard")
    arguments = parser.parse_args()
    connection_string = os.environ.get("ACS_CONNECTION_STRING")
    if not connection_string:
        sys.exit("ACS_CONNECTION_STRING is not set: it is what `offhook keys` prints, or the Azure portal")
    asyncio.run(run(connection_string, arguments.listen, arguments.stream, arguments.heard))


if __name__ == "__main__":
    main()
