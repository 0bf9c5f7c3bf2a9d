"""Every command of the README and the quickstart is run, in order, and prints what the page says.

A ```console block has commands behind `$ ` and below each what it prints on stdout (nothing shown: nothing printed).
In what is shown, `…` stands for any text, a line of only `…` for any lines, and a number for any number, but for ports
and numbers with a `+`. Commands of a page run in one shell, in a scratch folder with a copy of `examples/` and
the environment of this run as `.venv`. Documented ports are replaced by free ones, in the text and by OFFHOOK_HTTP and
OFFHOOK_HTTPS; OFFHOOK_DATA_DIR is a folder of the test's. A command with `&` behind it is started, and the next one
waits for its first line. `make` is not run here: its targets are looked up.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile

from offhook.audio.pcm import level, tone_level

ROOT = Path(__file__).parents[2]
COMMAND_S = 150  # the most that one command may take
PAGE_S = 600  # the most that a page may take

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(
        shutil.which("bash") is None or sys.platform == "win32", reason="the pages are for a Unix shell"
    ),
]


@dataclass
class Command:
    """One command of a page, and what the page says it prints."""

    text: str
    output: list[str] = field(default_factory=list)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[Command]:
    found: list[Command] = []
    for line in "".join(blocks(page, "console")).splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        else:
            found[-1].output.append(line)
    return found


def pattern(lines: list[str], ports: dict[str, str]) -> str:
    """A regular expression for documented output, newline by newline."""
    return "".join(r"(?:.*\n)*" if line == "…" else _line_pattern(line, ports) + r"\n" for line in lines)


def _line_pattern(line: str, ports: dict[str, str]) -> str:
    parts = re.split(r"(…|\+\d+|(?<![\w.])\d+(?:\.\d+)?)", line)
    made = []
    for part in parts:
        if part == "…":
            made.append(".*")
        elif part in ports:
            made.append(ports[part])
        elif part[:1].isdigit():
            made.append(r"\d+(?:\.\d+)?")
        else:
            made.append(re.escape(part))
    return "".join(made)


class Shell:
    """A bash that runs one command after the other and keeps its variables; what they print goes to files."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._number = 0
        self._started: list[int] = []
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, cwd=folder, env=environment, text=True
        )

    def run(self, command: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it printed on stdout."""
        name = self._next()
        self._write(
            f"{{ {command}\n}} > {name}.out 2> {name}.err < /dev/null; echo $? > {name}.new; mv {name}.new {name}.rc"
        )
        self._wait_for(name, ".rc")
        self._complain(name)
        return int(self._read(name, ".rc")), self._read(name, ".out")

    def start(self, command: str) -> str:
        """Start a command in the background; return what it has printed once that is a whole line."""
        name = self._next()
        self._write(
            f"{command} > {name}.out 2> {name}.err < /dev/null & echo $! > {name}.new; mv {name}.new {name}.pid"
        )
        self._wait_for(name, ".pid")
        self._started.append(int(self._read(name, ".pid")))
        self._wait_for(name, ".out")
        return self._read(name, ".out")

    def close(self) -> None:
        """End what was started, and the shell."""
        for pid in reversed(self._started):
            self._write(f"kill {pid} 2> /dev/null; wait {pid}")
        try:
            self._bash.communicate(timeout=30)
        finally:
            if self._bash.poll() is None:
                for pid in self._started:
                    os.kill(pid, signal.SIGKILL)
                self._bash.kill()
                self._bash.wait()
        for errors in self.folder.glob("*.err"):
            self._complain(errors.stem)

    def _next(self) -> str:
        self._number += 1
        return f"command-{self._number}"

    def _write(self, line: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(line + "\n")
        self._bash.stdin.flush()

    def _read(self, name: str, suffix: str) -> str:
        return (self.folder / (name + suffix)).read_text("utf-8")

    def _wait_for(self, name: str, suffix: str) -> None:
        path = self.folder / (name + suffix)
        deadline = time.monotonic() + COMMAND_S
        while not (path.exists() and "\n" in path.read_text("utf-8")):
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing within {COMMAND_S} s; stderr: {self._read(name, '.err')}")
            time.sleep(0.02)

    def _complain(self, name: str) -> None:
        errors = self._read(name, ".err")
        assert "Traceback" not in errors, errors


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder that looks to a page's commands like a clone in which `make demo` was run."""
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def environment(tmp_path: Path, ports: dict[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OFFHOOK_", "ACS_"))}
    return {
        **own,
        "OFFHOOK_DATA_DIR": str(tmp_path / "data"),
        "OFFHOOK_HTTP": ports["7080"],
        "OFFHOOK_HTTPS": ports["7443"],
    }


def with_free_ports(text: str, ports: dict[str, str]) -> str:
    return re.sub(r"\b\d{4}\b", lambda found: ports.get(found[0], found[0]), text)


def follow(page: Path, shell: Shell, ports: dict[str, str]) -> None:
    """Run a page's commands as this module's docstring says."""
    for command in commands(page):
        if command.text.startswith("make "):
            continue
        text = with_free_ports(command.text, ports)
        expected = pattern(command.output, ports)
        if text.endswith(" &"):
            printed = shell.start(text.removesuffix(" &"))
            assert re.match(expected, printed), (text, printed)
        else:
            code, printed = shell.run(text)
            assert code == 0, (text, printed)
            assert re.fullmatch(expected, printed), (text, printed)


def heard(path: Path) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    samples, rate = soundfile.read(path, dtype="int16")
    assert (rate, samples.ndim) == (24_000, 1)
    return np.asarray(samples)


@pytest.mark.timeout(PAGE_S)
@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_the_commands_of_a_page_do_what_it_says(
    name: str, scratch: Path, tmp_path: Path, ports: dict[str, str]
) -> None:
    pytest.importorskip("azure.communication.callautomation")
    pytest.importorskip("hibari")
    shell = Shell(scratch, environment(tmp_path, ports))
    try:
        follow(ROOT / name, shell, ports)
    finally:
        shell.close()
    assert level(heard(scratch / "heard.wav")) > -40  # the caller's own voice, echoed
    if name == "docs/quickstart.md":
        assert json.loads((scratch / "call.json").read_bytes().splitlines()[-1])["answered"] is True
        assert level(heard(scratch / "answer.wav")) > -40
        for hz in (440, 550, 660):
            assert tone_level(heard(scratch / "phone.wav"), hz, 24_000) > -40


@pytest.mark.timeout(PAGE_S)
def test_the_caller_api_can_be_used_with_curl(scratch: Path, tmp_path: Path, ports: dict[str, str]) -> None:
    for tool in ("curl", "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    [script] = blocks(ROOT / "docs/caller-api.md", "bash")
    shell = Shell(scratch, environment(tmp_path, ports))
    try:
        shell.run('export PATH="$PWD/.venv/bin:$PATH"')
        shell.start("offhook serve")
        code, printed = shell.run(with_free_ports(script, ports) + "\necho")
    finally:
        shell.close()
    assert code == 0
    placed = json.loads(printed)
    assert placed["rawId"] == "4:+15550100"
    assert placed["audioUrl"].startswith("ws://127.0.0.1:")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/quickstart.md"])
def test_every_make_target_that_is_named_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    page = (ROOT / name).read_text("utf-8")
    named = re.findall(r"(?:^\$ |`)make ([a-z]+)", page, re.MULTILINE)
    assert named
    assert set(named) <= targets


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/quickstart.md"])
def test_no_command_of_a_page_is_left_out(name: str) -> None:
    page = (ROOT / name).read_text("utf-8")
    assert not blocks(ROOT / name, "(?:bash|sh|shell)")  # all are in console blocks, which are run
    assert page.count("\n$ ") == len(commands(ROOT / name))


def test_documented_output_is_matched_strictly() -> None:
    ports = {"8080": "41000"}
    shown = pattern(['{"ready": true, "http": 8080, "ws": 40721}', "…", "heard 3.36 s as +15550100"], ports)
    assert re.fullmatch(shown, '{"ready": true, "http": 41000, "ws": 5}\nheard 2 s as +15550100\n')
    assert re.fullmatch(shown, '{"ready": true, "http": 41000, "ws": 5}\nmore\nheard 2 s as +15550100\n')
    assert not re.fullmatch(shown, '{"ready": true, "http": 41001, "ws": 5}\nheard 2 s as +15550100\n')
    assert not re.fullmatch(shown, '{"ready": true, "http": 41000, "ws": 5}\nheard 2 s as +15550101\n')
    assert not re.fullmatch(shown, '{"ready": true, "http": 41000, "ws": 5}\nheard nothing as +15550100\n')
