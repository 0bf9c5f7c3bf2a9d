"""The protocol of a simulated party, in memory and on virtual time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.legs.simulated import MARKS, Told
from offhook.media.link import ConnectLeg, EndLeg, ExpectLeg, PhoneWaits, PressDigits, RingPhone, SendDigits
from offhook.media.tidings import DigitsPressed, DigitsSent, LegAttached, LegGone, LegJoined, PhoneAnswered
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia, MemoryParty
from offhook.wire import streaming


def kinds(party: MemoryParty) -> list[str]:
    return [told.kind for told in party.told]


async def phone(media: MemoryMedia, name: str = "phone") -> MemoryParty:
    """A phone that waits for calls."""
    party = MemoryParty()
    await media.order(ExpectLeg(name, name, 16_000))
    assert party.open(media.legs, name)
    await media.order(PhoneWaits(name))
    return party


async def ringing(media: MemoryMedia, call: str = "call") -> MemoryParty:
    """A phone that rings."""
    party = await phone(media)
    await media.order(RingPhone("phone", call, "4:+15550100", "4:+15550199"))
    return party


# ------------------------------------------------------------------------------------------------ a caller's life


def test_a_caller_hears_ringing_then_is_connected_then_hears_every_frame() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = MemoryParty()
        await media.order(ExpectLeg("leg", "token", 8000, "call"))
        assert caller.open(media.legs, "token")
        await asyncio.sleep(1)
        assert caller.told == [Told("ringing")]
        assert caller.frames == []
        await media.order(ConnectLeg("leg", "call", "4:+15550100"))
        assert caller.told[1:] == [Told("connected", rate=8000)]
        await asyncio.sleep(1)
        assert len(caller.frames) in (50, 51)
        assert {len(frame) for frame in caller.frames} == {320}
        await media.order(EndLeg("leg", "the app hung up"))
        assert caller.told[2:] == [Told("ended", reason="the app hung up")]
        assert caller.closed
        count = len(caller.frames)
        await asyncio.sleep(1)
        assert len(caller.frames) == count
        assert media.tidings == [LegAttached("leg"), LegJoined("leg")]

    run(main())


def test_what_a_caller_sends_ahead_is_played_from_connected_on() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app", 16_000)
        caller = MemoryParty()
        await media.order(ExpectLeg("leg", "token", 16_000, "call"))
        caller.open(media.legs, "token")
        said = b"\1\2" * 8000
        caller.say(said[:777])
        await asyncio.sleep(2)
        assert not any(app.heard())
        await media.order(ConnectLeg("leg", "call", "caller"))
        caller.say(said[777:])
        await asyncio.sleep(1)
        assert app.heard().strip(b"\0") == said

    run(main())


def test_a_token_works_once() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.order(ExpectLeg("leg", "token", 16_000, "call"))
        assert not MemoryParty().open(media.legs, "another")
        assert MemoryParty().open(media.legs, "token")
        assert not MemoryParty().open(media.legs, "token")
        await asyncio.sleep(60)
        assert media.tidings == [LegAttached("leg")]

    run(main())


def test_a_token_expires_and_the_leg_is_gone() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.order(ExpectLeg("leg", "token", 16_000, "call", attach_s=3.0))
        await asyncio.sleep(2.99)
        assert media.tidings == []
        await asyncio.sleep(0.02)
        assert media.tidings == [LegGone("leg", "its audio socket was not opened in time")]
        assert not MemoryParty().open(media.legs, "token")
        await media.order(ConnectLeg("leg", "call", "caller"))
        await media.order(EndLeg("leg", "over"))
        assert len(media.tidings) == 1

    run(main())


def test_the_token_of_a_call_that_has_ended_is_void() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.order(ExpectLeg("leg", "token", 16_000, "call"))
        await media.order(EndLeg("leg", "over"))
        assert not MemoryParty().open(media.legs, "token")
        await asyncio.sleep(60)
        assert media.tidings == []

    run(main())


@pytest.mark.parametrize("connected", [False, True])
def test_a_client_that_is_lost_has_hung_up(connected: bool) -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = MemoryParty()
        await media.order(ExpectLeg("leg", "token", 16_000, "call"))
        caller.open(media.legs, "token")
        if connected:
            await media.order(ConnectLeg("leg", "call", "caller"))
        await asyncio.sleep(0.5)
        caller.drop()
        await asyncio.sleep(0.5)
        assert media.told(LegGone) == [LegGone("leg", "hung up")]
        assert not media.worker.plane.busy()

    run(main())


def test_hanging_up_is_told_once_and_ends_the_socket() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        await asyncio.sleep(0.5)
        caller.tell("hangUp")
        caller.tell("hangUp")
        caller.tell("nonsense")  # nobody listens any more
        await asyncio.sleep(0)
        assert caller.told[-1] == Told("ended", reason="hung up")
        assert caller.closed
        caller.drop()
        await media.order(EndLeg("caller", "the other side hung up"))
        assert media.told(LegGone) == [LegGone("caller", "hung up")]
        assert kinds(caller).count("ended") == 1
        assert not media.worker.plane.busy()

    run(main())


# ------------------------------------------------------------------------------------------------ a phone's life


def test_a_phone_waits_rings_answers_and_waits_again() -> None:
    async def main() -> None:
        media = MemoryMedia()
        party = await ringing(media)
        assert party.told == [Told("waiting"), Told("ringing", caller="4:+15550100", to="4:+15550199")]
        party.say(b"\1\0" * 1000)  # nobody hears it
        party.tell("answer")
        await asyncio.sleep(0)
        assert media.told(PhoneAnswered) == [PhoneAnswered("phone", "call")]
        app = await media.app("app")
        await media.order(ConnectLeg("phone", "call", "4:+15550199"))
        await asyncio.sleep(0.5)
        assert not any(app.heard())
        await media.order(EndLeg("phone", "the app hung up"))
        assert party.told[2:] == [Told("connected", rate=16_000), Told("ended", reason="the app hung up")]
        await media.order(PhoneWaits("phone"))  # now control knows, and a call for it rings here
        assert party.told[-1] == Told("waiting")
        assert not party.closed
        await media.order(RingPhone("phone", "call 2", "4:+15550100", "4:+15550199"))
        assert kinds(party)[-1] == "ringing"

    run(main())


@pytest.mark.parametrize("reason", ["busy", "declined", "no-answer"])
def test_a_phone_declines_and_stays(reason: str) -> None:
    async def main() -> None:
        media = MemoryMedia()
        party = await ringing(media)
        party.tell("decline", reason=reason)
        await asyncio.sleep(0)
        assert media.told(LegGone) == [LegGone("phone", reason, left="call")]
        assert party.told[-1] == Told("ended", reason=reason)

    run(main())


def test_a_phone_that_hangs_up_stays_and_starts_the_next_call_afresh() -> None:
    async def main() -> None:
        media = MemoryMedia()
        party = await ringing(media)
        party.tell("answer")
        await media.order(ConnectLeg("phone", "call", "4:+15550199"))
        party.say(b"\1\0" * 16_000)
        party.tell("mark", name="end")
        await asyncio.sleep(0.2)
        party.tell("hangUp")
        await asyncio.sleep(0)
        assert media.told(LegGone) == [LegGone("phone", "hung up", left="call")]
        await media.order(EndLeg("phone", "hung up"))  # control has not heard yet
        assert kinds(party)[-1] == "ended"
        assert kinds(party).count("ended") == 1

        app = await media.app("app", call="call 2")
        await media.order(RingPhone("phone", "call 2", "4:+15550100", "4:+15550199"))
        await media.order(ConnectLeg("phone", "call 2", "4:+15550199"))
        await asyncio.sleep(2)
        assert not any(app.heard())
        assert "mark" not in kinds(party)

    run(main())


def test_a_phone_whose_client_is_lost_is_gone() -> None:
    async def main() -> None:
        media = MemoryMedia()
        party = await phone(media)
        party.drop()
        await asyncio.sleep(0.1)
        assert media.told(LegGone) == [LegGone("phone", "hung up")]

    run(main())


@pytest.mark.parametrize("kind", ["answer", "decline", "hangUp"])
def test_what_comes_after_the_call_has_gone_is_ignored(kind: str) -> None:
    async def main() -> None:
        media = MemoryMedia()
        party = await ringing(media)
        await media.order(EndLeg("phone", "the caller hung up"))
        told = list(party.told)
        party.tell(kind)
        await asyncio.sleep(0)
        assert party.told == told
        assert media.tidings == [LegAttached("phone")]

    run(main())


# ------------------------------------------------------------------------------------------------ marks and flush


def test_a_mark_comes_back_when_all_before_it_was_played() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 16_000)
        caller.tell("mark", name="at once")
        caller.say(b"\1\0" * 320 * 10)
        caller.tell("mark", name="ten")
        caller.say(b"\1\0" * 320 * 5)
        caller.say(b"\1\0" * 100)
        caller.tell("mark", name="partial")
        await asyncio.sleep(1)
        marks = {told.name: told.frame for told in caller.told if told.kind == "mark"}
        assert list(marks) == ["at once", "ten", "partial"]
        first = marks["at once"]
        assert marks["ten"] == first + 9  # the tenth frame ends with it
        assert first + 15 <= marks["partial"] <= first + 18  # what is no whole frame waits a little for the rest

    run(main())


def test_the_frame_of_a_mark_is_the_one_heard_next() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 16_000)
        heard: list[int] = []
        told = caller.send_text

        def note(data: bytes) -> None:
            told(data)
            heard.append(len(caller.frames))

        caller.send_text = note  # type: ignore[method-assign]
        await asyncio.sleep(0.5)
        for size in (0, 320, 640, 6400):
            caller.say(b"\1\0" * size)
            caller.tell("mark", name=str(size))
        await asyncio.sleep(1)
        assert [told.frame for told in caller.told if told.kind == "mark"] == heard
        assert len(heard) == 4

    run(main())


def test_flush_takes_back_what_was_not_played_and_reaches_its_marks() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 16_000)
        app = await media.app("app", 16_000)
        caller.say(b"\1\0" * 320 * 100 + b"\1")
        caller.tell("mark", name="flushed")
        await asyncio.sleep(0.5)
        caller.tell("flush")
        caller.say(b"\2\0" * 320)
        caller.tell("mark", name="after")
        await asyncio.sleep(0.5)
        names = [told.name for told in caller.told if told.kind == "mark"]
        assert names == ["flushed", "after"]
        heard = app.heard()
        assert 20 <= heard.count(b"\1\0" * 320) <= 26
        assert heard.strip(b"\0").endswith(b"\2\0" * 319 + b"\2")

    run(main())


def test_marks_are_bounded() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 16_000)
        caller.say(bytes(64_000))
        for number in range(MARKS + 3):
            caller.tell("mark", name=str(number))
        assert kinds(caller).count("error") == 3
        await asyncio.sleep(3)
        assert kinds(caller).count("mark") == MARKS

    run(main())


# ------------------------------------------------------------------------------------------------ digits


def digits(app: MemoryApp) -> list[str]:
    parsed = (streaming.parse_from_server(message) for _, message in app.messages)
    return [message.tone for message in parsed if isinstance(message, streaming.DtmfData)]


def test_digits_reach_the_streams_of_the_call_that_want_them_and_control() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        wants = await media.app("wants", dtmf=True)
        does_not = await media.app("does not")
        elsewhere = await media.app("elsewhere", call="other call", dtmf=True)
        await asyncio.sleep(0.1)
        caller.tell("dtmf", tones="12#*aD")
        await asyncio.sleep(0.1)
        assert digits(wants) == ["1", "2", "#", "*", "A", "D"]
        assert digits(does_not) == digits(elsewhere) == []
        assert b'{"kind":"DtmfData","dtmfData":{"data":"1"}}' in [message for _, message in wants.messages]
        assert media.told(DigitsPressed) == [DigitsPressed("caller", "12#*AD")]

    run(main())


def test_digits_are_sent_one_after_the_other_and_pressed_by_order() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        await media.order(SendDigits("caller", "12#", "operation"))
        await asyncio.sleep(0.5)
        assert media.told(DigitsSent) == []
        await asyncio.sleep(0.2)
        assert [told.tones for told in caller.told if told.kind == "dtmf"] == ["1", "2", "#"]
        assert media.told(DigitsSent) == [DigitsSent("caller", "operation")]
        await media.order(PressDigits("caller", "7"))
        assert media.told(DigitsPressed) == [DigitsPressed("caller", "7")]

    run(main())


def test_a_phone_that_has_left_hears_no_more_digits_of_that_call() -> None:
    async def main() -> None:
        media = MemoryMedia()
        phone = await ringing(media)
        await media.order(ConnectLeg("phone", "call", "8:phone"))
        await media.order(SendDigits("phone", "123"))
        await asyncio.sleep(0.1)
        await media.order(EndLeg("phone", "the call is over"))
        await asyncio.sleep(1)
        assert kinds(phone)[-2:] == ["dtmf", "ended"]

    run(main())


def test_digits_before_the_call_reach_nobody() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.order(ExpectLeg("leg", "token", 16_000, "call"))
        caller = MemoryParty()
        caller.open(media.legs, "token")
        caller.tell("dtmf", tones="1")
        await asyncio.sleep(0)
        assert caller.told == [Told("ringing")]
        assert media.tidings == [LegAttached("leg")]

    run(main())


# ------------------------------------------------------------------------------------------------ nonsense


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'"hangUp"',
        b"{}",
        b'{"kind":7}',
        b'{"kind":"sing"}',
        b'{"kind":"dtmf"}',
        b'{"kind":"dtmf","tones":"12x"}',
        b'{"kind":"dtmf","tones":"' + b"1" * 101 + b'"}',
        b'{"kind":"mark","name":"' + b"n" * 101 + b'"}',
        b'{"kind":"decline","reason":"busy"}',  # a caller
        b'{"kind":"answer"}',
        b'\xff{"kind":"hangUp"}',
        b'{"kind":"mark","name":"\xff"}',
        b"[" * 5000,
    ],
)
def test_a_caller_that_talks_nonsense_is_told_so_and_goes_on(text: bytes) -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        caller.tell_raw(text)
        assert kinds(caller)[-1] == "error"
        assert caller.told[-1].reason
        await asyncio.sleep(0.5)
        assert len(caller.frames) > 20
        assert media.told(LegGone) == []

    run(main())


@pytest.mark.parametrize("text", [b'{"kind":"decline","reason":"bored"}', b'{"kind":"ringing"}'])
def test_a_phone_that_talks_nonsense_is_told_so_and_goes_on_ringing(text: bytes) -> None:
    async def main() -> None:
        media = MemoryMedia()
        party = await ringing(media)
        party.tell_raw(text)
        assert kinds(party)[-1] == "error"
        party.tell("answer")
        await asyncio.sleep(0)
        assert media.told(PhoneAnswered) == [PhoneAnswered("phone", "call")]

    run(main())


def test_a_connected_phone_cannot_decline() -> None:
    async def main() -> None:
        media = MemoryMedia()
        party = await ringing(media)
        await media.order(ConnectLeg("phone", "call", "4:+15550199"))
        party.tell("decline", reason="busy")
        assert kinds(party)[-1] == "error"
        assert media.told(LegGone) == []

    run(main())


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_no_text_raises(text: bytes) -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller")
        caller.tell_raw(text)
        await media.order(EndLeg("caller", "over"))

    run(main())


def test_a_client_that_does_not_read_loses_frames() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = MemoryParty()
        await media.order(ExpectLeg("leg", "token", 16_000, "call"))
        leg = media.legs.attach("token", caller)
        assert leg is not None
        await media.order(ConnectLeg("leg", "call", "caller"))
        await asyncio.sleep(0.5)
        before = len(caller.frames)
        leg.writable = False
        await asyncio.sleep(1)
        assert len(caller.frames) == before
        assert leg.lost_frames in (50, 51)
        leg.writable = True
        await asyncio.sleep(0.5)
        assert len(caller.frames) + leg.lost_frames == leg.frames

    run(main())
