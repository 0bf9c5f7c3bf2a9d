"""baresip, a softphone, with a whole server: what is heard, at which level, and who is told of the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from azure.communication.callautomation import DtmfTone, PhoneNumberIdentifier
from tests.legs.sip_peers.programs import LOOPBACK
from tests.server.sip_peers.house import NUMBER, House, until
from tests.server.sip_peers.softphone import HZ, Softphone, softphone

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

TRANSPORTS = ["udp", "tcp", "tls"]

Alice = Callable[..., AbstractAsyncContextManager[Softphone]]


@pytest.fixture
def alice(house: House, baresip_path: str, tmp_path: Path) -> Alice:
    """`alice(transport)` is the phone, logged in at the server; with `user="bob"` it is another one."""

    def alice(
        transport: str, *, user: str = "alice", codec: str = "PCMU", more: str = ""
    ) -> AbstractAsyncContextManager[Softphone]:
        registrar = f"{LOOPBACK}:{house.ports[transport]};transport={transport}"
        folder = tmp_path / user
        folder.mkdir()
        return softphone(house, baresip_path, folder, registrar, user=user, codec=codec, more=more)

    return alice


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_calls_and_hangs_up(house: House, alice: Alice, transport: str) -> None:
    async with alice(transport) as phone:
        phone.do("dial", "+15550199")
        call = await house.next_call()
        assert (call.offer["from"]["rawId"], call.offer["to"]["rawId"]) == (f"4:{NUMBER}", "4:+15550199")
        await phone.hears_itself(call)
        phone.do("hangup")
        assert (await call.over())["subCode"] == 5002


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_calls_and_the_app_hangs_up(house: House, alice: Alice, transport: str) -> None:
    async with alice(transport) as phone:
        phone.do("dial", "+15550199")
        call = await house.next_call()
        await phone.told("CALL_ESTABLISHED")
        await call.connection.hang_up(is_for_everyone=True)
        await phone.told("CALL_CLOSED")
        await call.over()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_is_called_and_hangs_up(house: House, alice: Alice, transport: str) -> None:
    async with alice(transport, more=";answermode=auto") as phone:
        call = await house.call(NUMBER)
        await phone.hears_itself(call)
        phone.do("hangup")
        await call.over()
        assert "CallConnected" in call.kinds


async def test_it_is_called_and_the_app_hangs_up(house: House, alice: Alice) -> None:
    async with alice("udp", more=";answermode=auto") as phone:
        call = await house.call(NUMBER)
        await phone.hears_itself(call)
        await call.connection.hang_up(is_for_everyone=True)
        await phone.told("CALL_CLOSED")
        await call.over()


async def test_it_is_called_and_declines(house: House, alice: Alice) -> None:
    async with alice("udp", more=";answermode=manual") as phone:
        call = await house.call(NUMBER)
        await phone.told("CALL_INCOMING")
        phone.do("hangup")
        await call.over()
        assert call.kinds == ["CreateCallFailed", "CallDisconnected"]
        await phone.told("CALL_CLOSED")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("kind", "calls"),
    [("srtp-mand", True), ("srtp", True), ("srtp", False)],
    ids=["insists on it", "offers it", "is offered it"],
)
async def test_encrypted_audio(house: House, alice: Alice, kind: str, calls: bool, transport: str) -> None:
    async with alice(transport, more=f";answermode=auto;mediaenc={kind}") as phone:
        if calls:
            phone.do("dial", "+15550199")
        call = await (house.next_call() if calls else house.call(NUMBER))
        await phone.hears_itself(call)
        assert "SRTP is Enabled" in phone.log
        phone.do("hangup")
        await call.over()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("codec", ["PCMA", "G722", "opus"])
@pytest.mark.parametrize("calls", [True, False], ids=["calls", "is called"])
async def test_each_codec(house: House, alice: Alice, codec: str, calls: bool, transport: str) -> None:
    async with alice(transport, codec=codec, more=";answermode=auto") as phone:
        if calls:
            phone.do("dial", "+15550199")
        call = await (house.next_call() if calls else house.call(NUMBER))
        await phone.hears_itself(call)
        assert f"Set audio encoder: {codec}" in phone.log
        phone.do("hangup")
        await call.over()


async def test_digits_go_both_ways(house: House, alice: Alice) -> None:
    async with alice("udp") as phone:
        phone.do("dial", "+15550199")
        call = await house.next_call()
        await phone.hears_itself(call)
        phone.press("15#")
        await until(lambda: call.digits == "15#")
        await call.connection.send_dtmf_tones([DtmfTone.SEVEN, DtmfTone.ASTERISK], PhoneNumberIdentifier(NUMBER))
        await until(lambda: phone.digits == "7*")
        await until(lambda: "SendDtmfTonesCompleted" in call.kinds)
        await phone.hears_itself(call)
        phone.do("hangup")
        await call.over()


async def test_hold_and_resume(house: House, alice: Alice) -> None:
    async with alice("udp") as phone:
        phone.do("dial", "+15550199")
        call = await house.next_call()
        await phone.hears_itself(call)
        phone.do("hold")
        await until(lambda: call.level(HZ) < -50)
        phone.do("resume")
        await phone.hears_itself(call)
        phone.do("hangup")
        await call.over()


async def test_it_transfers_its_call_to_another_one(house: House, alice: Alice) -> None:
    async with alice("udp") as phone, alice("tcp", user="bob", more=";answermode=auto") as bob:
        phone.do("dial", "+15550199")
        call = await house.next_call()
        await phone.hears_itself(call)
        phone.do("transfer", f"sip:bob@{LOOPBACK}")
        await phone.told("CALL_CLOSED")
        await bob.hears_itself(call)
        assert "CallDisconnected" not in call.kinds
        bob.do("hangup")
        await call.over()
