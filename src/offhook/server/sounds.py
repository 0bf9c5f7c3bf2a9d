"""What is done with sound outside of the control process: decoding files, saying texts, writing down speech.

These functions are called in a process of their own (`server.studio`); what they take and return travels there and
back. Engines are made at their first use and kept.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from offhook.audio import pcm
from offhook.audio.resample import convert
from offhook.call.prompts import Source
from offhook.speech import engines, ssml
from offhook.speech.values import RATE as RECOGNISED_RATE
from offhook.speech.values import Recognition, Recognizer, Speech, SpeechError, Synthesizer, Voice

RATES = (8000, 16_000, 24_000)  # Hz, of clips: `media.player` takes these
LONGEST_S = 600.0  # of one clip


class PromptFault(Enum):
    """Why a source is no clip."""

    FORMAT = "format"
    DOWNLOAD = "download"
    TOO_LARGE = "too large"


class PromptError(Exception):
    """A source that cannot be played. Travels between processes."""

    def __init__(self, fault: PromptFault, message: str) -> None:
        super().__init__(fault, message)
        self.fault = fault
        self.message = message

    def __str__(self) -> str:
        return self.message


def decode(data: bytes, path: Path) -> None:
    """Make a clip at `path` of a sound file: WAV, FLAC, MP3 or OGG, of any rate and number of channels.

    Raises `PromptError` for what is none, or longer than LONGEST_S.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            own = int(sound.samplerate)
            most = int(LONGEST_S * own)
            samples = sound.read(most + 1, dtype="float64", always_2d=True).mean(axis=1)
    except (soundfile.SoundFileError, ValueError, TypeError, RuntimeError) as error:
        raise PromptError(PromptFault.FORMAT, f"no sound file that can be read: {error}") from None
    if len(samples) > most:
        raise PromptError(PromptFault.TOO_LARGE, f"longer than {LONGEST_S:g} s")
    if not 4000 <= own <= 192_000:
        raise PromptError(PromptFault.FORMAT, f"{own} Hz is not between 4000 and 192000")
    mono = np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype(np.int16)
    rate = next((rate for rate in RATES if rate >= own), RATES[-1])
    _write(path, rate, convert(mono, own, rate))


def say(engine: str, options: Mapping[str, str], source: Source, path: Path) -> None:
    """Make a clip at `path` of a text or SSML. Raises `SpeechError`, and `PromptError` for too much of it."""
    synthesizer = _synthesizer(engine, tuple(sorted(options.items())))
    voice = Voice(source.locale, source.voice_kind, source.voice_name)
    if source.kind == "text":
        spoken: list[Speech | float] = [synthesizer.say(source.text, voice)]
    else:
        spoken = [
            part.seconds if isinstance(part, ssml.Pause) else synthesizer.say(part.text, _merged(part.voice, voice))
            for part in ssml.parse(source.ssml)
        ]
    rate = next((part.rate for part in spoken if isinstance(part, Speech)), RATES[-1])
    samples = _joined(spoken, rate)
    if len(samples) > LONGEST_S * rate:
        raise PromptError(PromptFault.TOO_LARGE, f"longer than {LONGEST_S:g} s")
    clip_rate = next((fit for fit in RATES if fit >= rate), RATES[-1])
    _write(path, clip_rate, convert(samples, rate, clip_rate))


def recognise(
    engine: str, options: Mapping[str, str], data: bytes, locale: str, phrases: tuple[str, ...]
) -> Recognition:
    """Write down 16 kHz PCM. Raises `SpeechError`."""
    recognizer = _recognizer(engine, tuple(sorted(options.items())))
    assert RECOGNISED_RATE == 16_000
    return recognizer.recognise(pcm.as_samples(data), locale, phrases)


def hold_music(path: Path) -> None:
    """Make the clip that those on hold hear when the app has named none: soft chords, eight seconds that join up."""
    rate, beat = RATES[1], 2.0
    chords = [(261.63, 329.63, 392.00), (220.00, 261.63, 329.63), (174.61, 220.00, 261.63), (196.00, 246.94, 293.66)]
    swell = np.sin(np.pi * np.arange(round(beat * rate)) / (beat * rate)) ** 2
    parts = []
    for chord in chords:
        voices = [pcm.tone(hz, rate, beat, dbfs=-30.0).astype(np.float64) for hz in chord]
        parts.append(np.rint(np.sum(voices, axis=0) * swell).astype(np.int16))
    _write(path, rate, np.concatenate(parts))


def _merged(voice: Voice, default: Voice) -> Voice:
    return Voice(voice.locale or default.locale, voice.kind or default.kind, voice.name or default.name)


def _joined(spoken: Sequence[Speech | float], rate: int) -> pcm.Samples:
    pieces = [
        convert(part.samples, part.rate, rate) if isinstance(part, Speech) else np.zeros(round(part * rate), np.int16)
        for part in spoken
    ]
    return np.concatenate([np.zeros(0, np.int16), *pieces])


def _write(path: Path, rate: int, samples: pcm.Samples) -> None:
    """Write a clip so that it is there as a whole or not at all."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    with wave.open(str(unfinished), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    unfinished.replace(path)


@cache
def _synthesizer(engine: str, options: tuple[tuple[str, str], ...]) -> Synthesizer:
    return engines.synthesizer(engine, dict(options))


@cache
def _recognizer(engine: str, options: tuple[tuple[str, str], ...]) -> Recognizer:
    return engines.recognizer(engine, dict(options))


__all__ = ["LONGEST_S", "PromptError", "PromptFault", "SpeechError", "decode", "hold_music", "recognise", "say"]
