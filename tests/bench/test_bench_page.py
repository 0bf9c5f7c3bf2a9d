from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offhook.bench import machine, page, rows, sip, suite
from offhook.bench.control import Held
from offhook.bench.plan import Plan
from offhook.bench.processes import BenchError
from offhook.bench.report import Line
from offhook.bench.targets import TARGETS, Lines, Target, number, spread

ROOT = Path(__file__).parents[2]
SPREAD = {"median": 1.5, "min": 1.25, "max": 1.75}
LATE = {"p50": 0.1, "p99": 0.9, "max": 4.0}
TRIPS = {"p50": 20.0, "p99": 29.0}
ABOUT: Line = {
    "machine": {"cpu": "Some CPU", "cores": 2, "kernel": "6.1", "python": "CPython 3.11.7", "libraries": {"numpy": "2"},
                "memory_gib": 8.0},
    "date": "2026-01-02 03:04 UTC",
    "quick": False,
}  # fmt: skip


def summary(topology: str, **figures: Any) -> Line:
    quiet = {"load": 0.5, "steal": 0.1, "others": 1.0, "too_busy": False, "too_busy_reason": None}
    return {"topology": topology, "workers": 1, "summary": True, **quiet, **figures}


def ratio(calls: int, value: float, **more: Any) -> Line:
    return summary("ws24", calls=calls, floor_ratio={"median": value, "min": 1.0, "max": 3.0}, **more)


def verdict(what: str, *lines: Line) -> str:
    (target,) = [target for target in TARGETS if what in target.what]
    return target.verdict(Lines(lines)).outcome


def test_a_target_is_met_or_not_by_the_median() -> None:
    assert verdict("`ws24`, 200 calls: cost ÷ floor", ratio(200, 1.6)) == "met"
    assert verdict("`ws24`, 200 calls: cost ÷ floor", ratio(200, 1.61)) == "not met"


def test_a_target_is_told_only_of_its_number_of_calls_and_only_of_a_quiet_machine() -> None:
    assert verdict("`ws24`, 200 calls: cost ÷ floor") == "not measured"
    assert verdict("`ws24`, 200 calls: cost ÷ floor", ratio(20, 1.0)) == "not measured"
    busy = ratio(200, 1.0, too_busy=True, too_busy_reason="steal was 20 %")
    assert verdict("`ws24`, 200 calls: cost ÷ floor", busy) == "too busy to tell"


@pytest.mark.parametrize("target", [t for t in TARGETS if t.topology != "scale"], ids=lambda target: target.what)
def test_a_target_is_of_the_number_of_calls_that_its_run_has(target: Target) -> None:
    planned = rows.ROWS[target.topology].plan
    assert target.match.get("calls", planned.calls) == planned.calls
    assert target.match.get("seconds", planned.seconds) == planned.seconds


def test_what_is_only_told_is_never_met() -> None:
    line = summary("ws24", calls=200, cpu_ms_per_call_s=SPREAD)
    assert verdict("`ws24`, 200 calls: CPU", line) == "informative"


def test_a_growth_of_anything_fails_the_soak() -> None:
    fine = {"rss_growth_percent": SPREAD, "descriptors_growth": 0, "tasks_growth": 0}
    for growth, outcome in (({}, "met"), ({"tasks_growth": 1}, "not met"), ({"descriptors_growth": 2}, "not met")):
        assert verdict("10 minutes", summary("soak", calls=200, seconds=600, **{**fine, **growth})) == outcome


@pytest.mark.parametrize(
    ("change", "outcome"),
    [({}, "met"), ({"doubled": 1}, "not met"), ({"disconnected": 49}, "not met"), ({"others_lost": 1}, "not met"),
     ({"last_told_s": {"median": 0.5, "min": 0.5, "max": 1.1}}, "not met"), ({"ended": 1}, "not met")],
)  # fmt: skip
def test_a_killed_worker_ends_its_calls_once_in_time_and_no_others(change: dict[str, Any], outcome: str) -> None:
    told = {"disconnected": 50, "expected_disconnected": 50, "doubled": 0, "others_lost": 0, "ended": 0, "kept": 50}
    line = summary("kill", calls=100, what="worker", **{**told, "last_told_s": {**SPREAD, "max": 0.5}, **change})
    assert verdict("one of two workers", line) == outcome


