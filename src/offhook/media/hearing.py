"""Who hears whom in a call, and the sums that make it so.

The rules. A leg or a stream hears the others of its call, less who is muted. Who is on hold hears nobody and is heard
by nobody. A *prompt* hears nobody; it is heard by those it is for, on hold or not, or by every leg that is not on hold
and, unless it is for legs only, the streams of all apps but its own. An *ear* is heard by nobody, and hears one party,
whatever that one is kept from.
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
    """What makes a row a prompt: the app (raw id) that plays it, and for whom (raw ids); for nobody: for all.

    `streams`: whether it is for streams, too, when it is for all.
    """

    by: str
    to: frozenset[str] = frozenset()
    streams: bool = True


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
        return not here.on_hold and not (listener.stream and (listener.party == prompt.by or not prompt.streams))
    there = routes.get(speaker.party, FREE)
    return not (here.on_hold or there.on_hold or there.muted)


class Hearing:
    """The lines of a mix, and what each of them hears.

    Of two that nothing keeps apart, each hears the other's line itself, bit for bit. For each line of any other call a
    *sum* is made: the call's 0/1 matrix times its frames, for all calls of one size at once. In float32 that is exact
    for up to 512 parties. The sums stand below the lines, in the same matrix, and below them a line of silence.
    """

    def __init__(self, calls: Sequence[Sequence[Row]], routes: Callable[[str], Routes]) -> None:
        """`calls`: the rows of each call, in the order of their lines; `routes`: what is kept from whom, by call."""
        heard_by: list[int] = []
        by_size: dict[int, list[tuple[int, npt.NDArray[np.float32]]]] = {}  # first line and matrix of each call
        for call in calls:
            kept, first = routes(call[0].call), len(heard_by)
            special = [at for at, row in enumerate(call) if not row.is_party or row.party in kept]
            if len(call) == 2 and not special:
                heard_by += (first + 1, first)
            else:
                by_size.setdefault(len(call), []).append((first, _weights(call, special, kept)))
                heard_by += range(first, first + len(call))  # until it is known where its sums stand
        self.heard_by = np.array(heard_by)  # the line or sum that each line hears
        self.sums: list[_Sums] = []
        below = len(heard_by)
        for size, found in by_size.items():
            lines = np.array([first for first, _ in found])[:, None] + np.arange(size)
            sums = slice(below, below + lines.size)
            self.sums.append(_Sums(lines, np.stack([weights for _, weights in found]), sums))
            self.heard_by[lines.ravel()] = np.arange(sums.start, sums.stop)
            below = sums.stop
        self.silence = below  # a line that is never written to

    def add(self, frames: Samples, audible: npt.NDArray[np.bool_]) -> None:
        """Fill in the sums, clipped to 16 bits, and whether they are audible."""
        for lines, weights, at in self.sums:
            sums = weights @ frames[lines].astype(np.float32)
            frames[at] = np.clip(sums, -32768, 32767, out=sums).reshape(-1, frames.shape[1])
            audible[at] = (weights @ audible[lines][..., None]).ravel() > 0


class _Sums(NamedTuple):
    """The sums of all calls of one size."""

    lines: npt.NDArray[np.int64]  # of each call: (calls, size)
    weights: npt.NDArray[np.float32]  # 1 where the first hears the second: (calls, size, size)
    at: slice  # the lines that the sums are put into


def _weights(call: Sequence[Row], special: Sequence[int], routes: Routes) -> npt.NDArray[np.float32]:
    """Return who of a call hears whom. All hear each other, but for those at `special`."""
    weights = 1 - np.eye(len(call), dtype=np.float32)
    for at in special:
        weights[at] = [hears(call[at], other, routes) for other in call]
        weights[:, at] = [hears(other, call[at], routes) for other in call]
    return weights
