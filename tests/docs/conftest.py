"""A running `offhook serve` and free ports, for tests that run what the documentation shows."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

READY_S = 30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Served:
    """A server, and what it takes to start programs beside it: `environment` has its trust and connection string."""

    data: Path
    http: int
    app: int  # port of the app that is told of incoming calls
    key: str
    environment: dict[str, str]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a Python program to its end."""
        return subprocess.run(
            [sys.executable, *command], env=self.environment, input=text, capture_output=True, text=True, timeout=60
        )

    def start(self, *command: str) -> tuple[subprocess.Popen[str], str]:
        """Start a Python program; return it, and the first line it prints."""
        process = subprocess.Popen([sys.executable, *command], env=self.environment, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline()

    @staticmethod
    def free_port() -> int:
        return free_port()

    def stop(self, process: subprocess.Popen[str]) -> str:
        """End a program; return the rest of what it printed."""
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        return output


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if sys.platform == "win32":
        pytest.skip("programs are ended by SIGTERM")
    data, app = tmp_path_factory.mktemp("data"), free_port()
    environment = {**os.environ, "OFFHOOK_DATA_DIR": str(data)}
    incoming = f"http://127.0.0.1:{app}/api/incomingCall"
    command = [sys.executable, "-m", "offhook", "serve", "--http", "0", "--https", "0", "--incoming", incoming]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        key = json.loads((data / "server.json").read_bytes())["key"]
        environment |= {
            "ACS_CONNECTION_STRING": f"endpoint=https://127.0.0.1:{ready['https']}/;accesskey={key}",
            "REQUESTS_CA_BUNDLE": str(data / "bundle.pem"),
            "SSL_CERT_FILE": str(data / "bundle.pem"),
        }
        running = Served(data, ready["http"], app, key, environment)
        yield running
        for process in running.processes:
            if process.poll() is None:
                process.kill()
            assert process.stdout is not None
            process.stdout.close()
            process.wait()
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0


@pytest.fixture(scope="session")
def ports() -> dict[str, str]:
    """The rule by which documented ports become free ones: each port the pages use → one for this run."""
    documented = ("7080", "7443", "8080", "8081", "8082")
    return {port: str(free_port()) for port in documented}
