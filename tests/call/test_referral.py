"""Somebody takes the place of a telephone, message by message: REFER, INVITE with Replaces, and two calls made one."""

from __future__ import annotations

import pytest

from offhook.call import messages as m
from offhook.call import people
from offhook.call import people_messages as p
from offhook.call.call import Call, Refusal, Refused
from offhook.call.model import (
    Asker,
    CallData,
    Connection,
    EndCause,
    Leg,
    LegState,
    MediaStream,
    Participant,
    StreamState,
)

CALLER, PHONE, MOBILE, APP = "4:+15550100", "4:+15550199", "4:+15550177", "8:acs:res_app"
RING_S = 60.0


def talking() -> Call:
    """A caller talks to app "a"."""
    call = Call(CallData("call", "server", "correlation", CALLER, ring_timeout=RING_S))
    stream = MediaStream("s", None, StreamState.DISABLED)
    app = Connection("a", APP, "https://app.example/a", "2026-03-12", stream)
    for message in (
        m.PlaceCall("caller", "i", APP),
        m.LegReady("caller"),
        m.Answer("i", app),
        m.LegConnected("caller"),
    ):
        call.handle(message, 0)
    return call


def referring() -> Call:
    """The caller's telephone refers the call to a mobile, which rings on "leg"."""
    call = talking()
    assert call.handle(p.Refer("caller", "r", MOBILE), 1) == [m.Invite("r", MOBILE), m.SetRingTimer("r", RING_S)]
    assert call.handle(m.PhoneRings("r", "leg"), 1) == [p.ReferralRings("caller")]
    return call


def replaced(*effects: m.Effect) -> list[m.Effect]:
    """What follows when the mobile is there in the caller's place."""
    update = m.ParticipantsUpdated((Participant(MOBILE), Participant(APP)), 2)
    end = m.EndLeg("caller", EndCause.REMOTE_LEFT)
    return [p.ReferralEnded("caller"), end, *effects, m.Notify("a", update, None)]


def refusal(call: Call, command: m.Command) -> Refusal:
    with pytest.raises(Refused) as refused:
        call.handle(command, 2)
    return refused.value.refusal


def test_whoever_answers_takes_the_place_of_who_referred() -> None:
    call = referring()
    assert call.handle(m.LegAnswered("leg"), 2) == [m.Withdraw("r"), m.ConnectLeg("leg")]
    assert call.handle(m.LegConnected("leg"), 3) == replaced()


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (m.LegEnded("leg", EndCause.BUSY), EndCause.BUSY),
        (m.RingTimedOut("r"), EndCause.NO_ANSWER),
        (m.Unreachable("r"), EndCause.UNREACHABLE),
        (m.Reject("r", EndCause.REJECTED), EndCause.REJECTED),
    ],
)
def test_if_nobody_comes_the_telephone_is_told_why(message: m.Message, cause: EndCause) -> None:
    call = referring()
    assert call.handle(message, 2)[-1] == p.ReferralEnded("caller", cause)
    assert call.data.legs["caller"].state is LegState.CONNECTED


def test_a_target_that_is_gone_before_it_is_connected() -> None:
    call = referring()
    call.handle(m.LegAnswered("leg"), 2)
    assert call.handle(m.LegEnded("leg", EndCause.REMOTE_LEFT), 3) == [p.ReferralEnded("caller", EndCause.REMOTE_LEFT)]


def test_the_call_goes_on_without_who_has_referred_it_and_hung_up() -> None:
    call = referring()
    call.handle(m.LegEnded("caller", EndCause.REMOTE_LEFT), 2)
    assert not call.data.over
    call.handle(m.LegAnswered("leg"), 3)
    first, *rest = call.handle(m.LegConnected("leg"), 4)
    assert first == p.ReferralEnded("caller")
    assert not any(isinstance(effect, m.EndLeg) for effect in rest)


def test_the_call_ends_while_somebody_is_referred_to() -> None:
    """Who has referred the call waits for nobody: when all others are gone, it is over."""
    call = referring()
    assert p.ReferralEnded("caller", EndCause.CANCELED) in call.handle(m.HangUp("a"), 2)
    assert call.data.over


def test_whoever_is_removed_brings_nobody_in() -> None:
    call = referring()
    call.handle(p.AddParticipant(Asker("a"), "n", PHONE, call.data.shown), 2)
    effects = call.handle(p.RemoveParticipant(Asker("a"), CALLER), 3)
    assert effects.index(p.ReferralEnded("caller", EndCause.CANCELED)) < effects.index(
        m.EndLeg("caller", EndCause.REMOVED)
    )
    assert "r" not in call.data.invitations


