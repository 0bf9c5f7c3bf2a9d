"""What the API and the caller API ask of the control process: calls are placed, made, answered, commanded and ended.

Every method acts at once and waits for nobody. What follows is in `server.exchange`, what media workers tell in
`server.tidings`, and how a control process takes over from a killed one in `server.takeover`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from offhook.call import messages as m
from offhook.call import people_messages as p
from offhook.call.model import CallData, Connection, EndCause, Invitation, Participant, Shown
from offhook.call.refusals import Refusal
from offhook.media import link
from offhook.media.weather import Weather
from offhook.server.exchange import Exchange, Notifier
from offhook.server.operations import StudioLike
from offhook.server.placement import Busy, Worker, place, ready
from offhook.server.records import CallRecord, Phone
from offhook.server.registry import Registry
from offhook.server.repeats import Answer, Repeats
from offhook.server.takeover import Takeover
from offhook.server.tidings import Tidings


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
        studio: StudioLike,
        ring_timeout_s: float = 60.0,
        max_calls: int = 1000,
    ) -> None:
        self.workers = workers
        self._wall = wall
        self._ring_timeout_s = ring_timeout_s
        self._max_calls = max_calls
        self._loop = asyncio.get_running_loop()
        self.registry = Registry(workers)
        self.exchange = Exchange(self.registry, workers, notifier, socket_token, wall, studio)
        self.repeats: Repeats[Answer] = Repeats()
        self.tidings = Tidings(self.exchange, Takeover(self.exchange, self.repeats, wall))
        self.draining = False
        self.placed = 0  # calls, since the start
        self.refused: Counter[str] = Counter()  # calls, by reason

    def connect(self, worker: Worker, end: link.Link) -> None:
        """`worker` is at the other end of `end`; it carries calls once it has said who it is."""
        worker.link = end
        end.on_lost(lambda: self.tidings.on_worker_lost(worker))
        end.on_receive(lambda tiding: self.tidings.on_tiding(worker, tiding))

    # ------------------------------------------------------------------------------------------ what is asked

    def once(self, id: str | None, request: tuple[str, str, bytes], act: Callable[[], Answer]) -> Answer:
        """Answer a REST request with `act`, or as it was before under this Repeatability-Request-ID (`Repeats.once`).

        What `act` does is one step, and its answer a part of it: a repeated request is not carried out twice even when
        the control process died before it could answer.
        """
        with self.exchange.steps.step():
            return self.repeats.once(id, request, act, self._wall(), self.exchange.steps.answer)

    def place_call(
        self, caller: str, to: str, rate: int, name: str = "", context: Any = None, weather: Weather | None = None
    ) -> Ticket:
        """A simulated caller calls `to`. Raises `Busy`."""
        worker = self.place([to])
        record = self._open(worker, Shown(caller, name, context))
        record.weather = weather
        leg, invitation, token = worker.ids.guid(), worker.ids.guid(), secrets.token_urlsafe(24)
        self.registry.by_leg[leg] = record
        with self.exchange.steps.step():
            worker.send(link.ExpectLeg(leg, token, rate, record.data.id, weather=weather))
            self.exchange.submit(record, m.PlaceCall(leg, invitation, to))
        return Ticket(leg, token, worker.audio_url(token), record.data.id)

    def call_from(self, worker: Worker, leg: str, opening: link.OpenRtp, shown: Shown, to: str) -> None:
        """A telephone calls `to`, as `leg` of `worker` (from `place`), which `opening` makes."""
        record = self._open(worker, shown)
        invitation = worker.ids.guid()
        self.registry.by_leg[leg] = record
        with self.exchange.steps.step():
            worker.send(opening)
            self.exchange.submit(record, m.PlaceCall(leg, invitation, to))

    def report(self, leg: str, report: m.Report) -> None:
        """Something has happened to a leg, whose call may be over by now."""
        if (record := self.registry.by_leg.get(leg)) is not None:
            self.exchange.submit(record, report)

    def place(self, targets: Sequence[str]) -> Worker:
        """Return the worker for a call to `targets`: if one is a phone, the phone's. Raises `Busy`."""
        phone = next((phone for to in targets for phone in self.registry.phones_of(to) if phone.call is None), None)
        try:
            self._check_room(len(self.registry.calls))
            return place(self.workers, self._loop.time(), phone.worker if phone is not None else None)
        except Busy as busy:
            self.refused[busy.reason] += 1
            raise

    def create_call(
        self, worker: Worker, connection: Connection, targets: Sequence[str], caller: str, name: str
    ) -> CallData:
        """An app calls `targets`, who see `caller` (a raw id) and `name`. `worker` is where `place` wants the call."""
        record = self._open(worker, Shown(caller, name))
        self.registry.by_connection[connection.id] = record
        self.exchange.submit(record, m.CreateCall(connection, {worker.ids.guid(): target for target in targets}))
        return record.data

    def answer(self, token: str, connection: Connection) -> None:
        """An app takes the incoming call that `token` stands for."""
        record, invitation = self.registry.offer(token)
        self.registry.by_connection[connection.id] = record
        self.exchange.submit(record, m.Answer(invitation, connection))

    def reject(self, token: str, cause: EndCause) -> None:
        record, invitation = self.registry.offer(token)
        self.exchange.submit(record, m.Reject(invitation, cause))

    def redirect(self, token: str, to: str) -> None:
        record, invitation = self.registry.offer(token)
        self.exchange.submit(record, m.Redirect(invitation, record.worker.ids.guid(), to))

    def command(self, connection: str, command: m.Command) -> None:
        """Apply a command of the app that holds `connection`."""
        self.exchange.submit(self.registry.of_connection(connection), command)

    def connection(self, id: str) -> tuple[CallData, Connection]:
        """Return a live connection and its call; raise `Refused` when it has ended."""
        record = self.registry.of_connection(id)
        return record.data, record.data.connections[id]

    def participants(self, connection: str) -> tuple[Participant, ...]:
        """Return who is in the call of a live connection; raise `Refused` when it has ended."""
        return self.registry.of_connection(connection).call.participants()

    def offered(self, token: str) -> tuple[CallRecord, Invitation]:
        """Return the incoming call that `token` stands for; raise `Refused` when it is gone."""
        record, invitation = self.registry.offer(token)
        return record, record.data.invitations[invitation]

    def locate(self, server_call: str) -> CallRecord:
        """Return the call with this serverCallId; raise `Refused` when there is none, `Busy` when that is not known."""
        for record in self.registry.calls.values():
            if record.data.server_call_id == server_call:
                return record
        raise self.registry.not_found(Refusal.CALL_OVER)

    def meet(self, locator: str, party: str) -> CallRecord:
        """Return the call of a group or a room; the first app to come opens it, as `party`. Raises `Busy`."""
        for record in self.registry.calls.values():
            if record.data.locator == locator:
                return record
        return self._open(self.place([]), Shown(party), locator)

    def join(self, record: CallRecord, connection: Connection) -> None:
        """An app connects to a call that is under way."""
        self.exchange.submit(record, p.Join(connection))
        self.registry.by_connection[connection.id] = record

    def hang_up(self, call: str) -> bool:
        """End a call from outside (the caller API); False when there is no such call."""
        record = self.registry.calls.get(call)
        if record is None:
            return False
        self.exchange.submit(record, m.EndCall(EndCause.REMOTE_LEFT))
        return True

    def add_phone(self, party: str, rate: int, weather: Weather | None = None) -> Ticket:
        """A simulated phone will wait for calls to `party`; `weather` is over those that have none. Raises `Busy`."""
        self._check_room(len(self.registry.phones))
        on = Counter(phone.worker.number for phone in self.registry.phones.values())
        worker = min(ready(self.workers), key=lambda worker: on[worker.number])
        leg, token = worker.ids.guid(), secrets.token_urlsafe(24)
        phone = self.registry.phones[leg] = Phone(leg, party, rate, worker, weather=weather)
        with self.exchange.steps.step():
            worker.step.put(leg, phone.copy())
            worker.send(link.ExpectLeg(leg, token, rate, weather=weather))
        return Ticket(leg, token, worker.audio_url(token))

    async def drain(self) -> None:
        """Take no new calls, and wait until the last one is over."""
        self.draining = True
        while self.registry.calls:
            self.exchange.fewer.clear()
            await self.exchange.fewer.wait()

    async def close(self) -> None:
        """End every call, with its events; take no more."""
        self.draining = True
        for record in list(self.registry.calls.values()):
            if not record.data.over:  # with the call of which it is a transfer
                self.exchange.submit(record, m.EndCall(EndCause.ENDED_BY_OTHER_APP))
        for timer in self.registry.ring_timers.values():
            timer.cancel()
        await self.exchange.operations.close()
        await asyncio.sleep(0)

    def _check_room(self, taken: int) -> None:
        if self.draining:
            raise Busy("This server is being stopped, and takes no more calls.", "draining")
        if taken >= self._max_calls:
            raise Busy("This server holds as many calls as it may.")

    def _open(self, worker: Worker, shown: Shown, locator: str | None = None) -> CallRecord:
        self.placed += 1
        return self.exchange.open_call(worker, shown, self._ring_timeout_s, locator=locator)
