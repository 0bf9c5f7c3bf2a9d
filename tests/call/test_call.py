"""Whole calls, told message by message: what goes in, and every effect that comes out."""

from __future__ import annotations

from typing import Any

import pytest

from offhook.call import messages as m
from offhook.call.call import Call, Refusal, Refused
from offhook.call.model import (
    CallData,
    Connection,
    ConnectionState,
    EndCause,
    MediaStream,
    Participant,
    StreamFailure,
    StreamOptions,
    StreamState,
)

CALLER, PHONE, MOBILE = "4:+15550100", "4:+15550199", "4:+15550177"
APP, OTHER = "8:acs:res_app", "8:acs:res_other"
RING_S = 60.0
AUDIO = StreamOptions("wss://app.example/audio", start=True)
ON_DEMAND = StreamOptions("wss://app.example/audio")


def connection(
    id: str = "a", party: str = APP, stream: StreamOptions | None = None, created: bool = False
) -> Connection:
    state = StreamState.DISABLED if stream is None else StreamState.INACTIVE
    callback = f"https://app.example/{id}"
    return Connection(
        id, party, callback, "2025-06-15", MediaStream(f"s-{id}", stream, state), f"of {id}", created=created
    )


def ringing(to: str = APP) -> Call:
    """A caller hears ringing; the invitation is "i"."""
    call = Call(CallData("call", "server", "correlation", CALLER, ring_timeout=RING_S))
    assert call.handle(m.PlaceCall("caller", "i", to), 0) == []
    assert call.handle(m.LegReady("caller"), 0.1) == [m.Invite("i", to), m.SetRingTimer("i", RING_S)]
    return call


def talking(stream: StreamOptions | None = None) -> Call:
    """A caller talks to app "a"."""
    call = ringing()
    call.handle(m.Answer("i", connection(stream=stream)), 1)
    call.handle(m.LegConnected("caller"), 1.1)
    return call


def dialling(*targets: str, stream: StreamOptions | None = None) -> Call:
    """App "a" calls; the invitations are "i1", "i2" …, and a phone that is found rings on "leg1", "leg2" …."""
    call = Call(CallData("call", "server", "correlation", APP, ring_timeout=RING_S))
    invitations = {f"i{number}": to for number, to in enumerate(targets, 1)}
    effects = call.handle(m.CreateCall(connection(stream=stream, created=True), invitations), 0)
    assert effects == [
        effect for id, to in invitations.items() for effect in (m.Invite(id, to), m.SetRingTimer(id, RING_S))
    ]
    for number, to in enumerate(targets, 1):
        if to.startswith("4:"):
            assert call.handle(m.PhoneRings(f"i{number}", f"leg{number}"), 0.1) == []
    return call


def on_the_phone(stream: StreamOptions | None = None) -> Call:
    """App "a" has called a phone and talks to it."""
    call = dialling(PHONE, stream=stream)
    call.handle(m.LegAnswered("leg1"), 2)
    call.handle(m.LegConnected("leg1"), 2.1)
    return call


def two_apps(**streams: StreamOptions) -> Call:
    """App "a" has called app "b"."""
    call = dialling(OTHER, stream=streams.get("a"))
    call.handle(m.Answer("i1", connection("b", OTHER, streams.get("b"))), 1)
    return call


def events(effects: list[m.Effect], connection: str = "a") -> list[m.Event]:
    return [effect.event for effect in effects if isinstance(effect, m.Notify) and effect.connection == connection]


def ended(cause: EndCause, connection: str = "a") -> m.Notify:
    return m.Notify(connection, m.CallDisconnected(cause, f"of {connection}"))


def members(*parties: str, sequence: int = 1, to: str = "a") -> m.Notify:
    return m.Notify(to, m.ParticipantsUpdated(tuple(Participant(party) for party in parties), sequence))


def refusal(call: Call, command: m.Command) -> Refusal:
    with pytest.raises(Refused) as refused:
        call.handle(command, 9)
    return refused.value.refusal


# ------------------------------------------------------------------------------------------------ a caller calls


