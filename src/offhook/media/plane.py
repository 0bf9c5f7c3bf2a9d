"""The media plane: every party's audio, 50 times a second, as matrices.

The way of a frame through a tick's two halves, 10 ms apart:

    callers speak     leg.poll ────► Inlet ──┐                      ┌──► Outlet ──► stream.send
                                             ├──► Mix: who hears ───┤
    callers listen    stream.poll ─► Inlet ──┘         whom         └──► Outlet ──► leg.send

A *row* is one leg or one stream, a prompt or an ear. Rows of a call stand together in the matrix of a `Mix`, one frame
of int16 a row; a row hears the sum of its call without itself (`media.hearing`), so a leg and a stream are the same
thing, and a stream in mixed mode hears everyone but its own app. An unmixed stream gets the other parties as they are.
Inlets bring rows to the call's rate, outlets to the hearer's.

A plane has `SLOTS` slots; a call lives in one of them. In slot `i`, `i` slot times into each 20 ms, its callers speak;
they listen half a tick later, when their app has had the time to answer. Nothing in a tick awaits, logs, or raises past
its row: a source or sink that raises is counted in `Row.faults`. The matrices are laid out anew only when a row comes
or goes that is not like one that has gone before (`media.seats`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from offhook.audio import g711, pcm
from offhook.media.batch import Batched, Paced, Transmit
from offhook.media.carry import carry_over
from offhook.media.dominant import SPEAKERS, Dominant
from offhook.media.hearing import FREE, Hearing, Kept, Prompt, Routes, hears
from offhook.media.inlet import Inlet
from offhook.media.outlet import Feed, Outlet
from offhook.media.reader import Reader
from offhook.media.seats import CALM, GROWTH, Seats, spare
from offhook.media.writer import Writer
from offhook.wire import streaming

SLOTS = 4  # 5 ms apart: no call waits for all the others
FILL = 200  # rows: a slot is filled so far before the next is begun: waking up for it costs as much as a dozen calls
FILLING = (0, 2, 1, 3)  # the slots in the order in which they are filled: far apart in time
DEFAULT_RATE = 16_000  # a call nobody streams from is mixed at this rate

Samples = npt.NDArray[np.int16]


class Source(Protocol):
    def poll(self, now: float) -> bytes | None:
        """Return one frame of PCM at the row's rate, or of its codec's octets; None for silence. Called once a tick;
        never blocks."""


class Sink(Protocol):
    def send(self, data: bytes | memoryview) -> None:
        """Take one frame of PCM or octets (a leg, bytes) or one masked WebSocket message (a stream, to be copied if it
        is kept). Never blocks."""


@dataclass(eq=False, slots=True)
class Row:
    """One leg's or stream's line in the matrices."""

    call: str
    party: str  # raw id
    rate: int
    source: Source
    sink: Sink
    stream: bool = False
    unmixed: bool = False
    prompt: Prompt | None = None  # it only plays: its sink is not used
    ear_for: str | None = None  # it only listens, to this party
    retune: Callable[[int], None] | None = None  # it can have any rate, and takes that of the mix when told
    codec: g711.Codec | None = None  # a leg whose frames are octets, at 8 kHz: a whole slot is decoded at once
    batched: Batched | None = None  # can be read together with others
    paced: Paced | None = None  # a leg that can be written to together with others
    transmit: Transmit | None = None  # writes into a stream's socket: how much it took; None: use `sink`
    sent: int = 0  # messages, by `transmit`
    faults: int = 0  # ticks in which its source or sink raised, or gave a frame of a wrong size

    @property
    def is_party(self) -> bool:
        """Whether somebody is behind it, who hears and speaks."""
        return self.prompt is None and self.ear_for is None


# ------------------------------------------------------------------------------------------------ the mix


class Mix:
    """The calls of one slot that are mixed at one rate. Lines of a call stand together; sums stand below them."""

    def __init__(
        self, rate: int, calls: Sequence[Sequence[Row]], routes: Callable[[str], Routes] = lambda call: {}
    ) -> None:
        self.rate = rate
        self.rows = [row for call in calls for row in call]
        self.hearing = Hearing(calls, routes)
        self.frames: Samples = np.zeros((self.hearing.silence + 1, pcm.samples_per_frame(rate)), np.int16)
        self.audible = np.zeros(len(self.frames), bool)
        self.inlets = self._inlets()
        self.from_legs = [inlet for inlet in self.inlets if not inlet.rows[0].stream]
        self.from_streams = [inlet for inlet in self.inlets if inlet.rows[0].stream]
        self.dominants: dict[int, Dominant] = {}  # by the unmixed row that they choose for
        self.outlets = self._outlets(calls, routes)
        self.to_legs = [outlet for outlet in self.outlets if outlet.messages is None]
        self.to_streams = [outlet for outlet in self.outlets if outlet.messages is not None]
        self.readers = [inlet.reader for inlet in self.inlets if inlet.reader is not None]
        self.writers = [outlet.writer for outlet in self.outlets if outlet.writer is not None]

    def callers_speak(self, now: float, stamp: bytes) -> None:
        """Half a tick: what the legs say goes to the streams."""
        for inlet in self.from_legs:
            inlet.fill(self.frames, self.audible, now)
        self.hearing.add(self.frames, self.audible)
        for dominant in self.dominants.values():
            dominant.listen(self.frames)
        for outlet in self.to_streams:
            outlet.deliver(self, stamp)

    def callers_listen(self, now: float) -> None:
        """The other half: what the streams say goes to the legs, and so does what other legs have said."""
        for inlet in self.from_streams:
            inlet.fill(self.frames, self.audible, now)
        self.hearing.add(self.frames, self.audible)
        for outlet in self.to_legs:
            outlet.deliver(self, b"")

    def seat(self, line: int, row: Row) -> None:
        """Let `row` have the line of one that has gone, of its rate and kind; what was said there is forgotten."""
        gone, self.rows[line] = self.rows[line], row
        self.frames[line] = 0
        self.audible[line] = False
        lets: list[Inlet | Outlet] = [*self.inlets, *self.outlets]
        for one in lets:
            if gone in one.rows:
                one.seat(one.rows.index(gone), row)

    def _inlets(self) -> list[Inlet]:
        by_kind: dict[tuple[object, ...], list[int]] = {}
        for line, row in enumerate(self.rows):
            by_kind.setdefault((row.rate, row.stream, row.codec), []).append(line)
        return [Inlet([self.rows[line] for line in lines], self.rate, lines) for lines in by_kind.values()]

    def _outlets(self, calls: Sequence[Sequence[Row]], routes: Callable[[str], Routes]) -> list[Outlet]:
        by_kind: dict[tuple[object, ...], list[Feed]] = {}
        line_of = {id(row): line for line, row in enumerate(self.rows)}
        heard_by = self.hearing.heard_by.tolist()
        for call in calls:
            for row in call:
                kind = (row.rate, row.stream, row.codec)
                if row.prompt is not None:
                    continue
                if not row.unmixed:
                    by_kind.setdefault(kind, []).append(Feed(row, None, heard_by[line_of[id(row)]]))
                    continue
                parties = [other for other in call if other is not row and other.is_party]
                for feed in self._feeds(row, parties, line_of, routes(row.call)):
                    assert feed.speaker is not None
                    # Messages of one outlet are of one length: they stand in one matrix.
                    length = len(streaming.AudioEnvelope(feed.speaker.party).middle)
                    by_kind.setdefault((*kind, length), []).append(feed)
        return [Outlet(feeds, self.rate) for feeds in by_kind.values()]

    def _feeds(self, row: Row, others: Sequence[Row], line_of: dict[int, int], routes: Routes) -> list[Feed]:
        """Return those of an unmixed row: one for each of the others; silence of whom it does not hear."""
        at = [line_of[id(other)] if hears(row, other, routes) else self.hearing.silence for other in others]
        dominant = None
        if len(others) > SPEAKERS:
            dominant = Dominant([id(other) for other in others], at)
            self.dominants[id(row)] = dominant
        return [Feed(row, other, line, dominant) for other, line in zip(others, at, strict=True)]


# ------------------------------------------------------------------------------------------------ slots and plane


@dataclass(eq=False, slots=True)
class Slot:
    """The calls that are ticked together."""

    routes: Callable[[str], Routes]
    calls: dict[str, list[Row]] = field(default_factory=dict)
    mixes: list[Mix] = field(default_factory=list)
    moved_in: list[Mix] = field(default_factory=list)  # where calls that moved here were; until the next lay-out
    seats: Seats = field(default_factory=Seats)
    stale: bool = False
    rows: int = 0
    calm: int = CALM  # half ticks since rows came or went

    def add(self, row: Row) -> None:
        """Put a row into its call."""
        others = self.calls.setdefault(row.call, [])
        if self.stale or self.routes(row.call) or self.seats.take(row, others, self.mixes) is None:
            self.stale = True
        others.append(row)
        self.rows += 1
        self.calm = 0

    def remove(self, row: Row) -> None:
        """Take a row that is there out of its call."""
        rows = self.calls[row.call]
        if self.stale or not self.seats.leave(row, self.mixes):
            self.let_go([row])
            self.stale = True
        rows.remove(row)
        self.rows -= 1
        self.calm = 0
        if not rows:
            del self.calls[row.call]
        self._forget()

    def move(self, call: str, before: Slot) -> None:
        """Take a call over from the slot that it was in; what its filters remember goes with it."""
        rows = self.calls[call] = before.calls.pop(call)
        stale = self.stale or before.stale or bool(self.routes(call))
        if stale or not self.seats.move(rows, before.seats, before.mixes, self.mixes):
            before.let_go(rows)  # At its new time there may be two messages, or none.
            self.moved_in += before.mixes + before.moved_in
            self.stale = before.stale = True
        before.rows -= len(rows)
        self.rows += len(rows)
        self.calm = before.calm = 0
        before._forget()

    def _forget(self) -> None:
        """Drop what is not ticked any more, so that nothing else would let go of it, and seats that are too many."""
        if not self.rows:
            self.mixes, self.moved_in, self.seats = [], [], Seats()
        elif len(self.seats) > max(GROWTH, len(self.calls)):
            self.stale = True

    def laid_out(self) -> list[Mix]:
        """Return the mixes, made anew when rows have come or gone that had no seat."""
        self.calm += 1
        if self.calm == CALM and self.seats:
            self.stale = True
        if self.stale:
            self._lay_out()
        return self.mixes

    def _lay_out(self) -> None:
        """Make the matrices' shape anew, carrying over what was said, and what filters and choices remember."""
        before = self.mixes
        by_rate: dict[int, list[list[Row]]] = {}
        for rows in self.calls.values():
            rate = max((row.rate for row in rows if row.stream), default=DEFAULT_RATE)
            by_rate.setdefault(rate, []).append(rows)
            for row in rows:
                if row.retune is not None and row.rate != rate:
                    row.rate = rate
                    row.retune(rate)
        if self.calm < CALM:
            for calls in by_rate.values():
                calls += spare(calls)
        self.mixes = [Mix(rate, calls, self.routes) for rate, calls in by_rate.items()]
        self.seats.use(self.mixes)
        carry_over(before, self.moved_in, self.mixes)
        self.moved_in = []
        self.stale = False

    def let_go(self, rows: Sequence[Row]) -> None:
        """Have `rows` polled and sent to by themselves: they are going to be elsewhere."""
        for mix in self.mixes:
            batches: list[Reader | Writer] = [*mix.readers, *mix.writers]
            for one in batches:
                one.let_go(rows)


