"""Two stacks and a network in memory: calls from the INVITE to the BYE, and all that can come between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.legs.sip_stack.names import Named

from offhook.legs.sip.events import (
    Q850,
    Answered,
    Digits,
    DigitsSent,
    Ended,
    Offered,
    OfferFailed,
    Progress,
    ReferProgress,
    Referred,
)
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.message import Request, Response

if TYPE_CHECKING:
    from tests.legs.sip_stack.conftest import Scene

Scenes = Callable[..., None]


def test_a_call_is_answered_and_ended(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        assert caller.agreed is not None
        assert called.agreed is not None
        assert (caller.agreed.codec, caller.agreed.remote) == ("PCMU", (one.B, 7000))
        assert (called.agreed.codec, called.agreed.remote) == ("PCMU", (one.A, 7000))
        assert called.told(Answered) == [Answered()]
        called.session.hang_up(16, "done")
        await asyncio.sleep(1)
        assert called.ended == Ended(200, "OK", Q850(16, "done"), by_us=True)
        assert caller.ended == Ended(200, "OK", Q850(16, "done"))
        assert one.network.sent() == ["INVITE", "100 INVITE", "200 INVITE", "ACK", "BYE", "200 BYE"]

    scene(play)


def test_who_calls_whom_and_headers_arrive(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.a.call("+15550100", display="A Person", headers=[("X-Order", "42"), ("User-to-User", "00ff;encoding=hex")])
        await asyncio.sleep(1)
        session = one.b.legs[0].incoming
        assert (session.to.uri.user, session.from_.uri.user, session.from_.display) == ("+15550100", "200", "A Person")
        assert session.request_uri.user == "+15550100"
        assert {("X-Order", "42"), ("User-to-User", "00ff;encoding=hex")} <= set(session.headers)
        assert (session.trunk, session.phone, session.max_forwards) == ("other", "", 70)
        assert session.source == (one.A, 5060)

    scene(play)


@pytest.mark.parametrize(
    "header", [("X-A", "1\r\nX-B: 2"), ("X A", "1"), ("Via", "SIP/2.0/UDP x"), ("From", "<sip:x@y>")]
)
def test_a_header_that_would_break_the_message_is_refused(scene: Scenes, header: tuple[str, str]) -> None:
    async def play(one: Scene) -> None:
        with pytest.raises(ValueError, match="header"):
            one.a.call(headers=[header])
        await asyncio.sleep(1)
        assert one.network.log == []

    scene(play)


def test_it_rings_before_it_is_answered(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller, called = await one.call()
        called.incoming.ring()
        await asyncio.sleep(1)
        assert caller.events == [Progress(180, "Ringing")]
        called.pick_up()
        await asyncio.sleep(1)
        assert len(caller.told(Answered)) == 1

    scene(play)


def test_a_call_that_rings_long_is_kept_alive_and_given_up_in_the_end(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller, called = await one.call()
        called.incoming.ring()
        await asyncio.sleep(200)
        assert one.network.sent(one.B).count("180 INVITE") == 4
        await asyncio.sleep(150)
        assert (caller.ended.code, called.ended.by_us) == (408, True)

    scene(play)


@pytest.mark.parametrize("code", [486, 603, 404, 302])
def test_a_call_is_rejected_with_a_cause(scene: Scenes, code: int) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller, called = await one.call()
        called.incoming.reject(code, "No", q850=17, contacts=["sip:else@192.0.2.9"] if code == 302 else [])
        await asyncio.sleep(1)
        assert caller.ended == Ended(code, "No", Q850(17))
        assert called.ended == Ended(code, "No", Q850(17), by_us=True)
        assert one.network.sent()[-2:] == [f"{code} INVITE", "ACK"]

    scene(play)


def test_a_call_is_not_rejected_with_success(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        _, called = await one.call()
        with pytest.raises(ValueError, match="200"):
            called.incoming.reject(200)

    scene(play)


def test_a_call_is_cancelled(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller, called = await one.call()
        caller.session.hang_up(26, "answered elsewhere")
        assert caller.ended == Ended(487, "Request Terminated", Q850(26, "answered elsewhere"), by_us=True)
        await asyncio.sleep(1)
        assert called.ended == Ended(487, "Request Terminated", Q850(26, "answered elsewhere"))
        assert one.network.sent()[2:] == ["CANCEL", "200 CANCEL", "487 INVITE", "ACK"]

    scene(play)


def test_a_call_that_is_answered_while_it_is_cancelled_is_ended(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller, called = await one.call()
        called.pick_up()
        caller.session.hang_up()
        await asyncio.sleep(2)
        assert called.ended.code == 200
        assert "BYE" in one.network.sent(one.A)

    scene(play)


def test_cancel_waits_for_the_first_sign_of_life(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.network.drop = lambda message: isinstance(message, Response) and one.network.log[-1][0] < 3
        one.b.answers = False
        leg = one.a.call()
        leg.session.hang_up()
        await asyncio.sleep(2)
        assert "CANCEL" not in one.network.sent()
        await asyncio.sleep(3)
        assert "CANCEL" in one.network.sent()
        assert one.b.legs[0].ended.code == 487

    scene(play)


def test_a_cancel_that_nobody_answers_ends_by_itself(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller, _ = await one.call()
        one.network.drop = lambda message: True
        caller.session.hang_up()
        await asyncio.sleep(40)
        assert len(one.a.stack._endpoint) == 0

    scene(play)


def test_nobody_is_there(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.network.drop = lambda message: True
        leg = one.a.call()
        await asyncio.sleep(31)
        assert leg.events == []
        await asyncio.sleep(2)
        assert leg.ended.code == 408
        assert one.network.sent() == ["INVITE"] * 7  # at 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s

    scene(play)


def test_a_name_that_does_not_resolve_ends_with_503(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.a.stack._transports.locator = Named()
        one.a.stack.reload([Trunk("other", server="sip:sip.provider.example")], [])
        leg = one.a.call()
        await asyncio.sleep(1)
        assert leg.ended.code == 503

    scene(play)


# ------------------------------------------------------------------------------------------------ offers


def test_an_invite_without_an_offer_gets_one_and_answers_in_ack(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        late = _stripping(one)
        caller = one.a.call()
        await asyncio.sleep(0.5)
        called = one.b.legs[0]
        assert called.incoming.offer is None
        late(caller)
        await asyncio.sleep(1)
        assert called.told(Answered)[0].sdp is not None
        assert called.agreed is not None
        assert called.agreed.remote == (one.A, 7000)

    scene(play)


def _stripping(one: Scene) -> Callable[[Any], None]:
    """Make A's INVITE one without an offer: the network takes it out, and A's answer goes into its ACK."""
    send, held = one.network.send, []

    def changed(data: bytes, source: Any, target: Any) -> None:
        if data.startswith(b"INVITE"):
            data = data[: data.index(b"\r\n\r\n") + 4].replace(b"Content-Type: application/sdp\r\n", b"")
            head, _, _ = data.partition(b"Content-Length")
            data = head + b"Content-Length: 0\r\n\r\n"
        if data.startswith(b"ACK"):
            held.append((data, source, target))
        else:
            send(data, source, target)

    one.network.send = changed  # type: ignore[method-assign]

    def late(leg: Any) -> None:
        for data, source, target in held:
            body = _answer_of(leg).encode()
            head = data.partition(b"Content-Length")[0] + b"Content-Type: application/sdp\r\n"
            send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body, source, target)
        one.network.send = send  # type: ignore[method-assign]

    return late


def _answer_of(leg: Any) -> str:
    sdp, _ = leg.negotiation.answer(leg.told(Answered)[0].sdp, 7000)
    return str(sdp)


def test_hold_and_resume(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        caller.reoffer(hold=True)
        await asyncio.sleep(1)
        assert called.agreed is not None
        assert caller.agreed is not None
        assert (called.agreed.sends, called.agreed.receives) == (False, True)
        assert (caller.agreed.sends, caller.agreed.receives) == (True, False)
        caller.reoffer()
        await asyncio.sleep(1)
        assert (called.agreed.sends, called.agreed.receives) == (True, True)
        assert (caller.agreed.sends, caller.agreed.receives) == (True, True)
        assert len(called.told(Offered)) == 2

    scene(play)


def test_an_offer_that_is_refused_changes_nothing(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        one.b.answers_offers = False
        caller.reoffer(hold=True)
        await asyncio.sleep(0.5)
        called.session.refuse(488)
        await asyncio.sleep(1)
        assert caller.told(OfferFailed) == [OfferFailed(488, "Not Acceptable Here")]
        assert not caller.told(Ended)

    scene(play)


def test_an_offer_that_is_not_answered_is_refused(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        one.b.answers_offers = False
        caller.reoffer()
        await asyncio.sleep(12)
        assert [event.code for event in caller.told(OfferFailed)] == [500]
        called.session.refuse()  # too late, and no harm
        called.session.answer("v=0")

    scene(play)


def test_offers_that_cross_are_repeated_until_both_have_passed(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        caller.reoffer()
        called.reoffer()
        await asyncio.sleep(10)
        assert "491 INVITE" in one.network.sent()
        for leg in (caller, called):
            assert not leg.told(OfferFailed)
            assert [event for event in leg.told(Answered) if event.sdp][-1:]
        assert (len(caller.told(Offered)), len(called.told(Offered))) == (1, 1)

    scene(play)


def test_a_second_offer_waits_for_the_first(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        for hold in (True, False, True):
            caller.reoffer(hold=hold)
        await asyncio.sleep(2)
        assert one.network.sent(one.A).count("INVITE") == 3  # the call's, the first and the last
        assert called.agreed is not None
        assert not called.agreed.sends

    scene(play)


def test_an_offer_before_the_answer_waits_for_it(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller = one.a.call()
        await asyncio.sleep(1)
        called = one.b.legs[0]
        called.pick_up()
        called.reoffer()
        await asyncio.sleep(2)
        assert len(caller.told(Offered)) == 1

    scene(play)


def test_a_bye_while_an_offer_waits_ends_both(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        one.b.answers_offers = False
        caller.reoffer()
        await asyncio.sleep(0.5)
        called.session.hang_up()
        await asyncio.sleep(1)
        assert "487 INVITE" in one.network.sent(one.B)
        assert caller.ended.code == 200

    scene(play)


def test_the_other_side_has_forgotten_the_call(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        one.network.drop = lambda message: isinstance(message, Request) and message.method == "BYE"
        called.session.hang_up()
        caller.reoffer()
        await asyncio.sleep(1)
        assert caller.ended.code == 481

    scene(play)


# ------------------------------------------------------------------------------------------------ 2xx and ACK


def test_a_200_is_repeated_until_its_ack_comes(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        acks: list[Any] = []

        def drop(message: Request | Response) -> bool:
            if isinstance(message, Request) and message.method == "ACK":
                acks.append(message)
                return len(acks) <= 3
            return False

        one.network.drop = drop
        _, called = await one.call()
        assert called.events == []
        await asyncio.sleep(5)
        assert called.events == [Answered()]
        assert one.network.sent(one.B).count("200 INVITE") == len(acks) == 4

    scene(play)


def test_without_any_ack_the_call_is_over(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.network.drop = lambda message: isinstance(message, Request) and message.method == "ACK"
        caller, called = await one.call()
        await asyncio.sleep(35)
        assert called.ended.code == 408
        assert caller.ended.code == 200  # by BYE

    scene(play)


def test_bye_waits_for_the_ack(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.network.drop = lambda message: (
            isinstance(message, Request) and message.method == "ACK" and one.network.log[-1][0] < 2
        )
        caller, called = await one.call()
        called.session.hang_up()
        assert called.ended.by_us
        await asyncio.sleep(0.4)
        assert "BYE" not in one.network.sent(one.B)
        await asyncio.sleep(4)
        assert "BYE" in one.network.sent(one.B)
        assert caller.ended.code == 200

    scene(play)


def test_bye_from_both_sides_at_once(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        caller.session.hang_up()
        called.session.hang_up()
        await asyncio.sleep(2)
        assert (caller.ended.by_us, called.ended.by_us) == (True, True)

    scene(play)


# ------------------------------------------------------------------------------------------------ early media


def test_media_before_the_answer_is_sent_reliably(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller, called = await one.call()
        sdp, _ = called.negotiation.answer(called.incoming.offer or "", 7000)
        lost = iter([True, True])
        one.network.drop = lambda message: isinstance(message, Response) and message.code == 183 and next(lost, False)
        called.incoming.ring(sdp)
        called.session.answer(sdp)  # waits for the PRACK
        await asyncio.sleep(3)
        (progress,) = caller.told(Progress)
        assert (progress.code, progress.sdp is not None) == (183, True)
        sent = one.network.sent()
        assert sent.count("183 INVITE") == 3
        assert sent.index("PRACK") < sent.index("200 PRACK") < sent.index("200 INVITE")
        assert len(caller.told(Answered)) == 1

    scene(play)


def test_a_prack_that_never_comes_ends_the_call(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.answers = False
        caller, called = await one.call()
        sdp, _ = called.negotiation.answer(called.incoming.offer or "", 7000)
        one.network.drop = lambda message: isinstance(message, Request) and message.method == "PRACK"
        called.incoming.ring(sdp)
        await asyncio.sleep(35)
        assert (called.ended.code, caller.ended.code) == (504, 504)

    scene(play)


# ------------------------------------------------------------------------------------------------ session timer


@pytest.mark.parametrize("update", [True, False])
def test_the_caller_refreshes_the_session(scene: Scenes, update: bool) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        if not update:
            caller.session._allows.clear()  # type: ignore[attr-defined]
        await asyncio.sleep(900)
        sent = one.network.sent(one.A)[2:]
        assert len(sent) == (9 if update else 18)
        assert set(sent) == ({"UPDATE"} if update else {"INVITE", "ACK"})
        assert not called.told(Offered)  # a refresh is no offer
        assert not caller.told(Ended)

    scene(play, session_expires=200)


def test_a_refresh_that_crosses_an_offer_is_repeated_and_the_call_goes_on(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        caller.session._allows.clear()  # type: ignore[attr-defined]
        await asyncio.sleep(99.015)  # A refreshes 100 s after the 200 came
        called.reoffer()
        await asyncio.sleep(900)
        assert "491 INVITE" in one.network.sent()
        assert not caller.told(Ended)
        assert not called.told(Ended)

    scene(play, session_expires=200)


def test_a_caller_that_does_not_refresh_is_hung_up_on(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        one.network.drop = lambda message: isinstance(message, Request) and message.method == "UPDATE"
        await asyncio.sleep(205)
        assert called.ended.code == 408
        assert caller.told(Ended)

    scene(play, session_expires=200)


def test_a_caller_that_is_gone_is_noticed(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        one.network.drop = lambda message: True
        await asyncio.sleep(300)
        assert (caller.ended.code, called.ended.code) == (408, 408)

    scene(play, session_expires=200)


def test_a_shorter_interval_than_the_called_one_wants_is_asked_for_again(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.b.stack._context.min_se = 300
        one.b.stack._context.session_expires = 600
        caller, _ = await one.call()
        assert one.network.sent()[:6] == ["INVITE", "100 INVITE", "422 INVITE", "ACK", "INVITE", "100 INVITE"]
        assert caller.told(Answered)
        assert caller.session._terms is not None
        assert caller.session._terms.interval == 300

    scene(play, session_expires=200)


# ------------------------------------------------------------------------------------------------ transfer, digits


def test_a_blind_transfer(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        caller.session.refer("sip:300@192.0.2.3")
        await asyncio.sleep(1)
        (referred,) = called.told(Referred)
        assert (str(referred.to), referred.replaces) == ("sip:300@192.0.2.3", None)
        called.session.refer_progress(180)
        called.session.refer_progress(200)
        called.session.refer_progress(200)  # it was over
        await asyncio.sleep(1)
        accepted = ReferProgress(202, "Accepted", False)
        assert accepted in caller.told(ReferProgress)
        assert [told for told in caller.told(ReferProgress) if told != accepted] == [
            ReferProgress(100, "Trying", False),
            ReferProgress(180, "Ringing", False),
            ReferProgress(200, "OK", True),
        ]
        caller.session.refer("sip:400@192.0.2.3")
        await asyncio.sleep(1)
        assert len(called.told(Referred)) == 2

    scene(play)


def test_a_transfer_that_is_refused_leaves_the_call_as_it_is(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        session = called.session
        session.on_event = lambda event: (
            session.refuse_refer(403) if isinstance(event, Referred) else called.take(event)
        )
        caller.session.refer("sip:300@192.0.2.3")
        await asyncio.sleep(1)
        session.refuse_refer()
        session.refer_progress(200)  # There is nothing to tell of.
        await asyncio.sleep(1)
        assert caller.told(ReferProgress) == [ReferProgress(403, "Forbidden", True)]
        assert "NOTIFY" not in one.network.sent(one.B)
        caller.session.hang_up()

    scene(play)


def test_an_attended_transfer(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _, called = await one.call()
        second, other = await one.call()
        second.session.refer("sip:100@192.0.2.1", called.session.replaces_me)
        await asyncio.sleep(1)
        (referred,) = other.told(Referred)
        assert referred.replaces is not None
        taking = one.b.call(replaces=referred.replaces)  # B calls A, and takes over what it has with A
        await asyncio.sleep(1)
        arrived = one.a.legs[-1].incoming
        assert arrived.replaces is one.a.legs[0].session
        assert taking.told(Answered)

    scene(play)


def test_a_call_that_takes_over_nothing_is_refused(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _, called = await one.call()
        replaces = called.session.replaces_me
        called.session.hang_up()
        await asyncio.sleep(1)
        taking = one.b.call(replaces=replaces)
        await asyncio.sleep(1)
        assert taking.ended.code == 481

    scene(play)


def test_digits_by_info(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        caller.session.info_digits("15*#D")
        await asyncio.sleep(1)
        assert "".join(event.tones for event in called.told(Digits)) == "15*#D"
        assert caller.told(DigitsSent) == [DigitsSent()]
        with pytest.raises(ValueError, match="DTMF"):
            caller.session.info_digits("x")
        with pytest.raises(ValueError, match="64"):
            caller.session.info_digits("1" * 65)

    scene(play)
