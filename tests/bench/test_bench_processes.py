from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offhook.bench import app, floor, machine, processes, product
from offhook.bench.app import Ports
from offhook.bench.processes import BenchError

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(not machine.supported(), reason="bench measures on Linux only"),
]

NOWHERE = Ports(os.getpid(), 1, 1, 1, 1)


def children() -> set[int]:
    """The processes that this one has started and that still exist."""
    task = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for thread in task.iterdir() for pid in (thread / "children").read_text().split()}


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def test_an_app_ends_with_its_context() -> None:
    with processes.running(app.Job(16_000), Ports) as ports:
        assert ports.pid in children()


def test_an_app_ends_on_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), processes.running(app.Job(16_000), Ports):
        raise KeyboardInterrupt


def test_an_app_dies_with_us() -> None:
    """A parent that is killed cannot clean up: the kernel does."""
    parent = (
        "import os, signal\n"
        "from offhook.bench import app, processes\n"
        "with processes.running(app.Job(16000), app.Ports) as ports:\n"
        "    print(ports.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # Reading to the end waits for the app, too: it has inherited the pipe as its stderr.
    ended = subprocess.run([sys.executable, "-c", parent], capture_output=True, timeout=60, check=False)
    assert ended.returncode == -9
    assert not Path(f"/proc/{int(ended.stdout)}/exe").exists()


@pytest.mark.parametrize("job", [product.Job(NOWHERE, 16_000, 1, 0.1), floor.Job(NOWHERE, 16_000, 1, 0.1)])
def test_a_run_that_fails_says_which(job: product.Job | floor.Job, capfd: pytest.CaptureFixture[str]) -> None:
    role = type(job).__module__.rpartition(".")[2]
    with pytest.raises(BenchError, match=role):
        processes.run(job, Ports, 1)
    assert "refused" in capfd.readouterr().err


def test_a_run_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "OVERHEAD_S", 0.0)
    with pytest.raises(BenchError, match="the app did not end in time"):
        processes.run(app.Job(16_000), Ports, 0.2)
