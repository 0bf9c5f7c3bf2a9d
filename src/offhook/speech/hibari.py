"""hibari-tts: one English voice, whose model is inside the package. Some 100 times faster than real time once warm."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from offhook.audio.pcm import FULL_SCALE, Samples, level
from offhook.speech.engines import speaks
from offhook.speech.values import Fault, Speech, SpeechError, Voice

RATE = 24_000  # Hz
SPOKEN_DBFS = -17.0  # about -20 dBFS RMS: as on a well set telephone
PEAK = 0.97 * FULL_SCALE


def load() -> Any:
    """Load the voice: `load()(text, speed=1.0, seed=0)` gives float32 samples at `RATE`, the same each time.

    Takes about a second. Raises ModuleNotFoundError when hibari-tts is not installed.
    """
    hibari: Any = importlib.import_module("hibari")
    voices: Any = importlib.import_module("hibari.voices")
    # Asking for its file by name, without leave to download, keeps this offline.
    model = voices.voice_path(voices.DEFAULT, download_missing=False)
    return hibari.Hibari(voice=voices.DEFAULT, model=model)


class Hibari:
    """The `Synthesizer`."""

    def __init__(self) -> None:
        self._model = load()

    def say(self, text: str, voice: Voice) -> Speech:
        """See `Synthesizer`. It has one voice, a woman's: what name is asked for makes no difference."""
        if not any(map(str.isalnum, text)):  # of marks it makes noises
            raise SpeechError(Fault.EMPTY, f"there is nothing to say in {text[:100]!r}")
        if not speaks(voice.language, "en"):
            raise SpeechError(Fault.LOCALE, f"hibari speaks English, not {voice.language!r}")
        if voice.kind.lower() == "male":
            raise SpeechError(Fault.VOICE, "hibari has no male voice")
        return Speech(RATE, _levelled(self._model(text, speed=voice.speed, seed=0), text))


def _levelled(raw: np.ndarray[Any, np.dtype[np.float32]], text: str) -> Samples:
    peak = float(np.abs(raw).max(initial=0.0))
    if not peak:
        raise SpeechError(Fault.EMPTY, f"there is nothing to say in {text[:100]!r}")
    samples = np.rint(raw * (0.5 * FULL_SCALE / peak)).astype(np.int16)
    gain = min(10 ** ((SPOKEN_DBFS - level(samples)) / 20), PEAK / int(np.abs(samples.astype(np.int32)).max()))
    louder: Samples = np.rint(samples * gain).astype(np.int16)
    return louder


def make(options: Mapping[str, str]) -> Hibari:
    """Load the model: some seconds, of which the first thing that it says is half."""
    hibari = Hibari()
    hibari.say("hello", Voice())
    return hibari
