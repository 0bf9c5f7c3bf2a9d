"""Kamailio between the telephones and a whole server, with the configuration of docs/kamailio.md."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.legs.sip_peers.programs import LOOPBACK, end
from tests.server.sip_peers.house import CARRIER, PHONE, PROXY, House, free_port, listens, until
from tests.server.sip_peers.softphone import softphone
from tests.server.sip_peers.traffic import Sipp, called

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

PAGE = Path(__file__).parents[3] / "docs" / "kamailio.md"
# How the carrier and Kamailio talk, how Kamailio talks to us, and the beginning of a number for which we do likewise.
WAYS = pytest.mark.parametrize(
    ("outside", "inside", "prefix"), [("udp", "udp", "+49"), ("tcp", "tcp", "+33"), ("tcp", "udp", "+49")]
)

Proxy = Callable[[str, str, str, int], AbstractAsyncContextManager[str]]


@pytest.fixture
def proxy(house: House, kamailio_path: str, tmp_path: Path) -> Proxy:
    """`proxy(outside, inside, carrier's address, its port)` is a running Kamailio; its host and port."""

    @asynccontextmanager
    async def proxy(outside: str, inside: str, carrier: str, port: int) -> AsyncIterator[str]:
        here = f"{PROXY}:{house.proxy_port}"
        config = tmp_path / "kamailio.cfg"
        config.write_text(
            configuration(here, f"{carrier}:{port}", outside, f"{LOOPBACK}:{house.ports[inside]}", inside)
        )
        log = (tmp_path / "kamailio.log").open("wb")
        options = ("-f", config, "-DD", "-E", "-m", "16", "-M", "2", "-Y", tmp_path, "-P", tmp_path / "pid")
        process = await asyncio.create_subprocess_exec(
            kamailio_path, *options, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            await until(lambda: process.returncode is not None or listens(PROXY, house.proxy_port, "tcp"))
            assert process.returncode is None, (tmp_path / "kamailio.log").read_text()
            yield here
        finally:
            await end(process)
            log.close()

    return proxy


def configuration(here: str, carrier: str, outside: str, server: str, inside: str) -> str:
    """The page's configuration, for other addresses."""
    text: str
    (text,) = re.findall(r"```text\n(children=.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    text = text.replace("192.0.2.10:5060", here).replace("192.0.2.10", PROXY)
    for page, address, transport in (("198.51.100.20", carrier, outside), ("192.0.2.20", server, inside)):
        text = text.replace(f"{page}:5060;transport=udp", f"{address};transport={transport}")
        text = text.replace(page, address.partition(":")[0])
    return text


@WAYS
@pytest.mark.parametrize("scenario", ["late_offer", "hold", "codec", "session_refresh", "info"])
async def test_calls_of_every_kind(
    house: House, sipp: Sipp, proxy: Proxy, scenario: str, outside: str, inside: str, prefix: str
) -> None:
    async with proxy(outside, inside, CARRIER, house.carrier_port) as there:
        await sipp(scenario, transport=outside, target=there)
        call = await house.next_call()
        await call.over()


async def test_it_calls_and_gives_up(house: House, sipp: Sipp, proxy: Proxy) -> None:
    house.answers = False
    async with proxy("udp", "udp", CARRIER, house.carrier_port) as there:
        await sipp("cancel", target=there)


@WAYS
@pytest.mark.parametrize("scenario", ["called", "called_busy"])
async def test_it_is_called(
    house: House, sipp: Sipp, proxy: Proxy, scenario: str, outside: str, inside: str, prefix: str
) -> None:
    async with proxy(outside, inside, CARRIER, house.carrier_port):
        call = await called(house, sipp, scenario, f"{prefix}301234567", transport=outside)
        assert ("CallConnected" in call.kinds) == (scenario == "called")


@pytest.mark.parametrize(("inside", "prefix"), [("udp", "+49"), ("tcp", "+33")])
async def test_a_softphone_behind_it(
    house: House, proxy: Proxy, baresip_path: str, tmp_path: Path, inside: str, prefix: str
) -> None:
    # By UDP, as over TCP baresip comes from the loopback address that is ours.
    port, number = free_port(PHONE), f"{prefix}301234567"
    async with (
        proxy("udp", inside, PHONE, port) as there,
        softphone(
            house,
            baresip_path,
            tmp_path,
            f"{there};transport=udp",
            user=number,
            registered=False,
            port=port,
            more=";answermode=auto",
        ) as phone,
    ):
        phone.do("dial", "+15550199")
        call = await house.next_call()
        assert call.offer["from"]["rawId"] == f"4:{number}"
        await phone.hears_itself(call)
        await call.connection.hang_up(is_for_everyone=True)
        await phone.told("CALL_CLOSED")
        call = await house.call(number)
        await phone.hears_itself(call)
        phone.do("hangup")
        await call.over()
