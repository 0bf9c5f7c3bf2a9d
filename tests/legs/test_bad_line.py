"""A bad telephone line: what becomes of packets, what is left of a tone, and the same bytes for the same seed."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.audio.pcm import as_samples, bytes_per_frame, level, tone, tone_level
from offhook.legs.bad_line import BadLine, BadNetwork
from offhook.media.link import ConnectLeg, EndLeg, ExpectLeg, RingPhone
from offhook.media.tidings import LineEnded
from offhook.media.weather import Weather, weather
from offhook.testing.clock import run
from offhook.testing.memory import MemoryMedia, MemoryParty

RATE = 16_000

weathers = st.builds(
    Weather,
    seed=st.integers(0, 1000),
    packet_loss=st.sampled_from([0.0, 0.05, 1.0]),
    packet_burst=st.integers(1, 50),
    packet_jitter_ms=st.sampled_from([0.0, 5.0, 60.0, 500.0]),
    packet_reordered=st.sampled_from([0.0, 0.1, 1.0]),
    packet_doubled=st.sampled_from([0.0, 0.1, 1.0]),
)


def crossed(weather: Weather, packets: int = 500) -> list[list[int]]:
    """The numbers of the packets that arrive in each tick."""
    network = BadNetwork(weather)
    ticks = []
    for number in range(packets):
        arrived = list(network.cross(number.to_bytes(2, "big")))
        assert all(payload == came.to_bytes(2, "big") for came, payload in arrived)
        ticks.append([came for came, _ in arrived])
    return ticks


def lost(weather: Weather) -> list[int]:
    came = {number for tick in crossed(weather) for number in tick}
    return [number for number in range(450) if number not in came]  # the last may still be on their way


# ------------------------------------------------------------------------------------------------ the network


def test_a_network_without_faults_hands_over_each_packet_in_its_tick() -> None:
    assert crossed(Weather()) == [[number] for number in range(500)]


@settings(max_examples=50)
@given(weathers)
def test_no_packet_is_made_up_early_or_kept_for_ever(weather: Weather) -> None:
    network = BadNetwork(weather)
    times: Counter[int] = Counter()
    for tick in range(300):
        for number, _ in network.cross(b""):
            times[number] += 1
            assert 0 <= tick - number <= 27
        waiting = {number for _, number, _ in network._on_the_way}
        assert len(network._on_the_way) <= 2 * len(waiting) <= 2 * 27
    assert max(times.values(), default=0) <= 1 + (weather.packet_doubled > 0)
    assert network.sent == 300
    waiting = {number for _, number, _ in network._on_the_way}
    assert len(times.keys() | waiting) == network.sent - network.lost
    assert times.total() + len(network._on_the_way) == network.sent - network.lost + network.doubled


def test_losses_come_in_bursts_of_up_to_so_many() -> None:
    missing = lost(Weather(seed=10, packet_loss=0.02, packet_burst=5))
    bursts = [len(list(burst)) for _, burst in groupby(missing, key=lambda number: number - missing.index(number))]
    assert set(bursts) == {1, 2, 3, 4, 5}, "of this seed, no two losses meet"


def test_the_same_packets_are_lost_whatever_else_is_wrong() -> None:
    alone = lost(Weather(seed=7, packet_loss=0.05))
    assert alone
    assert lost(Weather(seed=7, packet_loss=0.05, packet_jitter_ms=80, packet_doubled=0.5)) == alone
    assert lost(Weather(seed=8, packet_loss=0.05)) != alone


def test_an_overtaken_packet_comes_right_after_the_next_one() -> None:
    ticks = crossed(Weather(seed=1, packet_reordered=0.1))
    order = [number for tick in ticks for number in tick]
    overtaken = [a for a, b in pairwise(order) if b < a]
    assert 20 < len(overtaken) < 80
    assert sorted(order) == list(range(len(order)))


# ------------------------------------------------------------------------------------------------ the line


def carried(weather: Weather, said: bytes, rate: int = RATE) -> bytes:
    line, size = BadLine(rate, weather), bytes_per_frame(rate)
    return b"".join(line.carry(said[at : at + size]) for at in range(0, len(said), size))


def speech(rate: int = RATE, seconds: float = 4.0) -> bytes:
    return (tone(440, rate, seconds) + tone(1000, rate, seconds, -20)).astype("<i2").tobytes()


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 48_000])
def test_a_tone_comes_through_a_line_that_does_little(rate: int) -> None:
    said = tone(440, rate, 2).astype("<i2").tobytes()
    heard = as_samples(carried(Weather(packet_jitter_ms=5), said, rate))
    assert len(heard) == 2 * rate
    assert tone_level(heard[rate // 2 :], 440, rate) == pytest.approx(-12, abs=0.3)


def test_it_sounds_of_a_telephone() -> None:
    said = tone(6000, RATE, 1).astype("<i2").tobytes()
    assert level(as_samples(carried(Weather(packet_jitter_ms=5), said))[RATE // 4 :]) < -60, "above 4 kHz is nothing"


def test_what_is_lost_is_concealed_and_not_silent() -> None:
    said = tone(440, RATE, 4).astype("<i2").tobytes()
    frames = as_samples(carried(Weather(seed=5, packet_loss=0.1), said)).reshape(-1, RATE // 50)
    assert all(level(frame) > -30 for frame in frames[5:])
    line = BadLine(RATE, Weather(seed=5, packet_loss=0.1))
    for at in range(0, len(said), 640):
        line.carry(said[at : at + 640])
    counts = line.counts()
    assert counts["packets"] == 200
    assert counts["lost"] > 10
    assert counts["concealed_ms"] == pytest.approx(20 * counts["lost"], abs=40)


@given(weathers)
@settings(max_examples=20, deadline=None)
def test_silence_stays_digital_silence_and_every_frame_has_its_size(weather: Weather) -> None:
    line = BadLine(RATE, weather)
    for _ in range(100):
        assert line.carry(None) == bytes(640)


def test_the_same_seed_gives_the_same_bytes() -> None:
    said = speech()
    assert carried(weather(7), said) == carried(weather(7), said)
    assert carried(weather(7), said) != carried(weather(8), said)


# ------------------------------------------------------------------------------------------------ the leg


def test_a_callers_leg_with_a_bad_line() -> None:
    async def main() -> tuple[bytes, bytes, dict[str, int]]:
        media = MemoryMedia()
        app = await media.app("app", RATE)
        caller = MemoryParty()
        await media.order(ExpectLeg("leg", "token", RATE, "call", weather=Weather(seed=7, packet_loss=0.1)))
        caller.open(media.legs, "token")
        caller.say(speech())
        await asyncio.sleep(1)
        await media.order(ConnectLeg("leg", "call", "caller"))
        app.say(tone(700, RATE, 2).astype("<i2").tobytes())
        await asyncio.sleep(4)
        await media.order(EndLeg("leg", "over"))
        (told,) = media.told(LineEnded)
        assert (told.leg, told.call) == ("leg", "call")
        return app.heard(), caller.heard, told.counts

    first, second = run(main()), run(main())
    assert first == second, "byte for byte"
    said, (at_the_app, at_the_caller, counts) = speech(), first
    assert at_the_app.strip(b"\0") not in said
    assert counts["packets"] == pytest.approx(200, abs=1)
    clean = as_samples(at_the_caller)
    original = tone(700, RATE, 2)
    start = int(np.flatnonzero(clean)[0]) - int(np.flatnonzero(original)[0])
    assert np.array_equal(clean[start : start + len(original)], original), "what it hears is not touched"


def test_a_phone_has_a_new_line_for_each_call() -> None:
    async def main() -> None:
        media = MemoryMedia()
        phone = MemoryParty()
        await media.order(ExpectLeg("leg", "token", RATE, weather=Weather(packet_loss=0.1)))
        phone.open(media.legs, "token")
        for call in ("one", "two"):
            await media.order(RingPhone("leg", call, "caller", "phone"))
            await media.order(ConnectLeg("leg", call, "phone"))
            await asyncio.sleep(2)
            phone.tell("hangUp")
            await asyncio.sleep(0.1)
        one, two = media.told(LineEnded)
        assert (one.call, two.call) == ("one", "two")
        assert abs(one.counts["packets"] - two.counts["packets"]) <= 1
        assert one.counts["lost"] == two.counts["lost"] > 0

    run(main())


def test_without_faults_for_its_packets_a_leg_has_no_line() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = await media.app("app", RATE)
        caller = MemoryParty()
        await media.order(ExpectLeg("leg", "token", RATE, "call", weather=Weather(drop_at=10)))
        caller.open(media.legs, "token")
        caller.say(speech(seconds=1))
        await media.order(ConnectLeg("leg", "call", "caller"))
        await asyncio.sleep(2)
        assert app.heard().strip(b"\0") == speech(seconds=1).strip(b"\0"), "bit for bit"
        await media.order(EndLeg("leg", "over"))
        assert media.told(LineEnded) == []

    run(main())
