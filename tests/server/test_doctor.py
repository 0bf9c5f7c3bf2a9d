"""What `offhook doctor` finds, in good set-ups and broken ones."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.legs.sip_stack.names import Named

from offhook.legs.sip.locate import Target
from offhook.legs.sip.uri import Uri
from offhook.server import doctor, options_probe, stun
from offhook.server.doctor import Finding, examine

pytestmark = pytest.mark.sockets


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers may take its time."""
    monkeypatch.setattr(options_probe, "PATIENCE_S", 30.0)


@pytest.fixture
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody does not answer."""
    monkeypatch.setattr(options_probe, "PATIENCE_S", 1.0)
    monkeypatch.setattr(options_probe, "REPEATS_S", (0.1,))


@pytest.fixture
def taken() -> Iterator[int]:
    """A TCP port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def look(folder: Path, text: str, **more: Any) -> list[Finding]:
    config = folder / "offhook.toml"
    config.write_text(text)

    async def collect() -> list[Finding]:
        return [finding async for finding in examine(config, folder / "data", **more)]

    return asyncio.run(collect())


def of(findings: list[Finding], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject.startswith(subject))


def trunk(port: int, transport: str = "udp") -> str:
    server = f'"sip:127.0.0.1:{port};transport={transport}"'
    return f'http = 0\nhttps = 0\n[sip]\nport = 0\n[[trunk]]\nname = "t"\nserver = {server}\n'


def test_a_good_set_up_has_no_failure(tmp_path: Path) -> None:
    findings = look(tmp_path, "http = 0\nhttps = 0\n[sip]\nport = 0\n")
    assert not [finding for finding in findings if finding.level == "FAIL"]
    assert of(findings, "certificate").level == "ok"
    assert "localhost" in of(findings, "certificate").text
    assert of(findings, "RTP ports").level == "ok"
    assert findings[-1].subject == "clock"


def test_a_bad_configuration_is_all_that_is_told(tmp_path: Path) -> None:
    findings = look(tmp_path, '[[route]]\nprefix = "+1"\ntrunk = "none"\n')
    assert findings == [Finding("FAIL", "configuration", "route: for '+1' there is no trunk 'none'")]


def test_a_taken_port_fails(tmp_path: Path, taken: int) -> None:
    assert of(look(tmp_path, f"http = {taken}\nhttps = 0\n"), f"port {taken}").level == "FAIL"


def test_a_taken_port_may_be_that_of_the_server_that_runs(tmp_path: Path, taken: int) -> None:
    (tmp_path / "data").mkdir()
    told = {"pid": os.getpid(), "http": f"http://127.0.0.1:{taken}", "https": None}
    (tmp_path / "data" / "server.json").write_text(json.dumps(told))
    assert of(look(tmp_path, f"http = {taken}\nhttps = 0\n"), f"port {taken}").level == "ok"
    (tmp_path / "data" / "server.json").write_text(json.dumps(told | {"http": "http://127.0.0.1:1"}))
    assert of(look(tmp_path, f"http = {taken}\nhttps = 0\n"), f"port {taken}").level == "FAIL"


