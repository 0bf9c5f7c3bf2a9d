"""What goes along when a slot is laid out anew: how rows are read and written to, and what is remembered of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from offhook.media.reader import Reader
from offhook.media.writer import Writer

if TYPE_CHECKING:
    from offhook.media.plane import Mix, Row

Batch = TypeVar("Batch", Reader, Writer)


def carry_over(before: Sequence[Mix], moved_in: Sequence[Mix], after: Sequence[Mix]) -> None:
    """Go on with rows of the mixes `before` in those `after`.

    They are read and written to as they were, but for those that were ticked elsewhere (`moved_in`). What all of them
    have said in this tick goes along, and what filters and speaker choices remember of them.
    """
    _go_on([one for mix in before for one in mix.readers], [one for mix in after for one in mix.readers])
    _go_on([one for mix in before for one in mix.writers], [one for mix in after for one in mix.writers])
    _copy([*before, *moved_in], after)


def bring(row: Row, before: Mix, after: Mix) -> None:
    """Go on with a row of the mix `before` in `after`: with what was said in this tick, and what filters remember.
    Neither mix is of unmixed streams only."""
    there, here = before.rows.index(row), after.rows.index(row)
    if before.rate == after.rate:
        after.frames[here], after.audible[here] = before.frames[there], before.audible[there]
    memory = {key: history for key, history in _histories(before) if id(row) in key}
    for key, history in _histories(after):
        if key in memory:
            history[:] = memory[key]


def _copy(before: Sequence[Mix], after: Sequence[Mix]) -> None:
    said = {(mix.rate, id(row)): (mix, line) for mix in before for line, row in enumerate(mix.rows)}
    for mix in after:
        for line, row in enumerate(mix.rows):
            if (mix.rate, id(row)) in said:
                old, at = said[mix.rate, id(row)]
                mix.frames[line], mix.audible[line] = old.frames[at], old.audible[at]
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


def _go_on(before: Sequence[Batch], after: Sequence[Batch]) -> None:
    lines = {id(row): (one, line) for one in after for line, row in enumerate(one.rows)}
    for old in before:
        pairs: dict[Batch, list[tuple[int, int]]] = {}
        for there, row in enumerate(old.rows):
            if id(row) in lines:
                one, line = lines[id(row)]
                pairs.setdefault(one, []).append((line, there))
        for one, moved in pairs.items():
            one.take_over(old, moved)
        old.let_go()  # those whom nobody has taken over


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
