"""Writes to telephones, all of a slot together: see `offhook.media.batch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from offhook.media.batch import Steady, Transmit
from offhook.wire import rtp

if TYPE_CHECKING:
    from offhook.media.plane import Row

Octets = npt.NDArray[np.uint8]


class _Place:
    """Where a steady row is written to: as in `media.reader`."""

    __slots__ = ("line", "since", "steady", "unsent", "writer")

    def __init__(self) -> None:
        self.writer: Writer | None = None
        self.steady: Steady | None = None
        self.line = self.since = 0  # `since`: the first tick in which it is written to there …
        self.unsent = 0  # … and packets since then that were not taken

    def leave(self) -> None:
        """Have the row sent to by itself next time, and make up for what it has missed."""
        writer, steady, self.writer, self.steady = self.writer, self.steady, None, None
        if writer is not None and steady is not None and (due := writer.drop(self.line, self.since)) > 0:
            steady.settle(due, due - self.unsent)


class Writer:
    """Sends one frame of octets a tick to each of some legs."""

    def __init__(self, rows: Sequence[Row], frame_bytes: int) -> None:
        self.rows = list(rows)
        self._headers = rtp.Headers(len(rows), step=frame_bytes)
        self._packets = np.zeros((len(rows), rtp.HEADER.size + frame_bytes), np.uint8)
        self._frames = self._packets[:, rtp.HEADER.size :]
        flat, step = self._packets.reshape(-1).data, self._packets.shape[1]
        self._lines = [flat[at : at + step] for at in range(0, len(flat), step)]
        self._transmits: list[Transmit | None] = [None] * len(rows)
        self._places: list[_Place | None] = [None] * len(rows)
        self._tick = 0

    def write(self, frames: Octets) -> None:
        """Send each row its line of `frames`."""
        self._headers.put_on(self._packets)
        self._frames[:] = frames
        for line, (transmit, packet) in enumerate(zip(self._transmits, self._lines, strict=True)):
            if transmit is None:
                self._send(line, packet)
                continue
            try:
                transmit(packet)
            except OSError:  # the socket is full, or nobody listens at the other side's port
                if (place := self._places[line]) is not None:
                    place.unsent += 1
        self._headers.advance()
        self._tick += 1

    def _send(self, line: int, packet: memoryview) -> None:
        row = self.rows[line]
        try:
            row.sink.send(bytes(packet[rtp.HEADER.size :]))
        except Exception:
            row.faults += 1
            return
        if row.paced is None:
            return
        place = _Place()
        steady = row.paced.steady(place.leave)
        if steady is not None:
            place.steady, place.line, place.since = steady, line, self._tick + 1
            self._put(place, steady)
            self._headers.set_before(line, steady.first.octets)

    def _put(self, place: _Place, steady: Steady) -> None:
        place.writer = self
        self._places[place.line] = place
        self._transmits[place.line] = steady.transmit

    def drop(self, line: int, since: int) -> int:
        """Do not write to the row in `line` any more; return how many packets it was sent since tick `since`."""
        self._places[line] = self._transmits[line] = None
        return self._tick - since

    def seat(self, line: int, row: Row) -> None:
        """Let `row` have a line of one that has gone."""
        if (place := self._places[line]) is not None:
            place.leave()
        self.rows[line] = row

    def let_go(self, rows: Sequence[Row] | None = None) -> None:
        """Have `rows`, or all, sent to by themselves next time, here or elsewhere."""
        for row, place in zip(self.rows, self._places, strict=True):
            if place is not None and (rows is None or row in rows):
                place.leave()

    def take_over(self, before: Writer, lines: Sequence[tuple[int, int]]) -> None:
        """Go on with rows of the writer `before`: pairs of a row's line here and there."""
        if not self._tick:
            self._tick = before._tick
        for line, there in lines:
            place = before._places[there]
            if place is not None and place.steady is not None:
                before.drop(there, place.since)
                place.line, place.since = line, place.since + self._tick - before._tick
                self._put(place, place.steady)
                self._headers.set(line, before._headers.next(there))