class Plane:
    """All rows of one media worker. `epoch` is the Unix time, in seconds, at `now` = 0 of the clock that ticks it."""

    def __init__(self, epoch: float) -> None:
        self._routes: dict[str, dict[str, Kept]] = {}  # by call and party
        self.slots = [Slot(self._routes_of) for _ in range(SLOTS)]
        self.epoch = round(epoch, 3)  # Deadlines are whole milliseconds: so timestamps are exactly 20 ms apart.
        self._slot_of: dict[str, Slot] = {}

    def add(self, row: Row) -> None:
        """Put a row into its call; from the next tick on it hears and is heard."""
        slot = self._slot_of.get(row.call)
        if slot is None:
            slots = [self.slots[number] for number in FILLING]
            slot = next((s for s in slots if s.rows < FILL), None) or min(slots, key=lambda s: s.rows)
            self._slot_of[row.call] = slot
        slot.add(row)

    def remove(self, row: Row) -> None:
        """Take a row out; a row that is not there is ignored."""
        slot = self._slot_of.get(row.call)
        if slot is None or row not in slot.calls[row.call]:
            return
        slot.remove(row)
        if row.call not in slot.calls:
            del self._slot_of[row.call]
            self._routes.pop(row.call, None)

    def move(self, call: str, to: int) -> None:
        """Let `call` be ticked in slot `to` (0 to `SLOTS` - 1) from now on; what its filters remember goes with it."""
        before, after = self._slot_of[call], self.slots[to]
        if before is not after:
            after.move(call, before)
            self._slot_of[call] = after

    def route(self, call: str, party: str, kept: Kept) -> None:
        """Keep a party of a call that has rows from something, from the next tick on; rows that it gets later, too."""
        slot = self._slot_of.get(call)
        if slot is None:
            return
        routes = self._routes.setdefault(call, {})
        routes[party] = kept
        if kept == FREE:
            del routes[party]
        slot.stale = True

    def _routes_of(self, call: str) -> Routes:
        return self._routes.get(call, {})

    def busy(self) -> bool:
        """Whether there is any row to tick for."""
        return bool(self._slot_of)

    def busy_in(self, slot: int) -> bool:
        """Whether there is any row to tick for in `slot`."""
        return self.slots[slot].rows > 0 or self.slots[_opposite(slot)].rows > 0

    def tick(self, slot: int, now: float) -> None:
        """Let the callers of `slot` speak, and those of the opposite slot listen. `now`: when this was due."""
        stamp = streaming.timestamp(self.epoch + now)
        for mix in self.slots[slot].laid_out():
            mix.callers_speak(now, stamp)
        for mix in self.slots[_opposite(slot)].laid_out():
            mix.callers_listen(now)


def _opposite(slot: int) -> int:
    return (slot + SLOTS // 2) % SLOTS
