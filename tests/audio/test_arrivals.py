"""Sequence numbers: what is lost, late, double or of another world."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio.arrivals import LEAP, WINDOW, Counts, SequenceNumbers


def accepted(numbers: list[int]) -> tuple[list[int], Counts]:
    counts = Counts()
    sequence = SequenceNumbers(counts)
    return [number for number in numbers if sequence.accept(number & 0xFFFF)], counts


def test_all_in_order_over_the_wrap() -> None:
    numbers = list(range(65_000, 66_000))
    assert accepted(numbers) == (numbers, Counts())


def test_a_duplicate_is_ignored_however_it_comes() -> None:
    taken, counts = accepted([0, 1, 1, 2, 0, 1, 3])
    assert taken == [0, 1, 2, 3]
    assert (counts.duplicates, counts.lost, counts.reordered) == (3, 0, 0)


def test_an_overtaken_packet_is_taken_and_not_lost() -> None:
    taken, counts = accepted([0, 2, 1, 5, 4, 3, *range(6, 200)])
    assert len(taken) == 200
    assert (counts.reordered, counts.lost) == (3, 0)


@pytest.mark.parametrize(("missing", "lost"), [({5}, 1), (set(range(20, 30)), 10), (set(range(20, 520)), 500)])
def test_what_never_comes_is_lost_once_the_window_has_passed(missing: set[int], lost: int) -> None:
    end = max(missing) + 1
    assert accepted([n for n in range(end + WINDOW) if n not in missing])[1].lost == lost
    # Not before: it could still come.
    assert accepted([n for n in range(end + 1) if n not in missing])[1].lost == max(0, lost - WINDOW + 1)


def test_one_stray_changes_nothing() -> None:
    taken, counts = accepted([0, 1, 30_000, 2, 3])
    assert taken == [0, 1, 2, 3]
    assert (counts.discarded, counts.lost) == (1, 0)


@pytest.mark.parametrize("start", [LEAP + 1, 40_000, -WINDOW])
def test_a_sender_that_begins_elsewhere_is_followed_from_its_second_packet(start: int) -> None:
    taken, counts = accepted([0, 1, start, start + 1, start + 2])
    assert taken == [0, 1, start + 1, start + 2]
    assert (counts.discarded, counts.lost) == (1, 0)


def test_another_sender_may_begin_anywhere() -> None:
    counts = Counts()
    sequence = SequenceNumbers(counts)
    assert sequence.accept(100)
    sequence.forget()
    assert sequence.accept(50_000)
    assert sequence.accept(50_001)
    assert counts == Counts()


@given(st.lists(st.integers(0, 0xFFFF), max_size=300))
def test_nothing_is_taken_twice_within_the_window_and_counts_only_grow(numbers: list[int]) -> None:
    counts = Counts()
    sequence = SequenceNumbers(counts)
    before = Counts()
    for number in numbers:
        sequence.accept(number)
        assert not sequence.accept(number) or counts.discarded > before.discarded
        assert counts.lost >= before.lost
        assert counts.duplicates >= before.duplicates
        before = Counts(lost=counts.lost, duplicates=counts.duplicates, discarded=counts.discarded)


@given(st.permutations(range(30)))
def test_any_order_within_the_window_loses_nothing(order: list[int]) -> None:
    taken, counts = accepted([-1, *order, *range(30, 30 + WINDOW)])
    assert sorted(taken) == list(range(-1, 30 + WINDOW))
    assert (counts.lost, counts.duplicates, counts.discarded) == (0, 0, 0)
