"""An app that answers every call and echoes the caller: the official SDK for the call, `offhook.bot` for its audio.

    ACS_CONNECTION_STRING="endpoint=https://…;accesskey=…" python examples/echo_app.py --port 8080

Let Event Grid (or `offhook serve --incoming`) post incoming calls to `http://127.0.0.1:8080/api/incomingCall`.
"""

import argparse
import asyncio
import json
import os

import uvicorn
from azure.communication.callautomation import (
    AudioFormat,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offhook.bot import AudioData, MediaStream, serve


async def echo(stream: MediaStream) -> None:
    """Runs once for each call, for as long as its audio socket is open."""
    async for message in stream:
        if isinstance(message, AudioData):
            await stream.send_audio(message.pcm)


def web_app(client: CallAutomationClient, own_url: str, audio_url: str) -> Starlette:
    """The HTTP half: incoming calls, and the events of the calls that were answered."""
    streaming = MediaStreamingOptions(
        transport_url=audio_url,
        transport_type=StreamingTransportType.WEBSOCKET,
        content_type=MediaStreamingContentType.AUDIO,
        audio_channel_type=MediaStreamingAudioChannelType.MIXED,
        start_media_streaming=True,
        enable_bidirectional=True,
        audio_format=AudioFormat.PCM24_K_MONO,
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
    client = CallAutomationClient.from_connection_string(os.environ["ACS_CONNECTION_STRING"])
    async with client, await serve(echo) as audio:
        app = web_app(client, f"http://127.0.0.1:{port}", audio.url)
        server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="warning"))
        print(json.dumps({"ready": True, "http": port, "ws": audio.port}), flush=True)
        await server.serve()


if __name__ == "__main__":
    asyncio.run(main())
