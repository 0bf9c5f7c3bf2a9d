"""Sessions that go on in another stack: the process of the one that they were made in was killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from tests.legs.sip_stack.conftest import Leg, Scene, Telephone

from offhook.legs.sip.events import Answered
from offhook.legs.sip.memento import SKIPPED, Memento
from offhook.legs.sip.negotiation import Negotiation, Said
from offhook.legs.sip.session_timer import Terms


async def killed(scene: Scene, telephone: Telephone, leg: Leg, between: int = 0) -> Leg:
    """Let a telephone's process be followed by another, `between` requests after it has kept its call."""
    memento = leg.session.memento()
    assert memento is not None
    said = msgspec.msgpack.decode(msgspec.msgpack.encode(leg.negotiation.said), type=Said)
    for _ in range(between):
        leg.session._dialog.next_seq()  # type: ignore[union-attr]
    leg.session._set_terms(None)
    await telephone.stack._transports.close()
    other = scene.telephone(telephone.host, scene.B if telephone is scene.a else scene.A)
    telephone.stack = other.stack
    session = other.stack.resume(msgspec.msgpack.decode(msgspec.msgpack.encode(memento), type=Memento))
    telephone.legs.remove(leg)
    resumed = Leg(telephone, session, Negotiation(telephone.policy, telephone.host, said))
    session.on_event = resumed.take
    telephone.legs.append(resumed)
    await other.stack.start()
    return resumed


@pytest.mark.parametrize("caller", [True, False])
def test_either_side_can_hang_up(scene: Callable[..., None], caller: bool) -> None:
    async def play(scene: Scene) -> None:
        mine, theirs = await scene.call()
        if not caller:
            mine, theirs = theirs, mine
        resumed = await killed(scene, scene.a if caller else scene.b, mine)
        (resumed if caller else theirs).session.hang_up()
        await asyncio.sleep(1)
        assert resumed.ended.by_us is caller
        assert theirs.ended.by_us is not caller

    scene(play)


def test_requests_of_which_nothing_was_kept_do_not_hinder(scene: Callable[..., None]) -> None:
    async def play(scene: Scene) -> None:
        mine, theirs = await scene.call()
        resumed = await killed(scene, scene.a, mine, between=SKIPPED - 1)
        resumed.reoffer(hold=True)
        await asyncio.sleep(1)
        assert resumed.told(Answered)
        resumed.session.hang_up()
        await asyncio.sleep(1)
        assert not theirs.ended.by_us

    scene(play)


def test_their_offer_is_answered(scene: Callable[..., None]) -> None:
    async def play(scene: Scene) -> None:
        mine, theirs = await scene.call()
        await killed(scene, scene.a, mine)
        before = len(theirs.told(Answered))
        theirs.reoffer(hold=True)
        await asyncio.sleep(1)
        assert len(theirs.told(Answered)) == before + 1

    scene(play)


def test_the_session_timer_goes_on(scene: Callable[..., None]) -> None:
    async def play(scene: Scene) -> None:
        mine, theirs = await scene.call()
        resumed = await killed(scene, scene.a, mine)
        await asyncio.sleep(4_000)
        for leg in (resumed, theirs):
            assert leg.session.phase.name == "CONFIRMED"
            assert isinstance(leg.session._terms, Terms)

    scene(play)


def test_a_call_that_rings_has_none(scene: Callable[..., None]) -> None:
    async def play(scene: Scene) -> None:
        scene.b.answers = False
        leg = scene.a.call()
        await asyncio.sleep(1)
        assert leg.session.memento() is None

    scene(play)
