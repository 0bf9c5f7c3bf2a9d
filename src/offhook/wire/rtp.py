"""RTP packets as octets (RFC 3550 5.1): one header, what lies behind one, and the packets of a whole slot at once."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

HEADER = struct.Struct("!BBHII")  # flags, marker and payload type, sequence, timestamp, SSRC
PLAIN = 2 << 6  # version 2; no padding, extension or CSRC
MARKER = 0x80
REPORTS = range(192, 224)  # a second byte that can only be RTCP's (RFC 5761 section 4)
WORD = 0xFFFFFFFF

_PADDING, _EXTENSION, _CSRCS = 0x20, 0x10, 0x0F

Octets = npt.NDArray[np.uint8]
Lines = npt.NDArray[np.intp]


def payload_of(packet: bytes) -> bytes:
    """Return what a packet (12 bytes at least) carries behind header, CSRCs and extension and before its padding.

    b"" when there is nothing, the version is not 2, or the lengths do not fit.
    """
    flags = packet[0]
    begin, end = HEADER.size + 4 * (flags & _CSRCS), len(packet)
    if flags & _EXTENSION:
        begin += 4 + 4 * int.from_bytes(packet[begin + 2 : begin + 4], "big")
    if flags & _PADDING:
        end -= packet[-1] or end
    return packet[begin:end] if flags >> 6 == 2 and begin < end else b""


class Headers:
    """The next headers of `count` streams, a line each, whose packets come regularly and are as long as each other."""

    def __init__(self, count: int, step: int) -> None:
        """`step`: of the time stamp, a packet."""
        self._step = step
        self._headers = np.zeros((count, HEADER.size), np.uint8)
        self._sequences = self._headers[:, 2:4].view(">u2")[:, 0]
        self._stamps = self._headers[:, 4:8].view(">u4")[:, 0]

    def set(self, line: int, header: bytes) -> None:
        """Set the header of a stream's next packet."""
        self._headers[line] = np.frombuffer(header, np.uint8)

    def next(self, line: int) -> bytes:
        """Return the header of a stream's next packet."""
        return bytes(self._headers[line])

    def set_before(self, line: int, header: bytes) -> None:
        """Set the header of a stream's next packet, when `advance` is still to come."""
        self.set(line, header)
        self._sequences[line : line + 1] -= 1
        self._stamps[line : line + 1] -= self._step

    def are_on(self, packets: Octets, lines: Lines) -> npt.NDArray[np.bool_]:
        """Return which of `packets` are the next ones of the streams in `lines`."""
        expected = self._headers[lines]
        came = packets[:, : HEADER.size]
        if came.tobytes() == expected.tobytes():
            return np.ones(len(lines), bool)
        return np.asarray((came == expected).all(axis=1))

    def advance(self, lines: Lines | slice = slice(None)) -> None:
        """Go on to the packets after these."""
        self._sequences[lines] += 1  # They wrap around as RTP's do.
        self._stamps[lines] += self._step

    def put_on(self, packets: Octets) -> None:
        """Write the headers of all streams on their packets."""
        packets[:, : HEADER.size] = self._headers
