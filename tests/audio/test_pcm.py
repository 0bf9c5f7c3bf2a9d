"""Frames, levels and tones say what they mean to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm

RATES = [8000, 16_000, 24_000, 48_000]


@pytest.mark.parametrize(("rate", "size"), [(8000, 320), (16_000, 640), (24_000, 960), (44_100, 1764), (48_000, 1920)])
def test_a_frame_is_20_ms_of_16_bit_mono(rate: int, size: int) -> None:
    assert pcm.bytes_per_frame(rate) == size
    assert pcm.silence(rate) == bytes(size)


@pytest.mark.parametrize("rate", [0, -8000, 7950, 11_025, 22_050 + 1, 48_050])
def test_a_rate_without_20_ms_frames_is_refused_by_name(rate: int) -> None:
    with pytest.raises(ValueError, match=f"rate: {rate} Hz"):
        pcm.samples_per_frame(rate)


@given(
    hz=st.floats(200, 3400),
    rate=st.sampled_from(RATES),
    dbfs=st.floats(-50, 0),
    phase=st.floats(0, 2 * math.pi),
)
def test_a_tone_has_the_level_that_was_asked_for(hz: float, rate: int, dbfs: float, phase: float) -> None:
    tone = pcm.tone(hz, rate, 0.5, dbfs, phase)
    assert len(tone) == rate // 2
    assert abs(pcm.level(tone) - dbfs) < 0.1
    assert abs(pcm.tone_level(tone, hz, rate) - dbfs) < 0.1


@given(hz=st.floats(300, 3000), other=st.floats(300, 3000), rate=st.sampled_from(RATES))
def test_a_tone_is_found_beside_a_louder_one(hz: float, other: float, rate: int) -> None:
    if abs(hz - other) < 50:
        other = hz + 50
    both = pcm.tone(hz, rate, 0.5, -30) + pcm.tone(other, rate, 0.5, -10)
    assert abs(pcm.tone_level(both, hz, rate) + 30) < 0.5
    assert pcm.tone_level(pcm.tone(other, rate, 0.5, -10), hz, rate) < -50


@pytest.mark.parametrize("samples", [[], [0], [0] * 320])
def test_silence_and_nothing_have_no_level(samples: list[int]) -> None:
    nothing = np.array(samples, np.int16)
    assert pcm.level(nothing) == -math.inf
    assert pcm.tone_level(nothing, 1000, 16_000) == -math.inf


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_samples_have_a_level(count: int) -> None:
    assert pcm.tone_level(np.full(count, 1000, np.int16), 0, 16_000) == pytest.approx(20 * math.log10(2000 / 32767))


@given(st.binary(max_size=100).map(lambda data: data[: len(data) & ~1]))
def test_samples_are_the_bytes(data: bytes) -> None:
    samples = pcm.as_samples(data)
    assert samples.tobytes() == data
    assert [int.from_bytes(data[i : i + 2], "little", signed=True) for i in range(0, len(data), 2)] == samples.tolist()


def test_full_scale_stays_in_range() -> None:
    tone = pcm.tone(1000, 8000, 0.1, 0)
    assert (tone.max(), tone.min()) == (32767, -32767)
