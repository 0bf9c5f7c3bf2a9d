"""The sections of the page about telephones."""

from __future__ import annotations

from offhook.bench.tables import NOTHING, late, table, trips
from offhook.bench.targets import Lines, number, spread


def rtt(told: Lines) -> str:
    """Return the section on the run `rtt`."""
    line = told.summary("rtt")
    if line is None:
        return NOTHING
    lost = f"{line['frames_lost']} of {line['frames_expected']} frames lost"
    return f"{line['calls']} telephones: {trips(line['rtt_ms'])} ms (p50 / p99); {lost}."


def sip16(told: Lines) -> str:
    """Return the section on the run `sip16`."""
    line = told.summary("sip16")
    if line is None:
        return NOTHING
    head = ("Run", "calls", "CPU ms per call-second", "late p50 / p99 / max, ms", "there and back p50 / p99, ms",
            "frames lost")  # fmt: skip
    rows = [
        (
            name,
            str(line["calls"]),
            spread(line[f"{prefix}cpu_ms_per_call_s"]),
            late(line[f"{prefix}late_ms"]),
            trips(line[f"{prefix}rtt_ms"]),
            str(line[f"{prefix}frames_lost"]),
        )
        for name, prefix in (("`sip16`", ""), ("`rtp16`, in turns with it", "plain_"))
    ]
    control = number(line["control_cpu_ms_per_call_s"])
    return f"{table(head, rows)}\n\nRatio: {spread(line['cost_ratio'])}. Of it, control: {control} ms."


def sip(told: Lines) -> str:
    """Return the section on the run `sip`."""
    line = told.summary("sip")
    if line is None:
        return NOTHING
    held = [
        (what, *(number(line[when][name]) for when in ("before", "after")))
        for what, name in (
            ("SIP sessions", "sessions"),
            ("SIP transactions", "transactions"),
            ("asyncio tasks", "tasks"),
            ("descriptors of control", "descriptors"),
            ("descriptors of the worker", "worker_descriptors"),
            ("UDP sockets of RTP", "rtp_sockets"),
            ("memory of control, KiB", "rss_kib"),
            ("memory of the worker, KiB", "worker_rss_kib"),
        )
    ]
    words = (
        f"{line['answered']} of {line['placed']} calls answered, {line['failed']} failed, "
        f"{line['refused']} of them refused for lack of room; "
        f"{number(line['setup_ms']['median'])} ms from INVITE to 200, the app's answer over REST included. CPU of "
        f"control per call: {spread(line['control_cpu_ms_per_call'])} ms; of the SIP stack alone: "
        f"{spread(line['stack_cpu_ms_per_call'])} ms. Late p99 of the worker: at most "
        f"{number(line['late_ms']['p99'])} ms."
    )
    return f"{words}\n\n{table(('held', 'before', 'after'), held)}"
