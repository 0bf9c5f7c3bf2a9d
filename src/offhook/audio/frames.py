"""The frame: 20 ms of mono signed 16-bit little-endian PCM. What needs no arithmetic on samples, and so no numpy."""

from __future__ import annotations

from functools import lru_cache

FRAME_MS = 20
FRAMES_PER_SECOND = 50
FULL_SCALE = 32767.0


@lru_cache(maxsize=64)
def samples_per_frame(rate: int) -> int:
    """Return the samples of one 20 ms frame; raise ValueError for a rate (Hz) that has none or is out of range."""
    if not 8000 <= rate <= 48_000 or rate % FRAMES_PER_SECOND:
        raise ValueError(f"rate: {rate} Hz is not between 8000 and 48000 with a whole number of samples in 20 ms")
    return rate // FRAMES_PER_SECOND


def bytes_per_frame(rate: int) -> int:
    """Return the bytes of one 20 ms frame."""
    return 2 * samples_per_frame(rate)


@lru_cache(maxsize=64)
def silence(rate: int) -> bytes:
    """Return one frame of digital silence."""
    return bytes(bytes_per_frame(rate))
