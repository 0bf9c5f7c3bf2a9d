"""Who comes into a call and leaves it, message by message: additions, removals, transfers, moves, apps that connect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offhook.call import messages as m
from offhook.call import people
from offhook.call import people_messages as p
from offhook.call.call import Call, Refusal, Refused
from offhook.call.model import (
    Asker,
    CallData,
    Connection,
    ConnectionState,
    EndCause,
    Leg,
    LegState,
    MediaStream,
    Move,
    Participant,
    Shown,
    StreamState,
)

CALLER, PHONE, MOBILE = "4:+15550100", "4:+15550199", "4:+15550177"
APP, OTHER = "8:acs:res_app", "8:acs:res_other"
RING_S = 60.0
ASKER = Asker("a", "why", "https://app.example/once")
SHOWN = Shown(APP, "Support", {"voipHeaders": {"ticket": "7"}, "sipHeaders": {}})


def connection(id: str = "a", party: str = APP, joined: bool = False) -> Connection:
    stream = MediaStream(f"s-{id}", None, StreamState.DISABLED)
    return Connection(id, party, f"https://app.example/{id}", "2026-03-12", stream, f"of {id}", joined=joined)


def talking() -> Call:
    """A caller talks to app "a"."""
    call = Call(CallData("call", "server", "correlation", CALLER, ring_timeout=RING_S))
    for message in (
        m.PlaceCall("caller", "i", APP),
        m.LegReady("caller"),
        m.Answer("i", connection()),
        m.LegConnected("caller"),
    ):
        call.handle(message, 0)
    return call


def adding(to: str = PHONE, **more: float) -> Call:
    """The app of `talking` adds somebody; the invitation is "n", a phone rings on "leg"."""
    call = talking()
    call.handle(p.AddParticipant(ASKER, "n", to, SHOWN, **more), 1)
    if to.startswith("4:"):
        call.handle(m.PhoneRings("n", "leg"), 1)
    return call


def three() -> Call:
    """The caller, the phone on "leg", and app "a"."""
    call = adding()
    call.handle(m.LegAnswered("leg"), 2)
    call.handle(m.LegConnected("leg"), 2)
    return call


def asked(event: m.Event) -> m.Notify:
    """An event that goes where the operation wanted it."""
    return m.Notify("a", event, "https://app.example/once")


def ended(cause: EndCause, connection: str = "a") -> m.Notify:
    return m.Notify(connection, m.CallDisconnected(cause, f"of {connection}"))


def members(*parties: str, sequence: int, to: str = "a") -> m.Notify:
    return m.Notify(to, m.ParticipantsUpdated(tuple(Participant(party) for party in parties), sequence))


def refusal(call: Call, command: m.Command) -> Refusal:
    with pytest.raises(Refused) as refused:
        call.handle(command, 9)
    return refused.value.refusal


# ------------------------------------------------------------------------------------------------ adding


def test_a_phone_is_added() -> None:
    call = talking()
    assert call.handle(p.AddParticipant(ASKER, "n", PHONE, SHOWN, 20), 1) == [
        m.Invite("n", PHONE),
        m.SetRingTimer("n", 20),
    ]
    assert call.data.invitations["n"].shown == SHOWN
    assert call.handle(m.PhoneRings("n", "leg"), 1) == []
    assert call.handle(m.LegAnswered("leg"), 2) == [m.Withdraw("n"), m.ConnectLeg("leg")]
    assert call.handle(m.LegConnected("leg"), 2.1) == [
        members(CALLER, PHONE, APP, sequence=2),
        asked(p.AddSucceeded(PHONE, "why")),
    ]


def test_an_app_is_added() -> None:
    call = adding(OTHER)
    assert call.handle(m.Answer("n", connection("b", OTHER)), 2) == [
        m.Withdraw("n"),
        m.Notify("b", m.CallConnected("of b")),
        members(CALLER, APP, OTHER, sequence=2),
        members(CALLER, APP, OTHER, sequence=1, to="b"),
        asked(p.AddSucceeded(OTHER, "why")),
    ]


def test_without_a_time_of_its_own_an_invitation_rings_as_long_as_others() -> None:
    call = talking()
    assert call.handle(p.AddParticipant(ASKER, "n", PHONE, SHOWN), 1)[-1] == m.SetRingTimer("n", RING_S)


@pytest.mark.parametrize("cause", [EndCause.BUSY, EndCause.DECLINED, EndCause.NO_ANSWER])
def test_a_phone_does_not_want_to_be_added(cause: EndCause) -> None:
    call = adding()
    assert call.handle(m.LegEnded("leg", cause), 2) == [m.Withdraw("n"), asked(p.AddFailed(PHONE, cause, "why"))]
    assert not call.data.over


def test_nobody_answers_who_was_to_be_added() -> None:
    call = adding()
    assert call.handle(m.RingTimedOut("n"), 61) == [
        m.Withdraw("n"),
        m.EndLeg("leg", EndCause.NO_ANSWER),
        asked(p.AddFailed(PHONE, EndCause.NO_ANSWER, "why")),
    ]


def test_who_was_to_be_added_cannot_be_reached() -> None:
    call = adding(OTHER)
    assert call.handle(m.Unreachable("n"), 1) == [
        m.Withdraw("n"),
        asked(p.AddFailed(OTHER, EndCause.UNREACHABLE, "why")),
    ]


def test_an_app_rejects_to_be_added() -> None:
    call = adding(OTHER)
    assert call.handle(m.Reject("n", EndCause.REJECTED), 1) == [
        m.Withdraw("n"),
        asked(p.AddFailed(OTHER, EndCause.REJECTED, "why")),
    ]


def test_an_addition_is_redirected_and_stays_one() -> None:
    call = adding(OTHER)
    assert call.handle(m.Redirect("n", "n2", MOBILE), 1) == [
        m.Withdraw("n"),
        m.Invite("n2", MOBILE),
        m.SetRingTimer("n2", RING_S),
    ]
    assert call.data.invitations["n2"].shown == SHOWN
    assert call.handle(p.CancelAdd(Asker("a"), "n"), 2)[0] == m.Notify("a", p.CancelAddSucceeded("n", OTHER, None))


def test_one_that_is_gone_before_it_is_connected_was_not_added() -> None:
    call = adding()
    call.handle(m.LegAnswered("leg"), 2)
    assert call.handle(m.LegEnded("leg", EndCause.MEDIA_LOST), 3) == [
        asked(p.AddFailed(PHONE, EndCause.MEDIA_LOST, "why")),
    ]


def test_an_app_that_has_left_is_not_told() -> None:
    call = adding(OTHER)
    call.handle(m.HangUp("a"), 2)
    assert not call.data.over, "the caller waits for who was invited"
    effects = call.handle(m.Answer("n", connection("b", OTHER)), 3)
    assert [effect for effect in effects if isinstance(effect, m.Notify) and effect.connection == "a"] == []


@pytest.mark.parametrize("answered", [False, True])
def test_the_call_ends_while_somebody_is_added(answered: bool) -> None:
    call = adding()
    if answered:
        call.handle(m.LegAnswered("leg"), 2)
    effects = call.handle(m.EndCall(EndCause.REMOTE_LEFT), 3)
    failed = asked(p.AddFailed(PHONE, EndCause.CANCELED, "why"))
    assert effects[0] == failed
    assert effects.count(failed) == 1


def test_an_app_that_ends_the_call_is_told_of_that_alone() -> None:
    assert adding().handle(m.Terminate("a"), 2)[0] == ended(EndCause.HUNG_UP_BY_APP)


def test_nobody_is_added_before_the_call_is_established() -> None:
    call = Call(CallData("call", "server", "correlation", APP))
    call.handle(m.CreateCall(connection(), {"i": PHONE}), 0)
    assert refusal(call, p.AddParticipant(ASKER, "n", MOBILE, SHOWN)) is Refusal.NOT_ESTABLISHED


def test_a_call_has_room_for_so_many() -> None:
    call = talking()
    for number in range(people.MAX_PARTICIPANTS - 2):
        call.handle(p.AddParticipant(ASKER, f"n{number}", OTHER, SHOWN), 1)
    for command in (
        p.AddParticipant(ASKER, "one more", OTHER, SHOWN),
        p.Join(connection("b", joined=True)),
        p.MoveHere(ASKER, (PHONE,), "there", "other"),
    ):
        assert refusal(call, command) is Refusal.CALL_FULL
    call.handle(m.Unreachable("n7"), 1)
    assert call.handle(p.AddParticipant(ASKER, "one more", OTHER, SHOWN), 1)


def test_a_call_in_which_many_come_and_go_stays_small() -> None:
    call = talking()
    for number in range(3 * people.MAX_LEFT):
        call.handle(p.AddParticipant(ASKER, f"n{number}", PHONE, SHOWN), 1)
        call.handle(m.PhoneRings(f"n{number}", f"leg{number}"), 1)
        call.handle(m.LegEnded(f"leg{number}", EndCause.BUSY), 1)
        call.handle(p.AddParticipant(ASKER, f"m{number}", OTHER, SHOWN), 1)
        call.handle(m.Answer(f"m{number}", connection(f"b{number}", OTHER)), 1)
        call.handle(m.HangUp(f"b{number}"), 1)
    assert len(call.data.legs) <= people.MAX_LEFT + 2
    assert len(call.data.connections) <= people.MAX_LEFT + 2
    assert call.data.connections["a"].state is ConnectionState.CONNECTED


# ------------------------------------------------------------------------------------------------ taking it back


def test_an_addition_is_taken_back() -> None:
    call = adding()
    assert call.handle(p.CancelAdd(ASKER, "n"), 2) == [
        asked(p.CancelAddSucceeded("n", PHONE, "why")),
        m.Withdraw("n"),
        m.EndLeg("leg", EndCause.CANCELED),
    ]


@pytest.mark.parametrize("invitation", ["i", "n", "none"])
def test_what_is_not_pending_cannot_be_taken_back(invitation: str) -> None:
    call = three()
    assert call.handle(p.CancelAdd(ASKER, invitation), 3) == [asked(p.CancelAddFailed(invitation, "why"))]


def test_nor_can_that_of_another_app() -> None:
    call = adding(OTHER)
    call.handle(m.Answer("n", connection("b", OTHER)), 2)
    call.handle(p.AddParticipant(ASKER, "n2", PHONE, SHOWN), 3)
    assert call.handle(p.CancelAdd(Asker("b"), "n2"), 4) == [m.Notify("b", p.CancelAddFailed("n2", None))]
    assert "n2" in call.data.invitations


# ------------------------------------------------------------------------------------------------ removing


def test_a_phone_is_removed() -> None:
    call = three()
    assert call.handle(p.RemoveParticipant(ASKER, PHONE), 3) == [
        asked(p.RemoveSucceeded(PHONE, "why")),
        m.EndLeg("leg", EndCause.REMOVED),
        members(CALLER, APP, sequence=3),
    ]


def test_an_app_is_removed() -> None:
    call = adding(OTHER)
    call.handle(m.Answer("n", connection("b", OTHER)), 2)
    assert call.handle(p.RemoveParticipant(ASKER, OTHER), 3) == [
        asked(p.RemoveSucceeded(OTHER, "why")),
        ended(EndCause.REMOVED, "b"),
        members(CALLER, APP, sequence=3),
    ]


def test_the_only_other_one_is_removed() -> None:
    """Recorded: E8."""
    call = talking()
    assert call.handle(p.RemoveParticipant(ASKER, CALLER), 3) == [
        asked(p.RemoveSucceeded(CALLER, "why")),
        m.EndLeg("caller", EndCause.REMOVED),
        ended(EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_an_app_removes_itself() -> None:
    call = three()
    assert call.handle(p.RemoveParticipant(ASKER, APP), 3) == [
        asked(p.RemoveSucceeded(APP, "why")),
        ended(EndCause.REMOVED),
    ]
    assert not call.data.over


@pytest.mark.parametrize("party", [MOBILE, "8:acs:res_looker"])
def test_who_is_not_there_cannot_be_removed(party: str) -> None:
    call = adding(MOBILE)
    call.handle(p.Join(connection("b", "8:acs:res_looker", joined=True)), 2)
    assert refusal(call, p.RemoveParticipant(ASKER, party)) is Refusal.PARTICIPANT_NOT_FOUND


# ------------------------------------------------------------------------------------------------ connecting


def test_an_app_connects_and_nobody_sees_it() -> None:
    """Recorded: E11."""
    call = talking()
    assert call.handle(p.Join(connection("b", OTHER, joined=True)), 2) == [
        m.Notify("b", m.CallConnected("of b")),
        members(CALLER, APP, sequence=2),
        members(CALLER, APP, sequence=1, to="b"),
    ]
    assert [each.party for each in call.participants()] == [CALLER, APP]


def test_an_app_connects_to_a_call_that_rings() -> None:
    call = Call(CallData("call", "server", "correlation", CALLER))
    call.handle(m.PlaceCall("caller", "i", APP), 0)
    call.handle(m.LegReady("caller"), 0)
    assert call.handle(p.Join(connection("b", OTHER, joined=True)), 1) == []
    call.handle(m.Answer("i", connection()), 2)
    assert m.Notify("b", m.CallConnected("of b")) in call.handle(m.LegConnected("caller"), 3)


def test_and_that_is_never_answered() -> None:
    call = Call(CallData("call", "server", "correlation", CALLER))
    call.handle(m.PlaceCall("caller", "i", APP), 0)
    call.handle(m.LegReady("caller"), 0)
    call.handle(p.Join(connection("b", OTHER, joined=True)), 1)
    effects = call.handle(m.LegEnded("caller", EndCause.REMOTE_LEFT), 2)
    assert effects[1:3] == [
        m.Notify("b", p.ConnectFailed(EndCause.REMOTE_LEFT, "of b")),
        ended(EndCause.REMOTE_LEFT, "b"),
    ]


def test_an_app_that_looks_on_is_company_but_no_member() -> None:
    call = talking()
    call.handle(p.Join(connection("b", OTHER, joined=True)), 2)
    call.handle(m.HangUp("a"), 3)
    assert not call.data.over, "the caller has somebody still"
    assert call.handle(m.LegEnded("caller", EndCause.REMOTE_LEFT), 4) == [
        ended(EndCause.REMOTE_LEFT, "b"),
        m.CallOver(),
    ]


def group() -> Call:
    call = Call(CallData("call", "server", "correlation", APP, locator="group:standup"))
    assert call.handle(p.Join(connection(joined=True)), 0) == [
        m.Notify("a", m.CallConnected("of a")),
        members(sequence=1),
    ]
    return call


def test_a_group_lasts_as_long_as_an_app_is_in_it() -> None:
    call = group()
    call.handle(p.AddParticipant(ASKER, "n", PHONE, SHOWN), 1)
    call.handle(m.PhoneRings("n", "leg"), 1)
    call.handle(m.LegEnded("leg", EndCause.BUSY), 2)
    assert not call.data.over
    assert call.handle(m.HangUp("a"), 3) == [ended(EndCause.HUNG_UP_BY_APP), m.CallOver()]


def test_phones_of_a_group_talk_on_without_an_app() -> None:
    call = group()
    for leg, party in (("leg", PHONE), ("leg2", MOBILE)):
        call.handle(p.AddParticipant(ASKER, f"of {leg}", party, SHOWN), 1)
        call.handle(m.PhoneRings(f"of {leg}", leg), 1)
        call.handle(m.LegAnswered(leg), 2)
        call.handle(m.LegConnected(leg), 2)
    call.handle(m.HangUp("a"), 3)
    assert not call.data.over
    assert call.handle(m.LegEnded("leg", EndCause.REMOTE_LEFT), 4)[-1] == m.CallOver()


# ------------------------------------------------------------------------------------------------ transferring


def transferring(call: Call, transferee: str | None = None, caller: str | None = None) -> Call:
    """App "a" lets somebody call a mobile: call "new" with invitation "n"."""
    context = {"voipHeaders": {}, "sipHeaders": {"X-Ticket": "7"}}
    command = p.TransferParticipant(ASKER, "new", "n", MOBILE, transferee, caller, context)
    leg = "leg" if transferee == PHONE else "caller"
    (effect,) = call.handle(command, 3)
    shown = Shown(caller or call.data.legs[leg].party, custom_context=context)
    assert effect == p.OpenCall("new", shown, p.PlaceTransfer(leg, "call", "n", MOBILE))
    return call


def call_to_target() -> Call:
    """The call that the caller makes from call "call"."""
    call = Call(CallData("new", "server2", "correlation2", CALLER, ring_timeout=RING_S))
    assert call.handle(p.PlaceTransfer("caller", "call", "n", MOBILE), 0) == [
        m.Invite("n", MOBILE),
        m.SetRingTimer("n", RING_S),
    ]
    return call


def test_the_other_one_is_transferred() -> None:
    call = transferring(talking(), caller="4:+15550142")
    leg = call.data.legs["caller"]
    assert call.handle(p.TransferAnswered("new"), 4) == [
        asked(p.TransferAccepted(MOBILE, CALLER, "why")),
        p.HandOver(leg, "new"),
        ended(EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_one_of_several_is_transferred() -> None:
    call = transferring(three(), PHONE)
    leg = call.data.legs["leg"]
    assert call.handle(p.TransferAnswered("new"), 4) == [
        asked(p.TransferAccepted(MOBILE, PHONE, "why")),
        p.HandOver(leg, "new"),
        members(CALLER, APP, sequence=3),
    ]


def test_the_target_does_not_answer() -> None:
    call = transferring(talking())
    assert call.handle(p.TransferEnded("new", EndCause.BUSY), 4) == [asked(p.TransferFailed(EndCause.BUSY, "why"))]
    assert call.data.legs["caller"].state is LegState.CONNECTED
    transferring(call)


@pytest.mark.parametrize(
    "message", [m.LegEnded("caller", EndCause.REMOTE_LEFT), p.RemoveParticipant(Asker("b"), CALLER)]
)
def test_the_transferee_leaves_before(message: m.Message) -> None:
    call = adding(OTHER)
    call.handle(m.Answer("n", connection("b", OTHER)), 2)
    transferring(call, CALLER)
    effects = call.handle(message, 4)
    assert p.Tell("new", p.Abandoned()) in effects
    assert asked(p.TransferFailed(EndCause.CANCELED, "why")) in effects
    assert call.handle(p.TransferAnswered("new"), 5) == []


def test_the_call_ends_before() -> None:
    call = transferring(talking())
    assert call.handle(m.EndCall(EndCause.ENDED_BY_OTHER_APP), 4)[:3] == [
        p.Tell("new", p.Abandoned()),
        asked(p.TransferFailed(EndCause.CANCELED, "why")),
        ended(EndCause.ENDED_BY_OTHER_APP),
    ]


def test_nobody_is_transferred_twice_at_a_time() -> None:
    call = transferring(talking())
    again = p.TransferParticipant(ASKER, "new2", "n2", PHONE)
    assert refusal(call, again) is Refusal.TRANSFER_UNDER_WAY


def test_who_is_to_be_transferred() -> None:
    command = p.TransferParticipant(ASKER, "new", "n", MOBILE)
    assert refusal(three(), command) is Refusal.TRANSFEREE_MISSING
    assert refusal(three(), replace(command, transferee=MOBILE)) is Refusal.PARTICIPANT_NOT_FOUND
    assert refusal(three(), replace(command, transferee=APP)) is Refusal.NOT_TRANSFERABLE
    alone = Call(CallData("call", "server", "correlation", APP, locator="room:7"))
    alone.handle(p.Join(connection(joined=True)), 0)
    assert refusal(alone, command) is Refusal.TRANSFEREE_MISSING


def test_a_phone_answers_a_transferee() -> None:
    call = call_to_target()
    call.handle(m.PhoneRings("n", "leg"), 0)
    assert call.handle(m.LegAnswered("leg"), 1) == [
        m.Withdraw("n"),
        m.ConnectLeg("leg"),
        p.Tell("call", p.TransferAnswered("new")),
    ]
    assert call.handle(p.LegArrived(Leg("caller", CALLER, LegState.CONNECTED, inviter=True)), 1) == []
    assert call.handle(m.LegConnected("leg"), 1.1) == []
    assert [each.party for each in call.participants()] == [CALLER, MOBILE]
    assert call.handle(m.LegEnded("leg", EndCause.REMOTE_LEFT), 2) == [
        m.EndLeg("caller", EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_an_app_answers_a_transferee() -> None:
    call = call_to_target()
    assert call.handle(m.Answer("n", connection("b", OTHER)), 1) == [
        m.Withdraw("n"),
        p.Tell("call", p.TransferAnswered("new")),
    ]
    assert call.handle(p.LegArrived(Leg("caller", CALLER, LegState.CONNECTED)), 1) == [
        m.Notify("b", m.CallConnected("of b")),
        members(CALLER, OTHER, sequence=1, to="b"),
    ]


def test_a_target_that_does_not_answer_leaves_the_transferee_where_he_is() -> None:
    call = call_to_target()
    call.handle(m.PhoneRings("n", "leg"), 0)
    assert call.handle(m.LegEnded("leg", EndCause.DECLINED), 1) == [
        m.Withdraw("n"),
        p.Tell("call", p.TransferEnded("new", EndCause.DECLINED)),
        m.CallOver(),
    ]


def test_a_target_stops_ringing_when_the_transferee_is_gone() -> None:
    call = call_to_target()
    call.handle(m.PhoneRings("n", "leg"), 0)
    assert call.handle(p.Abandoned(), 1) == [
        m.Withdraw("n"),
        p.Tell("call", p.TransferEnded("new", EndCause.CANCELED)),
        m.EndLeg("leg", EndCause.CANCELED),
        m.CallOver(),
    ]


# ------------------------------------------------------------------------------------------------ moving

MOVE = Move("there", ASKER)


def test_an_app_wants_people_of_another_call() -> None:
    call = talking()
    assert call.handle(p.MoveHere(ASKER, (PHONE, MOBILE), "there", "other"), 3) == [
        p.Fetch((PHONE, MOBILE), "other", MOVE),
    ]


def test_who_has_moved_is_in_the_call() -> None:
    call = talking()
    assert call.handle(p.LegArrived(Leg("leg", PHONE, LegState.CONNECTED), MOVE), 3) == [
        members(CALLER, PHONE, APP, sequence=2),
        asked(p.MoveSucceeded(PHONE, "there", "why")),
    ]


def test_who_could_not_be_moved() -> None:
    call = talking()
    problem = p.MoveProblem.NOT_THERE
    assert call.handle(p.NotMoved(PHONE, MOVE, problem), 3) == [asked(p.MoveFailed(PHONE, "there", problem, "why"))]


def test_somebody_is_wanted_by_another_call() -> None:
    call = three()
    leg = call.data.legs["leg"]
    assert call.handle(p.Wanted((PHONE,), "other", MOVE), 3) == [
        p.HandOver(leg, "other", MOVE),
        members(CALLER, APP, sequence=3),
    ]


def test_the_only_one_is_wanted_by_another_call() -> None:
    call = talking()
    leg = call.data.legs["caller"]
    assert call.handle(p.Wanted((CALLER,), "other", MOVE), 3) == [
        p.HandOver(leg, "other", MOVE),
        ended(EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_one_who_is_being_transferred_is_wanted_by_another_call() -> None:
    call = transferring(three(), PHONE)
    leg = call.data.legs["leg"]
    assert call.handle(p.Wanted((PHONE,), "other", MOVE), 4)[:3] == [
        p.Tell("new", p.Abandoned()),
        asked(p.TransferFailed(EndCause.CANCELED, "why")),
        p.HandOver(leg, "other", MOVE),
    ]


@pytest.mark.parametrize(("party", "problem"), [(APP, p.MoveProblem.IS_APP), (MOBILE, p.MoveProblem.NOT_THERE)])
def test_somebody_is_wanted_who_cannot_come(party: str, problem: p.MoveProblem) -> None:
    call = talking()
    assert call.handle(p.Wanted((party,), "other", MOVE), 3) == [p.Tell("other", p.NotMoved(party, MOVE, problem))]
