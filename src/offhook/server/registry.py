"""Every call, phone, invitation and stream that control knows of, and by what each is found."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from offhook.call.call import Refusal, Refused
from offhook.server.placement import Busy, Worker
from offhook.server.records import CallRecord, Phone

FINISHED = 200  # calls whose record is kept after their end


class Registry:
    """What control has in its books. Whoever changes a call keeps the entries that lead to it.

    A control process that was started again learns what there is from the media workers. Until all have told it, what
    is asked for and not found may be there all the same: that is answered with `Busy`, and asked again.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self.calls: dict[str, CallRecord] = {}
        self.finished: deque[CallRecord] = deque(maxlen=FINISHED)
        self.phones: dict[str, Phone] = {}  # by leg
        self.by_connection: dict[str, CallRecord] = {}
        self.by_leg: dict[str, CallRecord] = {}
        self.by_stream: dict[str, tuple[CallRecord, str, int]] = {}  # and connection, epoch
        self.offers: dict[str, tuple[CallRecord, str]] = {}  # and invitation; by token of the incomingCallContext
        self.tokens: dict[str, str] = {}  # of an invitation
        self.ring_timers: dict[str, asyncio.TimerHandle] = {}  # by invitation

    def of_connection(self, connection: str) -> CallRecord:
        """Return the live call of a connection; raise `Refused` when there is none, `Busy` when that is not known."""
        record = self.by_connection.get(connection)
        if record is None:
            raise self.not_found(Refusal.CALL_OVER)
        return record

    def offer(self, token: str) -> tuple[CallRecord, str]:
        """Return the call and invitation that an incomingCallContext stands for; raises as `of_connection` does."""
        try:
            return self.offers[token]
        except KeyError:
            raise self.not_found(Refusal.INVITATION_GONE) from None

    def recent(self, call: str) -> CallRecord | None:
        """Return a call that is under way, or one of the last FINISHED."""
        return self.calls.get(call) or next((record for record in self.finished if record.data.id == call), None)

    def phones_of(self, party: str) -> list[Phone]:
        """Return the phones whose client is there, under this raw id."""
        return [phone for phone in self.phones.values() if phone.party == party and phone.attached]

    def is_in(self, leg: str, call: str) -> bool:
        """Whether a phone is (still) in `call`: what it said may have crossed the end of it, and a new ring."""
        record = self.by_leg.get(leg)
        return record is not None and record.data.id == call

    def not_found(self, refusal: Refusal) -> Refused | Busy:
        """What to raise for something that is in no book."""
        if any(worker.awaited for worker in self._workers):
            return Busy("A media worker has not told yet which calls it carries.", "no_worker")
        return Refused(refusal)
