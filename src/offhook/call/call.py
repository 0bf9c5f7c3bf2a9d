"""One call: every command and report goes through `Call.handle`, which answers with effects.

How a call lives. Somebody calls (a caller's leg, or an app by createCall) and somebody is *invited*. An invitation ends
in an answer (by a phone's leg, or by an app's connection), or it fails. The call lasts while somebody is in it who has
somebody to talk to, or to wait for: another member, or a pending invitation.

Rules of this file: the only state is `CallData`; states change only through `step` and the tables in `model`; a
command that does not apply raises `Refused`, a report that does not apply (it was overtaken) is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from offhook.call import messages as m
from offhook.call.model import (
    CONNECTION,
    LEG,
    STREAM,
    CallData,
    Connection,
    ConnectionInput,
    ConnectionState,
    EndCause,
    IllegalTransition,
    Invitation,
    Leg,
    LegInput,
    LegState,
    Participant,
    StreamFailure,
    StreamInput,
    StreamState,
    step,
)


class Refusal(Enum):
    """Why a command was refused; `server.api` has the one table from here to HTTP status and ACS code."""

    CALL_OVER = "Call not found."
    INVITATION_GONE = "The incoming call was already answered, rejected or redirected, or has ended."
    NOT_ESTABLISHED = "The call is not established yet."
    STREAMING_NOT_CONFIGURED = "Media streaming was not configured when the call was created or answered."


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class Call:
    """One conversation among legs, and the apps' connections to it."""

    def __init__(self, data: CallData) -> None:
        self.data = data
        self._effects: list[m.Effect] = []
        self._now = 0.0

    def handle(self, message: m.Message, now: float) -> list[m.Effect]:
        """Apply `message` at `now` (seconds, any monotonic clock) and return what has to be done, in order.

        Raises `Refused` when a command does not apply; the call is unchanged then.
        """
        self._effects = []
        self._now = now
        if self.data.over:
            if isinstance(message, m.Command):
                raise Refused(Refusal.CALL_OVER)
            return []
        _HANDLERS[type(message)](self, message)
        return self._effects

    # ------------------------------------------------------------------------------------------ commands

    def _place_call(self, command: m.PlaceCall) -> None:
        self.data.legs[command.leg] = Leg(command.leg, self.data.caller, LegState.WAITING, inviter=True)
        self.data.invitations[command.invitation] = Invitation(command.invitation, command.to)

    def _create_call(self, command: m.CreateCall) -> None:
        self.data.connections[command.connection.id] = command.connection
        for invitation, to in command.invitations.items():
            self._invite(invitation, to)

    def _answer(self, command: m.Answer) -> None:
        self._take(command.invitation)
        self.data.connections[command.connection.id] = command.connection
        if not self._connect_inviters():
            self._join_all()

    def _reject(self, command: m.Reject) -> None:
        self._take(command.invitation)
        self._settle(command.cause)

    def _redirect(self, command: m.Redirect) -> None:
        self._take(command.invitation)
        self._invite(command.new_invitation, command.to)

    def _hang_up(self, command: m.HangUp) -> None:
        self._leave(self._connection(command.connection), EndCause.HUNG_UP_BY_APP)
        self._settle(EndCause.REMOTE_LEFT)
        self._participants_changed()

    def _terminate(self, command: m.Terminate) -> None:
        self._leave(self._connection(command.connection), EndCause.HUNG_UP_BY_APP)
        self._finish(EndCause.ENDED_BY_OTHER_APP)

    def _end_call(self, command: m.EndCall) -> None:
        self._finish(command.cause)

    def _start_stream(self, command: m.StartStream) -> None:
        connection = self._established(command.connection)
        stream = connection.stream
        if stream.options is None:
            raise Refused(Refusal.STREAMING_NOT_CONFIGURED)
        was_active = stream.state is StreamState.ACTIVE
        stream.operation_context = command.operation_context
        stream.callback = command.callback
        if was_active:  # Nothing to open, but the app that asked waits for its event.
            self._notify(connection, m.StreamingStarted(command.operation_context), command.callback)
        elif stream.state is StreamState.OPENING:
            pass  # The event of the opening under way carries this context.
        else:
            self._open_stream(connection)

    def _stop_stream(self, command: m.StopStream) -> None:
        connection = self._established(command.connection)
        stream = connection.stream
        if stream.options is None:
            raise Refused(Refusal.STREAMING_NOT_CONFIGURED)
        was_open = stream.state is not StreamState.INACTIVE
        stream.state = step(STREAM, stream.state, StreamInput.STOP)
        context = command.operation_context or stream.operation_context
        self._notify(connection, m.StreamingStopped(context), command.callback)
        if was_open:
            self._effects.append(m.CloseStream(connection.id))

    # ------------------------------------------------------------------------------------------ reports

    def _leg_ready(self, report: m.LegReady) -> None:
        leg = self.data.legs[report.leg]
        leg.state = step(LEG, leg.state, LegInput.READY)
        for invitation in list(self.data.invitations.values()):
            self._invite(invitation.id, invitation.to)

    def _phone_rings(self, report: m.PhoneRings) -> None:
        invitation = self.data.invitations[report.invitation]
        invitation.leg = report.leg
        self.data.legs[report.leg] = Leg(report.leg, invitation.to, LegState.RINGING)

    def _leg_answered(self, report: m.LegAnswered) -> None:
        invitation = self._invitation_of(report.leg)
        if invitation is None:
            return  # It answered twice, or too late.
        self._take(invitation.id)
        self._effects.append(m.ConnectLeg(report.leg))
        self._connect_inviters()

    def _leg_connected(self, report: m.LegConnected) -> None:
        leg = self.data.legs[report.leg]
        leg.state = step(LEG, leg.state, LegInput.CONNECT)
        self._join_all()

    def _leg_ended(self, report: m.LegEnded) -> None:
        leg = self.data.legs[report.leg]
        was_connected = leg.state is LegState.CONNECTED
        leg.state = step(LEG, leg.state, LegInput.END)
        if (invitation := self._invitation_of(report.leg)) is not None:
            self._take(invitation.id)
        self._settle(report.cause)
        if was_connected:
            self._participants_changed()

    def _unreachable(self, report: m.Unreachable) -> None:
        self._give_up(report.invitation, report.cause)

    def _ring_timed_out(self, report: m.RingTimedOut) -> None:
        self._give_up(report.invitation, EndCause.NO_ANSWER)

    def _stream_opened(self, report: m.StreamOpened) -> None:
        connection = self._streaming(report.connection, report.epoch)
        stream = connection.stream
        stream.state = step(STREAM, stream.state, StreamInput.REOPENED if report.again else StreamInput.OPENED)
        self._notify(connection, m.StreamingStarted(stream.operation_context, report.again), stream.callback)

    def _stream_failed(self, report: m.StreamFailed) -> None:
        connection = self._streaming(report.connection, report.epoch)
        stream = connection.stream
        stream.state = step(STREAM, stream.state, StreamInput.FAILED)
        event = m.StreamingFailed(report.failure, report.detail, stream.operation_context)
        self._notify(connection, event, stream.callback)

    def _stream_closed(self, report: m.StreamClosed) -> None:
        connection = self._streaming(report.connection, report.epoch)
        stream = connection.stream
        stream.state = step(STREAM, stream.state, StreamInput.CLOSED)
        self._notify(connection, m.StreamingStopped(stream.operation_context), stream.callback)

    # ------------------------------------------------------------------------------------------ invitations

    def _invite(self, invitation: str, to: str) -> None:
        self.data.invitations[invitation] = Invitation(invitation, to)
        self._effects.append(m.Invite(invitation, to))
        self._effects.append(m.SetRingTimer(invitation, self.data.ring_timeout))

    def _take(self, invitation: str) -> None:
        """End an invitation, whichever way; whoever else still rings for it stops."""
        if self.data.invitations.pop(invitation, None) is None:
            raise Refused(Refusal.INVITATION_GONE)
        self._effects.append(m.Withdraw(invitation))

    def _give_up(self, invitation: str, cause: EndCause) -> None:
        leg = self.data.invitations[invitation].leg
        self._take(invitation)
        if leg is not None:
            self._end_leg(self.data.legs[leg], cause)
        self._settle(cause)

    def _invitation_of(self, leg: str) -> Invitation | None:
        return next((i for i in self.data.invitations.values() if i.leg == leg), None)

    # ------------------------------------------------------------------------------------------ members

    def _connection(self, id: str) -> Connection:
        connection = self.data.connections.get(id)
        if connection is None or connection.state is ConnectionState.DISCONNECTED:
            raise Refused(Refusal.CALL_OVER)
        return connection

    def _established(self, id: str) -> Connection:
        connection = self._connection(id)
        if connection.state is not ConnectionState.CONNECTED:
            raise Refused(Refusal.NOT_ESTABLISHED)
        return connection

    def _streaming(self, id: str, epoch: int) -> Connection:
        connection = self.data.connections[id]
        if connection.stream.epoch != epoch:
            raise KeyError(epoch)  # A report about an earlier opening.
        return connection

    def _connect_inviters(self) -> bool:
        """Connect the callers that hear ringing; whether there were any."""
        ringing = [leg for leg in self.data.legs.values() if leg.inviter and leg.state is LegState.RINGING]
        self._effects.extend(m.ConnectLeg(leg.id) for leg in ringing)
        return bool(ringing)

    def _join_all(self) -> None:
        for connection in self.data.connections.values():
            if connection.state is ConnectionState.CONNECTING:
                connection.state = step(CONNECTION, connection.state, ConnectionInput.JOIN)
                self._notify(connection, m.CallConnected(connection.operation_context))
        self._participants_changed()
        for connection in self.data.connections.values():
            options = connection.stream.options
            fresh = connection.state is ConnectionState.CONNECTED and connection.stream.epoch == 0
            if fresh and options is not None and options.start:
                connection.stream.operation_context = connection.operation_context
                self._open_stream(connection)

    def _open_stream(self, connection: Connection) -> None:
        stream = connection.stream
        assert stream.options is not None
        stream.state = step(STREAM, stream.state, StreamInput.START)
        stream.epoch += 1
        self._effects.append(m.OpenStream(connection.id, stream.epoch, stream.options))

    def _end_leg(self, leg: Leg, cause: EndCause) -> None:
        leg.state = step(LEG, leg.state, LegInput.END)
        self._effects.append(m.EndLeg(leg.id, cause))

    def _leave(self, connection: Connection, cause: EndCause) -> None:
        """Take one connection out: its stream first, CallDisconnected last, nothing after it (contract 4.6)."""
        stream = connection.stream
        if stream.state is StreamState.OPENING:
            failed = m.StreamingFailed(
                StreamFailure.SHUTDOWN, "the call ended while the socket was opening", stream.operation_context
            )
            self._notify(connection, failed, stream.callback)
        elif stream.state is StreamState.ACTIVE:
            self._notify(connection, m.StreamingStopped(stream.operation_context), stream.callback)
        if stream.state in (StreamState.OPENING, StreamState.ACTIVE):
            stream.state = step(STREAM, stream.state, StreamInput.STOP)
            self._effects.append(m.CloseStream(connection.id))
        if connection.state is ConnectionState.CONNECTING and cause is not EndCause.HUNG_UP_BY_APP:
            failed_event = m.CreateCallFailed if connection.created else m.AnswerFailed
            self._notify(connection, failed_event(cause, connection.operation_context))
        connection.state = step(CONNECTION, connection.state, ConnectionInput.LEAVE)
        self._notify(connection, m.CallDisconnected(cause, connection.operation_context))

    def _settle(self, cause: EndCause) -> None:
        """End the call when nobody is in it, or one member alone who waits for nobody."""
        legs = [leg for leg in self.data.legs.values() if leg.state is not LegState.ENDED]
        members = [leg for leg in legs if self._invitation_of(leg.id) is None]
        alive = [c for c in self.data.connections.values() if c.state is not ConnectionState.DISCONNECTED]
        inside = len(members) + len(alive)
        if not inside or inside + len(self.data.invitations) < 2:
            self._finish(cause)

    def _finish(self, cause: EndCause) -> None:
        for invitation in list(self.data.invitations):
            self._take(invitation)
        for connection in self.data.connections.values():
            if connection.state is not ConnectionState.DISCONNECTED:
                self._leave(connection, cause)
        for leg in self.data.legs.values():
            if leg.state is not LegState.ENDED:
                self._end_leg(leg, cause)
        self.data.over = True
        self._effects.append(m.CallOver())

    # ------------------------------------------------------------------------------------------ participants

    def participants(self) -> tuple[Participant, ...]:
        """Who is in the call: connected legs and connected apps, in the order of joining."""
        legs = [leg.party for leg in self.data.legs.values() if leg.state is LegState.CONNECTED]
        apps = [c.party for c in self.data.connections.values() if c.state is ConnectionState.CONNECTED]
        return tuple(Participant(party) for party in dict.fromkeys([*legs, *apps]))

    def _participants_changed(self) -> None:
        participants = self.participants()
        for connection in self.data.connections.values():
            if connection.state is ConnectionState.CONNECTED:
                connection.sequence += 1
                self._notify(connection, m.ParticipantsUpdated(participants, connection.sequence))

    def _notify(self, connection: Connection, event: m.Event, callback: str | None = None) -> None:
        self._effects.append(m.Notify(connection.id, event, callback))


