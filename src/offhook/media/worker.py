"""A media worker: carries out the control process's orders on the plane, and tells what happens there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from offhook.media.bad_socket import over_socket
from offhook.media.clock import Clock
from offhook.media.dial import Dial
from offhook.media.ear import Ears
from offhook.media.hearing import Kept
from offhook.media.keeping import Keeping
from offhook.media.link import CloseStream, Link, OpenStream, Order, RouteParty
from offhook.media.plane import SLOTS, Plane
from offhook.media.player import Players
from offhook.media.stream import MediaStream
from offhook.media.tidings import DigitsPressed, StreamDown, StreamOddity, Tiding
from offhook.media.vitals import VitalSigns

if TYPE_CHECKING:
    from offhook.media.tie import Tie


class MediaWorker:
    """Owns the plane, its clock and the streams. How parties reach us (`offhook.legs`) registers its own orders.

    Must be made on a running event loop. `epoch` is the Unix time at loop time 0.
    """

    def __init__(self, link: Keeping | Link, dial: Dial, epoch: float) -> None:
        self._link = link
        self._dial = dial
        self.plane = Plane(epoch)
        self.clock = Clock(self.plane.tick, SLOTS, self.plane.busy_in)
        self._streams: dict[str, MediaStream] = {}
        self._closing: set[asyncio.Task[None]] = set()  # of streams whose socket is not gone yet
        self.vitals = VitalSigns(self.plane, self.clock, self._streams, self.tell)
        self._carry_out: dict[type[Order], list[Callable[[Any], None]]] = {}
        self.register({OpenStream: self._open_stream, CloseStream: self._close_stream, RouteParty: self._route})
        self.players = Players(self)
        self.ears = Ears(self)
        self.lent: dict[str, Tie] = {}  # by mix that a leg has for itself: who takes part elsewhere

    def register(self, handlers: Mapping[type[Order], Callable[[Any], None]]) -> None:
        """Let `handlers` carry out further kinds of orders. Several may take one kind: each knows its own legs."""
        for kind, handler in handlers.items():
            self._carry_out.setdefault(kind, []).append(handler)

    def start(self) -> None:
        """Take orders from now on."""
        self._link.on_receive(self._on_order)

    def _on_order(self, order: Any) -> None:
        for handler in self._carry_out[type(order)]:
            handler(order)

    def tell(self, tiding: Tiding) -> None:
        """Pass what happened on to the control process."""
        self._link.send(tiding)

    def pressed(self, call: str, leg: str, tones: str) -> None:
        """A party of `call` pressed digits: every stream of the call that wants them hears of it, and control."""
        if (tie := self.lent.get(call)) is not None:
            tie.pass_tones(tones)
            return
        self.tell(DigitsPressed(leg, tones))
        for stream in self._streams.values():
            if stream.order.call == call:
                for tone in tones:
                    stream.send_digit(tone)

    def says(self, call: str, party: str, words: str) -> None:
        """The client of a simulated party tells the words that the audio brings which is now being played."""
        if (tie := self.lent.get(call)) is not None:
            tie.pass_words(words)
        else:
            self.ears.says(call, party, words)

    async def close(self) -> None:
        """Stop the clock, close every stream and wait for the sockets to be gone: 2 s at most."""
        self.clock.stop()
        self.vitals.stop()
        self.players.close()
        self.ears.close()
        for stream in self._streams.values():
            self._close(stream)
        self._streams.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _route(self, order: RouteParty) -> None:
        self.plane.route(order.call, order.party, Kept(order.muted, order.on_hold))

    def _open_stream(self, order: OpenStream) -> None:
        dial = self._dial
        if order.weather is not None:
            dial = over_socket(order.weather, dial, lambda what: self.tell(StreamOddity(order.stream, "weather", what)))
        stream = MediaStream(order, self.plane, dial, self._stream_tells, self.clock.wake)
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
        self.vitals.note(tiding)
        if isinstance(tiding, StreamDown):
            self._streams.pop(tiding.stream, None)
        self.tell(tiding)
