"""RTCP reports (RFC 3550 section 6): what we tell the other side of an RTP leg, and what it tells us.

Bytes in, values out: no clock and no socket. Times are NTP times in units of 2**-16 s, their middle 32 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

SENDER, RECEIVER, DESCRIPTION, BYE = 200, 201, 202, 203  # packet types
SECOND = 1 << 16  # of the middle 32 bits of an NTP time
MIDDLE = 0xFFFFFFFF
NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970

_HEADER = struct.Struct("!BBHI")  # version and count, type, words that follow, SSRC
_SENDER_INFO = struct.Struct("!QIII")  # NTP time, RTP timestamp, packets, octets
_BLOCK = struct.Struct("!IIIIII")  # SSRC, fraction and cumulative lost, highest sequence, jitter, LSR, DLSR
_VERSION = 2 << 6
_COUNT = 0x1F
_CNAME = 1


class Block(NamedTuple):
    """How one source is received. `fraction` lost of the latest 256, `lost` since the beginning (below 0: doubled),
    `jitter` in timestamp units; `last_report` and `since_report` let its sender compute the round trip; 0: none yet.
    """

    source: int
    fraction: int
    lost: int
    highest: int
    jitter: int
    last_report: int
    since_report: int


class Sent(NamedTuple):
    """What a sender has sent: `ntp` (64 bits) and `timestamp` are of the same moment."""

    ntp: int
    timestamp: int
    packets: int
    octets: int


class Report(NamedTuple):
    """A sender's or receiver's report; `sent` is None for a receiver's."""

    source: int
    sent: Sent | None
    blocks: list[Block]


def ntp(unix: float) -> int:
    """Return a Unix time as NTP's 64 bits."""
    return int((unix + NTP_EPOCH) * (1 << 32))


def middle(ntp_time: int) -> int:
    """Return the middle 32 bits of NTP's 64, which reports use for time spans."""
    return ntp_time >> 16 & MIDDLE


class Received(NamedTuple):
    """What has come from a source so far: packets `received` and `lost`, and the first one's sequence number."""

    source: int
    first: int
    received: int
    lost: int
    jitter: int  # in timestamp units


class Reporter:
    """One leg's side of RTCP: composes its reports, and keeps what the other side reports about what we send.

    `remote_lost`: packets; `remote_jitter`: in timestamp units; `round_trip_ms`: 0 until known.
    """

    def __init__(self, ssrc: int, name: str) -> None:
        self._ssrc = ssrc
        self._name = name
        self._last_report = (0, 0)  # theirs: its NTP time, and when it came; both middles
        self._told = (0, 0)  # received and lost, at our last report
        self.reports = self.remote_lost = self.remote_jitter = self.round_trip_ms = 0

    def report(self, unix: float, sent: Sent | None, received: Received | None) -> bytes:
        """Return a report of now: a sender's when something was `sent`, about a source when one was `received`."""
        return compose(self._ssrc, self._name, sent, None if received is None else self._block(received, unix))

    def take(self, packet: bytes, unix: float) -> None:
        """Keep what a compound packet says, which came at `unix`."""
        now = middle(ntp(unix))
        for report in parse(packet):
            self.reports += 1
            if report.sent is not None:
                self._last_report = (middle(report.sent.ntp), now)
            for block in report.blocks:
                if block.source == self._ssrc:
                    self.remote_lost, self.remote_jitter = max(block.lost, 0), block.jitter
                    trip = now - block.last_report - block.since_report & MIDDLE
                    if block.last_report and trip < 60 * SECOND:  # Else their clock is off.
                        self.round_trip_ms = 1000 * trip // SECOND

    def _block(self, received: Received, unix: float) -> Block:
        lost = received.lost - self._told[1]
        expected = received.received - self._told[0] + lost
        self._told = received.received, received.lost
        last, came = self._last_report
        return Block(
            received.source,
            fraction=min(256 * lost // expected, 255) if expected > 0 and lost > 0 else 0,
            lost=received.lost,
            highest=received.first + max(received.received + received.lost - 1, 0) & MIDDLE,
            jitter=received.jitter,
            last_report=last,
            since_report=middle(ntp(unix)) - came & MIDDLE if last else 0,
        )


def compose(source: int, name: str, sent: Sent | None, block: Block | None) -> bytes:
    """Return a compound packet: the report, and the canonical `name` that must follow it."""
    body = b"" if sent is None else _SENDER_INFO.pack(*sent)
    if block is not None:
        lost = min(max(block.lost, -(1 << 23)), (1 << 23) - 1) & 0xFFFFFF
        body += _BLOCK.pack(block.source, block.fraction << 24 | lost, *block[3:])
    report = _packet(RECEIVER if sent is None else SENDER, 0 if block is None else 1, source, body)
    text = name.encode()
    item = bytes([_CNAME, len(text)]) + text
    return report + _packet(DESCRIPTION, 1, source, item + bytes(4 - len(item) % 4))


def goodbye(source: int) -> bytes:
    """Return the packet that ends a source."""
    return _packet(BYE, 1, source, b"")


def parse(packet: bytes) -> Iterator[Report]:
    """Yield the reports of a compound packet; what is malformed ends it, other packets are passed over."""
    at = 0
    while len(packet) - at >= _HEADER.size:
        first, kind, words, source = _HEADER.unpack_from(packet, at)
        end = at + 4 * words + 4
        if first >> 6 != 2 or end > len(packet):
            return
        if kind in (SENDER, RECEIVER):
            yield _report(packet[at + _HEADER.size : end], source, kind == SENDER, first & _COUNT)
        at = end


def _report(body: bytes, source: int, sender: bool, count: int) -> Report:
    sent = None
    if sender and len(body) >= _SENDER_INFO.size:
        sent = Sent(*_SENDER_INFO.unpack_from(body))
    blocks = body[_SENDER_INFO.size if sender else 0 :]
    count = min(count, len(blocks) // _BLOCK.size)
    return Report(source, sent, [_block(blocks, index * _BLOCK.size) for index in range(count)])


def _block(data: bytes, at: int) -> Block:
    source, losses, *rest = _BLOCK.unpack_from(data, at)
    lost = losses & 0xFFFFFF
    return Block(source, losses >> 24, lost - (1 << 24) if lost >> 23 else lost, *rest)


def _packet(kind: int, count: int, source: int, body: bytes) -> bytes:
    return _HEADER.pack(_VERSION | count, kind, 1 + len(body) // 4, source) + body
