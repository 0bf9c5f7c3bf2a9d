"""Writes docs/coverage.md: which operations and events there are, and what tests them.

`python tests/contract/coverage.py` writes the page; with `--check` it only says, by its exit code, whether the page is
what it would write. What is done is asked of the code, what is compared with recordings of the recordings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from offhook.server.api import Api
from offhook.server.webhooks import KINDS
from offhook.wire.events import SINCE
from offhook.wire.operations import OPERATIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"
RECORDED = json.loads((Path(__file__).parent / "recorded-shapes.json").read_text())

HEAD = """\
# Coverage

Every operation and every event of the Call Automation API, newest stable api-version (2026-03-12), and whether Offhook
has it. `tests/server/test_api.py` has each operation that is done succeed and fail, `tests/server/test_control.py` each
event happen in a whole call. `tests/contract/test_shapes.py` holds both against recordings of the real service, where
there are any, and `tests/sdk` drives them by the official SDKs. What is done otherwise than by Azure Communication
Services: [differences.md](differences.md).

This page is generated: `make docs`.
"""


def page() -> str:
    """Return what the page has to say."""
    return "\n".join([HEAD, *_operations(), "", *_events(), "", _sum()]) + "\n"


def _operations() -> Iterator[str]:
    yield "## Operations"
    yield ""
    yield "| Operation | Request | Status | Tested by |"
    yield "| --- | --- | --- | --- |"
    for operation in OPERATIONS:
        done = operation.name in Api.implemented
        tests = _tests("test_api", operation.name in RECORDED["operations"]) if done else ""
        status = "done" if done else "no (501)"
        yield f"| {operation.name} | `{operation.method} {operation.path}` | {status} | {tests} |"


def _events() -> Iterator[str]:
    yield "## Events"
    yield ""
    yield "| Event | Since api-version | Status | Tested by |"
    yield "| --- | --- | --- | --- |"
    done = {*KINDS.values(), "IncomingCall"}
    for kind, since in {"IncomingCall": "", **SINCE}.items():
        tests = _tests("test_control", kind in RECORDED["events"]) if kind in done else ""
        yield f"| {kind} | {since} | {'done' if kind in done else 'no'} | {tests} |"


def _tests(module: str, recorded: bool) -> str:
    return f"`{module}`, `test_shapes`" if recorded else f"`{module}`"


def _sum() -> str:
    return f"{len(Api.implemented)} of {len(OPERATIONS)} operations done"


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        return 0 if PAGE.is_file() and PAGE.read_text("utf-8") == page() else 1
    if arguments:
        sys.stderr.write("usage: python tests/contract/coverage.py [--check]\n")
        return 2
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
