"""What a message to a call leads to: the call's effects, carried out in order.

Nothing here waits: orders go down the link, events into the webhooks' queues. A message that follows from an effect is
handled after the effects before it, never in between. One message with all that follows is a *step* (`server.steps`).

A call lives in one media worker, with its streams and nearly all of its legs. A phone that waits may stand on another
one than the call that is for it: its client is then told to move, and rings when it has come. A leg that is connected
and moves into a call of another worker is lent to it (`server.moves`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import structs

from offhook.call import messages as m
from offhook.call import people_messages as p
from offhook.call.call import Call
from offhook.call.model import CallData, Connection, EndCause, Release, Shown, StreamFailure, StreamOptions
from offhook.media import link
from offhook.server import moves
from offhook.server.accounting import Accounting
from offhook.server.adoption import LineCopy, Ring
from offhook.server.delivery import Parcel, Settled
from offhook.server.operations import Operations, StudioLike
from offhook.server.placement import Worker
from offhook.server.places import Places
from offhook.server.records import CallRecord, Phone, details, stream_id
from offhook.server.registry import Registry
from offhook.server.steps import Steps

if TYPE_CHECKING:
    from offhook.server.telephones import Telephones


class Notifier(Protocol):
    """Where events go."""

    def notice(
        self,
        call: CallData,
        connection: Connection,
        event: m.Event,
        callback: str | None,
        release: Release | None = None,
    ) -> Parcel | None:
        """Make what tells an app of an event; None when it would not understand it. `release`: see `Notify`."""

    def offer(
        self, call: CallData, to: str, shown: Shown, context: str, token: str, seconds: float, trunk: str = ""
    ) -> Parcel | None:
        """Make what tells the apps of an incoming call; None when none listens. `trunk`: that it came by, if any."""

    def post(self, parcel: Parcel, settled: Settled) -> None:
        """Queue what `notice` or `offer` made, now or in the control process before this one."""


class Exchange:
    """Must be made on a running event loop. `wall` gives Unix time in seconds."""

    def __init__(
        self,
        registry: Registry,
        workers: Sequence[Worker],
        notifier: Notifier,
        socket_token: Callable[[], str],
        wall: Callable[[], float],
        studio: StudioLike,
    ) -> None:
        self.registry = registry
        self.workers = workers
        self.steps = Steps(workers, self._keep, notifier.post)
        self._notifier = notifier
        self._socket_token = socket_token
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self.fewer = asyncio.Event()  # a call has ended
        self.follow_ups: deque[tuple[CallRecord, m.Message]] = deque()
        self._busy = False
        self.operations = Operations(studio, self.submit, wall)
        self.telephones: Telephones | None = None
        self._lines: list[tuple[Worker, LineCopy]] = []  # kept by workers, until there are `telephones`
        self.accounting = Accounting(self.steps, wall)
        self.places = Places(workers, self.steps)

    def use_telephones(self, telephones: Telephones) -> None:
        """Telephones can call and be called; their lines that workers have kept go on."""
        self.telephones = telephones
        while self._lines:
            telephones.adopt(*self._lines.pop())

    def adopt_line(self, worker: Worker, line: LineCopy) -> None:
        """Take over a telephone of a call that has been taken over, now or as soon as there are telephones."""
        if self.telephones is not None:
            self.telephones.adopt(worker, line)
        else:
            self._lines.append((worker, line))

    def submit(self, record: CallRecord, message: m.Message) -> None:
        """Handle `message` and whatever follows from it. Raises `Refused` for a command that does not apply."""
        if self._busy:
            self.follow_ups.append((record, message))
            return
        effects = self._handle(record, message)
        self._busy = True
        with self.steps.step():
            try:
                self._carry_out(record, effects)
                while self.follow_ups:
                    record, message = self.follow_ups.popleft()
                    self._carry_out(record, self._handle(record, message))
            finally:
                self._busy = False

    def _handle(self, record: CallRecord, message: m.Message) -> list[m.Effect]:
        effects = record.call.handle(message, self._loop.time())
        self.accounting.note(record, message, effects)
        return effects

    def open_call(
        self, worker: Worker, shown: Shown, ring_timeout_s: float, id: str | None = None, locator: str | None = None
    ) -> CallRecord:
        """Make a call in `worker`, of which nobody has said anything yet."""
        data = CallData(
            id=id or worker.ids.guid(),
            server_call_id=worker.ids.server_call_id(),
            correlation_id=worker.ids.guid(),
            caller=shown.caller,
            caller_name=shown.name,
            ring_timeout=ring_timeout_s,
            custom_context=shown.custom_context,
            locator=locator,
        )
        record = self.registry.calls[data.id] = CallRecord(Call(data), worker, self._wall())
        worker.calls.add(data.id)
        self.accounting.begin(record)
        return record

    def _carry_out(self, record: CallRecord, effects: list[m.Effect]) -> None:
        self.steps.change(record)
        for effect in effects:
            match effect:
                case m.Invite(invitation, to):
                    self._invite(record, invitation, to)
                case m.SetRingTimer(invitation, seconds):
                    timer = self._loop.call_later(seconds, self.submit, record, m.RingTimedOut(invitation))
                    self.registry.ring_timers[invitation] = timer
                case m.Withdraw(invitation):
                    self._withdraw(invitation)
                case m.ConnectLeg(leg):
                    party = record.data.legs[leg].party
                    if self.telephones is not None:
                        self.telephones.connect(leg)
                    record.worker.send(link.ConnectLeg(leg, record.data.id, party))
                case m.EndLeg(leg, cause):
                    self.registry.by_leg.pop(leg, None)
                    self.note(record, "leg ended", cause=cause.value)
                    record.home(leg).send(link.EndLeg(leg, cause.value))
                    self.free_phone(leg)
                    if self.telephones is not None:
                        self.telephones.end(leg, cause)
                case m.OpenStream(connection, epoch, options):
                    self._open_stream(record, connection, epoch, options)
                case m.CloseStream(connection):
                    epoch = record.data.connections[connection].stream.epoch
                    record.worker.send(link.CloseStream(stream_id(connection, epoch)))
                case m.Notify(connection, event, callback, release):
                    self.note(record, type(event).__name__, connection=connection, **details(event))
                    app = record.data.connections[connection]
                    parcel = self._notifier.notice(record.data, app, event, callback, release)
                    if parcel is not None:
                        self.steps.tell(record, self._under_weather(record, parcel))
                    if isinstance(event, m.CallDisconnected):
                        self.registry.by_connection.pop(connection, None)
                case m.CallOver():
                    self._forget(record)
                case p.ReferralRings() | p.ReferralEnded():
                    if self.telephones is not None:
                        self.telephones.tell_referrer(effect)
                case p.OpenCall() | p.Tell() | p.Fetch() | p.HandOver():
                    self._between_calls(record, effect)
                case _:
                    self.operations.carry_out(record, effect)
        moves.give_back(record)

    def _between_calls(self, record: CallRecord, effect: p.Effect) -> None:
        """Carry out what a call wants of another one."""
        calls = self.registry.calls
        match effect:
            case p.OpenCall(id, _, first) if self.telephones and self.telephones.trunk_transfers(first.leg, first.to):
                self.note(record, "trunk is asked to transfer", to=first.to)
                self.telephones.ask_to_transfer(first.leg, first.to, id)
            case p.OpenCall(id, shown, first):
                opened = self.open_call(record.worker, shown, record.data.ring_timeout, id)
                opened.weather = record.weather
                self.submit(opened, first)
            case p.Tell(id, report) if id in calls:
                self.submit(calls[id], report)
            case p.Fetch(parties, id, move) if id in calls:
                self.submit(calls[id], p.Wanted(parties, record.data.id, move))
            case p.Fetch(parties, id, move):
                for party in parties:
                    self.submit(record, p.NotMoved(party, move, p.MoveProblem.NOT_THERE))
            case p.HandOver(leg, to_call, move):
                self.registry.by_leg[leg.id] = other = calls[to_call]
                self.accounting.leg_moved(leg.id, other)
                if (phone := self.registry.phones.get(leg.id)) is not None:
                    phone.call = to_call
                moves.hand_over(leg, record, other)
                self.submit(other, p.LegArrived(leg, move))

    def _invite(self, record: CallRecord, invitation: str, to: str) -> None:
        asked = record.data.invitations[invitation]
        shown = asked.shown or record.data.shown
        phones = self.registry.phones_of(to)
        phone = next((phone for phone in phones if phone.call is None), None)
        if phone is not None:
            phone.call = record.data.id
            record.weather = record.weather or phone.weather
            self.registry.by_leg[phone.leg] = record
            self.note(record, "phone rings", to=to)
            self.submit(record, m.PhoneRings(invitation, phone.leg))
            if phone.worker is record.worker:
                self.ring(phone, record, shown)
            else:
                self._move(phone, record.worker)
            return
        if phones:
            self.submit(record, m.Unreachable(invitation, EndCause.BUSY))
            return
        if self.telephones is not None and self.telephones.reaches(to, by_app=not asked.dialled):
            leg = record.worker.ids.guid()
            self.registry.by_leg[leg] = record
            self.note(record, "telephone rings", to=to)
            self.submit(record, m.PhoneRings(invitation, leg))
            self.telephones.call(record.worker, leg, to, shown)
            return
        # A number that an app calls is somebody else's phone; only what a caller dialled, and users, are apps'.
        for_apps = not to.startswith("4:") or asked.dialled
        context, token = record.worker.ids.incoming_call_context()
        seconds = record.data.ring_timeout if asked.ring_timeout is None else asked.ring_timeout
        trunk = "" if self.telephones is None else self.telephones.trunk_of(record)
        parcel = self._notifier.offer(record.data, to, shown, context, token, seconds, trunk) if for_apps else None
        if parcel is not None:
            self.registry.offers[token] = (record, invitation)
            self.registry.tokens[invitation] = token
            self.note(record, "IncomingCall", to=to)
            self.steps.tell(record, parcel)
        else:
            self.note(record, "unreachable", to=to)
            self.submit(record, m.Unreachable(invitation))

    def ring(self, phone: Phone, record: CallRecord, shown: Shown) -> None:
        phone.worker.send(link.RingPhone(phone.leg, record.data.id, shown.caller, phone.party))

    def _move(self, phone: Phone, worker: Worker) -> None:
        """Let the phone's client come to `worker`, where it will ring."""
        token = secrets.token_urlsafe(24)
        worker.send(link.ExpectLeg(phone.leg, token, phone.rate, weather=phone.weather))
        phone.worker.send(link.MoveLeg(phone.leg, worker.audio_url(token)))
        phone.worker.step.delete(phone.leg)
        phone.worker, phone.attached, phone.token = worker, False, token
        worker.step.put(phone.leg, phone.copy())

    def free_phone(self, leg: str) -> None:
        if (phone := self.registry.phones.get(leg)) is not None:
            phone.call = None
            if phone.attached:  # Else it is on its way to another worker, and waits when it has come.
                phone.worker.send(link.PhoneWaits(leg))

    def _under_weather(self, record: CallRecord, parcel: Parcel) -> Parcel:
        """Return an event that is about to be sent, with what goes wrong with it on purpose."""
        fate = record.fate(parcel.kind)
        if fate is None:
            return parcel
        self.note(record, "weather", event=parcel.kind, **structs.asdict(fate))
        return structs.replace(parcel, fate=fate)

    def _withdraw(self, invitation: str) -> None:
        if (timer := self.registry.ring_timers.pop(invitation, None)) is not None:
            timer.cancel()
        if (token := self.registry.tokens.pop(invitation, None)) is not None:
            record, _ = self.registry.offers.pop(token)
            self.steps.settle(record, token)

    def _open_stream(self, record: CallRecord, connection_id: str, epoch: int, options: StreamOptions) -> None:
        connection = record.data.connections[connection_id]
        if not options.url:
            missing = m.StreamFailed(connection_id, epoch, StreamFailure.NO_URL, "no transportUrl was given")
            self.submit(record, missing)
            return
        stream = stream_id(connection_id, epoch)
        self.registry.by_stream[stream] = (record, connection_id, epoch)
        record.streams.append((connection_id, epoch))
        self.note(record, "stream opens", url=_without_query(options.url))
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
        self.note(record, "call over")
        self.registry.calls.pop(record.data.id, None)
        record.worker.calls.discard(record.data.id)
        self.fewer.set()
        for connection in record.data.connections:
            self.registry.by_connection.pop(connection, None)
        for leg in record.data.legs:
            if self.registry.by_leg.get(leg) is record:  # A transferee is of another call still.
                del self.registry.by_leg[leg]
        self.registry.finished.append(record)
        self.accounting.over(record)

    def _keep(self, record: CallRecord) -> None:
        """Let the worker keep the call as it is now; when it is over, until its last event is delivered."""
        self.accounting.settle(record)
        data, step = record.data, record.worker.step
        if data.over and not record.undelivered:
            self.steps.forget(record)
        elif step.keeps:
            since = self._wall() - self._loop.time()
            rings = {
                invitation: Ring(
                    since + self.registry.ring_timers[invitation].when(), self.registry.tokens.get(invitation, "")
                )
                for invitation in data.invitations
                if invitation in self.registry.ring_timers
            }
            step.put(data.id, record.copy(rings))

    def note(self, record: CallRecord, what: str, **details: Any) -> None:
        record.timeline.append({"at": self._wall(), "what": what, **details})


def _without_query(url: str) -> str:
    """Return `url` without its query, which may hold the app's secrets."""
    return url.partition("?")[0]
