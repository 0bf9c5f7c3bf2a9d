"""Faults on purpose, the same ones for the same seed: what goes wrong between caller, Offhook and app in real life.

    call = caller.call(App(handler), weather=weather(seed=7))   # a mix of everything
    call = caller.call(App(handler), weather=Weather(drop_at=100))   # one thing

The same faults come at the same frames, packets and events. In memory, where time is virtual, nothing else is left to
chance: a test under one seed ends the same way twice. A running server adds what real time brings.
"""

from __future__ import annotations

import msgspec

from offhook.media.weather import Weather, weather

__all__ = ["Weather", "parse", "weather"]


def parse(text: str) -> Weather:
    """Return the weather that a command line names: `7`, a mix of everything by that seed, or `7,drop_at=100,late=0.5`,
    only these faults. Raises ValueError."""
    seed, *faults = text.split(",")
    fields = {"seed": seed}
    for fault in faults:
        name, _, value = fault.partition("=")
        fields[name.strip()] = value.strip()
    try:
        read = msgspec.convert(fields, Weather, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"weather {text!r} is not SEED[,KEY=VALUE…]: {error}") from None
    return read if faults else weather(read.seed)
