"""pocketsphinx: English, whose model is inside the package. Good at choosing among phrases, modest at free speech.

A grammar of the phrases makes one of them out of whatever is said. So what it hears is held against a loop of single
sounds, which fits any speech: where the loop fits much better, none of the phrases was said.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from math import exp, log
from typing import Any, NamedTuple

from offhook.audio.pcm import Samples
from offhook.speech.engines import speaks
from offhook.speech.phrases import words
from offhook.speech.values import RATE, Fault, Recognition, SpeechError

# Log likelihood a frame (10 ms) by which single sounds may fit better. Of 28 phrases said by a packaged voice, clean
# and as by telephone, 25 were chosen (one was below, two were taken for another one); of 182 times that something else
# was said, 12 were above.
WORST = -2.5
# By pocketsphinx, the scores of the loop are in units of this many.
_LOOP_UNIT = 1024
_SHORTEST = RATE // 10  # samples; nothing that short has a word in it


class Sphinx:
    """The `Recognizer`. Of phrases with words that are not in its dictionary it hears the others."""

    def __init__(self) -> None:
        package: Any = importlib.import_module("pocketsphinx")
        self._free = package.Decoder(samprate=RATE, loglevel="FATAL")
        # compallsen: scores of both are of all sounds there are, and can be compared.
        self._choosing = package.Decoder(samprate=RATE, lm=None, compallsen=True, loglevel="FATAL")
        self._sounds = package.Decoder(samprate=RATE, lm=None, compallsen=True, allphone_ci=True, loglevel="FATAL")
        self._sounds.add_allphone_file("sounds", None)
        self._sounds.activate_search("sounds")
        self._phrases: frozenset[str] = frozenset()  # that the grammar is of

    def recognise(self, samples: Samples, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """See `Recognizer`."""
        if not speaks(locale, "en"):
            raise SpeechError(Fault.LOCALE, f"pocketsphinx understands English, not {locale!r}")
        if len(samples) < _SHORTEST or not samples.any():
            return Recognition("", 0.0)
        if not phrases:
            heard = _decode(self._free, samples)
            sure = [log(min(1.0, max(word.likelihood, 1e-9))) for word in heard]
            return Recognition(_text(heard), exp(sum(sure) / len(sure))) if heard else Recognition("", 0.0)
        known = {said: phrase for phrase in phrases if (said := words(phrase)) and self._knows(said)}
        if not known:
            raise SpeechError(Fault.FAILED, "pocketsphinx has the words of none of the phrases in its dictionary")
        return self._choose(samples, known)

    def _knows(self, said: str) -> bool:
        return all(self._free.lookup_word(word) is not None for word in said.split())

    def _choose(self, samples: Samples, phrases: Mapping[str, str]) -> Recognition:
        if self._phrases != phrases.keys():
            grammar = f"#JSGF V1.0; grammar choices; public <choice> = {' | '.join(phrases)};"
            self._choosing.add_jsgf_string("choices", grammar)
            self._choosing.activate_search("choices")
            self._phrases = frozenset(phrases)
        said = _decode(self._choosing, samples)
        if (phrase := phrases.get(_text(said))) is None:
            return Recognition("", 0.0)
        frames = said[-1].last - said[0].first + 1
        sounds = _decode(self._sounds, samples)
        loop = _LOOP_UNIT * sum(each.score * _overlap(each, said[0].first, said[-1].last) for each in sounds)
        better = (sum(word.score for word in said) - loop) / frames
        if better < WORST:
            return Recognition("", 0.0)
        return Recognition(phrase, 1 / (1 + exp(WORST - better)))


class _Segment(NamedTuple):
    """A word, or a single sound. `score` is a log likelihood, `likelihood` the one of this among others, 0 to 1."""

    text: str
    first: int  # frame of 10 ms
    last: int
    score: float
    likelihood: float


def _decode(decoder: Any, samples: Samples) -> list[_Segment]:
    """Return what was heard, without silence."""
    decoder.reinit_feat()  # or what it makes of a sound depends on whom it has heard before
    decoder.start_utt()
    decoder.process_raw(samples.astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    return [
        _Segment(
            each.word.partition("(")[0], each.start_frame, each.end_frame, log(max(each.ascore, 1e-300)), each.prob
        )
        for each in decoder.seg()
        if each.word[0] not in "<["
    ]


def _text(said: list[_Segment]) -> str:
    return " ".join(word.text for word in said)


def _overlap(segment: _Segment, first: int, last: int) -> float:
    """Return how much of a segment is within some frames, of 1."""
    shared = min(last, segment.last) - max(first, segment.first) + 1
    return max(0, shared) / (segment.last - segment.first + 1)


def make(options: Mapping[str, str]) -> Sphinx:
    """Load the model: about a second."""
    return Sphinx()
