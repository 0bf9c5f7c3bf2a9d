"""A worker takes calls up to what its core carries in time, and not one more."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.media import admission
from offhook.media.admission import CLOSE_SHARE, REFUSALS, SPARE, TARGET_SHARE, Gate, measured_limit, refusal
from offhook.media.tidings import Vitals

IDLE = Vitals(
    pid=1,
    calls=0,
    rows=0,
    streams=0,
    streams_up=0,
    ticks_late=(0,) * 11,
    late_s=0.0,
    ticks_jumped=0,
    cpu_s=0.0,
    core_share=0.0,
    send_queue=0,
    send_queue_max=0,
    playout_s=0.0,
    playout_max_s=0.0,
    counts={},
    gauges={},
    limit=100,
    gate_open=True,
)


def told(**figures: object) -> Vitals:
    return msgspec.structs.replace(IDLE, **figures)


# ------------------------------------------------------------------------------------------------ refusal


def test_as_many_calls_as_the_limit_are_taken() -> None:
    assert [refusal(told(calls=99, core_share=0.69), held, 0.5) for held in (0, 99, 100, 101)] == [
        None,
        None,
        "limit",
        "limit",
    ]


def test_a_closed_gate_takes_no_call() -> None:
    assert refusal(told(gate_open=False), 50, 0.5) == "gate"


def test_a_few_calls_are_taken_even_when_it_is_late() -> None:
    late = told(gate_open=False, core_share=1.0)
    assert refusal(late, int(SPARE * 100) - 1, 0.5) is None
    assert refusal(late, int(SPARE * 100), 0.5) == "gate"


def test_a_worker_that_hangs_takes_no_call() -> None:
    assert refusal(IDLE, 0, admission.SILENT_S) is None
    assert refusal(IDLE, 0, admission.SILENT_S + 0.1) == "silent"


def test_calls_dearer_than_measured_are_stopped_by_the_core_they_use() -> None:
    """60 calls take 80 % of a core: a burst in the second until the next report gets what is left, not 40 more."""
    vitals = told(calls=60, core_share=0.80)
    taken = 60
    while refusal(vitals, taken, 0.5) is None:
        taken += 1
    assert refusal(vitals, taken, 0.5) == "reserved"
    assert taken - 60 == int((CLOSE_SHARE - 0.80) / (TARGET_SHARE / 100))


def test_calls_that_ring_are_reserved_for() -> None:
    """They are not in the plane yet, and cost nothing: 40 mixed ones take 56 %, the others will take as much."""
    vitals = told(calls=40, core_share=0.56)
    assert refusal(vitals, 41, 0.5) is None
    assert refusal(vitals, 95, 0.5) == "reserved"


@given(
    limit=st.integers(1, 2000),
    held=st.integers(0, 3000),
    mixed=st.integers(0, 3000),
    share=st.floats(0, 4),
    gate_open=st.booleans(),
    age=st.floats(0, 10),
)
def test_it_refuses_for_one_of_the_reasons_or_has_room(
    limit: int, held: int, mixed: int, share: float, gate_open: bool, age: float
) -> None:
    reason = refusal(told(limit=limit, calls=mixed, core_share=share, gate_open=gate_open), held, age)
    assert reason in (None, *REFUSALS)
    assert reason is not None or held < limit


# ------------------------------------------------------------------------------------------------ the gate


def test_the_gate_closes_when_ticks_are_late_and_opens_well_below() -> None:
    gate = Gate()
    assert gate.judge(0.5, over_10_ms=0.049, over_5_ms=0.2)
    assert not gate.judge(0.5, over_10_ms=0.051, over_5_ms=0.2)
    assert not gate.judge(0.5, over_10_ms=0.0, over_5_ms=0.06), "p95 is above 5 ms"
    assert gate.judge(0.5, over_10_ms=0.0, over_5_ms=0.05)


def test_the_gate_closes_when_the_core_is_busy_and_opens_well_below() -> None:
    gate = Gate()
    assert gate.judge(0.84, 0, 0)
    assert not gate.judge(0.86, 0, 0)
    assert not gate.judge(0.76, 0, 0)
    assert gate.judge(0.74, 0, 0)


def test_a_share_around_the_threshold_does_not_make_it_flutter() -> None:
    gate = Gate()
    assert [gate.judge(share, 0, 0) for share in (0.80, 0.86, 0.80, 0.86, 0.80)] == [True, False, False, False, False]


# ------------------------------------------------------------------------------------------------ the measured limit


def test_the_limit_is_what_a_frame_costs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    measured_limit.cache_clear()
    monkeypatch.setattr(admission, "_frame_cost", lambda: 20e-6)
    assert measured_limit() == int(0.70 / (admission.CALL * 50 * 20e-6))
    monkeypatch.setattr(admission, "_frame_cost", lambda: 1.0)
    assert measured_limit() > 1, "measured once"
    measured_limit.cache_clear()
    assert measured_limit() == 1, "however slow it is"
    measured_limit.cache_clear()


def test_a_frame_is_measured_through_a_socket_that_is_closed_again() -> None:
    assert 0 < admission._frame_cost() < 1
