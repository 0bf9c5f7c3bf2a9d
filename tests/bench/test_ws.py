from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offhook.bench import machine, ws
from offhook.bench.work import Ports, Work

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(not machine.supported(), reason="bench measures on Linux only"),
]

SMALL = Work(rate=0, calls=5, seconds=1.0, settle_s=0.2, live_s=0.5)


def children() -> set[int]:
    """The processes that this one has started and that still exist."""
    task = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for thread in task.iterdir() for pid in (thread / "children").read_text().split()}


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    before = children()
    printed = list(ws.run("ws24", SMALL, rounds=1))
    assert children() <= before
    return printed


def test_one_line_a_round_and_the_summary_last(lines: list[dict[str, Any]]) -> None:
    assert [line.get("round", "summary") for line in lines] == [1, "summary"]
    for line in lines:
        assert (line["topology"], line["calls"], line["seconds"], line["rounds"]) == ("ws24", 5, 1.0, 1)


def test_the_figures_are_there(lines: list[dict[str, Any]]) -> None:
    one, summary = lines
    for line in lines:
        assert set(line["late_ms"]) == {"p50", "p99", "max"}
        assert set(line["rtt_ms"]) == {"p50", "p99"}
        assert line["app_cpu_ms_per_call_s"] >= 0
        assert line["rss_kib_per_call"] >= 0
        assert line["load"] >= 0
        assert 0 <= line["steal"] <= 100
        assert line["too_busy"] is (line["too_busy_reason"] is not None)
    assert one["cpu_ms_per_call_s"] > 0
    assert one["floor_cpu_ms_per_call_s"] > 0
    for spread in ("cpu_ms_per_call_s", "floor_cpu_ms_per_call_s", "floor_ratio"):
        assert set(summary[spread]) == {"median", "min", "max"}
    assert isinstance(summary["sticky_delay_ms"], float)


def test_every_frame_of_every_call_comes_back(lines: list[dict[str, Any]]) -> None:
    one, _ = lines
    assert one["frames_sent"] > 0
    assert one["frames_lost"] == 0


@pytest.mark.usefixtures("no_process_is_left")
def test_the_app_ends_with_its_context() -> None:
    with ws._app(Work(rate=16_000, calls=1, seconds=1.0)) as ports:
        assert ports.pid in children()


@pytest.mark.usefixtures("no_process_is_left")
def test_the_app_ends_on_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), ws._app(Work(rate=16_000, calls=1, seconds=1.0)):
        raise KeyboardInterrupt


def test_the_app_dies_with_us() -> None:
    """A parent that is killed cannot clean up: the kernel does."""
    parent = (
        "import os, signal\n"
        "from offhook.bench import ws\n"
        "from offhook.bench.work import Work\n"
        "with ws._app(Work(rate=16000, calls=1, seconds=1.0)) as ports:\n"
        "    print(ports.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # Reading to the end waits for the app, too: it has inherited the pipe as its stderr.
    ended = subprocess.run([sys.executable, "-c", parent], capture_output=True, timeout=20, check=False)
    assert ended.returncode == -9
    assert not Path(f"/proc/{int(ended.stdout)}/exe").exists()


@pytest.mark.usefixtures("no_process_is_left")
@pytest.mark.parametrize("role", ["product", "floor"])
def test_a_run_that_fails_says_which(role: str, capfd: pytest.CaptureFixture[str]) -> None:
    nowhere = Work(rate=16_000, calls=1, seconds=0.1, ports=Ports(os.getpid(), 1, 1))
    with pytest.raises(ws.BenchError, match=role):
        ws._run(role, nowhere, Ports)
    assert "refused" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("topology", "work", "rounds", "word"),
    [
        ("ws8", SMALL, 1, "ws16, ws24"),
        ("ws24", Work(0, calls=0, seconds=1), 1, "calls"),
        ("ws24", Work(0, calls=1, seconds=0), 1, "seconds"),
        ("ws24", SMALL, 0, "rounds"),
    ],
)
def test_what_cannot_be_run_is_said(topology: str, work: Work, rounds: int, word: str) -> None:
    with pytest.raises(ws.BenchError, match=word):
        next(ws.run(topology, work, rounds))


def test_elsewhere_than_on_linux_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ws.BenchError, match="Linux only"):
        next(ws.run("ws24", SMALL, 1))
