"""`offhook test` as a user has it: files in, exit code, text, JSON and JUnit out."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
import soundfile
import typer.main
from typer.testing import CliRunner, Result

from offhook.audio.pcm import tone
from offhook.cli.verbs import app
from offhook.testing.scenario import Command
from offhook.testing.scenario_app import hosted

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
WORKFLOW = EXAMPLES / "github-actions" / "voice-agent.yml"

BOT = "from offhook.bot import apps\n\necho = apps.echo\ntone = apps.tone\n"
SCENARIOS = """
scenarios:
  - name: silence
    steps: [{hears_silence: {within: 1}}]
  - name: a tone
    steps: [{hears_tone: {hz: 440, within: 1}}, hang_up]
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in a folder that is not the working directory, with two scenarios."""
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "bots.py").write_text(BOT, "utf-8")
    path = folder / "calls.yaml"
    path.write_text("app: bots.py:tone" + SCENARIOS, "utf-8")
    monkeypatch.chdir(tmp_path)
    return path


def offhook(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["test", *map(str, arguments)])


def test_text_for_people(calls: Path) -> None:
    ran = offhook(calls)
    assert ran.exit_code == 1
    assert ran.stdout == "1 passed, 1 failed\n"
    told = re.sub(r"\d+\.\d s$", "… s", ran.stderr, flags=re.MULTILINE)
    assert told.startswith("failed  silence  … s\n        step 1: at 2.00 s the caller had not heard silence for 1 s ")
    assert "        offhook-artifacts/calls/silence/recording.wav\n" in told
    assert told.endswith("passed  a tone  … s\n")
    assert Path("offhook-artifacts/calls/a-tone/timeline.txt").is_file()


def test_json_and_junit_for_programs(calls: Path) -> None:
    ran = offhook(calls, "--json", "--junit", "report.xml", "--out", "kept", "--app", "calls/bots.py:echo")
    assert ran.exit_code == 1
    told = json.loads(ran.stdout)
    assert (told["passed"], told["failed"]) == (1, 1)
    silence, a_tone = told["scenarios"]
    assert (silence["name"], silence["passed"], silence["step"], silence["failure"]) == ("silence", True, None, "")
    assert (a_tone["passed"], a_tone["step"], a_tone["latency_s"]) == (False, 1, [])
    assert a_tone["file"] == str(calls)
    cases = list(ET.parse("report.xml").iter("testcase"))
    assert [case.find("failure") is None for case in cases] == [True, False]
    for case, scenario in zip(cases, told["scenarios"], strict=True):
        out = case.findtext("system-out", "")
        assert "CallConnected" in out
        for path in scenario["artefacts"]:
            assert f"[[ATTACHMENT|{path}]]" in out
            assert Path(path).is_file()


def test_files_of_one_name_do_not_share_a_folder(calls: Path, tmp_path: Path) -> None:
    other = tmp_path / "calls.yaml"
    other.write_text("app: calls/bots.py:tone\nscenarios: [{name: a tone, steps: [{hears_tone: 440}]}]", "utf-8")
    ran = offhook(calls, other, "--json")
    folders = {Path(scenario["artefacts"][0]).parts[1] for scenario in json.loads(ran.stdout)["scenarios"]}
    assert folders == {"calls", "calls-2"}
    assert offhook(other).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.yaml"], "No such file or directory: 'missing.yaml'"),
        (["calls/bots.py"], "calls/bots.py: Expected `object`, got `str`"),
        (["calls/calls.yaml", "--app", "bots.py:tone"], "app: there is no file "),
        (["calls/calls.yaml", "--junit", "calls/bots.py/report.xml"], "calls/bots.py"),
        (["calls/calls.yaml", "--app", "a", "--server", "http://h"], "--app and --server: one or the other"),
        (["calls/calls.yaml", "--server", "http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_code_2(calls: Path, arguments: list[str], said: str) -> None:
    ran = offhook(*arguments)
    assert ran.exit_code == 2
    assert ran.stdout == ""
    *_, last = ran.stderr.splitlines()
    assert last.startswith("offhook: ")
    assert said in last
    assert "Traceback" not in ran.stderr


def test_without_an_app_a_server_has_to_run(calls: Path, tmp_path: Path) -> None:
    calls.write_text(SCENARIOS, "utf-8")
    ran = offhook(calls, "--data-dir", tmp_path)
    assert ran.exit_code == 2
    assert "no server is running with the data directory" in ran.stderr


def test_a_bad_file_is_found_before_any_call(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("scenarios: [{name: a, steps: [hangup]}]", "utf-8")
    ran = offhook(calls, "bad.yaml", "--junit", "new/report.xml")
    assert ran.exit_code == 2
    assert not list(ET.parse("new/report.xml").iter("testcase"))
    assert "bad.yaml: scenario 1, step 1: 'hangup' is no step" in ran.stderr
    assert not Path("offhook-artifacts").exists()


# ------------------------------------------------------------------------------------------------ real time


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="a Unix command line")
def test_a_command_and_a_running_server(calls: Path, tmp_path: Path) -> None:
    pytest.importorskip("azure.communication.callautomation")
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(EXAMPLES / 'echo_app.py'))} --port {{port}}"
    soundfile.write(calls.with_name("tone.wav"), tone(440, 16_000, 3.0), 16_000)
    echoed = "{play: tone.wav}, {hears_tone: 440}"  # so its socket is open, however long that took
    steps = f"[{echoed}, hang_up, {{expects: {{events: [CallConnected, StreamingStarted]}}}}]"
    calls.write_text(f"app: {json.dumps(command)}\nscenarios: [{{name: quiet, steps: {steps}}}]", "utf-8")
    ran = offhook(calls)
    assert ran.exit_code == 0, ran.stderr
    assert "MediaStreamingStarted" in Path("offhook-artifacts/calls/app.log").read_text("utf-8")
    with hosted(Command(command), tmp_path, tmp_path) as running:
        ran = offhook(calls, "--server", running.url, "--key", running.key)
    assert ran.exit_code == 0, ran.stderr


# ------------------------------------------------------------------------------------------------ examples


def blocks(language: str) -> list[str]:
    page = (ROOT / "docs" / "testing.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_example_passes(tmp_path: Path) -> None:
    pytest.importorskip("hibari")
    pytest.importorskip("pocketsphinx")
    ran = offhook(EXAMPLES / "testing" / "salon.yaml", "--out", tmp_path, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["passed"] == 3


def test_the_documentation_shows_the_example_and_the_workflow() -> None:
    (scenario,), (workflow,) = blocks("yml"), blocks("yaml")
    assert scenario == (EXAMPLES / "testing" / "salon.yaml").read_text("utf-8")
    assert workflow == WORKFLOW.read_text("utf-8")


def test_the_workflow_runs_what_there_is() -> None:
    workflow: Any = msgspec.yaml.decode(WORKFLOW.read_bytes())
    (job,) = workflow["jobs"].values()
    runs = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
    assert [command[0] for command in runs] == ["pip", "pytest", "offhook"]
    install, pytest_run, test_run = runs
    extras = re.fullmatch(r"offhook\[(\w+)\]", install[-1])
    assert extras is not None
    assert f"\n{extras[1]} = [" in (ROOT / "pyproject.toml").read_text("utf-8")
    plugin = (ROOT / "src" / "offhook" / "testing" / "plugin.py").read_text("utf-8")
    assert all(f'"{option}"' in plugin for option in pytest_run[1:] if option.startswith("--"))
    verbs: Any = typer.main.get_command(app)
    verb = verbs.commands[test_run[1]]
    parsed = verb.make_context("test", test_run[2:]).params
    kept = job["steps"][-1]["with"]["path"]
    assert parsed["junit_file"].is_relative_to(kept)
    assert parsed["out"].is_relative_to(kept)
