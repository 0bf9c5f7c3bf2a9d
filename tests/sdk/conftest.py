"""One server and one stage for all SDKs; each test gets the performance of its SDK, and they play a few at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache
from pathlib import Path

import anyio
import pytest
import yaml
from anyio.from_thread import BlockingPortal, start_blocking_portal
from tests.sdk.performance import Performance
from tests.sdk.performers import Performer, command
from tests.sdk.runner import Runner
from tests.sdk.stage import Stage

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SDK = ROOT / ".sdk"
RECORD = HERE / "record.json"  # which SDK drove which operations, and was sent which events
SHOWN = ROOT / "build" / "sdk-coverage.json"  # the record, with what this run has shown
AT_A_TIME = 4  # mostly they wait: for audio to be played, and for each other's processes to start


class Performances:
    """All performances of a session: `start(performer, folder)` each, then wait for its `result`."""

    def __init__(self, stage: Stage, portal: BlockingPortal) -> None:
        self.played: dict[Performer, Performance] = {}  # those that went as written
        self._stage = stage
        self._portal = portal
        self._scenario = yaml.safe_load((HERE / "whole_call.yaml").read_text("utf-8"))
        self._limit = anyio.CapacityLimiter(AT_A_TIME)
        self._futures: dict[Performer, Future[Performance]] = {}

    def start(self, performer: Performer, folder: Path) -> None:
        """Begin it, unless it has begun; it waits for its turn."""
        if performer not in self._futures:
            self._futures[performer] = self._portal.start_task_soon(self._perform, performer, folder)

    def result(self, performer: Performer) -> Performance:
        """Wait until it is over. Raises what went wrong."""
        performance = self._futures[performer].result()
        self.played[performer] = performance
        return performance

    def shown(self) -> dict[str, dict[str, dict[str, list[str]]]]:
        """Return language → version → the operations it drove and the events it was sent, by whichever client."""
        shown: dict[str, dict[str, dict[str, list[str]]]] = {}
        for performer, performance in self.played.items():
            version = shown.setdefault(performer.language, {}).setdefault(performer.version, {})
            for what, new in (("operations", performance.driven), ("events", performance.seen)):
                version[what] = sorted({*version.get(what, ()), *new})
        return shown

    def cancel(self) -> None:
        """End those that still go on."""
        for future in self._futures.values():
            future.cancel()

    async def _perform(self, performer: Performer, folder: Path) -> Performance:
        async with self._limit:
            name = str(performer).replace(" ", "-")
            act = self._stage.act(name)
            program, variables = command(performer, folder, self._stage.data_dir)
            log = self._stage.data_dir / f"{name}.log"
            runner = await Runner.start(program, self._stage.environment | variables, log)
            try:
                assert runner.version == performer.version
                performance = Performance(act, runner)
                await performance.perform(self._scenario)
            except AssertionError as error:
                error.add_note(f"the server's log ends: {self._stage.log()}")
                raise
            finally:
                await runner.stop()
                await act.close()
            return performance


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session")
def stage(portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("sdk"))
    with portal.wrap_async_context_manager(stage):
        yield stage


@pytest.fixture(scope="session")
def performances(
    stage: Stage, portal: BlockingPortal, sdk_folder: Callable[[str], Path | str], request: pytest.FixtureRequest
) -> Iterator[Performances]:
    """The performances that tests of this session ask for, all begun."""
    performances = Performances(stage, portal)
    for item in request.session.items:
        performer = item.callspec.params.get("performer") if hasattr(item, "callspec") else None
        if isinstance(performer, Performer) and isinstance(folder := sdk_folder(performer.folder), Path):
            performances.start(performer, folder)
    yield performances
    performances.cancel()
    record = json.loads(RECORD.read_text("utf-8"))
    for language, versions in performances.shown().items():
        record[language] |= versions
    SHOWN.parent.mkdir(exist_ok=True)
    SHOWN.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


@pytest.fixture(scope="session")
def sdk_folder() -> Callable[[str], Path | str]:
    """The folder of an SDK by its name in install.py, installed if need be; or why it cannot be had."""

    @cache  # what cannot be fetched is not tried again for each test
    def folder(name: str) -> Path | str:
        for program, wanted in (("node", "js"), ("javac", "java")):
            if name == wanted and shutil.which(program) is None:
                return f"{program} is not installed: its official SDK is NOT TESTED"
        done = subprocess.run([sys.executable, HERE / "install.py", name], capture_output=True, text=True, check=False)
        return SDK / name if (SDK / name).is_dir() else done.stderr.strip()

    return folder


@pytest.fixture
def sdk(sdk_folder: Callable[[str], Path | str]) -> Callable[[str], Path]:
    """`sdk_folder`; what cannot be had is skipped, or with OFFHOOK_REQUIRE_PEERS=1 fails."""

    def folder(name: str) -> Path:
        found = sdk_folder(name)
        if isinstance(found, str):
            (pytest.fail if os.environ.get("OFFHOOK_REQUIRE_PEERS") == "1" else pytest.skip)(found)
        return found

    return folder
