"""An app that calls somebody, plays three short tones into the call and hangs up.

    ACS_CONNECTION_STRING="endpoint=https://…;accesskey=…" python examples/outbound_app.py +15550123 --port 8082

With Offhook, `offhook phone +15550123` is the one who is called. The exit code is 0 if the call was answered.
"""

import argparse
import asyncio
import math
import os
import struct
import sys

import uvicorn
from azure.communication.callautomation import (
    AudioFormat,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    PhoneNumberIdentifier,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from offhook.bot import MediaStream, serve

RATE = 24_000
TONES_HZ = (440, 550, 660)  # half a second each


def tone(hz: int) -> bytes:
    """Half a second of a sine as 16-bit PCM."""
    samples = (round(8000 * math.sin(2 * math.pi * hz * n / RATE)) for n in range(RATE // 2))
    return b"".join(struct.pack("<h", sample) for sample in samples)


async def main() -> int:
    """Call, wait for the call's end, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("to", help="E.164 number")
    parser.add_argument("--port", type=int, default=8082, help="for callbacks")
    arguments = parser.parse_args()

    events: asyncio.Queue[str] = asyncio.Queue()

    async def callbacks(request: Request) -> Response:
        for event in await request.json():
            kind = event["type"].removeprefix("Microsoft.Communication.")
            print(kind, flush=True)
            events.put_nowait(kind)
        return Response()

    async def play(stream: MediaStream) -> None:
        for hz in TONES_HZ:
            await stream.send_audio(tone(hz))
        # All of it was sent at once and is played in real time: returning now would close the socket, and with it
        # what is queued. So stay and listen until it is over.
        await asyncio.sleep(len(TONES_HZ) / 2 + 0.5)
        await client.get_call_connection(stream.call_connection_id).hang_up(is_for_everyone=True)

    app = Starlette(routes=[Route("/api/callbacks", callbacks, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=arguments.port, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve())
    client = CallAutomationClient.from_connection_string(os.environ["ACS_CONNECTION_STRING"])
    seen = []
    async with client, await serve(play) as audio:
        await client.create_call(
            PhoneNumberIdentifier(arguments.to),
            f"http://127.0.0.1:{arguments.port}/api/callbacks",
            source_caller_id_number=PhoneNumberIdentifier("+15550100"),
            media_streaming=MediaStreamingOptions(
                transport_url=audio.url,
                transport_type=StreamingTransportType.WEBSOCKET,
                content_type=MediaStreamingContentType.AUDIO,
                audio_channel_type=MediaStreamingAudioChannelType.MIXED,
                start_media_streaming=True,
                enable_bidirectional=True,
                audio_format=AudioFormat.PCM24_K_MONO,
            ),
        )
        while "CallDisconnected" not in seen:
            seen.append(await events.get())
    server.should_exit = True
    await serving
    return 0 if "CallConnected" in seen else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
