"""SSML (W3C, 1.1) as far as it changes what is said by whom and when: voices, languages, pauses, aliases.

Other elements count as their text. Bounds: `LARGEST` characters; a pause has `PAUSE_S` at most, all of them `PAUSES_S`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.parsers import expat

from offhook.speech.values import Fault, SpeechError, Voice

LARGEST = 64 << 10
PAUSE_S = 10.0
PAUSES_S = 60.0

_STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 0.75, "x-strong": 1.0}
_BREAKS = {"p": 0.5, "s": 0.25}  # seconds after a paragraph, a sentence


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
        reader.parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise SpeechError(Fault.FAILED, f"the SSML is no XML: {error}") from None
    if not any(isinstance(part, Said) for part in reader.parts):
        raise SpeechError(Fault.EMPTY, "the SSML has nothing to say")
    return reader.parts


class _Reader:
    def __init__(self) -> None:
        self.parts: list[Said | Pause] = []
        self._voices = [Voice()]
        self._text: list[str] = []
        self._aliased = 0  # depth within an element whose text is not said
        self._paused = 0.0
        self._depth = 0
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse  # and with it every entity of its own

    def _refuse(self, *_: object) -> None:
        raise SpeechError(Fault.FAILED, "the SSML must not have a DOCTYPE")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self._depth and name != "speak":
            raise SpeechError(Fault.FAILED, f"SSML begins with <speak>, not with <{name[:40]}>")
        self._depth += 1
        if self._aliased:
            self._aliased += 1
        self._voices.append(self._voice(name, attributes))
        if name == "break":
            self._pause(_seconds(attributes))
        elif name == "sub" and "alias" in attributes and not self._aliased:
            self._text.append(f" {attributes['alias']} ")
            self._aliased = 1

    def _end(self, name: str) -> None:
        self._flush()
        self._voices.pop()
        self._depth -= 1
        if self._aliased:
            self._aliased -= 1
        if (seconds := _BREAKS.get(name.rpartition(":")[2])) is not None:
            self._pause(seconds)

    def _voice(self, name: str, attributes: dict[str, str]) -> Voice:
        before = self._voices[-1]
        locale = attributes.get("xml:lang", before.locale)
        if name != "voice":
            after = Voice(locale, before.kind, before.name)
        else:
            after = Voice(locale, attributes.get("gender", before.kind), attributes.get("name", before.name))
        if after != before:
            self._flush()
        return after

    def _characters(self, text: str) -> None:
        if not self._aliased:
            self._text.append(text)

    def _pause(self, seconds: float) -> None:
        self._flush()
        seconds = min(seconds, PAUSE_S, PAUSES_S - self._paused)
        if seconds > 0:
            self._paused += seconds
            self.parts.append(Pause(seconds))

    def _flush(self) -> None:
        text = " ".join("".join(self._text).split())
        self._text.clear()
        if text:
            # What follows an element of another voice is said by the one before it again.
            self.parts.append(Said(text, self._voices[-1]))


def _seconds(attributes: dict[str, str]) -> float:
    if match := re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s)\s*", attributes.get("time", "")):
        return float(match[1]) / (1000 if match[2] == "ms" else 1)
    return _STRENGTHS.get(attributes.get("strength", "medium"), _STRENGTHS["medium"])
