"""The transaction tables: every state and input is walked, and the timers are those of RFC 3261's table 4."""

from __future__ import annotations

from itertools import product

import pytest

from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.transaction import (
    PATIENCE,
    T1,
    T2,
    T4,
    TABLES,
    Action,
    Deliver,
    Effect,
    Ended,
    Input,
    Kind,
    Outcome,
    Send,
    SetTimer,
    State,
    StopTimer,
    Timer,
    Transaction,
    input_of,
)
from offhook.legs.sip.uri import Uri

CODES = {Input.PROVISIONAL: 180, Input.SUCCESS: 200, Input.FAILURE: 486}
CLIENTS = (Kind.INVITE_CLIENT, Kind.CLIENT)
STATES = {
    Kind.INVITE_CLIENT: {State.CALLING, State.PROCEEDING, State.COMPLETED, State.ACCEPTED, State.TERMINATED},
    Kind.CLIENT: {State.TRYING, State.PROCEEDING, State.COMPLETED, State.TERMINATED},
    Kind.INVITE_SERVER: {State.PROCEEDING, State.COMPLETED, State.CONFIRMED, State.ACCEPTED, State.TERMINATED},
    Kind.SERVER: {State.TRYING, State.PROCEEDING, State.COMPLETED, State.TERMINATED},
}


def request(kind: Kind) -> Request:
    method = "INVITE" if kind in (Kind.INVITE_CLIENT, Kind.INVITE_SERVER) else "OPTIONS"
    made = Request(method, Uri("b", "h"))
    for name, value in {
        "Via": "SIP/2.0/UDP h;branch=z9hG4bKx",
        "Route": "<sip:p;lr>",
        "From": "<sip:a@h>;tag=1",
        "To": "<sip:b@h>",
        "Call-ID": "c",
        "CSeq": f"7 {method}",
    }.items():
        made.headers.add(name, value)
    return made


def begin(kind: Kind, reliable: bool = False) -> Transaction:
    transaction = Transaction(kind, request(kind), reliable)
    if kind in CLIENTS:
        transaction.handle(Input.START)
    return transaction


def give(transaction: Transaction, *inputs: Input) -> list[Effect]:
    """Hand it inputs, responses made for those that are responses; return the effects of the last one."""
    effects: list[Effect] = []
    for what in inputs:
        code = CODES.get(what)
        effects = transaction.handle(what if code is None else transaction.request.response(code, to_tag="t"))
    return effects


def paths(kind: Kind) -> dict[State, tuple[Input, ...]]:
    """Return how each state of a machine is reached."""
    found: dict[State, tuple[Input, ...]] = {TABLES[kind][0]: ()}
    for _ in State:
        for (state, what), (following, _) in TABLES[kind][1].items():
            if state in found and what is not Input.START:
                found.setdefault(following, (*found[state], what))
    return found


@pytest.mark.parametrize("kind", Kind)
def test_every_state_is_reached(kind: Kind) -> None:
    assert paths(kind).keys() == STATES[kind]


@pytest.mark.parametrize(("kind", "reliable"), list(product(Kind, (False, True))))
def test_every_input_in_every_state(kind: Kind, reliable: bool) -> None:
    table = TABLES[kind][1]
    for (state, path), what in product(paths(kind).items(), Input):
        if what is Input.START:
            continue
        transaction = begin(kind, reliable)
        give(transaction, *path)
        assert transaction.state is state
        effects = give(transaction, what)
        following, actions = table.get((state, what), (state, ()))
        assert transaction.state is following
        assert any(isinstance(effect, Ended) for effect in effects) == (following is State.TERMINATED and bool(effects))
        assert bool([effect for effect in effects if isinstance(effect, Deliver)]) == (Action.DELIVER in actions)
        if (state, what) not in table:
            assert effects == []


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_left_of_a_terminated_one(kind: Kind) -> None:
    assert not [key for key in TABLES[kind][1] if key[0] is State.TERMINATED]


def timers(effects: list[Effect]) -> dict[Timer, float]:
    return {effect.timer: effect.after for effect in effects if isinstance(effect, SetTimer)}


def test_an_invite_is_repeated_at_twice_the_interval_each_time() -> None:
    transaction = Transaction(Kind.INVITE_CLIENT, request(Kind.INVITE_CLIENT), reliable=False)
    assert timers(transaction.handle(Input.START)) == {Timer.RESEND: T1, Timer.GIVE_UP: PATIENCE}
    intervals = [timers(transaction.handle(Input.RESEND))[Timer.RESEND] for _ in range(5)]
    assert intervals == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_other_requests_are_repeated_at_four_seconds_at_most() -> None:
    transaction = begin(Kind.CLIENT)
    assert [timers(transaction.handle(Input.RESEND))[Timer.RESEND] for _ in range(5)] == [1.0, 2.0, T2, T2, T2]
    assert timers(give(begin(Kind.CLIENT), Input.PROVISIONAL)) == {Timer.RESEND: T2}


def test_a_final_response_to_invite_is_repeated_until_ack() -> None:
    transaction = begin(Kind.INVITE_SERVER)
    assert timers(give(transaction, Input.FAILURE)) == {Timer.RESEND: T1, Timer.GIVE_UP: PATIENCE}
    effects = transaction.handle(Input.RESEND)
    assert [type(effect) for effect in effects] == [Send, SetTimer]
    effects = transaction.handle(Input.ACK)
    assert effects == [StopTimer(Timer.RESEND), StopTimer(Timer.GIVE_UP), SetTimer(Timer.FORGET, T4)]


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_repeated_over_a_transport_that_loses_nothing(kind: Kind) -> None:
    for path in paths(kind).values():
        transaction = Transaction(kind, request(kind), reliable=True)
        for what in (Input.START, *path):
            assert Timer.RESEND not in timers(give(transaction, what))


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(("what", "outcome"), [(Input.GIVE_UP, Outcome.TIMED_OUT), (Input.LOST, Outcome.UNREACHABLE)])
def test_a_client_learns_that_nothing_came(kind: Kind, what: Input, outcome: Outcome) -> None:
    assert give(begin(kind), what)[-1] == Ended(outcome)


def test_the_ack_of_a_failure_goes_where_the_invite_went() -> None:
    transaction = begin(Kind.INVITE_CLIENT)
    effects = give(transaction, Input.FAILURE)
    (sent,) = [effect.message for effect in effects if isinstance(effect, Send)]
    assert isinstance(sent, Request)
    assert (sent.method, str(sent.cseq), sent.vias) == ("ACK", "7 ACK", transaction.request.vias)
    assert (sent.to.tag, sent.headers.get("Route")) == ("t", "<sip:p;lr>")
    assert give(transaction, Input.FAILURE) == [Send(sent)]  # once more, and nobody is told


def test_what_a_client_is_told_is_what_came() -> None:
    transaction = begin(Kind.CLIENT)
    response = transaction.request.response(404)
    assert Deliver(response) in transaction.handle(response)


@pytest.mark.parametrize(
    ("code", "what"), [(100, Input.PROVISIONAL), (199, Input.PROVISIONAL), (299, Input.SUCCESS), (300, Input.FAILURE)]
)
def test_inputs_of_responses(code: int, what: Input) -> None:
    assert input_of(Response(code, "")) is what
