"""The telephones of a run: numbers that outlive resampling, and a process that sends, times and stops."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from offhook.audio import g711
from offhook.audio.resample import resampler
from offhook.bench.rtp_peer import FRAMES, NUMBERS, number_of, telephones
from offhook.legs.ports import PortRange
from offhook.legs.rtp_legs import RtpLegs
from offhook.media.link import ConnectLeg, OpenRtp
from offhook.media.memory_link import memory_pair
from offhook.media.plane import Row
from offhook.media.tidings import RtpOpened, Tiding
from offhook.media.worker import MediaWorker
from offhook.testing.memory import MemoryApp

HOST = "127.0.0.1"


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_number_outlives_resampling_there_and_back(rate: int) -> None:
    assert len(set(NUMBERS)) == len(NUMBERS) == len(FRAMES)
    up, down = resampler(8000, rate), resampler(rate, 8000)
    histories = up.history(1), down.history(1)
    numbers = []
    for frame in FRAMES:
        samples = g711.PCMU.decode(np.frombuffer(frame, np.uint8)).reshape(1, -1)
        back = down.process(up.process(samples, histories[0]), histories[1])
        numbers.append(number_of(g711.PCMU.encode(back).tobytes()))
    assert numbers == NUMBERS


def test_silence_has_no_number() -> None:
    for octet in (0x7F, 0xFF):
        assert number_of(bytes([octet]) * 160) not in NUMBERS


class Echo:
    """A party that says what it heard a tick ago."""

    frame: bytes | None = None

    def poll(self, now: float) -> bytes | None:
        return self.frame

    def send(self, data: bytes | memoryview) -> None:
        self.frame = bytes(data)


@pytest.mark.sockets
@pytest.mark.parametrize("secure", [False, True])
def test_telephones_call_and_time_what_comes_back(secure: bool) -> None:
    async def main() -> None:
        control, end = memory_pair()
        tidings: list[Tiding] = []
        control.on_receive(tidings.append)
        worker = MediaWorker(end, MemoryApp(), epoch=0.0)
        legs = RtpLegs(worker, PortRange(30_000, 39_999))
        worker.start()
        async with telephones(3, secure) as phones:
            for number, port in enumerate(phones.ports):
                keys = None if phones.keys is None else phones.keys[number]
                control.send(OpenRtp(f"leg {number}", "PCMU", 0, HOST, remote=(HOST, port), srtp=keys))
                control.send(ConnectLeg(f"leg {number}", f"call {number}", f"4:{number}"))
                echo = Echo()
                worker.plane.add(Row(f"call {number}", "echo", 16_000, echo, echo))
            await asyncio.sleep(0.5)
            await phones.begin()
            async with asyncio.timeout(30):
                while True:
                    await asyncio.sleep(0.5)
                    heard = await phones.end()
                    if heard.received > heard.strange:
                        break  # Else the machine was held up all the time, or nearly so.
            assert len([tiding for tiding in tidings if isinstance(tiding, RtpOpened)]) == 3
            assert heard.sent > 0
            assert 0 <= heard.strange < heard.received
            assert 0 < heard.trip_p50_ms <= heard.trip_p99_ms <= heard.trip_max_ms
            counts, _ = legs.figures()
            assert counts["rtp_received"] > 0
            assert counts["rtp_forged"] == counts["rtp_malformed"] == 0
        legs.close()
        await worker.close()

    asyncio.run(main())