def test_nobody_is_invited_before_the_callers_audio_path_is_there() -> None:
    call = Call(CallData("call", "server", "correlation", CALLER))
    assert call.handle(m.PlaceCall("caller", "i", APP), 0) == []


def test_an_app_answers_a_caller() -> None:
    call = ringing()
    assert call.handle(m.Answer("i", connection()), 1) == [m.Withdraw("i"), m.ConnectLeg("caller")]
    assert call.handle(m.LegConnected("caller"), 1.1) == [
        m.Notify("a", m.CallConnected("of a")),
        members(CALLER, APP),
    ]
    assert call.participants() == (Participant(CALLER), Participant(APP))


def test_the_first_to_answer_has_the_call() -> None:
    call = talking()
    assert refusal(call, m.Answer("i", connection("late"))) is Refusal.INVITATION_GONE
    assert list(call.data.connections) == ["a"]


@pytest.mark.parametrize("cause", [EndCause.REJECTED, EndCause.BUSY, EndCause.FORBIDDEN])
def test_an_app_rejects_a_caller(cause: EndCause) -> None:
    assert ringing().handle(m.Reject("i", cause), 1) == [m.Withdraw("i"), m.EndLeg("caller", cause), m.CallOver()]


def test_an_app_redirects_a_caller_to_a_phone() -> None:
    call = ringing()
    assert call.handle(m.Redirect("i", "i2", PHONE), 1) == [
        m.Withdraw("i"),
        m.Invite("i2", PHONE),
        m.SetRingTimer("i2", RING_S),
    ]
    assert call.handle(m.PhoneRings("i2", "phone"), 1.1) == []
    assert call.handle(m.LegAnswered("phone"), 2) == [
        m.Withdraw("i2"),
        m.ConnectLeg("phone"),
        m.ConnectLeg("caller"),
    ]
    assert call.handle(m.LegConnected("phone"), 2.1) == []
    assert call.handle(m.LegConnected("caller"), 2.2) == []
    assert call.participants() == (Participant(CALLER), Participant(PHONE))
    assert call.handle(m.LegEnded("phone", EndCause.REMOTE_LEFT), 9) == [
        m.EndLeg("caller", EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_an_app_redirects_a_caller_to_another_app() -> None:
    call = ringing()
    call.handle(m.Redirect("i", "i2", OTHER), 1)
    assert refusal(call, m.Answer("i", connection())) is Refusal.INVITATION_GONE
    assert call.handle(m.Answer("i2", connection("b", OTHER)), 2) == [m.Withdraw("i2"), m.ConnectLeg("caller")]
    assert call.handle(m.LegConnected("caller"), 2.1) == [
        m.Notify("b", m.CallConnected("of b")),
        members(CALLER, OTHER, to="b"),
    ]


def test_a_redirection_to_nobody_ends_the_call() -> None:
    call = ringing()
    call.handle(m.Redirect("i", "i2", PHONE), 1)
    assert call.handle(m.Unreachable("i2"), 1) == [
        m.Withdraw("i2"),
        m.EndLeg("caller", EndCause.UNREACHABLE),
        m.CallOver(),
    ]


def test_nobody_answers_a_caller_in_time() -> None:
    assert ringing().handle(m.RingTimedOut("i"), RING_S) == [
        m.Withdraw("i"),
        m.EndLeg("caller", EndCause.NO_ANSWER),
        m.CallOver(),
    ]


def test_a_ring_timer_that_comes_after_the_answer_does_nothing() -> None:
    assert talking().handle(m.RingTimedOut("i"), RING_S) == []


def test_the_caller_hangs_up_while_it_rings() -> None:
    call = ringing()
    assert call.handle(m.LegEnded("caller", EndCause.REMOTE_LEFT), 5) == [m.Withdraw("i"), m.CallOver()]
    assert refusal(call, m.Answer("i", connection())) is Refusal.CALL_OVER


def test_the_caller_hangs_up_right_after_the_answer() -> None:
    call = ringing()
    call.handle(m.Answer("i", connection(stream=AUDIO)), 1)
    assert call.handle(m.LegEnded("caller", EndCause.REMOTE_LEFT), 1.05) == [
        m.Notify("a", m.AnswerFailed(EndCause.REMOTE_LEFT, "of a")),
        ended(EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_the_caller_hangs_up_in_the_call() -> None:
    assert talking().handle(m.LegEnded("caller", EndCause.REMOTE_LEFT), 9) == [
        ended(EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_the_operator_ends_a_call() -> None:
    assert talking().handle(m.EndCall(EndCause.ENDED_BY_OTHER_APP), 9) == [
        ended(EndCause.ENDED_BY_OTHER_APP),
        m.EndLeg("caller", EndCause.ENDED_BY_OTHER_APP),
        m.CallOver(),
    ]


# ------------------------------------------------------------------------------------------------ an app calls


def test_an_app_calls_a_phone_that_answers() -> None:
    call = dialling(PHONE)
    assert call.handle(m.LegAnswered("leg1"), 2) == [m.Withdraw("i1"), m.ConnectLeg("leg1")]
    assert call.handle(m.LegConnected("leg1"), 2.1) == [m.Notify("a", m.CallConnected("of a")), members(PHONE, APP)]


@pytest.mark.parametrize("cause", [EndCause.BUSY, EndCause.DECLINED, EndCause.NO_ANSWER])
def test_an_app_calls_a_phone_that_does_not_want_to(cause: EndCause) -> None:
    assert dialling(PHONE).handle(m.LegEnded("leg1", cause), 2) == [
        m.Withdraw("i1"),
        m.Notify("a", m.CreateCallFailed(cause, "of a")),
        ended(cause),
        m.CallOver(),
    ]


def test_an_app_calls_a_phone_that_nobody_picks_up() -> None:
    assert dialling(PHONE).handle(m.RingTimedOut("i1"), RING_S) == [
        m.Withdraw("i1"),
        m.EndLeg("leg1", EndCause.NO_ANSWER),
        m.Notify("a", m.CreateCallFailed(EndCause.NO_ANSWER, "of a")),
        ended(EndCause.NO_ANSWER),
        m.CallOver(),
    ]


@pytest.mark.parametrize("cause", [EndCause.UNREACHABLE, EndCause.BUSY])
def test_an_app_calls_somebody_who_cannot_be_asked(cause: EndCause) -> None:
    assert dialling(OTHER).handle(m.Unreachable("i1", cause), 0) == [
        m.Withdraw("i1"),
        m.Notify("a", m.CreateCallFailed(cause, "of a")),
        ended(cause),
        m.CallOver(),
    ]


def test_an_app_hangs_up_before_its_phone_answers() -> None:
    assert dialling(PHONE).handle(m.HangUp("a"), 2) == [
        ended(EndCause.HUNG_UP_BY_APP),
        m.Withdraw("i1"),
        m.EndLeg("leg1", EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_an_app_calls_several_and_talks_to_those_who_answer() -> None:
    call = dialling(PHONE, MOBILE)
    call.handle(m.LegAnswered("leg2"), 2)
    assert call.handle(m.LegConnected("leg2"), 2.1) == [m.Notify("a", m.CallConnected("of a")), members(MOBILE, APP)]
    assert call.handle(m.LegAnswered("leg1"), 3) == [m.Withdraw("i1"), m.ConnectLeg("leg1")]
    assert call.handle(m.LegConnected("leg1"), 3.1) == [members(PHONE, MOBILE, APP, sequence=2)]
    assert call.handle(m.LegEnded("leg1", EndCause.REMOTE_LEFT), 4) == [members(MOBILE, APP, sequence=3)]
    assert call.handle(m.LegEnded("leg2", EndCause.REMOTE_LEFT), 5) == [ended(EndCause.REMOTE_LEFT), m.CallOver()]


def test_one_of_several_who_declines_does_not_end_the_call() -> None:
    call = dialling(PHONE, MOBILE)
    assert call.handle(m.LegEnded("leg1", EndCause.DECLINED), 2) == [m.Withdraw("i1")]
    assert events(call.handle(m.RingTimedOut("i2"), RING_S)) == [
        m.CreateCallFailed(EndCause.NO_ANSWER, "of a"),
        m.CallDisconnected(EndCause.NO_ANSWER, "of a"),
    ]


def test_an_app_that_is_left_while_another_phone_rings_is_told_that_it_is_alone() -> None:
    call = dialling(PHONE, MOBILE)
    call.handle(m.LegAnswered("leg1"), 2)
    call.handle(m.LegConnected("leg1"), 2.1)
    assert call.handle(m.LegEnded("leg1", EndCause.REMOTE_LEFT), 3) == [members(APP, sequence=2)]
    assert call.handle(m.RingTimedOut("i2"), RING_S)[-2:] == [ended(EndCause.NO_ANSWER), m.CallOver()]


def test_nobody_rings_on_for_an_app_that_has_left() -> None:
    assert dialling(PHONE, MOBILE).handle(m.HangUp("a"), 1) == [
        ended(EndCause.HUNG_UP_BY_APP),
        m.Withdraw("i1"),
        m.Withdraw("i2"),
        m.EndLeg("leg1", EndCause.REMOTE_LEFT),
        m.EndLeg("leg2", EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


# ------------------------------------------------------------------------------------------------ two apps


def test_two_apps_on_one_call() -> None:
    call = dialling(OTHER)
    assert call.handle(m.Answer("i1", connection("b", OTHER)), 1) == [
        m.Withdraw("i1"),
        m.Notify("a", m.CallConnected("of a")),
        m.Notify("b", m.CallConnected("of b")),
        members(APP, OTHER, to="a"),
        members(APP, OTHER, to="b"),
    ]


def test_hanging_up_ends_a_call_of_two() -> None:
    assert two_apps().handle(m.HangUp("b"), 9) == [
        ended(EndCause.HUNG_UP_BY_APP, "b"),
        ended(EndCause.REMOTE_LEFT, "a"),
        m.CallOver(),
    ]


def test_terminating_ends_it_for_the_other_app() -> None:
    assert two_apps().handle(m.Terminate("b"), 9) == [
        ended(EndCause.HUNG_UP_BY_APP, "b"),
        ended(EndCause.ENDED_BY_OTHER_APP, "a"),
        m.CallOver(),
    ]


def three_parties() -> Call:
    """App "a" has called a phone and app "b", and both have answered."""
    call = dialling(PHONE, OTHER)
    call.handle(m.LegAnswered("leg1"), 1)
    call.handle(m.LegConnected("leg1"), 1.1)
    call.handle(m.Answer("i2", connection("b", OTHER)), 2)
    return call


def test_hanging_up_leaves_the_others_talking() -> None:
    call = three_parties()
    assert call.handle(m.HangUp("a"), 9) == [
        ended(EndCause.HUNG_UP_BY_APP),
        members(PHONE, OTHER, sequence=2, to="b"),
    ]
    assert refusal(call, m.HangUp("a")) is Refusal.CALL_OVER
    assert refusal(call, m.StartStream("a")) is Refusal.CALL_OVER
    assert call.handle(m.HangUp("b"), 10) == [
        ended(EndCause.HUNG_UP_BY_APP, "b"),
        m.EndLeg("leg1", EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_terminating_ends_it_for_everybody() -> None:
    assert three_parties().handle(m.Terminate("a"), 9) == [
        ended(EndCause.HUNG_UP_BY_APP),
        ended(EndCause.ENDED_BY_OTHER_APP, "b"),
        m.EndLeg("leg1", EndCause.ENDED_BY_OTHER_APP),
        m.CallOver(),
    ]


def test_the_sequence_of_participants_counts_up_on_each_connection() -> None:
    call = three_parties()
    numbers = {id: connection.sequence for id, connection in call.data.connections.items()}
    assert numbers == {"a": 2, "b": 1}


@pytest.mark.parametrize("cause", [EndCause.REJECTED, EndCause.BUSY, EndCause.FORBIDDEN])
def test_an_app_that_is_called_rejects(cause: EndCause) -> None:
    assert dialling(OTHER).handle(m.Reject("i1", cause), 1) == [
        m.Withdraw("i1"),
        m.Notify("a", m.CreateCallFailed(cause, "of a")),
        ended(cause),
        m.CallOver(),
    ]


def test_an_app_that_is_called_redirects_to_a_phone() -> None:
    call = dialling(OTHER)
    call.handle(m.Redirect("i1", "i2", PHONE), 1)
    call.handle(m.PhoneRings("i2", "leg"), 1)
    call.handle(m.LegAnswered("leg"), 2)
    assert call.handle(m.LegConnected("leg"), 2.1) == [m.Notify("a", m.CallConnected("of a")), members(PHONE, APP)]


# ------------------------------------------------------------------------------------------------ media streams


def started(context: str | None = "of a", callback: str | None = None, again: bool = False) -> m.Notify:
    return m.Notify("a", m.StreamingStarted(context, again), callback)


def stopped(context: str | None = "of a", callback: str | None = None) -> m.Notify:
    return m.Notify("a", m.StreamingStopped(context), callback)


def streaming() -> Call:
    """A caller talks to app "a", whose stream is open since the answer."""
    call = talking(AUDIO)
    call.handle(m.StreamOpened("a", 1), 2)
    return call


def test_a_stream_starts_by_itself_once_the_call_stands() -> None:
    call = ringing()
    effects = call.handle(m.Answer("i", connection(stream=AUDIO)), 1) + call.handle(m.LegConnected("caller"), 1.1)
    assert effects[-1] == m.OpenStream("a", 1, AUDIO)
    assert call.handle(m.StreamOpened("a", 1), 2) == [started()]


def test_a_stream_starts_when_it_is_asked_for() -> None:
    call = talking(ON_DEMAND)
    assert call.handle(m.StartStream("a", "begin", "https://app.example/media"), 2) == [m.OpenStream("a", 1, ON_DEMAND)]
    assert call.handle(m.StreamOpened("a", 1), 3) == [started("begin", "https://app.example/media")]


def test_a_stop_repeats_the_context_of_the_start_unless_it_has_its_own() -> None:
    call = talking(ON_DEMAND)
    for epoch, context, said in ((1, None, "begin"), (2, "finish", "finish")):
        call.handle(m.StartStream("a", "begin"), 2)
        call.handle(m.StreamOpened("a", epoch), 3)
        assert call.handle(m.StopStream("a", context), 4) == [stopped(said), m.CloseStream("a")]


def test_a_stop_has_a_callback_of_its_own() -> None:
    call = streaming()
    assert call.handle(m.StopStream("a", None, "https://app.example/stop"), 4) == [
        stopped(callback="https://app.example/stop"),
        m.CloseStream("a"),
    ]


def test_a_stop_of_a_stream_that_is_not_open_is_acknowledged() -> None:
    assert talking(ON_DEMAND).handle(m.StopStream("a", "finish"), 2) == [stopped("finish")]


def test_a_stop_while_the_socket_opens_ends_the_opening() -> None:
    call = talking(AUDIO)
    assert call.handle(m.StopStream("a"), 2) == [stopped(), m.CloseStream("a")]
    assert call.handle(m.StreamOpened("a", 1), 2.1) == []
    assert call.handle(m.StreamFailed("a", 1, StreamFailure.UNREACHABLE, "late"), 2.2) == []


def test_a_start_of_an_open_stream_is_acknowledged() -> None:
    assert streaming().handle(m.StartStream("a", "again", "https://app.example/media"), 3) == [
        started("again", "https://app.example/media")
    ]


def test_a_start_while_the_socket_opens_is_answered_by_that_opening() -> None:
    call = talking(AUDIO)
    assert call.handle(m.StartStream("a", "again"), 2) == []
    assert call.handle(m.StreamOpened("a", 1), 3) == [started("again")]


def test_a_stream_that_could_not_be_opened_can_be_started_again() -> None:
    call = talking(AUDIO)
    assert call.handle(m.StreamFailed("a", 1, StreamFailure.UNREACHABLE, "connection refused"), 2) == [
        m.Notify("a", m.StreamingFailed(StreamFailure.UNREACHABLE, "connection refused", "of a"))
    ]
    assert call.handle(m.StartStream("a", "second"), 3) == [m.OpenStream("a", 2, AUDIO)]
    assert call.handle(m.StreamOpened("a", 1), 3.1) == [], "a late report of the first opening"
    assert call.handle(m.StreamOpened("a", 2), 4) == [started("second")]


def test_a_stream_that_was_lost_and_found_again() -> None:
    assert streaming().handle(m.StreamOpened("a", 1, again=True), 9) == [started(again=True)]


def test_a_stream_that_was_lost_for_good_leaves_the_call_up() -> None:
    call = streaming()
    assert call.handle(m.StreamFailed("a", 1, StreamFailure.INTERRUPTED, "gone"), 9) == [
        m.Notify("a", m.StreamingFailed(StreamFailure.INTERRUPTED, "gone", "of a"))
    ]
    assert call.data.connections["a"].state is ConnectionState.CONNECTED


def test_an_app_that_closes_its_socket_has_stopped() -> None:
    call = streaming()
    assert call.handle(m.StreamClosed("a", 1), 9) == [stopped()]
    assert call.data.connections["a"].state is ConnectionState.CONNECTED


def test_an_app_that_closes_its_socket_while_it_stops_is_told_once() -> None:
    call = streaming()
    call.handle(m.StopStream("a"), 9)
    assert call.handle(m.StreamClosed("a", 1), 9.1) == []


@pytest.mark.parametrize("command", [m.StartStream("a"), m.StopStream("a")])
def test_no_streaming_before_the_call_stands(command: m.Command) -> None:
    assert refusal(dialling(PHONE, stream=ON_DEMAND), command) is Refusal.NOT_ESTABLISHED


@pytest.mark.parametrize("command", [m.StartStream("a"), m.StopStream("a")])
def test_no_streaming_without_options(command: m.Command) -> None:
    assert refusal(talking(), command) is Refusal.STREAMING_NOT_CONFIGURED


def test_at_the_end_the_stream_stops_before_the_call() -> None:
    assert streaming().handle(m.HangUp("a"), 9) == [
        stopped(),
        m.CloseStream("a"),
        ended(EndCause.HUNG_UP_BY_APP),
        m.EndLeg("caller", EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_at_the_end_an_opening_stream_fails_before_the_call_ends() -> None:
    effects = talking(AUDIO).handle(m.LegEnded("caller", EndCause.REMOTE_LEFT), 9)
    failed, close, *rest = effects
    assert isinstance(failed, m.Notify)
    assert isinstance(failed.event, m.StreamingFailed)
    assert failed.event.failure is StreamFailure.SHUTDOWN
    assert [close, *rest] == [m.CloseStream("a"), ended(EndCause.REMOTE_LEFT), m.CallOver()]


LATE: list[Any] = [
    m.StreamOpened("a", 1),
    m.StreamOpened("a", 1, again=True),
    m.StreamClosed("a", 1),
    m.StreamFailed("a", 1, StreamFailure.INTERRUPTED, "late"),
]


@pytest.mark.parametrize("report", LATE)
def test_an_app_that_has_left_is_told_nothing_more(report: m.Report) -> None:
    call = dialling(PHONE, MOBILE, stream=AUDIO)
    for leg in ("leg1", "leg2"):
        call.handle(m.LegAnswered(leg), 1)
        call.handle(m.LegConnected(leg), 1.1)
    call.handle(m.StreamOpened("a", 1), 2)
    assert call.handle(m.HangUp("a"), 3)[-1] == ended(EndCause.HUNG_UP_BY_APP), "the phones go on talking"
    assert call.handle(report, 4) == []
    assert call.handle(m.LegEnded("leg1", EndCause.REMOTE_LEFT), 5) == [
        m.EndLeg("leg2", EndCause.REMOTE_LEFT),
        m.CallOver(),
    ]


def test_each_app_has_its_own_stream() -> None:
    call = two_apps(a=AUDIO, b=ON_DEMAND)
    assert call.handle(m.StreamOpened("a", 1), 2) == [started()]
    assert call.handle(m.StartStream("b", "theirs"), 3) == [m.OpenStream("b", 1, ON_DEMAND)]
    assert call.handle(m.StreamOpened("b", 1), 4) == [m.Notify("b", m.StreamingStarted("theirs"))]
    assert call.handle(m.StopStream("a"), 5) == [stopped(), m.CloseStream("a")]
    assert call.data.connections["b"].stream.state is StreamState.ACTIVE
