"""One call: every command and report goes through `Call.handle`, which answers with effects.

How a call lives. Somebody calls (a caller's leg, or an app by createCall) and somebody is *invited*. An invitation ends
in an answer (by a phone's leg, or by an app's connection), or it fails. The call lasts while somebody is in it who has
somebody to talk to, or to wait for: another member, or a pending invitation.

Rules of this file: the only state is `CallData`; states change only through `step` and the tables in `model`; a
command that does not apply raises `Refused`, a report that does not apply (it was overtaken) is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from offhook.call import hold, lifecycle, people, play, recognize, referral, streaming, tones, transfer
from offhook.call import messages as m
from offhook.call import operation_messages as o
from offhook.call import people_messages as p
from offhook.call.model import (
    CONNECTION,
    LEG,
    Asker,
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
    Release,
    step,
)
from offhook.call.refusals import Refusal as Refusal
from offhook.call.refusals import Refused as Refused


class Call:
    """One conversation among legs, and the apps' connections to it."""

    def __init__(self, data: CallData) -> None:
        self.data = data
        self._effects: list[m.Effect] = []
        self._now = 0.0
        self._message: m.Message | None = None

    def handle(self, message: m.Message, now: float) -> list[m.Effect]:
        """Apply `message` at `now` (seconds, any monotonic clock) and return what has to be done, in order.

        Raises `Refused` when a command does not apply; the call is unchanged then.
        """
        self._effects = []
        self._now = now
        self._message = message
        if self.data.over:
            if isinstance(message, m.Command):
                raise Refused(Refusal.CALL_OVER)
            return []
        _HANDLERS[type(message)](self, message)
        return self._effects

    # ------------------------------------------------------------------------------------------ commands

    def _place_call(self, command: m.PlaceCall) -> None:
        self.data.legs[command.leg] = Leg(command.leg, self.data.caller, LegState.WAITING, inviter=True)
        self.data.invitations[command.invitation] = Invitation(command.invitation, command.to, dialled=True)

    def _create_call(self, command: m.CreateCall) -> None:
        self.data.connections[command.connection.id] = command.connection
        for invitation, to in command.invitations.items():
            self.invite(Invitation(invitation, to))

    def _answer(self, command: m.Answer) -> None:
        invitation = self.take(command.invitation)
        self.data.connections[command.connection.id] = command.connection
        if not self._connect_inviters():
            referral.succeeded(self, invitation)
            self.join_all()
            people.added(self, invitation)

    def _reject(self, command: m.Reject) -> None:
        self._stays_away(self.take(command.invitation), command.cause)
        self.settle(command.cause)

    def _redirect(self, command: m.Redirect) -> None:
        invitation = self.take(command.invitation)
        self.invite(replace(invitation, id=command.new_invitation, to=command.to, leg=None, dialled=False))

    def _hang_up(self, command: m.HangUp) -> None:
        self.leave(self._connection(command.connection), EndCause.HUNG_UP_BY_APP)
        self.settle(EndCause.REMOTE_LEFT)
        self.party_left(self.data.connections[command.connection].party)

    def _terminate(self, command: m.Terminate) -> None:
        self.leave(self._connection(command.connection), EndCause.HUNG_UP_BY_APP)
        self.finish(EndCause.ENDED_BY_OTHER_APP)

    def _end_call(self, command: m.EndCall) -> None:
        self.finish(command.cause)

    # ------------------------------------------------------------------------------------------ reports

    def _leg_ready(self, report: m.LegReady) -> None:
        leg = self.data.legs[report.leg]
        leg.state = step(LEG, leg.state, LegInput.READY)
        if leg.instead_of is not None:
            self._effects.append(m.ConnectLeg(leg.id))
            return
        for invitation in list(self.data.invitations.values()):
            self.invite(invitation)

    def _phone_rings(self, report: m.PhoneRings) -> None:
        invitation = self.data.invitations[report.invitation]
        invitation.leg = report.leg
        self.data.legs[report.leg] = Leg(report.leg, invitation.to, LegState.RINGING)
        if invitation.instead_of is not None:
            self._effects.append(p.ReferralRings(invitation.instead_of))

    def _leg_answered(self, report: m.LegAnswered) -> None:
        invitation = self._invitation_of(report.leg)
        if invitation is None:
            return  # It answered twice, or too late.
        self._pass_on(self.take(invitation.id), self.data.legs[report.leg])
        self._effects.append(m.ConnectLeg(report.leg))
        self._connect_inviters()

    def _leg_connected(self, report: m.LegConnected) -> None:
        leg = self.data.legs[report.leg]
        leg.state = step(LEG, leg.state, LegInput.CONNECT)
        referral.succeeded(self, leg)
        self.join_all()
        people.added(self, leg)

    def _leg_ended(self, report: m.LegEnded) -> None:
        leg = self.data.legs[report.leg]
        was_connected = leg.state is LegState.CONNECTED
        leg.state = step(LEG, leg.state, LegInput.END)
        if (invitation := self._invitation_of(report.leg)) is not None:
            self._pass_on(self.take(invitation.id), leg)
        self._leg_left(leg, report.cause)
        self.settle(report.cause)
        if was_connected:
            self.party_left(leg.party)

    def _unreachable(self, report: m.Unreachable) -> None:
        self.give_up(report.invitation, report.cause)

    def _ring_timed_out(self, report: m.RingTimedOut) -> None:
        self.give_up(report.invitation, EndCause.NO_ANSWER)

    # ------------------------------------------------------------------------------------------ invitations

    def invite(self, invitation: Invitation) -> None:
        self.data.invitations[invitation.id] = invitation
        seconds = self.data.ring_timeout if invitation.ring_timeout is None else invitation.ring_timeout
        self._effects.append(m.Invite(invitation.id, invitation.to))
        self._effects.append(m.SetRingTimer(invitation.id, seconds))

    def take(self, id: str) -> Invitation:
        """End an invitation, whichever way; whoever else still rings for it stops."""
        invitation = self.data.invitations.pop(id, None)
        if invitation is None:
            raise Refused(Refusal.INVITATION_GONE)
        self._effects.append(m.Withdraw(id))
        return invitation

    def give_up(self, id: str, cause: EndCause) -> None:
        """End an invitation that nobody has answered."""
        invitation = self.data.invitations[id]
        self.take(id)
        if invitation.leg is not None:
            self.end_leg(self.data.legs[invitation.leg], cause)
        self._stays_away(invitation, cause)
        self.settle(cause)

    def _stays_away(self, guest: Invitation | Leg, cause: EndCause) -> None:
        """Whoever wanted him in the call is told that he does not come."""
        people.not_added(self, guest, cause)
        referral.failed(self, guest, cause)

    @staticmethod
    def _pass_on(invitation: Invitation, leg: Leg) -> None:
        """What was asked with an invitation is, from its answer on, asked of the leg."""
        leg.addition, leg.instead_of = invitation.addition, invitation.instead_of

    def _invitation_of(self, leg: str) -> Invitation | None:
        return next((i for i in self.data.invitations.values() if i.leg == leg), None)

    # ------------------------------------------------------------------------------------------ members

    def _connection(self, id: str) -> Connection:
        connection = self.data.connections.get(id)
        if connection is None or connection.state is ConnectionState.DISCONNECTED:
            raise Refused(Refusal.CALL_OVER)
        return connection

    def established(self, id: str) -> Connection:
        connection = self._connection(id)
        if connection.state is not ConnectionState.CONNECTED:
            raise Refused(Refusal.NOT_ESTABLISHED)
        return connection

    def _connect_inviters(self) -> bool:
        """Connect the callers that hear ringing; whether there were any."""
        ringing = [leg for leg in self.data.legs.values() if leg.inviter and leg.state is LegState.RINGING]
        for leg in ringing:
            if leg.of_call is None:
                self._effects.append(m.ConnectLeg(leg.id))
            else:
                self._effects.append(p.Tell(leg.of_call, p.TransferAnswered(self.data.id)))
        return bool(ringing)

    def join_all(self) -> None:
        """Whoever has answered is in the call, and everybody is told who is."""
        for connection in self.data.connections.values():
            if connection.state is ConnectionState.CONNECTING:
                connection.state = step(CONNECTION, connection.state, ConnectionInput.JOIN)
                self.notify(connection, m.CallConnected(connection.operation_context))
        self.participants_changed()
        streaming.joined(self)

    def end_leg(self, leg: Leg, cause: EndCause) -> None:
        leg.state = step(LEG, leg.state, LegInput.END)
        if leg.of_call is not None:  # It is not ours to end: it stays where it is.
            self._effects.append(p.Tell(leg.of_call, p.TransferEnded(self.data.id, cause, self._release(cause))))
            return
        self._effects.append(m.EndLeg(leg.id, cause))
        self._leg_left(leg, cause)

    def _leg_left(self, leg: Leg, cause: EndCause) -> None:
        self._stays_away(leg, cause)
        transfer.leg_left(self, leg)

    def leave(self, connection: Connection, cause: EndCause) -> None:
        """Take one connection out: what it has begun ends first, then its stream; after CallDisconnected comes nothing
        (contract 4.6)."""
        lifecycle.connection_left(self, connection.id)
        streaming.left(self, connection)
        if connection.state is ConnectionState.CONNECTING and cause is not EndCause.HUNG_UP_BY_APP:
            self.notify(connection, _failed(connection, cause))
        connection.state = step(CONNECTION, connection.state, ConnectionInput.LEAVE)
        self.notify(connection, m.CallDisconnected(cause, connection.operation_context))

    def settle(self, cause: EndCause) -> None:
        """End the call when nobody is in it, or one member alone who waits for nobody.

        Who is to come in a member's place is nobody that this one waits for. An app that has joined is company, but no
        member: a call of such apps alone ends, unless it is a group's or a room's, which lasts as long as any app is in
        it.
        """
        legs = [leg for leg in self.data.legs.values() if leg.state is not LegState.ENDED]
        alive = [app for app in self.data.connections.values() if app.state is not ConnectionState.DISCONNECTED]
        if self.data.locator is not None and alive:
            return
        here = {leg.id for leg in legs}
        talking = sum(self._invitation_of(leg.id) is None and leg.instead_of not in here for leg in legs)
        members = talking + sum(not app.joined for app in alive)
        coming = sum(each.instead_of not in here for each in self.data.invitations.values())
        company = sum(app.joined for app in alive) + coming
        if not members or members + company < 2:
            self.finish(cause)

    def finish(self, cause: EndCause) -> None:
        guests: list[Invitation | Leg] = [*self.data.legs.values(), *self.data.invitations.values()]
        for guest in guests:
            self._stays_away(guest, EndCause.CANCELED)
        transfer.call_ends(self)
        for invitation in list(self.data.invitations):
            self.take(invitation)
        for connection in self.data.connections.values():
            if connection.state is not ConnectionState.DISCONNECTED:
                self.leave(connection, cause)
        for leg in self.data.legs.values():
            if leg.state is not LegState.ENDED:
                self.end_leg(leg, cause)
        self.data.over = True
        self._effects.append(m.CallOver())

    # ------------------------------------------------------------------------------------------ participants

    def participants(self) -> tuple[Participant, ...]:
        """Who is in the call: connected legs and connected apps, in the order of joining."""
        legs = [leg.party for leg in self.data.legs.values() if leg.state is LegState.CONNECTED]
        apps = [
            app.party
            for app in self.data.connections.values()
            if app.state is ConnectionState.CONNECTED and not app.joined
        ]
        held = lifecycle.held(self)
        return tuple(
            Participant(party, party in self.data.muted, party in held) for party in dict.fromkeys([*legs, *apps])
        )

    def party_left(self, party: str) -> None:
        """Somebody has left, and the call goes on if it is not over."""
        if not self.data.over:
            lifecycle.party_left(self, party)
            self.participants_changed()

    def participants_changed(self) -> None:
        participants = self.participants()
        for connection in self.data.connections.values():
            if connection.state is ConnectionState.CONNECTED:
                connection.sequence += 1
                self.notify(connection, m.ParticipantsUpdated(participants, connection.sequence))

    # ------------------------------------------------------------------------------------------ effects

    def notify(self, connection: Connection, event: m.Event, callback: str | None = None) -> None:
        release = self._release(event.cause) if isinstance(event, m.End) else None
        self._effects.append(m.Notify(connection.id, event, callback, release))

    def _release(self, cause: EndCause) -> Release | None:
        """Return what signalling said of the end that is being handled, if `cause` is why that came."""
        report = self._message
        return report.release if isinstance(report, m.LegEnded | p.TransferEnded) and report.cause is cause else None

    def tell(self, asker: Asker, event: m.Event) -> None:
        """Tell who asked for something how that has ended, if it still is in the call."""
        connection = self.data.connections.get(asker.connection)
        if connection is not None and connection.state is not ConnectionState.DISCONNECTED:
            self.notify(connection, event, asker.callback)

    def effect(self, effect: m.Effect) -> None:
        self._effects.append(effect)


