"""What is made up goes on like what was heard, without a click, and fades away."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from offhook.audio import pcm
from offhook.audio.conceal import HISTORY, HOLD, LASTS, continuation


@pytest.mark.parametrize("hz", [80, 125, 200, 320, 400])
def test_a_voice_goes_on_at_its_pitch_and_phase(hz: int) -> None:
    tone = pcm.tone(hz, 8000, 0.2, -6)
    made = continuation(tone[:800])
    error = made[:HOLD].astype(float) - tone[800 : 800 + HOLD]
    assert np.sqrt(np.mean(error**2)) < 0.25 * np.sqrt(np.mean(tone.astype(float) ** 2))
    assert pcm.tone_level(made[:400], hz, 8000) > pcm.tone_level(made[:400], hz * 1.5, 8000) + 15


@pytest.mark.parametrize("hz", [80, 123, 200, 317])
def test_there_is_no_click_at_its_beginning_nor_between_its_periods(hz: int) -> None:
    tone = pcm.tone(hz, 8000, 0.1, -6)
    steps = np.abs(np.diff(np.concatenate([tone, continuation(tone)]).astype(int)))
    assert steps[len(tone) - 1 :].max() <= 2 * steps[: len(tone) - 1].max()


def test_it_keeps_its_level_and_then_fades_to_nothing() -> None:
    made = continuation(pcm.tone(200, 8000, 0.1, -6))
    assert len(made) == LASTS
    assert pcm.level(made[:HOLD]) == pytest.approx(-6, abs=0.5)
    levels = [pcm.level(made[at : at + 80]) for at in range(0, LASTS, 80)]
    assert all(later < earlier for earlier, later in pairwise(levels[1:]))
    assert np.abs(made[-8:]).max() < 400


def test_silence_goes_on_as_silence_and_nothing_as_silence() -> None:
    assert not continuation(np.zeros(1000, np.int16)).any()
    assert not continuation(np.zeros(0, np.int16)).any()


@given(arrays.arrays(np.int16, st.integers(0, HISTORY + 50)))
def test_any_history_has_a_continuation_no_louder_than_itself(history: pcm.Samples) -> None:
    made = continuation(history)
    assert made.shape == (LASTS,)
    assert made.dtype == np.int16
    assert np.abs(made.astype(int)).max() <= np.abs(history.astype(int)).max(initial=0)
    assert np.array_equal(made, continuation(history[-HISTORY:]))
