"""Writes docs/coverage.md: which operations and events there are, and what tests them.

`python tests/contract/coverage.py` writes the page; with `--check` it only says, by its exit code, whether the page is
what it would write. What is done is asked of the code, what is compared with recordings of the recordings, and which
official SDK drove it of `tests/sdk/record.json`, which a run of `tests/sdk` is held against. What is done and driven by
no SDK is an error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from offhook.server.api import Api
from offhook.server.webhooks import KINDS
from offhook.wire.events import SINCE
from offhook.wire.operations import OPERATIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"
RECORDED = json.loads((Path(__file__).parent / "recorded-shapes.json").read_text())
DRIVEN: dict[str, dict[str, dict[str, list[str]]]] = json.loads((ROOT / "tests" / "sdk" / "record.json").read_text())
LANGUAGES = ("Python", "JavaScript", "Java")

HEAD = """\
# Coverage

Every operation and every event of the Call Automation API, newest stable api-version (2026-03-12), whether Offhook has
it, and which versions of the official SDKs drove it: as they come from PyPI, npm and Maven Central, over https, against
one running server, in the call that [whole_call.yaml](../tests/sdk/whole_call.yaml) describes. An event counts when it
came after what it is the event of, and the SDK's own parser had read it; Python has no such parser, there it is
azure-core's `CloudEvent`. A dash: those versions have no such operation, or their api-version no such event, or nothing
in that call brings it about. So it is with AnswerFailed, which needs a caller who hangs up in the very moment of the
answer, as in `tests/server/test_control.py`. IncomingCall comes by Event Grid, whose parsers are none of these SDKs.

Besides, `tests/server` has each operation that is done succeed and fail, and each event happen in a whole call;
`tests/contract/test_shapes.py` holds both against recordings of the real service, where there are any (marked ●). What
is done otherwise than by Azure Communication Services: [differences.md](differences.md).

This page is generated: `make docs`.
"""

SDKS = """\
* Python: each version by its sync and its aio client. Some operations were driven by the sync client only, as the aio
  client does not send them: connect in 1.3.0 and 1.4.0b1, where it fails by itself, and in 1.4.0b1
  startMediaStreaming and stopMediaStreaming (azure-sdk-for-python#38910).
* Java: 1.0.4 is the newest version that could be had from Maven Central where these tests were written and run. It
  is of api-version 2023-03-06: no text, speech, hold or streaming. **Later Java SDKs were not run.** The requests that
  they make, how they sign them and what their `OutStreamingData` writes are golden messages, written from their source:
  `tests/contract/test_golden.py`, `tests/wire`.
* **.NET was not run** at all: golden requests and frames, as for the later Java SDKs.
"""


def page() -> str:
    """Return what the page has to say."""
    return "\n".join([HEAD, *_sdks(), "", *_operations(), "", *_events(), "", _sum()]) + "\n"


def undriven() -> list[str]:
    """Return the operations that are done, and that no official SDK drove."""
    return [each.name for each in OPERATIONS if each.name in Api.implemented and not _driven("operations", each.name)]


def _sdks() -> Iterator[str]:
    yield "## SDKs"
    yield ""
    for language in LANGUAGES:
        yield f"* **{language}** {', '.join(DRIVEN[language])}"
    yield ""
    yield SDKS.rstrip()


def _operations() -> Iterator[str]:
    yield "## Operations"
    yield ""
    yield f"| Operation | Request | Status | {' | '.join(LANGUAGES)} |"
    yield f"| --- | --- | --- |{' --- |' * len(LANGUAGES)}"
    for operation in OPERATIONS:
        status = "done" if operation.name in Api.implemented else "no (501)"
        mark = _mark(operation.name in RECORDED["operations"])
        request = f"`{operation.method} {operation.path}`"
        yield f"| {operation.name}{mark} | {request} | {status} | {_by_language('operations', operation.name)} |"


def _events() -> Iterator[str]:
    yield "## Events"
    yield ""
    yield f"| Event | Since api-version | Status | {' | '.join(LANGUAGES)} |"
    yield f"| --- | --- | --- |{' --- |' * len(LANGUAGES)}"
    done = {*KINDS.values(), "IncomingCall"}
    for kind, since in {"IncomingCall": "", **SINCE}.items():
        status = "done" if kind in done else "no"
        yield f"| {kind}{_mark(kind in RECORDED['events'])} | {since} | {status} | {_by_language('events', kind)} |"


def _mark(recorded: bool) -> str:
    return " ●" if recorded else ""


def _by_language(what: str, name: str) -> str:
    driven = _driven(what, name)
    return " | ".join(_ranges(list(DRIVEN[language]), driven.get(language, [])) for language in LANGUAGES)


def _driven(what: str, name: str) -> dict[str, list[str]]:
    """Return language → the versions that drove this operation, or were sent this event; in order, none empty."""
    found = {
        language: [version for version, shown in versions.items() if name in shown[what]]
        for language, versions in DRIVEN.items()
    }
    return {language: versions for language, versions in found.items() if versions}


def _ranges(all_: Sequence[str], some: Sequence[str]) -> str:
    """Write versions that follow each other as `first–last`."""
    runs = [list(run) for within, run in groupby(all_, lambda version: version in some) if within]
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs) or "–"


def _sum() -> str:
    return f"{len(Api.implemented)} of {len(OPERATIONS)} operations done"


def main(arguments: list[str]) -> int:
    if missing := undriven():
        sys.stderr.write(f"no official SDK drives {', '.join(missing)}: see tests/sdk/whole_call.yaml\n")
        return 1
    if arguments == ["--check"]:
        return 0 if PAGE.is_file() and PAGE.read_text("utf-8") == page() else 1
    if arguments:
        sys.stderr.write("usage: python tests/contract/coverage.py [--check]\n")
        return 2
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
