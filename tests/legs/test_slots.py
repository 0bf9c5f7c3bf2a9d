"""Which slot is ticked right after packets arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.legs.slots import MARGIN_S, TOO_CLOSE_S, TOO_LONG_S, arrival_phase, best_slot, wait
from offhook.media.clock import TICK_S
from offhook.media.plane import SLOTS

SLOT_S = TICK_S / SLOTS
phases = st.floats(0, TICK_S, exclude_max=True)


def arrivals(phase_ms: float, *late_ms: float) -> list[float]:
    return [1000 * TICK_S + number * TICK_S + (phase_ms + late) / 1000 for number, late in enumerate(late_ms)]


@pytest.mark.parametrize("phase_ms", [0.0, 0.1, 7.0, 19.9])
def test_the_phase_of_regular_packets(phase_ms: float) -> None:
    phase = arrival_phase(arrivals(phase_ms, *[0.0] * 8))
    assert phase is not None
    assert min(abs(phase - phase_ms / 1000), TICK_S - abs(phase - phase_ms / 1000)) < 1e-6


def test_the_phase_is_that_of_the_later_ones_but_not_of_an_odd_one() -> None:
    phase = arrival_phase(arrivals(18.0, 0.5, 0.0, 1.0, 3.0, 1.2, 0.2, 0.7, 6.0))
    assert phase == pytest.approx(0.0192, abs=1e-6)


def test_packets_without_a_phase() -> None:
    assert arrival_phase([]) is None
    assert arrival_phase([1.0]) is None
    assert arrival_phase([0.030 * number for number in range(8)]) is None  # of 30 ms each


@given(phases)
def test_packets_wait_for_a_margin_and_no_longer_than_a_slot_more(phase: float) -> None:
    waits = wait(best_slot(phase, None), phase)
    assert MARGIN_S - 1e-9 <= waits <= MARGIN_S + SLOT_S + 1e-9


@given(phases, st.integers(0, SLOTS - 1))
def test_a_slot_is_kept_unless_it_is_clearly_wrong(phase: float, current: int) -> None:
    chosen = best_slot(phase, current)
    if TOO_CLOSE_S <= wait(current, phase) <= TOO_LONG_S:
        assert chosen == current
    else:
        assert chosen == best_slot(phase, None)


def test_a_drifting_sender_does_not_make_its_call_go_to_and_fro() -> None:
    slot = best_slot(0.0, None)
    moves = 0
    for step in range(2000):  # 200 ms of drift: ten times around
        chosen = best_slot(step / 10_000 % TICK_S, slot)
        moves += chosen != slot
        slot = chosen
    assert 10 <= moves <= 10 * SLOTS
