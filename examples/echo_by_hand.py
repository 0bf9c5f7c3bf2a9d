"""The echo app once more, without `offhook.bot`: the audio WebSocket spoken by hand, HTTP and audio on one port.

    ACS_CONNECTION_STRING="endpoint=https://…;accesskey=…" python examples/echo_by_hand.py --port 8080

The messages are described in docs/wire.md.
"""

import argparse
import json
import os

from aiohttp import WSMsgType, web
from azure.communication.callautomation import (
    AudioFormat,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient


async def audio(request: web.Request) -> web.WebSocketResponse:
    """One connection of one call: its audio comes in, and goes back as it is."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        said = json.loads(message.data)
        match said["kind"]:
            case "AudioMetadata":
                print("rate", said["audioMetadata"]["sampleRate"], flush=True)
            case "AudioData":
                pcm = said["audioData"]["data"]  # base64 of 20 ms of 16-bit PCM
                await socket.send_json({"kind": "AudioData", "audioData": {"data": pcm}})
    return socket


def web_app(client: CallAutomationClient, port: int) -> web.Application:
    """Incoming calls, callbacks and audio."""
    streaming = MediaStreamingOptions(
        transport_url=f"ws://127.0.0.1:{port}/audio",
        transport_type=StreamingTransportType.WEBSOCKET,
        content_type=MediaStreamingContentType.AUDIO,
        audio_channel_type=MediaStreamingAudioChannelType.MIXED,
        start_media_streaming=True,
        enable_bidirectional=True,
        audio_format=AudioFormat.PCM24_K_MONO,
    )

    async def incoming_call(request: web.Request) -> web.Response:
        for event in await request.json():
            data = event["data"]
            if event["eventType"] == "Microsoft.EventGrid.SubscriptionValidationEvent":
                return web.json_response({"validationResponse": data["validationCode"]})
            callback = f"http://127.0.0.1:{port}/api/callbacks"
            await client.answer_call(data["incomingCallContext"], callback, media_streaming=streaming)
        return web.Response()

    async def callbacks(request: web.Request) -> web.Response:
        for event in await request.json():
            print(event["type"].removeprefix("Microsoft.Communication."), flush=True)
        return web.Response()

    app = web.Application()
    app.router.add_post("/api/incomingCall", incoming_call)
    app.router.add_post("/api/callbacks", callbacks)
    app.router.add_get("/audio", audio)
    return app


def main() -> None:
    """Serve everything on --port."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    port = parser.parse_args().port

    async def make() -> web.Application:
        client = CallAutomationClient.from_connection_string(os.environ["ACS_CONNECTION_STRING"])
        app = web_app(client, port)

        async def ready(_: web.Application) -> None:
            print(json.dumps({"ready": True, "http": port, "ws": port}), flush=True)

        async def close(_: web.Application) -> None:
            await client.close()

        app.on_startup.append(ready)
        app.on_cleanup.append(close)
        return app

    web.run_app(make(), host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main()
