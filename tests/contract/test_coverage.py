"""docs/coverage.md is what `make docs` writes, and what it calls done is tested."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract import coverage

from offhook.server.api import Api
from offhook.server.webhooks import KINDS
from offhook.wire.operations import OPERATIONS

HERE = Path(__file__).parent
SCRIPT = HERE / "coverage.py"


def trees() -> list[ast.Module]:
    """What the tests of the server are, as syntax."""
    return [ast.parse(path.read_text("utf-8")) for path in sorted((HERE.parent / "server").glob("test_*.py"))]


def strings() -> set[str]:
    nodes = (node for tree in trees() for node in ast.walk(tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_page_is_up_to_date() -> None:
    assert coverage.PAGE.read_text("utf-8") == coverage.page(), "run `make docs`"


def test_check_says_so() -> None:
    assert subprocess.run([sys.executable, SCRIPT, "--check"], check=False).returncode == 0


def test_the_last_line_counts_the_operations() -> None:
    last = coverage.PAGE.read_text("utf-8").splitlines()[-1]
    assert last == f"{len(Api.implemented)} of 34 operations done"


def test_every_operation_that_is_done_is_exercised() -> None:
    assert strings() >= Api.implemented, "test_api has an exchange of each, and says so itself"


def test_every_event_that_is_done_is_seen() -> None:
    assert {*KINDS.values(), "IncomingCall"} <= strings()


@pytest.mark.parametrize("name", sorted(Api.implemented))
def test_an_operation_that_is_done_and_driven_by_no_sdk_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without = {
        language: {
            version: {**shown, "operations": [each for each in shown["operations"] if each != name]}
            for version, shown in versions.items()
        }
        for language, versions in coverage.DRIVEN.items()
    }
    monkeypatch.setattr(coverage, "DRIVEN", without)
    assert coverage.undriven() == [name]
    assert coverage.main(["--check"]) == coverage.main([]) == 1
    assert name in capsys.readouterr().err


def test_the_record_names_nothing_that_there_is_not() -> None:
    operations = {operation.name for operation in OPERATIONS}
    for versions in coverage.DRIVEN.values():
        for shown in versions.values():
            assert set(shown["operations"]) <= operations
            assert set(shown["events"]) <= set(KINDS.values())


@pytest.mark.parametrize(
    ("some", "written"),
    [
        ("", "–"),
        ("abcd", "a–d"),
        ("b", "b"),
        ("acd", "a, c–d"),
    ],
)
def test_versions_that_follow_each_other_are_written_as_one_range(some: str, written: str) -> None:
    assert coverage._ranges("abcd", some) == written
