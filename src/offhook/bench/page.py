"""docs/performance.md from the lines of a whole run: every figure on the page is made here, the prose is `page.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from offhook.bench import plots, telephones
from offhook.bench.report import Line
from offhook.bench.tables import NOTHING, late, table, trips
from offhook.bench.targets import TARGETS, Lines, number, spread

PAGE, LINES, PICTURES = "performance.md", "performance.jsonl", "img"


def write(folder: Path) -> None:
    """Write the page and its pictures from the lines that are kept beside it. Raise OSError, or ValueError when these
    cannot be read."""
    first, *lines = [json.loads(line) for line in (folder / LINES).read_text("utf-8").splitlines()]
    (folder / PAGE).write_text(render(first, lines), "utf-8")
    steps = scale_steps(Lines(lines))
    if steps:
        (folder / PICTURES).mkdir(exist_ok=True)
        plots.draw(steps, folder / PICTURES)


def keep(folder: Path, run: Line, lines: Iterable[Line]) -> None:
    """Keep the lines of a run beside the page; `run` says on what and when they were measured."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (run, *lines))
    (folder / LINES).write_text(text, "utf-8")


def render(run: Line, lines: Sequence[Line]) -> str:
    """Return the page. `run`: see `suite.about`."""
    template = Template(resources.files("offhook.bench").joinpath("page.md").read_text("utf-8"))
    told = Lines(lines)
    return template.substitute(
        machine=_machine(run, lines),
        targets=_targets(told),
        topologies=_topologies(told),
        scale=_scale(told),
        bot=_bot(told),
        workers=_workers(told),
        rtt=telephones.rtt(told),
        sip16=telephones.sip16(told),
        sip=telephones.sip(told),
        kill=_kill(told),
        stall=_stall(told),
        slow=_slow(told),
        memory=_memory(told),
        soak=_soak(told),
        errors=_errors(lines),
    )


def scale_steps(told: Lines) -> list[Line]:
    """Return the summaries of the run `scale`, one a number of calls, in order."""
    steps = [line for line in told.all("scale") if "against" not in line]
    return sorted(steps, key=lambda line: int(line["calls"]))


def _machine(run: Line, lines: Sequence[Line]) -> str:
    facts = run["machine"]
    measured = [line for line in lines if "load" in line]
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    busy = sum(line["too_busy"] for line in measured if not line.get("summary"))
    rounds = sum(not line.get("summary") for line in measured)
    rows = [
        ("date", run["date"]),
        ("CPU", f"{facts['cpu']}, {facts['cores']} cores"),
        ("memory", f"{facts['memory_gib']} GiB"),
        ("kernel", facts["kernel"]),
        ("Python", f"{facts['python']}, {libraries}"),
        ("load average in the rounds, at most", number(max((line["load"] for line in measured), default=0.0))),
        ("time stolen by other guests, at most", f"{max((line['steal'] for line in measured), default=0.0):g} %"),
        ("other processes, at most", f"{max((line['others'] for line in measured), default=0.0):g} %"),
        ("rounds in which the machine was too busy to tell", f"{busy} of {rounds}"),
    ]
    words = "" if not run["quick"] else "\n\nThis was a quick run: it shows that all works, its figures mean nothing."
    return table(("", ""), rows) + words


def _targets(told: Lines) -> str:
    rows = []
    for target in TARGETS:
        verdict = target.verdict(told)
        rows.append((target.what, target.wanted, verdict.measured, verdict.outcome))
    return table(("What", "Target", "Measured", ""), rows)


def _topologies(told: Lines) -> str:
    head = (
        "Run", "calls", "CPU ms per call-second", "floor", "÷ floor", "late p50 / p99 / max, ms",
        "there and back p50 / p99, ms", "1 s after a stall, ms more", "frames lost", "app's CPU ms",
        "telephones' CPU ms",
    )  # fmt: skip
    rows = [
        (
            f"`{line['topology']}`",
            str(line["calls"]),
            spread(line["cpu_ms_per_call_s"]),
            spread(line["floor_cpu_ms_per_call_s"]),
            spread(line["floor_ratio"]),
            late(line["late_ms"]),
            trips(line["rtt_ms"]),
            number(line["sticky_delay_ms"]),
            f"{line['frames_lost'] + line['frames_left_out']} of {line['frames_expected']}",
            number(line["app_cpu_ms_per_call_s"]),
            number(line["load_cpu_ms_per_call_s"]),
        )
        for line in told.summaries
        if "sticky_delay_ms" in line
    ]
    return table(head, rows)


def _scale(told: Lines) -> str:
    head = ("calls", "CPU ms per call-second", "floor", "÷ floor", "late p50 / p99 / max, ms", "frames lost")
    rows = [
        (
            str(line["calls"]),
            spread(line["cpu_ms_per_call_s"]),
            spread(line["floor_cpu_ms_per_call_s"]),
            spread(line["floor_ratio"]),
            late(line["late_ms"]),
            str(line["frames_lost"] + line["frames_left_out"]),
        )
        for line in scale_steps(told)
    ]
    if not rows:
        return NOTHING
    pictures = f"![cost per call]({PICTURES}/cost.png)\n\n![lateness]({PICTURES}/lateness.png)"
    return f"{pictures}\n\n{table(head, rows)}"


BOTS = {
    "floor": "the floor: the socket alone",
    "offhook": "`offhook.bot`",
    "quickstart": "the quickstart's handler",
}


