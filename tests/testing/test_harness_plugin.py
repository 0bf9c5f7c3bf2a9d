"""The pytest plugin as its users have it: tests that fail leave their calls behind; the documentation's code runs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import wave
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from offhook.server.listening import free_port

pytest_plugins = ("pytester",)

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "testing.md"
# An installed package brings the plugin by itself; a checkout that was installed before it had one does not.
PLUGIN = () if entry_points(group="pytest11", name="offhook") else ("-p", "offhook.testing.plugin")

FAILING = """
from offhook.audio.pcm import tone
from offhook.bot import apps


def test_bad(caller):
    call = caller.call(apps.echo)
    call.say(tone(440, call.rate, 0.5))
    call.hears_tone(700, within=0.5)


def test_two_calls(caller):
    caller.call(apps.echo)
    caller.call(apps.tone).hears_silence(within=0.5)


def test_good(caller):
    caller.call(apps.tone).hears_tone(440)


def test_without_a_call(caller):
    assert False
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TUTORIAL.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.sockets
def test_a_failed_test_leaves_its_call(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILING)
    result = pytester.runpytest_inprocess(*PLUGIN, "--offhook-artifacts", "kept")
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(
        ["*NotHeard: at 1.0* s the caller had not heard a tone of 700 Hz*440 Hz at -15 dBFS.", "*- Offhook -*"]
    )
    kept = pytester.path / "kept"
    module = "test_a_failed_test_leaves_its_call.py"
    assert sorted(folder.name for folder in kept.iterdir()) == [f"{module}-test_bad", f"{module}-test_two_calls"]
    assert sorted(path.name for path in (kept / f"{module}-test_two_calls").iterdir()) == ["call-1", "call-2"]
    folder = kept / f"{module}-test_bad"
    assert str(folder / "recording.wav") in result.stdout.str()
    with wave.open(str(folder / "recording.wav")) as recording:
        assert (recording.getnchannels(), recording.getframerate()) == (2, 16_000)
        assert recording.getnframes() >= 16_000
    with wave.open(str(folder / "excerpt-1.wav")) as excerpt:
        assert excerpt.getnframes() >= 16_000
    told = (folder / "timeline.txt").read_text("utf-8")
    order = ["CallConnected", "says 0.50 s of audio", "is heard for 0.50 s", "has not heard a tone of 700 Hz"]
    assert sorted(order, key=told.index) == order
    facts = json.loads((folder / "timeline.json").read_bytes())
    assert facts["answered"] is True
    assert facts["turns"][0]["latency_s"] is None
    assert [event["what"] for event in facts["server"]][:2] == ["IncomingCall", "CallConnected"]
    if importlib.util.find_spec("matplotlib") is not None:
        assert (folder / "call.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_calls_imports_nothing_of_offhook(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_plain():
            loaded = {name for name in sys.modules if name.startswith("offhook")}
            assert loaded <= {"offhook", "offhook.testing", "offhook.testing.plugin"}
            assert "numpy" not in sys.modules
        """
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)


@pytest.mark.sockets
def test_the_example_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile((ROOT / "examples" / "testing" / "test_echo_agent.py").read_text("utf-8"))
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


@pytest.mark.sockets
def test_the_tutorial_does_what_it_says(pytester: pytest.Pytester) -> None:
    for extra in ("hibari", "pocketsphinx"):
        pytest.importorskip(extra)
    for block in blocks("python"):
        name = re.match(r"# (\w+)\.py\n", block)
        assert name is not None, "each block begins with the name of its file"
        path = pytester.path / f"{name[1]}.py"
        path.write_text(block, "utf-8")
    result = pytester.runpytest_subprocess(*PLUGIN, "--deselect", "test_live.py")
    result.assert_outcomes(passed=8, failed=1)
    shown = [line for block in blocks("text") for line in block.splitlines() if line]
    result.stdout.fnmatch_lines([line.replace("[", "[[]").replace("…", "*") for line in shown])


def test_the_workflow_of_the_tutorial_runs_pytest() -> None:
    (workflow,) = blocks("yaml")
    assert "pytest --offhook-artifacts" in workflow


@pytest.mark.sockets
def test_the_same_test_passes_on_a_running_server(pytester: pytest.Pytester) -> None:
    pytest.importorskip("azure.communication.callautomation")
    if sys.platform == "win32":
        pytest.skip("programs are ended by SIGTERM")
    live = next(block for block in blocks("python") if block.startswith("# test_live.py"))
    pytester.makepyfile(test_live=live)
    with _Running(pytester.path / "data") as url:
        pytester.makeconftest(f"import os\nos.environ['OFFHOOK_URL'] = {url!r}")
        pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=2)


class _Running:
    """A server and the echo app of the examples beside it."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._programs: list[subprocess.Popen[str]] = []

    def __enter__(self) -> str:
        port = free_port("127.0.0.1", socket.SOCK_STREAM)
        environment = {**os.environ, "OFFHOOK_DATA_DIR": str(self._data)}
        incoming = f"http://127.0.0.1:{port}/api/incomingCall"
        arguments = ("-m", "offhook", "serve", "--http", "0", "--https", "0", "--incoming", incoming)
        ready = json.loads(self._start(environment, *arguments))
        key = json.loads((self._data / "server.json").read_bytes())["key"]
        environment["ACS_CONNECTION_STRING"] = f"endpoint=https://127.0.0.1:{ready['https']}/;accesskey={key}"
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            environment[name] = str(self._data / "bundle.pem")
        self._start(environment, str(ROOT / "examples" / "echo_app.py"), "--port", str(port))
        return f"http://127.0.0.1:{ready['http']}"

    def __exit__(self, *_: object) -> None:
        for program in reversed(self._programs):
            program.terminate()
            program.communicate(timeout=20)

    def _start(self, environment: dict[str, str], *arguments: str) -> str:
        program = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._programs.append(program)
        assert program.stdout is not None
        return program.stdout.readline()
