"""A studio for tests: its prompts are tones, and it hears what it is told to hear.

A text `440` is a second of 440 Hz, `440 2.5` is two and a half seconds; `!format` cannot be had, for that reason, and
neither can any file but one of `FILE` (which is 1000 Hz). Nothing takes any time.
"""

from __future__ import annotations

import tempfile
import wave
from functools import lru_cache
from pathlib import Path

from offhook.audio import pcm
from offhook.call.prompts import Source
from offhook.server.studio import StudioError
from offhook.speech.values import Recognition

RATE = 16_000
FILE = "https://app.example/tone.wav"
MUSIC_HZ = 600


@lru_cache(maxsize=1)
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tones-")


@lru_cache(maxsize=100)
def tone_file(frequency: float, seconds: float) -> Path:
    """Return a WAV file with a tone of -20 dBFS."""
    path = Path(_directory().name, f"{frequency:g}-{seconds:g}.wav")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tone(frequency, RATE, seconds, -20).tobytes())
    return path


class ToneStudio:
    def __init__(self) -> None:
        self.kept: list[Path] = []  # clips that are in use
        self.hears = "yes"
        self.warmed = 0  # times that it was to make itself ready

    def warm_up(self) -> None:
        """Tones need nothing but to be counted."""
        self.warmed += 1

    async def clip(self, source: Source) -> Path:
        if source.text.startswith("!"):
            raise StudioError(source.text[1:], "as it was asked for")
        if source.kind == "file" and source.uri != FILE:
            raise StudioError("format", "not a sound")
        frequency, _, seconds = (source.text or source.ssml or "1000").partition(" ")
        return self._keep(tone_file(float(frequency), float(seconds or 1)))

    async def hold_music(self) -> Path:
        return self._keep(tone_file(MUSIC_HZ, 1))

    def release(self, path: Path) -> None:
        self.kept.remove(path)

    async def recognise(self, said: bytes, locale: str, phrases: tuple[str, ...]) -> Recognition:
        if locale != "en-US":
            raise StudioError("unsupported", f"{locale} is not understood")
        return Recognition(self.hears, 0.5)

    def _keep(self, path: Path) -> Path:
        self.kept.append(path)
        return path
