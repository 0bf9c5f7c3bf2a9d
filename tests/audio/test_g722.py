"""What is said in G.722 is heard, and what is no G.722 is borne."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import g722, pcm
from offhook.audio.g722 import CLOCK, RATE, G722Decoder, G722Encoder

FRAME = RATE // 50


@pytest.mark.parametrize("hz", [440, 3000, 6500])
@pytest.mark.parametrize("ms", [10, 20, 60])
def test_a_tone_comes_out_at_its_level(hz: int, ms: int) -> None:
    tone = pcm.tone(hz, RATE, 1.2, -10.5).tobytes()
    encoder, decoder = G722Encoder(), G722Decoder()
    size = 2 * RATE * ms // 1000
    payloads = [encoder.encode(tone[at : at + size]) for at in range(0, len(tone), size)]
    assert {len(payload) for payload in payloads} == {CLOCK * ms // 1000}
    assert {decoder.duration(payload) for payload in payloads} == {8 * ms}
    heard = pcm.as_samples(b"".join(map(decoder.open, payloads)))
    assert len(heard) == 1.2 * RATE
    assert abs(pcm.tone_level(heard[RATE // 5 :], hz, RATE) + 10.5) < 0.5


def test_two_legs_do_not_share_a_memory() -> None:
    tone, silence = pcm.tone(440, RATE, 0.02).tobytes(), bytes(2 * FRAME)
    one, other, alone = G722Encoder(), G722Encoder(), G722Encoder()
    one.encode(tone)
    assert other.encode(silence) == alone.encode(silence)
    assert one.encode(silence) != other.encode(silence)


@given(st.lists(st.binary(min_size=1, max_size=960), max_size=20))
def test_any_payload_is_audio_of_its_duration(payloads: list[bytes]) -> None:
    decoder = G722Decoder()
    for payload in payloads:
        assert len(decoder.open(payload)) == decoder.duration(payload) * decoder.unit_bytes


def test_what_is_missing_is_made_up_at_its_own_rate() -> None:
    past = pcm.tone(200, RATE, 0.1, -12)
    made = G722Decoder().filling(past, None).take(80)
    assert abs(pcm.tone_level(np.concatenate([past, made])[-480:], 200, RATE) + 12) < 1


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert g722.missing() == ""
    monkeypatch.setattr(g722, "find_spec", lambda name: None)
    assert "pip install offhook[g722]" in g722.missing()
