"""What the control process and a media worker say to each other, and nothing else passes between them.

Every message is a tagged msgspec Struct, so that the same messages travel over a local socket to a worker process or,
as now, through an in-memory pair. Orders go down to the worker, tidings come up; each direction keeps its order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

# ------------------------------------------------------------------------------------------------ control → worker


class Order(msgspec.Struct, frozen=True, tag=True):
    """Something the worker shall do."""


class ExpectLeg(Order, frozen=True):
    """A simulated party will open its audio socket with `token` within `attach_s` seconds.

    `call` is None for a phone that waits for calls: it gets one with `RingPhone`.
    """

    leg: str
    token: str
    rate: int
    call: str | None = None
    attach_s: float = 10.0


class RingPhone(Order, frozen=True):
    """Let the waiting phone ring for `call`; it answers with `PhoneAnswered` or `LegGone`."""

    leg: str
    call: str
    caller: str
    to: str


class ConnectLeg(Order, frozen=True):
    """Put the leg into the call's mix: from now on it is heard and hears. `party` is its raw id in unmixed streams."""

    leg: str
    call: str
    party: str


class EndLeg(Order, frozen=True):
    """Take the leg out of the mix, tell its client `reason` and, unless it is a phone that stays, close its socket."""

    leg: str
    reason: str


class OpenStream(Order, frozen=True):
    """Dial the app's WebSocket and stream the call's audio over it.

    `stream` is unique per opening; `subscription` is what AudioMetadata names; `token` goes into the Authorization
    header of every dial of this opening. `party` is the app's own raw id, under which others hear it.
    """

    stream: str
    call: str
    connection: str
    correlation: str
    subscription: str
    party: str
    url: str
    token: str
    rate: int
    unmixed: bool
    bidirectional: bool
    dtmf: bool


class CloseStream(Order, frozen=True):
    """Stop streaming and close the socket with 1000."""

    stream: str


# ------------------------------------------------------------------------------------------------ worker → control


class Tiding(msgspec.Struct, frozen=True, tag=True):
    """Something that happened in the worker."""


class LegAttached(Tiding, frozen=True):
    """The party's audio socket is open."""

    leg: str


class PhoneAnswered(Tiding, frozen=True):
    """The phone picked up `call`; by the time this is read, that call may be over and another one ring."""

    leg: str
    call: str


class LegJoined(Tiding, frozen=True):
    """The leg is in the mix."""

    leg: str


class LegGone(Tiding, frozen=True):
    """The leg's party hung up, declined (`reason`: busy, declined, no-answer), or was lost; not told of a leg that
    `EndLeg` ended first. `left`: the call that a phone left, which goes on waiting for the next one; "": it is gone."""

    leg: str
    reason: str
    left: str = ""


class DigitsPressed(Tiding, frozen=True):
    leg: str
    tones: str


class StreamUp(Tiding, frozen=True):
    """The app's socket is open; `again` after it had been lost."""

    stream: str
    again: bool = False


class StreamDown(Tiding, frozen=True):
    """The stream is over without having been told to be.

    `failure` is a `call.model.StreamFailure` value, or "closed" when the app closed its socket cleanly.
    """

    stream: str
    failure: str
    detail: str


class StreamOddity(Tiding, frozen=True):
    """The first time something odd is seen on a stream (each later time only counts)."""

    stream: str
    cause: str
    detail: str


class StreamEnded(Tiding, frozen=True):
    """Final figures of a stream; follows every end."""

    stream: str
    stats: dict[str, int]


class LinkEnd:
    """One end of an in-memory link: `send` never blocks; the other end receives in order, on the next loop turn."""

    def __init__(self) -> None:
        self._peer: LinkEnd | None = None
        self._receive: Callable[[Any], None] | None = None
        self._inbox: deque[Order | Tiding] = deque()

    def send(self, message: Order | Tiding) -> None:
        """Hand `message` to the other end."""
        assert self._peer is not None
        self._peer._take(message)

    def on_receive(self, receive: Callable[[Any], None]) -> None:
        """Set the receiver; what came before is handed over as well."""
        self._receive = receive
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _take(self, message: Order | Tiding) -> None:
        self._inbox.append(message)
        if len(self._inbox) == 1 and self._receive is not None:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        # Never within `send`: the sender finishes what it is doing first, as it would over a socket. And one message a
        # turn: a receiver that raises costs that one message.
        assert self._receive is not None
        message = self._inbox.popleft()
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._receive(message)


def memory_pair() -> tuple[LinkEnd, LinkEnd]:
    """Return two joined ends of a link within one process: (control's, worker's)."""
    control, worker = LinkEnd(), LinkEnd()
    control._peer, worker._peer = worker, control
    return control, worker
