"""Plays, and what the sounds of all operations have in common: a play, the prompt of a recognition, hold music."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offhook.call import hold, recognize
from offhook.call import operation_messages as o
from offhook.call.lifecycle import cancel, check_present, end, enqueue, fail, queue, tell
from offhook.call.model import step
from offhook.call.operations import OPERATION, Failure, Operation, OperationInput, OperationKind, OperationState

if TYPE_CHECKING:
    from offhook.call.call import Call


def play(call: Call, command: o.Play) -> None:
    connection = call.established(command.connection)
    check_present(call, *command.to)
    operation = Operation(
        command.operation,
        OperationKind.PLAY,
        connection.id,
        to=command.to,
        context=command.context,
        callback=command.callback,
        sources=command.sources,
        loop=command.loop,
    )
    enqueue(call, operation, command.interrupt)


def cancel_media(call: Call, command: o.CancelMedia) -> None:
    connection = call.established(command.connection)
    cancel(call, queue(call, connection.id))


def prepared(call: Call, report: o.Prepared) -> None:
    """Play what there is. A source that failed is told of when those before it have been played (recorded: E25)."""
    operation = call.data.operations[report.operation]
    if operation.state is not OperationState.PREPARING:
        return
    operation.sources = ()  # They may be long, and nobody needs them any more.
    operation.failure = report.failure
    if report.clips:
        operation.state = step(OPERATION, operation.state, OperationInput.PLAY)
        call.effect(o.StartPlay(operation.id, report.clips))
        if operation.kind is OperationKind.RECOGNIZE:
            recognize.prompt_begins(call, operation)
    else:
        _over(call, operation, report.failure)


def play_began(call: Call, report: o.PlayBegan) -> None:
    """Only plays say so: neither the prompt of a recognition nor hold music does (recorded: E16, E17)."""
    operation = call.data.operations[report.operation]
    if operation.kind is OperationKind.PLAY:
        tell(call, operation, o.PlayStarted(operation.context))


def play_ended(call: Call, report: o.PlayEnded) -> None:
    operation = call.data.operations[report.operation]
    operation.state = step(OPERATION, operation.state, OperationInput.PLAYED)
    _over(call, operation, report.failure or operation.failure)


def _over(call: Call, operation: Operation, failure: Failure | None) -> None:
    match operation.kind:
        case OperationKind.HOLD if failure is not None:
            hold.fail(call, operation, failure)
        case OperationKind.RECOGNIZE if failure is None:
            recognize.listen(call, operation)
        case OperationKind.PLAY if failure is None:
            end(call, operation, o.PlayCompleted(operation.context))
        case _ if failure is not None:
            fail(call, operation, failure)
