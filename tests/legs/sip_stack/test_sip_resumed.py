"""Sessions that go on in another stack: the process of the one that they were made in was killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.legs.sip_stack.conftest import PORT, Leg, Scene, Telephone

from offhook.legs.sip.events import Answered, Ended, Progress
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.memento import SKIPPED, Memento, Ringing
from offhook.legs.sip.negotiation import Negotiation, Said
from offhook.legs.sip.session_timer import Terms


async def killed(scene: Scene, telephone: Telephone, leg: Leg, between: int = 0, away_s: float = 0) -> Leg:
    """Let a telephone's process be followed by another, `between` requests after it has kept its call, and so long."""
    memento = leg.session.memento()
    assert memento is not None
    said = msgspec.msgpack.decode(msgspec.msgpack.encode(leg.negotiation.said), type=Said)
    for _ in range(between):
        leg.session._dialog.next_seq()  # type: ignore[union-attr]
    leg.session._set_terms(None)
    await telephone.stack._transports.close()
    telephone.stack._endpoint.close()
    await asyncio.sleep(away_s)
    other = scene.telephone(telephone.host, scene.B if telephone is scene.a else scene.A)
    telephone.stack = other.stack
    session = other.stack.resume(msgspec.msgpack.decode(msgspec.msgpack.encode(memento), type=Memento | Ringing))
    assert session is not None
    telephone.legs.remove(leg)
    resumed = Leg(telephone, session, Negotiation(telephone.policy, telephone.host, said))
    session.on_event = resumed.take
    telephone.legs.append(resumed)
    await other.stack.start()
    return resumed


async def rings(scene: Scene) -> tuple[Leg, Leg]:
    """A calls B, where it rings: their legs, a second later."""
    scene.b.answers = False
    mine = scene.a.call()
    await asyncio.sleep(0.5)
    (theirs,) = scene.b.legs
    theirs.incoming.ring()
    await asyncio.sleep(0.5)
    return mine, theirs


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


# ------------------------------------------------------------------------------------------------ ringing


@pytest.mark.parametrize("away_s", [0.0, 3.0])
def test_a_call_that_came_and_rings_can_be_answered(scene: Callable[..., None], away_s: float) -> None:
    async def play(scene: Scene) -> None:
        mine, theirs = await rings(scene)
        resumed = await killed(scene, scene.b, theirs, away_s=away_s)
        resumed.pick_up()
        await asyncio.sleep(1)
        assert [len(leg.told(Answered)) for leg in (mine, resumed)] == [1, 1]
        mine.session.hang_up()
        await asyncio.sleep(1)
        assert not resumed.ended.by_us

    scene(play)


def test_a_call_that_came_and_rings_can_be_refused_or_given_up(scene: Callable[..., None]) -> None:
    async def refused(scene: Scene) -> None:
        mine, theirs = await rings(scene)
        (await killed(scene, scene.b, theirs)).incoming.reject(486)
        await asyncio.sleep(1)
        assert mine.ended == Ended(486, "Busy Here")

    async def given_up(scene: Scene) -> None:
        mine, theirs = await rings(scene)
        resumed = await killed(scene, scene.b, theirs)
        mine.session.hang_up()
        await asyncio.sleep(1)
        assert resumed.ended == Ended(487, "Request Terminated")
        assert scene.network.sent(scene.B)[-2:] == ["200 CANCEL", "487 INVITE"]

    scene(refused)
    scene(given_up)


def test_whoever_calls_hears_again_that_it_rings(scene: Callable[..., None]) -> None:
    async def play(scene: Scene) -> None:
        mine, theirs = await rings(scene)
        await killed(scene, scene.b, theirs)
        await asyncio.sleep(100)
        assert len(mine.told(Progress)) >= 2

    scene(play)


@pytest.mark.parametrize("away_s", [0.0, 3.0])
def test_a_call_that_we_make_goes_on_ringing(scene: Callable[..., None], away_s: float) -> None:
    async def play(scene: Scene) -> None:
        mine, theirs = await rings(scene)
        resumed = await killed(scene, scene.a, mine, away_s=away_s)
        await asyncio.sleep(1)
        assert resumed.told(Progress), "it says again that it rings"
        theirs.pick_up()
        await asyncio.sleep(1)
        assert scene.b.legs == [theirs], "it was one call"
        assert [len(leg.told(Answered)) for leg in (resumed, theirs)] == [1, 1]
        assert resumed.agreed is not None
        resumed.session.hang_up()
        await asyncio.sleep(1)
        assert not theirs.ended.by_us

    scene(play)


def test_who_answers_or_refuses_while_nobody_is_there_says_so_again(scene: Callable[..., None]) -> None:
    async def answered(scene: Scene) -> None:
        mine, theirs = await rings(scene)
        asyncio.get_running_loop().call_later(1, theirs.pick_up)
        resumed = await killed(scene, scene.a, mine, away_s=3)
        await asyncio.sleep(5)
        assert [len(leg.told(Answered)) for leg in (resumed, theirs)] == [1, 1]

    async def refused(scene: Scene) -> None:
        mine, theirs = await rings(scene)
        asyncio.get_running_loop().call_later(1, theirs.incoming.reject, 486)
        resumed = await killed(scene, scene.a, mine, away_s=3)
        await asyncio.sleep(5)
        assert resumed.ended.code == 486

    scene(answered)
    scene(refused)


def test_a_call_that_we_make_can_be_given_up(scene: Callable[..., None]) -> None:
    async def play(scene: Scene) -> None:
        mine, theirs = await rings(scene)
        resumed = await killed(scene, scene.a, mine)
        await asyncio.sleep(1)
        resumed.session.hang_up()
        await asyncio.sleep(1)
        assert theirs.ended.code == 487

    scene(play)


def test_what_is_kept_of_a_call_that_was_challenged_is_its_proof(scene: Callable[..., None]) -> None:
    async def play(scene: Scene) -> None:
        proof: Any = {"user": "offhook", "password": "secret"}
        trunk = Trunk("other", (f"{scene.A}/32",), f"sip:{scene.A}:{PORT}", challenge=True, **proof)
        scene.b.stack.reload([trunk], [])
        scene.a.stack.reload([Trunk("other", (f"{scene.B}/32",), f"sip:{scene.B}:{PORT}", **proof)], [])
        scene.b.answers = False
        mine = scene.a.call()
        changes: list[object] = []
        mine.session.on_change = lambda: changes.append(mine.session.memento())
        await asyncio.sleep(0.5)
        assert [b"Authorization" in change.invite for change in changes if isinstance(change, Ringing)] == [True]
        await killed(scene, scene.a, mine)
        await asyncio.sleep(1)
        assert len(scene.b.legs) == 1

    scene(play)
