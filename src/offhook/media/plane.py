"""The media plane: every party's audio, 50 times a second, as matrices.

The way of a frame through one slot tick, from a caller to an app and back:

    Source.poll ──► Inlet: to the call's rate ──► Mix: who hears whom ──► Outlet: to each row's rate ──► Sink
    (leg, stream)                                                                              (leg, stream)

A *row* is one leg or one stream. Rows of a call stand together in the matrix of a `Mix`, one frame of int16 a row; a
row hears the sum of its call without itself, so a leg and a stream are the same thing, and a stream in mixed mode
hears everyone but its own app. An unmixed stream gets the other rows as they are.

A plane has `SLOTS` slots; a call lives in one of them, and slot `i` is ticked `i` slot times into each 20 ms. Nothing
in a tick awaits, logs, or raises past its row: a source or sink that raises is counted in `Row.faults`. The matrices
are laid out anew only when a row comes or goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pybase64

from offhook.audio import g711, pcm
from offhook.audio.resample import resampler
from offhook.media.dominant import SPEAKERS, Dominant
from offhook.wire import streaming

SLOTS = 5  # 4 ms apart: no call waits for all the others; ten cost 0.35 ms more per call-second at 100 calls
FILL = 32  # rows: a slot is filled so far before the next one is begun, as a slot costs much the same for 1 row or 20
DEFAULT_RATE = 16_000  # a call nobody streams from is mixed at this rate

Samples = npt.NDArray[np.int16]


class Source(Protocol):
    def poll(self, now: float) -> bytes | None:
        """Return one frame of PCM at the row's rate, or of its codec's octets; None for silence. Called once a tick;
        never blocks."""


class Sink(Protocol):
    def send(self, data: bytes) -> None:
        """Take one frame of PCM or octets (a leg) or one finished message (a stream). Never blocks."""


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
    codec: g711.Codec | None = None  # a leg whose frames are octets, at 8 kHz: a whole slot is decoded at once
    faults: int = 0  # ticks in which its source or sink raised, or gave a frame of a wrong size


class Converter:
    """The sample rate conversion of some rows, with what it remembers of each."""

    def __init__(self, rate_in: int, rate_out: int, rows: int) -> None:
        self.resampler = resampler(rate_in, rate_out)
        self.history = self.resampler.history(rows)

    def __call__(self, frames: Samples) -> Samples:
        return self.resampler.process(frames, self.history)


# ------------------------------------------------------------------------------------------------ into the matrix


class Inlet:
    """Rows of one rate and codec on their way into a mix."""

    def __init__(self, rows: Sequence[Row], mix_rate: int, index: Sequence[int]) -> None:
        rate, codec = rows[0].rate, rows[0].codec
        self.rows = rows
        self.polls = [(row, row.source.poll) for row in rows]
        self.index = np.array(index)
        self.codec = codec
        self.silence = pcm.silence(rate) if codec is None else bytes([codec.silence]) * g711.OCTETS_PER_FRAME
        self.converter = Converter(rate, mix_rate, len(rows)) if rate != mix_rate else None

    def fill(self, mix: Samples, audible: npt.NDArray[np.bool_], now: float) -> None:
        """Poll each row and put its frame into its line of `mix`; note in `audible` whose frame is not all zeros."""
        frames = []
        size = len(self.silence)
        for row, poll in self.polls:
            try:
                frame = poll(now)
            except Exception:
                row.faults += 1
                frame = None
            if frame is None:
                frame = self.silence
            elif len(frame) != size:
                row.faults += 1
                frame = self.silence
            frames.append(frame)
        data = b"".join(frames)
        if self.codec is None:
            block = pcm.as_samples(data).reshape(len(frames), -1)
            audible[self.index] = block.any(axis=1)
        else:
            block = self.codec.decode(np.frombuffer(data, np.uint8)).reshape(len(frames), -1)
            audible[self.index] = self.codec.audible(block)
        mix[self.index] = block if self.converter is None else self.converter(block)


# ------------------------------------------------------------------------------------------------ out of the matrix


@dataclass(eq=False, slots=True)
class Feed:
    """What one row is sent: everyone else in one frame, or (`speaker`) one other row's frame as it is."""

    row: Row
    speaker: Row | None
    at: int  # the line of the mix it is taken from: the hearer's own, or the speaker's
    envelope: streaming.AudioEnvelope | None  # for a stream
    dominant: Dominant | None = None  # decides whether this speaker is among the loudest; None: always sent


