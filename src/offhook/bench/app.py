"""The app of a run, in a process of its own: sends every frame of audio back, at the least cost that it can.

It listens four times. The WebSocket servers (one of them for wss) take the base64 text out of each message and put it
into one of their own, with nothing decoded, so that the app is not what limits a run. The path `/reply` says something
instead: numbered frames, once. The plain TCP peer belongs to the floor: for each message's worth of bytes it returns as
many bytes as the WebSocket app would. The slow one takes a WebSocket and then reads 1 KB a second.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

import msgspec
import picows

from offhook.bench.frames import HOST, numbered_frames, sizes
from offhook.server import tls
from offhook.wire import streaming

REPLY = "/reply"
REPLY_FRAMES = 150  # of 20 ms; their numbers, in the first byte, are 1 to 150
REPLY_PIECE = 10  # of them in one message
REPLY_EVERY_S = 0.1  # twice as fast as real time: a buffered stream
SLOW_BYTES_PER_S = 1024
SLOW_BUFFER = 4 << 10  # of the kernel, for what the slow app has not read; the default takes in most of a minute

_AUDIO = b'{"kind":"AudioData"'
_HEAD, _TAIL = streaming.audio_data_out(b"").split(b'""')
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


class Job(msgspec.Struct, frozen=True):
    """`certificate`: the folder with that of wss; without, there is no wss."""

    rate: int
    certificate: str | None = None


class Ports(msgspec.Struct, frozen=True):
    """Where the app listens; `secure` is 0 without a certificate."""

    pid: int
    websocket: int
    secure: int
    plain: int
    slow: int

    def url(self, *, secure: bool = False, path: str = "/") -> str:
        return f"wss://{HOST}:{self.secure}{path}" if secure else f"ws://{HOST}:{self.websocket}{path}"


class EchoSocket(picows.WSListener):
    """Answers AudioData with the same audio."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.TEXT:
            message = frame.get_payload_as_bytes()
            if message.startswith(_AUDIO):
                self.on_audio(transport, message)
        elif frame.msg_type is picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_audio(self, transport: picows.WSTransport, message: bytes) -> None:
        text = message.partition(b'"data":"')[2].partition(b'"')[0]
        transport.send(picows.WSMsgType.TEXT, b'%b"%b"%b' % (_HEAD, text, _TAIL))


class ReplySocket(EchoSocket):
    """Says its reply when it first hears something, and nothing else."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._saying: asyncio.Task[None] | None = None

    def on_audio(self, transport: picows.WSTransport, message: bytes) -> None:
        if self._saying is None:
            self._saying = asyncio.get_running_loop().create_task(self._say(transport))

    async def _say(self, transport: picows.WSTransport) -> None:
        frames = numbered_frames(self._rate)[:REPLY_FRAMES]
        for at in range(0, REPLY_FRAMES, REPLY_PIECE):
            piece = b"".join(frames[at : at + REPLY_PIECE])
            transport.send(picows.WSMsgType.TEXT, streaming.audio_data_out(piece))
            await asyncio.sleep(REPLY_EVERY_S)


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


def play(job: Job) -> None:
    """Print `Ports` as one line of JSON, then echo until killed."""
    asyncio.run(_serve(job))


async def _serve(job: Job) -> None:
    def accept(request: picows.WSUpgradeRequest) -> picows.WSListener:
        return ReplySocket(job.rate) if request.path == REPLY.encode() else EchoSocket()

    loop = asyncio.get_running_loop()
    websocket = await picows.ws_create_server(accept, HOST, 0)
    to_app, from_app = sizes(job.rate)
    plain = await loop.create_server(lambda: EchoBytes(to_app, from_app), HOST, 0)
    listening = [websocket, plain]
    if job.certificate is not None:
        files = tls.ensure(Path(job.certificate))
        context = tls.server_context(files.cert, files.key)
        listening.append(await picows.ws_create_server(accept, HOST, 0, ssl=context))
    slow = _listen_slowly()
    ports = [server.sockets[0].getsockname()[1] for server in listening]
    where = Ports(os.getpid(), ports[0], ports[2] if job.certificate else 0, ports[1], slow.getsockname()[1])
    print(msgspec.json.encode(where).decode(), flush=True)
    await _read_slowly(slow)


def _listen_slowly() -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
    listening.bind((HOST, 0))
    listening.listen()
    listening.setblocking(False)
    return listening


async def _read_slowly(listening: socket.socket) -> None:
    """Take one WebSocket after the other and read it at `SLOW_BYTES_PER_S` until it is gone."""
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listening)
        with connection, suppress(ConnectionError):
            await _upgrade(connection)
            while True:
                if not await loop.sock_recv(connection, SLOW_BYTES_PER_S):
                    break
                await asyncio.sleep(1)


async def _upgrade(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    request = b""
    while b"\r\n\r\n" not in request and (more := await loop.sock_recv(connection, 1024)):
        request += more
    key = re.search(rb"(?i)^sec-websocket-key: *(\S+)", request, re.MULTILINE)
    if key is None:
        raise ConnectionError("no upgrade to a WebSocket")
    accepted = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
    await loop.sock_sendall(
        connection,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n",
    )