@pytest.mark.parametrize(
    ("change", "outcome"),
    [({}, "met"), ({"hung_up": 99}, "not met"), ({"doubled": 1}, "not met"), ({"others_lost": 1}, "not met"),
     ({"disordered": 1}, "not met"), ({"back_s": {"median": 1.5, "min": 1.5, "max": 2.1}}, "not met")],
)  # fmt: skip
def test_a_killed_control_comes_back_in_time_with_every_call(change: dict[str, Any], outcome: str) -> None:
    told: dict[str, Any] = {
        "kept": 100,
        "hung_up": 100,
        **dict.fromkeys(("doubled", "others_lost", "ended", "disordered"), 0),
    }
    told |= {"back_s": {**SPREAD, "max": 1.9}}
    assert verdict("of control", summary("kill", calls=100, what="control", **{**told, **change})) == outcome


SIP = {
    "placed": 1000, "answered": 1000, "failed": 0, "refused": 0, "setup_ms": SPREAD, "control_cpu_ms_per_call": SPREAD,
    "stack_cpu_ms_per_call": SPREAD, "rss_growth_percent": SPREAD, "worker_rss_growth_percent": SPREAD, "late_ms": LATE,
    **{f"{name}_growth": 0 for name in sip.GROWTHS},
    **{when: dict.fromkeys(Held.__struct_fields__, 7) for when in ("before", "after")},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "answered", "left"),
    [({}, "met", "met"), ({"answered": 999, "failed": 1}, "not met", "met"),
     ({"worker_rss_growth_percent": {**SPREAD, "median": 2.1}}, "met", "not met"),
     *(({f"{name}_growth": 1}, "met", "not met") for name in sip.GROWTHS)],
)  # fmt: skip
def test_calls_by_sip_all_come_about_and_leave_nothing(change: dict[str, Any], answered: str, left: str) -> None:
    line = summary("sip", calls=1000, **{**SIP, **change})
    assert verdict("1,000 calls by SIP", line) == answered
    assert verdict("what they leave behind", line) == left
    assert verdict("INVITE to BYE", line) == "informative"


def test_legs_by_sip_cost_little_more_than_plain_ones() -> None:
    for median, outcome in ((1.1, "met"), (1.11, "not met")):
        line = summary("sip16", calls=200, cost_ratio={**SPREAD, "median": median})
        assert verdict("`sip16`", line) == outcome


def test_numbers_have_three_digits_that_count() -> None:
    assert [number(value) for value in (0.01234, 1.2345, 12.345, 1234.5, 0)] == ["0.0123", "1.23", "12.3", "1234", "0"]
    assert spread(SPREAD, " ms") == "1.5 ms (1.25 to 1.75)"


# ------------------------------------------------------------------------------------------------ the page


def scale_lines() -> list[Line]:
    figures = {"cpu_ms_per_call_s": SPREAD, "floor_cpu_ms_per_call_s": SPREAD, "floor_ratio": SPREAD, "late_ms": LATE}
    lost = {"frames_lost": 0, "frames_left_out": 0}
    steps = [summary("scale", calls=calls, **figures, **lost) for calls in (50, 100, 400)]
    return [*steps, summary("scale", calls=400, against=100, cost_ratio=SPREAD)]


def test_the_page_has_what_was_measured_and_says_what_was_not() -> None:
    text = page.render(ABOUT, [ratio(20, 1.0) | {"topology": "elsewhere"}, *scale_lines()])
    assert "Some CPU, 2 cores" in text
    assert "| 400 | 1.5 (1.25 to 1.75) |" in text
    assert "| late p99, 100 calls | ≤ 1 ms | 0.9 ms | met |" in text
    assert "| cost of a call, 400 ÷ 100 calls | ≤ 1.1 | 1.5 (1.25 to 1.75) | not met |" in text
    assert "Not measured in this run." in text
    assert "$" not in text