class Outlet:
    """Feeds of one rate and kind on their way out of a mix."""

    def __init__(self, feeds: Sequence[Feed], mix_rate: int) -> None:
        rate, codec = feeds[0].row.rate, feeds[0].row.codec
        self.feeds = feeds
        self.heard = np.array([f.speaker is None for f in feeds])
        self.all_heard = bool(self.heard.all())
        self.index = np.array([f.at for f in feeds])
        self.codec = codec
        self.bytes = pcm.bytes_per_frame(rate) if codec is None else g711.OCTETS_PER_FRAME
        self.converter = Converter(mix_rate, rate, len(feeds)) if rate != mix_rate else None
        self.to_streams = feeds[0].row.stream
        # base64 turns 3 bytes into 4 characters: rows padded to a multiple of 3 are encoded in one call and cut apart.
        self.padding = -self.bytes % 3
        self.text_bytes = 4 * (self.bytes + self.padding) // 3

    def deliver(self, mix: Mix, stamp: bytes) -> None:
        """Send each feed its frame."""
        frames = mix.others[self.index] if self.all_heard else self._pick(mix)
        if self.converter is not None:
            frames = self.converter(frames)
        if self.to_streams:
            self._send_messages(frames, mix, stamp)
        else:
            self._send_frames(frames)

    def _pick(self, mix: Mix) -> Samples:
        frames: Samples = mix.frames[self.index]
        frames[self.heard] = mix.others[self.index[self.heard]]
        return frames

    def _send_frames(self, frames: Samples) -> None:
        data = (frames if self.codec is None else self.codec.encode(frames)).tobytes()
        size = self.bytes
        for i, feed in enumerate(self.feeds):
            try:
                feed.row.sink.send(data[i * size : (i + 1) * size])
            except Exception:
                feed.row.faults += 1

    def _send_messages(self, frames: Samples, mix: Mix, stamp: bytes) -> None:
        texts, size = self._base64(frames), self.text_bytes
        quiet = np.where(self.heard, ~mix.others_audible[self.index], ~mix.audible[self.index]).tolist()
        for i, feed in enumerate(self.feeds):
            if feed.dominant is not None and not feed.dominant.sends(id(feed.speaker)):
                continue
            envelope = feed.envelope
            assert envelope is not None
            text = texts[i * size : (i + 1) * size]
            message = b"".join((envelope.head, stamp, envelope.middle, text, streaming.TAIL[quiet[i]]))
            try:
                feed.row.sink.send(message)
            except Exception:
                feed.row.faults += 1

    def _base64(self, frames: Samples) -> bytes:
        """Return the rows' base64 texts back to back, `text_bytes` characters each."""
        if not self.padding:
            return pybase64.b64encode(frames.tobytes())
        padded = np.zeros((len(self.feeds), self.bytes + self.padding), np.uint8)
        padded[:, : self.bytes] = frames.view(np.uint8)
        texts = np.frombuffer(pybase64.b64encode(padded.tobytes()), np.uint8).reshape(len(self.feeds), -1).copy()
        texts[:, -self.padding :] = ord("=")
        return texts.tobytes()


# ------------------------------------------------------------------------------------------------ the mix


