"""A bad telephone line, made on purpose: a party's speech as packets of G.711 in a network that is drawn from a seed.

The line is what a telephone's is (`legs.rtp`): 8 kHz μ-law, a packet for each 20 ms, and at its end the product's own
jitter buffer with its concealment. Only the network is made up, and its time is counted in ticks: a tick of ours that
was late or left out changes nothing of what happens to a packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random

import numpy as np

from offhook.audio.g711 import OCTETS_PER_FRAME, PCMU, RATE
from offhook.audio.jitter import TICK_S, JitterBuffer
from offhook.audio.pcm import FRAME_MS, as_samples, silence
from offhook.audio.resample import Converter
from offhook.media.weather import Weather

EARLY_MS = 10.0  # before its tick a packet is there that nothing delays
OVERTAKEN_MS = 25.0  # is a packet late that the next one overtakes
COPY_MS = 5.0  # after a packet, its copy


class BadNetwork:
    """Packets of 20 ms, numbered from 0: which of them arrive, when, and how often.

    At most 26 packets are on their way, and as many copies: `Weather.packet_jitter_ms` has a bound.
    """

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._dice = Random(f"{weather.seed} packets")
        self._on_the_way: list[tuple[float, int, bytes]] = []  # (arrival in ms, number, payload), a heap
        self._losing = 0  # packets more, of the loss that has begun
        self.sent = 0
        self.lost = 0
        self.doubled = 0

    def cross(self, payload: bytes) -> Iterator[tuple[int, bytes]]:
        """Send the packet of this tick; yield (number, payload) of those that arrive until it, in order of arrival."""
        weather, number = self._weather, self.sent
        now = number * FRAME_MS
        # Always as many throws: the same packets are lost whatever else is wrong with the line.
        loss, burst, jitter, reordered, doubled = (self._dice.random() for _ in range(5))
        self.sent += 1
        if not self._losing and loss < weather.packet_loss:
            self._losing = 1 + int(burst * weather.packet_burst)
        if self._losing:
            self._losing -= 1
            self.lost += 1
        else:
            at = now - EARLY_MS + jitter * weather.packet_jitter_ms
            at += OVERTAKEN_MS * (reordered < weather.packet_reordered)
            heappush(self._on_the_way, (at, number, payload))
            if doubled < weather.packet_doubled:
                self.doubled += 1
                heappush(self._on_the_way, (at + COPY_MS, number, payload))
        while self._on_the_way and self._on_the_way[0][0] <= now:
            _, arrived, payload = heappop(self._on_the_way)
            yield arrived, payload


class BadLine:
    """What is left of a party's speech at the other end of its line. `rate`: of its PCM, in Hz."""

    def __init__(self, rate: int, weather: Weather) -> None:
        self._silence = silence(rate)
        self._narrow = Converter(rate, RATE, 1) if rate != RATE else None
        self._wide = Converter(RATE, rate, 1) if rate != RATE else None
        self._network = BadNetwork(weather)
        self._jitter = JitterBuffer(PCMU)

    def carry(self, frame: bytes | None) -> bytes:
        """Send the 20 ms of PCM of this tick, None for silence; return what is played at the other end in it."""
        samples = as_samples(frame or self._silence).reshape(1, -1)
        if self._narrow is not None:
            samples = self._narrow(samples)
        now = self._network.sent * TICK_S
        for number, payload in self._network.cross(PCMU.encode(samples).tobytes()):
            self._jitter.put(number & 0xFFFF, number * OCTETS_PER_FRAME & 0xFFFFFFFF, payload, now)
        octets = self._jitter.pull() or bytes([PCMU.silence]) * OCTETS_PER_FRAME
        heard = PCMU.decode(np.frombuffer(octets, np.uint8)).reshape(1, -1)
        if self._wide is not None:
            heard = self._wide(heard)
        return heard.astype("<i2").tobytes()

    def counts(self) -> dict[str, int]:
        """Return what has happened so far: packets, and milliseconds of sound."""
        network, counts = self._network, self._jitter.counts
        return {
            "packets": network.sent,
            "lost": network.lost,
            "doubled": network.doubled,
            "reordered": counts.reordered,  # came after a newer one, overtaken or late
            "too_late": counts.late,  # to be played
            "concealed_ms": round(counts.concealed_ms),
        }
