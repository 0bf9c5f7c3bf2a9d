"""RTP: one telephone's audio as packets over UDP (RFC 3550, RFC 3551), a row of the plane."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from offhook.legs import codecs, rtcp, udp
from offhook.legs.codecs import Coding
from offhook.legs.rtp_path import Path, Sockets
from offhook.legs.rtp_receiver import Receiver
from offhook.legs.rtp_sender import Sender
from offhook.media.hearing import Prompt
from offhook.media.link import AgreeRtp, OpenRtp
from offhook.media.plane import DEFAULT_RATE, Row
from offhook.media.tidings import DigitsSent, LegJoined
from offhook.media.worker import MediaWorker

if TYPE_CHECKING:
    from offhook.legs.srtp import Srtp

PTIME_MS = 20  # of what we send, unless the other side wants something else


class RtpLeg:
    """One telephone: its row in the mix of a call, and what RTCP tells about it."""

    def __init__(
        self,
        order: OpenRtp,
        coding: Coding,
        srtp: Srtp | None,
        sockets: Sockets,
        worker: MediaWorker,
        settle: Callable[[RtpLeg, Sequence[float]], None],
    ) -> None:
        """`coding` is of the order's codec. `settle` is told when packets arrive: see `Receiver`."""
        self.id = order.leg
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._coding = coding
        self._parameters = ""  # theirs, of the codec
        self._ptime_ms = PTIME_MS
        self.path = Path(order.host, sockets, order.remote, order.rtcp_mux, order.srtp, srtp)
        self.receiver = Receiver(
            self.path, coding, lambda arrivals: settle(self, arrivals), self.press, self._take_report
        )
        self.receiver.expect(order.payload_type, order.dtmf_type)
        self.sender = Sender(self.path, self._digits_over)
        self.sender.say(order.payload_type, order.dtmf_type)
        self.sender.encode_by(coding, PTIME_MS)
        self.rtcp = rtcp.Reporter(self.sender.ssrc, secrets.token_hex(8))  # a random name: RFC 7022
        self.row: Row | None = None  # in a mix; before `connect` as one that is only overheard
        self._connected = False
        self._held = False
        self._heard, self._heard_at = 0, 0.0  # as `silence` saw them
        self._unreachable = 0  # as `directions` saw it
        self.told_directions = (True, True)

    @property
    def codec(self) -> str:
        """The name of the codec that was agreed on last."""
        return self._coding.name

    # ------------------------------------------------------------------------------------------ its row

    def connect(self, call: str, party: str) -> None:
        """Join the mix of `call` as `party`; what the telephone has sent before is not heard."""
        if self._connected:
            return
        if self.row is None:
            udp.drain(self.path.socket, lambda packet, age, address: None)
        self._connected, self._heard_at = True, self._loop.time()
        self._enter(call, party)
        self._worker.tell(LegJoined(self.id))

    def overhear(self, call: str, party: str) -> None:
        """Let the other legs of `call` hear the telephone before it answers."""
        if self.row is None:
            self._enter(call, party)

    def reseat(self, call: str) -> None:
        """Go over into the mix of another call."""
        if self.row is not None:
            self._enter(call, self.row.party)

    def _enter(self, call: str, party: str) -> None:
        """Take a row in the mix of `call`, instead of the one that it has."""
        before, now = self.row, self._coding
        self.row = Row(
            call,
            party,
            now.rate,
            self.receiver,
            self.sender,
            codec=now.batched,
            prompt=None if self._connected else Prompt(party, streams=False),
            retune=self._retune if now.adapts else None,
            batched=self.receiver if now.batched is not None else None,
            paced=self.sender if now.batched is not None else None,
        )
        self._worker.plane.add(self.row)
        if before is not None:
            self._worker.plane.remove(before)  # Only now: a call's last row takes along what its parties are kept from.
        self._worker.clock.wake()

    def _retune(self, rate: int) -> None:
        """The call is mixed at another rate than before."""
        self._speak(codecs.coding(self.codec, rate, self._parameters))

    def leave(self) -> None:
        """From here on it is read and written by itself, until it is found to be regular again."""
        self.receiver.leave()
        self.sender.leave()

    def _speak(self, coding: Coding) -> None:
        self._coding = coding
        self.receiver.decode_by(coding)
        self.sender.encode_by(coding, self._ptime_ms)

    # ------------------------------------------------------------------------------------------ what is agreed on

    def hold(self, held: bool) -> None:
        """The telephone is on hold: its silence does not count."""
        self._held = held

    def agree(self, order: AgreeRtp, srtp: Srtp | None) -> None:
        """What was agreed on anew rules from the next tick on; `srtp` is for new keys, None as long as they stay.

        The caller has seen to it (`relatch`) that packets may come from elsewhere, when `order.remote` is another one.
        Raises ValueError, and changes nothing, for a codec that there is not.
        """
        self.leave()
        if (order.codec, order.parameters) != (self.codec, self._parameters):
            self._change(order)
        elif order.ptime_ms != self._ptime_ms:
            self._ptime_ms = order.ptime_ms
            self.sender.encode_by(self._coding, order.ptime_ms)
        receive_type = order.payload_type if order.receive_type is None else order.receive_type
        receive_dtmf = order.dtmf_type if order.receive_dtmf_type is None else order.receive_dtmf_type
        self.receiver.expect(receive_type, receive_dtmf)
        self.sender.say(order.payload_type, order.dtmf_type, order.dtmf_rate)
        self._held = order.held
        self.path.mux = order.rtcp_mux
        if srtp is not None:
            self.path.srtp, self.path.keys = srtp, order.srtp
        if order.remote is not None:
            self.path.remote = order.remote

    def _change(self, order: AgreeRtp) -> None:
        rate = self._coding.rate if self._coding.adapts else DEFAULT_RATE
        now = codecs.coding(order.codec, rate, order.parameters)
        self._parameters, self._ptime_ms = order.parameters, order.ptime_ms
        self._speak(now)
        if self.row is not None:
            self._enter(self.row.call, self.row.party)

    def relatch(self, sockets: Sockets) -> None:
        """Take packets from anywhere again, by new sockets at the old ports."""
        self.leave()
        self.path.relatch(sockets)
        self.receiver.watch()

    # ------------------------------------------------------------------------------------------ digits

    def press(self, tones: str) -> None:
        """The telephone has pressed digits."""
        if self._connected and self.row is not None:
            self._worker.pressed(self.row.call, self.id, tones)

    def _digits_over(self, operation: str, failure: str) -> None:
        self._loop.call_soon(self._worker.tell, DigitsSent(self.id, operation, failure))

    # ------------------------------------------------------------------------------------------ its life

    def silence(self) -> float:
        """Return for how many seconds no audio has come, as calls of this saw it; 0 on hold and before `connect`.

        A telephone that has said that it falls silent (DTX) is there as long as its RTCP reports come.
        """
        now = self._loop.time()
        jitter = self.receiver.jitter
        heard = jitter.counts.received + (self.rtcp.reports if jitter.quiet else 0)
        if not self._connected or self._held or heard != self._heard:
            self._heard, self._heard_at = heard, now
        return now - self._heard_at

    def directions(self, silent_s: float) -> tuple[bool, bool]:
        """Return whether it is heard, and whether it is reached, as far as one can tell: nothing came for `silent_s`,
        or its host has said since the last call of this that nobody listens there."""
        before, self._unreachable = self._unreachable, self.path.unreachable - self.path.unreachable_reports
        return self.silence() < silent_s, self._unreachable == before

    def end(self) -> None:
        """Leave the mix, say goodbye and close the sockets."""
        self.receiver.close()
        self.sender.close()
        if self.row is not None:
            self._worker.plane.remove(self.row)
            self.row = None
        try:
            if self.path.latched is not None:
                self.path.send_report(rtcp.goodbye(self.sender.ssrc))
        finally:
            self.path.close()

    # ------------------------------------------------------------------------------------------ RTCP

    def report(self) -> None:
        """Take the other side's reports and send ours. For every few seconds, outside of the tick."""
        self.leave()  # What has come and gone is told.
        self.path.take_reports(lambda packet, age: self.rtcp.take(packet, self._unix() - age))
        if self.path.latched is not None:
            now = self._unix()
            received = self.receiver.received(self._coding.decoder.clock)
            self.path.send_report(self.rtcp.report(now, self.sender.so_far(now), received))

    @property
    def remote_jitter_ms(self) -> float:
        """The interarrival jitter of what we send, as the other side reported it last."""
        return 1000 * self.rtcp.remote_jitter / self._coding.decoder.clock

    def _take_report(self, packet: bytes) -> None:
        if (opened := self.path.open_report(packet)) is not None:
            self.rtcp.take(opened, self._unix())

    def _unix(self) -> float:
        return self._worker.plane.epoch + self._loop.time()
