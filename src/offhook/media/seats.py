"""A call that ends leaves its lines in the matrices to the next one of its kind.

Laying a slot out anew costs as much as ten ticks of it, and where calls are short there is one that comes or goes every
few ticks. So what most calls are, a leg and a mixed stream that hear each other's lines, has a *seat*: its two lines.
Who leaves one has it taken by nobody, who says nothing; who comes gets one of those, if there is any for a row of his
rate and codec. All other calls, and whatever changes in who hears whom, have the slot laid out anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from offhook.media.batch import Header, Leave, Regular, Steady
from offhook.media.carry import bring

if TYPE_CHECKING:
    from offhook.media.plane import Mix, Row

GROWTH = 8  # of the seats of a slot that is laid out while calls come and go, one in so many is a spare one
CALM = 100  # half ticks, 1 s, without a change: then no seat is kept free any more

_NOTHING_CAME = -1


class Seat(NamedTuple):
    """The two lines of a call in a mix."""

    mix: Mix
    leg: int
    stream: int

    def line(self, row: Row) -> int:
        """Return which of the two is for a row like this."""
        return self.stream if row.stream else self.leg

    def fits(self, row: Row) -> bool:
        """Whether nobody has the line that is for a row like this, and it is of its rate and codec."""
        there = self.mix.rows[self.line(row)]
        rate = there.rate if row.retune is not None else row.rate
        return there.source is NOBODY and (there.rate, there.codec) == (rate, row.codec)

    def is_free(self) -> bool:
        """Whether nobody has it."""
        rows = self.mix.rows
        return rows[self.leg].source is NOBODY is rows[self.stream].source


class Seats:
    """Those of one slot that nobody has."""

    def __init__(self) -> None:
        self._free: list[Seat] = []

    def __len__(self) -> int:
        return len(self._free)

    def use(self, mixes: Sequence[Mix]) -> None:
        """Forget all others than the free ones of `mixes`."""
        pairs = ((mix, line) for mix in mixes for line, row in enumerate(mix.rows) if row.source is NOBODY)
        self._free = [Seat(mix, line, line + 1) for mix, line in pairs if not mix.rows[line].stream]

    def take(self, row: Row, others: Sequence[Row], mixes: Sequence[Mix]) -> Seat | None:
        """Give `row` a line, next to the `others` of its call; return where, or None when there is none."""
        if not is_plain(row):
            return None
        if others:
            seat = seat_of(others[0], mixes) if len(others) == 1 else None
            if seat is None or not seat.fits(row):
                return None
        else:
            seat = next((one for one in self._free if one.fits(row)), None)
            if seat is None:
                return None
            self._free.remove(seat)
        line = seat.line(row)
        rate = seat.mix.rows[line].rate
        if row.retune is not None and row.rate != rate:
            row.rate = rate
            row.retune(rate)
        seat.mix.seat(line, row)
        return seat

    def leave(self, row: Row, mixes: Sequence[Mix]) -> bool:
        """Let nobody have the line of `row`; return False when it has no seat."""
        seat = seat_of(row, mixes)
        if seat is None:
            return False
        seat.mix.seat(seat.line(row), nobody_like(row))
        if seat.is_free():
            self._free.append(seat)
        return True

    def move(self, rows: Sequence[Row], before: Seats, there: Sequence[Mix], here: Sequence[Mix]) -> bool:
        """Take a whole call in whose seat is one of `before`, with what is remembered of it; return False if there is
        no seat for it."""
        old = seat_of(rows[0], there)
        if old is None or not all(is_plain(row) and row.retune is None for row in rows):
            return False
        free = next((one for one in self._free if all(one.fits(row) for row in rows)), None)
        if free is None:
            return False
        self._free.remove(free)
        for row in rows:
            free.mix.seat(free.line(row), row)
            bring(row, old.mix, free.mix)
            before.leave(row, there)
        return True


def is_plain(row: Row) -> bool:
    """Whether it is a leg, or a stream in mixed mode."""
    return row.is_party and not row.unmixed


def seat_of(row: Row, mixes: Sequence[Mix]) -> Seat | None:
    """Return the seat of a row, if it has one: its call is a leg and a mixed stream, and nothing keeps them apart."""
    for mix in mixes:
        if row in mix.rows:
            line = mix.rows.index(row)
            other = int(mix.hearing.heard_by[line])
            if other >= len(mix.rows) or mix.hearing.heard_by[other] != line:
                return None
            there = mix.rows[other]
            if not is_plain(row) or not is_plain(there) or row.stream is there.stream:
                return None
            return Seat(mix, other, line) if row.stream else Seat(mix, line, other)
    return None


def spare(calls: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """Return calls of nobody for a mix that `calls` are in: as many as are to come soon, each like the last one."""
    plain = [
        call for call in calls if len(call) == 2 and all(map(is_plain, call)) and call[0].stream is not call[1].stream
    ]
    if not plain:
        return []
    leg, stream = sorted(plain[-1], key=lambda row: row.stream)
    return [[nobody_like(leg), nobody_like(stream)] for _ in range(1 + len(plain) // GROWTH)]


# ------------------------------------------------------------------------------------------------ nobody


class _Nobody:
    """Says nothing, and takes what it is sent: as a source, as a sink, and together with others."""

    def poll(self, now: float, received: memoryview | None = None) -> bytes | None:
        return None

    def send(self, data: bytes | memoryview) -> None:
        pass

    def regular(self, leave: Leave) -> Regular | None:
        return Regular(lambda line: _NOTHING_CAME, None, lambda ticks, now, recent: None)

    def steady(self, leave: Leave) -> Steady | None:
        return Steady(len, Header(bytes(12)), lambda packets, sent: None)


NOBODY = _Nobody()


def nobody_like(row: Row) -> Row:
    """Return what takes the place of `row`: of its rate and codec."""
    paced = NOBODY if row.paced is not None else None
    return replace(
        row, call="", party="", source=NOBODY, sink=NOBODY, retune=None, batched=NOBODY, paced=paced, transmit=len
    )
