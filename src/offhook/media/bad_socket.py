"""An app's audio socket in bad weather: lost, not read for a while, with a clock that is wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime

from offhook.media.dial import AppSocket, Dial
from offhook.media.weather import Weather
from offhook.media.websocket import SocketListener
from offhook.wire import streaming, websocket

_HEAD = streaming.AudioEnvelope(None).head
_STAMP = slice(len(_HEAD), len(_HEAD) + streaming.TIMESTAMP)


def over_socket(weather: Weather, dial: Dial, note: Callable[[str], None]) -> Dial:
    """Return `dial` for one stream with the weather over it. `note` is told what was done to the socket, in words.

    The first socket that opens stalls and is lost; the clock is wrong on all of them.
    """
    first = True

    async def bad_dial(url: str, headers: Mapping[str, str], listener: SocketListener) -> AppSocket:
        nonlocal first
        bad = _BadSocket(weather, listener, note, first)
        bad.socket = await dial(url, headers, bad)
        first = False
        return bad

    return bad_dial


class _BadSocket:
    """An `AppSocket` around another one, and that one's `SocketListener`. Unless it is the `first`, it is not lost."""

    receive = transmit = None  # what passes here is looked at
    socket: AppSocket

    def __init__(self, weather: Weather, listener: SocketListener, note: Callable[[str], None], first: bool) -> None:
        self._weather = weather
        self._listener = listener
        self._note = note
        self._first = first
        self._loop = asyncio.get_running_loop()
        self._frames = 0
        self._writable = True  # as far as the socket itself is concerned
        self._stalled = False
        self._dropped = False  # nothing passes any more, and the stream is about to hear of it
        self._gone = False

    # ------------------------------------------------------------------------------------------ what the stream does

    def poll(self, now: float, received: memoryview | None = None) -> None:
        self.socket.poll(now, received)

    def send(self, message: bytes | memoryview) -> None:
        if self._dropped:
            return
        self.socket.send(_skewed(message, self._weather.skew_s) if self._weather.skew_s else message)
        self._frames += 1
        if self._first and self._frames == self._weather.stall_at:
            self._loop.call_soon(self._stall)
        if self._first and self._frames == self._weather.drop_at:
            self._dropped = True
            self._loop.call_soon(self._drop)

    def close(self, code: int = 1000) -> None:
        self._gone = True
        self.socket.close(code)

    def abort(self, detail: str) -> None:
        self.socket.abort(detail)

    async def wait_closed(self) -> None:
        await self.socket.wait_closed()

    # ------------------------------------------------------------------------------------------ what the socket tells

    def on_message(self, message: memoryview) -> None:
        self._listener.on_message(message)

    def on_too_large(self, size: int) -> None:
        self._listener.on_too_large(size)

    def on_writable(self, writable: bool) -> None:
        self._writable = writable
        if not self._stalled:
            self._listener.on_writable(writable)

    def on_closed(self, clean: bool, detail: str) -> None:
        self._gone = True
        self._listener.on_closed(clean, detail)

    # ------------------------------------------------------------------------------------------ the weather

    def _stall(self) -> None:
        if not self._gone:
            self._note(f"the app reads nothing for {self._weather.stall_s:.3f} s after {self._frames} frames")
            self._stalled = True
            self._listener.on_writable(False)
            self._loop.call_later(self._weather.stall_s, self._read_again)

    def _read_again(self) -> None:
        self._stalled = False
        if not self._gone:
            self._listener.on_writable(self._writable)

    def _drop(self) -> None:
        if not self._gone:
            self._note(f"the socket is lost after {self._frames} frames")
            self.socket.abort("lost by the weather")


def _skewed(message: bytes | memoryview, seconds: float) -> bytes:
    """Return a masked message with the time stamp of its audio moved by so much, to the millisecond."""
    text = websocket.payload_of(message)
    if text.startswith(_HEAD):
        unix = datetime.fromisoformat(text[_STAMP].decode()).timestamp() + round(seconds, 3)
        text = _HEAD + streaming.timestamp(unix) + text[_STAMP.stop :]
    return websocket.masked(websocket.TEXT, text, os.urandom(websocket.KEY))
