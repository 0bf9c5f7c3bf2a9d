"""Long recordings converted piece by piece: the same as at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.audio.files import converted
from offhook.audio.resample import convert

RATES = [4000, 11_025, 24_000, 44_100, 96_000]


def in_pieces(samples: pcm.Samples, rate_in: int, rate_out: int, size: int) -> pcm.Samples:
    line = samples.astype(np.float32)
    pieces = [line[at : at + size] for at in range(0, len(line), size)]
    return np.concatenate([np.zeros(0, np.int16), *converted(pieces, rate_in, rate_out)])


@pytest.mark.parametrize("rate_in", RATES)
@pytest.mark.parametrize("rate_out", [8000, 24_000])
def test_it_is_what_a_conversion_at_once_gives(rate_in: int, rate_out: int) -> None:
    noise = np.random.default_rng(rate_in).integers(-8000, 8000, round(1.3 * rate_in), np.int16)
    pieces, at_once = in_pieces(noise, rate_in, rate_out, rate_in), convert(noise, rate_in, rate_out)
    assert len(pieces) == len(at_once)
    assert np.abs(pieces.astype(int) - at_once).max() <= 1


@settings(deadline=None, max_examples=30)
@given(length=st.integers(0, 20_000), size=st.integers(1000, 8000), rate_out=st.sampled_from([4000, 8000, 11_025]))
def test_pieces_of_any_size_give_a_length_in_proportion(length: int, size: int, rate_out: int) -> None:
    made = in_pieces(pcm.tone(300, 8000, length / 8000), 8000, rate_out, size)
    assert len(made) == round(length * rate_out / 8000)


def test_what_is_too_loud_is_clipped() -> None:
    (made,) = converted([np.array([40_000, -40_000], np.float32)], 8000, 8000)
    assert made.tolist() == [32_767, -32_768]


@pytest.mark.parametrize(("rate_in", "rate_out"), [(3999, 8000), (8000, 192_001)])
def test_a_rate_out_of_range_is_refused(rate_in: int, rate_out: int) -> None:
    with pytest.raises(ValueError, match="is not between"):
        list(converted([], rate_in, rate_out))
