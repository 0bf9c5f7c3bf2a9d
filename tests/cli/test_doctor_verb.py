"""`offhook doctor`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offhook.cli.verbs import app

pytestmark = pytest.mark.sockets


def run(folder: Path, text: str, *options: str) -> tuple[int, str]:
    config = folder / "offhook.toml"
    config.write_text(text)
    result = CliRunner().invoke(app, ["doctor", "--config", str(config), "--data-dir", str(folder), *options])
    return result.exit_code, result.stdout


def test_a_good_set_up_exits_with_0_and_a_line_each_in_json(tmp_path: Path) -> None:
    code, output = run(tmp_path, "http = 0\nhttps = 0\n", "--json")
    assert code == 0
    assert {json.loads(line)["level"] for line in output.splitlines()} <= {"ok", "warn"}


def test_a_broken_one_exits_with_1_and_says_what(tmp_path: Path) -> None:
    code, output = run(tmp_path, "htttp = 0\n")
    assert code == 1
    assert output == "FAIL  configuration: htttp: there is no such setting\n"
