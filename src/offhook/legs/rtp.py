"""RTP: one telephone's audio as G.711 packets over UDP (RFC 3550, RFC 3551), a row of the plane.

Nothing waits for packets. The kernel's socket buffer is the queue (`udp.RECEIVE_BUFFER`), and the row's tick takes out
of it what is there: no event-loop turn, no task and no callback a packet. In a steady stream there is one packet a
tick, and then that one is read and no second one looked for but every `LOOK_EVERY` ticks, as a read that finds nothing
costs more than one that finds a packet. A packet that is left behind that way is no later for it: audio that is ahead
of the tick would wait in the jitter buffer otherwise.

The kernel also says when a packet arrived. That is asked for a few packets now and then, for the choice of the slot
that is ticked right after them (`legs.slots`).
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from offhook.audio import dtmf, g711
from offhook.audio.jitter import JitterBuffer
from offhook.legs import rtcp, udp
from offhook.legs.udp import Address, UdpSocket
from offhook.media.link import AgreeRtp, DigitsSent, LegJoined, OpenRtp
from offhook.media.plane import Row
from offhook.media.worker import MediaWorker

if TYPE_CHECKING:
    from offhook.legs.srtp import Srtp

LOOK_EVERY = 16  # ticks between looks for a second packet in a steady stream
WATCHED = 8  # packets whose arrivals decide on a slot
LAST_PORT = 65_535  # There is none after it for RTCP.
NO_EVENTS = "the telephone takes no telephone events"

_HEADER = struct.Struct("!BBHII")  # flags, marker and payload type, sequence, timestamp, SSRC
_PLAIN = 2 << 6  # version 2; no padding, extension or CSRC
_PADDING, _EXTENSION, _CSRCS = 0x20, 0x10, 0x0F
_MARKER = 0x80
_REPORTS = range(192, 224)  # a second byte that can only be RTCP's (RFC 5761 section 4)
_WORD = 0xFFFFFFFF
_PER_MS = g711.RATE // 1000  # timestamp units

Sockets = tuple[UdpSocket, UdpSocket | None]  # for RTP, and for RTCP unless one carries both


def payload_of(packet: bytes) -> bytes:
    """Return what a packet (12 bytes at least) carries behind header, CSRCs and extension and before its padding.

    b"" when there is nothing, the version is not 2, or the lengths do not fit.
    """
    flags = packet[0]
    begin, end = _HEADER.size + 4 * (flags & _CSRCS), len(packet)
    if flags & _EXTENSION:
        begin += 4 + 4 * int.from_bytes(packet[begin + 2 : begin + 4], "big")
    if flags & _PADDING:
        end -= packet[-1] or end
    return packet[begin:end] if flags >> 6 == 2 and begin < end else b""


class RtpLeg:
    """One telephone: Source and Sink of a row, and what RTCP tells about it.

    It sends to where signalling said until the first valid audio comes, and from then on to where that came from. From
    elsewhere nothing is taken any more: the socket is connected, and the kernel drops it.
    """

    def __init__(
        self,
        order: OpenRtp,
        codec: g711.Codec,
        srtp: Srtp | None,
        sockets: Sockets,
        worker: MediaWorker,
        settle: Callable[[RtpLeg, Sequence[float]], None],
    ) -> None:
        """`settle` is told when packets arrive, in loop time: some time after `connect`, and after each `watch`."""
        self.id = order.leg
        self.host = order.host
        self.keys = order.srtp
        self._codec = codec
        self._srtp = srtp
        self._socket, self._rtcp_socket = sockets
        self._worker = worker
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._audio_type = order.payload_type
        self._dtmf_type = order.dtmf_type
        self._mux = order.rtcp_mux
        self.row: Row | None = None
        self._held = False
        # received
        self.jitter = JitterBuffer(codec)
        self._latched: Address = None
        self._read = self._read_watched
        self._watched = 0  # packets
        self._arrivals: list[float] = []
        self._polls = 0
        self._steady = False  # the last poll found one packet of audio
        self._source: int | None = None  # the SSRC of their audio
        self._before_source = (0, 0, 0)  # its first sequence number; packets received and lost before it
        self._event_source: int | None = None
        self._digits_in = dtmf.DigitReceiver()
        self._heard, self._heard_at = 0, 0.0  # as `silence` saw them
        # sent
        self._remote: Address = order.remote
        self._ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(16)
        self._timestamp = secrets.randbits(32)
        self._marker = _MARKER  # on the first packet after none
        self._digits_out = dtmf.DigitSender()
        self._sending: list[str] = []  # operations whose digits are on their way
        self._octets = 0
        self.rtcp = rtcp.Reporter(self._ssrc, secrets.token_hex(8))  # a random name: RFC 7022
        self.sent = self.unsent = self.unreachable = 0
        self.malformed = self.other_types = self.strangers = self.forged = 0

    # ------------------------------------------------------------------------------------------ the plane's side

    def poll(self, now: float) -> bytes | None:
        """Source: take what has arrived, return the next 20 ms."""
        self._polls += 1
        one_is_enough = self._steady and self._polls % LOOK_EVERY
        found = 0
        try:
            for _ in range(udp.DRAIN):
                if self._read(now):
                    found += 1
                    if one_is_enough:
                        break
        except BlockingIOError:
            pass
        except OSError:  # ICMP: nobody listens at the other side's port
            self.unreachable += 1
        self._steady = found == 1
        return self.jitter.pull()

    def send(self, data: bytes | memoryview) -> None:
        """Sink: send 20 ms of what the party hears, or in its place a packet of the digit that is being sent."""
        timestamp = self._timestamp
        self._timestamp = timestamp + g711.OCTETS_PER_FRAME & _WORD  # also when nothing is sent
        if self._remote is None:
            return
        if (digit := self._digits_out.next(timestamp)) is None:
            if self._sending and self._digits_out.done:
                self._digits_over()
            self._transmit(self._audio_type | self._marker, timestamp, data)
            self._marker = 0
        else:
            assert self._dtmf_type is not None
            self._transmit(self._dtmf_type | (_MARKER if digit.marker else 0), digit.timestamp, digit.payload)
            self._marker = _MARKER

    def _transmit(self, kind: int, timestamp: int, payload: bytes | memoryview) -> None:
        self._sequence = self._sequence + 1 & 0xFFFF
        packet = _HEADER.pack(_PLAIN, kind, self._sequence, timestamp, self._ssrc) + payload
        if self._srtp is not None:
            packet = self._srtp.protect(packet)
        try:
            if self._latched is None:
                self._socket.sendto(packet, self._remote)
            else:
                self._socket.send(packet)
        except OSError:  # the socket is full, or nobody listens at the other side's port
            self.unsent += 1
            return
        self.sent += 1
        self._octets += len(payload)

    # ------------------------------------------------------------------------------------------ packets that came

    def _read_connected(self, now: float) -> bool:
        """Read a packet; return whether it was audio. Raise BlockingIOError when there is none."""
        return self._take(self._socket.recv(udp.PACKET), now)

    def _read_watched(self, now: float) -> bool:
        """The same while it matters whom it is from, or when it arrived."""
        packet, ancillary, _, address = self._socket.recvmsg(udp.PACKET, udp.ANCILLARY)
        if self._latched is not None and address != self._latched:
            self.strangers += 1  # It was in the queue before the socket was connected.
            return False
        if not self._take(packet, now):
            return False
        if self._latched is None:
            self._socket.connect(address)
            self._latched = self._remote = address
        self._watched += 1
        self._arrivals.append(self._loop.time() - udp.age(ancillary))
        if self._watched == WATCHED:
            self._read = self._read_connected
            self._loop.call_soon(self._settle, self, self._arrivals)
        return True

    def _take(self, packet: bytes, now: float) -> bool:
        """Act on a packet; return whether it was audio."""
        if len(packet) < _HEADER.size:
            self.malformed += 1
            return False
        flags, kind, sequence, timestamp, source = _HEADER.unpack_from(packet)
        if self._mux and kind in _REPORTS:
            if self._latched is not None:  # else it is not known whose it is
                self._take_report(packet, self._unix())
            return False
        if self._srtp is not None:
            opened = self._srtp.unprotect(packet)
            if opened is None:
                self.forged += 1
                return False
            packet = opened
        payload = packet[_HEADER.size :] if flags == _PLAIN else payload_of(packet)
        if not payload:
            self.malformed += 1
            return False
        kind &= ~_MARKER
        if kind == self._audio_type:
            if source != self._source:
                self._begin_source(source, sequence)
            self.jitter.put(sequence, timestamp, payload, now)
            return True
        if source == self._source:
            self.jitter.put(sequence, timestamp, b"", now)  # It is not missing.
        if kind == self._dtmf_type:
            self._take_event(source, timestamp, payload)
        else:
            self.other_types += 1
        return False

    def _begin_source(self, source: int, sequence: int) -> None:
        self.jitter.reset()
        self._source = source
        self._before_source = sequence, self.jitter.counts.received, self.jitter.counts.lost

    def _take_event(self, source: int, timestamp: int, payload: bytes) -> None:
        if source != self._event_source:  # Some send events as a source of their own.
            self._event_source = source
            self._digits_in = dtmf.DigitReceiver()
        event = dtmf.parse(payload)
        if event is None:
            self.malformed += 1
        elif (tone := self._digits_in.take(timestamp, event)) and self.row is not None:
            self._worker.pressed(self.row.call, self.id, tone)

    # ------------------------------------------------------------------------------------------ its life

    def connect(self, call: str, party: str) -> None:
        """Join the mix of `call` as `party`; what the telephone has sent before is not heard."""
        if self.row is not None:
            return
        udp.drain(self._socket, lambda packet, age, address: None)
        self.row = Row(call, party, g711.RATE, self, self, codec=self._codec)
        self._worker.plane.add(self.row)
        self._worker.clock.wake()
        self._worker.tell(LegJoined(self.id))

    def hold(self, held: bool) -> None:
        """The telephone is on hold: its silence does not count."""
        self._held = held

    def agree(self, order: AgreeRtp, codec: g711.Codec, srtp: Srtp | None) -> None:
        """What was agreed on anew rules from the next tick on; `srtp` is for new keys, None as long as they stay.

        The caller has seen to it (`relatch`) that packets may come from elsewhere, when `order.remote` is another one.
        """
        self._held = order.held
        self._audio_type, self._dtmf_type, self._mux = order.payload_type, order.dtmf_type, order.rtcp_mux
        if srtp is not None:
            self._srtp, self.keys = srtp, order.srtp
        if order.remote is not None:
            self._remote = order.remote
        if order.dtmf_type is None:
            self._digits_out = dtmf.DigitSender()
            self._digits_over(NO_EVENTS)
        if codec is not self._codec:
            self._codec = self.jitter.codec = codec
            self.jitter.reset()
            if self.row is not None:
                self.reseat(self.row.call)

    def relatch(self, sockets: Sockets) -> None:
        """Take packets from anywhere again, by new sockets at the old ports."""
        self._socket, self._rtcp_socket = sockets
        self._latched = None
        self.watch()

    @property
    def remote(self) -> Address:
        """Where packets are sent to."""
        return self._remote

    def reseat(self, call: str) -> None:
        """Go over into the mix of another call, or into the same one in another way."""
        if (before := self.row) is not None:
            self.row = Row(call, before.party, g711.RATE, self, self, codec=self._codec)
            self._worker.plane.add(self.row)
            self._worker.plane.remove(before)  # Only now: a call's last row takes along what its parties are kept from.
            self._worker.clock.wake()

    def press(self, tones: str) -> None:
        """Signalling says that the telephone has pressed digits."""
        if self.row is not None:
            self._worker.pressed(self.row.call, self.id, tones)

    def send_digits(self, tones: str, operation: str) -> None:
        """Send tones to the telephone, and tell when they are out, or why they never will be."""
        failure = ""
        if self._dtmf_type is None:
            failure = NO_EVENTS
        elif not self._digits_out.has_room(len(tones)):
            failure = "too many digits wait to be sent"
        if failure:
            self._worker.tell(DigitsSent(self.id, operation, failure))
            return
        self._digits_out.press(tones)
        self._sending.append(operation)

    def _digits_over(self, failure: str = "") -> None:
        for operation in self._sending:
            self._loop.call_soon(self._worker.tell, DigitsSent(self.id, operation, failure))
        self._sending.clear()

    def watch(self) -> None:
        """Look anew when packets arrive."""
        self._watched, self._arrivals = 0, []
        self._read = self._read_watched

    def silence(self) -> float:
        """Return for how many seconds no audio has come, as calls of this saw it; 0 on hold and before `connect`."""
        now = self._loop.time()
        received = self.jitter.counts.received
        if self.row is None or self._held or received != self._heard:
            self._heard, self._heard_at = received, now
        return now - self._heard_at

    def end(self) -> None:
        """Leave the mix, say goodbye and close the sockets."""
        if self.row is not None:
            self._worker.plane.remove(self.row)
            self.row = None
        try:
            if self._latched is not None:
                self._transmit_rtcp(rtcp.goodbye(self._ssrc))
        finally:
            self.close_sockets()

    def close_sockets(self) -> None:
        """Nothing comes and goes any more."""
        self._socket.close()
        if self._rtcp_socket is not None:
            self._rtcp_socket.close()

    # ------------------------------------------------------------------------------------------ RTCP

    def report(self) -> None:
        """Take the other side's reports and send ours. For every few seconds, outside of the tick."""
        if self._rtcp_socket is not None and not udp.drain(self._rtcp_socket, self._take_from_rtcp_port):
            self.unreachable += 1
        if self._latched is None:
            return
        first, received, lost = self._before_source
        counts = self.jitter.counts
        about = rtcp.Received(
            self._source or 0,
            first,
            counts.received - received,
            counts.lost - lost,
            int(self.jitter.jitter_ms * _PER_MS),
        )
        now = self._unix()
        sent = rtcp.Sent(rtcp.ntp(now), self._timestamp, self.sent, self._octets) if self.sent else None
        self._transmit_rtcp(self.rtcp.report(now, sent, about))

    @property
    def remote_jitter_ms(self) -> float:
        """The interarrival jitter of what we send, as the other side reported it last."""
        return self.rtcp.remote_jitter / _PER_MS

    def _take_from_rtcp_port(self, packet: bytes, age: float, address: Address) -> None:
        if self._latched is not None and address[0] == self._latched[0]:
            self._take_report(packet, self._unix() - age)
        else:
            self.strangers += 1

    def _take_report(self, packet: bytes, unix: float) -> None:
        opened = packet if self._srtp is None else self._srtp.unprotect_rtcp(packet)
        if opened is None:
            self.forged += 1
        else:
            self.rtcp.take(opened, unix)

    def _transmit_rtcp(self, packet: bytes) -> None:
        if self._srtp is not None:
            packet = self._srtp.protect_rtcp(packet)
        try:
            if self._rtcp_socket is None or self._mux:
                self._socket.send(packet)
            else:
                host, port, *rest = self._latched
                if port < LAST_PORT:
                    self._rtcp_socket.sendto(packet, (host, port + 1, *rest))
        except OSError:
            self.unsent += 1

    def _unix(self) -> float:
        return self._worker.plane.epoch + self._loop.time()
