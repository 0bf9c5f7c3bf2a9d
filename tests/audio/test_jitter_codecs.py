"""The jitter buffer with codecs that remember: packets are decoded once and in order, whatever the network does."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audio.libopus import needs_opus

from offhook.audio import pcm
from offhook.audio.comfort_noise import ComfortNoise
from offhook.audio.decoding import Decoder, Filling
from offhook.audio.g711 import PCMA, PCMU
from offhook.audio.g722 import G722Decoder, G722Encoder
from offhook.audio.jitter import CAPACITY, PACKETS, JitterBuffer
from offhook.audio.opus import OpusDecoder, OpusEncoder
from offhook.audio.pcm import Samples

TICK = 0.02
DECODERS: dict[str, Callable[[], Decoder]] = {
    "PCMU": lambda: PCMU,
    "PCMA": lambda: PCMA,
    "G722": G722Decoder,
    "opus 16k": lambda: OpusDecoder(16_000),
    "opus 24k": lambda: OpusDecoder(24_000),
}
NAMES = [pytest.param(name, marks=needs_opus) if name.startswith("opus") else name for name in DECODERS]


class Numbered:
    """A codec whose payloads are the number of a packet of 20 ms, and whose samples are all that number."""

    clock = 48_000
    wide = 2
    unit_bytes = 4
    stateful = True

    def __init__(self) -> None:
        self.opened: list[int] = []

    def duration(self, payload: bytes) -> int:
        return 160 * bool(payload)

    def open(self, payload: bytes) -> bytes:
        self.opened.append(payload[0])
        return np.full(320, payload[0], np.int16).tobytes()

    def recover(self, payload: bytes, units: int) -> bytes | None:
        return np.full(2 * units, -payload[0], np.int16).tobytes() if payload[0] % 10 == 5 else None

    def samples(self, line: bytes) -> Samples:
        return pcm.as_samples(line)

    def line(self, samples: Samples) -> bytes:
        return samples.tobytes()

    def filling(self, past: Samples, noise: int | None) -> Filling:
        return ComfortNoise(127 if noise is None else noise, self.wide)


def put(buffer: JitterBuffer, number: int, tick: int, start: int = 0) -> None:
    stamp = start + 960 * number & 0xFFFF_FFFF
    buffer.put(65_500 + number & 0xFFFF, stamp, bytes([number]), tick * TICK)


def numbers(frame: bytes | None) -> set[int]:
    assert frame is not None
    assert len(frame) == 640
    return set(pcm.as_samples(frame).tolist())


@pytest.mark.parametrize("start", [0, 7, 2**32 - 5000])
def test_packets_are_opened_once_and_in_order(start: int) -> None:
    decoder = Numbered()
    buffer = JitterBuffer(decoder)
    heard = []
    # Three at a time and in disorder: there is always something that waits.
    for tick in range(60):
        if tick % 3 == 0:
            for number in (tick + 3, tick + 1, tick + 2, tick + 1):
                put(buffer, number, tick, start)
        heard.append(numbers(buffer.pull()))
    assert decoder.opened == sorted(set(decoder.opened))
    last = max(heard[-1])
    assert last >= 58
    assert heard[-40:] == [{number} for number in range(last - 39, last + 1)]
    assert buffer.counts.lost == 0


def test_what_is_lost_is_taken_from_the_packet_after_it_where_that_says_it() -> None:
    buffer = JitterBuffer(Numbered())
    heard: list[int] = []
    for tick in range(60):
        if tick % 3 == 0:
            for number in {tick + 1, tick + 2, tick + 3} - {14, 23, 34, 44, 54}:
                put(buffer, number, tick)
        heard += numbers(buffer.pull())
    assert {-15, -35, -45} <= set(heard)  # what 15 says of 14
    assert -24 not in heard
    assert buffer.counts.recovered_ms == 20 * len({one for one in heard if one < 0})


def test_a_decoder_that_gives_less_than_it_said_costs_no_more_than_that() -> None:
    class Short(Numbered):
        def open(self, payload: bytes) -> bytes:
            return super().open(payload)[:400]

    buffer = JitterBuffer(Short())
    for tick in range(50):
        put(buffer, tick + 1, tick)
        frame = buffer.pull()
        assert frame is not None
        assert len(frame) == 640


@pytest.mark.parametrize("name", NAMES)
def test_another_codec_begins_anew_and_counts_go_on(name: str) -> None:
    buffer = JitterBuffer(Numbered())
    for tick in range(10):
        put(buffer, tick + 1, tick)
        buffer.pull()
    decoder = DECODERS[name]()
    buffer.decode_by(decoder)
    assert buffer.pull() is None
    assert buffer.counts.received == 10
    buffer.put(1, 1, payloads(name)[0], 0.2)
    frame = buffer.pull()
    assert frame is not None
    assert len(frame) == 160 * decoder.unit_bytes


# ------------------------------------------------------------------------------------------------ noise


def test_noise_is_played_from_where_it_was_announced_and_no_longer() -> None:
    buffer = JitterBuffer(Numbered())
    for tick in range(3):
        put(buffer, tick + 1, tick)
        buffer.pull()
    for tick in range(3, 50):
        if tick in (3, 20):
            buffer.put(65_504 if tick == 3 else 65_505, 0, b"", tick * TICK, noise=40 if tick == 3 else 60)
        frame = buffer.pull()
        assert frame is not None
        assert abs(pcm.level(pcm.as_samples(frame)) - (3 - (40 if tick < 20 else 60))) < 1.5
        assert buffer.quiet
    buffer.put(65_506, 960 * 51, bytes([51]), 50 * TICK)
    assert not buffer.quiet
    assert 51 in numbers(buffer.pull())
    counts = buffer.counts
    assert (counts.noise_ms, counts.concealed_ms, counts.silent_ms, counts.lost) == (47 * 20, 0, 0, 0)


def test_an_old_announcement_is_none() -> None:
    buffer = JitterBuffer(Numbered())
    put(buffer, 2, 0)
    buffer.put(65_501, 960, b"", 0.0, noise=20)  # from before, late
    assert not buffer.quiet


# ------------------------------------------------------------------------------------------------ anything at all


@lru_cache
def payloads(name: str) -> list[bytes]:
    """Packets of a tone."""
    decoder = DECODERS[name]()
    rate = 8000 * decoder.wide
    pieces = [piece.tobytes() for piece in np.split(pcm.tone(440, rate, 0.4), 20)]
    if isinstance(decoder, G722Decoder):
        encode = G722Encoder().encode
    elif isinstance(decoder, OpusDecoder):
        encode = OpusEncoder(rate, "useinbandfec=1").encode
    else:
        return [decoder.line(pcm.as_samples(piece)) for piece in pieces]
    return [encode(piece) for piece in pieces]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_whatever_comes_there_is_a_frame_or_none(name: str, data: st.DataObject) -> None:
    decoder = DECODERS[name]()
    buffer = JitterBuffer(decoder)
    now, sequence, timestamp = 0.0, data.draw(st.integers(0, 0xFFFF)), data.draw(st.integers(0, 0xFFFF_FFFF))
    for _ in range(data.draw(st.integers(0, 40))):
        for _ in range(data.draw(st.sampled_from([0, 1, 1, 1, 2, 7]))):
            step = data.draw(st.sampled_from([1, 1, 1, 1, 0, 2, 3, -1, 30, 5000]))
            sequence, timestamp = sequence + step & 0xFFFF, timestamp + step * decoder.clock // 50 & 0xFFFF_FFFF
            payload = data.draw(st.one_of(st.sampled_from(payloads(name)), st.binary(max_size=20)))
            noise = data.draw(st.sampled_from([None, None, None, 0, 50, 127]))
            buffer.put(
                sequence, timestamp + data.draw(st.sampled_from([0, 0, 0, 13])) & 0xFFFF_FFFF, payload, now, noise
            )
        frame = buffer.pull()
        assert frame is None or len(frame) == 160 * decoder.unit_bytes
        assert len(buffer._queue) <= PACKETS
        assert sum(size for _, size, _ in buffer._queue) <= 2 * CAPACITY
        now += TICK
