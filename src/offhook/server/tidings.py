"""What the media workers tell, and what it means for calls: from tidings to reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from offhook.call import messages as m
from offhook.call import operation_messages as o
from offhook.call.model import EndCause, StreamFailure
from offhook.media import link, tidings
from offhook.server.adoption import decode
from offhook.server.exchange import Exchange
from offhook.server.placement import Worker
from offhook.server.records import Phone
from offhook.server.takeover import Takeover

log = logging.getLogger(__name__)


class Tidings:
    """Must be made on a running event loop."""

    def __init__(self, exchange: Exchange, takeover: Takeover) -> None:
        self.registry = exchange.registry
        self._exchange = exchange
        self._takeover = takeover
        self._loop = asyncio.get_running_loop()

    def on_worker_lost(self, worker: Worker) -> None:
        """End its calls, and forget what it had."""
        log.error("media worker %d is lost with %d calls", worker.number, len(worker.calls))
        worker.lose()
        for phone in [phone for phone in self.registry.phones.values() if phone.worker is worker]:
            del self.registry.phones[phone.leg]
        for id in list(worker.calls):
            if (record := self.registry.calls.get(id)) is None:
                continue  # It was over with the call of which it was a transfer.
            self._exchange.note(record, "media worker lost", worker=worker.number)
            self._exchange.submit(record, m.EndCall(EndCause.MEDIA_LOST))
        for leg in [leg for record in self.registry.calls.values() for leg in record.lent_by(worker)]:
            self._on_leg_gone(worker, leg, "media worker lost", "")
        self.registry.by_stream = {
            stream: of for stream, of in self.registry.by_stream.items() if of[0].worker is not worker
        }
        self._exchange.accounting.worker_lost(worker)

    def on_tiding(self, worker: Worker, tiding: tidings.Tiding) -> None:
        with self._exchange.steps.step():
            worker.step.saw(tiding)
            self._handle(worker, tiding)

    def _on_welcome(self, worker: Worker, boot: int) -> None:
        if boot == worker.boot and worker.link is not None:
            log.error("media worker %d is back, but its calls were reported as lost: it starts anew", worker.number)
            worker.link.send(link.Quit())
            worker.link.close()
            worker.lose()
        else:
            worker.welcome(boot)

    def _handle(self, worker: Worker, tiding: tidings.Tiding) -> None:
        match tiding:
            case tidings.Welcome(_, boot):
                self._on_welcome(worker, boot)
            case tidings.Kept(_, value):
                worker.kept.append(decode(value))
            case tidings.KeptAll():
                self._takeover.adopt(worker, worker.keeps())
            case tidings.Vitals():
                worker.vitals, worker.vitals_at = tiding, self._loop.time()
            case tidings.LegAttached(leg) if leg in self.registry.phones:
                self._on_phone_attached(self.registry.phones[leg])
            case tidings.LegAttached(leg):
                self._about_leg(leg, m.LegReady(leg))
            case tidings.PhoneAnswered(leg, call) if self.registry.is_in(leg, call):
                self._about_leg(leg, m.LegAnswered(leg))
            case tidings.LegJoined(leg):
                self._about_leg(leg, m.LegConnected(leg))
                if self._exchange.telephones is not None:
                    self._exchange.telephones.referrals.on_joined()
            case tidings.LegGone(leg, reason, left):
                self._on_leg_gone(worker, leg, reason, link.call_of(left))
            case tidings.RtpOpened(leg, port) if self._exchange.telephones is not None:
                if (record := self.registry.by_leg.get(leg)) is not None:
                    self._exchange.accounting.leg_opened(leg, record)
                self._exchange.telephones.on_opened(leg, port)
            case tidings.LegDirections(leg, heard, reached) if self._exchange.telephones is not None:
                self._exchange.telephones.on_directions(leg, heard, reached)
            case tidings.LegFigures():
                self._exchange.accounting.take_figures(tiding)
            case tidings.DigitsPressed(leg, tones):
                if (record := self.registry.by_leg.get(leg)) is not None:
                    self._exchange.note(record, "digits", count=len(tones))  # Not which: they may be a PIN.
                    self._exchange.submit(record, o.TonesPressed(leg, tones))
            case tidings.LineEnded(_, call, counts):
                if (record := self.registry.recent(link.call_of(call))) is not None:
                    self._exchange.note(record, "bad line", **counts)
            case tidings.StreamUp(stream, again):
                self._about_stream(stream, lambda connection, epoch: m.StreamOpened(connection, epoch, again))
            case tidings.StreamDown(stream, "closed", _):
                self._about_stream(stream, m.StreamClosed)
            case tidings.StreamDown(stream, failure, detail):
                cause = StreamFailure(failure)
                self._about_stream(stream, lambda connection, epoch: m.StreamFailed(connection, epoch, cause, detail))
            case tidings.StreamOddity(stream, cause, detail):
                if (entry := self.registry.by_stream.get(stream)) is not None:
                    log.warning("call %s: %s: %s", entry[0].data.id, cause, detail)
                    self._exchange.note(entry[0], "stream warning", cause=cause, detail=detail)
            case tidings.StreamEnded(stream, stats):
                if (entry := self.registry.by_stream.pop(stream, None)) is not None:
                    record, connection, epoch = entry
                    record.stats[stream] = stats
                    self._exchange.accounting.stream_ended(record, connection, epoch, stats)
                    record.streams.remove((connection, epoch))
                    self._exchange.steps.change(record)
            case _:
                self._exchange.operations.on_tiding(tiding)

    def _about_leg(self, leg: str, report: m.Report) -> None:
        if (record := self.registry.by_leg.get(leg)) is not None:
            self._exchange.submit(record, report)

    def _about_stream(self, stream: str, report: Callable[[str, int], m.Report]) -> None:
        if (entry := self.registry.by_stream.get(stream)) is not None:
            record, connection, epoch = entry
            self._exchange.submit(record, report(connection, epoch))

    def _on_phone_attached(self, phone: Phone) -> None:
        phone.attached, phone.token = True, ""
        phone.worker.step.put(phone.leg, phone.copy())
        if phone.call is not None:  # It came from another worker for this call.
            record = self.registry.calls[phone.call]
            shown = [each.shown for each in record.data.invitations.values() if each.leg == phone.leg]
            self._exchange.ring(phone, record, next(iter(shown), None) or record.data.shown)
        else:
            phone.worker.send(link.PhoneWaits(phone.leg))

    def _on_leg_gone(self, worker: Worker, leg: str, reason: str, left: str) -> None:
        if left and not self.registry.is_in(leg, left):
            return
        if (phone := self.registry.phones.get(leg)) is not None and phone.worker is not worker:
            return  # It was told to move, and will be missed at the other worker.
        if self._exchange.telephones is not None:
            self._exchange.telephones.lost(leg)
        record = self.registry.by_leg.pop(leg, None)
        if left:
            self._exchange.free_phone(leg)
        elif self.registry.phones.pop(leg, None) is not None:
            worker.step.delete(leg)
        if record is not None:
            self._exchange.note(record, "leg ended", cause=reason)
            self._exchange.submit(record, m.LegEnded(leg, _CAUSES.get(reason, EndCause.MEDIA_LOST)))


_CAUSES = {
    "hung up": EndCause.REMOTE_LEFT,
    "busy": EndCause.BUSY,
    "declined": EndCause.DECLINED,
    "no-answer": EndCause.NO_ANSWER,
}
