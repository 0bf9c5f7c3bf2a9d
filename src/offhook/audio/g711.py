"""G.711: 8 kHz telephone audio as one octet a sample, μ-law (PCMU) or A-law (PCMA), by table.

Both laws are a sign, a 3-bit segment and 4 bits within it. The tables are made from that rule: decoding looks an octet
up, encoding looks a 16-bit sample up. Arrays of any shape go in, the same shape comes out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from offhook.audio.comfort_noise import ComfortNoise
from offhook.audio.conceal import Continuation
from offhook.audio.decoding import FRAME, Filling
from offhook.audio.pcm import Samples

RATE = 8000
OCTETS_PER_FRAME = FRAME  # 20 ms

_MAGNITUDE = 0x7F  # of an octet: all but the sign

Octets = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


class Codec:
    """One of the two laws; share `PCMU` and `PCMA`. `payload_type` is RTP's static one (RFC 3551), `silence` the octet
    that is sent for a sample of 0. As a `decoding.Decoder` it remembers nothing: a payload is played as it is."""

    clock = RATE
    wide = 1
    unit_bytes = 1
    stateful = False

    def __init__(self, name: str, payload_type: int, decode: Callable[[Ints], Ints], encode: Callable[[Ints], Ints]):
        self.name = name
        self.payload_type = payload_type
        self._sample_of = decode(np.arange(256)).astype(np.int16)
        self._octet_of = encode(np.arange(65_536).astype(np.uint16).view(np.int16).astype(np.int64)).astype(np.uint8)
        self.silence = int(self._octet_of[0])

    def decode(self, octets: Octets) -> Samples:
        """Return the samples of `octets`."""
        return self._sample_of.take(octets)

    def encode(self, samples: Samples) -> Octets:
        """Return the octets of `samples`; what is louder than the law can say is clipped."""
        return self._octet_of.take(samples.view(np.uint16))

    def audible(self, octets: Octets) -> npt.NDArray[np.bool_]:
        """Return for each row (last axis) whether it is more than the law's idle pattern: silence of either sign."""
        return np.asarray((octets & _MAGNITUDE != self.silence & _MAGNITUDE).any(axis=-1))

    # ------------------------------------------------------------------------------------------ as a `Decoder`

    def duration(self, payload: bytes) -> int:
        return len(payload)

    def open(self, payload: bytes) -> bytes:
        return payload

    def recover(self, payload: bytes, units: int) -> None:
        return None

    def samples(self, line: bytes) -> Samples:
        return self.decode(np.frombuffer(line, np.uint8))

    def line(self, samples: Samples) -> bytes:
        return self.encode(samples).tobytes()

    def filling(self, past: Samples, noise: int | None) -> Filling:
        return Continuation(past) if noise is None else ComfortNoise(noise, 1)


def _segment(magnitudes: Ints) -> Ints:
    """Return the segment, 0 to 7, of magnitudes of which the first segment ends at 256."""
    return np.clip(np.frexp(magnitudes)[1].astype(np.int64) - 8, 0, 7)


def _decode_ulaw(octets: Ints) -> Ints:
    octets = ~octets & 0xFF
    magnitudes = (((octets & 0x0F) << 3) + 132 << (octets >> 4 & 7)) - 132
    return np.asarray(np.where(octets & 0x80, -magnitudes, magnitudes))


def _encode_ulaw(samples: Ints) -> Ints:
    magnitudes = np.minimum(np.abs(samples), 32_635) + 132
    segments = _segment(magnitudes)
    octets = segments << 4 | magnitudes >> segments + 3 & 0x0F
    return ~(octets | np.where(samples < 0, 0x80, 0)) & 0xFF


def _decode_alaw(octets: Ints) -> Ints:
    octets = octets ^ 0x55
    segments = octets >> 4 & 7
    magnitudes = ((octets & 0x0F) << 4) + np.where(segments, 264, 8) << np.maximum(segments - 1, 0)
    return np.asarray(np.where(octets & 0x80, magnitudes, -magnitudes))


def _encode_alaw(samples: Ints) -> Ints:
    magnitudes = np.where(samples < 0, ~samples, samples)
    segments = _segment(magnitudes)
    octets = segments << 4 | magnitudes >> np.maximum(segments + 3, 4) & 0x0F
    return (octets | np.where(samples < 0, 0, 0x80)) ^ 0x55


PCMU = Codec("PCMU", 0, _decode_ulaw, _encode_ulaw)
PCMA = Codec("PCMA", 8, _decode_alaw, _encode_alaw)
