"""The control process's heart: it holds the Calls, routes invitations, and carries out what the Calls want done.

Nothing here waits: commands and tidings are handled at once, orders go down the link, events into the webhooks'
queues. A message that follows from an effect is handled after the effects before it, never in between.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from offhook.call import messages as m
from offhook.call.call import Call, Refusal, Refused
from offhook.call.model import (
    CallData,
    Connection,
    EndCause,
    MediaStream,
    Participant,
    StreamFailure,
    StreamOptions,
    StreamState,
)
from offhook.media import link
from offhook.wire.ids import IdMint

log = logging.getLogger(__name__)

FINISHED = 200  # calls whose record is kept after their end
TIMELINE = 500  # entries of one call's timeline; the newest are kept


class Busy(Exception):
    """No more calls: the server holds as many as it may."""


class Notifier(Protocol):
    """Where events go."""

    def notify(self, call: CallData, connection: Connection, event: m.Event, callback: str | None) -> None: ...

    def offer(self, call: CallData, to: str, context: str, seconds: float) -> bool:
        """Tell the apps of an incoming call; False when none listens."""


@dataclass
class CallRecord:
    """A call, what only the control process knows of it, and what is told about it."""

    call: Call
    began: float  # Unix seconds
    original: str | None = None  # the invitation of the number that was dialled, when a caller dialled it
    stats: dict[str, dict[str, int]] = field(default_factory=dict)  # of its streams, when they have ended
    timeline: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=TIMELINE))

    @property
    def data(self) -> CallData:
        return self.call.data


@dataclass
class Phone:
    """A simulated phone that waits for calls."""

    leg: str
    party: str
    attached: bool = False
    call: str | None = None


class Control:
    """Must be made on a running event loop. `wall` gives Unix time in seconds."""

    def __init__(
        self,
        *,
        end: link.LinkEnd,
        notifier: Notifier,
        ids: IdMint,
        socket_token: Callable[[], str],
        wall: Callable[[], float],
        ring_timeout_s: float = 60.0,
        max_calls: int = 1000,
    ) -> None:
        self._link = end
        self._notifier = notifier
        self._ids = ids
        self._socket_token = socket_token
        self._wall = wall
        self._ring_timeout_s = ring_timeout_s
        self._max_calls = max_calls
        self._loop = asyncio.get_running_loop()
        self.calls: dict[str, CallRecord] = {}
        self.finished: deque[CallRecord] = deque(maxlen=FINISHED)
        self.phones: dict[str, Phone] = {}
        self._by_connection: dict[str, CallRecord] = {}
        self._by_leg: dict[str, CallRecord] = {}
        self._by_stream: dict[str, tuple[CallRecord, str, int]] = {}
        self._offers: dict[str, tuple[CallRecord, str]] = {}  # by token of the incomingCallContext
        self._tokens: dict[str, str] = {}  # of an invitation
        self._ring_timers: dict[str, asyncio.TimerHandle] = {}
        self._follow_ups: deque[tuple[CallRecord, m.Message]] = deque()
        self._busy = False
        end.on_receive(self._on_tiding)

    # ------------------------------------------------------------------------------------------ what the API asks

    def place_call(self, caller: str, to: str, rate: int, name: str = "", context: Any = None) -> tuple[str, str, str]:
        """A simulated caller calls `to`; return (call id, leg id, token of its audio socket)."""
        record = self._new_call(caller, name, context)
        leg, invitation, token = self._ids.guid(), self._ids.guid(), secrets.token_urlsafe(24)
        record.original = invitation
        self._by_leg[leg] = record
        self._link.send(link.ExpectLeg(leg, token, rate, record.data.id))
        self._submit(record, m.PlaceCall(leg, invitation, to))
        return record.data.id, leg, token

    def create_call(self, connection: Connection, targets: list[str], caller: str, name: str) -> CallData:
        """An app calls `targets`, who see `caller` (a raw id) and `name`."""
        record = self._new_call(caller, name, None)
        self._by_connection[connection.id] = record
        self._submit(record, m.CreateCall(connection, {self._ids.guid(): target for target in targets}))
        return record.data

    def answer(self, token: str, connection: Connection) -> None:
        """An app takes the incoming call that `token` stands for."""
        record, invitation = self._offer(token)
        self._by_connection[connection.id] = record
        self._submit(record, m.Answer(invitation, connection))

    def reject(self, token: str, cause: EndCause) -> None:
        record, invitation = self._offer(token)
        self._submit(record, m.Reject(invitation, cause))

    def redirect(self, token: str, to: str) -> None:
        record, invitation = self._offer(token)
        self._submit(record, m.Redirect(invitation, self._ids.guid(), to))

    def command(self, connection: str, command: m.Command) -> None:
        """Apply a command of the app that holds `connection`."""
        self._submit(self.record_of(connection), command)

    def record_of(self, connection: str) -> CallRecord:
        """Return the live call of a connection; raise `Refused` when there is none."""
        record = self._by_connection.get(connection)
        if record is None:
            raise Refused(Refusal.CALL_OVER)
        return record

    def connection(self, id: str) -> tuple[CallData, Connection]:
        """Return a live connection and its call; raise `Refused` when it has ended."""
        record = self.record_of(id)
        return record.data, record.data.connections[id]

    def participants(self, connection: str) -> tuple[Participant, ...]:
        """Return who is in the call of a live connection; raise `Refused` when it has ended."""
        return self.record_of(connection).call.participants()

    def offered_to(self, token: str) -> str:
        """Return the raw id that was called with this incoming call."""
        record, invitation = self._offer(token)
        return record.data.invitations[invitation].to

    def call_of_offer(self, token: str) -> CallData:
        return self._offer(token)[0].data

    def hang_up(self, call: str) -> bool:
        """End a call from outside (the caller API); False when there is no such call."""
        record = self.calls.get(call)
        if record is None:
            return False
        self._submit(record, m.EndCall(EndCause.REMOTE_LEFT))
        return True

    def add_phone(self, party: str, rate: int) -> tuple[str, str]:
        """A simulated phone will wait for calls to `party`; return (leg id, token of its audio socket)."""
        if len(self.phones) >= self._max_calls:
            raise Busy
        leg, token = self._ids.guid(), secrets.token_urlsafe(24)
        self.phones[leg] = Phone(leg, party)
        self._link.send(link.ExpectLeg(leg, token, rate))
        return leg, token

    def new_stream(self, options: StreamOptions | None) -> MediaStream:
        state = StreamState.DISABLED if options is None else StreamState.INACTIVE
        return MediaStream(self._ids.guid(), options, state)

    async def close(self) -> None:
        """End every call, with its events."""
        for record in list(self.calls.values()):
            self._submit(record, m.EndCall(EndCause.ENDED_BY_OTHER_APP))
        for timer in self._ring_timers.values():
            timer.cancel()
        await asyncio.sleep(0)

    # ------------------------------------------------------------------------------------------ the way of a message

    def _new_call(self, caller: str, name: str, context: Any) -> CallRecord:
        if len(self.calls) >= self._max_calls:
            raise Busy
        data = CallData(
            id=self._ids.guid(),
            server_call_id=self._ids.server_call_id(),
            correlation_id=self._ids.guid(),
            caller=caller,
            caller_name=name,
            ring_timeout=self._ring_timeout_s,
            custom_context=context,
        )
        record = self.calls[data.id] = CallRecord(Call(data), self._wall())
        return record

    def _offer(self, token: str) -> tuple[CallRecord, str]:
        try:
            return self._offers[token]
        except KeyError:
            raise Refused(Refusal.INVITATION_GONE) from None

    def _submit(self, record: CallRecord, message: m.Message) -> None:
        """Handle `message` and whatever follows from it. Raises `Refused` for a command that does not apply."""
        if self._busy:
            self._follow_ups.append((record, message))
            return
        effects = record.call.handle(message, self._loop.time())
        self._busy = True
        try:
            self._carry_out(record, effects)
            while self._follow_ups:
                record, message = self._follow_ups.popleft()
                self._carry_out(record, record.call.handle(message, self._loop.time()))
        finally:
            self._busy = False

    def _carry_out(self, record: CallRecord, effects: list[m.Effect]) -> None:
        for effect in effects:
            match effect:
                case m.Invite(invitation, to):
                    self._invite(record, invitation, to)
                case m.SetRingTimer(invitation, seconds):
                    timer = self._loop.call_later(seconds, self._submit, record, m.RingTimedOut(invitation))
                    self._ring_timers[invitation] = timer
                case m.Withdraw(invitation):
                    self._withdraw(invitation)
                case m.ConnectLeg(leg):
                    party = record.data.legs[leg].party
                    self._link.send(link.ConnectLeg(leg, record.data.id, party))
                case m.EndLeg(leg, cause):
                    self._by_leg.pop(leg, None)
                    self._free_phone(leg)
                    self._note(record, "leg ended", cause=cause.value)
                    self._link.send(link.EndLeg(leg, cause.value))
                case m.OpenStream(connection, epoch, options):
                    self._open_stream(record, connection, epoch, options)
                case m.CloseStream(connection):
                    epoch = record.data.connections[connection].stream.epoch
                    self._link.send(link.CloseStream(_stream_id(connection, epoch)))
                case m.Notify(connection, event, callback):
                    self._note(record, type(event).__name__, connection=connection, **_details(event))
                    self._notifier.notify(record.data, record.data.connections[connection], event, callback)
                    if isinstance(event, m.CallDisconnected):
                        self._by_connection.pop(connection, None)
                case m.CallOver():
                    self._forget(record)

    def _invite(self, record: CallRecord, invitation: str, to: str) -> None:
        phones = [phone for phone in self.phones.values() if phone.party == to and phone.attached]
        phone = next((phone for phone in phones if phone.call is None), None)
        if phone is not None:
            phone.call = record.data.id
            self._by_leg[phone.leg] = record
            self._note(record, "phone rings", to=to)
            self._submit(record, m.PhoneRings(invitation, phone.leg))
            self._link.send(link.RingPhone(phone.leg, record.data.id, record.data.caller, to))
            return
        if phones:
            self._submit(record, m.Unreachable(invitation, EndCause.BUSY))
            return
        # A number that an app calls is somebody else's phone; only what a caller dialled, and users, are apps'.
        for_apps = not to.startswith("4:") or invitation == record.original
        context, token = self._ids.incoming_call_context()
        if for_apps and self._notifier.offer(record.data, to, context, record.data.ring_timeout):
            self._offers[token] = (record, invitation)
            self._tokens[invitation] = token
            self._note(record, "IncomingCall", to=to)
        else:
            self._note(record, "unreachable", to=to)
            self._submit(record, m.Unreachable(invitation))

    def _withdraw(self, invitation: str) -> None:
        if (timer := self._ring_timers.pop(invitation, None)) is not None:
            timer.cancel()
        if (token := self._tokens.pop(invitation, None)) is not None:
            self._offers.pop(token, None)

    def _open_stream(self, record: CallRecord, connection_id: str, epoch: int, options: StreamOptions) -> None:
        connection = record.data.connections[connection_id]
        if not options.url:
            missing = m.StreamFailed(connection_id, epoch, StreamFailure.NO_URL, "no transportUrl was given")
            self._submit(record, missing)
            return
        stream = _stream_id(connection_id, epoch)
        self._by_stream[stream] = (record, connection_id, epoch)
        self._note(record, "stream opens", url=_without_query(options.url))
        self._link.send(
            link.OpenStream(
                stream=stream,
                call=record.data.id,
                connection=connection_id,
                correlation=record.data.correlation_id,
                subscription=connection.stream.id,
                party=connection.party,
                url=options.url,
                token=self._socket_token(),
                rate=options.rate,
                unmixed=options.unmixed,
                bidirectional=options.bidirectional,
                dtmf=options.dtmf,
            )
        )

    def _forget(self, record: CallRecord) -> None:
        self._note(record, "call over")
        self.calls.pop(record.data.id, None)
        for connection in record.data.connections:
            self._by_connection.pop(connection, None)
        for leg in record.data.legs:
            self._by_leg.pop(leg, None)
        self.finished.append(record)

    # ------------------------------------------------------------------------------------------ what the worker tells

    def _on_tiding(self, tiding: link.Tiding) -> None:
        match tiding:
            case link.LegAttached(leg) if leg in self.phones:
                self.phones[leg].attached = True
            case link.LegAttached(leg):
                self._about_leg(leg, m.LegReady(leg))
            case link.PhoneAnswered(leg, call) if self._is_in(leg, call):
                self._about_leg(leg, m.LegAnswered(leg))
            case link.LegJoined(leg):
                self._about_leg(leg, m.LegConnected(leg))
            case link.LegGone(leg, reason, left):
                self._on_leg_gone(leg, reason, left)
            case link.DigitsPressed(leg, tones):
                if (record := self._by_leg.get(leg)) is not None:
                    self._note(record, "digits", count=len(tones))  # Not which: they may be a PIN.
            case link.StreamUp(stream, again):
                self._about_stream(stream, lambda connection, epoch: m.StreamOpened(connection, epoch, again))
            case link.StreamDown(stream, "closed", _):
                self._about_stream(stream, m.StreamClosed)
            case link.StreamDown(stream, failure, detail):
                cause = StreamFailure(failure)
                self._about_stream(stream, lambda connection, epoch: m.StreamFailed(connection, epoch, cause, detail))
            case link.StreamOddity(stream, cause, detail):
                if (entry := self._by_stream.get(stream)) is not None:
                    log.warning("call %s: %s: %s", entry[0].data.id, cause, detail)
                    self._note(entry[0], "stream warning", cause=cause, detail=detail)
            case link.StreamEnded(stream, stats):
                if (entry := self._by_stream.pop(stream, None)) is not None:
                    entry[0].stats[stream] = stats

    def _about_leg(self, leg: str, report: m.Report) -> None:
        if (record := self._by_leg.get(leg)) is not None:
            self._submit(record, report)

    def _about_stream(self, stream: str, report: Callable[[str, int], m.Report]) -> None:
        if (entry := self._by_stream.get(stream)) is not None:
            record, connection, epoch = entry
            self._submit(record, report(connection, epoch))

    def _is_in(self, leg: str, call: str) -> bool:
        """Whether a phone is (still) in `call`: what it said may have crossed the end of it, and a new ring."""
        record = self._by_leg.get(leg)
        return record is not None and record.data.id == call

    def _on_leg_gone(self, leg: str, reason: str, left: str) -> None:
        if left and not self._is_in(leg, left):
            return
        record = self._by_leg.pop(leg, None)
        if left:
            self._free_phone(leg)
        else:
            self.phones.pop(leg, None)
        if record is not None:
            self._note(record, "leg ended", cause=reason)
            self._submit(record, m.LegEnded(leg, _CAUSES.get(reason, EndCause.MEDIA_LOST)))

    def _free_phone(self, leg: str) -> None:
        if (phone := self.phones.get(leg)) is not None:
            phone.call = None

    # ------------------------------------------------------------------------------------------ what is told about it

    def _note(self, record: CallRecord, what: str, **details: Any) -> None:
        record.timeline.append({"at": self._wall(), "what": what, **details})


_CAUSES = {
    "hung up": EndCause.REMOTE_LEFT,
    "busy": EndCause.BUSY,
    "declined": EndCause.DECLINED,
    "no-answer": EndCause.NO_ANSWER,
}


def _stream_id(connection: str, epoch: int) -> str:
    return f"{connection}.{epoch}"


def _details(event: m.Event) -> dict[str, Any]:
    """What of an event is worth a line in the timeline."""
    match event:
        case m.CallDisconnected(cause) | m.CreateCallFailed(cause) | m.AnswerFailed(cause):
            return {"cause": cause.value}
        case m.StreamingFailed(failure, detail):
            return {"cause": failure.value, "detail": detail}
        case m.ParticipantsUpdated(participants):
            return {"participants": len(participants)}
        case _:
            return {}


def _without_query(url: str) -> str:
    """Return `url` without its query, which may hold the app's secrets."""
    return url.partition("?")[0]
