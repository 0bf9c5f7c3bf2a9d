"""The app's side of a call's audio: serve the WebSocket, hear the call, speak into it.

    from offhook.bot import AudioData, MediaStream, serve

    async def handler(stream: MediaStream) -> None:
        async for message in stream:
            if isinstance(message, AudioData):
                await stream.send_audio(message.pcm)

    server = await serve(handler, port=8080)

It works with Offhook and with Azure Communication Services alike; nothing of Offhook's server is needed to use it.
`offhook.bot.adapters` runs the same handler under `websockets`, Starlette and FastAPI, `offhook.bot.memory` without a
socket; `offhook.bot.auth` checks who calls.
"""

from offhook.bot.barge_in import BargeIn, EnergyActivity, SileroActivity, SpeechEnded, SpeechStarted, VoiceActivity
from offhook.bot.connection import Handler
from offhook.bot.errors import StreamClosed
from offhook.bot.messages import Message, OutStreamingData, StreamingData
from offhook.bot.server import Server, serve
from offhook.bot.speaker import Speaker, Utterance
from offhook.bot.stream import MediaStream
from offhook.wire.streaming import (
    AudioData,
    AudioMetadata,
    Dialect,
    DtmfData,
    HeardData,
    Ignored,
    MarkData,
    TranscribedWord,
    TranscriptionData,
    TranscriptionMetadata,
)

__all__ = [
    "AudioData",
    "AudioMetadata",
    "BargeIn",
    "Dialect",
    "DtmfData",
    "EnergyActivity",
    "Handler",
    "HeardData",
    "Ignored",
    "MarkData",
    "MediaStream",
    "Message",
    "OutStreamingData",
    "Server",
    "SileroActivity",
    "Speaker",
    "SpeechEnded",
    "SpeechStarted",
    "StreamClosed",
    "StreamingData",
    "TranscribedWord",
    "TranscriptionData",
    "TranscriptionMetadata",
    "Utterance",
    "VoiceActivity",
    "serve",
]
