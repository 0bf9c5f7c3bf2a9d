"""docs/coverage.md is what `make docs` writes, and what it calls done is tested."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

from offhook.server.api import Api
from offhook.server.webhooks import KINDS

HERE = Path(__file__).parent
SCRIPT = HERE / "coverage.py"
PAGE = HERE.parents[1] / "docs" / "coverage.md"


def names_in(test: str, table: str) -> set[str]:
    """The keys of the literal dictionary `table` in a test module."""
    for node in ast.walk(ast.parse((HERE.parent / test).read_text("utf-8"))):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table and isinstance(node.value, ast.Dict):
            return {str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)}
    raise LookupError(f"{test} has no {table}")


def strings_in(test: str) -> set[str]:
    tree = ast.parse((HERE.parent / test).read_text("utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == runpy.run_path(str(SCRIPT))["page"](), "run `make docs`"


def test_check_says_so() -> None:
    assert subprocess.run([sys.executable, SCRIPT, "--check"], check=False).returncode == 0


def test_the_last_line_counts_the_operations() -> None:
    last = PAGE.read_text("utf-8").splitlines()[-1]
    assert last == f"{len(Api.implemented)} of 34 operations done"


def test_every_operation_that_is_done_is_exercised() -> None:
    assert names_in("server/test_api.py", "EXCHANGES") == Api.implemented


def test_every_event_that_is_done_is_seen() -> None:
    assert {*KINDS.values(), "IncomingCall"} <= strings_in("server/test_control.py")