def _bot(told: Lines) -> str:
    ratio = told.summary("bot", against="quickstart")
    if ratio is None:
        return NOTHING
    head = ("App", "streams", "CPU ms per call-second", "there and back p50 / p99, ms", "load's CPU ms", "frames lost")
    rows = [
        (
            BOTS[line["app"]],
            str(line["calls"]),
            spread(line["cpu_ms_per_call_s"]),
            trips(line["added_ms"]),
            number(line["load_cpu_ms_per_call_s"]),
            f"{line['lost']} of {line['frames']}",
        )
        for line in told.all("bot")
        if "app" in line
    ]
    said = f"Of the quickstart's CPU `offhook.bot` takes {spread(ratio['ratio_to_quickstart'])}."
    if over := told.summary("bot", against="floor"):
        said += f" It adds to the floor's delay, p50 / p99: {trips(over['added_over_floor_ms'])} ms."
    return f"{table(head, rows)}\n\n{said}"


def _workers(told: Lines) -> str:
    head = ("workers", "calls", "CPU ms per call-second", "late p50 / p99 / max, ms", "frames lost")
    rows = [
        (
            str(line["workers"]),
            str(line["calls"]),
            spread(line["cpu_ms_per_call_s"]),
            late(line["late_ms"]),
            str(line["frames_lost"]),
        )
        for line in told.all("workers")
        if "against" not in line
    ]
    return table(head, rows)


def _stall(told: Lines) -> str:
    head = ("stall", "delay before, ms", "1 s after, ms", "reply: frames lost", "others: late p99 before → after, ms",
            "others: there and back p99, ms", "others: frames lost")  # fmt: skip
    rows = [
        (
            f"{line['stall_s']:g} s",
            spread(line["before_ms"]),
            spread(line["after_ms"]),
            f"{line['reply_lost']} of {line['reply_frames']}",
            _change(line, "others_late"),
            _change(line, "others_rtt"),
            str(line["others_lost"]),
        )
        for line in told.all("stall")
    ]
    return table(head, rows)


def _slow(told: Lines) -> str:
    line = told.summary("slow")
    if line is None:
        return NOTHING
    rows = [
        ("late p99 of the others, without it → with it, ms", _change(line, "late")),
        ("there and back p99 of the others, ms", _change(line, "rtt")),
        ("oldest of its messages in our queue, ms", spread(line["oldest_queued_ms"])),
        ("its bytes in our kernel, which cannot be taken back", number(line["kernel_bytes"])),
        ("… and the age of the oldest of them, ms", number(line["oldest_kernel_ms"])),
        ("messages to it that were dropped", number(line["dropped"])),
        ("memory, more, KiB", number(line["rss_kib"])),
    ]
    return table(("", ""), rows)


def _kill(told: Lines) -> str:
    worker, control = told.summary("kill", what="worker"), told.summary("kill", what="control")
    if worker is None or control is None:
        return NOTHING
    told_of = f"{worker['disconnected']} of {worker['expected_disconnected']}, {worker['doubled']} of them twice"
    rows = [
        ("a worker: calls told of as ended", told_of),
        ("… the last of a round, after the kill, s", spread(worker["last_told_s"])),
        ("… calls of the other worker that ended", f"{worker['ended']} of {worker['kept']}"),
        ("… frames that those lost, and that were taken out of their delay", _frames(worker)),
        ("control: back, and with all calls, after s", spread(control["back_s"])),
        ("… calls that ended", f"{control['ended']} of {control['kept']}"),
        ("… frames that were lost, and that were taken out of the delay", _frames(control)),
        ("… calls that could be hung up then, each told of once", f"{control['hung_up']} of {control['kept']}"),
        ("… calls whose events were not told in order", str(control["disordered"])),
    ]
    return table(("", ""), rows)


def _frames(killed: Line) -> str:
    return f"{killed['others_lost']} and {killed['taken_out']}"


def _memory(told: Lines) -> str:
    head = ("", "calls", "KiB per call beyond the first", "worker with the first, MiB", "with all, MiB")
    rows = [
        (
            "`wss`" if line["secure"] else "`ws`",
            str(line["calls"]),
            spread(line["kib_per_call"]),
            number(line["first_kib"] / 1024),
            number(line["all_kib"] / 1024),
        )
        for line in told.all("memory")
    ]
    return table(head, rows)


def _soak(told: Lines) -> str:
    line = told.summary("soak")
    if line is None:
        return NOTHING
    rows = [
        (
            when,
            number(line[when]["rss_kib"] / 1024),
            str(round(line[when]["descriptors"])),
            str(round(line[when]["tasks"])),
        )
        for when in ("start", "end")
    ]
    words = (
        f"{line['calls']} calls for {line['seconds']:g} s, of which {line['turned']} ended and were replaced; "
        f"{line['frames_lost']} frames lost; late p99 {number(line['late_ms']['p99'])} ms."
    )
    return f"{words}\n\n{table(('', 'memory, MiB', 'descriptors', 'tasks'), rows)}"


def _errors(lines: Sequence[Line]) -> str:
    failed = [f"* `{line['topology']}`: {line['error']}" for line in lines if "error" in line]
    return "\n".join(["\nThese runs could not be made:\n", *failed, ""]) if failed else ""


def _change(line: Line, of: str) -> str:
    return f"{number(line[f'{of}_before_ms']['p99'])} → {number(line[f'{of}_after_ms']['p99'])}"