def test_an_app_that_answers_takes_the_place_too() -> None:
    call = referring()
    other = Connection("b", "8:acs:res_b", "", "2026-03-12", MediaStream("t", None, StreamState.DISABLED))
    effects = call.handle(m.Answer("r", other), 2)
    assert p.ReferralEnded("caller") in effects
    assert m.EndLeg("caller", EndCause.REMOTE_LEFT) in effects


def test_what_was_dialled_and_what_an_app_redirects() -> None:
    call = referring()
    assert call.data.invitations["r"].dialled
    call.handle(m.Redirect("r", "s", PHONE), 2)
    assert not call.data.invitations["s"].dialled
    assert call.data.invitations["s"].instead_of == "caller"


def test_who_is_not_in_the_call_refers_nobody() -> None:
    call = referring()
    assert refusal(call, p.Refer("leg", "x", PHONE)) is Refusal.PARTICIPANT_NOT_FOUND
    assert refusal(call, p.Refer("nobody", "x", PHONE)) is Refusal.PARTICIPANT_NOT_FOUND


@pytest.mark.parametrize("command", [p.Refer("caller", "x", PHONE), p.TakePlace("x", "caller", PHONE)])
def test_a_full_call_takes_nobody(command: m.Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "MAX_PARTICIPANTS", 2)
    assert refusal(talking(), command) is Refusal.CALL_FULL


def test_a_telephone_takes_the_place_of_another() -> None:
    call = talking()
    assert call.handle(p.TakePlace("leg", "caller", MOBILE), 1) == []
    assert call.handle(m.LegReady("leg"), 2) == [m.ConnectLeg("leg")]
    assert call.handle(m.LegConnected("leg"), 3) == replaced()


def test_a_telephone_that_takes_a_place_that_is_free() -> None:
    call = talking()
    call.handle(p.TakePlace("leg", "caller", MOBILE), 1)
    call.handle(m.LegEnded("caller", EndCause.REMOTE_LEFT), 2)
    call.handle(m.LegReady("leg"), 3)
    assert m.EndLeg("caller", EndCause.REMOTE_LEFT) not in call.handle(m.LegConnected("leg"), 4)
    assert not call.data.over


def test_nobody_takes_the_place_of_the_last_one() -> None:
    call = talking()
    call.handle(p.TakePlace("leg", "caller", MOBILE), 1)
    effects = call.handle(m.HangUp("a"), 2)
    assert {effect.leg for effect in effects if isinstance(effect, m.EndLeg)} == {"caller", "leg"}
    assert call.data.over


def test_two_calls_become_one() -> None:
    """The caller has another call, with a mobile and without an app: that one's mobile comes here."""
    other = Call(CallData("other", "server2", "correlation2", CALLER, ring_timeout=RING_S))
    for message in (
        m.PlaceCall("second", "i", MOBILE),
        m.LegReady("second"),
        m.PhoneRings("i", "leg"),
        m.LegAnswered("leg"),
        m.LegConnected("leg"),
        m.LegConnected("second"),
    ):
        other.handle(message, 0)
    leg = Leg("leg", MOBILE, LegState.CONNECTED, instead_of="caller")
    assert other.handle(p.HandAllOver("second", "call", "caller"), 1) == [
        p.HandOver(leg, "call"),
        m.EndLeg("second", EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]
    assert talking().handle(p.LegArrived(leg), 2) == replaced()


def test_who_is_alone_brings_nobody() -> None:
    assert refusal(talking(), p.HandAllOver("caller", "other", "x")) is Refusal.PARTICIPANT_NOT_FOUND
    assert refusal(talking(), p.HandAllOver("nobody", "other", "x")) is Refusal.PARTICIPANT_NOT_FOUND


def test_a_trunk_has_put_the_call_through() -> None:
    call = talking()
    call.handle(p.TransferParticipant(Asker("a", "why"), "new", "n", MOBILE), 1)
    effects = call.handle(p.TransferDone("new"), 2)
    assert effects[0] == m.Notify("a", p.TransferAccepted(MOBILE, CALLER, "why"), None)
    assert m.EndLeg("caller", EndCause.REMOTE_LEFT) in effects
    assert effects[-1] == m.CallOver()
