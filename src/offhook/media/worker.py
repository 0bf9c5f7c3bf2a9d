"""A media worker: carries out the control process's orders on the plane, and tells what happens there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from offhook.media.clock import Clock
from offhook.media.dial import Dial
from offhook.media.link import (
    CloseStream,
    DigitsPressed,
    LinkEnd,
    OpenStream,
    Order,
    StreamDown,
    Tiding,
)
from offhook.media.plane import SLOTS, Plane
from offhook.media.stream import MediaStream


class MediaWorker:
    """Owns the plane, its clock and the streams. How parties reach us (`offhook.legs`) registers its own orders.

    Must be made on a running event loop. `epoch` is the Unix time at loop time 0.
    """

    def __init__(self, link: LinkEnd, dial: Dial, epoch: float) -> None:
        self._link = link
        self._dial = dial
        self.plane = Plane(epoch)
        self.clock = Clock(self.plane.tick, SLOTS, self.plane.busy)
        self._streams: dict[str, MediaStream] = {}
        self._closing: set[asyncio.Task[None]] = set()  # of streams whose socket is not gone yet
        self._carry_out: dict[type[Order], Callable[[Any], None]] = {
            OpenStream: self._open_stream,
            CloseStream: self._close_stream,
        }

    def register(self, handlers: Mapping[type[Order], Callable[[Any], None]]) -> None:
        """Let `handlers` carry out further kinds of orders."""
        self._carry_out.update(handlers)

    def start(self) -> None:
        """Take orders from now on."""
        self._link.on_receive(lambda order: self._carry_out[type(order)](order))

    def tell(self, tiding: Tiding) -> None:
        """Pass what happened on to the control process."""
        self._link.send(tiding)

    def pressed(self, call: str, leg: str, tones: str) -> None:
        """A party of `call` pressed digits: every stream of the call that wants them hears of it, and control."""
        for stream in self._streams.values():
            if stream.order.call == call:
                for tone in tones:
                    stream.send_digit(tone)
        self.tell(DigitsPressed(leg, tones))

    async def close(self) -> None:
        """Stop the clock, close every stream and wait for the sockets to be gone: 2 s at most."""
        self.clock.stop()
        for stream in self._streams.values():
            self._close(stream)
        self._streams.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _open_stream(self, order: OpenStream) -> None:
        stream = MediaStream(order, self.plane, self._dial, self._stream_tells, self.clock.wake)
        self._streams[order.stream] = stream
        stream.start()

    def _close_stream(self, order: CloseStream) -> None:
        if (stream := self._streams.pop(order.stream, None)) is not None:
            self._close(stream)

    def _close(self, stream: MediaStream) -> None:
        stream.close()
        task = asyncio.create_task(stream.gone())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _stream_tells(self, tiding: Tiding) -> None:
        if isinstance(tiding, StreamDown):
            self._streams.pop(tiding.stream, None)
        self.tell(tiding)
