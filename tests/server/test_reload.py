"""A running server takes its certificate, trunks, phones, routes and endpoints anew; no call is dropped."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from offhook.server import tls
from offhook.server.app import Server
from offhook.server.config import ConfigError, Settings
from offhook.server.listening import Listening, free_port
from offhook.server.reloading import ReadAnew

DESK = {"user": "desk", "password": "secret"}
HALL = {"user": "hall", "password": "secret", "number": "+15550101"}
TRUNK = {"name": "provider", "allow": ["203.0.113.0/24"], "server": "sip:sip.provider.example"}
ROUTE = {"prefix": "+1", "trunk": "provider"}


def identity(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate and its key."""
    made = tls.ensure(folder / name, [name])
    return made.cert, made.key


def settings(folder: Path, **given: Any) -> Settings:
    fixed = {"data_dir": folder, "http": 0, "https": 0, "workers": 0, "sip": {"port": 0}}
    return Settings(**{**fixed, **given})


async def shown(port: int) -> bytes:
    """The certificate that is shown at a port, DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return certificate
    finally:
        writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_who_is_in_the_new_settings_may_call_and_who_is_not_may_not(folder: Path) -> None:
    async def main() -> None:
        async with Server(settings(folder, phone=[DESK])) as server:
            assert server.sip is not None
            lines = server.control.exchange.telephones
            assert lines is not None
            guard = server.sip._guard
            assert list(guard.phones) == ["desk"]
            server.reload(settings(folder, phone=[HALL], trunk=[TRUNK], route=[ROUTE]))
            assert list(guard.phones) == ["hall"]
            assert guard.trunk_at("203.0.113.7") is not None
            assert lines.reaches("4:+15559999", by_app=True)
            server.reload(settings(folder, phone=[HALL]))
            assert guard.trunk_at("203.0.113.7") is None
            assert not lines.reaches("4:+15559999", by_app=True)

    asyncio.run(main())


@pytest.mark.sockets
def test_a_certificate_that_was_replaced_is_shown(folder: Path) -> None:
    first, second = identity(folder, "first.example"), identity(folder, "second.example")
    cert, key = folder / "cert.pem", folder / "key.pem"

    def use(made: tuple[Path, Path]) -> None:
        cert.write_bytes(made[0].read_bytes())
        key.write_bytes(made[1].read_bytes())

    async def main() -> None:
        use(first)
        given = settings(folder, tls_cert=cert, tls_key=key)
        async with Server(given) as server:
            assert server.https is not None
            before = await shown(server.https)
            use(second)
            assert await shown(server.https) == before
            server.reload(given)
            after = await shown(server.https)
            assert after != before

    asyncio.run(main())


@pytest.mark.sockets
def test_what_cannot_be_used_changes_nothing(folder: Path) -> None:
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = identity(folder, "first.example")
    cert.write_bytes(made[0].read_bytes())
    key.write_bytes(made[1].read_bytes())

    async def main() -> None:
        async with Server(settings(folder, tls_cert=cert, tls_key=key, phone=[DESK])) as server:
            assert server.sip is not None
            assert server.https is not None
            before = await shown(server.https)
            cert.write_text("no certificate")
            with pytest.raises(ConfigError, match="do not make a TLS identity"):
                server.reload(settings(folder, tls_cert=cert, tls_key=key, phone=[HALL]))
            assert list(server.sip._guard.phones) == ["desk"]
            assert list(server.settings.phone) == list(settings(folder, phone=[DESK]).phone)
            assert await shown(server.https) == before

    asyncio.run(main())


def test_what_has_changed_is_said_without_secrets(folder: Path) -> None:
    async def main() -> None:
        now: dict[str, Any] = {"phone": [DESK], "trunk": [TRUNK], "incoming": ["http://127.0.0.1:1/?code=secret"]}
        async with Server(settings(folder, **now)) as server:
            same = server.reload(settings(folder, **now))
            assert same == ReadAnew()
            assert same.lines() == ["nothing has changed"]
            anew = {"phone": [HALL | {"user": "desk"}, HALL], "route": [ROUTE], "trunk": [TRUNK], "max_calls": 20}
            read = server.reload(settings(folder, **anew))
            assert read.changed == [
                "incoming http://127.0.0.1:1/: gone",
                "phone hall: new",
                "phone desk: changed",
                "route +1 by provider: new",
            ]
            assert read.waiting == ["max_calls: has changed, which waits for the next start"]
            assert server.settings.max_calls == 1000

    asyncio.run(main())


def test_what_does_not_go_with_what_waits_is_refused(folder: Path) -> None:
    async def main() -> None:
        async with Server(settings(folder, sip={})) as server:
            with pytest.raises(ConfigError, match="neither port nor tls_port\nsip: has changed, which waits"):
                server.reload(settings(folder, phone=[DESK]))
            with pytest.raises(ConfigError, match="there is no trunk 'provider'"):
                server.reload(settings(folder, route=[ROUTE]))

    asyncio.run(main())


@pytest.mark.sockets
def test_who_is_told_of_calls_is_read_anew(folder: Path) -> None:
    urls = ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]

    async def main() -> None:
        async with Server(settings(folder, incoming=urls[:1])) as server:
            server.reload(settings(folder, inbound=[{"numbers": ["+1*"], "endpoints": urls[1:]}]))
            assert [each.url for each in server._endpoints.status()] == urls[1:]
            assert server._webhooks.inbound == {("*", ""): (), ("+1*", ""): (urls[1],)}

    asyncio.run(main())


def test_free_sip_ports_are_one_for_udp_and_tcp_and_stay(folder: Path) -> None:
    async def main() -> None:
        async with Server(settings(folder, sip={"port": 0, "tls_port": 0})) as server:
            ready = server.ready()
            assert server.sip is not None
            assert server.sip.ports == {"udp": ready["sip"], "tcp": ready["sip"], "tls": ready["sips"]}
            assert server.reload(settings(folder, sip={"port": 0, "tls_port": 0})) == ReadAnew()
            assert server.ready() == ready
            told = json.loads((folder / "server.json").read_bytes())
            assert told["sip"] == f"sip:127.0.0.1:{ready['sip']}"
            assert told["sips"] == f"sip:127.0.0.1:{ready['sips']};transport=tls"

    asyncio.run(main())


@pytest.mark.parametrize("fixed", ["port", "tls_port", "none"])
def test_free_sip_ports_are_never_the_same(folder: Path, fixed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_order(ports: range, _: int) -> list[int]:
        return list(ports)

    monkeypatch.setattr("offhook.server.listening.random.sample", in_order)
    taken = free_port("127.0.0.1", socket.SOCK_DGRAM, socket.SOCK_STREAM)
    given = {"port": 0, "tls_port": 0} | {fixed: taken}
    listening = Listening(settings(folder, sip={name: given[name] for name in ("port", "tls_port")}))
    listening.bind()()
    assert listening.settings.sip.port != listening.settings.sip.tls_port


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP on Windows")
@pytest.mark.parametrize("workers", [0, 1])
def test_sighup_has_the_configuration_read_anew(folder: Path, workers: int) -> None:
    file = folder / "offhook.toml"

    def write(phones: str) -> None:
        file.write_text(f'data_dir = "{folder.as_posix()}"\nhttp = 0\nhttps = 0\nworkers = {workers}\n{phones}')

    async def main() -> None:
        write("[sip]\nport = 0\n")
        command = [sys.executable, "-m", "offhook", "serve", "--config", str(file)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        assert process.stdout is not None
        assert process.stderr is not None

        async def said(pattern: str) -> None:
            assert process.stderr is not None
            async with asyncio.timeout(60):
                while not re.search(pattern, (await process.stderr.readline()).decode()):
                    assert process.returncode is None

        try:
            async with asyncio.timeout(60):
                assert b"ready" in await process.stdout.readline()
            write('[sip]\nport = 0\n[[phone]]\nuser = "desk"\npassword = "secret"\n')
            process.send_signal(signal.SIGHUP)
            await said("read anew; phone desk: new")
            write("[[phone]]\nuser = 1\n")
            process.send_signal(signal.SIGHUP)
            await said("not read anew, nothing has changed")
        finally:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0

    asyncio.run(main())