def _drop_if_overtaken(handler: Callable[[Call, Any], None]) -> Callable[[Call, Any], None]:
    """A report about something that is gone or has moved on is dropped: reports race with commands by nature."""

    def handle(call: Call, report: m.Report) -> None:
        try:
            handler(call, report)
        except (KeyError, IllegalTransition):
            call._effects.clear()

    return handle


_HANDLERS: dict[type, Callable[[Call, Any], None]] = {
    m.PlaceCall: Call._place_call,
    m.CreateCall: Call._create_call,
    m.Answer: Call._answer,
    m.Reject: Call._reject,
    m.Redirect: Call._redirect,
    m.HangUp: Call._hang_up,
    m.Terminate: Call._terminate,
    m.EndCall: Call._end_call,
    m.StartStream: Call._start_stream,
    m.StopStream: Call._stop_stream,
    m.LegReady: _drop_if_overtaken(Call._leg_ready),
    m.PhoneRings: _drop_if_overtaken(Call._phone_rings),
    m.LegAnswered: _drop_if_overtaken(Call._leg_answered),
    m.LegConnected: _drop_if_overtaken(Call._leg_connected),
    m.LegEnded: _drop_if_overtaken(Call._leg_ended),
    m.Unreachable: _drop_if_overtaken(Call._unreachable),
    m.RingTimedOut: _drop_if_overtaken(Call._ring_timed_out),
    m.StreamOpened: _drop_if_overtaken(Call._stream_opened),
    m.StreamFailed: _drop_if_overtaken(Call._stream_failed),
    m.StreamClosed: _drop_if_overtaken(Call._stream_closed),
}
