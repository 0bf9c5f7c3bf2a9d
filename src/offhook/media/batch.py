"""The rows of a slot, read and written together: what nearly everybody does nearly all the time, without a way through
Python objects for each of them.

Most of the time a row is *regular*: exactly one message (of an app) or packet (of a telephone) comes in a tick, which
is played at once or a little later, or nothing comes at all. Then a tick reads its socket straight into a line of one
matrix, and all lines are checked and decoded together (`media.reader`). What else the tick would have done to the row's
socket and queue is the same each time, so it is counted there and made up for later (`Regular.settle`). Whatever is not
as expected, is not of the others' form, or is due for a look, is polled as ever, by its `poll`.

Packets to telephones are written the same way: all of a slot get their headers at once (`media.writer`).

Here is what readers and writers on one side, streams and legs on the other have to tell each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

DEEPEST = 3  # whole frames that may wait to be played, where a sender is sometimes late
PAST = 2  # frames that were played and a queue may still want to know

Receive = Callable[[memoryview], int]
Transmit = Callable[[bytes | memoryview], int]
Leave = Callable[[], None]


def alone() -> None:
    """What a row calls for `Leave` that has not been together with others."""


# ------------------------------------------------------------------------------------------------ what comes


class Envelope(NamedTuple):
    """What stands around the base64 of an app's audio messages. An app puts all its audio into one."""

    head: bytes
    tail: bytes


class Header(NamedTuple):
    """The header of a telephone's next packet of 20 ms of G.711."""

    octets: bytes


Expected = Envelope | Header | None  # what a row sends a tick; None: nothing


class Regular(NamedTuple):
    """How a row's next ticks can be had without its `poll`, as long as what comes is as expected.

    `first` says what comes next. `recent`: what came last, in bytes of frames, of which the last `waiting` wait to be
    played (`DEEPEST` frames and a piece of one), and up to `PAST` frames do not. `settle(ticks, now, recent)` makes up
    for so many ticks, of which the last one was at `now`, and gives as much of what came last back.
    `take_second(message, now)`: for a second one in a tick, which packets may hide behind; `poll` comes next. After so
    many `ticks` it is polled, or when the reader likes to.
    """

    receive: Receive
    first: Expected
    settle: Callable[[int, float, bytes], None]
    recent: bytes = b""
    waiting: int = 0
    take_second: Callable[[memoryview, float], None] | None = None
    ticks: int | None = None


class Batched(Protocol):
    """A stream or leg that can be read together with others."""

    def poll(self, now: float, received: memoryview | None = None) -> bytes | None:
        """As `plane.Source`; `received` was read from its socket already."""

    def regular(self, leave: Leave) -> Regular | None:
        """After a `poll`: return how to go on without; None when that cannot be. It calls `leave` before it changes
        what it is about, or tells what it has counted."""


# ------------------------------------------------------------------------------------------------ what goes


class Steady(NamedTuple):
    """How a telephone's next packets can be sent without its leg's `send`: each is a frame behind the next header.

    `settle(packets, sent)`: so many were due, and `sent` of them were taken by the kernel.
    """

    transmit: Transmit
    first: Header
    settle: Callable[[int, int], None]


class Paced(Protocol):
    """A leg that can be written to together with others."""

    def send(self, data: bytes | memoryview) -> None:
        """As `plane.Sink`."""

    def steady(self, leave: Leave) -> Steady | None:
        """After a `send`: as `Batched.regular`."""
