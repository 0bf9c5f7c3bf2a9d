"""What `offhook doctor` finds at a server that runs: on loopback, with a registrar that is made up."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from offhook.legs import rtp_legs
from offhook.legs.sip.message import Request, parse
from offhook.server.app import Server
from offhook.server.config import Settings
from offhook.server.doctor import Finding
from offhook.server.telephone_report import Registered, Talking
from offhook.testing import checkup, probe_call
from offhook.testing.checkup import Running, examine
from offhook.testing.probe_call import Outcome

pytestmark = pytest.mark.sockets

DESK = {"user": "desk", "password": "secret"}


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtp_legs, "REPORT_S", 0.2)
    monkeypatch.setattr(probe_call, "TALK_S", 3.0)


@asynccontextmanager
async def server(folder: Path, sip: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Server]:
    chosen = {"http": 0, "https": None, "workers": 0, "phone": [DESK], "sip": {"port": 0} | (sip or {})} | settings
    async with Server(Settings(data_dir=folder, **chosen)) as running:
        yield running


async def look(running: Server, to: str | None = None, key: str = "", password: str = "secret") -> list[Finding]:
    at = Running(running.url, key or running.keys[0], ssl.create_default_context())
    phones = [phone.model_copy(update={"password": password}) for phone in running.settings.phone]
    return [finding async for finding in examine(at, phones, to)]


def of(findings: list[Finding], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject.startswith(subject))


def test_a_server_that_is_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path) as running:
            findings = await look(running)
            assert {finding.level for finding in findings} == {"ok"}
            assert "goes both ways" in of(findings, "audio of a call").text

    asyncio.run(main())


def test_a_wrong_advertised_address_is_audio_in_one_direction(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, {"advertised": "127.0.0.99"}) as running:
            found = of(await look(running), "audio of a call")
            assert found.level == "FAIL"
            assert "from the telephone is missing" in found.text
            assert "127.0.0.99" in found.text

    asyncio.run(main())


@pytest.mark.parametrize(
    ("outcome", "level", "text"),
    [
        (Outcome("", "r", 9, 9, 9), "ok", "both ways"),
        (Outcome("", "r", 9, 9, 0), "FAIL", "to the telephone is missing"),
        (Outcome("", "r", 9, 0, 9), "FAIL", "from the telephone is missing"),
        (Outcome("", "r", 9, 0, 0), "FAIL", "is missing both ways"),
        (Outcome("404 Not Found"), "FAIL", "no telephone has that number"),
    ],
)
def test_each_way_is_told(outcome: Outcome, level: str, text: str) -> None:
    found = checkup._judged("audio of a call", outcome)
    assert found.level == level
    assert text in found.text


def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path) as running:
            found = of(await look(running, password="wrong"), "audio of a call")
            assert found.level == "FAIL"
            assert "401" in found.text

    asyncio.run(main())


def test_the_other_law_will_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, {"codecs": ["PCMA"]}) as running:
            assert of(await look(running), "audio of a call").level == "ok"

    asyncio.run(main())


def test_a_server_that_wants_encryption_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, {"srtp": "required"}) as running:
            found = of(await look(running), "audio of a call")
            assert found.level == "FAIL"
            assert "without SRTP" in found.text

    asyncio.run(main())


def test_a_server_may_be_bound_to_a_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, host="localhost") as running:
            assert of(await look(running), "audio of a call").level == "ok"

    asyncio.run(main())


def test_an_app_that_does_not_answer_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path) as running:
            assert of(await look(running, to="+15550199"), "audio of a call").level == "FAIL"

    asyncio.run(main())


def test_without_a_phone_no_call_is_tried(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, phone=[]) as running:
            found = of(await look(running), "audio of a call")
            assert found.level == "warn"
            assert "[[phone]]" in found.text

    asyncio.run(main())


def test_without_simulated_phones_an_app_has_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "caller_api", property(lambda self: False))  # as in production

    async def main() -> None:
        async with server(tmp_path) as running:
            found = of(await look(running), "audio of a call")
            assert found.level == "warn"
            assert "--call" in found.text

    asyncio.run(main())


def test_a_server_without_telephones_has_none_looked_at(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, {"port": None}, phone=[]) as running:
            assert [finding.subject for finding in await look(running)] == ["server"]

    asyncio.run(main())


def test_a_wrong_key_or_no_server_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path) as running:
            assert [finding.level for finding in await look(running, key="d3Jvbmc=")] == ["FAIL"]
            at = Running(running.url, running.keys[0], ssl.create_default_context())
        assert [finding.level async for finding in examine(at, [])] == ["FAIL"]

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ registrations


class Registrar(asyncio.DatagramProtocol):
    """Answers REGISTER with `code`."""

    def __init__(self, code: int) -> None:
        self._code = code
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, source: Any) -> None:
        message = parse(data) if data.strip() else None
        if isinstance(message, Request):
            self._transport.sendto(bytes(message.response(self._code, to_tag="x")), source)


@pytest.mark.parametrize(("code", "level", "text"), [(200, "ok", "200 OK"), (403, "FAIL", "user or password is wrong")])
def test_registrations_are_told(tmp_path: Path, code: int, level: str, text: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: Registrar(code), local_addr=("127.0.0.1", 0))
        uri = f"sip:127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        trunk = {"name": "t", "user": "u", "password": "p", "register": uri}
        async with server(tmp_path, trunk=[trunk], phone=[]) as running:
            assert running.sip is not None
            while running.sip.registrations["t"].detail == "not tried yet":  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            found = of(await look(running), "registration of t")
        transport.close()
        assert found.level == level
        assert text in found.text

    asyncio.run(main())


def test_a_registration_has_a_moment_to_come_about() -> None:
    assert checkup._registration(Registered("t", False, 1.0, "not tried yet")).level == "warn"
    assert checkup._registration(Registered("t", False, 60.0, "not tried yet")).level == "FAIL"


# ------------------------------------------------------------------------------------------------ live calls


@pytest.mark.parametrize(
    ("address", "heard", "reached", "text"),
    [
        ("10.0.0.5 port 4000", False, True, "is a private address"),
        ("127.0.0.1 port 4000", False, True, "sip.advertised"),
        ("8.8.8.8 port 4000", False, True, "sip.advertised"),
        ("", False, True, "sip.advertised"),
        ("10.0.0.5 port 4000", True, False, "nobody listens there"),
    ],
)
def test_calls_whose_audio_goes_one_way_are_told(address: str, heard: bool, reached: bool, text: str) -> None:
    (found,) = checkup._talking([Talking("c", "4:+15550100", address, heard, reached)])
    assert found.level == "warn"
    assert "4:+15550100 in call c" in found.subject
    assert text in found.text


def test_calls_that_are_well_are_counted() -> None:
    assert [one.level for one in checkup._talking([Talking("c", "4:+15550100", "", True, True)])] == ["ok"]
