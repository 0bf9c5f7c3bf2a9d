"""Comfort noise is as loud as the other side says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.audio.comfort_noise import QUIETEST, ComfortNoise, level


@pytest.mark.parametrize(
    ("payload", "said"), [(b"\x28", 40), (b"\xa8", 40), (b"\x28\x7f\x30", 40), (b"\x00", 0), (b"", QUIETEST)]
)
def test_the_level_is_the_first_octet_s_lower_seven_bits(payload: bytes, said: int) -> None:
    assert level(payload) == said


@pytest.mark.parametrize("wide", [1, 2, 3])
@pytest.mark.parametrize("said", [20, 40, 60])
def test_noise_is_as_loud_as_it_is_said(said: int, wide: int) -> None:
    noise = ComfortNoise(said, wide).take(8000)
    assert len(noise) == 8000 * wide
    # 0 dBov is a square wave of full scale, 3 dB more than a sine.
    assert abs(pcm.level(noise) - (3.01 - said)) < 0.5


def test_the_quietest_is_silence() -> None:
    assert not ComfortNoise(QUIETEST, 1).take(8000).any()


@given(st.integers(0, 127), st.lists(st.integers(0, 800), max_size=5))
def test_any_level_and_length_can_be_had(said: int, pieces: list[int]) -> None:
    noise = ComfortNoise(said, 2)
    assert [len(noise.take(units)) for units in pieces] == [2 * units for units in pieces]
