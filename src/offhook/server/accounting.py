"""Keeps the accounts of all calls, and writes a call record for each one that is over and whose figures have come.

A record is written once, even when the control process is killed: the call's worker keeps the call until the record is
in the file, and who takes over reads at the end of the file what is there (`call_records`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from offhook.call import messages as m
from offhook.media.tidings import LegFigures
from offhook.server.accounts import Account, LegAudio
from offhook.server.call_records import RecordFile, describe
from offhook.server.histogram import Histogram
from offhook.server.placement import Worker
from offhook.server.records import CallRecord, stream_id
from offhook.server.steps import Steps

RECORD = "call record"  # in `CallRecord.undelivered`, until it is written
FIGURES_S = 5.0  # after the end of a call, for the figures of its legs and streams
MOS_BOUNDS = (1.5, 2.0, 2.5, 3.0, 3.25, 3.5, 3.75, 4.0, 4.1, 4.2, 4.3, 4.4)
TIME_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)


class Accounting:
    """`file` is set before the first call; without it only figures are gathered. `wall` gives Unix time in seconds."""

    def __init__(self, steps: Steps, wall: Callable[[], float]) -> None:
        self.file: RecordFile | None = None
        self.mos = Histogram(MOS_BOUNDS)  # of telephones' legs that have ended
        self.jitter_s = Histogram(TIME_BOUNDS_S)  # the same
        self.round_trip_s = Histogram(TIME_BOUNDS_S)  # the same, where RTCP has told it
        self._steps = steps
        self._wall = wall
        self._legs: dict[str, CallRecord] = {}  # whose figures are to come
        self._waiting: dict[str, CallRecord] = {}  # calls that are over and not written, by id

    async def close(self) -> None:
        """Wait for the figures of calls that have just ended, a second at most, and write all records."""
        deadline = asyncio.get_running_loop().time() + 1.0
        while self._waiting and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)
        for record in list(self._waiting.values()):
            self._write(record)
        if self.file is not None:
            await self.file.close()

    # ------------------------------------------------------------------------------------------ while a call goes on

    def begin(self, record: CallRecord) -> None:
        if self.file is not None:
            record.account = Account()

    def note(self, record: CallRecord, message: m.Message, effects: Sequence[m.Effect]) -> None:
        """The call has handled `message`."""
        if record.account is None:
            return
        now = self._wall()
        record.account.note(record.data, message, effects, now)
        if isinstance(message, m.StreamOpened):
            record.account.up.setdefault(stream_id(message.connection, message.epoch), now)

    def leg_opened(self, leg: str, record: CallRecord) -> None:
        """A telephone's leg is there: its figures will come, to `record` or the call that it is moved to."""
        if record.account is not None and leg not in record.account.due:
            self._legs[leg] = record
            record.account.due.append(leg)
            self._steps.change(record)

    def leg_moved(self, leg: str, record: CallRecord) -> None:
        """The leg is of another call now."""
        before = self._legs.get(leg)
        if before is not None and before.account is not None:
            before.account.due.remove(leg)
            self._steps.change(before)
            del self._legs[leg]
            self.leg_opened(leg, record)

    def take_figures(self, figures: LegFigures) -> None:
        """A telephone's leg is gone, and these are its figures."""
        audio = LegAudio.of(figures)
        if audio.mos is not None:
            self.mos.add(audio.mos)
            self.jitter_s.add(audio.jitter_ms / 1000)
        if audio.round_trip_ms is not None:
            self.round_trip_s.add(audio.round_trip_ms / 1000)
        record = self._legs.pop(figures.leg, None)
        if record is not None and record.account is not None:
            record.account.due.remove(figures.leg)
            if (account := record.account.legs.get(figures.leg)) is not None:
                account.audio = audio
            self._steps.change(record)

    def stream_ended(self, record: CallRecord, connection: str, epoch: int, stats: dict[str, int]) -> None:
        if record.account is not None:
            record.account.stream_ended(stream_id(connection, epoch), connection, stats, self._wall())

    # ------------------------------------------------------------------------------------------ when it is over

    def over(self, record: CallRecord) -> None:
        """The call is over. It is kept until its record is written."""
        if self.file is not None and record.account is not None and record.data.id not in self.file.known:
            record.undelivered.add(RECORD)
            self._waiting[record.data.id] = record
            asyncio.get_running_loop().call_later(FIGURES_S, self._write, record)

    def settle(self, record: CallRecord) -> None:
        """At the end of a step that has changed the call: write its record if all is there."""
        if record.data.id in self._waiting and not record.streams and record.account and not record.account.due:
            self._write(record)

    def adopt(self, record: CallRecord) -> None:
        """The call was begun by the control process before this one."""
        if record.account is not None:
            self._legs.update(dict.fromkeys(record.account.due, record))
        if record.data.over:
            self.over(record)
            self._steps.change(record)

    def worker_lost(self, worker: Worker) -> None:
        """No figures will come from there any more."""
        for leg, record in list(self._legs.items()):
            if record.worker is worker and record.account is not None:
                record.account.due.remove(leg)
                del self._legs[leg]
        for record in list(self._waiting.values()):
            if record.worker is worker:
                self._write(record)

    def _write(self, record: CallRecord) -> None:
        if self._waiting.pop(record.data.id, None) is None:
            return
        assert self.file is not None
        for leg in record.account.due if record.account is not None else ():
            self._legs.pop(leg, None)
        self.file.write(describe(record), lambda: self._steps.settle(record, RECORD))
