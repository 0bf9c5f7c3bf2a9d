"""TurnTaker: who has begun, who has finished, who interrupts."""

import numpy as np
import pytest

from offhook.demo.turns import Turn, TurnTaker

RATE = 24_000
SILENCE = bytes(960)
SPEECH = (4_000 * np.sin(2 * np.pi * 200 * np.arange(480) / RATE)).astype("<i2").tobytes()
HUM = (100 * np.sin(2 * np.pi * 50 * np.arange(480) / RATE)).astype("<i2").tobytes()


def hear(turns: TurnTaker, *frames: bytes) -> list[tuple[int, Turn]]:
    """Each turn, with the number of the frame that told it."""
    heard = ((number, turns.hear(pcm)) for number, pcm in enumerate(frames, 1))
    return [(number, turn) for number, turn in heard if turn is not None]


def test_a_sentence_begins_after_60_ms_and_ends_after_700_ms_of_quiet() -> None:
    turns = TurnTaker(RATE)
    assert hear(turns, *[SILENCE] * 50, *[SPEECH] * 50, *[SILENCE] * 50) == [(53, Turn.HEARD), (135, Turn.ENDED)]


def test_a_breath_does_not_end_a_sentence_nor_a_click_begin_one() -> None:
    assert hear(TurnTaker(RATE), *([SILENCE] * 5 + [SPEECH] * 2) * 20) == []
    assert hear(TurnTaker(RATE), *([SPEECH] * 20 + [SILENCE] * 34) * 5) == [(3, Turn.HEARD)]


@pytest.mark.parametrize("noise", [HUM, SILENCE, b""])
def test_what_is_not_speech_is_never_heard(noise: bytes) -> None:
    assert hear(TurnTaker(RATE), *[noise] * 200) == []


def test_speech_while_we_speak_is_an_interruption() -> None:
    turns = TurnTaker(RATE)
    turns.say(RATE)
    assert hear(turns, *[SPEECH] * 3) == [(3, Turn.INTERRUPTED)]


def test_what_was_sent_in_a_burst_is_spoken_for_as_long_as_it_lasts() -> None:
    turns = TurnTaker(RATE)
    turns.say(RATE)
    turns.say(RATE)
    hear(turns, *[SILENCE] * 99)
    assert turns.speaking
    hear(turns, *[SILENCE] * 2)
    assert not turns.speaking
    assert hear(turns, *[SPEECH] * 3) == [(3, Turn.HEARD)]


def test_after_stop_we_do_not_speak() -> None:
    turns = TurnTaker(RATE)
    turns.say(RATE)
    turns.stop()
    assert hear(turns, *[SPEECH] * 3) == [(3, Turn.HEARD)]
