"""What the media path is meant to reach, and whether the lines of a run say that it does.

A target is told only of the number of calls it is meant for, where it names one, and only when the machine was not too
busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from offhook.bench.report import Line

Outcome = Literal["met", "not met", "informative", "too busy to tell", "not measured"]


class Lines:
    """The lines of a whole run, to be looked up in."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.summaries = [line for line in lines if line.get("summary")]

    def summary(self, topology: str, **match: object) -> Line | None:
        """Return the last summary of a run in which `match` stands, or None; a None in `match`: not in the line."""
        found = [
            line
            for line in self.summaries
            if line["topology"] == topology and all(line.get(name) == value for name, value in match.items())
        ]
        return found[-1] if found else None

    def all(self, topology: str) -> list[Line]:
        """Return every summary of a run."""
        return [line for line in self.summaries if line["topology"] == topology]


@dataclass(frozen=True)
class Verdict:
    """What was measured, in words, and what that means for the target."""

    measured: str
    outcome: Outcome


@dataclass(frozen=True)
class Target:
    """`what` shall be `wanted`. It is told of the summary of the run `topology` in which `match` stands; `check` says
    what that has, and whether it is enough (None: only told)."""

    what: str
    wanted: str
    topology: str
    match: Mapping[str, object]
    check: Callable[[Line], tuple[str, bool | None]]

    def verdict(self, lines: Lines) -> Verdict:
        """Return what `lines` say."""
        summary = lines.summary(self.topology, **self.match)
        if summary is None:
            return Verdict("–", "not measured")
        measured, enough = self.check(summary)
        if summary["too_busy"]:
            return Verdict(f"{measured}; {summary['too_busy_reason']}", "too busy to tell")
        if enough is None:
            return Verdict(measured, "informative")
        return Verdict(measured, "met" if enough else "not met")


def spread(value: Mapping[str, float], unit: str = "") -> str:
    """Return a median with its range."""
    return f"{number(value['median'])}{unit} ({number(value['min'])} to {number(value['max'])})"


