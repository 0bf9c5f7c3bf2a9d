"""A running `offhook serve` and free ports, for tests that run what the documentation shows."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# Kernels hand out none of these, our servers choose none of them (QUIET_PORTS, rtp_ports): one that is free stays so
# until it is used. Of two processes that run tests beside each other, each has its own.
PORTS = range(12_000, 20_000)
PROCESSES = 8


def free_port() -> int:
    own = PORTS[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES :: PROCESSES]
    for port in random.sample(own, len(own)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("there is no free port")


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

    def stop(self, process: subprocess.Popen[str], after: str = "") -> str:
        """End a program, once it has printed the line `after`; return the rest of what it printed."""
        printed = ""
        assert process.stdout is not None
        while after and after not in printed.splitlines():
            line = process.stdout.readline()
            assert line, f"it has ended without {after}: {printed}"
            printed += line
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        return printed + output


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
