"""The link to a worker process: messages over a Unix socket, each as 4 bytes of length (big-endian) and msgpack.

Both ends belong to one start of one server, so nothing here has to understand an older or a newer one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from functools import cache
from typing import Any, Union

import msgspec

from offhook.media.link import Order
from offhook.media.tidings import Tiding

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 1 << 20  # bytes of one message; a larger one breaks the link
BUFFER_LIMIT = 16 << 20  # bytes that wait for the other end to read them; more break the link, too
HEADER = 4  # bytes before each message: its length


class SocketLink(asyncio.Protocol):
    """One end of a connection. It is a `Link`, and made by `connect` and `serve`.

    `receives`: what the other end sends, `Order` or `Tiding`. Anything that does not belong on the link (a message over
    MESSAGE_LIMIT, bytes that are no message), or an end that does not read (BUFFER_LIMIT), breaks it: it is closed, and
    both ends hear that it is lost.
    """

    def __init__(self, receives: type[Order] | type[Tiding], opened: Callable[[SocketLink], None]) -> None:
        self._decoder = _decoder(receives)
        self._opened = opened
        self._transport: asyncio.Transport
        self._receive: Callable[[Any], None] | None = None
        self._lost: Callable[[], None] | None = None
        self._received = bytearray()  # at most a message that is not there yet, and what one read brings
        self._closed = False
        self._deaf = False  # what still comes is of no use
        self.gone = asyncio.Event()  # lost or closed

    # ------------------------------------------------------------------------------------------ the link

    def send(self, message: Order | Tiding) -> None:
        if self._transport.is_closing():
            return
        body = _encoder.encode(message)
        if len(body) > MESSAGE_LIMIT:
            self._break(f"a {type(message).__name__} of {len(body)} bytes cannot be sent")
        elif self._transport.get_write_buffer_size() + len(body) > BUFFER_LIMIT:
            self._break("the other end does not read")
        else:
            self._transport.write(len(body).to_bytes(HEADER, "big") + body)

    def on_receive(self, receive: Callable[[Any], None]) -> None:
        self._receive = receive
        self._transport.resume_reading()

    def on_lost(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def close(self) -> None:
        """What was sent before still arrives."""
        self._closed = self._deaf = True
        self._transport.close()

    # ------------------------------------------------------------------------------------------ the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()  # until there is somebody to receive
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        start = 0
        while not self._deaf and len(self._received) - start >= HEADER:
            size = int.from_bytes(self._received[start : start + HEADER], "big")
            if size > MESSAGE_LIMIT:
                self._break(f"a message of {size} bytes came")
            end = start + HEADER + size
            if len(self._received) < end:
                break
            self._hand_over(self._received[start + HEADER : end])
            start = end
        del self._received[:start]

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self._receive is not None:
            self.data_received(self._rest())
        self.gone.set()
        if self._lost is not None and not self._closed:
            self._lost()

    def _hand_over(self, body: bytearray) -> None:
        assert self._receive is not None
        try:
            self._receive(self._decoder.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._break(f"not a message of ours came: {error}")
        except Exception as error:  # A receiver that raises costs that one message.
            context = {"message": "a message of the link could not be handled", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _rest(self) -> bytes:
        """Return what the other end had sent before it died, when we notice its death by writing to it."""
        rest = bytearray()
        with contextlib.suppress(OSError):
            while part := os.read(self._transport.get_extra_info("socket").fileno(), MESSAGE_LIMIT):
                rest += part  # at most what the kernel holds for one socket
        return bytes(rest)

    def _break(self, reason: str) -> None:
        self._deaf = True
        log.error("the link between control and a media worker is broken: %s", reason)
        self._transport.abort()


async def connect(path: str, receives: type[Order] | type[Tiding], opened: Callable[[SocketLink], None]) -> SocketLink:
    """Connect to the Unix socket at `path`; `opened` gets the link first. Raises OSError when nothing listens there.

    The other end need not run yet: who holds the listening socket for it keeps the connection waiting.
    """
    _, link = await asyncio.get_running_loop().create_unix_connection(lambda: SocketLink(receives, opened), path)
    return link


async def serve(
    listening: socket.socket, receives: type[Order] | type[Tiding], opened: Callable[[SocketLink], None]
) -> asyncio.Server:
    """Give every connection that comes to the listening Unix socket to `opened`."""
    # Not create_unix_server: that one removes the path when it is closed, and the socket outlives this process.
    return await asyncio.get_running_loop().create_server(lambda: SocketLink(receives, opened), sock=listening)


_encoder = msgspec.msgpack.Encoder()


@cache
def _decoder(receives: type[Order] | type[Tiding]) -> msgspec.msgpack.Decoder[Any]:
    kinds: Any = Union[tuple(receives.__subclasses__())]  # noqa: UP007  there is no other way to write it
    return msgspec.msgpack.Decoder(kinds)
