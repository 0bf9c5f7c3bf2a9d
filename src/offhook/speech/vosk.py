"""Vosk: small models of many languages, each a folder that is named: they are never downloaded."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offhook.audio.pcm import Samples
from offhook.speech.engines import speaks
from offhook.speech.phrases import chosen, words
from offhook.speech.values import RATE, Fault, Recognition, SpeechError

_UNKNOWN = "[unk]"  # a word that is none of the grammar's


class Vosk:
    """The `Recognizer`. Of phrases with words that the model does not have it hears the others."""

    def __init__(self, model: Path, locale: str) -> None:
        self._package: Any = importlib.import_module("vosk")
        if not model.is_dir():
            raise SpeechError(Fault.MISSING, f"there is no Vosk model {model}")
        self._package.SetLogLevel(-1)
        try:
            self._model = self._package.Model(model_path=str(model))
        except Exception:  # it has no kind of its own
            raise SpeechError(Fault.MISSING, f"{model} is no Vosk model") from None
        self._language = locale.lower().replace("_", "-").partition("-")[0]

    def recognise(self, samples: Samples, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """See `Recognizer`. It writes neither capitals nor punctuation."""
        if self._language and not speaks(locale, self._language):
            raise SpeechError(Fault.LOCALE, f"this Vosk model understands {self._language!r}, not {locale!r}")
        heard = self._hear(self._recognizer(phrases), samples)
        said = [word for word in heard if word["word"] != _UNKNOWN]
        text = " ".join(str(word["word"]) for word in said)
        if phrases:
            # Its grammar allows several phrases after each other, and a model may be of a kind that has none.
            text = chosen(text, phrases)
        if not text:
            return Recognition("", 0.0)
        return Recognition(text, min(1.0, sum(float(word["conf"]) for word in said) / len(said)))

    def _recognizer(self, phrases: tuple[str, ...]) -> Any:
        if not phrases:
            recognizer = self._package.KaldiRecognizer(self._model, RATE)
        else:
            known = sorted({said for phrase in phrases if (said := words(phrase)) and self._knows(said)})
            if not known:
                raise SpeechError(Fault.FAILED, "this Vosk model has the words of none of the phrases")
            others = [_UNKNOWN] if self._knows(_UNKNOWN) else []  # with these it need not choose one of the phrases
            grammar = json.dumps([*known, *others], ensure_ascii=False)
            recognizer = self._package.KaldiRecognizer(self._model, RATE, grammar)
        recognizer.SetWords(True)
        return recognizer

    def _knows(self, said: str) -> bool:
        return all(self._model.vosk_model_find_word(word) >= 0 for word in said.split())

    @staticmethod
    def _hear(recognizer: Any, samples: Samples) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        data = samples.astype("<i2").tobytes()
        piece = RATE // 2  # bytes: a quarter of a second, after each of which it may find that a sentence has ended
        for start in range(0, len(data), piece):
            if recognizer.AcceptWaveform(data[start : start + piece]):
                heard += json.loads(recognizer.Result()).get("result", [])
        return heard + list(json.loads(recognizer.FinalResult()).get("result", []))


def make(options: Mapping[str, str]) -> Vosk:
    """`model`: a folder. `locale`: what it understands, such as "ko-KR"; without it every locale is taken for that."""
    return Vosk(Path(options["model"]).expanduser(), options.get("locale", ""))
