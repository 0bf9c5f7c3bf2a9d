"""G.722 at 64 kbit/s: 16 kHz audio as one octet for two samples, each direction with a memory of its own.

The arithmetic is that of the G722 package (public domain, in C); here is what a leg wants of it. The RTP clock of G.722
is 8 kHz, though its audio is not: a mistake in RFC 1890 that stayed (RFC 3551, 4.5.2). So a unit of time
(`audio.decoding`) is one octet.
"""

from __future__ import annotations

from importlib.util import find_spec

from offhook.audio.comfort_noise import ComfortNoise
from offhook.audio.conceal import Continuation
from offhook.audio.decoding import Filling
from offhook.audio.pcm import Samples, as_samples

RATE = 16_000
CLOCK = 8000
BIT_RATE = 64_000
WIDE = 2  # samples of a unit


def missing() -> str:
    """Return what keeps G.722 from being spoken here; "" if nothing does."""
    return "" if find_spec("G722") else "the package G722 is not installed: pip install offhook[g722]"


class G722Decoder:
    """What one telephone sends: see `decoding.Decoder`. Raises ImportError when there is no package for it."""

    clock = CLOCK
    wide = WIDE
    unit_bytes = 2 * WIDE
    stateful = True

    def __init__(self) -> None:
        from G722 import G722  # Only now: nobody else needs it.

        self._decode = G722(RATE, BIT_RATE).decode

    def duration(self, payload: bytes) -> int:
        return len(payload)

    def open(self, payload: bytes) -> bytes:
        pcm: bytes = self._decode(payload).tobytes()
        return pcm

    def recover(self, payload: bytes, units: int) -> None:
        return None

    def samples(self, line: bytes) -> Samples:
        return as_samples(line)

    def line(self, samples: Samples) -> bytes:
        return samples.tobytes()

    def filling(self, past: Samples, noise: int | None) -> Filling:
        return Continuation(past, WIDE) if noise is None else ComfortNoise(noise, WIDE)


class G722Encoder:
    """What one telephone is sent. Raises ImportError when there is no package for it."""

    def __init__(self) -> None:
        from G722 import G722

        self._encode = G722(RATE, BIT_RATE).encode

    def encode(self, pcm: bytes) -> bytes:
        """Return the octets of PCM at 16 kHz, an even number of samples."""
        octets: bytes = self._encode(memoryview(pcm).cast("h"))  # of plain bytes each would be a sample
        return octets
