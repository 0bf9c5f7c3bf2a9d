"""Vosk, by a stand-in for its package; and, where OFFHOOK_VOSK_MODEL names a model, the package itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from offhook.speech import engines
from offhook.speech.values import RATE, Fault, Recognition, Recognizer, SpeechError

SOUND = np.arange(RATE, dtype=np.int16)
KNOWN = ("yes", "please", "no", "[unk]")


class Model:
    known: tuple[str, ...] = KNOWN

    def __init__(self, model_path: str) -> None:
        if not (Path(model_path) / "am").exists():
            raise Exception("Failed to create a model")  # as the package does

    def vosk_model_find_word(self, word: str) -> int:
        return Model.known.index(word) if word in Model.known else -1


class KaldiRecognizer:
    """Ends a sentence after half a second, as the package may; `said` are the words of each, with their confidence."""

    said: tuple[list[tuple[str, float]], ...] = ()
    grammar: list[str] | None = None

    def __init__(self, model: Model, rate: int, grammar: str = "null") -> None:
        assert rate == RATE
        KaldiRecognizer.grammar = json.loads(grammar)
        self._data = b""
        self._left = list(KaldiRecognizer.said)

    def SetWords(self, enabled: bool) -> None:
        assert enabled

    def AcceptWaveform(self, data: bytes) -> int:
        self._data += data
        return int(len(self._data) == RATE and bool(self._left))

    def Result(self) -> str:
        words = [{"word": word, "conf": conf} for word, conf in self._left.pop(0)]
        return json.dumps({"result": words, "text": " ".join(str(each["word"]) for each in words)})

    def FinalResult(self) -> str:
        assert self._data == SOUND.astype("<i2").tobytes()
        return self.Result() if self._left else '{"text": ""}'


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    package = ModuleType("vosk")
    for name, value in (("Model", Model), ("KaldiRecognizer", KaldiRecognizer), ("SetLogLevel", lambda level: None)):
        setattr(package, name, value)
    monkeypatch.setitem(sys.modules, "vosk", package)
    (tmp_path / "am").mkdir()
    return {"model": str(tmp_path), "locale": "en-US"}


def hears(monkeypatch: pytest.MonkeyPatch, *said: list[tuple[str, float]]) -> None:
    monkeypatch.setattr(KaldiRecognizer, "said", said)


def test_every_sentence_counts_and_confidence_is_the_mean_of_the_words(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hears(monkeypatch, [("yes", 1.0), ("please", 0.5)], [("no", 0.6)])
    found = engines.recognizer("vosk", options).recognise(SOUND, "en-GB", ())
    assert found.text == "yes please no"
    assert found.confidence == pytest.approx(0.7)
    assert KaldiRecognizer.grammar is None


def test_phrases_are_its_grammar(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    hears(monkeypatch, [("[unk]", 0.9), ("yes", 0.8), ("please", 0.6)])
    found = engines.recognizer("vosk", options).recognise(SOUND, "", ("Yes, please!", "No", "Perhaps"))
    assert found.text == "Yes, please!"
    assert found.confidence == pytest.approx(0.7)
    assert KaldiRecognizer.grammar == ["no", "yes please", "[unk]"], "without the word that the model does not have"


def test_other_speech_is_none_of_the_phrases(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = engines.recognizer("vosk", options)
    for said in ([("[unk]", 1.0)], [("please", 1.0)], []):
        hears(monkeypatch, said)
        assert recognizer.recognise(SOUND, "", ("yes", "no")) == Recognition("", 0.0)


def test_a_model_that_has_no_word_for_others(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "known", ("yes",))
    engines.recognizer("vosk", options).recognise(SOUND, "", ("yes",))
    assert KaldiRecognizer.grammar == ["yes"]


def test_phrases_of_unknown_words_only(options: dict[str, str]) -> None:
    with pytest.raises(SpeechError, match="the words of none of the phrases") as caught:
        engines.recognizer("vosk", options).recognise(SOUND, "", ("Perhaps", "?"))
    assert caught.value.fault is Fault.FAILED


def test_a_language_that_is_not_the_models(options: dict[str, str]) -> None:
    with pytest.raises(SpeechError, match="understands 'en', not 'de-DE'") as caught:
        engines.recognizer("vosk", options).recognise(SOUND, "de-DE", ())
    assert caught.value.fault is Fault.LOCALE
    del options["locale"]
    assert engines.recognizer("vosk", options).recognise(SOUND, "de-DE", ()) == Recognition("", 0.0)


def test_a_model_that_is_none(options: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "am").rmdir()
    for model, problem in ((tmp_path, "is no Vosk model"), (tmp_path / "nowhere", "there is no Vosk model")):
        with pytest.raises(SpeechError, match=problem) as caught:
            engines.recognizer("vosk", {"model": str(model)})
        assert caught.value.fault is Fault.MISSING


def test_the_missing_vosk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vosk", None)
    with pytest.raises(SpeechError, match="vosk needs the package vosk, which is not installed") as caught:
        engines.recognizer("vosk", {"model": str(tmp_path)})
    assert caught.value.fault is Fault.MISSING


# ------------------------------------------------------------------------------------------------ the package itself


@pytest.fixture(scope="module")
def vosk() -> Recognizer:
    pytest.importorskip("vosk", reason="the package vosk is not installed: Vosk is not tried")
    if not (model := os.environ.get("OFFHOOK_VOSK_MODEL")):
        pytest.skip("OFFHOOK_VOSK_MODEL names no Vosk model: Vosk is not tried")
    return engines.recognizer("vosk", {"model": model})


def test_vosk_itself_takes_sound_and_phrases(vosk: Recognizer) -> None:
    noise = np.random.default_rng(1).normal(0, 300, 2 * RATE).astype(np.int16)
    for sound in (noise, np.zeros(RATE, np.int16), noise[:0]):
        found: Any = vosk.recognise(sound, "", ())
        assert 0 <= found.confidence <= 1
    with pytest.raises(SpeechError, match="the words of none of the phrases"):
        vosk.recognise(noise, "", ("xyzzyx",))
