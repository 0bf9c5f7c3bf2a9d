"""The media stream of a connection: it starts and stops, as the app asks, as its socket does, and as the app leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offhook.call import messages as m
from offhook.call.model import STREAM, Connection, ConnectionState, StreamFailure, StreamInput, StreamState, step
from offhook.call.refusals import Refusal, Refused

if TYPE_CHECKING:
    from offhook.call.call import Call

# ------------------------------------------------------------------------------------------ commands


def start(call: Call, command: m.StartStream) -> None:
    connection = call.established(command.connection)
    stream = connection.stream
    if stream.options is None:
        raise Refused(Refusal.STREAMING_NOT_CONFIGURED)
    was_active = stream.state is StreamState.ACTIVE
    stream.operation_context = command.operation_context
    stream.callback = command.callback
    if was_active:  # Nothing to open, but the app that asked waits for its event.
        call.notify(connection, m.StreamingStarted(command.operation_context), command.callback)
    elif stream.state is StreamState.OPENING:
        pass  # The event of the opening under way carries this context.
    else:
        _open(call, connection)


def stop(call: Call, command: m.StopStream) -> None:
    connection = call.established(command.connection)
    stream = connection.stream
    if stream.options is None:
        raise Refused(Refusal.STREAMING_NOT_CONFIGURED)
    was_open = stream.state is not StreamState.INACTIVE
    stream.state = step(STREAM, stream.state, StreamInput.STOP)
    context = command.operation_context or stream.operation_context
    call.notify(connection, m.StreamingStopped(context), command.callback)
    if was_open:
        call.effect(m.CloseStream(connection.id))


# ------------------------------------------------------------------------------------------ reports


def opened(call: Call, report: m.StreamOpened) -> None:
    connection = _of(call, report.connection, report.epoch)
    stream = connection.stream
    stream.state = step(STREAM, stream.state, StreamInput.REOPENED if report.again else StreamInput.OPENED)
    call.notify(connection, m.StreamingStarted(stream.operation_context, report.again), stream.callback)


def failed(call: Call, report: m.StreamFailed) -> None:
    connection = _of(call, report.connection, report.epoch)
    stream = connection.stream
    stream.state = step(STREAM, stream.state, StreamInput.FAILED)
    event = m.StreamingFailed(report.failure, report.detail, stream.operation_context)
    call.notify(connection, event, stream.callback)


def closed(call: Call, report: m.StreamClosed) -> None:
    connection = _of(call, report.connection, report.epoch)
    stream = connection.stream
    stream.state = step(STREAM, stream.state, StreamInput.CLOSED)
    call.notify(connection, m.StreamingStopped(stream.operation_context), stream.callback)


def _of(call: Call, id: str, epoch: int) -> Connection:
    connection = call.data.connections[id]
    if connection.stream.epoch != epoch:
        raise KeyError(epoch)  # A report about an earlier opening.
    return connection


# ------------------------------------------------------------------------------------------ joining and leaving


def joined(call: Call) -> None:
    """Open the streams of those that have joined and want theirs from the start."""
    for connection in call.data.connections.values():
        options = connection.stream.options
        fresh = connection.state is ConnectionState.CONNECTED and connection.stream.epoch == 0
        if fresh and options is not None and options.start:
            connection.stream.operation_context = connection.operation_context
            _open(call, connection)


def left(call: Call, connection: Connection) -> None:
    """The app leaves: its stream closes, and it hears of that."""
    stream = connection.stream
    if stream.state is StreamState.OPENING:
        failed = m.StreamingFailed(
            StreamFailure.SHUTDOWN, "the call ended while the socket was opening", stream.operation_context
        )
        call.notify(connection, failed, stream.callback)
    elif stream.state is StreamState.ACTIVE:
        call.notify(connection, m.StreamingStopped(stream.operation_context), stream.callback)
    if stream.state in (StreamState.OPENING, StreamState.ACTIVE):
        stream.state = step(STREAM, stream.state, StreamInput.STOP)
        call.effect(m.CloseStream(connection.id))


def _open(call: Call, connection: Connection) -> None:
    stream = connection.stream
    assert stream.options is not None
    stream.state = step(STREAM, stream.state, StreamInput.START)
    stream.epoch += 1
    call.effect(m.OpenStream(connection.id, stream.epoch, stream.options))
