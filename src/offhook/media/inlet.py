"""Into the matrix of a mix: what rows say, brought to the call's rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from offhook.audio import pcm
from offhook.audio.resample import Converter
from offhook.media.reader import Reader

if TYPE_CHECKING:
    from offhook.media.plane import Row

Samples = npt.NDArray[np.int16]


class Inlet:
    """Rows of one rate and codec on their way into a mix."""

    def __init__(self, rows: list[Row], mix_rate: int, index: Sequence[int]) -> None:
        rate, codec = rows[0].rate, rows[0].codec
        self.rows = rows
        self.polls = [(row, row.source.poll) for row in rows]
        self.index = np.array(index)
        self.codec = codec
        self.silence = pcm.silence(rate)
        self.reader = Reader(rows) if rows[0].stream or codec is not None else None
        self.converter = Converter(rate, mix_rate, len(rows)) if rate != mix_rate else None

    def fill(self, mix: Samples, audible: npt.NDArray[np.bool_], now: float) -> None:
        """Put each row's frame into its line of `mix`; note in `audible` whose frame is not all zeros."""
        block: npt.NDArray[Any] = self._poll(now) if self.reader is None else self.reader.read(now)
        if self.codec is None:
            audible[self.index] = block.any(axis=1)
        else:
            audible[self.index] = self.codec.audible(block)
            block = self.codec.decode(block)
        mix[self.index] = block if self.converter is None else self.converter(block)

    def seat(self, line: int, row: Row) -> None:
        """Let `row` have a line of one that has gone."""
        self.rows[line] = row
        self.polls[line] = row, row.source.poll
        if self.reader is not None:
            self.reader.seat(line, row)
        if self.converter is not None:
            self.converter.history[line] = 0

    def _poll(self, now: float) -> Samples:
        """Return a frame of each row, one after the other."""
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
        return pcm.as_samples(b"".join(frames)).reshape(len(frames), -1)
