"""The app's side of a call's audio: serve the WebSocket, hear the call, speak into it.

    from offhook.bot import AudioData, MediaStream, serve

    async def handler(stream: MediaStream) -> None:
        async for message in stream:
            if isinstance(message, AudioData):
                await stream.send_audio(message.pcm)

    server = await serve(handler, port=8080)

It works with Offhook and with Azure Communication Services alike; nothing of Offhook's server is needed to use it.
"""

from offhook.bot.server import Handler, Server, serve
from offhook.bot.stream import MediaStream, Message, StreamClosed
from offhook.wire.streaming import AudioData, AudioMetadata, DtmfData

__all__ = [
    "AudioData",
    "AudioMetadata",
    "DtmfData",
    "Handler",
    "MediaStream",
    "Message",
    "Server",
    "StreamClosed",
    "serve",
]
