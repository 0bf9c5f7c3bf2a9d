"""What lag the packets of the last seconds call for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from offhook.audio.transits import MOST_LAG, OUTLIERS, REMEMBERED, REVIEW, Transits


def transits(*runs: tuple[int, int]) -> Transits:
    """After so many ticks with that transit each."""
    seen = Transits()
    for ticks, transit in runs:
        for _ in range(ticks):
            seen.add(transit)
    return seen


def test_the_goal_is_the_slowest_packet_but_for_outliers() -> None:
    few = REMEMBERED // OUTLIERS
    assert transits((REMEMBERED - few, 40), (few, 900)).goal == 40
    assert transits((REMEMBERED - few - REVIEW, 40), (few + REVIEW, 90)).goal == 90


def test_the_first_packets_are_waited_for_at_once() -> None:
    assert [transits((1, 0), (n, 80)).goal for n in range(3)] == [0, 80, 80]


def test_what_was_seconds_ago_is_forgotten() -> None:
    seen = transits((REMEMBERED, -30), (REMEMBERED + REVIEW, 60))
    assert (seen.fastest, seen.goal) == (60, 60)


def test_the_goal_is_never_far_above_the_fastest() -> None:
    assert transits((REVIEW, 7), (REMEMBERED - REVIEW, 10**6)).goal == 7 + MOST_LAG


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(-2000, 2000)), max_size=12))
def test_many_ticks_at_once_are_as_many_alone(runs: list[tuple[int, int]]) -> None:
    at_once = Transits()
    for ticks, transit in runs:
        at_once.add(transit, ticks)
    assert vars(at_once) == vars(transits(*runs))
