"""`offhook doctor`, as a user runs it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offhook.cli.doctor import _host_port
from offhook.cli.verbs import app

pytestmark = pytest.mark.sockets


def run(folder: Path, text: str, *options: str) -> tuple[int, str]:
    config = folder / "offhook.toml"
    config.write_text(text)
    result = CliRunner().invoke(app, ["doctor", "--config", str(config), "--data-dir", str(folder), *options])
    return result.exit_code, result.stdout


def test_a_good_set_up_exits_with_0_and_a_line_each_in_json(tmp_path: Path) -> None:
    code, output = run(tmp_path, "http = 0\nhttps = 0\n", "--json")
    assert code == 0
    assert {json.loads(line)["level"] for line in output.splitlines()} <= {"ok", "warn"}


def test_a_broken_one_exits_with_1_and_says_what(tmp_path: Path) -> None:
    code, output = run(tmp_path, "htttp = 0\n")
    assert code == 1
    assert output == "FAIL  configuration: htttp: there is no such setting\n"


def test_without_a_server_only_the_configuration_is_looked_at(tmp_path: Path) -> None:
    code, output = run(tmp_path, "http = 0\nhttps = 0\n")
    assert code == 0
    assert "ok    server: none runs with this data directory" in output


def test_a_server_elsewhere_is_all_that_is_looked_at(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        code, output = run(tmp_path, "http = 0\nhttps = 0\n", "--server", url, "--json")
    assert code == 1
    (found,) = map(json.loads, output.splitlines())
    assert (found["level"], found["subject"]) == ("FAIL", "server")


def test_a_bad_configuration_for_a_server_elsewhere_is_a_bad_option(tmp_path: Path) -> None:
    assert run(tmp_path, "htttp = 0\n", "--server", "http://127.0.0.1:1") == (2, "")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("stun.example", ("stun.example", 3478)),
        ("stun.example:19302", ("stun.example", 19302)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("[2001:db8::1]:1", ("2001:db8::1", 1)),
        ("2001:db8::1", ("2001:db8::1", 3478)),
    ],
)
def test_a_stun_server_may_have_a_port(text: str, meant: tuple[str, int]) -> None:
    assert _host_port(text) == meant


@pytest.mark.parametrize("text", ["", ":1", "stun.example:", "stun.example:x"])
def test_a_stun_server_that_is_none_is_a_bad_option(tmp_path: Path, text: str) -> None:
    assert run(tmp_path, "", "--stun", text) == (2, "")
