"""Speech is what stands above the noise floor, wherever that is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.audio.voice_activity import EnergyActivity

FRAME = 320


def noise(dbfs: float, seed: int = 1) -> pcm.Samples:
    """A second of it, in frames."""
    rng = np.random.default_rng(seed)
    scale = 32768 * 10 ** (dbfs / 20) / np.sqrt(2)
    return np.array(rng.normal(0, scale, (50, FRAME)), np.int16)


def tone(dbfs: float) -> pcm.Samples:
    return pcm.tone(300, 16_000, 0.02, dbfs)


@pytest.mark.parametrize("floor", [-90.0, -60.0, -50.0, -40.0])
def test_a_voice_is_heard_over_steady_noise_and_the_noise_is_none(floor: float) -> None:
    activity = EnergyActivity()
    for second in range(20):
        probabilities = [activity.probability(frame) for frame in noise(floor, second)]
    assert max(probabilities) < 0.35
    assert activity.probability(tone(floor + 20 if floor > -60 else -40)) > 0.9


def test_a_quiet_line_does_not_make_a_whisper_a_voice() -> None:
    activity = EnergyActivity()
    for _ in range(100):
        activity.probability(np.zeros(FRAME, np.int16))
    assert activity.probability(tone(-55)) < 0.01


def test_half_is_at_the_limit() -> None:
    activity = EnergyActivity(margin_db=12, least_dbfs=-45)
    assert abs(activity.probability(tone(-45)) - 0.5) < 0.02
    assert EnergyActivity(margin_db=30).probability(tone(-30)) == pytest.approx(0.5, abs=0.02)


@given(st.lists(st.binary(min_size=2 * FRAME, max_size=2 * FRAME), max_size=20))
def test_any_frames_have_a_probability_and_leave_the_floor_within_its_bounds(frames: list[bytes]) -> None:
    activity = EnergyActivity()
    low, high = EnergyActivity.FLOOR_DBFS
    for frame in frames:
        assert 0 <= activity.probability(pcm.as_samples(frame)) <= 1
        assert low <= activity.floor_dbfs <= high
