"""Transfers by SIP through the whole server: telephones refer calls, replace each other, and are referred."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.server.telephone_scene import (
    CALLER,
    DESK,
    DESK_NUMBER,
    MOBILE,
    SERVER,
    SHOP,
    TRUNK,
    Line,
    Scene,
    hold,
    streaming,
)

from offhook.legs.sip.events import Answered, Ended, Event, ReferProgress, Referred
from offhook.media import tidings
from offhook.server.placement import Worker
from offhook.server.referrals import REFER_S
from offhook.server.tidings import Tidings

if TYPE_CHECKING:
    from tests.conftest import InMemory

SHOP_URI = "sip:shop@192.0.2.1"
ALLOWED = {"trunk": {"allow_transfer": True}}
BY_TRUNK = {"trunk": {"transfer": "refer"}}


def codes(line: Line) -> list[int]:
    """How a telephone is told that its transfer goes; a NOTIFY may overtake the 202."""
    return [event.code for event in line.told(ReferProgress) if event.code != 202]


# ------------------------------------------------------------------------------------------------ REFER to us: blind


def test_a_phone_transfers_an_app_to_another_phone(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered(scene.desk)
        updates = scene.server.kinds(app).count("ParticipantsUpdated")
        scene.shop.picks_up = False
        line.live.refer(SHOP_URI)
        await scene.server.settle(1)
        assert codes(line) == [100, 180]
        assert scene.app_hears() == {900}, "nobody has come yet"
        scene.shop.line.pick_up()
        await scene.server.settle(1)
        assert codes(line) == [100, 180, 200]
        assert line.over
        assert scene.raw_id("shop") in await scene.present(app)
        assert DESK_NUMBER not in await scene.present(app)
        assert scene.server.kinds(app).count("ParticipantsUpdated") == updates + 1
        assert scene.app_hears() == {1100}
        assert scene.shop.line.hears() == {700}

    hold(in_memory, scenario)


@pytest.mark.parametrize(("status", "told"), [(486, 486), (603, 603), (404, 404), (480, 480)])
def test_if_the_target_does_not_come_all_is_as_before(in_memory: InMemory, status: int, told: int) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered(scene.desk)
        scene.shop.rejects = status
        line.live.refer(SHOP_URI)
        await scene.server.settle(1)
        assert codes(line) == [100, told]
        assert not line.over
        assert (scene.app_hears(), line.hears()) == ({900}, {700})
        scene.shop.rejects = 0
        line.live.refer(SHOP_URI)
        await scene.server.settle(1)
        assert codes(line)[-1] == 200

    hold(in_memory, scenario)


def joining_takes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """As with a worker that has to do: that a leg has joined its call is told later."""
    handle = Tidings.on_tiding

    def late(self: Tidings, worker: Worker, tiding: tidings.Tiding) -> None:
        delay = seconds * isinstance(tiding, tidings.LegJoined)
        asyncio.get_running_loop().call_later(delay, handle, self, worker, tiding)

    monkeypatch.setattr(Tidings, "on_tiding", late)


def when_answered(line: Line, act: Callable[[], object]) -> None:
    """Have a telephone do something with the ACK."""

    def on_event(event: Event) -> None:
        line.on_event(event)
        if isinstance(event, Answered):
            act()

    line.live.on_event = on_event


@pytest.mark.parametrize("joins", [True, False])
def test_a_refer_that_comes_with_the_ack_waits_for_its_leg(
    in_memory: InMemory, monkeypatch: pytest.MonkeyPatch, joins: bool
) -> None:
    async def scenario(scene: Scene) -> None:
        joining_takes(monkeypatch, 0.5 if joins else 60)
        line = scene.desk.call("+15550199")
        when_answered(line, lambda: line.live.refer(SHOP_URI))
        await scene.server.settle(0.5)
        await scene.server.answer(mediaStreamingOptions=streaming())
        await scene.server.settle(2)
        if joins:
            assert codes(line) == [100, 180, 200]
            assert line.over
            assert scene.app_hears() == {1100}
        else:
            assert codes(line) == [100]
            line.live.hang_up()
            await scene.server.settle(60)
            assert not scene.shop.lines
        assert not scene.telephones.referrals._waiting

    hold(in_memory, scenario)


def test_a_target_that_lets_it_ring(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered(scene.desk)
        scene.shop.picks_up = False
        line.live.refer(SHOP_URI)
        await scene.server.settle(61)
        assert codes(line) == [100, 180, 480]
        assert not scene.shop.lines

    hold(in_memory, scenario)


@pytest.mark.parametrize("comes", [True, False])
def test_a_phone_that_hangs_up_once_it_has_referred(in_memory: InMemory, comes: bool) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered(scene.desk)
        scene.shop.picks_up = False
        line.live.refer(SHOP_URI)
        await scene.server.settle(1)
        line.live.hang_up()
        await scene.server.settle(1)
        assert "CallDisconnected" not in scene.server.kinds(app), "somebody is on his way"
        if comes:
            scene.shop.line.pick_up()
            await scene.server.settle(1)
            assert scene.app_hears() == {1100}
        else:
            scene.shop.line.incoming.reject(486)
            await scene.server.settle(1)
            assert scene.server.kinds(app)[-1] == "CallDisconnected"

    hold(in_memory, scenario)


def test_the_referrer_is_taken_out_meanwhile(in_memory: InMemory) -> None:
    """Somebody whom an app has removed, brings nobody in."""

    async def scenario(scene: Scene) -> None:
        app = await scene.created(MOBILE)
        await scene.do(app, "/participants:add", participantToAdd={"rawId": DESK_NUMBER})
        scene.shop.picks_up = False
        scene.desk.line.live.refer(SHOP_URI)
        await scene.server.settle(1)
        await scene.do(app, "/participants:remove", participantToRemove={"rawId": DESK_NUMBER})
        assert not scene.desk.lines
        assert not scene.shop.lines

    hold(in_memory, scenario)


def test_a_phone_transfers_to_an_app(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered(scene.desk)
        line.live.refer("sip:+15550177@192.0.2.1")
        await scene.server.settle(1)
        assert scene.server.incoming[-1]["to"]["rawId"] == "4:+15550177"
        assert codes(line) == [100]
        other = await scene.server.answer()
        assert codes(line) == [100, 200]
        assert line.over
        assert "CallDisconnected" not in scene.server.kinds(app)
        await scene.server.hang_up(other)

    hold(in_memory, scenario)


# ------------------------------------------------------------------------------------------------ … and who may


def test_a_phone_cannot_transfer_to_a_route(in_memory: InMemory) -> None:
    """What it could not call itself, it cannot have called: the number is offered to apps, and to no trunk."""

    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered(scene.desk)
        line.live.refer(f"sip:{MOBILE[2:]}@192.0.2.1")
        await scene.server.settle(1)
        assert not scene.trunk.lines
        assert scene.server.incoming[-1]["to"]["rawId"] == MOBILE

    hold(in_memory, scenario)


def test_an_app_may_redirect_what_a_phone_referred(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered(scene.desk)
        line.live.refer("sip:+15550177@192.0.2.1")
        await scene.server.settle(1)
        body = {"incomingCallContext": scene.server.context, "target": {"rawId": MOBILE}}
        redirected = await scene.server.rest("POST", "/calling/callConnections:redirect", body)
        assert redirected.status == 204, redirected.content
        await scene.server.settle(1)
        assert scene.trunk.line.live.request_uri.user == MOBILE[2:]
        assert codes(line)[-1] == 200
        assert line.over

    hold(in_memory, scenario)


def test_a_foreign_host_is_not_called(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered(scene.desk)
        line.live.refer("sip:premium@evil.example")
        await scene.server.settle(1)
        assert scene.server.incoming[-1]["to"]["rawId"] == scene.raw_id("premium"), "it is a name like any other"
        assert {target for _, _, target, _ in scene.network.log} <= {SERVER, TRUNK, DESK, SHOP}

    hold(in_memory, scenario)


@pytest.mark.parametrize("uri", ["sip:192.0.2.1", "mailto:shop@shop.example"])
def test_a_target_that_is_nobody(in_memory: InMemory, uri: str) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered(scene.desk)
        line.live.refer(uri)
        await scene.server.settle(1)
        assert codes(line) == [100, 404]

    hold(in_memory, scenario)


def test_a_trunk_transfers_only_if_it_is_allowed_to(in_memory: InMemory) -> None:
    async def refused(scene: Scene) -> None:
        line, _ = await scene.answered()
        line.live.refer(SHOP_URI)
        await scene.server.settle(1)
        assert codes(line) == [403]
        assert not line.over

    async def allowed(scene: Scene) -> None:
        line, _ = await scene.answered()
        line.live.refer(SHOP_URI)
        await scene.server.settle(1)
        assert codes(line) == [100, 180, 200]

    hold(in_memory, refused)
    hold(in_memory, allowed, **ALLOWED)


# ------------------------------------------------------------------------------------------------ attended


@pytest.mark.parametrize("from_the_apps_side", [True, False])
def test_a_phone_makes_one_call_of_two(in_memory: InMemory, from_the_apps_side: bool) -> None:
    async def scenario(scene: Scene) -> None:
        with_app, app = await scene.answered(scene.desk)
        with_shop = scene.desk.call("shop")
        await scene.server.settle(1)
        assert with_shop.hears() == {1100}
        one, other = (with_app, with_shop) if from_the_apps_side else (with_shop, with_app)
        one.live.refer(SHOP_URI, other.live.replaces_me)
        await scene.server.settle(1)
        assert codes(one) == [100, 200]
        assert (one.over, other.over) == (True, True)
        assert scene.app_hears() == {1100}
        assert scene.shop.line.hears() == {700}
        assert {DESK_NUMBER} & await scene.present(app) == set()
        scene.shop.line.live.hang_up()
        await scene.server.settle(1)
        assert scene.server.kinds(app)[-1] == "CallDisconnected"

    hold(in_memory, scenario)


def test_one_of_two_calls_that_has_just_been_answered(in_memory: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(scene: Scene) -> None:
        with_app, _ = await scene.answered(scene.desk)
        joining_takes(monkeypatch, 0.5)
        with_shop = scene.desk.call("shop")
        when_answered(with_shop, lambda: with_app.live.refer(SHOP_URI, with_shop.live.replaces_me))
        await scene.server.settle(2)
        assert codes(with_app) == [100, 200]
        assert (with_app.over, with_shop.over) == (True, True)
        assert scene.app_hears() == {1100}

    hold(in_memory, scenario)


def test_two_phones_are_brought_together(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.picks_up = True
        first = scene.desk.call("shop")
        await scene.server.settle(1)
        second = scene.shop.line
        third = scene.trunk.call("desk")
        await scene.server.settle(1)
        assert third.hears() == {900}
        first.live.refer("sip:+15550100@192.0.2.1", scene.desk.line.live.replaces_me)
        await scene.server.settle(1)
        assert codes(first) == [100, 200]
        assert not scene.desk.lines
        assert (second.hears(), third.hears()) == ({500}, {1100})

    hold(in_memory, scenario)


def test_two_calls_with_apps_cannot_be_one(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        one, _ = await scene.answered(scene.desk)
        other, app = await scene.answered(scene.desk)
        await scene.do(app, "/participants:add", participantToAdd={"rawId": scene.raw_id("shop")})
        await scene.server.settle(1)
        one.live.refer("sip:+15550199@192.0.2.1", other.live.replaces_me)
        await scene.server.settle(1)
        assert codes(one) == [100, 603]
        assert (one.over, other.over) == (False, False)
        assert scene.raw_id("shop") in await scene.present(app)

    hold(in_memory, scenario)


def test_a_call_of_somebody_else_cannot_be_taken(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        theirs, _ = await scene.answered(scene.desk)
        ours = scene.shop.call("desk")
        await scene.server.settle(1)
        ours.live.refer("sip:+15550199@192.0.2.1", theirs.live.replaces_me)
        await scene.server.settle(1)
        assert codes(ours) == [100, 403]

    hold(in_memory, scenario)


def test_what_still_rings_or_is_over_cannot_be_joined(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered(scene.desk)
        scene.shop.picks_up = False
        rings = scene.desk.call("shop")
        await scene.server.settle(1)
        line.live.refer(SHOP_URI, rings.live.replaces_me)
        await scene.server.settle(1)
        assert codes(line) == [100, 603]
        gone = rings.live.replaces_me
        rings.live.hang_up()
        await scene.server.settle(1)
        line.live.refer(SHOP_URI, gone)
        await scene.server.settle(1)
        assert codes(line)[-1] == 404
        assert scene.app_hears() == {900}
        await scene.server.hang_up(app)

    hold(in_memory, scenario)


# ------------------------------------------------------------------------------------------------ INVITE with Replaces


def test_a_phone_takes_the_place_of_another(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered(scene.desk)
        taking = scene.shop.call("desk", replaces=line.live.replaces_me)
        await scene.server.settle(1)
        assert line.over
        assert scene.raw_id("shop") in await scene.present(app)
        assert DESK_NUMBER not in await scene.present(app)
        assert (scene.app_hears(), taking.hears()) == ({1100}, {700})
        assert len(scene.server.incoming) == 1, "no app is asked"

    hold(in_memory, scenario)


@pytest.mark.parametrize(("settings", "code"), [({}, 403), (ALLOWED, None)])
def test_a_trunk_that_wants_somebodys_place(in_memory: InMemory, settings: dict[str, object], code: int | None) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered(scene.desk)
        taking = scene.trunk.call("desk", replaces=line.live.replaces_me)
        await scene.server.settle(1)
        assert [event.code for event in taking.told(Ended)] == ([] if code is None else [code])
        assert line.over is (code is None)

    hold(in_memory, scenario, **settings)


def test_a_place_that_is_wanted_only_while_it_rings(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, _ = await scene.answered(scene.desk)
        wanted = line.live.replaces_me
        assert wanted is not None
        taking = scene.shop.call("desk", replaces=replace(wanted, from_tag=f"{wanted.from_tag};early-only"))
        await scene.server.settle(1)
        assert taking.told(Ended)[0].code == 486
        assert not line.over

    hold(in_memory, scenario)


def test_a_place_that_is_not_there_yet(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.desk.call("+15550199")
        await scene.server.settle(1)
        taking = scene.shop.call("desk", replaces=line.live.replaces_me)
        await scene.server.settle(1)
        assert taking.told(Ended)[0].code == 481
        line.live.hang_up()

    hold(in_memory, scenario)


# ------------------------------------------------------------------------------------------------ REFER by us


def test_a_trunk_is_asked_to_transfer(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        await scene.do(
            app, ":transferToParticipant", targetParticipant={"rawId": MOBILE}, operationContext="over to you"
        )
        (referred,) = line.told(Referred)
        assert str(referred.to) == f"sip:{MOBILE[2:]}@192.0.2.2"
        assert not scene.trunk.lines[1:], "nobody is called from here"
        line.live.refer_progress(180)
        await scene.server.settle(5)
        assert scene.app_hears() == {500}, "he is here until he is there"
        line.live.refer_progress(200)
        await scene.server.settle(1)
        assert line.over
        assert scene.server.kinds(app)[-3::2] == ["CallTransferAccepted", "CallDisconnected"]
        accepted = scene.server.event(app, "CallTransferAccepted").data
        assert (accepted["transferTarget"]["rawId"], accepted["transferee"]["rawId"]) == (MOBILE, CALLER)
        assert accepted["operationContext"] == "over to you"

    hold(in_memory, scenario, **BY_TRUNK)


@pytest.mark.parametrize(("status", "result"), [(486, (486, 8539)), (603, (603, 8538)), (503, (480, 8541))])
def test_a_trunk_whose_transfer_fails(in_memory: InMemory, status: int, result: tuple[int, int]) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        for _ in range(2):
            await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
            line.live.refer_progress(status)
            await scene.server.settle(1)
            assert scene.server.result(app, "CallTransferFailed") == result
        assert not line.over
        assert (scene.app_hears(), line.hears()) == ({500}, {700})

    hold(in_memory, scenario, **BY_TRUNK)


def test_a_trunk_that_refuses_refer(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        session = line.live
        session.on_event = lambda event: (
            session.refuse_refer(403) if isinstance(event, Referred) else line.on_event(event)
        )
        await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
        assert scene.server.result(app, "CallTransferFailed") == (603, 8538)
        assert not line.over

    hold(in_memory, scenario, **BY_TRUNK)


def test_a_trunk_that_hangs_up_has_put_the_call_through(in_memory: InMemory) -> None:
    """Many say no more than 202 and BYE."""

    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
        line.live.hang_up()
        await scene.server.settle(1)
        assert scene.server.kinds(app)[-3::2] == ["CallTransferAccepted", "CallDisconnected"]

    hold(in_memory, scenario, **BY_TRUNK)


def test_a_trunk_that_stops_telling_and_hangs_up(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
        (ours,) = scene.telephones._lines.values()
        scene.telephones.referrals.on_progress(ours, ReferProgress(100, "Trying", final=True))
        await scene.server.settle(1)
        assert scene.server.kinds(app)[-1] == "MediaStreamingStarted"
        line.live.hang_up()
        await scene.server.settle(1)
        assert "CallTransferAccepted" in scene.server.kinds(app)

    hold(in_memory, scenario, **BY_TRUNK)


def test_a_trunk_that_says_nothing_more(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
        await scene.server.settle(REFER_S)
        assert scene.server.result(app, "CallTransferFailed") == (480, 8587)
        line.live.refer_progress(200)
        await scene.server.settle(1)
        assert "CallTransferAccepted" not in scene.server.kinds(app), "it is too late"
        assert not line.over

    hold(in_memory, scenario, **BY_TRUNK)


def test_an_app_that_hangs_up_while_the_trunk_transfers(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
        await scene.server.hang_up(app)
        assert line.over
        assert "CallTransferAccepted" not in scene.server.kinds(app)

    hold(in_memory, scenario, **BY_TRUNK)


@pytest.mark.parametrize("target", [DESK_NUMBER, "4:+4930123456"])
def test_what_is_not_the_trunks_is_transferred_here(in_memory: InMemory, target: str) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": target})
        await scene.server.settle(1)
        assert not line.told(Referred)
        if target == DESK_NUMBER:
            assert scene.desk.line.hears() == {500}
        else:
            assert scene.server.result(app, "CallTransferFailed") == (480, 8541)

    hold(in_memory, scenario, **BY_TRUNK)


def test_without_the_option_a_transfer_is_made_here(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
        await scene.server.settle(1)
        assert not line.told(Referred)
        outgoing = scene.trunk.line
        assert outgoing.live.request_uri.user == MOBILE[2:]
        assert (outgoing.hears(), line.hears()) == ({500}, {500})
        assert "CallTransferAccepted" in scene.server.kinds(app)

    hold(in_memory, scenario)


def test_a_control_process_that_is_killed_while_a_trunk_transfers(in_memory: InMemory) -> None:
    """Nobody knows any more of what the trunk was asked: the app is told, and the transfer does not last for ever."""

    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        await scene.do(app, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
        scene.server.kill()
        await scene.server.settle(2)
        assert scene.server.result(app, "CallTransferFailed") == (487, 8542)
        await scene.server.hang_up(app)
        line.live.hang_up()
        control = scene.server.control
        with control.exchange.steps.step():
            while control.exchange._lines:  # This control process has no SIP: nobody takes the line over.
                worker, kept = control.exchange._lines.pop()
                worker.step.delete(f"line {kept.leg}")

    hold(in_memory, scenario, **BY_TRUNK)
