"""Every RTP leg of one media worker: their ports, their slots, their reports, and who fell silent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from offhook.legs import codecs
from offhook.legs.ports import PortRange
from offhook.legs.rtp import RtpLeg
from offhook.legs.rtp_path import Sockets
from offhook.legs.slots import arrival_phase, best_slot
from offhook.legs.udp import UdpSocket, open_udp
from offhook.media.link import (
    AgreeRtp,
    ConnectLeg,
    EndLeg,
    HoldLeg,
    OpenRtp,
    OverhearLeg,
    PressDigits,
    ReseatLeg,
    SendDigits,
    SrtpKeys,
)
from offhook.media.plane import DEFAULT_RATE
from offhook.media.stream import MediaStream
from offhook.media.tidings import LegDirections, LegFigures, LegGone, RtpOpened
from offhook.media.worker import MediaWorker

if TYPE_CHECKING:
    from offhook.legs.srtp import Srtp

REPORT_S = 5.0  # between reports, by half more or less at random (RFC 3550 section 6.2)
SILENT_S = 5.0  # without a packet, as reviews see it, and control is told: 20 s after the last one at most
WATCH_EVERY = 3  # reports, 15 s: then it is looked anew when packets arrive; clocks drift apart by 1 ms in 20 s
TIMEOUT_S = 60.0  # without a packet, of a telephone that is not on hold
CROWD = 64  # rows that a slot may have more than twice its share, and still be chosen


COUNTS: Mapping[str, str] = {  # packets, unless it says ms; by name: where a leg has them
    "received": "receiver.jitter.counts.received",
    "lost": "receiver.jitter.counts.lost",
    "reordered": "receiver.jitter.counts.reordered",
    "late": "receiver.jitter.counts.late",
    "duplicates": "receiver.jitter.counts.duplicates",
    "discarded": "receiver.jitter.counts.discarded",
    "concealed_ms": "receiver.jitter.counts.concealed_ms",
    "recovered_ms": "receiver.jitter.counts.recovered_ms",
    "noise_ms": "receiver.jitter.counts.noise_ms",
    "silent_ms": "receiver.jitter.counts.silent_ms",
    "shortened_ms": "receiver.jitter.counts.shortened_ms",
    "lengthened_ms": "receiver.jitter.counts.lengthened_ms",
    "dropped_ms": "receiver.jitter.counts.dropped_ms",
    "malformed": "receiver.malformed",  # no RTP, or nothing in it
    "other_types": "receiver.other_types",  # of a payload type that was not agreed on
    "strangers": "path.strangers",  # from elsewhere
    "forged": "path.forged",  # SRTP: not authentic, or there before
    "sent": "sender.sent",
    "unsent": "path.unsent",  # the kernel did not take them
    "unreachable": "path.unreachable",  # times that the other side's host said so
    "reports": "rtcp.reports",  # of RTCP that came
}
GAUGES: Mapping[str, str] = {
    "jitter_ms": "receiver.jitter.jitter_ms",  # RFC 3550, of what comes
    "delay_ms": "receiver.jitter.delay_ms",  # in the jitter buffer
    "remote_jitter_ms": "remote_jitter_ms",  # what the other side reports
    "round_trip_ms": "rtcp.round_trip_ms",
}
_counts_of = attrgetter(*COUNTS.values())
_gauges_of = attrgetter(*GAUGES.values())


class RtpLegs:
    """Carries out the worker's orders about telephones. Make it on the worker's loop; `close` it once."""

    def __init__(
        self,
        worker: MediaWorker,
        ports: PortRange,
        timeout_s: float = TIMEOUT_S,
        open_socket: Callable[[str, int], UdpSocket] = open_udp,
    ) -> None:
        """A telephone that sends nothing for `timeout_s`, and up to 1.5 × `REPORT_S` longer, is gone."""
        self._worker = worker
        self._ports = ports
        self._timeout_s = timeout_s
        self._open_socket = open_socket
        self._loop = asyncio.get_running_loop()
        self._legs: dict[str, tuple[RtpLeg, int]] = {}  # and its port
        self._reviews: dict[str, asyncio.TimerHandle] = {}
        self._leaders: dict[str, RtpLeg] = {}  # by call: whose packets choose its slot
        self._over: Counter[str] = Counter()  # what legs counted that have ended
        worker.vitals.add_legs(self.figures)
        worker.register(
            {
                OpenRtp: self._open,
                ConnectLeg: lambda order: self._with(order.leg, lambda leg: leg.connect(order.call, order.party)),
                OverhearLeg: lambda order: self._with(order.leg, lambda leg: leg.overhear(order.call, order.party)),
                EndLeg: lambda order: self._with(order.leg, self._end),
                HoldLeg: lambda order: self._with(order.leg, lambda leg: leg.hold(order.held)),
                AgreeRtp: self._agree,
                ReseatLeg: lambda order: self._with(order.leg, partial(self._reseat, order.call)),
                SendDigits: lambda order: self._with(
                    order.leg, lambda leg: leg.sender.press(order.tones, order.operation)
                ),
                PressDigits: lambda order: self._with(order.leg, lambda leg: leg.press(order.tones)),
            }
        )

    def close(self) -> None:
        """End every leg."""
        for leg, _ in list(self._legs.values()):
            self._end(leg)

    def figures(self) -> tuple[Mapping[str, int], Mapping[str, float]]:
        """Return what all legs have counted since the start, and the worst that is measured now: `rtp_` and a name of
        `COUNTS`, or of `GAUGES` and `_max`. No count ever falls."""
        legs = [leg for leg, _ in self._legs.values()]
        counts = Counter(self._over)
        for name, column in zip(COUNTS, zip(*map(_counts_of, legs), strict=True), strict=False):
            counts[name] += sum(column)
        gauges = zip(*map(_gauges_of, legs), strict=True)
        worst = {f"rtp_{name}_max": float(max(column)) for name, column in zip(GAUGES, gauges, strict=False)}
        return {f"rtp_{name}": round(counts[name]) for name in COUNTS}, worst

    def _with(self, id: str, act: Callable[[RtpLeg], None]) -> None:
        if id in self._legs:
            act(self._legs[id][0])

    # ------------------------------------------------------------------------------------------ open and end

    def _open(self, order: OpenRtp) -> None:
        try:
            coding, srtp = codecs.coding(order.codec, DEFAULT_RATE), _srtp(order.srtp)
            port, sockets = self._ports.take(partial(self._sockets, order.host, order.rtcp_mux))
        except (OSError, ValueError) as error:
            self._worker.tell(LegGone(order.leg, f"its RTP port could not be opened: {error}"))
            return
        leg = RtpLeg(order, coding, srtp, sockets, self._worker, self._settle)
        self._legs[order.leg] = leg, port
        self._review_later(leg)
        self._worker.tell(RtpOpened(order.leg, port))

    def _agree(self, order: AgreeRtp) -> None:
        found = self._legs.get(order.leg)
        if found is None:
            return
        leg, port = found
        path = leg.path
        try:
            srtp = _srtp(order.srtp) if order.srtp != path.keys else None
            if order.remote is not None and path.remote is not None and order.remote != path.remote:
                path.close()
                leg.relatch(self._sockets(path.host, order.rtcp_mux, port))
            leg.agree(order, srtp)
        except (OSError, ValueError) as error:
            self._end(leg)
            self._worker.tell(LegGone(order.leg, f"its audio could not be changed: {error}"))

    def _reseat(self, call: str, leg: RtpLeg) -> None:
        self._stop_leading(leg)
        leg.reseat(call)

    def _stop_leading(self, leg: RtpLeg) -> None:
        if leg.row is not None and self._leaders.get(leg.row.call) is leg:
            del self._leaders[leg.row.call]

    def _sockets(self, host: str, rtcp_mux: bool, port: int) -> Sockets:
        rtp = self._open_socket(host, port)
        try:
            return rtp, None if rtcp_mux else self._open_socket(host, port + 1)
        except OSError:
            rtp.close()
            raise

    def _end(self, leg: RtpLeg) -> None:
        self._stop_leading(leg)
        leg.end()
        counts = dict(zip(COUNTS, _counts_of(leg), strict=True))
        self._over.update(counts)
        gauges = dict(zip(GAUGES, map(float, _gauges_of(leg)), strict=True))
        rounded = {name: round(count) for name, count in counts.items()}
        self._worker.tell(LegFigures(leg.id, leg.codec, rounded, gauges))
        self._reviews.pop(leg.id).cancel()
        _, port = self._legs.pop(leg.id)
        self._ports.give_back(port)

    # ------------------------------------------------------------------------------------------ every few seconds

    def _review_later(self, leg: RtpLeg, number: int = 1) -> None:
        after = REPORT_S * random.uniform(0.5, 1.5)
        self._reviews[leg.id] = self._loop.call_later(after, self._review, leg, number)

    def _review(self, leg: RtpLeg, number: int) -> None:
        if leg.silence() >= self._timeout_s:
            self._end(leg)
            self._worker.tell(LegGone(leg.id, f"no RTP came for {self._timeout_s:g} s"))
            return
        self._review_later(leg, number + 1)
        directions = leg.directions(SILENT_S)
        if directions != leg.told_directions or not all(directions):  # Again: control may have been killed meanwhile.
            leg.told_directions = directions
            self._worker.tell(LegDirections(leg.id, *directions))
        leg.report()
        if not number % WATCH_EVERY:
            leg.receiver.watch()

    def _settle(self, leg: RtpLeg, arrivals: Sequence[float]) -> None:
        """Have the leg's call ticked right after its packets arrive; of several legs the first one decides."""
        phase = arrival_phase(arrivals)
        if leg.row is None or phase is None:
            return
        call, slots = leg.row.call, self._worker.plane.slots
        leads = call in self._leaders
        if self._leaders.setdefault(call, leg) is not leg:
            return
        current = next(number for number, slot in enumerate(slots) if call in slot.calls)
        chosen = best_slot(phase, current if leads else None)
        # Senders whose packets all come at once must not have all their calls in one slot: the last would be late.
        if chosen != current and slots[chosen].rows <= CROWD + 2 * sum(slot.rows for slot in slots) // len(slots):
            self._worker.plane.move(call, chosen)
            for row in slots[chosen].calls[call]:
                if isinstance(row.source, MediaStream):
                    row.source.retimed()


def _srtp(keys: SrtpKeys | None) -> Srtp | None:
    if keys is None:
        return None
    from offhook.legs.srtp import Srtp  # Only now: nobody else needs libsrtp.

    return Srtp(keys.send, keys.receive)
