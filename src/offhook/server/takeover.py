"""A control process takes over what the one before it had: from a worker's copies to calls, phones and events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from offhook.call import messages as m
from offhook.call import people_messages as p
from offhook.call.model import ConnectionState, EndCause, LegState
from offhook.media import link
from offhook.server import moves
from offhook.server.adoption import AnswerCopy, CallCopy, Copy, EventCopy, LineCopy, PhoneCopy, PlacesCopy
from offhook.server.exchange import Exchange
from offhook.server.placement import Worker
from offhook.server.records import CallRecord, Phone, stream_id
from offhook.server.repeats import Answer, Repeats

log = logging.getLogger(__name__)


class Takeover:
    """`repeats` gets the answers that were given; `wall` gives Unix time in seconds."""

    def __init__(self, exchange: Exchange, repeats: Repeats[Answer], wall: Callable[[], float]) -> None:
        self.registry = exchange.registry
        self._exchange = exchange
        self._repeats = repeats
        self._wall = wall
        self._half_moved: list[tuple[str, CallRecord, CallRecord]] = []  # legs that two calls have

    def adopt(self, worker: Worker, kept: list[Copy]) -> None:
        """Take over what the control process before this one had at `worker`."""
        adopted: dict[str, CallRecord] = {}
        for call in (copy for copy in kept if isinstance(copy, CallCopy)):
            adopted[call.data.id] = self._adopt_call(worker, call)
        while self._half_moved:
            self._settle(*self._half_moved.pop())
        for phone in (copy for copy in kept if isinstance(copy, PhoneCopy)):
            self._adopt_phone(worker, phone)
        for answer in (copy for copy in kept if isinstance(copy, AnswerCopy)):
            self._repeats.restore(answer.id, answer.done)
            if (record := adopted.get(answer.call)) is not None:
                record.answers.append(f"answer {answer.id}")
        for event in (copy for copy in kept if isinstance(copy, EventCopy)):
            if (record := adopted.get(event.call)) is not None:
                self._exchange.steps.resume(record, event.parcel)
        for line in (copy for copy in kept if isinstance(copy, LineCopy)):
            self._exchange.adopt_line(worker, line)
        self._exchange.places.meet(worker, (copy for copy in kept if isinstance(copy, PlacesCopy)))
        for record in adopted.values():
            for id in record.data.transfers.keys() - adopted.keys():  # A trunk was to make it: nobody listens any more.
                self._exchange.submit(record, p.TransferEnded(id, EndCause.CANCELED))
        if kept:
            log.warning("took over %d calls from media worker %d", len(worker.calls), worker.number)

    def _adopt_call(self, worker: Worker, copy: CallCopy) -> CallRecord:
        data, record = copy.data, CallRecord.from_copy(copy, worker, self._exchange.workers)
        for connection, epoch in copy.streams:
            self.registry.by_stream[stream_id(connection, epoch)] = (record, connection, epoch)
        self._exchange.accounting.adopt(record)
        if data.over:
            self.registry.finished.append(record)
            return record
        self.registry.calls[data.id] = record
        worker.calls.add(data.id)
        live = (c.id for c in data.connections.values() if c.state is not ConnectionState.DISCONNECTED)
        self.registry.by_connection.update(dict.fromkeys(live, record))
        legs = (leg.id for leg in data.legs.values() if leg.state is not LegState.ENDED and leg.of_call is None)
        for leg in legs:
            if (other := self.registry.by_leg.get(leg)) is not None:
                self._half_moved.append((leg, record, other))
            self.registry.by_leg[leg] = record
        for invitation, ring in copy.rings.items():
            left = max(0.0, ring.until - self._wall())
            timer = asyncio.get_running_loop().call_later(
                left, self._exchange.submit, record, m.RingTimedOut(invitation)
            )
            self.registry.ring_timers[invitation] = timer
            if ring.token:
                self.registry.offers[ring.token] = (record, invitation)
                self.registry.tokens[invitation] = ring.token
        self._exchange.operations.adopt(record)
        return record

    def _settle(self, leg: str, one: CallRecord, other: CallRecord) -> None:
        """Control was killed when the worker of one call knew that a leg moves, and that of the other did not.

        Who borrows it has it, which is mostly the call that it was to move to.
        """
        new, old = (one, other) if leg in one.borrowed else (other, one)
        self._exchange.submit(old, m.LegEnded(leg, EndCause.REMOTE_LEFT))
        self.registry.by_leg[leg] = new
        moves.lend(leg, new)

    def _adopt_phone(self, worker: Worker, copy: PhoneCopy) -> None:
        of = self.registry.by_leg.get(copy.leg)
        call = None if of is None else of.data.id
        phone = Phone(copy.leg, copy.party, copy.rate, worker, copy.attached, call, copy.token, copy.weather)
        there = self.registry.phones.get(copy.leg)
        if there is None:
            self.registry.phones[copy.leg] = phone
            return
        # Control was killed when the new worker expected the phone, and before the old one was told to send it there.
        new, old = (phone, there) if copy.token else (there, phone)
        old.worker.send(link.MoveLeg(old.leg, new.worker.audio_url(new.token)))
        old.worker.step.delete(old.leg)
        self.registry.phones[copy.leg] = new