def _failed(connection: Connection, cause: EndCause) -> m.Event:
    """Return what an app is told whose call has never been established."""
    if connection.joined:
        return p.ConnectFailed(cause, connection.operation_context)
    if connection.created:
        return m.CreateCallFailed(cause, connection.operation_context)
    return m.AnswerFailed(cause, connection.operation_context)


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
    m.StartStream: streaming.start,
    m.StopStream: streaming.stop,
    m.LegReady: _drop_if_overtaken(Call._leg_ready),
    m.PhoneRings: _drop_if_overtaken(Call._phone_rings),
    m.LegAnswered: _drop_if_overtaken(Call._leg_answered),
    m.LegConnected: _drop_if_overtaken(Call._leg_connected),
    m.LegEnded: _drop_if_overtaken(Call._leg_ended),
    m.Unreachable: _drop_if_overtaken(Call._unreachable),
    m.RingTimedOut: _drop_if_overtaken(Call._ring_timed_out),
    m.StreamOpened: _drop_if_overtaken(streaming.opened),
    m.StreamFailed: _drop_if_overtaken(streaming.failed),
    m.StreamClosed: _drop_if_overtaken(streaming.closed),
    p.AddParticipant: people.add,
    p.CancelAdd: people.cancel,
    p.RemoveParticipant: people.remove,
    p.Join: people.join,
    p.TransferParticipant: transfer.transfer,
    p.PlaceTransfer: transfer.place,
    p.MoveHere: transfer.move_here,
    p.Refer: referral.refer,
    p.TakePlace: referral.take_place,
    p.HandAllOver: transfer.hand_all_over,
    p.TransferAnswered: _drop_if_overtaken(transfer.answered),
    p.TransferEnded: _drop_if_overtaken(transfer.ended),
    p.TransferDone: _drop_if_overtaken(transfer.done),
    p.Abandoned: _drop_if_overtaken(transfer.abandoned),
    p.Wanted: _drop_if_overtaken(transfer.wanted),
    p.NotMoved: _drop_if_overtaken(transfer.not_moved),
    p.LegArrived: _drop_if_overtaken(transfer.arrived),
    o.Play: play.play,
    o.Recognize: recognize.recognize,
    o.CancelMedia: play.cancel_media,
    o.WatchTones: tones.watch,
    o.UnwatchTones: tones.unwatch,
    o.SendTones: tones.send,
    o.Mute: hold.mute,
    o.Hold: hold.hold,
    o.Unhold: hold.unhold,
    o.Prepared: _drop_if_overtaken(play.prepared),
    o.PlayBegan: _drop_if_overtaken(play.play_began),
    o.PlayEnded: _drop_if_overtaken(play.play_ended),
    o.SpeechBegan: _drop_if_overtaken(recognize.speech_began),
    o.SpeechEnded: _drop_if_overtaken(recognize.speech_ended),
    o.Recognised: _drop_if_overtaken(recognize.recognised),
    o.RecognitionFailed: _drop_if_overtaken(recognize.recognition_failed),
    o.TonesPressed: _drop_if_overtaken(tones.pressed),
    o.TonesSent: _drop_if_overtaken(tones.sent),
    o.TimedOut: _drop_if_overtaken(recognize.timed_out),
}
