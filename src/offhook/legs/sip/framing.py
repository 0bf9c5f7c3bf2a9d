"""Cutting a stream (TCP, TLS) into SIP messages by their Content-Length (RFC 3261 section 18.3)."""

from __future__ import annotations

import re

from offhook.legs.sip.message import MAX_MESSAGE

PING = b"\r\n\r\n"  # keeps a connection and what is between alive (RFC 5626 section 3.5.1)
PONG = b"\r\n"

_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,7})[ \t]*(?=\r\n)", re.IGNORECASE)


class StreamError(ValueError):
    """Nothing that follows in this stream can be read; it has to be closed."""


class Framer:
    """Takes the pieces of one stream. It holds at most one message, `MAX_MESSAGE` bytes, that is not complete."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are complete now, and `PING` or `PONG` for each of those. Raises `StreamError`."""
        self._buffer += data
        found: list[bytes] = []
        while (one := self._next()) is not None:
            found.append(one)
        return found

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if buffer.startswith(PING):
            return self._take(len(PING))
        if buffer.startswith(PONG) and len(buffer) > len(PONG) and not PING.startswith(buffer):
            return self._take(len(PONG))
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > MAX_MESSAGE:
                raise StreamError("a message's headers do not end")
            return None
        lengths = _LENGTH.findall(buffer, 0, end + 2)
        if len(lengths) != 1:
            raise StreamError("a message in a stream has one Content-Length")
        size = end + 4 + int(lengths[0])
        if size > MAX_MESSAGE:
            raise StreamError(f"a message of {size} bytes")
        return self._take(size) if len(buffer) >= size else None

    def _take(self, size: int) -> bytes:
        one, self._buffer = self._buffer[:size], self._buffer[size:]
        return one
