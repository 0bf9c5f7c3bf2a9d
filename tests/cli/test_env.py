"""With the exports of `offhook env`, one process reaches Offhook over https and still trusts the public roots."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import certifi
import pytest

pytestmark = pytest.mark.sockets

OFFHOOK = Path(sys.executable).with_name("offhook")
TRUST = {"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"}

# Both print {"status": of Offhook's /health, "trusted": certificates of all authorities it trusts}.
PYTHON = """
import json, ssl, sys, urllib.request
import requests
url = sys.argv[1]
statuses = {requests.get(url).status_code, urllib.request.urlopen(url).status}
trusted = [ssl.DER_cert_to_PEM_cert(der) for der in ssl.create_default_context().get_ca_certs(binary_form=True)]
print(json.dumps({"statuses": sorted(statuses), "trusted": trusted}))
"""
NODE = """
const tls = require("tls");
require("https").get(process.argv[1], (answer) => {
  answer.resume();
  console.log(JSON.stringify({ statuses: [answer.statusCode], trusted: tls.rootCertificates }));
}).on("error", (error) => { console.error(error); process.exit(1); });
"""


class Running(NamedTuple):
    """A server, and the environment of a process that was given `offhook env`'s exports."""

    health: str
    environment: dict[str, str]
    data_dir: Path


def _plain_environment() -> dict[str, str]:
    """Ours, without any opinion on trust or proxies."""
    return {k: v for k, v in os.environ.items() if k not in TRUST and not k.lower().endswith("_proxy")}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data_dir, environment = tmp_path_factory.mktemp("env"), _plain_environment()
    options = ["--data-dir", str(data_dir)]
    command: list[str | Path] = [OFFHOOK, "serve", "--http", "off", "--https", "0", *options]
    with (data_dir / "serve.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
    with server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line, (data_dir / "serve.log").read_text()
            exports = subprocess.run([OFFHOOK, "env", *options], env=environment, capture_output=True, check=True)
            for word in shlex.split(exports.stdout.decode(), comments=True):
                if word != "export":
                    name, _, value = word.partition("=")
                    environment[name] = value
            yield Running(f"https://127.0.0.1:{json.loads(line)['https']}/health", environment, data_dir)
        finally:
            server.terminate()


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def _certificates(pem: str) -> set[bytes]:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return {ssl.PEM_cert_to_DER_cert(begin + part.partition(end)[0] + end) for part in pem.split(begin)[1:]}


def _trusted(done: subprocess.CompletedProcess[str]) -> set[bytes]:
    """The authorities that the process trusts, which has to have reached Offhook."""
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["statuses"] == [200]
    return _certificates("\n".join(told["trusted"]))


def test_python_reaches_us_and_trusts_the_public_roots(running: Running) -> None:
    command = [sys.executable, "-c", PYTHON, running.health]
    trusted = _trusted(_run(command, running.environment))
    ours = _certificates((running.data_dir / "ca.pem").read_text())
    public = _certificates(Path(certifi.where()).read_text("ascii"))
    assert len(public) > 50
    assert public | ours <= trusted
    assert public | ours <= _certificates(Path(running.environment["REQUESTS_CA_BUNDLE"]).read_text())

    refused = _run(command, _plain_environment())  # it is the exports that did it
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr


def test_node_reaches_us_and_trusts_the_public_roots(running: Running) -> None:
    node = shutil.which("node")
    if node is None:
        reason = "node is not installed: what `offhook env` says to it is NOT TESTED"
        (pytest.fail if os.environ.get("OFFHOOK_REQUIRE_PEERS") == "1" else pytest.skip)(reason)
    command = [node, "-e", NODE, running.health]
    # NODE_EXTRA_CA_CERTS adds to the roots inside Node, which are these; a `ca` option would replace them.
    without = _run([node, "-e", "console.log(require('tls').rootCertificates.length)"], _plain_environment())
    assert len(_trusted(_run(command, running.environment))) == int(without.stdout) > 50
    assert _certificates(Path(running.environment["NODE_EXTRA_CA_CERTS"]).read_text())

    refused = _run(command, _plain_environment())
    assert "UNABLE_TO_VERIFY_LEAF_SIGNATURE" in refused.stderr
