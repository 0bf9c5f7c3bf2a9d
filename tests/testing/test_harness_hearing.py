from __future__ import annotations

import numpy as np
import pytest

from offhook.audio.pcm import Samples, tone
from offhook.testing import hearing
from offhook.testing.hearing import Span

RATE = 16_000


def line(*parts: tuple[float, float]) -> Samples:
    """(Hz or 0 for silence, seconds) one after the other."""
    return np.concatenate([tone(hz, RATE, seconds, -12 if hz else -np.inf) for hz, seconds in parts])


def test_sounds_begin_and_end_to_the_sample() -> None:
    (span,) = hearing.sounds(line((0, 0.105), (1000, 0.5), (0, 0.2)), RATE)
    assert span.from_s == pytest.approx(0.105, abs=2 / RATE)
    assert span.to_s == pytest.approx(0.605, abs=2 / RATE)


def test_short_pauses_are_part_of_a_sound() -> None:
    samples = line((500, 0.2), (0, 0.2), (500, 0.2), (0, 0.4), (500, 0.2))
    assert [round(span.from_s, 2) for span in hearing.sounds(samples, RATE)] == [0, 1.0]
    assert len(hearing.sounds(samples, RATE, join_s=0.1)) == 3
    assert hearing.sounds(line((0, 1)), RATE) == []
    assert hearing.sounds(np.zeros(0, np.int16), RATE) == []


def test_a_quiet_line_is_silent_and_a_soft_voice_is_not() -> None:
    assert not hearing.audible(tone(500, RATE, 0.2, -51), RATE).any()
    assert hearing.audible(tone(500, RATE, 0.2, -49), RATE).all()


SAID = [Span(0, 1), Span(5, 6)]


@pytest.mark.parametrize(
    ("heard", "replies", "fillers"),
    [
        ([Span(1.5, 3)], [0.5, None], [None, None]),
        ([Span(1.2, 1.5), Span(2, 4)], [1.0, None], [pytest.approx(0.2), None]),
        ([Span(1.2, 1.5), Span(2, 2.4)], [pytest.approx(0.2), None], [None, None]),  # both short: the first
        ([Span(0.5, 4)], [None, None], [None, None]),  # it had begun before
        ([Span(5.5, 6.5), Span(7, 9)], [None, 1.0], [None, None]),
    ],
)
def test_replies_and_fillers(heard: list[Span], replies: list[object], fillers: list[object]) -> None:
    found = hearing.turns(SAID, heard)
    assert [turn.latency_s for turn in found] == replies
    assert [turn.filler_latency_s for turn in found] == fillers


def test_a_tone_is_found_by_pitch_and_level() -> None:
    samples = line((0, 0.5), (440, 0.5))
    assert hearing.tone_at(samples, 440, RATE) == pytest.approx(0.5, abs=0.11)
    assert hearing.tone_at(samples, 440, RATE, -12) == pytest.approx(0.5, abs=0.01)
    assert hearing.tone_at(samples, 440, RATE, -20) is None
    assert hearing.tone_at(samples, 880, RATE) is None
    drowned = line((440, 0.5)) // 8 + line((1000, 0.5))
    assert hearing.tone_at(drowned.astype(np.int16), 440, RATE) is None


def test_the_loudest_pitch_is_named() -> None:
    assert hearing.loudest_hz(line((440, 1), (700, 0.3)), RATE) == pytest.approx(440, abs=1)
    assert hearing.loudest_hz(line((0, 1)), RATE) == 0