def number(value: float) -> str:
    """Return a number with three significant digits or, where it has more, all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def at_most(limit: float | None, *path: str, unit: str = "") -> Callable[[Line], tuple[str, bool | None]]:
    """Return a check of the figure that is found by `path`, of its median if it is a spread; None: only told."""

    def check(summary: Line) -> tuple[str, bool | None]:
        value: Any = summary
        for name in path:
            value = value[name]
        middle, words = (value["median"], spread(value, unit)) if isinstance(value, dict) else (value, number(value))
        return words if isinstance(value, dict) else words + unit, None if limit is None else middle <= limit

    return check


def _left_alone(summary: Line) -> tuple[str, bool]:
    before, after = summary["others_late_before_ms"]["p99"], summary["others_late_after_ms"]["p99"]
    lost = summary["others_lost"]
    return f"late p99 {number(before)} → {number(after)} ms, {lost} frames lost", after <= before + 1 and lost == 0


def _reply(summary: Line) -> tuple[str, bool]:
    return f"{summary['reply_lost']} of {summary['reply_frames']} frames", summary["reply_lost"] == 0


def _trip(summary: Line) -> tuple[str, bool]:
    trip = summary["rtt_ms"]
    return f"p50 {number(trip['p50'])}, p99 {number(trip['p99'])} ms", trip["p50"] <= 20 and trip["p99"] <= 30


def _soak(summary: Line) -> tuple[str, bool]:
    rss, descriptors, tasks = (summary[f"{name}_growth{end}"] for name, end in _HELD)
    words = f"memory {rss['median']:+.1f} %, descriptors {descriptors:+}, tasks {tasks:+}"
    return words, rss["median"] <= 2 and descriptors <= 0 and tasks <= 0


_HELD = (("rss", "_percent"), ("descriptors", ""), ("tasks", ""))


def _worker_killed(summary: Line) -> tuple[str, bool]:
    told, expected, last = summary["disconnected"], summary["expected_disconnected"], summary["last_told_s"]["max"]
    lost, ended, doubled = summary["others_lost"], summary["ended"], summary["doubled"]
    words = f"{told} of {expected} CallDisconnected ({doubled} twice), the last after {number(last)} s; others: {lost}"
    return f"{words} frames lost, {ended} ended", told == expected and not doubled + lost + ended and last <= 1


def _control_killed(summary: Line) -> tuple[str, bool]:
    back, lost, ended, doubled = (summary[name] for name in ("back_s", "others_lost", "ended", "doubled"))
    words = f"back after {number(back['max'])} s; {lost} frames lost; {summary['hung_up']} of {summary['kept']} hung up"
    whole = summary["hung_up"] == summary["kept"] and not lost + ended + doubled + summary["disordered"]
    return f"{words} ({doubled} told twice)", whole and back["max"] <= 2


def _calls(summary: Line) -> tuple[str, bool]:
    words = f"{summary['answered']} of {summary['placed']} answered, {summary['failed']} failed"
    return words, summary["answered"] == summary["placed"] and not summary["failed"]


def _left_behind(summary: Line) -> tuple[str, bool]:
    left = {name: summary[f"{name}_growth"] for name in _SIP_HELD}
    rss = {who: summary[f"{name}rss_growth_percent"]["median"] for who, name in _SIP_MEMORY}
    counts = ", ".join(f"{name.replace('_', ' ')} {count:+}" for name, count in left.items() if count) or "nothing"
    memory = ", ".join(f"{who} {percent:+.1f} %" for who, percent in rss.items())
    return f"{counts}; memory: {memory}", max(left.values()) <= 0 and max(rss.values()) <= 2


_SIP_HELD = ("calls", "sessions", "transactions", "tasks", "descriptors", "rtp_sockets", "worker_descriptors")
_SIP_MEMORY = (("control", ""), ("worker", "worker_"))
_ONE = {"calls": 200, "workers": 1}
_STALLS = (("0.2 s", 0.2), ("2 s", 2.0))
_RATIO = ("floor_ratio",)
_CPU = ("cpu_ms_per_call_s",)

TARGETS: Sequence[Target] = (
    Target("`ws24`, 200 calls: cost ÷ floor", "≤ 1.6", "ws24", _ONE, at_most(1.6, *_RATIO)),
    Target("`ws24`, 200 calls: CPU per call-second", "(≤ 1 ms)", "ws24", _ONE, at_most(None, *_CPU, unit=" ms")),
    Target("`rtp16`, 200 calls: cost ÷ floor", "≤ 1.8", "rtp16", _ONE, at_most(1.8, *_RATIO)),
    Target("`rtp16`, 200 calls: CPU per call-second", "(≤ 1.5 ms)", "rtp16", _ONE, at_most(None, *_CPU, unit=" ms")),
    Target("`sip16`, 200 calls: cost ÷ `rtp16`", "≤ 1.1", "sip16", _ONE, at_most(1.1, "cost_ratio")),
    Target("1,000 calls by SIP, 20 a second", "none fails", "sip", {"calls": 1000}, _calls),
    Target("… what they leave behind", "nothing", "sip", {"calls": 1000}, _left_behind),
    Target(
        "… INVITE to BYE in the SIP stack: CPU",
        "(≤ 2 ms)",
        "sip",
        {"calls": 1000},
        at_most(None, "stack_cpu_ms_per_call", unit=" ms"),
    ),
    Target("`secure24`, 100 calls: cost ÷ floor", "(told)", "secure24", {"calls": 100}, at_most(None, *_RATIO)),
    Target("late p99, 100 calls", "≤ 1 ms", "scale", {"calls": 100}, at_most(1, "late_ms", "p99", unit=" ms")),
    Target("late p99, 300 calls", "≤ 5 ms", "scale", {"calls": 300}, at_most(5, "late_ms", "p99", unit=" ms")),
    Target(
        "cost of a call, 400 ÷ 100 calls", "≤ 1.1", "scale", {"calls": 400, "against": 100}, at_most(1.1, "cost_ratio")
    ),
    Target(
        "cost of a call, 2 × 150 on two workers ÷ 150 on one",
        "≤ 1.1",
        "workers",
        {"calls": 300, "against": 150},
        at_most(1.1, "cost_ratio"),
    ),
    Target(
        "… and their late p99, more than on one",
        "≤ 0.1 ms",
        "workers",
        {"calls": 300, "against": 150},
        at_most(0.1, "late_p99_rise_ms", unit=" ms"),
    ),
    Target("RTP in → app → RTP out, 100 calls", "p50 ≤ 20, p99 ≤ 30 ms", "rtt", {"calls": 100}, _trip),
    Target(
        "memory of a call, `ws`", "≤ 50 KiB", "memory", {"secure": False, "calls": 250}, at_most(50, "kib_per_call")
    ),
    Target(
        "memory of a call, `wss`", "(told)", "memory", {"secure": True, "calls": 250}, at_most(None, "kib_per_call")
    ),
    Target("10 minutes of 200 calls", "nothing grows", "soak", {"calls": 200, "seconds": 600}, _soak),
    *(
        Target(f"app stalls {name}: delay 1 s later, more", "≤ 20 ms", "stall", {"stall_s": s}, at_most(20, "later_ms"))
        for name, s in _STALLS
    ),
    *(
        Target(f"app stalls {name}: the other calls", "not touched", "stall", {"stall_s": s}, _left_alone)
        for name, s in _STALLS
    ),
    *(
        Target(f"app stalls {name}: a buffered reply loses", "nothing", "stall", {"stall_s": s}, _reply)
        for name, s in _STALLS
    ),
    Target(
        "one app of 100 reads 1 KB/s: late p99 of the others, more",
        "≤ 5 ms",
        "slow",
        {"calls": 100},
        at_most(5, "late_p99_rise_ms", unit=" ms"),
    ),
    Target(
        "… its audio in our queue, oldest",
        "≤ 2000 ms",
        "slow",
        {"calls": 100},
        at_most(2000, "oldest_queued_ms", unit=" ms"),
    ),
    Target("… memory, more", "≤ 4096 KiB", "slow", {"calls": 100}, at_most(4096, "rss_kib", unit=" KiB")),
    Target(
        "`kill -9` of one of two workers, 2 × 50 calls",
        "50 CallDisconnected, once, within 1 s; others 0 frames",
        "kill",
        {"what": "worker", "calls": 100},
        _worker_killed,
    ),
    Target(
        "`kill -9` of control, 100 calls",
        "back within 2 s; 0 frames; all can be hung up",
        "kill",
        {"what": "control", "calls": 100},
        _control_killed,
    ),
)
