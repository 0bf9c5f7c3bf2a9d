from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from offhook.audio.pcm import level, tone, tone_level
from offhook.speech import hibari
from offhook.testing import speech

RATE = 16_000


@pytest.mark.parametrize(
    ("package", "act"),
    [
        ("hibari", lambda: speech.speak("hello", RATE)),
        ("pocketsphinx", lambda: speech.recognize(np.zeros(RATE, np.int16))),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    package: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    speech._voice.cache_clear()
    speech._decoder.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(speech.SpeechMissing, match=r"pip install 'offhook\[speech\]'"):
        act()


def test_what_is_spoken_can_be_written_down() -> None:
    for package in ("hibari", "pocketsphinx"):
        pytest.importorskip(package)
    said = speech.speak("I would like an appointment on Tuesday please.", RATE)
    assert level(said) == pytest.approx(hibari.SPOKEN_DBFS, abs=1)
    assert "appointment on tuesday" in speech.recognize(said)
    assert speech.recognize(np.zeros(RATE, np.int16)) == ""


def test_a_file_is_mixed_down_and_converted(tmp_path: Path) -> None:
    left = tone(440, 8000, 1.0, -6)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, np.zeros_like(left)], axis=1), 8000)
    loaded = speech.samples_of(str(tmp_path / "stereo.wav"), RATE, speech.speak)
    assert len(loaded) == RATE
    assert tone_level(loaded, 440, RATE) == pytest.approx(-12, abs=0.2)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match=r"text\.wav"):
        speech.load(tmp_path / "text.wav", RATE)
