"""Calls over a network that loses, repeats and reorders: all of them come about, and all of them end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from offhook.legs.sip.events import Answered, Ended, OfferFailed

if TYPE_CHECKING:
    from tests.legs.sip_stack.conftest import Scene


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("twice", [0.0, 0.3])
def test_calls_over_a_bad_network(scene: Callable[..., None], loss: float, twice: float) -> None:
    """20 calls; in each, both sides change the media at will, and one hangs up."""

    async def play(one: Scene) -> None:
        one.network.loss, one.network.twice, one.network.delay_s = loss, twice, (0.005, 0.4)
        callers = [one.a.call(f"1{number:02}") for number in range(20)]
        await asyncio.sleep(33)
        assert len(one.b.legs) == 20
        for number, leg in enumerate(callers):
            assert leg.told(Answered)
            if number % 2:
                leg.reoffer(hold=True)
            if number % 3:
                one.b.legs[number].reoffer()
        await asyncio.sleep(60)
        for number, leg in enumerate([*callers, *one.b.legs]):
            assert not leg.told(OfferFailed)
            assert not leg.told(Ended)
            if number % 2:
                leg.session.hang_up()
        await asyncio.sleep(60)

    scene(play)


def test_cancels_over_a_bad_network(scene: Callable[..., None]) -> None:
    async def play(one: Scene) -> None:
        one.network.loss, one.network.twice, one.network.delay_s = 0.3, 0.3, (0.005, 0.4)
        one.b.answers = False
        callers = [one.a.call(f"1{number:02}") for number in range(20)]
        for number, leg in enumerate(callers):
            await asyncio.sleep(0.1)
            if number % 3 == 0:
                for called in one.b.legs:
                    called.pick_up()
            leg.session.hang_up()
        await asyncio.sleep(100)
        for called in one.b.legs:
            assert isinstance(called.ended, Ended)

    scene(play)
