"""From the figures of single runs to the lines that are printed: rounds, medians, and when not to believe them.

A round was *too busy* to tell anything when the machine gave more than `STEAL_PERCENT` of its time to other guests, or
when the floor, which has next to nothing to do, was itself late by more than `FLOOR_LATE_MS` in one tick of a hundred.
The product's own figures play no part in it, so a slow product cannot hide behind the rule. Busy rounds are left out of
the summary if there are others; when half of the rounds or more were busy, the summary is `too_busy`, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import msgspec

from offhook.bench.work import Floor, Late, Product, Trips

STEAL_PERCENT = 5.0
FLOOR_LATE_MS = 5.0


class Round(msgspec.Struct, frozen=True):
    """One run of the product and one of the floor, one right after the other."""

    number: int
    product: Product
    floor: Floor
    load: float
    steal: float

    @property
    def floor_ratio(self) -> float:
        return self.product.cpu_ms_per_call_s / self.floor.cpu_ms_per_call_s

    @property
    def busy(self) -> str | None:
        """Why the machine was too busy for this round, or None."""
        if self.steal > STEAL_PERCENT:
            return f"steal was {self.steal:g} %"
        if self.floor.late_ms.p99 > FLOOR_LATE_MS:
            return f"the floor itself was {self.floor.late_ms.p99:.1f} ms late at p99"
        return None

    def line(self) -> dict[str, Any]:
        return {
            "round": self.number,
            **_rounded(msgspec.to_builtins(self.product)),
            "floor_cpu_ms_per_call_s": _round(self.floor.cpu_ms_per_call_s),
            "floor_app_cpu_ms_per_call_s": _round(self.floor.app_cpu_ms_per_call_s),
            "floor_late_ms": _rounded(msgspec.to_builtins(self.floor.late_ms)),
            "floor_missed": self.floor.missed,
            "floor_ratio": _round(self.floor_ratio),
            "load": _round(self.load),
            "steal": self.steal,
            "too_busy": self.busy is not None,
            "too_busy_reason": self.busy,
        }


def summary(rounds: Sequence[Round], sticky_delay_ms: float) -> dict[str, Any]:
    """Return the last line: medians over the rounds, with their range where the spread matters; at least one round."""
    reasons = [one.busy for one in rounds if one.busy is not None]
    told = [one for one in rounds if one.busy is None] or rounds
    products = [one.product for one in told]
    late = [one.late_ms for one in products]
    trips = [one.rtt_ms for one in products]
    too_busy = 2 * len(reasons) >= len(rounds)
    return _rounded(
        {
            "summary": True,
            "rounds_told": len(told),
            "cpu_ms_per_call_s": _spread(one.cpu_ms_per_call_s for one in products),
            "floor_cpu_ms_per_call_s": _spread(one.floor.cpu_ms_per_call_s for one in told),
            "floor_ratio": _spread(one.floor_ratio for one in told),
            "app_cpu_ms_per_call_s": median(one.app_cpu_ms_per_call_s for one in products),
            "late_ms": msgspec.to_builtins(
                Late(median(x.p50 for x in late), median(x.p99 for x in late), max(x.max for x in late))
            ),
            "rtt_ms": msgspec.to_builtins(Trips(median(x.p50 for x in trips), median(x.p99 for x in trips))),
            "rss_kib_per_call": median(one.rss_kib_per_call for one in products),
            "sticky_delay_ms": sticky_delay_ms,
            # No round is left out here: what was lost was lost.
            "frames_expected": sum(one.product.frames_expected for one in rounds),
            "frames_sent": sum(one.product.frames_sent for one in rounds),
            "frames_left_out": sum(one.product.frames_left_out for one in rounds),
            "frames_lost": sum(one.product.frames_lost for one in rounds),
            "load": max(one.load for one in rounds),
            "steal": max(one.steal for one in rounds),
            "too_busy": too_busy,
            "too_busy_reason": "; ".join(dict.fromkeys(reasons)) if too_busy else None,
        }
    )


def _spread(values: Iterable[float]) -> dict[str, float]:
    several = list(values)
    return {"median": median(several), "min": min(several), "max": max(several)}


def _round(value: float) -> float:
    return round(value, 3)


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    rounded: dict[str, Any] = {}
    for name, value in figures.items():
        match value:
            case float():
                rounded[name] = _round(value)
            case dict():
                rounded[name] = _rounded(value)
            case _:
                rounded[name] = value
    return rounded
