"""An event on its way to an app in bad weather: late, doubled, or not taken at the first try."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from offhook.media.weather import Fate
from offhook.server.delivery import Deliverer, Parcel, Post, Reply, Settled


def deliver(deliverer: Deliverer, parcel: Parcel, fate: Fate, settled: Settled) -> None:
    """Send an event as its fate wants it. `settled`: the first time it is sent is over.

    What is late, and what is sent again, has a lane of its own, so that other events overtake it.
    """
    for number, late_s in enumerate(fate.late_s):
        first = number == 0
        over = partial(_bad, late_s, fate.failing and first)
        if first and not late_s:
            deliverer.send(parcel.lane, parcel.url, parcel.body, parcel.kind, parcel.last, settled, over)
        else:
            lane = f"{parcel.lane} {parcel.id} {number}"
            deliverer.send(lane, parcel.url, parcel.body, parcel.kind, True, settled if first else None, over)


def _bad(late_s: float, failing: bool, post: Post) -> Post:
    """Return `post` for one event, with the weather over its first try."""
    first = True

    async def bad_post(url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        nonlocal first
        if first:
            first = False
            await asyncio.sleep(late_s)
            if failing:
                return Reply(503)
        return await post(url, headers, body)

    return bad_post
