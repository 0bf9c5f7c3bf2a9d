"""What is said in Opus is heard, at every rate and packet duration, and what is no Opus is borne."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audio.libopus import needs_opus

from offhook.audio import opus, pcm
from offhook.audio.decoding import UNITS_PER_S
from offhook.audio.opus import PACKET_MS, RATES, OpusDecoder, OpusEncoder, carries_the_one_before, packet_ms

RATE = 16_000
pytestmark = needs_opus


def voice(rate: int, seconds: float) -> bytes:
    """A vowel of 125 Hz that changes its level slowly."""
    at = np.arange(round(rate * seconds)) / rate
    sound = sum(np.sin(2 * np.pi * 125 * n * at + n * n) / n for n in range(1, 12))
    return np.rint(3000 * sound * (1 + 0.5 * np.sin(2 * np.pi * 3 * at))).astype(np.int16).tobytes()


def packets(sound: bytes, rate: int = RATE, ms: int = 20, parameters: str = "") -> list[bytes]:
    encoder, size = OpusEncoder(rate, parameters), 2 * rate * ms // 1000
    return [encoder.encode(sound[at : at + size]) for at in range(0, len(sound), size)]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("ms", PACKET_MS)
def test_a_tone_comes_out_at_its_level(rate: int, ms: int) -> None:
    payloads = packets(pcm.tone(440, rate, 1.2, -10.5).tobytes(), rate, ms)
    decoder = OpusDecoder(rate)
    assert {decoder.duration(payload) for payload in payloads} == {8 * ms}
    heard = pcm.as_samples(b"".join(map(decoder.open, payloads)))
    assert len(heard) == 1.2 * rate
    assert abs(pcm.tone_level(heard[rate // 5 :], 440, rate) + 10.5) < 1


def test_each_side_has_a_rate_of_its_own() -> None:
    decoder = OpusDecoder(24_000)
    heard = pcm.as_samples(b"".join(map(decoder.open, packets(pcm.tone(440, RATE, 1.0, -10.5).tobytes()))))
    assert abs(pcm.tone_level(heard[4800:], 440, 24_000) + 10.5) < 1


@pytest.mark.parametrize(("wanted", "ms"), [(10, 10), (20, 20), (30, 20), (40, 40), (50, 40), (60, 60)])
def test_packets_have_the_duration_next_below_the_wanted_one(wanted: int, ms: int) -> None:
    assert packet_ms(wanted) == ms


def test_what_cannot_be_encoded_or_decoded_is_refused() -> None:
    with pytest.raises(ValueError, match="2 bytes cannot be encoded"):
        OpusEncoder(RATE).encode(b"\0\0")
    for kind in (OpusEncoder, OpusDecoder):
        with pytest.raises(ValueError, match="44100 Hz is not one of"):
            kind(44_100)


# ------------------------------------------------------------------------------------------------ losses


def test_a_lost_packet_is_said_again_by_the_one_after_it() -> None:
    payloads = packets(voice(RATE, 1.0), parameters="useinbandfec=1")
    assert sum(map(carries_the_one_before, payloads)) > len(payloads) / 2
    whole, lossy = OpusDecoder(RATE), OpusDecoder(RATE)
    errors = {True: 0.0, False: 0.0}
    for number, payload in enumerate(payloads):
        truth = pcm.as_samples(whole.open(payload)).astype(float)
        line = lossy.recover(payloads[number + 1], 160) if number % 5 == 4 and number < len(payloads) - 1 else None
        if line is not None:
            errors[True] += float(np.square(pcm.as_samples(line) - truth).sum())
            errors[False] += float(np.square(truth).sum())
        else:
            lossy.open(payload)
    assert 0 < errors[True] < errors[False] / 4


def test_nothing_is_recovered_from_what_does_not_say_it_again() -> None:
    plain = packets(voice(RATE, 0.5))
    assert not any(map(carries_the_one_before, plain))
    assert OpusDecoder(RATE).recover(plain[-1], 160) is None
    again = packets(voice(RATE, 1.0), parameters="useinbandfec=1")
    last = next(payload for payload in again if carries_the_one_before(payload))
    assert OpusDecoder(RATE).recover(last, 160) is not None
    assert OpusDecoder(RATE).recover(last, 320) is None  # It says one packet again, not two.


@pytest.mark.parametrize("parameters", ["maxaveragebitrate=8000", " stereo=0; MaxAverageBitrate=8000 ;x"])
def test_the_other_side_decides_how_much_it_is_sent(parameters: str) -> None:
    free, bound = (sum(map(len, packets(voice(RATE, 2.0), parameters=text))) for text in ("", parameters))
    assert bound < 0.6 * free
    assert 5000 < 8 * bound / 2 < 10_000


@pytest.mark.parametrize("parameters", ["maxaveragebitrate=x", "maxaveragebitrate=" + "9" * 5000, "=", ";;;", "a=b=c"])
def test_parameters_that_make_no_sense_are_not_minded(parameters: str) -> None:
    assert packets(voice(RATE, 0.1), parameters=parameters) == packets(voice(RATE, 0.1))


def test_what_is_made_up_goes_on_and_fades() -> None:
    decoder = OpusDecoder(RATE)
    for payload in packets(pcm.tone(200, RATE, 0.5, -12).tobytes()):
        decoder.open(payload)
    filling = decoder.filling(np.zeros(0, np.int16), None)
    pieces = [filling.take(units) for units in (160, 7, 153, *[160] * 20)]
    assert [len(piece) for piece in pieces] == [320, 14, 306, *[320] * 20]
    assert pcm.level(pieces[0]) > -20
    assert pcm.level(pieces[-1]) < -40


# ------------------------------------------------------------------------------------------------ anything at all


@given(st.lists(st.binary(max_size=100), max_size=10), st.sampled_from(RATES))
def test_any_payload_is_borne(payloads: list[bytes], rate: int) -> None:
    decoder = OpusDecoder(rate)
    for payload in payloads:
        units = decoder.duration(payload)
        assert 0 <= units <= 0.12 * UNITS_PER_S
        carries_the_one_before(payload)
        if units:
            assert len(decoder.open(payload)) % decoder.unit_bytes == 0
            line = decoder.recover(payload, units)
            assert line is None or len(line) == units * decoder.unit_bytes


def mutated(payloads: list[bytes], count: int) -> Iterator[bytes]:
    chance = np.random.default_rng(3)
    for _ in range(count):
        payload = bytearray(payloads[chance.integers(len(payloads))])
        for _ in range(chance.integers(1, 5)):
            payload[chance.integers(len(payload))] = chance.integers(256)
        yield bytes(payload[: chance.integers(1, len(payload) + 1)])


def test_mutated_packets_are_decoded_to_something_and_what_comes_after_is_heard() -> None:
    decoder = OpusDecoder(RATE)
    for payload in mutated(packets(voice(RATE, 1.0), parameters="useinbandfec=1"), 1000):
        if decoder.duration(payload):
            decoder.open(payload)
            decoder.recover(payload, decoder.duration(payload))
    heard = pcm.as_samples(b"".join(map(decoder.open, packets(pcm.tone(440, RATE, 1.0, -12).tobytes()))))
    assert abs(pcm.tone_level(heard[RATE // 2 :], 440, RATE) + 12) < 1


def test_without_libopus_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opus.missing() == ""
    opus._libopus.cache_clear()
    monkeypatch.setattr(opus, "_LIBRARY", "libnone.so.0")
    assert "libopus0 on Debian" in opus.missing()
