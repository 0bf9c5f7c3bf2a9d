"""What speech engines take and give, and how they fail."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from offhook.audio.pcm import Samples

RATE = 16_000  # Hz, of what is recognised


@dataclass(frozen=True, slots=True)
class Speech:
    """What an engine said: mono samples at `rate` Hz."""

    rate: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Recognition:
    """What an engine heard: words separated by spaces, "" for none. `confidence`: 0 to 1; 1 where it has none."""

    text: str
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Voice:
    """Who is to speak, and how fast.

    A locale such as "en-US", a kind (male, female) and a name, "" where it does not matter; `speed` is from SLOWEST to
    FASTEST, 1 is as usual.
    """

    locale: str = ""
    kind: str = ""
    name: str = ""
    speed: float = 1.0

    @property
    def language(self) -> str:
        """The locale, or else the one that the name begins with, as those of Azure do: "en-US-JennyNeural"."""
        if not self.locale and (match := re.match(r"[a-z]{2,3}-[A-Z]{2}(?=-)", self.name)):
            return match[0]
        return self.locale


SLOWEST, FASTEST = 0.5, 2.0


class Fault(Enum):
    """Why an engine could not do what it was asked."""

    MISSING = "missing"  # its package, program, model or key
    LOCALE = "locale"  # not one that it speaks or understands
    VOICE = "voice"  # not one that it has
    EMPTY = "empty"  # nothing to say
    FAILED = "failed"  # anything else
    BUSY = "busy"  # too much is being asked of it


class SpeechError(Exception):
    """`fault`: why; the message is for people. Travels between processes."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(fault, message)
        self.fault = fault
        self.message = message

    def __str__(self) -> str:
        return self.message


class Synthesizer(Protocol):
    """Says texts."""

    def say(self, text: str, voice: Voice) -> Speech:
        """Return `text` as sound. A name that it does not have it ignores; a locale or kind that it cannot is an error.

        Raises `SpeechError`. May take long: never call it where media run.
        """


class Recognizer(Protocol):
    """Writes down what is said."""

    def recognise(self, samples: Samples, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """Return what is said in mono samples at `RATE`; when there are `phrases`, the one of them that is, or none.

        Raises `SpeechError`. May take long: never call it where media run.
        """
