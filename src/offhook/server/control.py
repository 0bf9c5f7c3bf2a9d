"""The control process's heart: it holds the Calls, routes invitations, and carries out what the Calls want done.

Nothing here waits: commands and tidings are handled at once, orders go down the link, events into the webhooks'
queues. A message that follows from an effect is handled after the effects before it, never in between.

One message with all that follows is a *step*: the worker is told of it at once, with a copy of the call as it is then,
from which the next control process goes on when this one is killed (`server.adoption`).

A call lives in one media worker, with all its legs and streams. Only a phone that waits may stand on another one than
the call that is for it: its client is then told to move, and rings when it has come.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import structs

from offhook.call import messages as m
from offhook.call.call import Call, Refusal, Refused
from offhook.call.model import (
    CallData,
    Connection,
    ConnectionState,
    EndCause,
    LegState,
    Participant,
    StreamFailure,
    StreamOptions,
)
from offhook.media import link
from offhook.media.weather import Weather
from offhook.server.adoption import AnswerCopy, CallCopy, Copy, EventCopy, PhoneCopy, Ring, decode
from offhook.server.delivery import Parcel, Settled
from offhook.server.placement import Busy, Worker, place, ready
from offhook.server.records import CallRecord, Phone, details, stream_id
from offhook.server.repeats import Answer, Repeats
from offhook.server.steps import Steps

log = logging.getLogger(__name__)

FINISHED = 200  # calls whose record is kept after their end


class Notifier(Protocol):
    """Where events go."""

    def notice(self, call: CallData, connection: Connection, event: m.Event, callback: str | None) -> Parcel | None:
        """Make what tells an app of an event; None when it would not understand it."""

    def offer(self, call: CallData, to: str, context: str, token: str, seconds: float) -> Parcel | None:
        """Make what tells the apps of an incoming call; None when none listens."""

    def post(self, parcel: Parcel, settled: Settled) -> None:
        """Queue what `notice` or `offer` made, now or in the control process before this one."""


class Ticket(NamedTuple):
    """What the client of a simulated party has to know: the URL of its audio socket, above all."""

    leg: str
    token: str
    audio_url: str
    call: str = ""


class Control:
    """Must be made on a running event loop. `workers` are all there may be, `connect` says that one is there.

    `wall` gives Unix time in seconds.
    """

    def __init__(
        self,
        *,
        workers: Sequence[Worker],
        notifier: Notifier,
        socket_token: Callable[[], str],
        wall: Callable[[], float],
        ring_timeout_s: float = 60.0,
        max_calls: int = 1000,
    ) -> None:
        self.workers = workers
        self._notifier = notifier
        self._socket_token = socket_token
        self._wall = wall
        self._ring_timeout_s = ring_timeout_s
        self._max_calls = max_calls
        self._loop = asyncio.get_running_loop()
        self.calls: dict[str, CallRecord] = {}
        self.finished: deque[CallRecord] = deque(maxlen=FINISHED)
        self.phones: dict[str, Phone] = {}
        self.draining = False
        self.placed = 0  # calls, since the start
        self.refused: Counter[str] = Counter()  # calls, by reason
        self._fewer = asyncio.Event()  # a call has ended
        self._by_connection: dict[str, CallRecord] = {}
        self._by_leg: dict[str, CallRecord] = {}
        self._by_stream: dict[str, tuple[CallRecord, str, int]] = {}
        self._offers: dict[str, tuple[CallRecord, str]] = {}  # by token of the incomingCallContext
        self._tokens: dict[str, str] = {}  # of an invitation
        self._ring_timers: dict[str, asyncio.TimerHandle] = {}
        self._follow_ups: deque[tuple[CallRecord, m.Message]] = deque()
        self._busy = False
        self._steps = Steps(workers, self._keep, notifier.post)
        self.repeats: Repeats[Answer] = Repeats()

    def connect(self, worker: Worker, end: link.Link) -> None:
        """`worker` is at the other end of `end`; it carries calls once it has said who it is."""
        worker.link = end
        end.on_lost(lambda: self._on_worker_lost(worker))
        end.on_receive(lambda tiding: self._on_tiding(worker, tiding))

    # ------------------------------------------------------------------------------------------ what the API asks

    def once(self, id: str | None, request: tuple[str, str, bytes], act: Callable[[], Answer]) -> Answer:
        """Answer a REST request with `act`, or as it was before under this Repeatability-Request-ID (`Repeats.once`).

        What `act` does is one step, and its answer a part of it: a repeated request is not carried out twice even when
        the control process died before it could answer.
        """
        with self._steps.step():
            return self.repeats.once(id, request, act, self._wall(), self._steps.answer)

    def place_call(
        self, caller: str, to: str, rate: int, name: str = "", context: Any = None, weather: Weather | None = None
    ) -> Ticket:
        """A simulated caller calls `to`. Raises `Busy`."""
        worker = self.place([to])
        record = self._new_call(worker, caller, name, context)
        record.weather = weather
        leg, invitation, token = worker.ids.guid(), worker.ids.guid(), secrets.token_urlsafe(24)
        record.original = invitation
        self._by_leg[leg] = record
        with self._steps.step():
            worker.send(link.ExpectLeg(leg, token, rate, record.data.id, weather=weather))
            self._submit(record, m.PlaceCall(leg, invitation, to))
        return Ticket(leg, token, worker.audio_url(token), record.data.id)

    def place(self, targets: Sequence[str]) -> Worker:
        """Return the worker for a call to `targets`: if one is a phone, the phone's. Raises `Busy`."""
        phone = next((phone for to in targets for phone in self._phones_of(to) if phone.call is None), None)
        try:
            self._check_room(len(self.calls))
            return place(self.workers, self._loop.time(), phone.worker if phone is not None else None)
        except Busy as busy:
            self.refused[busy.reason] += 1
            raise

    def create_call(
        self, worker: Worker, connection: Connection, targets: Sequence[str], caller: str, name: str
    ) -> CallData:
        """An app calls `targets`, who see `caller` (a raw id) and `name`. `worker` is where `place` wants the call."""
        record = self._new_call(worker, caller, name, None)
        self._by_connection[connection.id] = record
        self._submit(record, m.CreateCall(connection, {worker.ids.guid(): target for target in targets}))
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
        self._submit(record, m.Redirect(invitation, record.worker.ids.guid(), to))

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

    def record_of_offer(self, token: str) -> CallRecord:
        return self._offer(token)[0]

    def recent(self, call: str) -> CallRecord | None:
        """Return a call that is under way, or one of the last FINISHED."""
        return self.calls.get(call) or next((record for record in self.finished if record.data.id == call), None)

    def hang_up(self, call: str) -> bool:
        """End a call from outside (the caller API); False when there is no such call."""
        record = self.calls.get(call)
        if record is None:
            return False
        self._submit(record, m.EndCall(EndCause.REMOTE_LEFT))
        return True

    def add_phone(self, party: str, rate: int, weather: Weather | None = None) -> Ticket:
        """A simulated phone will wait for calls to `party`; `weather` is over those that have none. Raises `Busy`."""
        self._check_room(len(self.phones))
        on = Counter(phone.worker.number for phone in self.phones.values())
        worker = min(ready(self.workers), key=lambda worker: on[worker.number])
        leg, token = worker.ids.guid(), secrets.token_urlsafe(24)
        phone = self.phones[leg] = Phone(leg, party, rate, worker, weather=weather)
        with self._steps.step():
            worker.step.put(leg, phone.copy())
            worker.send(link.ExpectLeg(leg, token, rate, weather=weather))
        return Ticket(leg, token, worker.audio_url(token))

    async def drain(self) -> None:
        """Take no new calls, and wait until the last one is over."""
        self.draining = True
        while self.calls:
            self._fewer.clear()
            await self._fewer.wait()

    async def close(self) -> None:
        """End every call, with its events; take no more."""
        self.draining = True
        for record in list(self.calls.values()):
            self._submit(record, m.EndCall(EndCause.ENDED_BY_OTHER_APP))
        for timer in self._ring_timers.values():
            timer.cancel()
        await asyncio.sleep(0)

    # ------------------------------------------------------------------------------------------ the way of a message

    def _check_room(self, taken: int) -> None:
        if self.draining:
            raise Busy("This server is being stopped, and takes no more calls.", "draining")
        if taken >= self._max_calls:
            raise Busy("This server holds as many calls as it may.")

    def _new_call(self, worker: Worker, caller: str, name: str, context: Any) -> CallRecord:
        ids = worker.ids
        data = CallData(
            id=ids.guid(),
            server_call_id=ids.server_call_id(),
            correlation_id=ids.guid(),
            caller=caller,
            caller_name=name,
            ring_timeout=self._ring_timeout_s,
            custom_context=context,
        )
        record = self.calls[data.id] = CallRecord(Call(data), worker, self._wall())
        worker.calls.add(data.id)
        self.placed += 1
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
        with self._steps.step():
            self._steps.change(record)
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
                    record.worker.send(link.ConnectLeg(leg, record.data.id, party))
                case m.EndLeg(leg, cause):
                    self._by_leg.pop(leg, None)
                    self._note(record, "leg ended", cause=cause.value)
                    record.worker.send(link.EndLeg(leg, cause.value))
                    self._free_phone(leg)
                case m.OpenStream(connection, epoch, options):
                    self._open_stream(record, connection, epoch, options)
                case m.CloseStream(connection):
                    epoch = record.data.connections[connection].stream.epoch
                    record.worker.send(link.CloseStream(stream_id(connection, epoch)))
                case m.Notify(connection, event, callback):
                    self._note(record, type(event).__name__, connection=connection, **details(event))
                    parcel = self._notifier.notice(record.data, record.data.connections[connection], event, callback)
                    if parcel is not None:
                        self._steps.tell(record, self._under_weather(record, parcel))
                    if isinstance(event, m.CallDisconnected):
                        self._by_connection.pop(connection, None)
                case m.CallOver():
                    self._forget(record)

    def _invite(self, record: CallRecord, invitation: str, to: str) -> None:
        phones = self._phones_of(to)
        phone = next((phone for phone in phones if phone.call is None), None)
        if phone is not None:
            phone.call = record.data.id
            record.weather = record.weather or phone.weather
            self._by_leg[phone.leg] = record
            self._note(record, "phone rings", to=to)
            self._submit(record, m.PhoneRings(invitation, phone.leg))
            if phone.worker is record.worker:
                self._ring(phone, record)
            else:
                self._move(phone, record.worker)
            return
        if phones:
            self._submit(record, m.Unreachable(invitation, EndCause.BUSY))
            return
        # A number that an app calls is somebody else's phone; only what a caller dialled, and users, are apps'.
        for_apps = not to.startswith("4:") or invitation == record.original
        context, token = record.worker.ids.incoming_call_context()
        parcel = self._notifier.offer(record.data, to, context, token, record.data.ring_timeout) if for_apps else None
        if parcel is not None:
            self._offers[token] = (record, invitation)
            self._tokens[invitation] = token
            self._note(record, "IncomingCall", to=to)
            self._steps.tell(record, parcel)
        else:
            self._note(record, "unreachable", to=to)
            self._submit(record, m.Unreachable(invitation))

    def _phones_of(self, party: str) -> list[Phone]:
        return [phone for phone in self.phones.values() if phone.party == party and phone.attached]

    def _ring(self, phone: Phone, record: CallRecord) -> None:
        phone.worker.send(link.RingPhone(phone.leg, record.data.id, record.data.caller, phone.party))

    def _move(self, phone: Phone, worker: Worker) -> None:
        """Let the phone's client come to `worker`, where it will ring."""
        token = secrets.token_urlsafe(24)
        worker.send(link.ExpectLeg(phone.leg, token, phone.rate, weather=phone.weather))
        phone.worker.send(link.MoveLeg(phone.leg, worker.audio_url(token)))
        phone.worker.step.delete(phone.leg)
        phone.worker, phone.attached, phone.token = worker, False, token
        worker.step.put(phone.leg, phone.copy())

    def _under_weather(self, record: CallRecord, parcel: Parcel) -> Parcel:
        """Return an event that is about to be sent, with what goes wrong with it on purpose."""
        fate = record.fate(parcel.kind)
        if fate is None:
            return parcel
        self._note(record, "weather", event=parcel.kind, **structs.asdict(fate))
        return structs.replace(parcel, fate=fate)

    def _withdraw(self, invitation: str) -> None:
        if (timer := self._ring_timers.pop(invitation, None)) is not None:
            timer.cancel()
        if (token := self._tokens.pop(invitation, None)) is not None:
            record, _ = self._offers.pop(token)
            self._steps.settle(record, token)

    def _open_stream(self, record: CallRecord, connection_id: str, epoch: int, options: StreamOptions) -> None:
        connection = record.data.connections[connection_id]
        if not options.url:
            missing = m.StreamFailed(connection_id, epoch, StreamFailure.NO_URL, "no transportUrl was given")
            self._submit(record, missing)
            return
        stream = stream_id(connection_id, epoch)
        self._by_stream[stream] = (record, connection_id, epoch)
        record.streams.append((connection_id, epoch))
        self._note(record, "stream opens", url=_without_query(options.url))
        record.worker.send(
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
                weather=record.weather,
            )
        )

    def _forget(self, record: CallRecord) -> None:
        self._note(record, "call over")
        self.calls.pop(record.data.id, None)
        record.worker.calls.discard(record.data.id)
        self._fewer.set()
        for connection in record.data.connections:
            self._by_connection.pop(connection, None)
        for leg in record.data.legs:
            self._by_leg.pop(leg, None)
        self.finished.append(record)

    # ------------------------------------------------------------------------------------------ copies, and adoption

    def _keep(self, record: CallRecord) -> None:
        """Let the worker keep the call as it is now; when it is over, until its last event is delivered."""
        data, step = record.data, record.worker.step
        if data.over and not record.undelivered:
            self._steps.forget(record)
        elif step.keeps:
            since = self._wall() - self._loop.time()
            rings = {
                invitation: Ring(since + self._ring_timers[invitation].when(), self._tokens.get(invitation, ""))
                for invitation in data.invitations
                if invitation in self._ring_timers
            }
            step.put(data.id, record.copy(rings))

    def _adopt(self, worker: Worker, kept: list[Copy]) -> None:
        """Take over what the control process before this one had at `worker`."""
        adopted: dict[str, CallRecord] = {}
        for call in (copy for copy in kept if isinstance(copy, CallCopy)):
            adopted[call.data.id] = self._adopt_call(worker, call)
        for phone in (copy for copy in kept if isinstance(copy, PhoneCopy)):
            self._adopt_phone(worker, phone)
        for answer in (copy for copy in kept if isinstance(copy, AnswerCopy)):
            self.repeats.restore(answer.id, answer.done)
            if (record := adopted.get(answer.call)) is not None:
                record.answers.append(f"answer {answer.id}")
        for event in (copy for copy in kept if isinstance(copy, EventCopy)):
            if (record := adopted.get(event.call)) is not None:
                self._steps.resume(record, event.parcel)
        if kept:
            log.warning("took over %d calls from media worker %d", len(worker.calls), worker.number)

    def _adopt_call(self, worker: Worker, copy: CallCopy) -> CallRecord:
        data, record = copy.data, CallRecord.from_copy(copy, worker)
        for connection, epoch in copy.streams:
            self._by_stream[stream_id(connection, epoch)] = (record, connection, epoch)
        if data.over:
            self.finished.append(record)
            return record
        self.calls[data.id] = record
        worker.calls.add(data.id)
        live = (c.id for c in data.connections.values() if c.state is not ConnectionState.DISCONNECTED)
        self._by_connection.update(dict.fromkeys(live, record))
        legs = (leg.id for leg in data.legs.values() if leg.state is not LegState.ENDED)
        self._by_leg.update(dict.fromkeys(legs, record))
        for invitation, ring in copy.rings.items():
            left = max(0.0, ring.until - self._wall())
            timer = self._loop.call_later(left, self._submit, record, m.RingTimedOut(invitation))
            self._ring_timers[invitation] = timer
            if ring.token:
                self._offers[ring.token] = (record, invitation)
                self._tokens[invitation] = ring.token
        return record

    def _adopt_phone(self, worker: Worker, copy: PhoneCopy) -> None:
        of = self._by_leg.get(copy.leg)
        call = None if of is None else of.data.id
        phone = Phone(copy.leg, copy.party, copy.rate, worker, copy.attached, call, copy.token, copy.weather)
        there = self.phones.get(copy.leg)
        if there is None:
            self.phones[copy.leg] = phone
            return
        # Control was killed when the new worker expected the phone, and before the old one was told to send it there.
        new, old = (phone, there) if copy.token else (there, phone)
        old.worker.send(link.MoveLeg(old.leg, new.worker.audio_url(new.token)))
        old.worker.step.delete(old.leg)
        self.phones[copy.leg] = new

    # ------------------------------------------------------------------------------------------ what the workers tell

    def _on_welcome(self, worker: Worker, boot: int) -> None:
        if boot == worker.boot and worker.link is not None:
            log.error("media worker %d is back, but its calls were reported as lost: it starts anew", worker.number)
            worker.link.send(link.Quit())
            worker.link.close()
            worker.lose()
        else:
            worker.welcome(boot)

    def _on_worker_lost(self, worker: Worker) -> None:
        """End its calls, and forget what it had."""
        log.error("media worker %d is lost with %d calls", worker.number, len(worker.calls))
        worker.lose()
        for phone in [phone for phone in self.phones.values() if phone.worker is worker]:
            del self.phones[phone.leg]
        for id in list(worker.calls):
            record = self.calls[id]
            self._note(record, "media worker lost", worker=worker.number)
            self._submit(record, m.EndCall(EndCause.MEDIA_LOST))
        self._by_stream = {stream: of for stream, of in self._by_stream.items() if of[0].worker is not worker}

    def _on_tiding(self, worker: Worker, tiding: link.Tiding) -> None:
        with self._steps.step():
            worker.step.saw(tiding)
            self._handle(worker, tiding)

    def _handle(self, worker: Worker, tiding: link.Tiding) -> None:
        match tiding:
            case link.Welcome(_, boot):
                self._on_welcome(worker, boot)
            case link.Kept(_, value):
                worker.kept.append(decode(value))
            case link.KeptAll():
                self._adopt(worker, worker.keeps())
            case link.Vitals():
                worker.vitals, worker.vitals_at = tiding, self._loop.time()
            case link.LegAttached(leg) if leg in self.phones:
                self._on_phone_attached(self.phones[leg])
            case link.LegAttached(leg):
                self._about_leg(leg, m.LegReady(leg))
            case link.PhoneAnswered(leg, call) if self._is_in(leg, call):
                self._about_leg(leg, m.LegAnswered(leg))
            case link.LegJoined(leg):
                self._about_leg(leg, m.LegConnected(leg))
            case link.LegGone(leg, reason, left):
                self._on_leg_gone(worker, leg, reason, left)
            case link.DigitsPressed(leg, tones):
                if (record := self._by_leg.get(leg)) is not None:
                    self._note(record, "digits", count=len(tones))  # Not which: they may be a PIN.
            case link.LineEnded(_, call, counts):
                if (record := self.recent(call)) is not None:
                    self._note(record, "bad line", **counts)
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
                    record, connection, epoch = entry
                    record.stats[stream] = stats
                    record.streams.remove((connection, epoch))
                    self._steps.change(record)

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

    def _on_phone_attached(self, phone: Phone) -> None:
        phone.attached, phone.token = True, ""
        phone.worker.step.put(phone.leg, phone.copy())
        if phone.call is not None:  # It came from another worker for this call.
            self._ring(phone, self.calls[phone.call])
        else:
            phone.worker.send(link.PhoneWaits(phone.leg))

    def _on_leg_gone(self, worker: Worker, leg: str, reason: str, left: str) -> None:
        if left and not self._is_in(leg, left):
            return
        if (phone := self.phones.get(leg)) is not None and phone.worker is not worker:
            return  # It was told to move, and will be missed at the other worker.
        record = self._by_leg.pop(leg, None)
        if left:
            self._free_phone(leg)
        elif self.phones.pop(leg, None) is not None:
            worker.step.delete(leg)
        if record is not None:
            self._note(record, "leg ended", cause=reason)
            self._submit(record, m.LegEnded(leg, _CAUSES.get(reason, EndCause.MEDIA_LOST)))

    def _free_phone(self, leg: str) -> None:
        if (phone := self.phones.get(leg)) is not None:
            phone.call = None
            if phone.attached:  # Else it is on its way to another worker, and waits when it has come.
                phone.worker.send(link.PhoneWaits(leg))

    # ------------------------------------------------------------------------------------------ what is told about it

    def _note(self, record: CallRecord, what: str, **details: Any) -> None:
        record.timeline.append({"at": self._wall(), "what": what, **details})


_CAUSES = {
    "hung up": EndCause.REMOTE_LEFT,
    "busy": EndCause.BUSY,
    "declined": EndCause.DECLINED,
    "no-answer": EndCause.NO_ANSWER,
}


def _without_query(url: str) -> str:
    """Return `url` without its query, which may hold the app's secrets."""
    return url.partition("?")[0]
