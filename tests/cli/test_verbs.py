"""The command line as a user has it: processes, ports, files, exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from offhook.audio import pcm
from offhook.cli.verbs import app

pytestmark = pytest.mark.sockets

OFFHOOK = [sys.executable, "-m", "offhook"]


@dataclass
class Running:
    """An `offhook serve` with a data directory of its own."""

    process: subprocess.Popen[str]
    data: Path
    http: int
    https: int

    def offhook(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*OFFHOOK, *arguments, "--data-dir", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a verb and wait for its ready line."""
        command = [*OFFHOOK, *arguments, "--data-dir", str(self.data)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ready"] is True
        return process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("data")
    command = [*OFFHOOK, "serve", "--http", "0", "--https", "0", "--data-dir", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    ready = json.loads(process.stdout.readline())
    yield Running(process, data, ready["http"], ready["https"])
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert not (data / "server.json").exists()


def last_object(output: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(output.strip().splitlines()[-1])
    return found


def test_the_servers_file_is_for_its_owner_only(server: Running) -> None:
    path = server.data / "server.json"
    told = json.loads(path.read_bytes())
    assert told["http"] == f"http://127.0.0.1:{server.http}"
    assert told["https"] == f"https://127.0.0.1:{server.https}"
    assert told["pid"] == server.process.pid
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_phone_answers_a_call_and_hears_the_file_at_its_own_rate(server: Running, tmp_path: Path) -> None:
    rate = 44_100
    soundfile.write(tmp_path / "tone.wav", pcm.tone(440, rate, 1.0), rate)
    phone = server.start("phone", "+15550123", "--json", "--calls", "1", "--record", str(tmp_path / "phone.wav"))
    called = server.offhook(
        "call", "+15550123", "--wav", str(tmp_path / "tone.wav"), "--json", "--record", str(tmp_path / "caller.wav")
    )
    assert called.returncode == 0, called.stderr
    result = last_object(called.stdout)
    assert result["answered"] is True
    frames = result["frames"]
    assert isinstance(frames, int)
    assert 97 <= frames < 1000  # 1 s of tone, 1 s of listening, and what it takes until it has hung up
    output, _ = phone.communicate(timeout=20)
    assert last_object(output)["answered"] is True
    heard, heard_rate = soundfile.read(tmp_path / "phone.wav", dtype="int16")
    assert heard_rate == 24_000
    loud = np.flatnonzero(heard)
    tone = heard[loud[0] : loud[-1] + 1]
    assert len(tone) == pytest.approx(24_000, abs=100)  # as long as it was: not fast, not slow
    assert pcm.tone_level(tone, 440, 24_000) == pytest.approx(-12, abs=0.2)
    silent, silent_rate = soundfile.read(tmp_path / "caller.wav", dtype="int16")
    assert (silent_rate, silent.any()) == (24_000, False)


@pytest.mark.parametrize("reason", ["busy", "declined"])
def test_a_phone_declines(server: Running, reason: str) -> None:
    phone = server.start("phone", "+15550124", "--json", "--calls", "1", "--decline", reason)
    called = server.offhook("call", "+15550124", "--json")
    phone.communicate(timeout=20)
    assert called.returncode == 1
    result = last_object(called.stdout)
    assert result["answered"] is False
    states = result["states"]
    assert isinstance(states, list)
    assert states[-1]["reason"] == reason


def test_a_call_to_nobody_says_so(server: Running) -> None:
    called = server.offhook("call", "+15550199")
    assert called.returncode == 1
    assert "unreachable: no phone waits under that address" in called.stdout


def test_a_bad_address_is_one_line(server: Running) -> None:
    called = server.offhook("call", "not an address")
    assert called.returncode == 2
    assert "is no address" in called.stderr
    assert len(called.stderr.splitlines()) == 1


def test_a_file_that_cannot_be_played_is_one_line(server: Running, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    called = server.offhook("call", "+15550123", "--wav", str(tmp_path / "broken.wav"))
    assert called.returncode == 2
    assert "broken.wav" in called.stderr
    assert "Traceback" not in called.stderr


def test_keys_names_every_sdks_form(server: Running) -> None:
    strings = json.loads(server.offhook("keys", "--json").stdout)
    assert strings["https"].startswith(f"endpoint=https://127.0.0.1:{server.https}/;accesskey=")
    assert server.offhook("env", "--json").stdout.count(strings["https"]) == 1
    assert strings["python-http"].startswith(f"endpoint=http://http://127.0.0.1:{server.http};accesskey=")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP on Windows")
@pytest.mark.parametrize("workers", ["0", "1"])
def test_reload_says_what_has_changed_or_what_is_wrong(tmp_path: Path, workers: str) -> None:
    config = tmp_path / "offhook.toml"
    config.write_text("")
    serve = ["serve", "--config", str(config), "--http", "0", "--https", "0", "--workers", workers]
    telephones = ["--sip", "0", "--sips", "0", "--data-dir", str(tmp_path)]
    process = subprocess.Popen(
        [*OFFHOOK, *serve, *telephones], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    running = Running(process, tmp_path, ready["http"], ready["https"])
    try:
        config.write_text('max_calls = 7\n[[phone]]\nuser = "desk"\npassword = "secret"\n')
        done = running.offhook("reload")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "read anew",
            "  phone desk: new",
            "  max_calls: has changed, which waits for the next start",
        ]
        assert json.loads(running.offhook("reload", "--json").stdout)["changed"] == []
        config.write_text("[[phone]]\nuser = 1\n")
        refused = running.offhook("reload")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.splitlines() == [
            "the configuration is not read anew, nothing has changed",
            "  phone.0.user: Input should be a valid string",
            "  phone.0.password: Field required",
        ]
        assert json.loads(running.offhook("reload", "--json").stdout)["problems"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert f"sip:127.0.0.1:{ready['sip']}" in errors  # for people
    assert f"sip:127.0.0.1:{ready['sips']};transport=tls" in errors


# ------------------------------------------------------------------------------------------------ without a server


def test_reload_does_not_signal_a_stranger(tmp_path: Path) -> None:
    with (
        socket.socket() as closed,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger,
    ):
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (tmp_path / "server.json").write_text(
            json.dumps({"http": url, "https": None, "pid": stranger.pid, "reloads": 0})
        )
        code, output = invoke("reload", "--data-dir", str(tmp_path))
        assert code == 2
        assert "the server that ran here is gone" in output
        stranger.communicate(b"\n")
        assert stranger.returncode == 0


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_a_server_that_was_killed_is_not_taken_for_running(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    told = {"http": "http://127.0.0.1:1", "https": None, "key": "a2V5", "ca": str(tmp_path / "ca.pem"), "pid": gone.pid}
    (tmp_path / "server.json").write_text(json.dumps(told))
    code, output = invoke("call", "+15550100", "--data-dir", str(tmp_path))
    assert code == 2
    assert "no server is running" in output


def test_a_client_verb_without_a_server_says_what_to_do(tmp_path: Path) -> None:
    code, output = invoke("call", "+15550100", "--data-dir", str(tmp_path))
    assert code == 2
    assert "start one with `offhook serve`" in output


def test_production_needs_keys_and_a_certificate(tmp_path: Path) -> None:
    code, output = invoke("serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path))
    assert code == 2
    assert "access key of its own" in output
    assert "a certificate and its key are needed" in output


def test_env_prints_shell_exports(tmp_path: Path) -> None:
    code, output = invoke("env", "--data-dir", str(tmp_path))
    assert code == 0
    assert f"export REQUESTS_CA_BUNDLE={tmp_path}/bundle.pem" in output
    assert f"export NODE_EXTRA_CA_CERTS={tmp_path}/ca.pem" in output


def test_every_verb_has_a_help_text() -> None:
    _, listing = invoke("--help")
    for verb in ("demo", "serve", "call", "phone", "bot", "keys", "env", "bench", "reload"):
        assert verb in listing
        code, output = invoke(verb, "--help")
        assert code == 0
        assert "Usage" in output
