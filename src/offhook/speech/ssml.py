"""SSML (W3C, 1.1) as far as it changes what is said by whom and when: voices, languages, speed, pauses, aliases.

Other elements count as their text. Bounds: `LARGEST` characters; a pause has `PAUSE_S` at most, all of them `PAUSES_S`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from xml.parsers import expat

from offhook.speech.values import FASTEST, SLOWEST, Fault, SpeechError, Voice

LARGEST = 64 << 10
PAUSE_S = 10.0
PAUSES_S = 60.0

# What Azure Speech makes of these words (documented: "Customize voice and sound with SSML").
_STRENGTHS = {"none": 0.0, "x-weak": 0.25, "weak": 0.5, "medium": 0.75, "strong": 1.0, "x-strong": 1.25}
_RATES = {"x-slow": 0.5, "slow": 0.64, "medium": 1.0, "default": 1.0, "fast": 1.55, "x-fast": 2.0}
_PAUSES = {"p": 0.5, "s": 0.25}  # seconds after a paragraph, a sentence
_UNSAID = ("metadata", "desc")


@dataclass(frozen=True, slots=True)
class Said:
    """Something to say; of the voice only what the text itself asks for."""

    text: str
    voice: Voice


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


def parse(text: str) -> list[Said | Pause]:
    """Return what an SSML document has to say, in order. Raises `SpeechError`."""
    if len(text) > LARGEST:
        raise SpeechError(Fault.FAILED, f"the SSML has more than {LARGEST} characters")
    reader = _Reader()
    try:
        reader.parser.Parse(text.lstrip("\ufeff \t\r\n").encode(), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise SpeechError(Fault.FAILED, f"the SSML is no XML: {error}") from None
    if not any(isinstance(part, Said) for part in reader.parts):
        raise SpeechError(Fault.EMPTY, "the SSML has nothing to say")
    return reader.parts


class _Reader:
    def __init__(self) -> None:
        self.parts: list[Said | Pause] = []
        self._voices = [Voice()]  # of the elements that are open
        self._text: list[str] = []
        self._unsaid = 0  # depth within an element whose text is not said
        self._paused = 0.0
        # It is UTF-8 now, whatever it says of itself: .NET declares every string UTF-16.
        self.parser = expat.ParserCreate("utf-8")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse  # and with it every entity of its own

    def _refuse(self, *_: object) -> None:
        raise SpeechError(Fault.FAILED, "the SSML must not have a DOCTYPE")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if len(self._voices) == 1 and name != "speak":
            raise SpeechError(Fault.FAILED, f"SSML begins with <speak>, not with <{name[:40]}>")
        self._change(self._voices[-1], voice := _voice(self._voices[-1], name, attributes))
        self._voices.append(voice)
        if self._unsaid or name in _UNSAID:
            self._unsaid += 1
        elif name == "break":
            self._pause(_seconds(attributes))
        elif name in _PAUSES:
            self._flush(voice)
        elif name == "sub" and "alias" in attributes:
            self._text.append(attributes["alias"])
            self._unsaid = 1

    def _end(self, name: str) -> None:
        voice = self._voices.pop()
        self._change(voice, self._voices[-1])
        if self._unsaid:
            self._unsaid -= 1
        elif (seconds := _PAUSES.get(name.rpartition(":")[2])) is not None:
            self._flush(voice)
            self._pause(seconds)
        if len(self._voices) == 1:
            self._flush(voice)

    def _characters(self, text: str) -> None:
        if not self._unsaid:
            self._text.append(text)

    def _change(self, before: Voice, after: Voice) -> None:
        if after != before:
            self._flush(before)

    def _pause(self, seconds: float) -> None:
        self._flush(self._voices[-1])
        seconds = min(seconds, PAUSE_S, PAUSES_S - self._paused)
        if seconds > 0:
            self._paused += seconds
            self.parts.append(Pause(seconds))

    def _flush(self, voice: Voice) -> None:
        text = " ".join("".join(self._text).split())
        self._text.clear()
        if any(map(str.isalnum, text)):  # an engine would refuse the full stop after an element
            self.parts.append(Said(text, voice))


def _voice(before: Voice, name: str, attributes: Mapping[str, str]) -> Voice:
    """Return who speaks within an element."""
    after = replace(before, locale=attributes.get("xml:lang", before.locale))
    if name == "voice":
        kind = attributes.get("gender", attributes.get("xml:gender", before.kind))
        return replace(after, kind=kind, name=attributes.get("name", before.name))
    if name == "prosody":
        return replace(after, speed=_speed(before.speed, attributes.get("rate", "")))
    return after


def _speed(before: float, rate: str) -> float:
    """Return the speed that a rate asks for: a word, a factor, or a change in percent, its plus optional (Azure)."""
    rate = rate.strip()
    if match := re.fullmatch(r"([+-]?[0-9]{1,4}(?:\.[0-9]{1,4})?)%", rate):
        speed = before * (1 + float(match[1]) / 100)
    elif re.fullmatch(r"[0-9]{1,4}(?:\.[0-9]{1,4})?", rate):
        speed = before * float(rate)
    else:
        speed = _RATES.get(rate, before)
    return min(FASTEST, max(SLOWEST, speed))


def _seconds(attributes: Mapping[str, str]) -> float:
    """Return how long a break is."""
    if match := re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s)\s*", attributes.get("time", "")):
        return float(match[1]) / (1000 if match[2] == "ms" else 1)
    return _STRENGTHS.get(attributes.get("strength", "medium"), _STRENGTHS["medium"])
