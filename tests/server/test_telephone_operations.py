"""Every operation of Call Automation on telephones, through the whole server: what they are sent, and what is heard.

The trunk's telephone says 500 Hz, the phone `desk` 900 Hz, the app 700 Hz, and hold music is 600 Hz.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.server.telephone_scene import CALLER, CALLS, DESK_NUMBER, MOBILE, SERVER, TRUNK, Line, Scene, hold

from offhook.legs.sip.events import Ended, Offered

if TYPE_CHECKING:
    from tests.conftest import InMemory


def who(party: str) -> dict[str, str]:
    return {"rawId": party}


def ended(line: Line) -> int:
    """The status with which a telephone's call ended."""
    code: int = line.told(Ended)[0].code
    return code


def talks(scene: Scene, app: str) -> list[str]:
    """The kinds of an app's events, but for those of its stream."""
    return [kind for kind in scene.server.kinds(app) if not kind.startswith("MediaStreaming")]


async def in_a_call(scene: Scene, calls: str) -> tuple[Line, str, str]:
    """A call with the trunk's telephone: its line, the app's connection, the telephone's raw id."""
    if calls == "the telephone calls":
        line, app = await scene.answered()
        return line, app, CALLER
    app = await scene.created(MOBILE)
    return scene.trunk.line, app, MOBILE


both_ways = pytest.mark.parametrize("calls", ["the telephone calls", "the app calls"])


async def three(scene: Scene) -> tuple[Line, Line, str]:
    """The trunk's telephone, the phone `desk` that was added, and the app's connection."""
    line, app = await scene.answered()
    await scene.do(app, "/participants:add", participantToAdd=who(DESK_NUMBER))
    await scene.server.settle(0.5)
    return line, scene.desk.line, app


# ------------------------------------------------------------------------------------------------ createCall


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (302, (480, 8541)),  # Nobody is called whom no route names: where else to go is not followed.
        (403, (603, 8538)),
        (404, (480, 8541)),
        (480, (480, 8587)),
        (484, (480, 8541)),
        (486, (486, 8539)),
        (488, (480, 8541)),
        (500, (480, 8541)),
        (503, (480, 8541)),
        (600, (486, 8539)),
        (603, (603, 8538)),
    ],
)
def test_create_call_that_is_refused(in_memory: InMemory, status: int, result: tuple[int, int]) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.rejects = status
        app = await scene.created(MOBILE)
        assert scene.server.kinds(app) == ["CreateCallFailed", "CallDisconnected"]
        assert scene.server.result(app, "CreateCallFailed") == result
        assert scene.network.sent(SERVER).count("INVITE") == 1

    hold(in_memory, scenario)


