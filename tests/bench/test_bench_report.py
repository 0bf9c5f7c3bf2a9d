from __future__ import annotations

from typing import Any

import pytest

from offhook.bench import report
from offhook.bench.figures import Late
from offhook.bench.machine import Busy

QUIET = Busy(load=0.5, steal=0.0, others=0.0)


def made(busy: Busy = QUIET, floor_late: float = 1.0, **figures: Any) -> report.Line:
    return report.line(busy, Late(0.1, floor_late, 9.0), **figures)


def test_a_line_has_its_figures_rounded_and_what_else_went_on() -> None:
    line = made(late_ms=Late(0.12345, 1.0, 3.0), lost=2)
    assert line["late_ms"] == {"p50": 0.123, "p99": 1.0, "max": 3.0}
    assert line["lost"] == 2
    assert (line["load"], line["steal"], line["others"]) == (0.5, 0.0, 0.0)
    assert line["too_busy"] is False
    assert line["too_busy_reason"] is None


@pytest.mark.parametrize(
    ("fine", "much", "words"),
    [
        (Busy(0.5, 5.0, 0.0), Busy(0.5, 5.1, 0.0), "steal was 5.1 %"),
        (Busy(0.5, 0.0, 10.0), Busy(0.5, 0.0, 10.1), "other processes used 10.1 %"),
    ],
)
def test_a_machine_that_does_other_things_makes_a_round_busy(fine: Busy, much: Busy, words: str) -> None:
    assert made(fine)["too_busy"] is False
    assert made(much)["too_busy"] is True
    assert words in made(much)["too_busy_reason"]


def test_a_late_floor_makes_a_round_busy_and_a_late_product_does_not() -> None:
    assert made(late_ms=Late(1.0, 90.0, 900.0))["too_busy"] is False
    assert "floor itself was 6.0 ms late" in made(floor_late=6.0)["too_busy_reason"]
    assert report.line(QUIET, None)["too_busy"] is False


def test_the_summary_has_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    rounds = [made(ours=ours, ratio=ours / least) for ours, least in ((2, 1), (6, 2), (8, 4), (9, 3))]
    summary = report.summary(rounds, spread=("ratio", "ours"))
    assert summary["summary"] is True
    assert summary["ratio"] == {"median": 2.5, "min": 2.0, "max": 3.0}
    assert summary["ours"] == {"median": 7.0, "min": 2, "max": 9}


def test_of_an_object_each_part_has_its_median_and_a_max_its_greatest() -> None:
    rounds = [made(late_ms=Late(1, 5, 30)), made(late_ms=Late(2, 4, 10)), made(late_ms=Late(3, 9, 20))]
    assert report.summary(rounds, middle=("late_ms",))["late_ms"] == {"p50": 2, "p99": 5, "max": 30}


def test_busy_rounds_are_left_out_but_not_what_they_lost() -> None:
    rounds = [made(Busy(1, 20, 0), cpu=9, lost=7), made(cpu=2, lost=0), made(cpu=3, lost=1)]
    summary = report.summary(rounds, spread=("cpu",), total=("lost",))
    assert summary["rounds_told"] == 2
    assert summary["cpu"]["max"] == 3
    assert summary["lost"] == 8
    assert summary["steal"] == 20
    assert summary["too_busy"] is False
    assert summary["too_busy_reason"] is None


def test_when_half_of_the_rounds_were_busy_the_summary_says_so() -> None:
    summary = report.summary([made(Busy(1, 20, 0)), made()])
    assert summary["too_busy"] is True
    assert summary["too_busy_reason"] == "steal was 20 %"


def test_when_all_rounds_were_busy_they_are_told_all_the_same() -> None:
    summary = report.summary([made(Busy(1, 20, 0), cpu=9)], spread=("cpu",))
    assert summary["rounds_told"] == 1
    assert summary["cpu"]["median"] == 9
    assert summary["too_busy"] is True


def test_rounds_are_compared_pair_by_pair_and_a_pair_is_busy_if_one_of_it_is() -> None:
    pairs = report.compared([made(cpu=2.2), made(cpu=3.0)], [made(cpu=2.0), made(Busy(9, 9, 9), cpu=1.0)], ratio="cpu")
    assert [pair["ratio"] for pair in pairs] == [1.1, 3.0]
    assert [pair["too_busy"] for pair in pairs] == [False, True]
    assert pairs[1]["load"] == 9
    assert report.summary(pairs, spread=("ratio",))["ratio"]["median"] == 1.1
