"""Who hears whom in a call, and the sums that make it so.

The rules. A leg or a stream hears the others of its call, less who is muted. Who is on hold hears nobody and is heard
by nobody. A *prompt* hears nobody; it is heard by those it is for, on hold or not, or by every leg that is not on hold
and the streams of all apps but its own. An *ear* is heard by nobody, and hears one party, whatever that one is kept
from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from offhook.media.plane import Row

Samples = npt.NDArray[np.int16]


class Kept(NamedTuple):
    """What a party is kept from."""

    muted: bool = False
    on_hold: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """What makes a row a prompt: the app (raw id) that plays it, and for whom (raw ids); for nobody: for all."""

    by: str
    to: frozenset[str] = frozenset()


FREE = Kept()
Routes = Mapping[str, Kept]  # of a call: by raw id; who is not there is free


def hears(listener: Row, speaker: Row, routes: Routes) -> bool:
    """Whether one row of a call hears another one."""
    if listener is speaker or listener.prompt is not None or speaker.ear_for is not None:
        return False
    if listener.ear_for is not None:
        return speaker.prompt is None and speaker.party == listener.ear_for
    here = routes.get(listener.party, FREE)
    if (prompt := speaker.prompt) is not None:
        if prompt.to:
            return not listener.stream and listener.party in prompt.to
        return not here.on_hold and not (listener.stream and listener.party == prompt.by)
    there = routes.get(speaker.party, FREE)
    return not (here.on_hold or there.on_hold or there.muted)


def _is_plain(row: Row, routes: Routes) -> bool:
    return row.prompt is None and row.ear_for is None and routes.get(row.party, FREE) == FREE


class Hearing:
    """The lines of a mix, and what each of them hears.

    Of two that nothing keeps apart, each hears the other's line itself, bit for bit. For each line of any other call a
    *sum* is made, a 0/1 matrix times the frames; in float32 it is exact for up to 512 parties, and four times as fast
    as numpy's segment sum. The sums stand below the lines, in the same matrix, and below them a line of silence.
    """

    def __init__(self, calls: Sequence[Sequence[Row]], routes: Callable[[str], Routes]) -> None:
        """`calls`: the rows of each call, in the order of their lines; `routes`: what is kept from whom, by call."""
        sizes = [len(call) for call in calls]
        special = [self._special(call, routes(call[0].call)) for call in calls]
        lines = np.arange(sum(sizes))
        call_of = np.repeat(np.arange(len(sizes)), sizes)
        pair = np.array([size == 2 and not lines for size, lines in zip(sizes, special, strict=True)], bool)
        first_of = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
        self.parties = lines[~np.repeat(pair, sizes)]
        together = call_of[self.parties, None] == call_of[None, self.parties]
        weights = together & ~np.eye(len(self.parties), dtype=bool)
        for first, call, at in zip(np.cumsum([0, *sizes[:-1]]).tolist(), calls, special, strict=True):
            if at:
                begin = int(np.searchsorted(self.parties, first))
                block = weights[begin : begin + len(call), begin : begin + len(call)]
                kept = routes(call[0].call)
                for line in at:
                    block[line] = [hears(call[line], other, kept) for other in call]
                    block[:, line] = [hears(other, call[line], kept) for other in call]
        self.weights = weights.astype(np.float32)
        self.sums = slice(len(lines), len(lines) + len(self.parties))
        self.silence = self.sums.stop  # a line that is never written to
        self.heard_by = 2 * first_of + 1 - lines  # the line or sum that each line hears
        self.heard_by[self.parties] = np.arange(self.sums.start, self.sums.stop)

    @staticmethod
    def _special(call: Sequence[Row], routes: Routes) -> list[int]:
        """Return the lines within a call that are not heard by all the others, or do not hear them all."""
        return [line for line, row in enumerate(call) if not _is_plain(row, routes)]

    def add(self, frames: Samples, audible: npt.NDArray[np.bool_]) -> None:
        """Fill in the sums, clipped to 16 bits, and whether they are audible."""
        if len(self.parties):
            sums = self.weights @ frames[self.parties].astype(np.float32)
            frames[self.sums] = np.clip(sums, -32768, 32767, out=sums)
            audible[self.sums] = self.weights @ audible[self.parties] > 0
