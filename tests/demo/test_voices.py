"""The demo's voices: apart in pitch, equal in level, the same every time; and how pitch itself is measured."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from offhook.demo import voices
from offhook.demo.voices import LEVEL_DBFS, Voice, normalised, pitch, speak

TEXT = "Hello there. Can you tell me what you are, and how you work?"


def sine(hz: float, rate: int, seconds: float = 1.0, peak: float = 8_000) -> NDArray[np.int16]:
    return np.round(peak * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


@pytest.fixture(scope="module")
def spoken() -> dict[Voice, NDArray[np.int16]]:
    pytest.importorskip("hibari")
    return {"caller": speak(TEXT, "caller"), "bot": speak(TEXT, "bot")}


def test_the_two_voices_are_told_apart_by_pitch(spoken: dict[Voice, NDArray[np.int16]]) -> None:
    caller, bot = pitch(spoken["caller"], 24_000), pitch(spoken["bot"], 24_000)
    assert 80 < caller < bot < 300
    assert bot / caller >= 1.15


def test_both_speak_at_a_natural_pace(spoken: dict[Voice, NDArray[np.int16]]) -> None:
    assert len(spoken["caller"]) / len(spoken["bot"]) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("voice", ["caller", "bot"])
def test_speech_is_loud_enough_and_does_not_clip(spoken: dict[Voice, NDArray[np.int16]], voice: Voice) -> None:
    pcm = spoken[voice].astype(float)
    power = np.mean(pcm[: len(pcm) // 480 * 480].reshape(-1, 480) ** 2, axis=1)
    level = 10 * np.log10(power[power > power.max() / 1000].mean() / 32_768**2)
    assert level == pytest.approx(LEVEL_DBFS, abs=1)
    assert np.abs(pcm).max() <= 32_000


def test_the_same_text_gives_the_same_samples(spoken: dict[Voice, NDArray[np.int16]]) -> None:
    assert np.array_equal(speak(TEXT, "caller"), spoken["caller"])


def test_another_rate_is_the_same_speech(spoken: dict[Voice, NDArray[np.int16]]) -> None:
    slow = speak(TEXT, "caller", 16_000)
    assert len(slow) / 16_000 == pytest.approx(len(spoken["caller"]) / 24_000, abs=0.02)
    assert pitch(slow, 16_000) == pytest.approx(pitch(spoken["caller"], 24_000), rel=0.03)


def test_nothing_to_say_is_an_error() -> None:
    pytest.importorskip("hibari")
    with pytest.raises(ValueError, match="nothing to say"):
        speak(" ", "bot")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    voices._model.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'offhook\[demo\]'"):
        speak(TEXT, "bot")


def test_the_voice_is_loaded_without_leave_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = pytest.importorskip("hibari.voices")

    def refuse(*_: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(registry, "download", refuse)
    monkeypatch.setitem(registry.VOICES[registry.DEFAULT], "bundled", False)
    monkeypatch.setenv("HIBARI_HOME", "/nonexistent")
    voices._model.cache_clear()
    with pytest.raises(FileNotFoundError):
        speak(TEXT, "bot")
    voices._model.cache_clear()


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000])
@pytest.mark.parametrize("hz", [80, 120, 200, 310])
def test_pitch_is_the_fundamental_not_a_harmonic_nor_a_multiple_of_the_period(hz: float, rate: int) -> None:
    harmonics = sum(sine(hz * n, rate, peak=6_000 / n).astype(float) for n in (1, 2, 3, 4))
    assert pitch(np.asarray(harmonics).astype(np.int16), rate) == pytest.approx(hz, rel=0.025)


def test_pitch_does_not_count_silence_between_words() -> None:
    word, gap = sine(150, 16_000), np.zeros(16_000, np.int16)
    assert pitch(np.concatenate([gap, word, gap, gap]), 16_000) == pytest.approx(150, rel=0.02)


@pytest.mark.parametrize("samples", [0, 10, 16_000])
def test_pitch_of_nothing_voiced_is_zero(samples: int) -> None:
    assert pitch(np.zeros(samples, np.int16), 16_000) == 0
    noise = np.random.default_rng(0).normal(0, 3_000, samples).astype(np.int16)
    assert pitch(noise, 16_000) == 0


def test_a_lone_peak_lowers_the_level_rather_than_clip() -> None:
    pcm = sine(200, 16_000, peak=1_000)
    pcm[8_000] = 30_000
    assert np.abs(normalised(pcm, 16_000)).max() == 32_000


def test_silence_stays_silence() -> None:
    assert not normalised(np.zeros(1_000, np.int16), 16_000).any()
