"""The pytest plugin: the fixture `caller`, and what a failed test leaves behind.

It is loaded in every pytest run of an environment that has Offhook, so it imports nothing of it before a test asks for
a `caller`.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from offhook.testing.harness import TestCaller

_CALLER: pytest.StashKey[TestCaller] = pytest.StashKey()
_NAME_CHARS = 100  # of a test's folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--offhook-artifacts`."""
    parser.getgroup("offhook").addoption(
        "--offhook-artifacts",
        metavar="DIR",
        default="offhook-artifacts",
        help="where a failed test leaves recording, timeline and picture of its calls (default: %(default)s)",
    )


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> Generator[TestCaller, None, None]:
    """Somebody with a telephone: `call = caller.call(handler)`; see `offhook.testing.harness.TestCaller`."""
    from offhook.testing.harness import TestCaller

    with TestCaller() as caller:
        request.node.stash[_CALLER] = caller
        yield caller


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what is known of the calls of a test that failed, and say where."""
    report = yield
    caller = item.stash.get(_CALLER, None)
    if report.when == "call" and report.failed and caller is not None and caller.calls:
        folder = item.config.rootpath / item.config.getoption("--offhook-artifacts") / _folder(item.nodeid)
        report.sections.append(("Offhook", _keep(caller, folder)))
    return report


def _keep(caller: TestCaller, folder: Path) -> str:
    from offhook.testing.report import keep

    lines: list[str] = []
    for number, call in enumerate(caller.calls, 1):
        try:
            lines += map(str, keep(call, folder / f"call-{number}" if len(caller.calls) > 1 else folder))
        except Exception as error:  # The test's own failure is what has to be seen.
            lines.append(f"call {number} could not be kept: {type(error).__name__}: {error}")
    return "\n".join(lines)


def _folder(nodeid: str) -> str:
    return re.sub(r"[^\w.-]+", "-", nodeid).strip("-.")[-_NAME_CHARS:]
