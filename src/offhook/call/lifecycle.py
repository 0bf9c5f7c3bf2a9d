"""How an operation begins and ends, whatever its kind.

One play or recognition of a connection runs at a time. What is asked meanwhile waits for its turn, unless it comes with
`interrupt`: then everything before it is canceled. Operations of other connections, hold music, and the audio that apps
stream go on beside it; everybody hears the sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offhook.call import operation_messages as o
from offhook.call.model import step
from offhook.call.operations import (
    MAX_WAITING,
    OPERATION,
    QUEUE,
    Failure,
    Operation,
    OperationInput,
    OperationKind,
    OperationState,
    Problem,
)
from offhook.call.refusals import Refusal, Refused

if TYPE_CHECKING:
    from offhook.call.call import Call

# ------------------------------------------------------------------------------------------ the beginning


def enqueue(call: Call, operation: Operation, interrupt: bool) -> None:
    """Let a play or a recognition begin when its turn comes. Raises `Refused` when too many wait for theirs."""
    before = queue(call, operation.connection)
    if len(before) > MAX_WAITING and not interrupt:
        raise Refused(Refusal.TOO_MANY_OPERATIONS)
    if interrupt:
        cancel(call, before)
    call.data.operations[operation.id] = operation
    if interrupt or not before:
        begin(call, operation)


def queue(call: Call, connection: str) -> list[Operation]:
    """Return what a connection plays and recognises: the first one runs, the others wait."""
    return [each for each in call.data.operations.values() if each.connection == connection and each.kind in QUEUE]


def begin(call: Call, operation: Operation) -> None:
    operation.state = step(OPERATION, operation.state, OperationInput.PREPARE)
    call.effect(o.Prepare(operation.id))


# ------------------------------------------------------------------------------------------ the end


def tell(call: Call, operation: Operation, event: o.Event) -> None:
    call.notify(call.data.connections[operation.connection], event, operation.callback)


def take(call: Call, operation: Operation) -> None:
    """Take an operation out, and silence it."""
    del call.data.operations[operation.id]
    if operation.state is OperationState.PLAYING:
        call.effect(o.StopPlay(operation.id))
    if operation.ear:
        call.effect(o.StopListening(operation.id))
    call.effect(o.Release(operation.id))


def end(call: Call, operation: Operation, event: o.Event) -> None:
    """End one operation with `event`; it is the turn of the next one in the queue."""
    take(call, operation)
    tell(call, operation, event)
    waiting = queue(call, operation.connection)
    if waiting and waiting[0].state is OperationState.QUEUED:
        begin(call, waiting[0])


def fail(call: Call, operation: Operation, failure: Failure) -> None:
    end(call, operation, _failed(operation, failure))


def cancel(call: Call, operations: list[Operation]) -> None:
    """End operations from outside, in order; none takes the turn of another."""
    for operation in operations:
        take(call, operation)
    for operation in operations:
        if (event := _canceled(operation)) is not None:
            tell(call, operation, event)


def _failed(operation: Operation, failure: Failure) -> o.Event:
    match operation.kind:
        case OperationKind.PLAY:
            return o.PlayFailed(failure, operation.context)
        case OperationKind.RECOGNIZE:
            return o.RecognizeFailed(failure, operation.context)
        case OperationKind.HOLD:
            return o.HoldFailed(failure, operation.context)
        case OperationKind.WATCH_TONES:
            return o.ToneFailed(failure, operation.context)
        case OperationKind.SEND_TONES:
            return o.SendTonesFailed(failure, operation.context)


def _canceled(operation: Operation) -> o.Event | None:
    match operation.kind:
        case OperationKind.PLAY:
            return o.PlayCanceled(operation.context)
        case OperationKind.RECOGNIZE:
            return o.RecognizeCanceled(operation.context)
        case OperationKind.HOLD:
            return None  # ACS has no event for it: ParticipantsUpdated says that it is over.
        case OperationKind.WATCH_TONES:
            return o.TonesStopped(operation.context)
        case OperationKind.SEND_TONES:
            return o.SendTonesFailed(Failure(Problem.CANCELED), operation.context)


# ------------------------------------------------------------------------------------------ who leaves


def connection_left(call: Call, connection: str) -> None:
    """End what the app of a connection has begun: it hears of that before its CallDisconnected, and of nothing later.

    Whom it had put on hold is on hold no more: nobody might be left who could say so.
    """
    mine = [each for each in call.data.operations.values() if each.connection == connection]
    cancel(call, mine)
    for operation in mine:
        if operation.kind is OperationKind.HOLD:
            route(call, operation.to[0])


def party_left(call: Call, party: str) -> None:
    """End what is about nobody else than a party that has left, and forget that it was muted or on hold."""
    if party in present(call):
        return  # It is there on another leg.
    was_kept_apart = party in call.data.muted or party in held(call)
    call.data.muted.discard(party)
    for operation in [each for each in call.data.operations.values() if party in each.to]:
        if operation.to and present(call).isdisjoint(operation.to):
            if operation.kind is OperationKind.HOLD:
                take(call, operation)
            else:
                fail(call, operation, Failure(Problem.PARTY_LEFT))
    if was_kept_apart:
        route(call, party)


# ------------------------------------------------------------------------------------------ who is there


def present(call: Call) -> set[str]:
    """Return the raw ids of who is in the call."""
    return {participant.party for participant in call.participants()}


def check_present(call: Call, *parties: str) -> None:
    """Raise `Refused` unless all of the parties are in the call."""
    if not present(call).issuperset(parties):
        raise Refused(Refusal.PARTICIPANT_NOT_FOUND)


def held(call: Call) -> set[str]:
    """Return the raw ids of who is on hold."""
    return {each.to[0] for each in call.data.operations.values() if each.kind is OperationKind.HOLD}


def route(call: Call, party: str) -> None:
    """Let the worker know what holds of `party` now."""
    call.effect(o.RouteParty(party, party in call.data.muted, party in held(call)))
