"""What a telephone says before it answers: heard by the legs of its call, by no stream, and counted as no silence."""

from __future__ import annotations

import asyncio

from tests.legs.rtp_scene import Media, Telephone, level, on_virtual_time, tone

from offhook.audio import g711, pcm
from offhook.legs.rtp_legs import REPORT_S, TIMEOUT_S
from offhook.media.link import AgreeRtp, ConnectLeg, EndLeg, OverhearLeg, PressDigits
from offhook.media.tidings import DigitsPressed, LegGone, LegJoined


def hears(telephone: Telephone, hz: float) -> bool:
    return level(telephone.heard(since=-20), hz) > -40


@on_virtual_time
async def test_who_rings_is_heard_by_legs_and_by_no_stream(media: Media) -> None:
    caller, app = await media.telephone("caller"), await media.app()
    ringing = await media.open("ringing", remote=("198.51.100.7", 4020))
    await media.order(OverhearLeg("ringing", "call", "4:ringing"), OverhearLeg("ringing", "call", "4:ringing"))
    app.say(pcm.tone(700, 16_000, 10, -20).tobytes())
    async with asyncio.TaskGroup() as both:
        both.create_task(caller.say(tone(500)))
        both.create_task(ringing.say(tone(900)))
    assert hears(caller, 900)
    assert hears(caller, 700)
    heard = pcm.as_samples(app.heard())[-8000:]
    assert (level(heard, 500, 16_000) > -40, level(heard, 900, 16_000) > -40) == (True, False)
    assert not ringing.received, "it hears nobody"
    assert [told.leg for told in media.told(LegJoined)] == ["caller"]

    await media.order(ConnectLeg("ringing", "call", "4:ringing"))
    async with asyncio.TaskGroup() as both:
        both.create_task(caller.say(tone(500)))
        both.create_task(ringing.say(tone(900)))
    assert hears(ringing, 500)
    assert level(pcm.as_samples(app.heard())[-8000:], 900, 16_000) > -40
    assert [told.leg for told in media.told(LegJoined)] == ["caller", "ringing"]
    assert sum(slot.rows for slot in media.worker.plane.slots) == 3


@on_virtual_time
async def test_the_codec_may_change_with_the_answer(media: Media) -> None:
    caller, ringing = await media.telephone("caller"), await media.open("ringing")
    await media.order(OverhearLeg("ringing", "call", "4:ringing"))
    await caller.say(tone(500, 0.1))
    await media.order(AgreeRtp("ringing", "PCMA", 8))
    ringing.codec = g711.PCMA
    await ringing.say(tone(900))
    assert hears(caller, 900)
    assert not ringing.received
    await media.order(ConnectLeg("ringing", "call", "4:ringing"))
    await ringing.say(tone(900))
    assert hears(caller, 900)


@on_virtual_time
async def test_keys_count_from_the_answer_on(media: Media) -> None:
    await media.open("ringing")
    await media.order(OverhearLeg("ringing", "call", "4:ringing"), PressDigits("ringing", "1"))
    await media.order(ConnectLeg("ringing", "call", "4:ringing"), PressDigits("ringing", "2"))
    assert [told.tones for told in media.told(DigitsPressed)] == ["2"]


@on_virtual_time
async def test_it_may_ring_for_long(media: Media) -> None:
    ringing = await media.open("ringing")
    await media.order(OverhearLeg("ringing", "call", "4:ringing"))
    await ringing.say(tone(900, 0.1))
    await asyncio.sleep(TIMEOUT_S + 3 * REPORT_S)
    assert not media.told(LegGone)
    await media.order(EndLeg("ringing", "no answer"))
    assert not any(slot.rows for slot in media.worker.plane.slots)
