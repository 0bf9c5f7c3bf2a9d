"""Speech for the demo, made offline: one packaged voice, bent into two that nobody takes for one another.

The bot speaks with the voice as it is. The caller's is the same voice a fifth lower: rendered faster, then resampled as
if it had been recorded at a lower rate, which slows it back to a natural pace and takes pitch and timbre down together.
The same text always gives the same samples.
"""

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from offhook.audio.resample import convert
from offhook.speech import hibari

Voice = Literal["caller", "bot"]

# The factor on every frequency of the packaged voice.
PITCH: dict[Voice, float] = {"caller": 0.8, "bot": 1.0}

# RMS of the spoken part, as on a well set telephone: -20 dB below full scale leaves room for speech's own peaks.
LEVEL_DBFS = -20.0
_PEAK = 32_000  # no sample beyond this: a rare peak lowers the whole text rather than clip
_ACTIVE_DB = 30.0  # a window counts as speech when it is no further than this below the loudest one

_PITCH_WINDOW_S = 0.04
_PITCH_HOP_S = 0.01
_PITCH_HZ = (70.0, 400.0)
# Least normalised autocorrelation of a voiced window; breath and fricatives stay well below.
_VOICED = 0.6


def speak(text: str, voice: Voice, rate: int = 24_000) -> NDArray[np.int16]:
    """Say `text` in one of the two voices: mono samples at `rate` Hz, -20 dBFS RMS while there is speech, no clipping.

    Loads the model on the first call (under a second); after that about a hundred times faster than real time. Raises
    ValueError for a text with nothing to say, ModuleNotFoundError with the cure when the speech extra is missing.
    """
    factor = PITCH[voice]
    raw = _model()(text, speed=1 / factor, seed=0)
    if not raw.any():
        raise ValueError(f"nothing to say in {text!r}")
    pcm = np.round(raw * (_PEAK / 2 / np.abs(raw).max())).astype(np.int16)  # half: a resampled peak may be higher
    return normalised(convert(pcm, round(hibari.RATE * factor), rate), rate)


def normalised(pcm: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    """The same sound with its spoken part at LEVEL_DBFS, or as near to it as fits without clipping."""
    samples = pcm.astype(np.float64)
    windows = _windows(samples, round(rate * 0.02), round(rate * 0.02))
    power = np.mean(windows**2, axis=1)
    if not power.any():
        return pcm.copy()
    active = power[power >= power.max() * 10 ** (-_ACTIVE_DB / 10)]
    gain = min(32_768 * 10 ** (LEVEL_DBFS / 20) / np.sqrt(active.mean()), _PEAK / np.abs(samples).max())
    louder: NDArray[np.int16] = np.round(samples * gain).astype(np.int16)
    return louder


def pitch(pcm: NDArray[np.int16], rate: int) -> float:
    """The median fundamental of the voiced part in Hz, between 70 and 400; 0.0 when nothing in it is voiced.

    By autocorrelation over windows of 40 ms: a window's period is the lag of its highest peak, or the first peak that
    comes close to it, as the multiples of a period correlate nearly as well as the period.
    """
    size, shortest, longest = round(rate * _PITCH_WINDOW_S), round(rate / _PITCH_HZ[1]), round(rate / _PITCH_HZ[0])
    windows = _windows(pcm.astype(np.float64), size, round(rate * _PITCH_HOP_S))
    power = np.mean(windows**2, axis=1)
    windows = windows[power > power.max() * 10 ** (-_ACTIVE_DB / 10)]
    taper = np.hanning(size)
    # Divided by the taper's own autocorrelation, which would otherwise favour short lags.
    correlation = _autocorrelation(windows * taper, longest + 2) / _autocorrelation(taper[None, :], longest + 2)
    lags = correlation[:, shortest - 1 :] / correlation[:, :1]
    inner = lags[:, 1:-1]
    peaks = np.where((inner > lags[:, :-2]) & (inner >= lags[:, 2:]), inner, 0.0)
    peaks = peaks[peaks.max(axis=1) >= _VOICED]
    if not len(peaks):
        return 0.0
    first = (peaks >= 0.95 * peaks.max(axis=1, keepdims=True)).argmax(axis=1)
    return float(np.median(rate / (shortest + first)))


def _windows(samples: NDArray[np.float64], size: int, hop: int) -> NDArray[np.float64]:
    """Overlapping windows as rows, (n, size); a sound shorter than one window is padded with silence to one."""
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]


def _autocorrelation(windows: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    """Autocorrelation of each row at the first so many lags, (n, lags)."""
    size = 2 * windows.shape[1]
    spectrum = np.fft.rfft(windows, size, axis=1)
    correlation: NDArray[np.float64] = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=1)[:, :lags]
    return correlation


@cache
def _model() -> Any:
    """The packaged voice, loaded once."""
    try:
        return hibari.load()
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the demo's speech needs the demo extra: pip install 'offhook[demo]'", name=error.name
        ) from error
