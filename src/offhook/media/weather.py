"""Faults on purpose, the same ones for the same seed: what goes wrong between a caller, Offhook and an app.

Values only. They are carried out by what they name: the app's socket by `media.bad_socket`, the caller's line by
`legs.bad_line`, callbacks by `server.bad_post`. Users find them in `offhook.testing.weather`.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import msgspec

LATE_S = (0.2, 2.0)  # how late a late event is

_FRAMES = (1, 2**31 - 1)
_PROBABILITY = (0, 1)
BOUNDS: Mapping[str, tuple[float, float]] = {  # the least and the most that a field may be
    "seed": (-(2**63), 2**63 - 1),
    "drop_at": _FRAMES,
    "stall_at": _FRAMES,
    "stall_s": (0, 60),
    "skew_s": (-31_536_000, 31_536_000),  # a year
    "late": _PROBABILITY,
    "doubled": _PROBABILITY,
    "failing": _PROBABILITY,
    "packet_loss": _PROBABILITY,
    "packet_burst": (1, 50),  # a second
    "packet_jitter_ms": (0, 500),
    "packet_reordered": _PROBABILITY,
    "packet_doubled": _PROBABILITY,
}


class Weather(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What goes wrong in one call; by default, nothing.

    Frames are messages to an app's audio socket, the first of which is the metadata; then there are 50 a second, in
    unmixed audio as many for each participant. Events are those of callbacks, not IncomingCall. Packets are the 20 ms
    of a caller on a bad line, numbered from its connection on: its speech goes through G.711, this network and a
    jitter buffer. What it hears is not touched. Raises ValueError for a value that is out of bounds.
    """

    seed: int = 0  # draws what is left to chance
    drop_at: int | None = None  # a stream's first socket is lost once so many frames were sent
    stall_at: int | None = None  # after so many frames on it, the app reads nothing …
    stall_s: float = 0.5  # … for so long, 60 s at most
    skew_s: float = 0.0  # the clock of the audio's time stamps is ahead by this, by a year at most
    late: float = 0.0  # probability that an event is 0.2 to 2 s late, so that others overtake it
    doubled: float = 0.0  # … that it is sent twice
    failing: float = 0.0  # … that its first try counts as answered with 503; the next is half a second later
    packet_loss: float = 0.0  # … that with a packet a loss begins …
    packet_burst: int = 1  # … of 1 to so many packets in a row, 50 at most
    packet_jitter_ms: float = 0.0  # each packet is late by up to this, 500 at most
    packet_reordered: float = 0.0  # probability that a packet is overtaken by the next one
    packet_doubled: float = 0.0  # … that it comes twice

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name}: {value} is not between {least} and {most}")

    @property
    def has_bad_line(self) -> bool:
        """Whether anything is wrong with the caller's packets."""
        return any((self.packet_loss, self.packet_jitter_ms, self.packet_reordered, self.packet_doubled))


def weather(seed: int) -> Weather:
    """Return a mix of everything, drawn from `seed`: one drop and one stall within ten seconds, skew up to 5 s, and a
    line that loses up to 5 % of its packets. Raises ValueError for a seed of more than 64 bits."""
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
        packet_loss=dice.uniform(0.005, 0.025),
        packet_burst=dice.randint(1, 3),
        packet_jitter_ms=dice.uniform(0, 60),
        packet_reordered=0.01,
        packet_doubled=0.01,
    )


class Fate(msgspec.Struct, frozen=True):
    """What becomes of one event. `late_s`: how late it is, for each time that it is sent; `failing`: not at the first
    try."""

    late_s: tuple[float, ...] = (0.0,)
    failing: bool = False


def fate(weather: Weather, kind: str, number: int) -> Fate | None:
    """Return what becomes of a call's event: the `number`-th of this kind. None: nothing special.

    It is not drawn from one sequence for all events, as of different kinds now one, now the other may be first.
    """
    dice = Random(f"{weather.seed} {kind} {number}")
    failing, copies = dice.random() < weather.failing, 1 + (dice.random() < weather.doubled)
    late_s = tuple(round(dice.uniform(*LATE_S), 3) if dice.random() < weather.late else 0.0 for _ in range(copies))
    drawn = Fate(late_s, failing)
    return None if drawn == Fate() else drawn
