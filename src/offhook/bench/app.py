"""The app of a run, in a process of its own: sends every frame of audio back, at the least cost that it can.

It listens twice. The WebSocket server takes the base64 text out of each message and puts it into one of its own, with
nothing decoded, so that the app is not what limits a run. The plain TCP peer belongs to the floor: for each message's
worth of bytes it returns as many bytes as the WebSocket app would.
"""

from __future__ import annotations

import asyncio
import os

import msgspec
import picows

from offhook.bench.work import HOST, Ports, Work, sizes
from offhook.wire import streaming

_AUDIO = b'{"kind":"AudioData"'
_HEAD, _TAIL = streaming.audio_data_out(b"").split(b'""')


class EchoSocket(picows.WSListener):
    """Answers AudioData with the same audio."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.TEXT:
            message = frame.get_payload_as_bytes()
            if message.startswith(_AUDIO):
                text = message.partition(b'"data":"')[2].partition(b'"')[0]
                transport.send(picows.WSMsgType.TEXT, b'%b"%b"%b' % (_HEAD, text, _TAIL))
        elif frame.msg_type is picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()


class EchoBytes(asyncio.Protocol):
    """Answers every `taken` bytes with `given` bytes."""

    def __init__(self, taken: int, given: int) -> None:
        self._taken = taken
        self._reply = bytes(given)
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        while self._received >= self._taken:
            self._received -= self._taken
            self._transport.write(self._reply)


def main(work: Work) -> None:
    """Print `Ports` as one line of JSON, then echo until killed."""
    asyncio.run(_serve(work))


async def _serve(work: Work) -> None:
    websocket = await picows.ws_create_server(lambda _: EchoSocket(), HOST, 0)
    to_app, from_app = sizes(work.rate)
    plain = await asyncio.get_running_loop().create_server(lambda: EchoBytes(to_app, from_app), HOST, 0)
    ports = Ports(os.getpid(), *(server.sockets[0].getsockname()[1] for server in (websocket, plain)))
    print(msgspec.json.encode(ports).decode(), flush=True)
    await asyncio.Event().wait()
