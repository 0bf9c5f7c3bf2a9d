"""Keys that parties press, told one by one to whoever watches them; and tones that are sent to a party."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offhook.call import operation_messages as o
from offhook.call import recognize
from offhook.call.lifecycle import check_present, end, fail, tell
from offhook.call.model import LegState
from offhook.call.operations import (
    MAX_SENDING,
    Failure,
    Operation,
    OperationKind,
    OperationState,
    Problem,
)
from offhook.call.refusals import Refusal, Refused

if TYPE_CHECKING:
    from offhook.call.call import Call


def watch(call: Call, command: o.WatchTones) -> None:
    """One that is watched already goes on being watched, with this context and callback."""
    connection = call.established(command.connection)
    check_present(call, command.party)
    operation = _watch_of(call, connection.id, command.party)
    if operation is None:
        operation = Operation(
            command.operation,
            OperationKind.WATCH_TONES,
            connection.id,
            to=(command.party,),
            state=OperationState.RUNNING,
        )
        call.data.operations[operation.id] = operation
    operation.context, operation.callback = command.context, command.callback


def unwatch(call: Call, command: o.UnwatchTones) -> None:
    """The event comes also when nothing was to be stopped: the app waits for it."""
    connection = call.established(command.connection)
    operation = _watch_of(call, connection.id, command.party)
    if operation is None:
        call.notify(connection, o.TonesStopped(command.context), command.callback)
        return
    context = command.context or operation.context
    operation.callback = command.callback or operation.callback
    end(call, operation, o.TonesStopped(context))


def send(call: Call, command: o.SendTones) -> None:
    connection = call.established(command.connection)
    legs = call.data.legs.values()
    leg = next((leg for leg in legs if leg.party == command.party and leg.state is LegState.CONNECTED), None)
    if leg is None:
        raise Refused(Refusal.PARTICIPANT_NOT_FOUND)
    if _count(call, connection.id) >= MAX_SENDING:
        raise Refused(Refusal.TOO_MANY_OPERATIONS)
    operation = call.data.operations[command.operation] = Operation(
        command.operation,
        OperationKind.SEND_TONES,
        connection.id,
        to=(command.party,),
        state=OperationState.RUNNING,
        context=command.context,
        callback=command.callback,
        tones=command.tones,
    )
    call.effect(o.PressTones(operation.id, leg.id))


def sent(call: Call, report: o.TonesSent) -> None:
    operation = call.data.operations[report.operation]
    if report.failure:
        fail(call, operation, Failure(Problem.NOT_SENT, report.failure))
    else:
        end(call, operation, o.SendTonesCompleted(operation.context))


def pressed(call: Call, report: o.TonesPressed) -> None:
    """A key counts for everyone who watches its party, and for every recognition that listens to it."""
    party = call.data.legs[report.leg].party
    for tone in report.tones:
        for operation in [each for each in call.data.operations.values() if each.to == (party,)]:
            if operation.kind is OperationKind.WATCH_TONES:
                operation.sequence += 1
                tell(call, operation, o.ToneReceived(tone, operation.sequence, operation.context))
            elif operation.kind is OperationKind.RECOGNIZE:
                recognize.pressed(call, operation, tone)


def _watch_of(call: Call, connection: str, party: str) -> Operation | None:
    for each in call.data.operations.values():
        if each.kind is OperationKind.WATCH_TONES and each.connection == connection and each.to == (party,):
            return each
    return None


def _count(call: Call, connection: str) -> int:
    operations = call.data.operations.values()
    return sum(each.kind is OperationKind.SEND_TONES and each.connection == connection for each in operations)