class Hearing:
    """Who hears whom: each line of a call hears the sum of the call's other lines.

    Of two, each hears the other: a permutation, bit for bit. Of more (or one alone), a 0/1 matrix times the frames; in
    float32 the sum is exact for up to 512 parties, and it is four times as fast as numpy's segment sum.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        """`sizes`: the number of lines of each call, in order."""
        lines = np.arange(sum(sizes))
        call_of = np.repeat(np.arange(len(sizes)), sizes)
        size_of = np.repeat(sizes, sizes)
        first_of = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
        self.partner = np.where(size_of == 2, 2 * first_of + 1 - lines, lines)
        self.parties = lines[size_of != 2]
        together = call_of[self.parties, None] == call_of[None, self.parties]
        self.weights = (together & ~np.eye(len(self.parties), dtype=bool)).astype(np.float32)

    def mix(self, frames: Samples) -> Samples:
        """Return what each line hears, clipped to 16 bits; `frames` is (lines, samples)."""
        heard: Samples = frames[self.partner]
        if len(self.parties):
            sums = self.weights @ frames[self.parties].astype(np.float32)
            heard[self.parties] = np.clip(sums, -32768, 32767, out=sums)
        return heard

    def any_of(self, audible: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return for each line whether any line that it hears is audible."""
        heard: npt.NDArray[np.bool_] = audible[self.partner]
        if len(self.parties):
            heard[self.parties] = self.weights @ audible[self.parties] > 0
        return heard


class Mix:
    """The calls of one slot that are mixed at one rate. Lines of a call stand together."""

    def __init__(self, rate: int, calls: Sequence[Sequence[Row]]) -> None:
        self.rate = rate
        self.rows = [row for call in calls for row in call]
        sizes = [len(call) for call in calls]
        self.hearing = Hearing(sizes)
        self.frames: Samples = np.zeros((len(self.rows), pcm.samples_per_frame(rate)), np.int16)
        self.others = self.frames
        self.audible = np.zeros(len(self.rows), bool)
        self.others_audible = self.audible
        self.inlets = self._inlets()
        self.dominants: dict[int, Dominant] = {}  # by the unmixed row that they choose for
        self.outlets = self._outlets(calls)

    def tick(self, now: float, stamp: bytes) -> None:
        """One frame of every row: in, mixed, out."""
        for inlet in self.inlets:
            inlet.fill(self.frames, self.audible, now)
        self.others = self.hearing.mix(self.frames)
        self.others_audible = self.hearing.any_of(self.audible)
        for dominant in self.dominants.values():
            dominant.listen(self.frames)
        for outlet in self.outlets:
            outlet.deliver(self, stamp)

    def _inlets(self) -> list[Inlet]:
        by_kind: dict[tuple[int, g711.Codec | None], list[int]] = {}
        for line, row in enumerate(self.rows):
            by_kind.setdefault((row.rate, row.codec), []).append(line)
        return [Inlet([self.rows[line] for line in lines], self.rate, lines) for lines in by_kind.values()]

    def _outlets(self, calls: Sequence[Sequence[Row]]) -> list[Outlet]:
        by_kind: dict[tuple[int, bool, g711.Codec | None], list[Feed]] = {}
        line_of = {id(row): line for line, row in enumerate(self.rows)}
        for call in calls:
            for row in call:
                feeds = by_kind.setdefault((row.rate, row.stream, row.codec), [])
                feeds.extend(self._feeds(row, [other for other in call if other is not row], line_of))
        return [Outlet(feeds, self.rate) for feeds in by_kind.values() if feeds]

    def _feeds(self, row: Row, others: Sequence[Row], line_of: dict[int, int]) -> list[Feed]:
        if not row.unmixed:
            return [Feed(row, None, line_of[id(row)], streaming.AudioEnvelope(None) if row.stream else None)]
        dominant = None
        if len(others) > SPEAKERS:
            dominant = Dominant([id(other) for other in others], [line_of[id(other)] for other in others])
            self.dominants[id(row)] = dominant
        return [
            Feed(row, other, line_of[id(other)], streaming.AudioEnvelope(other.party), dominant) for other in others
        ]


# ------------------------------------------------------------------------------------------------ slots and plane