def test_the_page_tells_of_telephones() -> None:
    both = {"cpu_ms_per_call_s": SPREAD, "late_ms": LATE, "rtt_ms": TRIPS, "frames_lost": 3}
    plain = {f"plain_{name}": value for name, value in both.items()}
    legs = summary("sip16", calls=200, cost_ratio=SPREAD, control_cpu_ms_per_call_s=0.02, **both, **plain)
    text = page.render(ABOUT, [summary("sip", calls=1000, **SIP), legs])
    assert "1000 of 1000 calls answered, 0 failed" in text
    assert "| SIP transactions | 7 | 7 |" in text
    assert "| `sip16` | 200 | 1.5 (1.25 to 1.75) |" in text
    assert "Of it, control: 0.02 ms" in text


def test_a_run_that_failed_is_on_the_page() -> None:
    assert "* `kill`: the server did not start" in page.render(
        ABOUT, [{"topology": "kill", "error": "the server did not start"}]
    )


def test_page_pictures_and_lines_are_written_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page.keep(tmp_path, ABOUT, scale_lines())
    page.write(tmp_path)
    assert (tmp_path / page.PAGE).read_text("utf-8") == page.render(ABOUT, scale_lines())
    for picture in ("cost.png", "lateness.png"):
        assert (tmp_path / "img" / picture).read_bytes().startswith(b"\x89PNG")


def test_the_page_in_the_documentation_is_that_of_its_lines() -> None:
    about, *lines = [json.loads(line) for line in (ROOT / "docs/performance.jsonl").read_text("utf-8").splitlines()]
    assert (ROOT / "docs/performance.md").read_text("utf-8") == page.render(about, lines)


# ------------------------------------------------------------------------------------------------ the suite


def test_a_suite_goes_on_after_a_run_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    plans = {}

    def run(name: str, plan: Plan) -> list[Line]:
        plans[name] = plan
        if name == "scale":
            return scale_lines()
        raise BenchError(f"no {name} here")

    monkeypatch.setattr(rows, "run", run)
    monkeypatch.setattr(machine, "supported", lambda: True)
    about, *lines = suite.run(tmp_path, quick=True)
    assert about["quick"] is True
    assert plans.keys() == rows.ROWS.keys()
    assert all(plan.calls <= 20 and plan.seconds <= 1 and plan.rounds == 1 for plan in plans.values())
    assert {"topology": "soak", "error": "no soak here"} in lines
    kept = [json.loads(line) for line in (tmp_path / page.LINES).read_text("utf-8").splitlines()]
    assert kept == [about, *lines]
    assert "* `soak`: no soak here" in (tmp_path / page.PAGE).read_text("utf-8")


def test_a_suite_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="the folder"):
        next(suite.run(tmp_path / "nowhere"))


def test_what_is_left_of_a_plan_in_a_quick_suite() -> None:
    plan = Plan(10, 0.1, 5)
    assert suite.quick_plan(plan) == replace(plan, rounds=1, settle_s=0.5)


# ------------------------------------------------------------------------------------------------ the manual


def test_the_manual_has_every_run_with_its_plan() -> None:
    section = (ROOT / "docs/cli.md").read_text("utf-8").partition("## offhook bench\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| `(\w+)` \| .+ \| (\d+) \| ([\d.]+) \| (\d+) \|$", section, re.MULTILINE)
    plans = {name: row.plan for name, row in rows.ROWS.items()}
    assert [(name, int(calls), float(seconds), int(rounds)) for name, calls, seconds, rounds in table] == [
        (name, plan.calls, plan.seconds, plan.rounds) for name, plan in plans.items()
    ]
