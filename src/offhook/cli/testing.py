"""`offhook test`: run scenarios, say how they went."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from offhook.cli.where import NoServer, find
from offhook.server.config import ConfigError
from offhook.testing import scenario_run
from offhook.testing.caller import CallerError
from offhook.testing.inprocess import App
from offhook.testing.junit import junit
from offhook.testing.scenario import Bot, Command, Scenario, ScenarioError, ScenarioFile, load, read_app
from offhook.testing.scenario_app import hosted
from offhook.testing.scenario_run import Result, Running, app_of
from offhook.testing.speech import SpeechMissing

Where = tuple[str | None, str | None, Path | None]  # --server, --key, --data-dir


def run(
    files: Annotated[list[Path], typer.Argument(metavar="SCENARIO.yaml", help="Files with scenarios.")],
    app: Annotated[str | None, typer.Option(help="FILE.py:HANDLER, or a command that starts the app.")] = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Write the results here, too: JUnit XML.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the recording, timeline and picture of each call.")] = Path(
        "offhook-artifacts"
    ),
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")] = False,
    server: Annotated[str | None, typer.Option(help="URL of a server that runs; the app there is called.")] = None,
    key: Annotated[str | None, typer.Option(help="Its access key, base64.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Its data directory.")] = None,
) -> None:
    """Hold the telephone calls that files describe, and see whether the app does its part.

    The app, of the file or --app, is a bot file (then all runs in memory, on virtual time) or a command (it is started,
    beside a server of its own). Without one, or with --server, a server that runs is called.
    """
    if app is not None and server is not None:
        _fail("--app and --server: one or the other")
    results: list[Result] = []
    try:
        chosen = None if app is None else read_app(app)
        try:
            _hold_all(files, chosen, (server, key, data_dir), out, results)
        finally:
            if junit_file is not None:
                junit_file.parent.mkdir(parents=True, exist_ok=True)
                junit_file.write_bytes(junit(results))
    except (ScenarioError, SpeechMissing, CallerError, NoServer, ConfigError, OSError) as error:
        _fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    failed = sum(not result.passed for result in results)
    print(json.dumps(_as_json(results)) if json_ else f"{len(results) - failed} passed, {failed} failed")
    raise typer.Exit(1 if failed else 0)


def _fail(message: object) -> NoReturn:
    print(f"offhook: {message}", file=sys.stderr)
    raise typer.Exit(2)


def _hold_all(
    files: Sequence[Path], chosen: Bot | Command | None, where: Where, out: Path, results: list[Result]
) -> None:
    """Run all scenarios; results are added as they come, so that those before an error are there."""
    console = Console(stderr=True)
    read = [load(path) for path in files]
    for path, file, folder in zip(files, read, _folders(files, out), strict=True):
        with _side(path, file, chosen, where, folder) as side:
            for scenario in file.scenarios:
                results.append(_hold(path, scenario, side, folder, console))


def _folders(files: Sequence[Path], out: Path) -> Iterator[Path]:
    """A folder for each file, by its name; files of the same name get a number."""
    seen: Counter[str] = Counter()
    for path in files:
        seen[path.stem] += 1
        yield out / (path.stem if seen[path.stem] == 1 else f"{path.stem}-{seen[path.stem]}")


@contextmanager
def _side(
    path: Path, file: ScenarioFile, chosen: Bot | Command | None, where: Where, logs: Path
) -> Iterator[App | Running]:
    """The other side of a file's calls. What the file names is looked for in its folder, what `--app` names here."""
    app, folder = (file.app, path.parent) if chosen is None else (chosen, Path())
    if isinstance(app, Bot) and where[0] is None:
        yield app_of(app, folder)
    elif isinstance(app, Command) and where[0] is None:
        with hosted(app, folder, logs) as running:
            yield running
    else:
        found = find(*where)
        yield Running(found.url, found.key, found.ca if found.ca.is_file() else None)


def _hold(path: Path, scenario: Scenario, side: App | Running, folder: Path, console: Console) -> Result:
    """Run a scenario, and tell of it as it goes."""
    if console.is_terminal:
        with console.status("") as status:
            result = scenario_run.run(
                path,
                scenario,
                side,
                folder,
                lambda what: status.update(f"[dim]{escape(scenario.name)}: {escape(what)} …[/]"),
            )
    else:
        result = scenario_run.run(path, scenario, side, folder)
    took = f"[dim]{result.seconds:.1f} s[/]"
    if result.passed:
        console.print(f"[green]passed[/]  {escape(result.name)}  {took}", highlight=False, soft_wrap=True)
        return result
    step = "" if result.step is None else f"step {result.step}: "
    console.print(f"[bold red]failed[/]  {escape(result.name)}  {took}", highlight=False, soft_wrap=True)
    console.print(f"        {escape(step + result.failure)}", highlight=False, soft_wrap=True)
    for artefact in result.artefacts:
        console.print(f"        [dim]{escape(str(artefact))}[/]", highlight=False, soft_wrap=True)
    return result


def _as_json(results: Sequence[Result]) -> dict[str, Any]:
    return {
        "passed": sum(result.passed for result in results),
        "failed": sum(not result.passed for result in results),
        "scenarios": [
            {
                "file": str(result.file),
                "name": result.name,
                "passed": result.passed,
                "step": result.step,
                "failure": result.failure,
                "seconds": round(result.seconds, 3),
                "call_seconds": result.call_seconds,
                "latency_s": result.latency_s,
                "artefacts": [str(path) for path in result.artefacts],
            }
            for result in results
        ],
    }
