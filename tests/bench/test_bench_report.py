from __future__ import annotations

from dataclasses import dataclass

from offhook.bench import report
from offhook.bench.work import Floor, Late, Product, Trips


@dataclass
class Sketch:
    """A round in the few figures that matter to a test."""

    cpu: float = 2.0
    floor_cpu: float = 1.0
    late_max: float = 3.0
    floor_late: float = 1.0
    steal: float = 0.0
    lost: int = 0

    def round(self, number: int = 1) -> report.Round:
        product = Product(
            cpu_ms_per_call_s=self.cpu,
            app_cpu_ms_per_call_s=1.0,
            late_ms=Late(0.5, 1.0, self.late_max),
            rtt_ms=Trips(20.0, 21.0),
            rss_kib_per_call=80.0,
            frames_expected=1000,
            frames_sent=1000,
            frames_left_out=0,
            frames_lost=self.lost,
            underruns=0,
        )
        floor = Floor(self.floor_cpu, 1.0, Late(0.1, self.floor_late, 9.0), 0)
        return report.Round(number, product, floor, 0.5, self.steal)


def test_a_rounds_ratio_is_of_its_own_floor() -> None:
    line = Sketch(cpu=3.0, floor_cpu=1.2).round(2).line()
    assert line["round"] == 2
    assert line["floor_ratio"] == 2.5
    assert line["late_ms"] == {"p50": 0.5, "p99": 1.0, "max": 3.0}
    assert line["too_busy"] is False
    assert line["too_busy_reason"] is None


def test_the_summary_has_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    rounds = [Sketch(2, 1).round(), Sketch(6, 2).round(), Sketch(8, 4).round(), Sketch(9, 3).round()]
    summary = report.summary(rounds, 1.5)
    assert summary["floor_ratio"] == {"median": 2.5, "min": 2.0, "max": 3.0}
    assert summary["cpu_ms_per_call_s"] == {"median": 7.0, "min": 2, "max": 9}
    assert summary["sticky_delay_ms"] == 1.5


def test_steal_makes_a_round_busy() -> None:
    assert Sketch(steal=5.0).round().busy is None
    assert "steal was 5.1 %" in str(Sketch(steal=5.1).round().busy)


def test_a_late_floor_makes_a_round_busy_and_a_late_product_does_not() -> None:
    assert Sketch(late_max=900).round().busy is None
    assert "floor itself was 6.0 ms late" in str(Sketch(floor_late=6.0).round().busy)


def test_busy_rounds_are_left_out_but_not_what_they_lost() -> None:
    rounds = [Sketch(cpu=9, steal=20, lost=7).round(), Sketch(cpu=2).round(), Sketch(cpu=3).round()]
    summary = report.summary(rounds, 0)
    assert summary["rounds_told"] == 2
    assert summary["cpu_ms_per_call_s"]["max"] == 3
    assert summary["frames_lost"] == 7
    assert summary["frames_expected"] == 3000
    assert summary["too_busy"] is False
    assert summary["too_busy_reason"] is None


def test_when_half_of_the_rounds_were_busy_the_summary_says_so() -> None:
    summary = report.summary([Sketch(steal=20).round(), Sketch().round()], 0)
    assert summary["too_busy"] is True
    assert summary["too_busy_reason"] == "steal was 20 %"


def test_when_all_rounds_were_busy_they_are_told_all_the_same() -> None:
    summary = report.summary([Sketch(steal=20).round()], 0)
    assert summary["rounds_told"] == 1
    assert summary["too_busy"] is True
