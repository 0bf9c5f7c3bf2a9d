"""The app of the run `bot`: an echo on `offhook.bot`, as a quickstart writes it, or bare, in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Literal

import msgspec

from offhook.audio.frames import silence
from offhook.bench.frames import HOST

RATE = 24_000  # of all streams

Kind = Literal["floor", "offhook", "quickstart"]


class Job(msgspec.Struct, frozen=True):
    kind: Kind


class Where(msgspec.Struct, frozen=True):
    """Where the app listens for WebSockets."""

    pid: int
    port: int


def play(job: Job) -> None:
    """Print `Where` as one line of JSON, then echo until killed."""
    asyncio.run({"floor": _floor, "offhook": _offhook, "quickstart": _quickstart}[job.kind]())


async def _floor() -> None:
    """A socket of the same kind that sends one ready message for each that comes, and looks into none."""
    import picows

    from offhook.wire.streaming import audio_data_out

    reply = audio_data_out(silence(RATE))

    class Echo(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type is picows.WSMsgType.TEXT:
                if frame.payload_size > len(reply):  # not AudioMetadata
                    transport.send(picows.WSMsgType.TEXT, reply)
            elif frame.msg_type is picows.WSMsgType.CLOSE:
                transport.send_close(picows.WSCloseCode.OK)
                transport.disconnect()

    server = await picows.ws_create_server(lambda _: Echo(), HOST, 0)
    await _stay(server.sockets[0].getsockname()[1])


async def _offhook() -> None:
    from offhook.bot import serve
    from offhook.bot.apps import echo

    await _stay((await serve(echo, HOST)).port)


async def _quickstart() -> None:
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as serve_websockets

    async def echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            data = json.loads(message)
            if data["kind"] == "AudioData":
                pcm = base64.b64decode(data["audioData"]["data"])
                reply = {"kind": "AudioData", "audioData": {"data": base64.b64encode(pcm).decode()}}
                await websocket.send(json.dumps(reply))

    async with serve_websockets(echo, HOST, 0) as server:
        await _stay(next(iter(server.sockets)).getsockname()[1])


async def _stay(port: int) -> None:
    print(msgspec.json.encode(Where(os.getpid(), port)).decode(), flush=True)
    await asyncio.Event().wait()
