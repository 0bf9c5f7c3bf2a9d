"""What is done with sound outside of the control process: decoding files, saying texts, writing down speech.

These functions are called in a process of their own (`server.studio`); what they take and return travels there and
back. Engines are made at their first use and kept. Bounds: `LONGEST_S` of one clip, `LONGEST_TEXT` of a text or SSML.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from offhook.audio import pcm
from offhook.audio.files import HIGHEST_RATE, LOWEST_RATE, converted
from offhook.call.prompts import Source
from offhook.speech import engines, ssml
from offhook.speech.values import Fault, Recognition, Recognizer, Speech, SpeechError, Synthesizer, Voice

RATES = (8000, 16_000, 24_000)  # Hz, of clips: `media.player` takes these
LONGEST_S = 600.0  # of one clip
LONGEST_TEXT = 20_000  # characters: more than is said in LONGEST_S
CHANNELS = 16  # of a file
SPOKEN_DBFS = -17.0  # of texts, whatever the engine: about -20 dBFS RMS, as on a well set telephone
LOUDEST = 0.97 * pcm.FULL_SCALE


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
    """Make a clip at `path` of a sound file: WAV, FLAC, MP3 or OGG, of 4000 to 192000 Hz and up to `CHANNELS`.

    Raises `PromptError` for what is none, or longer than LONGEST_S.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            own, channels = int(sound.samplerate), int(sound.channels)
            if not LOWEST_RATE <= own <= HIGHEST_RATE or not channels <= CHANNELS:
                raise PromptError(PromptFault.FORMAT, f"{channels} channels at {own} Hz are not taken")
            rate = next((rate for rate in RATES if rate >= own), RATES[-1])
            samples = _joined(converted(_seconds(sound, own), own, rate))
    except (soundfile.SoundFileError, ValueError, TypeError, RuntimeError) as error:
        raise PromptError(PromptFault.FORMAT, f"no sound file that can be read: {error}") from None
    _write(path, rate, samples)


def say(engine: str, options: Mapping[str, str], source: Source, path: Path) -> None:
    """Make a clip at `path` of a text or SSML. Raises `SpeechError`, and `PromptError` for too much of it."""
    text = source.text if source.kind == "text" else source.ssml
    if not text.strip():
        raise SpeechError(Fault.EMPTY, "there is nothing to say")
    voice = Voice(source.locale, source.voice_kind, source.voice_name)
    parts: list[ssml.Said | ssml.Pause] = [ssml.Said(text, Voice())] if source.kind == "text" else ssml.parse(text)
    if sum(len(part.text) for part in parts if isinstance(part, ssml.Said)) > LONGEST_TEXT:
        raise PromptError(PromptFault.TOO_LARGE, f"more than {LONGEST_TEXT} characters to say")
    synthesizer = _synthesizer(engine, tuple(sorted(options.items())))
    spoken = [
        part.seconds if isinstance(part, ssml.Pause) else synthesizer.say(part.text, _merged(part.voice, voice))
        for part in parts
    ]
    own = max(part.rate for part in spoken if isinstance(part, Speech))
    rate = next((fit for fit in RATES if fit >= own), RATES[-1])
    samples = _joined(
        np.zeros(round(part * rate), np.int16) if isinstance(part, float) else _levelled(_at(rate, part))
        for part in spoken
    )
    if len(samples) > LONGEST_S * rate:
        raise PromptError(PromptFault.TOO_LARGE, f"longer than {LONGEST_S:g} s")
    _write(path, rate, samples)


def warm_up(engine: str, options: Mapping[str, str]) -> None:
    """Load what `say` needs, so that the first text does not wait for it. Raises `SpeechError`."""
    _synthesizer(engine, tuple(sorted(options.items())))


def recognise(
    engine: str, options: Mapping[str, str], data: bytes, locale: str, phrases: tuple[str, ...]
) -> Recognition:
    """Write down 16 kHz PCM. Raises `SpeechError`."""
    recognizer = _recognizer(engine, tuple(sorted(options.items())))
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


def _seconds(sound: Any, rate: int) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """Yield what an open sound file has as mono samples, a second at a time: short files may unpack into long ones."""
    for number, block in enumerate(sound.blocks(blocksize=rate, dtype="float32", always_2d=True)):
        if number >= LONGEST_S:
            raise PromptError(PromptFault.TOO_LARGE, f"longer than {LONGEST_S:g} s")
        yield block.mean(axis=1) * np.float32(32_768)


def _merged(voice: Voice, default: Voice) -> Voice:
    """Return the voice that SSML asks for; what it leaves open is as the source says."""
    if voice.name:
        return Voice(voice.language or default.locale, voice.kind, voice.name, voice.speed)
    return Voice(voice.locale or default.locale, voice.kind or default.kind, default.name, voice.speed)


def _at(rate: int, speech: Speech) -> pcm.Samples:
    line = speech.samples.astype(np.float32)
    pieces = (line[at : at + speech.rate] for at in range(0, len(line), speech.rate))
    return _joined(converted(pieces, speech.rate, rate))


def _levelled(samples: pcm.Samples) -> pcm.Samples:
    peak = int(np.abs(samples.astype(np.int32)).max(initial=0))
    if not peak:
        return samples
    gain = min(10 ** ((SPOKEN_DBFS - pcm.level(samples)) / 20), LOUDEST / peak)
    louder: pcm.Samples = np.rint(samples * gain).astype(np.int16)
    return louder


def _joined(pieces: Iterable[pcm.Samples]) -> pcm.Samples:
    return np.concatenate([np.zeros(0, np.int16), *pieces])


def _write(path: Path, rate: int, samples: pcm.Samples) -> None:
    """Write a clip so that it is there as a whole or not at all."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with wave.open(str(unfinished), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.astype("<i2").tobytes())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # a disk that is full should not be full of these
        raise


@cache
def _synthesizer(engine: str, options: tuple[tuple[str, str], ...]) -> Synthesizer:
    return engines.synthesizer(engine, dict(options))


@cache
def _recognizer(engine: str, options: tuple[tuple[str, str], ...]) -> Recognizer:
    return engines.recognizer(engine, dict(options))
