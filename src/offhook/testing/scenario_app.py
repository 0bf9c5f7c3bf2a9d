"""A server and an app beside it, each a process of its own, for scenarios with a `command`."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from offhook.server import tls
from offhook.server.listening import SERVER_FILE, free_port
from offhook.testing.scenario import Command, ScenarioError
from offhook.testing.scenario_run import Running

HOST = "127.0.0.1"
READY_S = 60.0  # for the server, and then the app, to listen
STOP_S = 10.0  # for each to end when asked to; then it is killed
LOG_TAIL = 2000  # characters of a log that an error shows

_POLL_S = 0.05


@contextmanager
def hosted(command: Command, folder: Path, logs: Path) -> Iterator[Running]:
    """Run a server on free ports with a data directory of its own, and the app in `folder`, as long as the block does.

    The app finds what `offhook env` prints in its environment, besides PORT (what `{port}` stands for) and
    OFFHOOK_INCOMING_URL. What both print goes to `server.log` and `app.log` in `logs`. Raises `ScenarioError` when one
    of them does not listen within 60 s or has ended, with the end of its log.
    """
    port = free_port(HOST, socket.SOCK_STREAM)
    arguments = _split(command.command.replace("{port}", str(port)))
    incoming = command.incoming.replace("{port}", str(port))
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="offhook-test-") as data:
        serve = [sys.executable, "-m", "offhook", "serve", "--http", "0", "--https", "0", "--workers", "0"]
        serve += ["--data-dir", data, "--incoming", incoming]
        told = Path(data) / SERVER_FILE
        with _process(serve, os.environ, Path(), logs / "server.log", told.is_file):
            server: dict[str, Any] = json.loads(told.read_bytes())
            environment = {
                **os.environ,
                **_trust(Path(data)),
                "ACS_CONNECTION_STRING": f"endpoint={server['https']}/;accesskey={server['key']}",
                "OFFHOOK_INCOMING_URL": incoming,
                "PORT": str(port),
            }
            with _process(arguments, environment, folder, logs / "app.log", lambda: _listens(incoming)):
                yield Running(server["http"], server["key"])


def _trust(data: Path) -> dict[str, str]:
    made = tls.ensure(data)
    bundle = str(made.bundle)
    return {"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle, "NODE_EXTRA_CA_CERTS": str(made.ca)}


@contextmanager
def _process(
    arguments: list[str], environment: Mapping[str, str], folder: Path, log: Path, ready: Callable[[], bool]
) -> Iterator[None]:
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                arguments, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        except OSError as error:
            raise ScenarioError(f"{arguments[0]} cannot be started: {error}") from None
        try:
            _wait_until(ready, process, shlex.join(arguments), log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], command: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while (ended := process.poll() is not None) or not ready():
        if ended or time.monotonic() > deadline:
            why = f"ended with exit code {process.returncode}" if ended else f"does not listen after {READY_S:g} s"
            tail = log.read_text("utf-8", errors="replace")[-LOG_TAIL:].strip()
            raise ScenarioError(f"{command} {why}" + (f":\n{tail}" if tail else ""))
        time.sleep(_POLL_S)


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _split(command: str) -> list[str]:
    """The words of a command line; Windows splits them itself."""
    try:
        return shlex.split(command) if os.name == "posix" else [command]
    except ValueError as error:
        raise ScenarioError(f"app: {command!r}: {error}") from None
