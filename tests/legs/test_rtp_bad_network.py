"""Telephones on bad networks, through a whole media worker, on virtual time: what the app gets, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.legs.rtp_scene import HEADER, Media, Telephone, on_virtual_time, tone

from offhook.audio import g711, pcm
from offhook.legs.bad_line import BadNetwork
from offhook.media.clock import TICK_S
from offhook.media.weather import Weather

HZ, DBFS = 440, -20.0
LEVEL_DB = 1.0  # that a second may be weaker, with a fifth of it lost
SECONDS, BACK_S = 10, 2
FRAME_BYTES = pcm.bytes_per_frame(16_000)
ONE_TICK_MS = 20  # of delay, for packets that come just around it
WEATHERS = {  # and how many milliseconds of delay they may cost
    "1 % lost": (Weather(seed=1, packet_loss=0.01), ONE_TICK_MS),
    "5 % lost": (Weather(seed=2, packet_loss=0.05), ONE_TICK_MS),
    "10 % lost": (Weather(seed=3, packet_loss=0.10), ONE_TICK_MS),
    "up to 200 ms lost at a time": (Weather(seed=4, packet_loss=0.01, packet_burst=10), ONE_TICK_MS),
    "overtaken": (Weather(seed=5, packet_reordered=0.05), 2 * ONE_TICK_MS),
    "doubled": (Weather(seed=6, packet_doubled=0.1), ONE_TICK_MS),
    "up to 30 ms late": (Weather(seed=7, packet_jitter_ms=30), 2 * ONE_TICK_MS),
    "all of it": (
        Weather(seed=8, packet_loss=0.02, packet_reordered=0.02, packet_doubled=0.02, packet_jitter_ms=30),
        3 * ONE_TICK_MS,
    ),
}


class Sender:
    """The packets of a telephone that says a tone all the time, numbered from 0."""

    def __init__(self, telephone: Telephone) -> None:
        self._telephone = telephone
        self._octets = g711.PCMU.encode(tone(HZ, 1, DBFS)).tobytes()

    def payload(self, number: int) -> bytes:
        return self._octets[number % 50 * 160 :][:160]

    def send(self, number: int) -> None:
        header = HEADER.pack(0x80, 0, number, number * 160, 0x1234)
        self._telephone.send(header + self.payload(number))


async def each_tick(first: int, count: int) -> AsyncIterator[int]:
    """Numbers, one each 20 ms."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(count):
        yield first + number
        await asyncio.sleep(began + (number + 1) * TICK_S - loop.time())


@pytest.mark.parametrize("name", WEATHERS)
def test_the_app_gets_fifty_frames_a_second_of_sound(name: str) -> None:
    weather, most_ms = WEATHERS[name]

    @on_virtual_time
    async def telephone_in_bad_weather(media: Media) -> None:
        app = await media.app()
        sender = Sender(await media.telephone())
        network = BadNetwork(weather)
        async for number in each_tick(0, 50):
            sender.send(number)
        for _ in range(SECONDS):
            before = len(app.heard())
            async for _ in each_tick(0, 50):
                for number, _ in network.cross(b""):
                    sender.send(50 + number)
            heard = app.heard()[before:]
            assert len(heard) / FRAME_BYTES in (49, 50, 51)
            assert abs(pcm.level(pcm.as_samples(heard)) - DBFS) <= LEVEL_DB
            assert media.leg().receiver.jitter.delay_ms <= most_ms
        assert abs(len(app.heard()) / FRAME_BYTES - 50 * (1 + SECONDS)) <= 1
        assert media.faults() == [0, 0]

    telephone_in_bad_weather()


@on_virtual_time
async def test_a_network_that_stood_still_for_200_ms_costs_no_delay_for_long(media: Media) -> None:
    app = await media.app()
    sender = Sender(await media.telephone())
    async for number in each_tick(0, 750):
        in_round = number % 150
        if in_round == 59:
            for late in range(number - 9, number + 1):
                sender.send(late)
            assert media.leg().receiver.jitter.delay_ms <= 2 * ONE_TICK_MS
        elif not 50 <= in_round < 59:
            sender.send(number)
        if number == 75:
            assert media.leg().receiver.jitter.delay_ms >= 100
        if number > 59 and in_round == (59 + 50 * BACK_S) % 150:
            assert media.leg().receiver.jitter.delay_ms <= 2 * ONE_TICK_MS
    assert abs(len(app.heard()) / FRAME_BYTES - 750) <= 1
    assert media.counts().keys() & {"lost", "late"} == set()
