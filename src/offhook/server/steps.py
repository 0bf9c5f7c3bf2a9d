"""One message to control and all that follows from it is one step: each worker is told its part of it at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from offhook.server.adoption import AnswerCopy, EventCopy
from offhook.server.delivery import Parcel, Settled
from offhook.server.placement import Worker
from offhook.server.records import ANSWERS, CallRecord
from offhook.server.repeats import Answer, Done


class Steps:
    """Gathers what changes within a step, and carries it out at the end: copies and orders first, then the events.

    `keep` puts a changed call's copy into its worker's part of the step, `post` sends an event on its way.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        keep: Callable[[CallRecord], None],
        post: Callable[[Parcel, Settled], None],
    ) -> None:
        self._workers = workers
        self._keep = keep
        self._post = post
        self._within = False
        self._changed: dict[str, CallRecord] = {}
        self._parcels: list[tuple[CallRecord, Parcel]] = []

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """What is done within is one step; one that begins within another is part of it."""
        if self._within:
            yield
            return
        self._within = True
        try:
            yield
        finally:
            self._within = False
            self._end()

    def change(self, record: CallRecord) -> None:
        """The call is not what it was."""
        self._changed[record.data.id] = record

    def tell(self, record: CallRecord, parcel: Parcel) -> None:
        """Let an app know at the end of this step. Until it does, the worker keeps the event."""
        record.worker.step.put(parcel.id, EventCopy(record.data.id, parcel))
        self.resume(record, parcel)

    def resume(self, record: CallRecord, parcel: Parcel) -> None:
        """The same with an event that the worker keeps already."""
        record.undelivered.add(parcel.id)
        self._parcels.append((record, parcel))

    def settle(self, record: CallRecord, parcel: str) -> None:
        """An event is on its way no more, or need not be. With the last one of a call that is over, that is gone."""
        if parcel not in record.undelivered:
            return
        with self.step():
            record.undelivered.remove(parcel)
            record.worker.step.delete(parcel)
            if record.data.over and not record.undelivered:
                self.forget(record)

    def answer(self, id: str, done: Done[Answer]) -> None:
        """Let the answer that is given to a request be kept with the call that it has changed in this step.

        That is the first one: what follows in other calls, such as one that a transferee makes, may be over before.
        """
        record = next(iter(self._changed.values()), None)
        if record is None:
            return
        key = f"answer {id}"
        record.worker.step.put(key, AnswerCopy(record.data.id, id, done))
        record.answers.append(key)
        if len(record.answers) > ANSWERS:
            record.worker.step.delete(record.answers.popleft())

    def forget(self, record: CallRecord) -> None:
        """Nothing of the call is to be kept any more."""
        for key in (record.data.id, *record.answers):
            record.worker.step.delete(key)

    def _end(self) -> None:
        changed, self._changed = self._changed, {}
        parcels, self._parcels = self._parcels, []
        for record in changed.values():
            self._keep(record)
        # The call's worker first: it then expects a phone before that one's worker tells it to move there.
        for worker in dict.fromkeys([*(record.worker for record in changed.values()), *self._workers]):
            worker.take_step()
        for record, parcel in parcels:
            self._post(parcel, partial(self.settle, record, parcel.id))
