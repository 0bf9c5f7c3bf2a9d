"""From the figures of single runs to the lines that are printed: rounds, medians, and when not to believe them.

A round was *too busy* to tell anything when the machine gave more than `STEAL_PERCENT` of its time to other guests or
more than `OTHERS_PERCENT` to processes that are not of the run, or when the floor, which has next to nothing to do, was
itself late by more than `FLOOR_LATE_MS` in one tick of a hundred. The product's own figures play no part in it, so a
slow product cannot hide behind the rule. Busy rounds are left out of the summary if there are others; when half of the
rounds or more were busy, the summary is `too_busy`, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec

from offhook.bench.figures import Late
from offhook.bench.machine import Busy

STEAL_PERCENT = 5.0
OTHERS_PERCENT = 10.0
FLOOR_LATE_MS = 5.0

Line = dict[str, Any]


def line(busy: Busy, floor_late: Late | None = None, **figures: object) -> Line:
    """Return the figures of a round, structs as objects, with what else went on and whether that was too much."""
    reason = _too_busy(busy, floor_late)
    return {
        **_rounded(msgspec.to_builtins(figures)),
        **msgspec.to_builtins(busy),
        "too_busy": reason is not None,
        "too_busy_reason": reason,
    }


def _too_busy(busy: Busy, floor_late: Late | None) -> str | None:
    if busy.steal > STEAL_PERCENT:
        return f"steal was {busy.steal:g} %"
    if busy.others > OTHERS_PERCENT:
        return f"other processes used {busy.others:g} % of the machine"
    if floor_late is not None and floor_late.p99 > FLOOR_LATE_MS:
        return f"the floor itself was {floor_late.p99:.1f} ms late at p99"
    return None


def summary(
    rounds: Sequence[Line], *, spread: Iterable[str] = (), middle: Iterable[str] = (), total: Iterable[str] = ()
) -> Line:
    """Return the last line of at least one round.

    Of the figures named in `spread` it has the median of the rounds with their range, of `middle` the median only
    (within an object, too, but for a `max`, which is the greatest), of `total` the sum: over all rounds, since what was
    lost was lost.
    """
    reasons = [one["too_busy_reason"] for one in rounds if one["too_busy"]]
    told = [one for one in rounds if not one["too_busy"]] or rounds
    too_busy = 2 * len(reasons) >= len(rounds)
    return {
        "summary": True,
        "rounds_told": len(told),
        **_rounded({name: _spread([one[name] for one in told]) for name in spread}),
        **_rounded({name: _middle([one[name] for one in told]) for name in middle}),
        **{name: sum(one[name] for one in rounds) for name in total},
        "load": max(one["load"] for one in rounds),
        "steal": max(one["steal"] for one in rounds),
        "others": max(one["others"] for one in rounds),
        "too_busy": too_busy,
        "too_busy_reason": "; ".join(dict.fromkeys(reasons)) if too_busy else None,
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def _middle(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        parts = {part: [value[part] for value in values] for part in values[0]}
        return {part: max(each) if part == "max" else _middle(each) for part, each in parts.items()}
    return median(values)


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 3)
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case list():
            return [_rounded(each) for each in value]
        case _:
            return value


def compared(rounds: Sequence[Line], others: Sequence[Line], **ratios: str) -> list[Line]:
    """Return a line for each pair of rounds: each of `ratios` is that of the two's figures of the name given for it.

    The pair was too busy if one of the two was.
    """
    lines = []
    for one, other in zip(rounds, others, strict=True):
        worst = {name: max(one[name], other[name]) for name in ("load", "steal", "others")}
        reason = one["too_busy_reason"] or other["too_busy_reason"]
        figures = {name: round(one[of] / other[of], 3) for name, of in ratios.items()}
        lines.append({**figures, **worst, "too_busy": reason is not None, "too_busy_reason": reason})
    return lines
