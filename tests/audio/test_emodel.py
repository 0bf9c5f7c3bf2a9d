"""The E-model: known points of its curves, and that worse lines are never better."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import emodel


def test_a_perfect_line_has_the_score_of_a_good_telephone() -> None:
    assert emodel.rating(0, 0) == emodel.PERFECT
    assert emodel.mos(emodel.PERFECT) == pytest.approx(4.41, abs=0.01)


@pytest.mark.parametrize(
    ("rating", "score"), [(0, 1.0), (50, 2.58), (60, 3.1), (70, 3.6), (80, 4.02), (90, 4.34), (100, 4.5)]
)
def test_the_score_is_that_of_annex_b(rating: float, score: float) -> None:
    assert emodel.mos(rating) == pytest.approx(score, abs=0.01)


def test_delay_begins_to_hurt_at_177_ms() -> None:
    assert emodel.rating(100, 0) == pytest.approx(emodel.PERFECT - 2.4)
    assert emodel.rating(277.3, 0) == pytest.approx(emodel.PERFECT - 0.024 * 277.3 - 11)


def test_half_of_all_that_can_be_lost_is_lost_when_loss_is_as_large_as_the_robustness() -> None:
    assert emodel.rating(0, emodel.LOSS_ROBUSTNESS / 100) == pytest.approx(emodel.PERFECT - 95 / 2)


@given(st.floats(0, 5000), st.floats(0, 1), st.floats(0, 1000), st.floats(0, 0.5))
def test_more_delay_or_loss_is_never_better(delay: float, loss: float, more_delay: float, more_loss: float) -> None:
    before, after = emodel.rating(delay, loss), emodel.rating(delay + more_delay, min(loss + more_loss, 1))
    assert 0 <= after <= before <= emodel.PERFECT
    assert 1 <= emodel.mos(after) <= emodel.mos(before) + 0.02  # Annex B dips a little at the bad end
    assert emodel.mos(before) <= 4.5
