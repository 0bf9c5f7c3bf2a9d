"""The engines that are chosen by name, and the default ones: what one says the other one writes down."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

from offhook.audio import pcm
from offhook.audio.resample import convert
from offhook.speech import engines
from offhook.speech.values import RATE, Fault, Recognition, Recognizer, SpeechError, Synthesizer, Voice

CHOICES = ("Sales", "Technical support", "Yes!", "No")


@pytest.fixture(scope="module")
def hibari() -> Synthesizer:
    return engines.synthesizer("hibari", {})


@pytest.fixture(scope="module")
def sphinx() -> Recognizer:
    return engines.recognizer("pocketsphinx", {})


@cache
def said(text: str) -> pcm.Samples:
    """`text` by hibari, with a quarter of a second of a quiet line before and after."""
    speech = engines.synthesizer("hibari", {}).say(text, Voice())
    pause = np.zeros(RATE // 4, np.int16)
    line = np.concatenate([pause, convert(speech.samples, speech.rate, RATE), pause])
    noise = np.random.default_rng(1).normal(0, 20, len(line))
    return np.clip(line + noise, -32_768, 32_767).astype(np.int16)


def test_free_speech_is_written_down(sphinx: Recognizer) -> None:
    found = sphinx.recognise(said("I would like to come on Tuesday"), "en-US", ())
    assert found.text == "i would like to come on tuesday"
    assert 0 < found.confidence <= 1


@pytest.mark.parametrize("phrase", CHOICES)
def test_one_of_the_phrases_is_chosen(sphinx: Recognizer, phrase: str) -> None:
    found = sphinx.recognise(said(phrase), "en-GB", CHOICES)
    assert found.text == phrase
    assert 0.5 <= found.confidence <= 1


@pytest.mark.parametrize("text", ["the weather is nice today", "what did you say"])
def test_other_speech_is_none_of_them(sphinx: Recognizer, text: str) -> None:
    assert sphinx.recognise(said(text), "en-US", CHOICES) == Recognition("", 0.0)


@pytest.mark.parametrize("noise", [0, 300, 3000])
def test_neither_is_noise(sphinx: Recognizer, noise: int) -> None:
    sound = np.random.default_rng(1).normal(0, noise, RATE).astype(np.int16)
    assert sphinx.recognise(sound, "en-US", CHOICES) == Recognition("", 0.0)


def test_the_phrases_may_be_others_each_time(sphinx: Recognizer) -> None:
    assert sphinx.recognise(said("Sales"), "", ("Sales", "No")).text == "Sales"
    assert sphinx.recognise(said("Sales"), "", ("Yes!", "No")).text == ""
    assert sphinx.recognise(said("Sales"), "", ("No", "Sales", "Xyzzyx")).text == "Sales", "one word is unknown"


def test_who_was_heard_before_makes_no_difference(sphinx: Recognizer) -> None:
    for phrases in ((), CHOICES):
        found = set()
        for before in CHOICES:
            sphinx.recognise(said(before), "", phrases)
            found.add(sphinx.recognise(said("hello"), "", phrases))
        assert len(found) == 1


def test_phrases_of_words_that_it_does_not_have(sphinx: Recognizer) -> None:
    with pytest.raises(SpeechError, match="words of none of the phrases"):
        sphinx.recognise(said("Sales"), "en-US", ("Xyzzyx", "?", "größe", "); grammar größe;"))


@pytest.mark.parametrize("length", [0, 1, 100, 1599, 1600, 2000])
@pytest.mark.parametrize("phrases", [(), CHOICES])
def test_too_short_to_be_a_word(sphinx: Recognizer, length: int, phrases: tuple[str, ...]) -> None:
    assert sphinx.recognise(np.zeros(length, np.int16), "en-US", phrases) == Recognition("", 0.0)


def test_a_locale_that_they_do_not_have(hibari: Synthesizer, sphinx: Recognizer) -> None:
    for voice in (Voice("de-DE"), Voice(name="fr-FR-DeniseNeural")):
        with pytest.raises(SpeechError) as caught:
            hibari.say("Hello", voice)
        assert caught.value.fault is Fault.LOCALE
    with pytest.raises(SpeechError) as caught:
        sphinx.recognise(np.zeros(RATE, np.int16), "de-DE", ())
    assert caught.value.fault is Fault.LOCALE


def test_hibari_speaks_for_any_name_but_no_man(hibari: Synthesizer) -> None:
    speech = hibari.say("Hello", Voice("en-GB", "Female", "en-US-JennyNeural"))
    assert speech.rate == 24_000
    assert -25 < pcm.level(speech.samples) < -10
    with pytest.raises(SpeechError) as caught:
        hibari.say("Hello", Voice(kind="male"))
    assert caught.value.fault is Fault.VOICE


def test_hibari_speaks_faster_and_slower(hibari: Synthesizer) -> None:
    lengths = [len(hibari.say("I would like to come on Tuesday", Voice(speed=speed)).samples) for speed in (0.5, 1, 2)]
    assert lengths[0] > 1.4 * lengths[1] > 1.8 * lengths[2]


@pytest.mark.parametrize("text", ["", " ", "?!"])
def test_there_is_nothing_to_say(hibari: Synthesizer, text: str) -> None:
    with pytest.raises(SpeechError) as caught:
        hibari.say(text, Voice())
    assert caught.value.fault is Fault.EMPTY


def test_an_engine_that_there_is_not() -> None:
    with pytest.raises(SpeechError, match="there is no engine 'x'; there are hibari, piper, azure"):
        engines.synthesizer("x", {})


@pytest.mark.parametrize(
    ("make", "name", "package"), [("synthesizer", "hibari", "hibari"), ("recognizer",) + ("pocketsphinx",) * 2]
)
def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, make: str, name: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SpeechError, match=f"{name} needs the package {package}, which is not installed") as caught:
        getattr(engines, make)(name, {})
    assert caught.value.fault is Fault.MISSING


@pytest.mark.parametrize(
    ("synthesizer", "recognizer", "options", "problems"),
    [
        ("hibari", "pocketsphinx", {}, []),
        ("piper", "vosk", {"piper": {"model": "a"}, "vosk": {"model": "b", "locale": "de"}}, []),
        ("hibari", "pocketsphinx", {"azure": {"region": "x"}}, []),  # it is not used: it need not be whole
        ("piper", "pocketsphinx", {}, ["piper needs the option model"]),
        ("azure", "azure", {"azure": {"region": "x"}}, ["azure needs the option key"]),
        ("hibari", "pocketsphinx", {"hibari": {"voice": "x"}}, ["hibari takes no option voice"]),
        ("hibari", "pocketsphinx", {"espeak": {}}, ["there is no engine espeak"]),
        ("vosk", "pocketsphinx", {"vosk": {"model": "b"}}, ["vosk is none of hibari, piper, azure"]),
    ],
)
def test_what_is_wrong_with_the_options(
    synthesizer: str, recognizer: str, options: Mapping[str, Mapping[str, str]], problems: list[str]
) -> None:
    assert engines.problems(synthesizer, recognizer, options) == problems


@pytest.mark.parametrize(
    ("locale", "spoken"), [("", True), ("en", True), ("EN-gb", True), ("en_US", True), ("eng", False), ("de-EN", False)]
)
def test_a_locale_is_one_of_a_language(locale: str, spoken: bool) -> None:
    assert engines.speaks(locale, "en") is spoken
