"""Telephones on bad networks with a whole server, in real time: sipp calls, and this sends its audio and loses some.

What the app gets is compared with a call on a good network of the same moment, so that a busy machine does not matter.
The same on virtual time, to the frame and 50 of them a second, is in tests/legs/test_rtp_bad_network.py.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import pytest
from tests.server.sip_peers.house import CARRIER, AppCall, House, until
from tests.server.sip_peers.traffic import Sipp

from offhook.audio import g711, pcm
from offhook.legs.bad_line import BadNetwork
from offhook.media.weather import Weather

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

HZ, DBFS = 440, -12.0
LISTEN_S = 6
LEVEL_DB = 1.5
WEATHERS = {
    "+15550110": Weather(),
    "+15550111": Weather(seed=1, packet_loss=0.01, packet_burst=10),
    "+15550112": Weather(seed=2, packet_loss=0.10),
    "+15550113": Weather(seed=3, packet_loss=0.05, packet_reordered=0.02, packet_doubled=0.05, packet_jitter_ms=30),
}  # by the number that calls
GOOD = "+15550110"


class Telephone:
    """A telephone's audio: it says a tone from its first packet of ours on, over a network."""

    def __init__(self, weather: Weather) -> None:
        self.network = BadNetwork(weather)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((CARRIER, 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self._octets = g711.PCMU.encode(pcm.tone(HZ, g711.RATE, 1, DBFS)).tobytes()

    async def say(self) -> None:
        """Send 50 packets a second, until cancelled."""
        loop = asyncio.get_running_loop()
        _, ours = await loop.sock_recvfrom(self.socket, 2000)
        began = loop.time()
        while True:
            for packet in self._packets():
                await loop.sock_sendto(self.socket, packet, ours)
            await asyncio.sleep(began + self.network.sent * 0.02 - loop.time())

    def _packets(self) -> Iterator[bytes]:
        at = self.network.sent % 50 * g711.OCTETS_PER_FRAME
        for number, payload in self.network.cross(self._octets[at:][: g711.OCTETS_PER_FRAME]):
            yield struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * g711.OCTETS_PER_FRAME, 1) + payload


@asynccontextmanager
async def on_the_line(sipp: Sipp) -> AsyncIterator[dict[str, Telephone]]:
    """Have all of them call and talk, until they are hung up on; by the number that calls."""
    telephones = {number: Telephone(weather) for number, weather in WEATHERS.items()}
    with ExitStack() as sockets:
        for one in telephones.values():
            sockets.enter_context(one.socket)
        async with asyncio.TaskGroup() as group:
            talking = [group.create_task(one.say()) for one in telephones.values()]
            calling = [
                group.create_task(sipp("audio_elsewhere", "-key", "rtp", str(one.port), "-key", "from", number))
                for number, one in telephones.items()
            ]
            yield telephones
            await asyncio.wait(calling)
            for task in talking:
                task.cancel()


async def test_the_app_gets_as_many_frames_as_on_a_good_network(house: House, sipp: Sipp) -> None:
    async with on_the_line(sipp) as telephones:
        calls: dict[str, AppCall] = {}
        for _ in telephones:
            call = await house.next_call()
            calls[call.offer["from"]["rawId"].removeprefix("4:")] = call
        await until(lambda: all(call.level(HZ) > DBFS - 6 for call in calls.values()))
        began = {number: len(call.audio) for number, call in calls.items()}
        await until(lambda: len(calls[GOOD].audio) - began[GOOD] >= 50 * LISTEN_S)
        heard = {number: call.audio[began[number] :] for number, call in calls.items()}
        for call in calls.values():
            await call.connection.hang_up(is_for_everyone=True)
    good, *bad = (heard[number] for number in WEATHERS)
    for frames in bad:
        assert abs(len(frames) - len(good)) <= 0.01 * len(good) + 1
        assert abs(level(frames) - level(good)) <= LEVEL_DB
    assert telephones["+15550112"].network.lost > 10


def level(frames: list[bytes]) -> float:
    return pcm.level(pcm.as_samples(b"".join(frames)))
