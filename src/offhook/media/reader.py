"""Reads what regular rows send, all of a slot together: see `offhook.media.batch`."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from offhook.audio import pcm
from offhook.media.batch import DEEPEST, PAST, Batched, Envelope, Expected, Header, Receive, Regular
from offhook.media.forms import Form, Frames, Lines, Octets, Packets, Texts

if TYPE_CHECKING:
    from offhook.media.plane import Row

LONGEST = 2048  # bytes that are read this way: of a message with 20 ms at 24 kHz in base64, or of any packet
LOOK_EVERY = 50  # ticks, 1 s: then it is looked for a second packet; a row of which something waits is polled as ever
LOOK_SELDOM = 5  # times so many: then every other row is polled, too
MISSED_S = 0.03  # from one tick to the next: the clock has left some out

_KEPT = DEEPEST + 1 + PAST + 1  # ticks: what waits, what was played, and the current one
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_NOTHING, _UNKNOWN, _UNREAD = -1, -2, -3  # in the place of the size of a message: none came; an error; it is polled
_POLLED = -4  # what is expected then: never what comes


class _Place:
    """Where a regular row is read. A slot that is laid out anew gives it another reader and line.

    Its row has it for long, so a place that was left holds nothing: what stands in a circle waits for a garbage
    collection.
    """

    __slots__ = ("line", "reader", "regular", "since")

    def __init__(self) -> None:
        self.reader: Reader | None = None
        self.regular: Regular | None = None
        self.line = self.since = 0  # `since`: the first tick in which it is read there

    def leave(self) -> None:
        """Have the row polled next time, and make up for what it has missed."""
        reader, regular, self.reader, self.regular = self.reader, self.regular, None, None
        if reader is not None and regular is not None:
            reader.drop(self.line, regular, self.since)


class _Delayed:
    """The lines in which what came is not played at once."""

    def __init__(self, waiting: Sequence[int], size: int) -> None:
        """`waiting`: how many samples or octets wait in each line; `size` of them are a frame."""
        behind = np.array(waiting, np.intp)
        self._lines = np.flatnonzero(behind)
        self._ages, pieces = np.divmod(behind[self._lines], size)  # ticks
        # Where each line's frame stands in an older one with a newer one behind it.
        self._at = np.arange(0, 2 * size * len(pieces), 2 * size)[:, None] + np.arange(size, 2 * size)
        self._at -= pieces[:, None]

    def put_back(self, frames: Frames, kept: Frames, tick: int) -> None:
        """Let `frames` be those whose turn it is in `tick`, of `kept`."""
        if len(lines := self._lines):
            newer = tick - self._ages
            both = np.concatenate([kept[(newer - 1) % _KEPT, lines], kept[newer % _KEPT, lines]], axis=1)
            frames[lines] = both.reshape(-1).take(self._at)


class Reader:
    """Reads one frame a tick of each of some rows of one rate and codec."""

    def __init__(self, rows: Sequence[Row]) -> None:
        codec = rows[0].codec
        self.rows = list(rows)
        self._silence = np.frombuffer(pcm.silence(rows[0].rate), np.int16)
        if codec is not None:
            self._silence = np.full(len(self._silence), codec.silence, np.uint8)
        self._frames: Frames = np.tile(self._silence, (len(rows), 1))
        self._messages: Octets = np.zeros((len(rows), LONGEST), np.uint8)
        flat = self._messages.reshape(-1).data
        self._lines = [flat[at : at + LONGEST] for at in range(0, len(flat), LONGEST)]
        self._receives: list[Receive] = [_unread] * len(rows)
        self._expected = [_POLLED] * len(rows)  # sizes
        self._places: list[_Place | None] = [None] * len(rows)
        self._form: Form | None = None
        self._saying: Lines | None = None  # lines in which a message is expected; None: to be found out
        self._waiting = [0] * len(rows)  # samples or octets
        self._delayed: _Delayed | None = None  # the lines of which some wait; None: to be found out
        self._kept: Frames | None = None  # the frames that came last, by tick modulo their number, and by line
        self._due: dict[int, list[_Place]] = {}  # by the tick before which they leave
        self._tick = 0
        self._now = 0.0

    def read(self, now: float) -> Frames:
        """Return the frames, a line for each row; a row that raises is silent. Valid until the next read."""
        if now - self._now > MISSED_S:
            self.let_go()
        sizes = self._receive()
        odd = []
        if sizes != self._expected:
            odd = [line for line, size in enumerate(sizes) if size != self._expected[line]]
        odd += self._take(odd)
        for line in odd:
            self._poll(line, sizes[line], now)
        self._tick += 1
        self._now = now
        for due in self._due.pop(self._tick, ()):
            due.leave()
        for line in range(self._tick % LOOK_EVERY, len(self.rows), LOOK_EVERY):
            if (place := self._places[line]) is not None:
                self._look(line, place)
        return self._frames

    def _look(self, line: int, place: _Place) -> None:
        """See to what one message a tick does not show: that a second one is there, or something waits too long."""
        if self._waiting[line] or self._tick - place.since >= LOOK_EVERY * LOOK_SELDOM:
            place.leave()
        elif place.regular is not None and (take := place.regular.take_second) is not None:
            try:
                size = place.regular.receive(self._lines[line])
            except _WOULD_BLOCK:
                return
            except OSError:
                return  # as nobody listens at the other side's port: the next tick sees to it
            place.leave()
            try:
                take(self._lines[line][:size], self._now)
            except Exception:
                self.rows[line].faults += 1

    def _receive(self) -> list[int]:
        """Read a message into each line; return their sizes."""
        sizes = []
        for receive, line in zip(self._receives, self._lines, strict=True):
            try:
                sizes.append(receive(line))
            except _WOULD_BLOCK:
                sizes.append(_NOTHING)
            except OSError:
                sizes.append(_UNKNOWN)
        return sizes

    def _take(self, odd: Sequence[int]) -> list[int]:
        """Take what has come in all other lines; return those in which it is not what was expected."""
        if self._saying is None:
            self._saying = np.flatnonzero(np.array(self._expected) > 0)
        lines = self._saying
        if odd:
            there = np.ones(len(self.rows), bool)
            there[odd] = False
            lines = lines[there[lines]]
        if not len(lines) or self._form is None:
            return []
        messages = self._messages[:, : self._form.size]
        if len(lines) < len(messages):
            messages = messages[lines]
        alike = self._form.alike(messages, lines)
        strange: list[int] = []
        if not alike.all():
            strange = lines[~alike].tolist()
            lines, messages = lines[alike], messages[alike]
        try:
            self._frames[lines] = self._form.take(messages, lines)
        except ValueError:  # Somebody's makes no sense: each for himself.
            return [*strange, *lines.tolist()]
        self._delay()
        return strange

    def _delay(self) -> None:
        """Keep what has come, and where some of it waits, put that into its place which came so much before."""
        if self._kept is None:
            return
        self._kept[self._tick % _KEPT] = self._frames
        if self._delayed is None:
            self._delayed = _Delayed(self._waiting, len(self._silence))
        self._delayed.put_back(self._frames, self._kept, self._tick)

    # ------------------------------------------------------------------------------------------ row by row

    def _poll(self, line: int, size: int, now: float) -> None:
        """Have a row polled as ever, which has sent what is in its line already, and see whether it is regular."""
        row, one = self.rows[line], self.rows[line].batched
        self._frames[line] = self._silence
        try:
            if (place := self._places[line]) is not None:
                place.leave()
            if one is None:
                frame = row.source.poll(now)
            else:
                frame = one.poll(now, self._lines[line][:size] if size > 0 else None)
            if frame is not None:
                self._frames[line] = np.frombuffer(frame, self._silence.dtype).reshape(self._silence.shape)
            if one is not None:
                self._enter(line, one, said=frame is not None)
        except Exception:
            row.faults += 1

    def _enter(self, line: int, one: Batched, said: bool) -> None:
        place = _Place()
        regular = one.regular(place.leave)
        if regular is None or said != (regular.first is not None):
            return
        place.regular, place.line, place.since = regular, line, self._tick + 1
        if self._expect(line, regular.first):
            self._put(place, regular)
        if regular.recent:
            kept = self._ring()
            frames = np.frombuffer(regular.recent.rjust(_KEPT * self._silence.nbytes, b"\0"), kept.dtype)
            ages = np.arange(_KEPT - 1, -1, -1)  # The last one came in this tick.
            kept[(self._tick - ages) % _KEPT, line] = frames.reshape(_KEPT, -1)

    def _expect(self, line: int, first: Expected) -> bool:
        """Set what comes next in a line; return False when the others speak to us in another way."""
        if first is None:
            self._expected[line] = _NOTHING
            return True
        if self._form is None or self._form.size not in self._expected:
            self._form = self._form_of(first)
        if self._form.size > LONGEST or not self._form.fits(line, first):
            return False
        self._expected[line] = self._form.size
        return True

    def _put(self, place: _Place, regular: Regular) -> None:
        """Read a row whose messages are expected in its line."""
        place.reader = self
        self._places[place.line] = place
        self._receives[place.line] = regular.receive
        self._waiting[place.line] = regular.waiting // self._silence.itemsize
        self._saying = self._delayed = None
        if regular.ticks is not None and regular.ticks < LOOK_EVERY:
            self._due.setdefault(place.since + regular.ticks, []).append(place)

    def _form_of(self, first: Envelope | Header) -> Form:
        size = self._silence.nbytes
        return Texts(first, size) if isinstance(first, Envelope) else Packets(len(self.rows), size)

    def _ring(self) -> Frames:
        """Return the frames that are kept; none before the first row wants it."""
        if self._kept is None:
            self._kept = np.zeros((_KEPT, *self._frames.shape), self._frames.dtype)
        return self._kept

    # ------------------------------------------------------------------------------------------ coming and going

    def drop(self, line: int, regular: Regular, since: int) -> None:
        """Do not read a row any more that was in `line` from tick `since` on, and make up for what it has missed."""
        self._take_out(line)
        ticks = self._tick - since
        if ticks > 0:
            recent = b""
            if size := len(regular.recent):
                ages = np.arange(-(-size // self._silence.nbytes), 0, -1)
                recent = self._ring()[(self._tick - ages) % _KEPT, line].tobytes()[-size:]
            regular.settle(ticks, self._now, recent)

    def _take_out(self, line: int) -> None:
        self._places[line] = None
        self._receives[line] = _unread
        self._expected[line] = _POLLED
        self._waiting[line] = 0
        self._saying = self._delayed = None

    def seat(self, line: int, row: Row) -> None:
        """Let `row` have a line of one that has gone."""
        if (place := self._places[line]) is not None:
            place.leave()
        self.rows[line] = row

    def let_go(self, rows: Sequence[Row] | None = None) -> None:
        """Have `rows`, or all, polled next time, here or elsewhere."""
        for row, place in zip(self.rows, self._places, strict=True):
            if place is not None and (rows is None or row in rows):
                place.leave()

    def take_over(self, before: Reader, lines: Sequence[tuple[int, int]]) -> None:
        """Go on with rows of the reader `before`: pairs of a row's line here and there. Not with those who speak to us
        in another way than the rows that are here already."""
        if not self._tick:
            self._tick, self._now = before._tick, before._now
        moved = [(line, there) for line, there in lines if self._take_in(before, line, there)]
        if before._kept is not None and moved:
            ages = np.arange(1, _KEPT)[:, None]
            here, there = np.array(moved).T
            self._ring()[(self._tick - ages) % _KEPT, here] = before._kept[(before._tick - ages) % _KEPT, there]

    def _take_in(self, before: Reader, line: int, there: int) -> bool:
        place, form = before._places[there], before._form
        first = form.next(there) if form is not None and before._expected[there] > 0 else None
        if place is None or place.regular is None or not self._expect(line, first):
            return False
        before._take_out(there)
        place.line, place.since = line, place.since + self._tick - before._tick
        self._put(place, place.regular)
        return True


def _unread(line: memoryview) -> int:
    return _UNREAD
