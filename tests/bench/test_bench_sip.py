"""Telephones by SIP: what sipp says is read, it is missed loudly, and small runs have their figures."""

from __future__ import annotations

from contextlib import suppress

import pytest
from tests.legs.sip_peers.programs import program

from offhook.bench import machine, rows, sip, sip_legs, sipp
from offhook.bench.control import late
from offhook.bench.plan import Plan
from offhook.bench.processes import BenchError
from offhook.bench.report import Line
from offhook.media.tidings import Vitals
from offhook.media.vitals import LATENESS_BOUNDS_S

TRIES = 3
SMALL = Plan(calls=4, seconds=0.5, rounds=1, settle_s=0.2)
linux = pytest.mark.skipif(not machine.supported(), reason="bench measures on Linux only")


@pytest.fixture
def telephones() -> None:
    """sipp is here."""
    program("sipp", "sip-tester")


def test_the_last_line_of_sipps_statistics_counts() -> None:
    head = "StartTime;TotalCallCreated;SuccessfulCall(C);FailedCall(C);ResponseTimesetup(C);"
    text = f"{head}\nx;4;0;0;00:00:00:000000;\nx;1000;998;2;00:01:02:034500;\n"
    assert sipp.counted(text) == sipp.Placed(placed=1000, answered=998, failed=2, setup_ms=62_034.5)


def test_statistics_that_are_none_are_said() -> None:
    with pytest.raises(OSError, match="statistics"):
        sipp.counted("")


@linux
@pytest.mark.parametrize("name", ["sip", "sip16"])
def test_without_sipp_nothing_is_measured_and_that_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match="sip-tester"):
        next(rows.run(name, SMALL))


def vitals(*ticks: int) -> Vitals:
    counts = (*ticks, *[0] * (len(LATENESS_BOUNDS_S) + 1 - len(ticks)))
    return Vitals(1, 0, 0, 0, 0, counts, 0, 0, 0, 0, 0, 0, 0, 0, {}, {}, 0, True)


def test_ticks_between_two_reports_are_as_late_as_their_bucket_ends() -> None:
    told = late(vitals(100, 5), vitals(190, 12, 2, 1))
    assert (told.p50, told.p99, told.max) == (0.5, 2.0, 5.0)
    assert late(vitals(1), vitals(1)).max == 0.0


def measured(name: str) -> tuple[Line, Line]:
    """The round and the summary of a small run."""
    one, summary = rows.run(name, SMALL)
    assert one["topology"] == summary["topology"] == name
    assert summary["summary"]
    return one, summary


@linux
@pytest.mark.sockets
@pytest.mark.usefixtures("telephones")
def test_calls_by_sip_come_about_cost_something_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sip, "LINGER_S", 1.0)  # not until transactions end, which takes half a minute
    one, summary = measured("sip")
    for line in (one, summary):
        assert line["placed"] == 4
        assert line["answered"] == 4 - line["failed"]
        assert line["failed"] == line["refused"]  # a machine that is busy has no room
        for name in ("calls", "sessions", "rtp_sockets", "tasks"):
            assert line[f"{name}_growth"] == 0
    assert one["control_cpu_ms_per_call"] > 0
    assert one["stack_cpu_ms_per_call"] > 0
    assert one["before"]["rss_kib"] > 0
    assert summary["setup_ms"]["median"] > 0


@linux
@pytest.mark.sockets
@pytest.mark.usefixtures("telephones")
def test_legs_that_sip_set_up_are_compared_with_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sip_legs, "STAND_S", 3.0)  # so a call lasts 7 s
    for _ in range(TRIES - 1):
        with suppress(BenchError):  # A machine that is busy has no room for some call.
            one, summary = measured("sip16")
            break
    else:
        one, summary = measured("sip16")
    assert one["frames_expected"] > 0
    assert one["frames_lost"] < one["frames_expected"] / 2  # a machine that is busy makes holes
    assert one["rtt_ms"]["p50"] > 0
    assert one["cpu_ms_per_call_s"] >= one["control_cpu_ms_per_call_s"] >= 0
    assert one["cost_ratio"] == pytest.approx(one["cpu_ms_per_call_s"] / one["plain_cpu_ms_per_call_s"], rel=0.01)
    assert set(summary["cost_ratio"]) == {"median", "min", "max"}
