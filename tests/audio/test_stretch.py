"""Pieces are left out or said twice without a seam, and only where the sound allows it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from offhook.audio import pcm
from offhook.audio.stretch import LONGEST, NEEDED, SHORTEST, crossfade, lengthen, shorten, similarities

FRAME = 160
NOISE = np.random.default_rng(1).normal(0, 5000, 2000).astype(np.int16)


def roughest(samples: pcm.Samples) -> int:
    return int(np.abs(np.diff(samples.astype(int), n=2)).max())


@pytest.mark.parametrize("hz", [70, 100, 150, 220, 400])
def test_a_voice_loses_or_gains_whole_periods_without_a_click(hz: int) -> None:
    tone = pcm.tone(hz, 8000, 0.1, -6)
    shorter, longer = shorten(tone[:NEEDED], LONGEST, 0.9), lengthen(tone[:NEEDED], LONGEST, 0.9)
    assert shorter is not None
    assert longer is not None
    for frame, used in (shorter, longer):
        assert len(frame) == FRAME
        periods = (used - FRAME) * hz / 8000
        assert abs(periods - round(periods)) < 0.05
        # It goes on where the frame ends.
        whole = np.concatenate([frame, tone[used : used + 20]])
        assert roughest(whole) <= 1.2 * roughest(tone) + 2
    assert shorter[1] > FRAME > longer[1]


def test_what_is_not_alike_is_left_as_it_is_unless_anything_will_do() -> None:
    assert shorten(NOISE[:NEEDED], LONGEST, 0.7) is None
    assert lengthen(NOISE[:NEEDED], LONGEST, 0.7) is None
    assert shorten(NOISE[:NEEDED], LONGEST, -1.0) is not None
    assert lengthen(NOISE[:NEEDED], LONGEST, -1.0) is not None


def test_of_silence_the_longest_piece_goes() -> None:
    breath = (NOISE[:NEEDED] // 500).astype(np.int16)
    assert shorten(breath, LONGEST, 0.7) is not None
    changed = shorten(np.zeros(NEEDED, np.int16), LONGEST, 0.7)
    assert changed is not None
    assert (len(changed[0]), changed[1]) == (FRAME, FRAME + LONGEST)


def test_never_more_than_asked_for_or_there_is() -> None:
    quiet = np.zeros(NEEDED, np.int16)
    assert shorten(quiet, SHORTEST - 1, -1.0) is None
    assert lengthen(quiet, SHORTEST - 1, -1.0) is None
    assert shorten(quiet[: FRAME + SHORTEST - 1], LONGEST, -1.0) is None
    assert lengthen(quiet[: FRAME - 1], LONGEST, -1.0) is None
    shorter = shorten(quiet[: FRAME + 30], LONGEST, -1.0)
    assert shorter is not None
    assert shorter[1] == FRAME + 30


@given(
    line=arrays.arrays(np.int16, st.integers(FRAME, NEEDED)),
    most=st.integers(0, 400),
    alike=st.sampled_from([-1.0, 0.7]),
)
def test_any_sound_gives_a_frame_or_nothing(line: pcm.Samples, most: int, alike: float) -> None:
    for change, low, high in ((shorten, FRAME + SHORTEST, FRAME + most), (lengthen, FRAME - most, FRAME - SHORTEST)):
        if (changed := change(line, most, alike)) is not None:
            frame, used = changed
            assert len(frame) == FRAME
            assert frame.dtype == np.int16
            assert low <= used <= min(high, len(line))


def test_a_crossfade_goes_from_one_to_the_other() -> None:
    old, new = np.full(9, 32_767, np.int16), np.full(9, -32_768, np.int16)
    faded = crossfade(old, new).astype(int)
    assert (np.diff(faded) < 0).all()
    assert (faded[0] > 20_000, faded[-1] < -20_000, abs(faded[4]) <= 1) == (True, True, True)


def test_alike_is_shape_not_level() -> None:
    tone = pcm.tone(200, 8000, 0.1, -6)
    alike = similarities(tone[:40], (tone // 2).astype(np.int16))
    assert alike[0] == pytest.approx(1.0, abs=0.01)
    assert alike[20] == pytest.approx(-1.0, abs=0.01)
    assert similarities(np.zeros(40, np.int16), np.ones(60, np.int16)).min() > 0.99
