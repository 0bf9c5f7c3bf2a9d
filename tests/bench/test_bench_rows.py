"""Each run, once and as small as it goes: that it ends with its figures, not what they are."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offhook.bench import app, machine, product, report, rows, scale, stall, topology, workers
from offhook.bench.figures import Late, Trips
from offhook.bench.plan import Plan
from offhook.bench.processes import BenchError
from offhook.bench.report import Line
from offhook.bench.topology import Topology

SMALL = Plan(calls=4, seconds=0.5, rounds=1, settle_s=0.2, live_s=1.1)
LATE, TRIPS = Late(1, 2, 3), Trips(20, 30)
linux = pytest.mark.skipif(not machine.supported(), reason="bench measures on Linux only")


def children() -> set[str]:
    """The processes of this one; those of multiprocessing stay when another test has used it."""
    threads = Path(f"/proc/{os.getpid()}/task").iterdir()
    return {pid for thread in threads for pid in (thread / "children").read_text().split()}


def run(name: str, **other: Any) -> tuple[list[Line], list[Line]]:
    """The rounds and the summaries of a run."""
    before = children()
    lines = list(rows.run(name, replace(SMALL, **other)))
    assert children() <= before
    for line in lines:
        assert line["topology"] == name
        assert (line["seconds"], line["rounds"]) == (0.5, 1)
        assert line["load"] >= 0
        assert 0 <= line["steal"] <= 100
        assert line["too_busy"] is (line["too_busy_reason"] is not None)
    summaries = [line for line in lines if line.get("summary")]
    assert lines[-1] is summaries[-1]
    return [line for line in lines if not line.get("summary")], summaries


@linux
@pytest.mark.sockets
@pytest.mark.parametrize(("name", "workers"), [("ws24", 2), ("secure24", 1)])
def test_a_topology_has_every_figure_beside_its_floor(name: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stalled = stall.Stall(20.0, 25.0, LATE, LATE, TRIPS, TRIPS, 0, 150, 0)
    monkeypatch.setattr(stall, "once", lambda *args, **more: stalled)
    [one], [summary] = run(name, workers=workers)
    for line in (one, summary):
        assert (line["calls"], line["workers"]) == (4, workers)
        assert set(line["late_ms"]) == {"p50", "p99", "max"}
        assert set(line["rtt_ms"]) == {"p50", "p99"}
        assert line["app_cpu_ms_per_call_s"] >= 0
        assert isinstance(line["rss_kib_per_call"], float)
    assert one["cpu_ms_per_call_s"] > 0
    assert one["floor_cpu_ms_per_call_s"] > 0
    assert one["floor_ratio"] == pytest.approx(one["cpu_ms_per_call_s"] / one["floor_cpu_ms_per_call_s"], rel=0.01)
    for spread in ("cpu_ms_per_call_s", "floor_cpu_ms_per_call_s", "floor_ratio"):
        assert set(summary[spread]) == {"median", "min", "max"}
    assert summary["sticky_delay_ms"] == 5.0
    assert one["frames_sent"] > 0
    if name == "ws24":
        assert one["frames_lost"] == 0  # every frame of every call comes back


@linux
@pytest.mark.sockets
def test_telephones_hear_what_they_said() -> None:
    [one], [summary] = run("rtt")
    assert one["frames_expected"] > 0
    assert one["frames_lost"] < one["frames_expected"] / 2  # a machine that is busy makes holes
    assert one["rtt_ms"]["p50"] > 0
    assert set(summary["rtt_ms"]) == {"p50", "p99"}


def without_processes(module: Any, monkeypatch: pytest.MonkeyPatch, measured: str, made: Any) -> None:
    """Let `measured` of a row make up what it returns."""
    at = topology.Apps([app.Ports(0, 0, 0, 0, 0)] * 2, None)
    monkeypatch.setattr(module, "apps", lambda *_: nullcontext(at))
    monkeypatch.setattr(module, measured, made)


@linux
def test_the_scale_goes_up_and_down_in_turns_and_compares_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_round(_: Topology, plan: Plan, at: Any) -> Line:
        cpu = 2.0 if plan.calls == 2 else 3.0
        names = (*topology.SPREAD, *topology.MIDDLE, *topology.TOTAL)
        return {**report.line(machine.Busy(0, 0, 0)), **dict.fromkeys(names, 1.0), "cpu_ms_per_call_s": cpu}

    without_processes(scale, monkeypatch, "one_round", one_round)
    lines = list(rows.run("scale", replace(SMALL, calls=8, rounds=2)))
    assert [line["calls"] for line in lines] == [1, 2, 4, 6, 8, 8, 6, 4, 2, 1, 1, 2, 4, 6, 8, 8]
    assert lines[-1]["against"] == 2
    assert lines[-1]["cost_ratio"]["median"] == 1.5


@linux
def test_two_workers_with_twice_the_calls_are_compared_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_: Topology, plan: Plan, at: topology.Apps) -> product.Product:
        late = Late(1, 2.0 * len(at.ports), 3)
        return product.Product(1.0 * plan.calls, 1, 0, late, TRIPS, 1, 1, 1, 0, 0, 0)

    without_processes(workers, monkeypatch, "measure", measure)
    lines = list(rows.run("workers", SMALL))
    assert [(line["workers"], line["calls"]) for line in lines] == [(1, 2), (2, 4), (1, 2), (2, 4), (2, 4)]
    assert lines[-1]["against"] == 2
    assert lines[-1]["cost_ratio"]["median"] == 2.0
    assert lines[-1]["late_p99_rise_ms"]["median"] == 2.0


@linux
@pytest.mark.sockets
def test_the_bot_is_compared_with_the_quickstart() -> None:
    pytest.importorskip("websockets")
    rounds, summaries = run("bot")
    assert [line["app"] for line in rounds] == ["floor", "offhook", "quickstart"]
    for line in rounds:
        assert line["frames"] == 4 * 35
        assert line["lost"] == 0
        assert line["added_ms"]["p50"] > 0
    floor, ours, _ = rounds
    *_, over, compared = summaries
    added = over["added_over_floor_ms"]["p99"]
    assert added == pytest.approx(ours["added_ms"]["p99"] - floor["added_ms"]["p99"], abs=0.002)
    assert compared["ratio_to_quickstart"]["median"] >= 0


@linux
@pytest.mark.sockets
def test_after_a_stall_no_reply_and_no_other_call_has_lost_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "LENGTHS_S", (0.2,))
    [one], [summary] = run("stall")
    assert one["stall_s"] == summary["stall_s"] == 0.2
    assert one["reply_frames"] == 150
    assert one["reply_lost"] == 0
    assert one["others_lost"] == 0
    assert one["before_ms"] > 0


@linux
@pytest.mark.sockets
def test_a_kill_ends_the_calls_of_one_worker_and_none_of_control() -> None:
    [worker, control], [*summaries] = run("kill")
    assert (worker["what"], control["what"]) == ("worker", "control")
    assert worker["disconnected"] == worker["expected_disconnected"] == 2
    assert worker["kept"] == 2
    assert control["kept"] == control["hung_up"] == 4
    assert control["disordered"] == 0
    for line in (worker, control):
        assert (line["others_lost"], line["ended"], line["doubled"]) == (0, 0, 0)
    assert [line["what"] for line in summaries] == ["worker", "control"]


@linux
@pytest.mark.sockets
def test_what_waits_for_a_slow_app_is_bounded() -> None:
    [one], [summary] = run("slow", live_s=5.0)  # 2 s fill all buffers, unless the machine leaves out ticks
    assert one["oldest_queued_ms"] <= 1000  # what the queue holds
    assert one["dropped"] > 0
    assert one["kernel_bytes"] > 0
    assert "late_p99_rise_ms" in summary


@linux
@pytest.mark.sockets
def test_memory_is_told_over_ws_and_wss() -> None:
    rounds, summaries = run("memory")
    assert [line["secure"] for line in rounds] == [line["secure"] for line in summaries] == [False, True]
    assert all(line["all_kib"] > 0 for line in rounds)


@linux
@pytest.mark.sockets
def test_a_soak_turns_calls_over_and_leaves_nothing_behind() -> None:
    [one], [summary] = run("soak")
    assert one["turned"] >= 1
    assert one["frames_lost"] == 0
    assert one["descriptors_growth"] == 0
    assert one["tasks_growth"] == 0
    assert summary["start"]["descriptors"] > 0


@pytest.mark.parametrize(
    ("name", "wanted", "word"),
    [
        ("ws8", {}, "ws16, ws24"),
        ("ws24", {"calls": 1}, "calls"),
        ("ws24", {"seconds": 0.0}, "seconds"),
        ("ws24", {"rounds": 0}, "rounds"),
        ("ws24", {"workers": 5}, "workers"),
        ("soak", {"workers": 2}, "no --workers"),
    ],
)
def test_what_cannot_be_run_is_said(
    name: str, wanted: dict[str, Any], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(BenchError, match=word):
        next(rows.run(name, replace(SMALL, **wanted)))


def test_elsewhere_than_on_linux_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(BenchError, match="Linux only"):
        next(rows.run("ws24", SMALL))


def test_a_plan_is_the_rows_own_but_for_what_is_wanted() -> None:
    assert rows.plan("soak", calls=None, seconds=None) == rows.ROWS["soak"].plan
    assert rows.plan("soak", seconds=5.0).seconds == 5.0
    with pytest.raises(BenchError, match="no run 'nothing'"):
        rows.plan("nothing")
