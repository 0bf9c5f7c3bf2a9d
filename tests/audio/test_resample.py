"""Sample rate conversion keeps the band, rejects the rest, and is the same in frames, in batches and at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.audio.pcm import Samples
from offhook.audio.resample import Resampler, convert, resampler

RATES = [8000, 16_000, 24_000, 48_000]
PAIRS = [(a, b) for a in RATES for b in RATES if a != b]
ODD_PAIRS = [(11_025, 16_000), (22_050, 16_000), (44_100, 24_000), (16_000, 44_100), (8000, 11_025), (48_000, 44_100)]


def streamed(samples: Samples, rate_in: int, rate_out: int) -> Samples:
    """Convert `samples` frame by frame, as the media plane does."""
    converter = resampler(rate_in, rate_out)
    history = converter.history(1)
    frames = samples.reshape(-1, 1, converter.samples_in)
    return np.concatenate([converter.process(frame, history)[0] for frame in frames])


def snr(samples: Samples, hz: float, rate: int) -> float:
    """Return the decibels between the sine of `hz` in `samples` and all else that is in there."""
    angle = 2 * np.pi * hz / rate * np.arange(len(samples))
    waves = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    parts = np.linalg.lstsq(waves, samples.astype(np.float64), rcond=None)[0]
    noise = samples - waves @ parts
    return float(10 * np.log10((waves @ parts).var() / noise.var()))


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_what_both_rates_can_carry_passes(rate_in: int, rate_out: int) -> None:
    low = min(rate_in, rate_out)
    for hz, loss in [(100, 0.01), (300, 0.01), (1000, 0.01), (0.4 * low, 0.01), (0.42 * low, 0.1)]:
        heard = streamed(pcm.tone(hz, rate_in, 0.6, -6), rate_in, rate_out)[rate_out // 10 :]
        assert abs(pcm.tone_level(heard, hz, rate_out) + 6) < loss, hz


@pytest.mark.parametrize(("rate_in", "rate_out"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_what_the_lower_rate_cannot_carry_is_rejected(rate_in: int, rate_out: int) -> None:
    for share in (0.55, 0.6, 0.7, 0.9):
        if (hz := share * rate_out) < rate_in / 2:
            heard = streamed(pcm.tone(hz, rate_in, 0.6, -6), rate_in, rate_out)[rate_out // 10 :]
            assert pcm.level(heard) < -6 - 75, hz


@pytest.mark.parametrize(("rate_in", "rate_out"), [pair for pair in PAIRS if pair[0] < pair[1]])
def test_upsampling_leaves_no_images(rate_in: int, rate_out: int) -> None:
    heard = streamed(pcm.tone(1000, rate_in, 0.6, -6), rate_in, rate_out)[rate_out // 10 :]
    assert pcm.tone_level(heard, rate_in - 1000, rate_out) < -6 - 75


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_the_noise_is_that_of_16_bits(rate_in: int, rate_out: int) -> None:
    heard = streamed(pcm.tone(1003, rate_in, 0.6, -6), rate_in, rate_out)[rate_out // 10 :]
    assert snr(heard, 1003, rate_out) > 80


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_frame_by_frame_is_all_at_once_and_later_by_the_delay(rate_in: int, rate_out: int) -> None:
    noise = np.random.default_rng(1).normal(0, 4000, rate_in // 2).astype(np.int16)
    at_once, in_frames = convert(noise, rate_in, rate_out), streamed(noise, rate_in, rate_out)
    delay = resampler(rate_in, rate_out).delay_ms * rate_out / 1000
    assert delay == pytest.approx(round(delay))  # a whole number of samples: it can be compared
    late = in_frames[round(delay) :].astype(int)
    assert np.abs(late - at_once[: len(late)]).max() <= 1
    assert resampler(rate_in, rate_out).delay_ms <= 2.5


@given(
    pair=st.sampled_from(PAIRS),
    rows=st.integers(1, 9),
    frames=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    peak=st.sampled_from([1, 300, 32_767]),
)
@settings(max_examples=60)
def test_a_row_does_not_depend_on_its_neighbours(
    pair: tuple[int, int], rows: int, frames: int, seed: int, peak: int
) -> None:
    converter = resampler(*pair)
    samples = np.random.default_rng(seed).integers(-peak, peak, (frames, rows, converter.samples_in), np.int16)
    together, alone = converter.history(rows), [converter.history(1) for _ in range(rows)]
    for frame in samples:
        batch = converter.process(frame, together)
        for row in range(rows):
            single = converter.process(frame[row : row + 1], alone[row])
            assert np.abs(batch[row].astype(int) - single[0]).max() <= 1
    assert np.array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_silence_stays_silence_and_returns_after_sound(rate_in: int, rate_out: int) -> None:
    converter = Resampler(rate_in, rate_out)
    history = converter.history(2)
    silence = np.zeros((2, converter.samples_in), np.int16)
    assert not converter.process(silence, history).any()
    loud = silence.copy()
    loud[0] = pcm.tone(1000, rate_in, 0.02)
    assert not converter.process(loud, history)[1].any()
    assert converter.process(silence, history)[0].any()  # the end of it, by the filter's delay
    assert not converter.process(silence, history).any()


def test_full_scale_is_clipped_not_wrapped() -> None:
    square = np.where(np.arange(16_000) % 40 < 20, 32_767, -32_768).astype(np.int16)
    heard = streamed(square, 16_000, 24_000)
    assert (heard.max(), heard.min()) == (32_767, -32_768)
    inner = heard[480:].reshape(-1, 60)  # one period of the square wave
    assert (np.abs(np.diff(np.sign(inner.astype(int)), axis=1)) == 2).sum() == len(inner)


# ------------------------------------------------------------------------------------------------ whole recordings


@given(
    rates=st.tuples(st.integers(4000, 192_000), st.integers(4000, 192_000)),
    count=st.integers(0, 300),
)
@settings(max_examples=60, deadline=None)
def test_the_length_is_in_proportion(rates: tuple[int, int], count: int) -> None:
    rate_in, rate_out = rates
    converted = convert(np.zeros(count, np.int16), rate_in, rate_out)
    assert len(converted) == round(count * rate_out / rate_in)
    assert not converted.any()


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS + ODD_PAIRS)
def test_a_recording_keeps_its_tone_and_its_place_in_time(rate_in: int, rate_out: int) -> None:
    hz, seconds = 700, 0.4
    converted = convert(pcm.tone(hz, rate_in, seconds, -6), rate_in, rate_out)
    ideal = pcm.tone(hz, rate_out, seconds, -6)
    assert len(converted) == len(ideal)
    edge = rate_out // 100  # where the filter reaches beyond the recording
    error = converted[edge:-edge].astype(int) - ideal[edge:-edge]
    assert np.abs(error).max() <= 4
    assert snr(converted[edge:-edge], hz, rate_out) > 75


def test_a_click_stays_where_it_is() -> None:
    for rate_in, rate_out in PAIRS + ODD_PAIRS:
        click = np.zeros(rate_in // 10, np.int16)
        click[rate_in // 20] = 30_000
        at = int(np.argmax(convert(click, rate_in, rate_out)))
        assert abs(at / rate_out - (rate_in // 20) / rate_in) <= 1 / min(rate_in, rate_out)


def test_the_same_rate_gives_a_copy() -> None:
    tone = pcm.tone(1000, 22_050, 0.1)
    same = convert(tone, 22_050, 22_050)
    assert np.array_equal(same, tone)
    assert not np.shares_memory(same, tone)


@pytest.mark.parametrize(("rate_in", "rate_out", "wrong"), [(3999, 8000, 3999), (8000, 192_001, 192_001)])
def test_a_rate_out_of_range_is_named(rate_in: int, rate_out: int, wrong: int) -> None:
    with pytest.raises(ValueError, match=f"rate: {wrong} Hz"):
        convert(np.zeros(10, np.int16), rate_in, rate_out)


def test_a_converter_is_made_once_for_a_pair_of_rates() -> None:
    assert resampler(8000, 16_000) is resampler(8000, 16_000)
    assert math.isclose(resampler(8000, 16_000).delay_ms, 2.5)
