from __future__ import annotations

from offhook.bench import floor
from offhook.media.plane import SLOTS


def test_the_floor_has_the_products_slots() -> None:
    assert floor.slot_sizes(0) == [0] * SLOTS
    for calls in (1, 50, 400):
        sizes = floor.slot_sizes(calls)
        assert len(sizes) == SLOTS
        assert sum(sizes) == calls


def test_many_calls_are_spread_over_all_slots() -> None:
    sizes = floor.slot_sizes(1000)
    assert max(sizes) - min(sizes) <= 1
