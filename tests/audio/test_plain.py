"""What a bot computes without numpy is what it computes with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.audio import pcm, plain
from offhook.audio.resample import resampler

RATES = st.sampled_from([8000, 16_000, 22_050, 24_000, 44_100, 48_000])


@given(st.binary(max_size=960).map(lambda data: data[: len(data) & ~1]))
def test_the_level_of_any_samples(data: bytes) -> None:
    samples = memoryview(data).cast("h")
    assert plain.level(samples) == pytest.approx(pcm.level(pcm.as_samples(data)), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(RATES, RATES, st.integers(0, 2**32 - 1))
def test_any_voice_at_any_rate_to_the_last_bit(rate_in: int, rate_out: int, seed: int) -> None:
    """Three frames, full scale: the filter's memory and the clipping are in it."""
    frames = np.random.default_rng(seed).integers(-32768, 32768, (3, rate_in // 50)).astype(np.int16)
    by_numpy = resampler(rate_in, rate_out)
    history = by_numpy.history(1)
    convert = plain.PlainResampler(rate_in, rate_out)
    for frame in frames:
        made = pcm.as_samples(convert(frame.tobytes())).astype(int)
        expected = by_numpy.process(frame[np.newaxis], history)[0].astype(int)
        assert len(made) == len(expected)
        assert np.abs(made - expected).max() <= 1
    assert by_numpy.memory == 2 * plain.half_width(rate_in, rate_out)


def test_silence_stays_silence() -> None:
    convert = plain.PlainResampler(24_000, 16_000)
    assert [convert(bytes(960)) for _ in range(2)] == [bytes(640)] * 2
