"""baresip over `kill -9` of the control process: its call goes on and ends, and what rang rings no more."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import aiohttp
import pytest
from tests.legs.sip_peers.programs import LOOPBACK, PATIENCE_S
from tests.server.sip_peers.house import NUMBER, PHONE, House
from tests.server.sip_peers.softphone import Softphone, softphone

from offhook.server import tls
from offhook.server.supervisor import RESTARTS, WITHIN_S

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

TRANSPORTS = ["tcp", "tls"]  # whose connections end with the process

Alice = Callable[..., AbstractAsyncContextManager[Softphone]]


@pytest.fixture(scope="module")
async def house(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A server for these tests alone: others need not see its control process die."""
    async with House(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def alice(house: House, baresip_path: str, tmp_path: Path) -> Alice:
    """`alice(transport)` is the phone, logged in at the server."""

    def alice(transport: str, more: str = "") -> AbstractAsyncContextManager[Softphone]:
        registrar = f"{LOOPBACK}:{house.ports[transport]};transport={transport}"
        identity = certificate(house, tmp_path / "tls") if transport == "tls" else None
        return softphone(house, baresip_path, tmp_path, registrar, more=more, certificate=identity)

    return alice


def certificate(house: House, folder: Path) -> Path:
    """Return a certificate of the phone that the server trusts, with its key."""
    folder.mkdir()
    for file in ("ca.pem", "ca-key.pem"):
        shutil.copy(house.ca.with_name(file), folder)
    files = tls.ensure(folder, [PHONE])
    both = folder / "phone.pem"
    both.write_bytes(files.cert.read_bytes() + files.key.read_bytes())
    return both


async def kill_control(house: House) -> None:
    """Kill the control process, and wait for the next one. Not too often: the server would give up."""
    await asyncio.sleep(WITHIN_S / RESTARTS)
    killed = await control(house)
    assert killed
    os.kill(killed, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while await control(house) in (0, killed):  # noqa: ASYNC110 - a program, which tells nobody
            await asyncio.sleep(0.05)


async def control(house: House) -> int:
    """Return the id of the control process; 0 while there is none."""
    with suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as client, client.get(f"http://{LOOPBACK}:{house.http}/health") as response:
            return int((await response.json())["pid"])
    return 0


@pytest.mark.parametrize(("transport", "phone_ends_it"), [("tcp", True), ("tls", False)])
async def test_a_call_goes_on_and_either_side_ends_it(
    house: House, alice: Alice, transport: str, phone_ends_it: bool
) -> None:
    async with alice(transport) as phone:
        phone.do("dial", "+15550199")
        call = await house.next_call()
        await phone.hears_itself(call)
        await kill_control(house)
        await phone.hears_itself(call)
        if phone_ends_it:
            phone.do("hangup")
        else:
            await call.connection.hang_up(is_for_everyone=True)
        await call.over()
        await phone.told("CALL_CLOSED")
        assert call.kinds.count("CallDisconnected") == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_is_called_without_having_logged_in_again(house: House, alice: Alice, transport: str) -> None:
    async with alice(transport, ";answermode=auto") as phone:
        await kill_control(house)
        call = await house.call(NUMBER)
        await phone.hears_itself(call)
        await call.connection.hang_up(is_for_everyone=True)
        await phone.told("CALL_CLOSED")


@pytest.mark.parametrize("transport", ["udp", *TRANSPORTS])
async def test_it_does_not_ring_for_ever(house: House, alice: Alice, transport: str) -> None:
    async with alice(transport, ";answermode=manual") as phone:
        call = await house.call(NUMBER)
        await phone.told("CALL_INCOMING")
        await kill_control(house)
        if transport == "udp":
            phone.do("accept")  # It rings on, and can be answered.
            await phone.hears_itself(call)
            phone.do("hangup")
        await phone.told("CALL_CLOSED")
        await call.over()
