"""Mute and hold: what parties are kept from. Who is on hold has an operation, the music; who is muted has nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offhook.call import lifecycle
from offhook.call import operation_messages as o
from offhook.call.operations import Failure, Operation, OperationKind

if TYPE_CHECKING:
    from offhook.call.call import Call


def mute(call: Call, command: o.Mute) -> None:
    call.established(command.connection)
    lifecycle.check_present(call, *command.parties)
    fresh = set(command.parties) - call.data.muted
    call.data.muted |= fresh
    for party in command.parties:
        if party in fresh:
            lifecycle.route(call, party)
    if fresh:
        call.participants_changed()


def hold(call: Call, command: o.Hold) -> None:
    """Who is on hold already hears this music instead."""
    connection = call.established(command.connection)
    lifecycle.check_present(call, command.party)
    before = _hold_of(call, command.party)
    if before is not None:
        lifecycle.take(call, before)
    operation = call.data.operations[command.operation] = Operation(
        command.operation,
        OperationKind.HOLD,
        connection.id,
        to=(command.party,),
        context=command.context,
        callback=command.callback,
        sources=() if command.music is None else (command.music,),
        loop=True,
    )
    if before is None:
        lifecycle.route(call, command.party)
        call.participants_changed()
    lifecycle.begin(call, operation)


def unhold(call: Call, command: o.Unhold) -> None:
    """Whoever put the party on hold; one that is not on hold stays as it is."""
    call.established(command.connection)
    lifecycle.check_present(call, command.party)
    operation = _hold_of(call, command.party)
    if operation is not None:
        lifecycle.take(call, operation)
        _let_go(call, command.party)


def fail(call: Call, operation: Operation, failure: Failure) -> None:
    """Without music there is no hold: the party is let go (recorded: E14)."""
    lifecycle.fail(call, operation, failure)
    _let_go(call, operation.to[0])


def _let_go(call: Call, party: str) -> None:
    lifecycle.route(call, party)
    call.participants_changed()


def _hold_of(call: Call, party: str) -> Operation | None:
    operations = call.data.operations.values()
    return next((each for each in operations if each.kind is OperationKind.HOLD and party in each.to), None)
