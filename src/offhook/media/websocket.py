"""An open WebSocket to an app, polled: its row reads and writes it at its tick, and nobody in between.

A library's WebSocket wakes the event loop for every message, fifty times a second and socket, to hand over audio that
its row takes at its next tick anyway. This one costs one `recv` and one `send` a tick, as RTP does (docs/adr/0009). It
does what RFC 6455 asks of a client after the opening handshake: fragments, pings, the closing handshake, and what
breaks the protocol ends the connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from offhook.wire.websocket import BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT, masked

MESSAGE_LIMIT = 1 << 20  # bytes of one message from the app; a larger one is dropped and counted
READ = 64 << 10  # bytes of one read …
READS = 16  # … of which a poll makes so many at most …
FRAMES = 200  # … and takes so many frames out of them at most: a flood must not hold the tick
PING_S = 15.0  # nothing came for so long: a ping; nothing for as long again: the socket is lost
CLOSE_TIMEOUT_S = 2.0  # for the app to answer our close frame; then the socket is cut
CLOSE_POLL_S = 0.02
UNSENT_LIMIT = 256 << 10  # bytes; over this the app is lost. Our queue (1 s) at the end, and answers to pings

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_WHOLE_TEXT, _16_BITS = 0x80 | TEXT, 126
_usual_head = struct.Struct(">BBH").unpack_from
_read_into = memoryview(bytearray(READ))  # of every socket in turn: what is read is handed over at once, or copied


class SocketListener(Protocol):
    """Who an open socket reports to."""

    def on_message(self, message: memoryview) -> None:
        """One whole message, valid during the call only."""

    def on_too_large(self, size: int) -> None:
        """A message of at least `size` bytes was dropped."""

    def on_writable(self, writable: bool) -> None:
        """False: what is sent now waits in our memory (may come from within `send`); True: all is sent."""

    def on_closed(self, clean: bool, detail: str) -> None:
        """The socket is gone; `clean`: the app closed it on purpose (1000, 1001 or no code)."""


class ProtocolError(Exception):
    """What came is not what RFC 6455 allows a server to send."""


class WebSocket:
    """A connected, non-blocking socket (plain or TLS) after the upgrade. `received`: what came with the 101 already.

    `poll` it every 20 ms; the listener is told from within `poll` and `send`. It hears nothing more after `on_closed`
    or `close`.
    """

    def __init__(self, connection: socket.socket, listener: SocketListener, received: bytes, now: float) -> None:
        self._connection = connection
        self._receive, self._transmit = connection.recv_into, connection.send
        self._tls = isinstance(connection, ssl.SSLSocket)
        self._listener = listener
        self._early = received  # until the first poll
        self._unread = bytearray()  # the beginning of a frame that is not whole yet
        self._waits = False  # there are whole frames in it
        self._skip = 0  # bytes of a message that is too large, still to come
        self._parts = bytearray()  # of a fragmented message; at most MESSAGE_LIMIT
        self._size = 0  # of it, what was dropped included
        self._fragmented = False
        self._between = True  # two messages, none of which has begun, and nobody closes
        self._unsent = bytearray()
        self._clear = True  # open, nothing unsent, and nobody closes
        self._heard_at = now
        self._pinged = False  # since then
        self._closing: asyncio.Task[None] | None = None
        self._peer_closed = False
        self._open = True

    # ------------------------------------------------------------------------------------------ sending

    def send(self, message: bytes | memoryview) -> None:
        """Send one masked message; what the kernel does not take is kept, and the listener told."""
        if not self._clear:
            if self._open and self._closing is None:
                self._keep(message)
            return
        try:
            sent = self._transmit(message)
        except _WOULD_BLOCK:
            sent = 0
        except OSError:
            self._lose("the connection was lost")
            return
        if sent < len(message):
            self._keep(message[sent:])
            self._listener.on_writable(False)

    def _keep(self, data: bytes | memoryview) -> None:
        self._clear = False
        self._unsent += data
        if len(self._unsent) > UNSENT_LIMIT:
            self._lose("the app does not read")

    def _flush(self) -> None:
        """Send what was kept."""
        try:
            sent = self._transmit(self._unsent)
        except _WOULD_BLOCK:
            return
        del self._unsent[:sent]
        if not self._unsent and self._closing is None:
            self._clear = True
            self._listener.on_writable(True)

    def _control(self, kind: int, payload: bytes) -> None:
        message = masked(kind, payload, os.urandom(KEY))
        if self._unsent or self._closing is not None:
            self._keep(message)
        else:
            self.send(message)

    # ------------------------------------------------------------------------------------------ receiving

    def _receive_records(self, line: memoryview) -> int:
        """Read as much as a plain socket would give at once: TLS gives a record, and there may be another."""
        size = self._receive(line)
        if 0 < size < len(line):
            with suppress(*_WOULD_BLOCK):
                size += self._receive(line[size:])
        return size

    @property
    def receive(self) -> Callable[[memoryview], int] | None:
        """What reads this socket as `poll` would, as long as whole messages come; None when something is half done.

        It is to be polled every second or so all the same, or it is taken for lost.
        """
        if not self._between or not self._clear or self._early:
            return None
        return self._receive_records if self._tls else self._receive

    @property
    def transmit(self) -> Callable[[bytes | memoryview], int] | None:
        """What writes a message as `send` would; None when something waits. The listener is told when that changes."""
        return self._transmit if self._clear else None

    def poll(self, now: float, received: memoryview | None = None) -> None:
        """Read what has come, after what was `received` already, and hand it over; send what could not be sent before.
        `now`: loop time."""
        try:
            if self._early or self._unsent or self._waits:
                self._catch_up()
            if received is not None:
                self._heard_at, self._pinged = now, False
                self._take(received)
            for _ in range(READS):
                if not self._open or self._waits:
                    break
                size = self._receive(_read_into)
                if not size:
                    self._lose("the connection was lost")
                    return
                self._heard_at, self._pinged = now, False
                # Nearly always: one whole text of 126 to 65535 bytes, with nothing before or after it.
                if self._between and _usual_head(_read_into) == (_WHOLE_TEXT, _16_BITS, size - 4):
                    self._listener.on_message(_read_into[4:size])
                else:
                    self._take(_read_into[:size])
                if size < READ and not self._tls:  # A TLS record ends where it likes: read until there is none.
                    break
        except _WOULD_BLOCK:
            pass
        except OSError:  # TLS errors, too
            self._lose("the connection was lost")
        except ProtocolError as error:
            self._give_up(1002, str(error))
        if now - self._heard_at > PING_S:
            self._nothing_came(now)

    def _catch_up(self) -> None:
        if self._early or self._waits:
            early, self._early = self._early, b""
            self._take(early)
        if self._unsent:
            self._flush()

    def _nothing_came(self, now: float) -> None:
        if self._pinged:
            self._give_up(1001, f"no answer to a ping within {PING_S:g} s")
        elif self._open:
            self._control(PING, b"")
            self._pinged, self._heard_at = True, now

    def _take(self, data: bytes | memoryview) -> None:
        self._unread += data
        for _ in range(FRAMES):
            self._waits = self._open and self._take_frame()
            if not self._waits:
                break
        self._between = not (self._unread or self._skip or self._fragmented or self._closing)

    def _take_frame(self) -> bool:
        """Act on the first frame in `_unread`; False when more has to come first."""
        unread = self._unread
        if self._skip:
            skipped = min(self._skip, len(unread))
            del unread[:skipped]
            self._skip -= skipped
            if self._skip or not skipped:
                return False
        if len(unread) < 2:
            return False
        first, size = unread[0], unread[1]
        start = {126: 4, 127: 10}.get(size & 0x7F, 2)
        if len(unread) < start:
            return False
        if start > 2:
            size = int.from_bytes(unread[2:start], "big")
        kind, last = first & 0xF, bool(first & 0x80)
        self._check(first, unread[1], size)
        if kind >= CLOSE or self._size + size <= MESSAGE_LIMIT:
            if len(unread) < start + size:
                return False
            payload = bytes(unread[start : start + size])
            del unread[: start + size]
        else:
            payload = b""
            del unread[:start]
            self._skip = size
        if kind >= CLOSE:
            self._on_control(kind, payload)
        else:
            self._on_data(payload, size, last)
        return True

    def _check(self, first: int, second: int, size: int) -> None:
        kind, last = first & 0xF, bool(first & 0x80)
        if first & 0x70:
            raise ProtocolError("a reserved bit is set")
        if second & 0x80:
            raise ProtocolError("a server does not mask")
        if kind in (CLOSE, PING, PONG):
            if not last or size > 125:
                raise ProtocolError("a control frame is fragmented or longer than 125 bytes")
        elif kind not in (TEXT, BINARY, CONTINUATION):
            raise ProtocolError(f"there is no opcode {kind}")
        elif (kind == CONTINUATION) != self._fragmented:
            raise ProtocolError("a message begins within another, or goes on without a beginning")

    def _on_data(self, payload: bytes, size: int, last: bool) -> None:
        self._fragmented = not last
        self._size += size
        if self._size > MESSAGE_LIMIT:
            self._parts.clear()
        else:
            self._parts += payload
        if last:
            whole, message, self._size, self._parts = self._size, self._parts, 0, bytearray()
            if self._closing is None:
                if whole > MESSAGE_LIMIT:
                    self._listener.on_too_large(whole)
                else:
                    self._listener.on_message(memoryview(message))

    def _on_control(self, kind: int, payload: bytes) -> None:
        if kind == PING and self._closing is None:
            self._control(PONG, payload)
        elif kind == CLOSE:
            self._peer_closed = True
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 0
            if self._closing is None:
                self._control(CLOSE, (code or 1000).to_bytes(2, "big"))  # "no code" is not to be sent (7.4.1)
                self._lose(f"the app closed the socket with {code or 'no code'}", clean=code in (0, 1000, 1001))

    # ------------------------------------------------------------------------------------------ the end

    def _give_up(self, code: int, reason: str) -> None:
        if self._open and self._closing is None:
            self._control(CLOSE, code.to_bytes(2, "big"))
        self._lose(f"the connection was given up: {reason}")

    def _lose(self, detail: str, clean: bool = False) -> None:
        if not self._open:
            return
        self._open = self._clear = False
        with suppress(OSError):  # It says that it would have to wait for the other side, which we do not.
            if isinstance(self._connection, ssl.SSLSocket):
                self._connection.unwrap()
        with suppress(OSError):  # So that the other side reads the end rather than a reset.
            self._connection.shutdown(socket.SHUT_WR)
        self._connection.close()
        if self._closing is None:
            self._listener.on_closed(clean, detail)

    def close(self, code: int = 1000) -> None:
        """Close after what was sent; the listener hears nothing more. Without an answer it is cut after 2 s."""
        if self._open and self._closing is None:
            self._between = self._clear = False
            self._closing = asyncio.get_running_loop().create_task(self._close(code))

    async def _close(self, code: int) -> None:
        # The connection stays until the app has answered: cut at once, with audio of the app still coming in, it would
        # be reset, and the app might never see the close frame.
        self._control(CLOSE, code.to_bytes(2, "big"))
        loop = asyncio.get_running_loop()
        cut_at = loop.time() + CLOSE_TIMEOUT_S
        while self._open and not self._peer_closed and loop.time() < cut_at:
            self.poll(loop.time())
            await asyncio.sleep(CLOSE_POLL_S)
        self._lose("")

    def abort(self, detail: str) -> None:
        """Cut the connection without a close frame, as when it is lost; the listener is told of it, with `detail`."""
        self._lose(detail)

    async def wait_closed(self) -> None:
        """Wait until the socket that `close` closed is gone: 2 s at most."""
        if self._closing is not None:
            await asyncio.shield(self._closing)
