"""The two laws against the recommendation's own points: segment ends, decision values, silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.audio.g711 import PCMA, PCMU, Codec

BOTH = pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
EVERY_OCTET = np.arange(256, dtype=np.uint8)


def samples(*values: int) -> pcm.Samples:
    return np.array(values, np.int16)


@pytest.mark.parametrize(
    ("codec", "octet", "sample"),
    [
        # G.711 tables 1 and 2, quietest and loudest of both signs, scaled to 16 bits.
        (PCMU, 0xFF, 0),
        (PCMU, 0x7F, 0),
        (PCMU, 0xFE, 8),
        (PCMU, 0x80, 32_124),
        (PCMU, 0x00, -32_124),
        (PCMA, 0xD5, 8),
        (PCMA, 0x55, -8),
        (PCMA, 0xAA, 32_256),
        (PCMA, 0x2A, -32_256),
    ],
)
def test_octets_have_the_recommendations_values(codec: Codec, octet: int, sample: int) -> None:
    assert codec.decode(np.array([octet], np.uint8)).tolist() == [sample]


@BOTH
def test_every_octet_survives(codec: Codec) -> None:
    decoded = codec.decode(EVERY_OCTET)
    assert np.array_equal(codec.decode(codec.encode(decoded)), decoded)


@BOTH
@given(value=st.integers(-32_768, 32_767))
def test_the_error_is_at_most_half_a_step_of_the_segment(codec: Codec, value: int) -> None:
    (back,) = codec.decode(codec.encode(samples(value))).tolist()
    loudest = int(codec.decode(EVERY_OCTET).max())
    step = max(8 if codec is PCMU else 16, (abs(value) + 132) // 16)
    assert abs(back - max(-loudest, min(loudest, value))) <= step
    assert value == 0 or back * value >= 0


def test_a_decision_value_belongs_to_the_larger_output() -> None:
    # G.711 table 2a: decision values 31 and 95 (of 8159) end the first two segments.
    assert PCMU.decode(PCMU.encode(samples(123, 124, 379, 380))).tolist() == [120, 132, 372, 396]


@BOTH
def test_silence_is_sent_as_the_laws_idle_octet_and_is_not_audible(codec: Codec) -> None:
    assert codec.encode(samples(0)).tolist() == [codec.silence] == [0xFF if codec is PCMU else 0xD5]
    rows = np.full((3, 160), codec.silence, np.uint8)
    rows[1, 80] ^= 0x01
    rows[2] ^= 0x80  # the same of the other sign
    assert codec.audible(rows).tolist() == [False, True, False]


@BOTH
def test_a_tone_keeps_its_level_and_36_db_of_signal_to_noise(codec: Codec) -> None:
    tone = pcm.tone(1004, 8000, 1.0, dbfs=-10)
    noise = codec.decode(codec.encode(tone)).astype(np.int32) - tone
    signal_to_noise = 10 * np.log10(np.mean(tone.astype(float) ** 2) / np.mean(noise.astype(float) ** 2))
    assert signal_to_noise > 36
    assert abs(pcm.tone_level(codec.decode(codec.encode(tone)), 1004, 8000) + 10) < 0.05


@BOTH
def test_shapes_are_kept(codec: Codec) -> None:
    assert codec.decode(codec.encode(np.zeros((4, 160), np.int16))).shape == (4, 160)
