"""Faults on purpose, the same ones for the same seed: what goes wrong between Offhook and an app in real life.

    call = caller.call(App(handler), weather=weather(seed=7))   # a mix of everything
    call = caller.call(App(handler), weather=Weather(drop_at=100))   # one thing

Only in memory, where time is virtual and nothing else is left to chance: a test under one seed ends the same way twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from offhook.audio.pcm import FRAME_MS
from offhook.media.dial import AppSocket, Dial, SocketListener
from offhook.server.delivery import Post, Reply

LATE_S = (0.2, 2.0)  # how late a late event reaches the app


@dataclass(frozen=True)
class Weather:
    """What goes wrong. Frames are messages to the app's audio socket: 50 a second, and one of metadata at the start.

    The first connection is lost once `drop_at` frames were sent; from frame `stall_at` on, its app reads nothing for
    `stall_s` seconds. `skew_s` is how far Offhook's clock, in the time stamps of the audio, is ahead. Each event is
    `late` (and so overtaken by later ones), `doubled`, or answered with 503 at the first try (`failing`) with these
    probabilities, drawn from `seed`.
    """

    seed: int = 0
    drop_at: int | None = None
    stall_at: int | None = None
    stall_s: float = 0.5
    skew_s: float = 0.0
    late: float = 0.0
    doubled: float = 0.0
    failing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("late", "doubled", "failing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is no probability")


def weather(seed: int) -> Weather:
    """Return a mix of everything, drawn from `seed`: one drop and one stall within ten seconds, skew up to 5 s."""
    dice = Random(seed)
    return Weather(
        seed=seed,
        drop_at=dice.randint(50, 500),
        stall_at=dice.randint(1, 450),
        stall_s=dice.uniform(0.1, 0.9),
        skew_s=dice.uniform(-5.0, 5.0),
        late=0.3,
        doubled=0.2,
        failing=0.2,
    )


def over_socket(weather: Weather, dial: Dial) -> Dial:
    """Return `dial` with the weather over the connections that it opens."""
    dials = 0

    async def bad_dial(url: str, headers: Mapping[str, str], listener: SocketListener) -> AppSocket:
        nonlocal dials
        dials += 1
        socket = await dial(url, headers, listener)
        return _Socket(weather, socket, listener) if dials == 1 else socket

    return bad_dial


def over_events(weather: Weather, hand_over: Callable[[bytes], None]) -> Post:
    """Return the way of events to an app that is given their bodies by `hand_over`."""
    dice = Random(weather.seed)
    failed: set[bytes] = set()

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if body not in failed and dice.random() < weather.failing:
            failed.add(body)
            return Reply(503)
        loop = asyncio.get_running_loop()
        for _ in range(1 + (dice.random() < weather.doubled)):
            delay = dice.uniform(*LATE_S) if dice.random() < weather.late else 0.0
            loop.call_later(delay, hand_over, body)
        return Reply(200)

    return post


class _Socket:
    """An open socket that stalls and is lost as the weather says. An `AppSocket`."""

    def __init__(self, weather: Weather, socket: AppSocket, listener: SocketListener) -> None:
        self._weather = weather
        self._socket = socket
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._frames = 0
        self._gone = False

    def send(self, message: bytes) -> None:
        if self._gone:
            return
        self._socket.send(message)
        self._frames += 1
        if self._frames == self._weather.stall_at:
            self._loop.call_soon(self._writable, False)
            self._loop.call_later(self._weather.stall_s, self._writable, True)
        if self._frames == self._weather.drop_at:
            self._loop.call_soon(self._drop)

    def close(self, code: int = 1000) -> None:
        self._gone = True
        self._socket.close(code)

    async def wait_closed(self) -> None:
        await self._socket.wait_closed()

    def _writable(self, writable: bool) -> None:
        if not self._gone:
            self._listener.on_writable(writable)

    def _drop(self) -> None:
        if not self._gone:
            self._gone = True
            self._socket.close(1006)
            self._listener.on_closed(False, f"lost after {FRAME_MS * self._frames / 1000:g} s, by the weather")
