"""A voice agent that is tested twice: `clerk` in memory, on virtual time, and the whole app beside a server.

    offhook test examples/testing/salon.yaml
    offhook test examples/testing/salon.yaml --app "python examples/testing/salon.py --port {port}"

It greets, lets itself be interrupted, and has one answer. Its voice is hibari-tts, and the official SDK answers calls.
"""

import argparse
import asyncio
import json
import os
from functools import cache

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offhook.bot import AudioData, BargeIn, DtmfData, MediaStream, SpeechEnded, SpeechStarted, serve
from offhook.testing.speech import speak

RATE = 16_000
GREETING = "Welcome to the hair salon. On which day would you like to come?"
CLOSED = "We are closed on Monday."
CALL_BACK = "Thank you. We will call you back."

words = cache(speak)


async def clerk(stream: MediaStream) -> None:
    """Runs once for each call, for as long as its audio socket is open."""
    barge_in, rate = BargeIn(), stream.metadata.sample_rate
    stream.speaker.say(words(GREETING, rate))
    async for message in stream:
        if isinstance(message, DtmfData) and message.tone == "0":
            await stream.speaker.interrupt()
            stream.speaker.say(words(CALL_BACK, rate))
        elif isinstance(message, AudioData):
            match barge_in.feed(message):
                case SpeechStarted():
                    await stream.speaker.interrupt()
                case SpeechEnded():
                    stream.speaker.say(words(CLOSED, rate))


def web_app(own_url: str, audio_url: str) -> Starlette:
    """The HTTP half: answers every call, and takes its events."""
    from azure.communication.callautomation import (
        AudioFormat,
        MediaStreamingAudioChannelType,
        MediaStreamingContentType,
        MediaStreamingOptions,
        StreamingTransportType,
    )
    from azure.communication.callautomation.aio import CallAutomationClient

    client = CallAutomationClient.from_connection_string(os.environ["ACS_CONNECTION_STRING"])
    streaming = MediaStreamingOptions(
        transport_url=audio_url,
        transport_type=StreamingTransportType.WEBSOCKET,
        content_type=MediaStreamingContentType.AUDIO,
        audio_channel_type=MediaStreamingAudioChannelType.MIXED,
        start_media_streaming=True,
        enable_bidirectional=True,
        enable_dtmf_tones=True,
        audio_format=AudioFormat.PCM16_K_MONO,
    )

    async def incoming_call(request: Request) -> Response:
        for event in await request.json():
            data = event["data"]
            if event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent":
                return JSONResponse({"validationResponse": data["validationCode"]})
            await client.answer_call(data["incomingCallContext"], f"{own_url}/api/callbacks", media_streaming=streaming)
        return Response()

    async def callbacks(request: Request) -> Response:
        for event in await request.json():
            print(event["type"].removeprefix("Microsoft.Communication."), flush=True)
        return Response()

    return Starlette(
        routes=[
            Route("/api/incomingCall", incoming_call, methods=["POST"]),
            Route("/api/callbacks", callbacks, methods=["POST"]),
        ]
    )


async def main() -> None:
    """Serve HTTP on --port and audio on a port of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    port = parser.parse_args().port
    for text in (GREETING, CLOSED, CALL_BACK):  # no caller waits for a voice to be made
        words(text, RATE)
    async with await serve(clerk) as audio:
        app = web_app(f"http://127.0.0.1:{port}", audio.url)
        print(json.dumps({"ready": True, "http": port, "ws": audio.port}), flush=True)
        await uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="warning")).serve()


if __name__ == "__main__":
    asyncio.run(main())
