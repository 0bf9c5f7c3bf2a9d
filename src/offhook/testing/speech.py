"""Text to sound and back for the caller in a test: offline, replaceable, loaded when first used."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from offhook.audio.pcm import FULL_SCALE, Samples, as_samples, level
from offhook.audio.resample import convert
from offhook.speech import hibari

Speak = Callable[[str, int], Samples]
"""`speak(text, rate)`: mono samples at `rate` Hz."""

Recognize = Callable[[Samples], str]
"""`recognize(samples)`: the words in mono samples at `RECOGNIZER_RATE`, separated by spaces; empty for none."""

Sound = str | os.PathLike[str] | bytes | Samples
"""What a caller can say: a text, PCM (bytes or samples) at the call's rate, or as a path a sound file."""

RECOGNIZER_RATE = 16_000
FILE_LIMIT_S = 600.0


class SpeechMissing(ImportError):
    """A package for speech is not installed."""


def speak(text: str, rate: int) -> Samples:
    """Say `text` with the packaged voice of hibari-tts; the same text gives the same samples.

    The model is loaded at the first call, in about a second. Raises `SpeechMissing`, and ValueError for a text with
    nothing to say.
    """
    raw: np.ndarray[Any, np.dtype[np.float32]] = _voice()(text, speed=1.0, seed=0)
    peak = float(np.abs(raw).max(initial=0.0))
    if not peak:
        raise ValueError(f"nothing to say in {text!r}")
    samples = convert(np.rint(raw * (0.5 * FULL_SCALE / peak)).astype(np.int16), hibari.RATE, rate)
    loudest = int(np.abs(samples.astype(np.int32)).max())
    gain = min(10 ** ((hibari.SPOKEN_DBFS - level(samples)) / 20), hibari.PEAK / loudest)
    louder: Samples = np.rint(samples * gain).astype(np.int16)
    return louder


def recognize(samples: Samples) -> str:
    """Write down English speech with pocketsphinx, in lower case. Raises `SpeechMissing`."""
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(samples.astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr)


def load(path: str | os.PathLike[str], rate: int) -> Samples:
    """Read a sound file (WAV, FLAC, MP3 …) of at most 10 minutes as mono at `rate`. Raises OSError, ValueError."""
    soundfile: Any = importlib.import_module("soundfile")
    with open(path, "rb") as file:
        try:
            with soundfile.SoundFile(file) as sound:
                if sound.frames / sound.samplerate > FILE_LIMIT_S:
                    raise ValueError(f"{os.fspath(path)}: longer than {FILE_LIMIT_S:g} s")
                own_rate, data = int(sound.samplerate), sound.read(dtype="float64", always_2d=True)
        except soundfile.SoundFileError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error
    mono = np.clip(np.rint(data.mean(axis=1) * 32_768), -32_768, 32_767).astype(np.int16)
    return convert(mono, own_rate, rate)


def samples_of(sound: Sound, rate: int, speak: Speak) -> Samples:
    """Return what a caller is to say as samples at `rate`. A `str` that ends in `.wav` is a path.

    Raises ValueError for PCM of half a sample or what `load` refuses, OSError for a file that cannot be read, TypeError
    for what is no sound.
    """
    match sound:
        case str() if not sound.lower().endswith(".wav"):
            return speak(sound, rate)
        case str() | os.PathLike():
            return load(sound, rate)
        case bytes():
            if len(sound) % 2:
                raise ValueError(f"{len(sound)} bytes of PCM: samples have two")
            return as_samples(sound)
        case np.ndarray() if sound.dtype == np.int16 and sound.ndim == 1:
            return sound
        case _:
            raise TypeError(f"{type(sound).__name__}: neither a text, nor PCM (bytes, mono int16 samples), nor a path")


def words_of(sound: Sound) -> str:
    """Return the text that a sound is, as far as a server is told of it (1000 characters); "" for any other sound."""
    return sound[:1000] if isinstance(sound, str) and not sound.lower().endswith(".wav") else ""


@cache
def _voice() -> Any:
    try:
        return hibari.load()
    except ModuleNotFoundError as error:
        raise SpeechMissing("to say a text needs hibari-tts: pip install 'offhook[speech]'") from error


@cache
def _decoder() -> Any:
    try:
        pocketsphinx: Any = importlib.import_module("pocketsphinx")
    except ModuleNotFoundError as error:
        raise SpeechMissing("to hear words needs pocketsphinx: pip install 'offhook[speech]'") from error
    return pocketsphinx.Decoder(samprate=RECOGNIZER_RATE, loglevel="FATAL")
