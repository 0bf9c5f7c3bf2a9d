"""Parts that the sections of the page are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from offhook.bench.targets import number

NOTHING = "Not measured in this run."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; without rows, that there is nothing."""
    if not rows:
        return NOTHING
    first, *others = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join((first, "|---" * len(head) + "|", *others))


def late(figures: Mapping[str, float]) -> str:
    """Return the figures of a `Late` in a cell."""
    return " / ".join(number(figures[part]) for part in ("p50", "p99", "max"))


def trips(figures: Mapping[str, float]) -> str:
    """Return the figures of `Trips` in a cell."""
    return f"{number(figures['p50'])} / {number(figures['p99'])}"
