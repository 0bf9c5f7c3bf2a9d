"""Runs scenarios: one call each, against an app in this process or whatever answers at a running server."""

from __future__ import annotations

import importlib.util
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offhook.bot import Handler
from offhook.testing.call import Call
from offhook.testing.harness import TestCaller
from offhook.testing.inprocess import App
from offhook.testing.report import keep
from offhook.testing.scenario import Bot, Scenario, ScenarioError


@dataclass(frozen=True)
class Running:
    """A server that runs: its URL, an access key, and certificates to trust besides the system's."""

    url: str
    key: str
    ca: Path | None = None


@dataclass(frozen=True)
class Result:
    """How a scenario went. `failure`: what was wrong, in a line, empty when it passed; `step`: the one that failed,
    from 1; `trace`: of an exception that the app raised. `seconds` as they passed here, `call_seconds` in the call.
    `latency_s`: of each turn, None without a reply. `timeline` and `artefacts` are what was kept of it."""

    file: Path
    name: str
    failure: str
    step: int | None
    trace: str
    seconds: float
    call_seconds: float
    latency_s: list[float | None]
    timeline: str
    artefacts: list[Path]

    @property
    def passed(self) -> bool:
        return not self.failure


def app_of(bot: Bot, folder: Path) -> App:
    """Import the bot's file, looked for in `folder`, as a program would be that is started there. Raises
    `ScenarioError`."""
    file, _, name = bot.bot.rpartition(":")
    path = (folder / file).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ScenarioError(f"app: there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # for what it imports from beside it
    sys.modules[path.stem] = module  # dataclasses look for theirs there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ScenarioError(f"app: {path} cannot be imported: {type(error).__name__}: {error}") from error
    handler: Handler | None = getattr(module, name, None)
    if not callable(handler):
        raise ScenarioError(f"app: {path} has no function {name}")
    return App(
        handler,
        rate=bot.rate,
        unmixed=bot.unmixed,
        bidirectional=bot.bidirectional,
        dtmf=bot.dtmf,
        answer_after=bot.answer_after,
        path=bot.path,
        hangs_up=bot.hangs_up,
    )


def run(
    file: Path, scenario: Scenario, side: App | Running, out: Path, watch: Callable[[str], None] = lambda _: None
) -> Result:
    """Hold the call of one scenario and keep it in a folder of `out`; see `offhook.testing.report.keep` for the files.

    `watch` is told of each step as it begins. What the call does wrong is in the result; raises `ScenarioError` for a
    scenario that cannot be run against this side, `SpeechMissing`, `CallerError` when a server refuses or cannot be
    reached, and OSError when the files cannot be written.
    """
    began = time.monotonic()
    failure, trace, number = "", "", 0
    with TestCaller() as caller:
        try:
            watch("ringing")
            call = _connected(caller, scenario, side)
            for number, step in enumerate(scenario.steps, 1):
                watch(f"step {number} of {len(scenario.steps)}")
                step.do(call, file.parent)
            number = 0
            call.hang_up()
        except (AssertionError, TimeoutError) as error:
            failure = str(error) or f"{type(error).__name__}: no answer in time"
            trace = "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else ""
        calls, folder = caller.calls, out / scenario.folder  # one call, or none where nobody called the phone
        artefacts = [path for call in calls for path in keep(call, folder)]
    return Result(
        file,
        scenario.name,
        failure,
        number or None,
        trace,
        seconds=time.monotonic() - began,
        call_seconds=sum(call.now_s for call in calls),
        latency_s=[latency for call in calls for latency in call.latency],
        timeline=(folder / "timeline.txt").read_text("utf-8") if artefacts else "",
        artefacts=artefacts,
    )


def _connected(caller: TestCaller, scenario: Scenario, side: App | Running) -> Call:
    app, key, ca = (side.url, side.key, side.ca) if isinstance(side, Running) else (side, "", None)
    rate, faults, phone = scenario.rate, scenario.faults(), scenario.phone
    if phone is None:
        return caller.call(app, to=scenario.to, from_=scenario.from_, rate=rate, weather=faults, key=key, ca=ca)
    waiting = caller.phone(app, id=phone.id, rate=rate, weather=faults, key=key, ca=ca)
    does = {
        "answer": waiting.answer,
        "busy": waiting.busy,
        "decline": waiting.decline,
        "no-answer": waiting.no_answer,
    }
    return does[phone.does](phone.within)