@dataclass(eq=False, slots=True)
class Slot:
    """The calls that are ticked together."""

    calls: dict[str, list[Row]] = field(default_factory=dict)
    mixes: list[Mix] = field(default_factory=list)
    moved_in: list[Mix] = field(default_factory=list)  # where calls that moved here were; until the next lay-out
    stale: bool = False
    rows: int = 0

    def tick(self, now: float, stamp: bytes) -> None:
        if self.stale:
            self._lay_out()
        for mix in self.mixes:
            mix.tick(now, stamp)

    def _lay_out(self) -> None:
        """Make the matrices' shape anew, carrying over what filters and speaker choices remember."""
        before = self.mixes + self.moved_in
        self.moved_in = []
        by_rate: dict[int, list[list[Row]]] = {}
        for rows in self.calls.values():
            rate = max((row.rate for row in rows if row.stream), default=DEFAULT_RATE)
            by_rate.setdefault(rate, []).append(rows)
        self.mixes = [Mix(rate, calls) for rate, calls in by_rate.items()]
        _carry_over(before, self.mixes)
        self.stale = False


class Plane:
    """All rows of one media worker. `epoch` is the Unix time, in seconds, at `now` = 0 of the clock that ticks it."""

    def __init__(self, epoch: float) -> None:
        self.slots = [Slot() for _ in range(SLOTS)]
        self.epoch = round(epoch, 3)  # Deadlines are whole milliseconds: so timestamps are exactly 20 ms apart.
        self._slot_of: dict[str, Slot] = {}

    def add(self, row: Row) -> None:
        """Put a row into its call; from the next tick on it hears and is heard."""
        slot = self._slot_of.get(row.call)
        if slot is None:
            slot = next((s for s in self.slots if s.rows < FILL), None) or min(self.slots, key=lambda s: s.rows)
            self._slot_of[row.call] = slot
        slot.calls.setdefault(row.call, []).append(row)
        slot.rows += 1
        slot.stale = True

    def remove(self, row: Row) -> None:
        """Take a row out; a row that is not there is ignored."""
        slot = self._slot_of.get(row.call)
        rows = slot.calls.get(row.call, []) if slot else []
        if slot is None or row not in rows:
            return
        rows.remove(row)
        slot.rows -= 1
        slot.stale = True
        if not rows:
            del slot.calls[row.call], self._slot_of[row.call]

    def move(self, call: str, to: int) -> None:
        """Let `call` be ticked in slot `to` (0 to `SLOTS` - 1) from now on; what its filters remember goes with it."""
        before, after = self._slot_of[call], self.slots[to]
        if before is after:
            return
        for slot in (before, after):
            slot.stale = True
        rows = after.calls[call] = before.calls.pop(call)
        before.rows -= len(rows)
        after.rows += len(rows)
        after.moved_in += before.mixes
        self._slot_of[call] = after

    def busy(self) -> bool:
        """Whether there is any row to tick for."""
        return bool(self._slot_of)

    def tick(self, slot: int, now: float) -> None:
        """Process every row of `slot` once: 20 ms of audio for each of its calls. `now`: when the tick was due."""
        if self.slots[slot].rows or self.slots[slot].stale:
            self.slots[slot].tick(now, streaming.timestamp(self.epoch + now))


def _carry_over(before: Sequence[Mix], after: Sequence[Mix]) -> None:
    """Copy what filters and speaker choices remember of rows that stay from the old matrices to the new ones."""
    memory = {key: history for mix in before for key, history in _histories(mix)}
    for mix in after:
        for key, history in _histories(mix):
            if key in memory:
                history[:] = memory[key]
    choices = {hearer: dominant for mix in before for hearer, dominant in mix.dominants.items()}
    for mix in after:
        for hearer, dominant in mix.dominants.items():
            if hearer in choices:
                dominant.remember(choices[hearer])


def _histories(mix: Mix) -> Iterator[tuple[tuple[object, ...], npt.NDArray[np.float32]]]:
    """Every line of filter history in a mix, with whose it is and what filter made it."""
    for inlet in mix.inlets:
        if inlet.converter is not None:
            for row, line in zip(inlet.rows, inlet.converter.history, strict=True):
                yield (inlet.converter.resampler, id(row)), line
    for outlet in mix.outlets:
        if outlet.converter is not None:
            for feed, line in zip(outlet.feeds, outlet.converter.history, strict=True):
                yield (outlet.converter.resampler, id(feed.row), id(feed.speaker)), line