def test_a_certificate_that_cannot_be_read_fails(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    findings = look(tmp_path, f'http = 0\nhttps = 0\ntls_cert = "{bad}"\ntls_key = "{bad}"\n')
    assert of(findings, "certificate").level == "FAIL"


def test_too_few_rtp_ports_are_told(tmp_path: Path) -> None:
    findings = look(tmp_path, "http = 0\nhttps = 0\n[sip]\nport = 0\nrtp_ports = [20000, 20009]\n")
    assert of(findings, "RTP ports").level == "warn"


@pytest.mark.parametrize("end", [0, 1])
def test_an_end_of_the_rtp_ports_that_is_taken_is_told(tmp_path: Path, end: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        ports = [port, 65_535] if end == 0 else [1024, port]
        text = f"http = 0\nhttps = 0\n[sip]\nport = 0\nrtp_ports = {ports}\n"
        assert of(look(tmp_path, text), f"RTP port {port}").level == "FAIL"
        (tmp_path / "data" / "server.json").write_text(f'{{"pid": {os.getpid()}}}')
        assert not [finding for finding in look(tmp_path, text) if finding.subject.startswith("RTP port ")]


@pytest.mark.parametrize(
    ("seen", "level", "text"),
    [
        ("127.0.0.1", "ok", "what telephones are told"),
        ("198.51.100.7", "warn", "set sip.advertised"),
        (None, "warn", "STUN"),
    ],
)
def test_the_public_address_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: str | None, level: str, text: str
) -> None:
    async def mapped(host: str, port: int, family: int) -> str:
        assert (host, port, family) == ("stun.example", 3478, socket.AF_INET)
        if seen is None:
            raise TimeoutError("no answer")
        return seen

    monkeypatch.setattr(stun, "mapped_address", mapped)
    findings = look(tmp_path, "http = 0\nhttps = 0\n[sip]\nport = 0\n", stun_server=("stun.example", 3478))
    assert of(findings, "public address").level == level
    assert text in of(findings, "public address").text


def test_an_address_of_another_machine_means_nat(tmp_path: Path) -> None:
    findings = look(tmp_path, 'http = 0\nhttps = 0\n[sip]\nport = 0\nadvertised = "198.51.100.7"\n')
    assert of(findings, "advertised").level == "warn"
    assert "forwarded" in of(findings, "advertised").text


def test_a_trunk_that_answers_is_well(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)

        def answer() -> None:
            request, source = server.recvfrom(4096)
            assert request.startswith(b"OPTIONS sip:127.0.0.1")
            server.sendto(b"SIP/2.0 403 Forbidden\r\n\r\n", source)

        thread = threading.Thread(target=answer)
        thread.start()
        findings = look(tmp_path, trunk(server.getsockname()[1]))
        thread.join()
    assert of(findings, "trunk t").level == "ok"
    assert "with 403" in of(findings, "trunk t").text


@pytest.mark.usefixtures("_no_long_waits")
def test_a_trunk_that_says_nothing_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        assert of(look(tmp_path, trunk(server.getsockname()[1])), "trunk t").level == "warn"


def test_a_trunk_that_is_not_there_fails(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        assert of(look(tmp_path, trunk(closed.getsockname()[1], "tcp")), "trunk t").level == "FAIL"


def test_what_is_not_sip_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        findings = look(tmp_path, trunk(server.getsockname()[1], "tcp"))
        thread.join()
    assert "does not speak SIP" in of(findings, "trunk t").text


def test_a_trunk_whose_uri_cannot_be_read_fails(tmp_path: Path) -> None:
    assert of(look(tmp_path, trunk(5060).replace(":5060", ":port")), "trunk t").level == "FAIL"


@pytest.mark.usefixtures("_no_long_waits")
def test_every_target_of_a_name_is_asked(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        closed.bind(("127.0.0.1", 0))
        targets = (Target("tcp", *closed.getsockname()), Target("udp", *silent.getsockname()))
        named = trunk(5060).replace("127.0.0.1:5060;transport=udp", "provider.example")
        found = of(look(tmp_path, named, locator=Named(*targets)), "trunk t")
    assert found.level == "warn"
    assert f"port {targets[1].port} by udp does not answer OPTIONS" in found.text
    assert f"port {targets[0].port} by tcp cannot be reached" in found.text


def test_a_target_that_our_udp_socket_does_not_reach_is_left_out(tmp_path: Path) -> None:
    named = trunk(5060).replace("127.0.0.1:5060;transport=udp", "provider.example")
    found = of(look(tmp_path, named, locator=Named(Target("udp", "::1", 5060))), "trunk t")
    assert found.level == "FAIL"
    assert "leads nowhere" in found.text


def test_a_look_up_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Named):
        async def locate(self, uri: Uri, transports: Sequence[str]) -> list[Target]:
            await asyncio.sleep(3600)
            return []

    monkeypatch.setattr(doctor, "LOOK_UP_S", 0.05)
    named = trunk(5060).replace("127.0.0.1:5060;transport=udp", "provider.example")
    assert "no name server has answered" in of(look(tmp_path, named, locator=Slow()), "trunk t").text


def test_a_name_that_is_not_known_fails(tmp_path: Path) -> None:
    named = trunk(5060).replace("127.0.0.1:5060;transport=udp", "provider.example")
    assert of(look(tmp_path, named, locator=Named()), "trunk t").level == "FAIL"