def test_where_a_telephone_says_to_call_instead_is_not_called(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.picks_up = False
        app = await scene.created(MOBILE)
        scene.trunk.line.incoming.reject(302, contacts=[f"sip:premium@{TRUNK}"])
        await scene.server.settle(1)
        assert scene.server.result(app, "CreateCallFailed") == (480, 8541)
        assert scene.network.sent(SERVER).count("INVITE") == 1

    hold(in_memory, scenario)


def test_create_call_that_nobody_answers(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.picks_up = False
        app = await scene.created(MOBILE)
        line = scene.trunk.line
        await scene.server.settle(60)
        assert ended(line) == 487
        assert scene.server.result(app, "CreateCallFailed") == (480, 8587)

    hold(in_memory, scenario)


def test_create_call_to_a_trunk_that_is_dead(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.network.drop = lambda message: True
        app = await scene.created(MOBILE)
        await scene.server.settle(40)
        assert scene.server.result(app, "CreateCallFailed") == (480, 8587)

    hold(in_memory, scenario)


@pytest.mark.parametrize("party", ["4:+4930123456", "4:+15", "8:acs:somebody_else"])
def test_create_call_to_what_cannot_be_reached(in_memory: InMemory, party: str) -> None:
    async def scenario(scene: Scene) -> None:
        scene.server.webhooks.inbound = {}
        scene.trunk.rejects = 404
        app = await scene.created(party)
        assert scene.server.result(app, "CreateCallFailed") == (480, 8541)

    hold(in_memory, scenario)


def test_an_app_hangs_up_while_it_rings(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.picks_up = False
        app = await scene.created(MOBILE)
        line = scene.trunk.line
        await scene.server.hang_up(app)
        assert ended(line) == 487

    hold(in_memory, scenario)


def test_a_call_that_two_answer_is_one_call(in_memory: InMemory) -> None:
    """The network forks the INVITE to the phone `shop`, as a proxy does; both answer."""

    async def scenario(scene: Scene) -> None:
        send = scene.network.send

        def forked(data: bytes, source: Any, target: Any) -> None:
            send(data, source, target)
            if data.startswith(b"INVITE sip:+") and source[0] == SERVER:
                asyncio.get_running_loop().call_later(0.001, send, data, source, (scene.shop.host, 5060))

        scene.network.send = forked  # type: ignore[method-assign]
        scene.trunk.picks_up = scene.shop.picks_up = False
        app = await scene.created(MOBILE)
        first, second = scene.trunk.line, scene.shop.line
        first.pick_up()
        second.pick_up()
        await scene.server.settle(2)
        assert not first.over
        assert ended(second) == 200
        assert scene.server.kinds(app).count("CallConnected") == 1

    hold(in_memory, scenario)


@both_ways
def test_who_hangs_up_first(in_memory: InMemory, calls: str) -> None:
    async def by_telephone(scene: Scene) -> None:
        line, app, _ = await in_a_call(scene, calls)
        assert (scene.app_hears(), line.hears()) == ({500}, {700})
        line.live.hang_up()
        await scene.server.settle(1)
        assert scene.server.kinds(app)[-1] == "CallDisconnected"

    async def by_app(scene: Scene) -> None:
        line, app, _ = await in_a_call(scene, calls)
        await scene.server.hang_up(app)
        await scene.server.settle(1)
        assert ended(line) == 200

    hold(in_memory, by_telephone)
    hold(in_memory, by_app)


# ------------------------------------------------------------------------------------------------ redirect, reject


@pytest.mark.parametrize("to", [DESK_NUMBER, MOBILE, "shop"])
def test_redirect_to_a_telephone(in_memory: InMemory, to: str) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.trunk.call("+15550199", max_forwards=30)
        await scene.server.settle(0.5)
        party = scene.raw_id(to) if to == "shop" else to
        body = {"incomingCallContext": scene.server.context, "target": who(party)}
        redirected = await scene.server.rest("POST", f"{CALLS}:redirect", body)
        assert redirected.status == 204, redirected.content
        await scene.server.settle(1.5)
        phone = {DESK_NUMBER: scene.desk, MOBILE: scene.trunk, "shop": scene.shop}[to]
        assert phone.line.incoming.max_forwards == 29
        assert phone.line.live.from_.uri.user == "+15550100"
        assert phone.line.hears() == {500}
        assert line.hears() == {phone.hz}

    hold(in_memory, scenario)


def test_a_call_that_has_gone_too_far_goes_no_further(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.trunk.call("desk", max_forwards=1)
        await scene.server.settle(1)
        assert ended(line) == 404
        assert not scene.desk.lines

    hold(in_memory, scenario)


@pytest.mark.parametrize(("reason", "status"), [("busy", 486), ("forbidden", 403), ("none", 603), (None, 603)])
def test_reject(in_memory: InMemory, reason: str | None, status: int) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.trunk.call("+15550199")
        await scene.server.settle(0.5)
        body = {"incomingCallContext": scene.server.context}
        if reason is not None:
            body["callRejectReason"] = reason
        rejected = await scene.server.rest("POST", f"{CALLS}:reject", body)
        assert rejected.status == 204, rejected.content
        await scene.server.settle(0.5)
        assert ended(line) == status

    hold(in_memory, scenario)


# ------------------------------------------------------------------------------------------------ participants


def test_add_participant_and_remove(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, desk, app = await three(scene)
        assert "AddParticipantSucceeded" in talks(scene, app)
        assert (line.hears(), desk.hears(), scene.app_hears()) == ({700, 900}, {500, 700}, {500, 900})
        await scene.do(app, "/participants:remove", participantToRemove=who(DESK_NUMBER))
        await scene.server.settle(0.5)
        assert ended(desk) == 200
        assert "RemoveParticipantSucceeded" in talks(scene, app)
        assert line.hears() == {700}

    hold(in_memory, scenario)


def test_an_addition_is_taken_back(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        _, app = await scene.answered()
        scene.desk.picks_up = False
        added = await scene.do(app, "/participants:add", participantToAdd=who(DESK_NUMBER))
        desk = scene.desk.line
        await scene.do(app, "/participants:cancelAddParticipant", invitationId=added["invitationId"])
        assert ended(desk) == 487
        assert talks(scene, app)[-1] == "CancelAddParticipantSucceeded"

    hold(in_memory, scenario)


@pytest.mark.parametrize(("status", "result"), [(486, (486, 8539)), (603, (603, 8538)), (404, (480, 8541))])
def test_an_addition_that_is_refused(in_memory: InMemory, status: int, result: tuple[int, int]) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        scene.desk.rejects = status
        await scene.do(app, "/participants:add", participantToAdd=who(DESK_NUMBER))
        assert scene.server.result(app, "AddParticipantFailed") == result
        assert not line.over

    hold(in_memory, scenario)


def test_a_telephone_is_moved_to_another_call(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, there = await scene.answered()
        here = await scene.created(DESK_NUMBER)
        await scene.do(here, "/participants:moveHere", targetParticipants=[who(CALLER)], fromCall=there)
        await scene.server.settle(0.5)
        assert {CALLER, DESK_NUMBER} <= await scene.present(here)
        assert scene.desk.line.hears() >= {500}
        assert line.hears() >= {900}

    hold(in_memory, scenario)


def test_a_telephone_is_muted(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, desk, app = await three(scene)
        await scene.do(app, "/participants:mute", 200, targetParticipants=[who(CALLER)])
        await scene.server.settle(0.5)
        assert (desk.hears(), scene.app_hears()) == ({700}, {900})
        assert line.hears() == {700, 900}

    hold(in_memory, scenario)


# ------------------------------------------------------------------------------------------------ media operations


@both_ways
def test_hold_music_is_heard_and_nothing_is_renegotiated(in_memory: InMemory, calls: str) -> None:
    async def scenario(scene: Scene) -> None:
        line, app, party = await in_a_call(scene, calls)
        await scene.do(app, ":hold", 200, targetParticipant=who(party))
        await scene.server.settle(0.5)
        assert (line.hears(), scene.app_hears()) == ({600}, set())
        await scene.do(app, ":unhold", 200, targetParticipant=who(party))
        await scene.server.settle(0.5)
        assert (line.hears(), scene.app_hears()) == ({700}, {500})
        assert not line.told(Offered)

    hold(in_memory, scenario)


def test_a_prompt_for_one_is_heard_by_one(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, desk, app = await three(scene)
        prompt = {"kind": "text", "text": {"text": "1300 2"}}
        await scene.do(app, ":play", playSources=[prompt], playTo=[who(DESK_NUMBER)])
        await scene.server.settle(0.5)
        assert (line.hears(), desk.hears()) == ({700, 900}, {500, 700, 1300})
        await scene.server.settle(2)
        assert "PlayCompleted" in talks(scene, app)

    hold(in_memory, scenario)


@both_ways
def test_tones_are_sent(in_memory: InMemory, calls: str) -> None:
    async def scenario(scene: Scene) -> None:
        line, app, party = await in_a_call(scene, calls)
        await scene.do(app, ":sendDtmfTones", targetParticipant=who(party), tones=["one", "two", "pound"])
        await scene.server.settle(2)
        assert list(dict.fromkeys(line.digits)) == [1, 2, 11]
        assert "SendDtmfTonesCompleted" in talks(scene, app)

    hold(in_memory, scenario)


@both_ways
@pytest.mark.parametrize("press", [Line.press, lambda line, tones: line.live.info_digits(tones)], ids=["RTP", "INFO"])
def test_keys_are_told_and_collected(in_memory: InMemory, calls: str, press: Any) -> None:
    async def scenario(scene: Scene) -> None:
        line, app, party = await in_a_call(scene, calls)
        await scene.do(app, ":startContinuousDtmfRecognition", 200, targetParticipant=who(party))
        options = {"targetParticipant": who(party), "dtmfOptions": {"maxTonesToCollect": 2}}
        await scene.do(app, ":recognize", recognizeInputType="dtmf", recognizeOptions=options)
        press(line, "4#")
        await scene.server.settle(2)
        collected = scene.server.event(app, "RecognizeCompleted").data["dtmfResult"]["tones"]
        assert collected == ["four", "pound"]
        assert scene.server.kinds(app).count("ContinuousDtmfRecognitionToneReceived") == 2
        await scene.do(app, ":stopContinuousDtmfRecognition", 200, targetParticipant=who(party))

    hold(in_memory, scenario)


@both_ways
def test_speech_is_recognised(in_memory: InMemory, calls: str) -> None:
    async def scenario(scene: Scene) -> None:
        line, app, party = await in_a_call(scene, calls)
        options = {"targetParticipant": who(party), "choices": [{"label": "Yes", "phrases": ["yes"]}]}
        await scene.do(app, ":recognize", recognizeInputType="choices", recognizeOptions=options)
        await scene.server.settle(1)
        line.silent = True
        await scene.server.settle(2)
        assert "RecognizeCompleted" in talks(scene, app)

    hold(in_memory, scenario)


# ------------------------------------------------------------------------------------------------ early media


def test_who_is_in_the_call_hears_how_it_rings_there(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        scene.desk.picks_up = False
        scene.desk.rings_with_sound = True
        await scene.do(app, "/participants:add", participantToAdd=who(DESK_NUMBER))
        await scene.server.settle(1)
        desk = scene.desk.line
        assert {"183 INVITE", "PRACK"} <= set(scene.network.sent())
        assert line.hears() == {700, 900}
        assert scene.app_hears() == {500}, "a stream has nobody who has not answered"
        assert not desk.hears()
        assert DESK_NUMBER not in await scene.present(app)
        desk.pick_up()
        await scene.server.settle(1)
        assert (line.hears(), desk.hears(), scene.app_hears()) == ({700, 900}, {500, 700}, {500, 900})

    hold(in_memory, scenario)


def test_what_rings_is_heard_no_more_when_it_is_given_up(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, app = await scene.answered()
        scene.desk.picks_up = False
        scene.desk.rings_with_sound = True
        added = await scene.do(app, "/participants:add", participantToAdd=who(DESK_NUMBER))
        await scene.server.settle(1)
        await scene.do(app, "/participants:cancelAddParticipant", invitationId=added["invitationId"])
        await scene.server.settle(1)
        assert line.hears() == {700}

    hold(in_memory, scenario)


def test_an_app_that_calls_does_not_hear_how_it_rings(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.picks_up = False
        scene.trunk.rings_with_sound = True
        app = await scene.created(MOBILE)
        await scene.server.settle(50)
        assert not scene.server.kinds(app)
        assert not scene.server.audio.opened
        scene.trunk.line.pick_up()
        await scene.server.settle(1)
        assert scene.app_hears() == {500}

    hold(in_memory, scenario)


def test_a_telephone_that_calls_is_sent_nothing_before_the_answer(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.trunk.call("+15550199")
        await scene.server.settle(1)
        answers = [answer for answer in scene.network.sent(SERVER) if answer.endswith(" INVITE")]
        assert answers == ["100 INVITE", "180 INVITE"]
        assert not line.hears()
        line.live.hang_up()

    hold(in_memory, scenario)
