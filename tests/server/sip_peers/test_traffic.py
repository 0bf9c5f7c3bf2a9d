"""sipp, the traffic generator, with a whole server: scenarios of its own, ours, and those of the stack's tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from azure.communication.callautomation import PhoneNumberIdentifier
from tests.server.sip_peers.house import CHALLENGED, OURS, SHOWN, House, until
from tests.server.sip_peers.traffic import NUMBER, SCENARIOS, Sipp, called, waiting

from offhook.audio import g711, pcm

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

AUSTRIAN = "+4312345678"
HZ, DBFS = 440, -12.0
TOLERANCE_DB = 1.0
TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])


def scenario_of(name: str, folder: Path, type: int, codec: str) -> Path:
    """A scenario in which one codec is spoken."""
    text = SCENARIOS[0].joinpath(f"{name}.xml").read_text()
    file = folder / f"{name}.xml"
    file.write_text(text.replace("@TYPE@", str(type)).replace("@CODEC@", codec))
    return file


@TRANSPORTS
@pytest.mark.parametrize(("codec", "type"), [(g711.PCMU, 0), (g711.PCMA, 8)], ids=["PCMU", "PCMA"])
async def test_a_call_with_audio(
    house: House, sipp: Sipp, tmp_path: Path, codec: g711.Codec, type: int, transport: str
) -> None:
    tmp_path.joinpath("tone.raw").write_bytes(codec.encode(pcm.tone(HZ, 8000, 1, DBFS)).tobytes())
    scenario = scenario_of("tone", tmp_path, type, f"{codec.name}/8000")
    calling = asyncio.create_task(sipp(scenario, "-d", "2000", transport=transport))
    call = await house.next_call()
    assert (call.offer["from"]["rawId"], call.offer["to"]["rawId"]) == ("4:+15550100", f"4:{NUMBER}")
    await until(lambda: abs(call.level(HZ) - DBFS) <= TOLERANCE_DB)
    await calling
    assert (await call.over())["subCode"] == 5002


@pytest.mark.parametrize(("codec", "type"), [("G722/8000", 9), ("opus/48000/2", 96)])
async def test_codecs_that_sipp_cannot_speak_are_agreed_on(
    house: House, sipp: Sipp, tmp_path: Path, codec: str, type: int
) -> None:
    await sipp(scenario_of("one_codec", tmp_path, type, codec))
    await (await house.next_call()).over()


@TRANSPORTS
@pytest.mark.parametrize("scenario", ["uac", "late_offer", "hold", "codec", "session_refresh"])
async def test_calls_of_every_kind(house: House, sipp: Sipp, scenario: str, transport: str) -> None:
    await sipp(scenario, transport=transport)
    call = await house.next_call()
    await call.over()


async def test_it_calls_and_gives_up(house: House, sipp: Sipp) -> None:
    house.answers = False
    await sipp("cancel")
    await until(lambda: any(offer["to"]["rawId"] == "4:100" for offer in house.offers))


async def test_no_codec_in_common(house: House, sipp: Sipp) -> None:
    await sipp("not_acceptable")


async def test_who_calls_has_to_prove_it(house: House, sipp: Sipp) -> None:
    await sipp("digest", host=CHALLENGED)
    await (await house.next_call()).over()


async def test_recorded_digits(house: House, sipp: Sipp) -> None:
    await sipp("pcap_digits", "-d", "2000")
    call = await house.next_call()
    await call.over()
    assert call.digits == "15#"


async def test_digits_by_info(house: House, sipp: Sipp) -> None:
    await sipp("info", "-d", "2000")
    call = await house.next_call()
    await call.over()
    assert call.digits == "5#"


@pytest.mark.parametrize("after_ms", ["0", "1000"])
async def test_it_transfers_its_call_to_another_app(house: House, sipp: Sipp, after_ms: str) -> None:
    await sipp("transfer", "-d", after_ms)
    first, second = await house.next_call(), await house.next_call()
    assert second.offer["to"]["rawId"] == "4:300"
    await until(lambda: "CallConnected" in second.kinds)
    await first.connection.hang_up(is_for_everyone=True)
    await first.over()
    await second.over()


async def test_fifty_calls_at_once(house: House, sipp: Sipp) -> None:
    await sipp("uac", "-m", "50", "-l", "50", "-r", "25", "-d", "5000")
    for _ in range(50):
        await (await house.next_call()).over()


# ------------------------------------------------------------------------------------------------ it is called


async def test_it_is_called(house: House, sipp: Sipp) -> None:
    assert "CallConnected" in (await called(house, sipp, "called")).kinds


async def test_we_prove_who_calls(house: House, sipp: Sipp) -> None:
    assert "CallConnected" in (await called(house, sipp, "called_digest", "+441632960123", host=CHALLENGED)).kinds


async def test_it_is_busy(house: House, sipp: Sipp) -> None:
    call = await called(house, sipp, "called_busy")
    assert call.data("CreateCallFailed")["resultInformation"]["code"] == 486


async def test_a_number_that_may_not_be_shown_is_not_called(house: House, sipp: Sipp) -> None:
    run = await waiting(house, sipp, "called")
    refused = await house.call(AUSTRIAN)
    await refused.over()
    assert refused.kinds == ["CreateCallFailed", "CallDisconnected"]
    call = await house.call(AUSTRIAN, OURS)
    await until(lambda: "CallConnected" in call.kinds)
    await call.connection.add_participant(
        PhoneNumberIdentifier(AUSTRIAN), source_caller_id_number=PhoneNumberIdentifier(SHOWN)
    )
    await until(lambda: "AddParticipantFailed" in call.kinds)
    for result in (refused.data("CreateCallFailed"), call.data("AddParticipantFailed")):
        assert (result["resultInformation"]["code"], result["resultInformation"]["subCode"]) == (480, 8541)
    assert not run.done()
    await call.connection.hang_up(is_for_everyone=True)
    await call.over()
    await run


async def test_the_app_gives_up(house: House, sipp: Sipp) -> None:
    run = await waiting(house, sipp, "called_cancelled")
    call = await house.call(NUMBER)
    await asyncio.sleep(1)  # It rings by then, and the app is not told; the scenario wants CANCEL at any time after.
    await call.connection.hang_up(is_for_everyone=True)
    await call.over()
    await run
