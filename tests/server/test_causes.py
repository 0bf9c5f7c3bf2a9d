"""Why calls of telephones end: what apps are told of SIP and Q.850, and what telephones are told of apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.server.telephone_scene import CALLS, DESK_NUMBER, MOBILE, NEWEST, Scene, hold

from offhook.call.model import EndCause, Release
from offhook.legs.sip import events
from offhook.server import causes

if TYPE_CHECKING:
    from tests.conftest import InMemory

CALLBACK = "https://app.example/callback"
PREVIEW, STABLE_BEFORE = "2025-08-15-preview", "2025-06-15"


def busy(code: int = 486, text: str = "Busy Here", cause: int = 17, words: str = "User busy") -> dict[str, Any]:
    return {"sipDetails": {"code": code, "message": text}, "q850Details": {"code": cause, "message": words}}


async def create(scene: Scene, to: str, version: str = NEWEST) -> str:
    body = {"targets": [{"rawId": to}], "callbackUri": CALLBACK}
    created = await scene.server.rest("POST", CALLS, body, version=version)
    assert created.status == 201
    await scene.server.settle(1)
    return str(created.body["callConnectionId"])


async def answer(scene: Scene, version: str = NEWEST) -> str:
    body = {"incomingCallContext": scene.server.context, "callbackUri": CALLBACK}
    answered = await scene.server.rest("POST", f"{CALLS}:answer", body, version=version)
    assert answered.status == 200
    await scene.server.settle(1)
    return str(answered.body["callConnectionId"])


def result(scene: Scene, kind: str) -> dict[str, Any]:
    """The result of the one event of this kind."""
    (found,) = [posted.data["resultInformation"] for posted in scene.server.posted if posted.kind == kind]
    return dict(found)


def details(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key.endswith("Details")}


# ------------------------------------------------------------------------------------------------ apps are told


@pytest.mark.parametrize("version", [NEWEST, PREVIEW])
def test_an_app_is_told_why_a_telephone_does_not_answer(in_memory: InMemory, version: str) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.rejects = 486
        await create(scene, MOBILE, version)
        assert details(result(scene, "CreateCallFailed")) == busy()
        assert result(scene, "CreateCallFailed")["subCode"] == 8539
        assert details(result(scene, "CallDisconnected")) == busy()

    hold(in_memory, scenario)


def test_apps_whose_models_have_no_details_get_none(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.rejects = 486
        await create(scene, MOBILE, STABLE_BEFORE)
        assert result(scene, "CreateCallFailed").keys() == {"code", "subCode", "message"}

    hold(in_memory, scenario)


def test_who_could_not_be_added_says_why_and_nobody_else_does(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        scene.trunk.call("+15550199")
        await scene.server.settle(0.5)
        connection = await answer(scene)
        scene.desk.rejects = 603
        await scene.do(connection, "/participants:add", participantToAdd={"rawId": DESK_NUMBER})
        declined = busy(603, "Decline", 21, "Call rejected")
        assert details(result(scene, "AddParticipantFailed")) == declined
        told = [posted.data["resultInformation"] for posted in scene.server.posted if posted.kind != "IncomingCall"]
        assert sum(bool(details(each)) for each in told) == 1

    hold(in_memory, scenario)


@pytest.mark.parametrize("refer", [False, True])
def test_a_transfer_that_fails_says_why(in_memory: InMemory, refer: bool) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.trunk.call("+15550199")
        await scene.server.settle(0.5)
        connection = await answer(scene)
        scene.trunk.rejects = 486
        await scene.do(connection, ":transferToParticipant", targetParticipant={"rawId": MOBILE})
        if refer:
            line.live.refer_progress(486, "Busy Here")
            await scene.server.settle(0.5)
        assert details(result(scene, "CallTransferFailed")) == busy()

    hold(in_memory, scenario, trunk={"transfer": "refer" if refer else "bridge"})


@pytest.mark.parametrize(
    ("q850", "expected"),
    [(None, busy(200, "OK", 16, "Normal call clearing")), (31, busy(200, "OK", 31, "Normal, unspecified"))],
)
def test_who_hangs_up_says_why(in_memory: InMemory, q850: int | None, expected: dict[str, Any]) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.trunk.call("+15550199")
        await scene.server.settle(0.5)
        await answer(scene)
        line.live.hang_up(q850=q850)
        await scene.server.settle(0.5)
        told = result(scene, "CallDisconnected")
        assert (told["code"], told["subCode"]) == (200, 5002)
        assert details(told) == expected

    hold(in_memory, scenario)


def test_nothing_is_made_up_when_we_gave_up(in_memory: InMemory) -> None:
    """It rang in vain, and was cancelled by us: no telephone has said anything."""

    async def scenario(scene: Scene) -> None:
        scene.trunk.picks_up = False
        await create(scene, MOBILE)
        await scene.server.settle(61)
        assert result(scene, "CreateCallFailed")["subCode"] == 8587
        assert details(result(scene, "CreateCallFailed")) == {}

    hold(in_memory, scenario)


# ------------------------------------------------------------------------------------------------ telephones are told


@pytest.mark.parametrize(
    ("reason", "status", "q850"), [("none", 603, 21), ("busy", 486, 17), ("forbidden", 403, 21), (None, 603, 21)]
)
def test_a_rejected_caller_is_told_why(in_memory: InMemory, reason: str | None, status: int, q850: int) -> None:
    async def scenario(scene: Scene) -> None:
        line = scene.trunk.call("+15550199")
        await scene.server.settle(0.5)
        body = {"incomingCallContext": scene.server.context, "callRejectReason": reason}
        body = {key: value for key, value in body.items() if value is not None}
        rejected = await scene.server.rest("POST", f"{CALLS}:reject", body)
        assert rejected.status == 204
        await scene.server.settle(0.5)
        (ended,) = line.told(events.Ended)
        assert (ended.code, ended.q850.cause) == (status, q850)

    hold(in_memory, scenario)


def test_a_bye_of_ours_says_why(in_memory: InMemory) -> None:
    async def scenario(scene: Scene) -> None:
        line, connection = await scene.answered()
        await scene.server.hang_up(connection)
        await scene.server.settle(0.5)
        (ended,) = line.told(events.Ended)
        assert ended.q850.cause == 16
        line, _ = await scene.answered()
        line.silent = True
        await scene.server.settle(90)
        (ended,) = line.told(events.Ended)
        assert ended.q850.cause == 41

    hold(in_memory, scenario)


# ------------------------------------------------------------------------------------------------ the tables


def test_every_cause_that_is_meant_has_its_text() -> None:
    meant = {*causes.OF_STATUS.values(), *(q850 for _, q850 in causes.REFUSALS.values()), causes.UNSPECIFIED}
    assert meant <= causes.TEXTS.keys()
    assert all(causes.phrase(status) for status, _ in causes.REFUSALS.values())


def test_a_refusal_of_ours_means_the_same_to_us() -> None:
    for cause, (status, _) in causes.REFUSALS.items():
        if cause not in (EndCause.REJECTED, EndCause.FORBIDDEN, EndCause.MEDIA_LOST):
            assert causes.end_cause(status) is cause


def test_what_the_telephone_says_goes_before_the_table() -> None:
    ended = events.Ended(480, "Temporarily Unavailable", events.Q850(20))
    assert causes.release(ended) == Release(480, "Temporarily Unavailable", 20, "Subscriber absent")
    ended = events.Ended(480, "Temporarily Unavailable", events.Q850(99, "the network's own words"))
    assert causes.release(ended).q850_text == "the network's own words"
    assert causes.release(events.Ended(499, "What")).q850 == causes.UNSPECIFIED


@pytest.mark.parametrize(
    ("values", "status", "q850"),
    [
        (['SIP;cause=603;text="Declined elsewhere"', "Q.850;cause=21"], (603, "Declined elsewhere"), events.Q850(21)),
        (["Q.850;cause=200"], None, None),
        (["SIP;cause=100", "sip;cause=500"], (500, ""), None),
        (["SIP;cause=", "Q.850", ";;;"], None, None),
    ],
)
def test_reason_headers_speak_of_both(
    values: list[str], status: tuple[int, str] | None, q850: events.Q850 | None
) -> None:
    assert events.parse_status(values) == status
    assert events.parse_reason(values) == q850
