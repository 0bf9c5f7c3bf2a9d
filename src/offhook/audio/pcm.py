"""Frames, levels and tones. PCM is signed 16-bit little-endian mono; levels are in dBFS.

A level is that of the peak of the sine with the same power: a full-scale sine is 0 dBFS, as is `tone(dbfs=0)`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offhook.audio.frames import FRAME_MS as FRAME_MS
from offhook.audio.frames import FRAMES_PER_SECOND as FRAMES_PER_SECOND
from offhook.audio.frames import FULL_SCALE as FULL_SCALE
from offhook.audio.frames import bytes_per_frame as bytes_per_frame
from offhook.audio.frames import samples_per_frame as samples_per_frame
from offhook.audio.frames import silence as silence

Samples = npt.NDArray[np.int16]


def as_samples(data: bytes | bytearray | memoryview) -> Samples:
    """Return PCM bytes (an even number) as samples, without copying; read-only when `data` is."""
    return np.frombuffer(data, dtype="<i2")


def tone(hz: float, rate: int, seconds: float, dbfs: float = -12.0, phase: float = 0.0) -> Samples:
    """Return a sine of `hz` at a peak level of `dbfs`; `phase` in radians."""
    angles = 2 * np.pi * hz / rate * np.arange(round(seconds * rate)) + phase
    sine: Samples = np.rint(FULL_SCALE * 10 ** (dbfs / 20) * np.sin(angles)).astype(np.int16)
    return sine


def level(samples: Samples) -> float:
    """Return the level in dBFS; -inf for digital silence or nothing at all."""
    if not len(samples):
        return -np.inf
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return _decibels(np.sqrt(2 * power))


def tone_level(samples: Samples, hz: float, rate: int) -> float:
    """Return the level in dBFS of the sine of `hz` within `samples`.

    Exact over whole periods; over `n` samples, neighbours closer than about 2 × rate / n Hz leak in.
    """
    if not len(samples):
        return -np.inf
    window = np.hanning(len(samples) + 2)[1:-1]  # without its zeros, so that one sample is enough
    wave = np.exp(-2j * np.pi * hz / rate * np.arange(len(samples)))
    return _decibels(2 * abs(np.dot(samples * window, wave)) / window.sum())


def _decibels(amplitude: float) -> float:
    return float(20 * np.log10(amplitude / FULL_SCALE)) if amplitude > 0 else -np.inf
