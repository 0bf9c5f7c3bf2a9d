from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from offhook.bench import page, rows
from offhook.bench.plan import Plan
from offhook.cli.bench import bench

app = typer.Typer()
app.command()(bench)
runner = CliRunner()


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans of the runs that are made, each of which prints a round and a summary."""
    made: list[Plan] = []

    def run(name: str, plan: Plan) -> list[dict[str, Any]]:
        made.append(plan)
        figures = {"cost": {"median": 1.0, "min": 0.5, "max": 2.0}, "late_ms": {"p50": 0.1, "p99": 1.0}, "lost": 3}
        busy = {"too_busy": True, "too_busy_reason": "steal was 20 %"}
        return [{"topology": name, "lost": 3}, {"topology": name, "calls": 9, "summary": True, **figures, **busy}]

    monkeypatch.setattr(rows, "run", run)
    return made


def test_lines_go_to_stdout_and_words_to_stderr(plans: list[Plan]) -> None:
    ran = runner.invoke(app, ["ws24", "--calls", "9"])
    assert ran.exit_code == 0
    assert [json.loads(line).get("summary") for line in ran.stdout.splitlines()] == [None, True]
    assert ran.stderr.splitlines() == [
        "ws24 9 calls:",
        "  cost: 1 (0.5 to 2)",
        "  late_ms: p50 0.1, p99 1",
        "  lost: 3",
        "  the machine was too busy to tell: steal was 20 %",
    ]
    assert plans == [rows.plan("ws24", calls=9)]


def test_with_json_there_are_no_words(plans: list[Plan]) -> None:
    ran = runner.invoke(app, ["ws24", "--json", "--seconds", "2", "--rounds", "1", "--workers", "2"])
    assert ran.stderr == ""
    assert plans == [rows.plan("ws24", seconds=2.0, rounds=1, workers=2)]


def test_what_is_not_there_is_said() -> None:
    ran = runner.invoke(app, ["ws8"])
    assert ran.exit_code == 2
    assert "no run 'ws8'" in ran.stderr


def test_the_page_is_written_anew_from_its_lines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    machine = {"cpu": "x", "cores": 1, "kernel": "6", "python": "3.11", "libraries": {}, "memory_gib": 1}
    page.keep(tmp_path, {"machine": machine, "date": "today", "quick": True}, [])
    assert runner.invoke(app, ["page", "--out", str(tmp_path)]).exit_code == 0
    assert "This was a quick run" in (tmp_path / page.PAGE).read_text("utf-8")
    assert runner.invoke(app, ["page", "--out", str(tmp_path / "nowhere")]).exit_code == 2
