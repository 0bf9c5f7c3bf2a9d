"""The 20 ms clock keeps its deadlines, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from offhook.media.clock import CATCH_UP, TICK_S, Clock, Lateness
from offhook.testing.clock import VirtualTimeLoop, run

SLOTS = 10


def loop() -> VirtualTimeLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualTimeLoop)
    return running


class Ticks:
    """Runs a clock and notes each tick: (slot, when it was due, when it came)."""

    def __init__(self, during: Callable[[int], None] = lambda number: None) -> None:
        self.seen: list[tuple[int, float, float]] = []
        self.busy = True
        self._during = during
        self.clock = Clock(self._tick, SLOTS, lambda slot: self.busy)

    def _tick(self, slot: int, due: float) -> None:
        self.seen.append((slot, due, loop().time()))
        self._during(len(self.seen) - 1)


def test_every_slot_has_its_turn_every_20_ms_without_drift() -> None:
    async def main() -> None:
        await asyncio.sleep(987_654.3217)
        ticks = Ticks()
        ticks.clock.wake()
        await asyncio.sleep(60)
        slots = [slot for slot, _, _ in ticks.seen]
        assert slots == [(slots[0] + number) % SLOTS for number in range(len(slots))]
        assert len(slots) == 60 * 50 * SLOTS
        first, last = ticks.seen[0][1], ticks.seen[-1][1]
        assert last - first == pytest.approx((len(slots) - 1) * TICK_S / SLOTS, abs=1e-9)
        assert all(abs(came - due) < 1e-9 for _, due, came in ticks.seen)
        assert first >= 987_654.3217
        ticks.clock.stop()

    run(main())


def test_deadlines_are_whole_milliseconds_whenever_it_was_woken() -> None:
    async def main() -> None:
        await asyncio.sleep(77.00033)
        ticks = Ticks()
        ticks.clock.wake()
        await asyncio.sleep(1)
        assert all(abs(due * 1000 - round(due * 1000)) < 1e-6 for _, due, _ in ticks.seen)
        ticks.clock.stop()

    run(main())


@pytest.mark.parametrize("held_up", [0.001, 0.019, 0.020, 0.050, CATCH_UP * TICK_S])
def test_a_clock_that_is_a_little_late_leaves_nothing_out(held_up: float) -> None:
    async def main() -> None:
        ticks = Ticks(lambda number: loop().block(held_up) if number == 100 else None)
        ticks.clock.wake()
        await asyncio.sleep(1 + held_up)
        dues = [due for _, due, _ in ticks.seen]
        assert dues == pytest.approx([number * TICK_S / SLOTS for number in range(len(dues))])
        assert len(dues) >= 50 * SLOTS
        assert ticks.clock.jumped == 0
        assert ticks.seen[-1][2] == pytest.approx(ticks.seen[-1][1])  # on time again
        assert ticks.clock.lateness.percentile(1.0) == pytest.approx(1000 * held_up - 2, abs=0.2) or held_up < 0.002
        ticks.clock.stop()

    run(main())


@pytest.mark.parametrize("held_up", [0.103, 0.5, 3.011])
def test_a_clock_that_is_late_by_more_jumps_by_whole_ticks_and_counts_them(held_up: float) -> None:
    async def main() -> None:
        ticks = Ticks(lambda number: loop().block(held_up) if number == 100 else None)
        ticks.clock.wake()
        await asyncio.sleep(1 + held_up)
        assert ticks.clock.jumped == int((held_up - TICK_S / SLOTS) / TICK_S + 1e-9)
        dues = [due for _, due, _ in ticks.seen]
        gap = dues[101] - dues[100]
        assert gap == pytest.approx(ticks.clock.jumped * TICK_S + TICK_S / SLOTS)
        assert ticks.seen[101][0] == 101 % SLOTS
        assert ticks.seen[-1][2] == pytest.approx(ticks.seen[-1][1])
        ticks.clock.stop()

    run(main())


def test_it_sleeps_while_there_is_nothing_to_do() -> None:
    async def main() -> None:
        ticks = Ticks()
        ticks.clock.wake()
        ticks.clock.wake()  # it is awake: nothing happens
        await asyncio.sleep(0.5)
        ticks.busy = False
        await asyncio.sleep(0.1)
        slept = len(ticks.seen)
        assert slept <= 251
        await asyncio.sleep(1000)
        assert len(ticks.seen) == slept
        ticks.busy = True
        ticks.clock.wake()
        await asyncio.sleep(0.1)
        assert len(ticks.seen) - slept in (50, 51)
        assert ticks.clock.jumped == 0
        ticks.clock.stop()
        await asyncio.sleep(1)
        assert len(ticks.seen) - slept in (50, 51)

    run(main())


def test_it_goes_on_after_a_tick_that_raised() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop().set_exception_handler(lambda _, context: reported.append(context))

        def fail(number: int) -> None:
            if number in (3, 7):
                raise RuntimeError("broken tick")

        ticks = Ticks(fail)
        ticks.clock.wake()
        await asyncio.sleep(0.1)
        assert len(ticks.seen) >= 50
        assert [str(context["exception"]) for context in reported] == ["broken tick"] * 2
        ticks.clock.stop()

    run(main())


def test_lateness_is_a_histogram() -> None:
    lateness = Lateness()
    assert lateness.percentile(0.5) == 0
    for milliseconds in range(100):
        lateness.add(milliseconds / 1000 + 0.00005)
    lateness.add(17.0)  # counts as 1 s
    assert lateness.percentile(0.5) == pytest.approx(50, abs=1)
    assert lateness.percentile(0.99) == pytest.approx(99, abs=1)
    assert lateness.percentile(1.0) == 1000


def test_only_busy_slots_are_woken_up_for_and_one_that_becomes_busy_has_its_next_turn() -> None:
    async def main() -> None:
        ticks: list[tuple[int, int]] = []  # slot, and milliseconds
        busy = {3}
        clock = Clock(lambda slot, due: ticks.append((slot, round(1000 * due))), SLOTS, lambda slot: slot in busy)
        clock.wake()
        await asyncio.sleep(0.015)
        assert ticks == [(3, 6)]
        busy.add(9)
        clock.wake()
        clock.wake()
        await asyncio.sleep(0.010)
        busy.discard(3)
        await asyncio.sleep(0.040)
        assert ticks[1:] == [(9, 18), (9, 38), (9, 58)]
        clock.stop()

    run(main())


def test_waking_again_within_a_turn_does_not_repeat_it() -> None:
    async def main() -> None:
        ticks = Ticks()
        ticks.clock.wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ticks.clock.wake()
        await asyncio.sleep(0.1)
        slots = [slot for slot, _, _ in ticks.seen]
        assert slots == [number % SLOTS for number in range(len(slots))]
        ticks.clock.stop()

    run(main())
