"""What the jitter buffer has to know of a codec: how the payloads of its packets become what is played.

Time is counted in *units* of 1/8000 s, whatever the codec: a unit is one sample of G.711, two of G.722. A *line* is
sound as bytes: octets of G.711, which the plane decodes a whole slot at a time, or PCM of a codec that remembers what
was before, which only its own leg can decode.
"""

from __future__ import annotations

from typing import Protocol

from offhook.audio.pcm import Samples

UNITS_PER_S = 8000
UNITS_PER_MS = UNITS_PER_S // 1000
FRAME = 160  # units of 20 ms


class Filling(Protocol):
    """Sound that is played in the place of real sound."""

    def take(self, units: int) -> Samples:
        """Return the next `units`; silence when it has faded away."""


class Decoder(Protocol):
    """One direction of a codec. What a method is given comes from the network, so none of them raises."""

    clock: int  # of RTP time stamps, Hz, a multiple of `UNITS_PER_S`
    wide: int  # samples of a unit
    unit_bytes: int  # of a line
    stateful: bool  # payloads have to be opened, each once and in order; else a payload is a line

    def duration(self, payload: bytes) -> int:
        """Return the units in a payload; 0 for what is none."""

    def open(self, payload: bytes) -> bytes:
        """Return the line in a payload that has a duration."""

    def recover(self, payload: bytes, units: int) -> bytes | None:
        """Return the lost line of `units` before this payload, if that is said in it, too; else None."""

    def samples(self, line: bytes) -> Samples:
        """Return the samples of a line."""

    def line(self, samples: Samples) -> bytes:
        """Return the line of samples."""

    def filling(self, past: Samples, noise: int | None) -> Filling:
        """Return how it would most likely go on after `past` (the last `conceal.HISTORY` units).

        `noise`: the sender has said that it falls silent, and how quiet that is, in -dBov (RFC 3389).
        """
