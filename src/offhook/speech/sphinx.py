"""pocketsphinx: English, whose model is inside the package. Good at choosing among phrases, modest at free speech."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from offhook.audio.pcm import Samples
from offhook.speech.engines import speaks
from offhook.speech.phrases import words
from offhook.speech.values import RATE, Fault, Recognition, SpeechError

_SOUNDS = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
_PHONES = tuple(_SOUNDS.split())
# A grammar makes something of everything. Speech that is none of the phrases fits single sounds better: so unlikely
# must they be that a phrase that was said wins. Tried with phrases said, and with other speech.
_OTHER_SPEECH = 1e-3
_BEAM = 300  # hypotheses at a time: single sounds could be anything, and would take several times as long


class Sphinx:
    """The `Recognizer`. Of phrases with words that are not in its dictionary it hears the others."""

    def __init__(self) -> None:
        self._package: Any = importlib.import_module("pocketsphinx")
        self._free = self._package.Decoder(samprate=RATE, loglevel="FATAL")
        self._choosing: Any = None  # with the grammar of the phrases that were asked for last
        self._phrases: frozenset[str] = frozenset()

    def recognise(self, samples: Samples, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """See `Recognizer`."""
        if not speaks(locale, "en"):
            raise SpeechError(Fault.LOCALE, f"pocketsphinx understands English, not {locale!r}")
        if not phrases:
            return _decode(self._free, samples)
        known = {said: phrase for phrase in phrases if (said := words(phrase)) and self._knows(said)}
        if not known:
            raise SpeechError(Fault.FAILED, "pocketsphinx has the words of none of the phrases in its dictionary")
        found = _decode(self._chooser(frozenset(known)), samples)
        return Recognition(known[found.text], found.confidence) if found.text in known else Recognition("", 0.0)

    def _knows(self, said: str) -> bool:
        return all(self._free.lookup_word(word) is not None for word in said.split())

    def _chooser(self, phrases: frozenset[str]) -> Any:
        if self._choosing is None:
            self._choosing = self._package.Decoder(samprate=RATE, lm=None, maxhmmpf=_BEAM, loglevel="FATAL")
            for phone in _PHONES:
                self._choosing.add_word(f"_{phone}", phone, phone == _PHONES[-1])
        if self._phrases != phrases:
            self._choosing.add_jsgf_string("choices", _grammar(sorted(phrases)))
            self._choosing.activate_search("choices")
            self._phrases = phrases
        return self._choosing


def _grammar(phrases: Iterable[str]) -> str:
    sounds = " | ".join(f"_{phone}" for phone in _PHONES)
    said = " | ".join(phrases)
    return f"#JSGF V1.0; grammar choices; <sound> = {sounds}; public <said> = {said} | /{_OTHER_SPEECH:.12f}/ <sound>+;"


def _decode(decoder: Any, samples: Samples) -> Recognition:
    decoder.start_utt()
    decoder.process_raw(samples.astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    if hypothesis is None or not hypothesis.hypstr:
        return Recognition("", 0.0)
    # Its posterior, in its own logarithm, of the whole utterance: of one frame of 10 ms it is comparable.
    frames = max(1, len(samples) // (RATE // 100))
    confidence = float(decoder.get_logmath().exp(round(hypothesis.prob / frames))) if hypothesis.prob else 1.0
    return Recognition(str(hypothesis.hypstr), min(1.0, max(0.0, confidence)))


def make(options: Mapping[str, str]) -> Sphinx:
    """Load the model: about half a second."""
    return Sphinx()
