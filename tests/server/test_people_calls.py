"""People who come into calls and leave them, through the whole stack in memory: REST, events, and who hears whom.

Everybody is a tone of his own, and is heard by whoever is in the call with him.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offhook.testing.memory import MemoryApp

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, Party, RestAnswer

CALLS = "/calling/callConnections"
CALLER, NUMBER = "4:+15550100", "4:+15550199"
PHONE, MOBILE, FAX = "4:+15550177", "4:+15550178", "4:+15550179"
RESOURCE = "11111111-2222-4333-8444-555555555555"
SELF = f"8:acs:{RESOURCE}_00000000-0000-0000-0000-000000000000"  # an app that answered for a number
OTHER = f"8:acs:{RESOURCE}_00000000-0000-4000-8000-00000000000b"
AUDIO, OTHER_AUDIO = "wss://app.example/audio", "wss://other.example/audio"
B = "https://other.example/callback"
NEWEST = "2026-03-12"
RATE = 16_000


def streaming(url: str = AUDIO) -> dict[str, Any]:
    return {
        "transportUrl": url,
        "transportType": "websocket",
        "audioChannelType": "mixed",
        "startMediaStreaming": True,
        "enableBidirectional": True,
    }


def tone(hz: int, seconds: float = 10.0) -> bytes:
    time = np.arange(int(seconds * RATE)) / RATE
    return (4000 * np.sin(2 * np.pi * hz * time)).astype("<i2").tobytes()


def tones(pcm: bytes, seconds: float = 0.5) -> set[int]:
    """Which multiples of 100 Hz are heard at the end."""
    samples = np.frombuffer(pcm, "<i2")[-int(seconds * RATE) :].astype(float)
    assert len(samples) == seconds * RATE
    spectrum = np.abs(np.fft.rfft(samples)) / len(samples) * 2
    return {hz for hz in range(100, 2000, 100) if spectrum[round(hz * seconds)] > 1000}


def tones_after(party: Party, at: float) -> set[int]:
    """Whom somebody hears in the tenth of a second that begins two frames after an event."""
    frames = [frame for time, frame in zip(party.times, party.frames, strict=True) if time > at + 0.04]
    return tones(b"".join(frames[:5]), 0.1)


async def ask(server: MemoryServer, connection: str, operation: str, **body: Any) -> RestAnswer:
    """`operation`: `:transferToParticipant`, `/participants:add` …"""
    answer = await server.rest("POST", f"{CALLS}/{connection}{operation}", body, version=NEWEST)
    await server.settle()
    return answer


async def do(server: MemoryServer, connection: str, operation: str, **body: Any) -> Any:
    answer = await ask(server, connection, operation, **body)
    assert answer.status == 202, answer.content
    return answer.body


async def add(server: MemoryServer, connection: str, party: str, **more: Any) -> Any:
    return await do(server, connection, "/participants:add", participantToAdd={"rawId": party}, **more)


async def answered(server: MemoryServer) -> tuple[Party, str]:
    """A caller (400 Hz) talks to an app (700 Hz)."""
    caller = await server.call()
    app = await server.answer(mediaStreamingOptions=streaming())
    caller.say(tone(400, 60))
    server.audio.say(tone(700, 60))
    return caller, app


async def phone(server: MemoryServer, party: str, hz: int) -> Party:
    """A phone that will say a tone when it has answered."""
    there = await server.phone(party[2:])
    there.hz = hz  # type: ignore[attr-defined]
    return there


async def pick_up(server: MemoryServer, there: Party) -> None:
    there.tell("answer")
    await server.settle()
    there.say(tone(there.hz, 60))  # type: ignore[attr-defined]
    await server.settle(0.7)


async def three(server: MemoryServer) -> tuple[Party, Party, str]:
    """A caller (400 Hz), a phone (500 Hz) that was added, and the app (700 Hz)."""
    there = await phone(server, PHONE, 500)
    caller, app = await answered(server)
    await add(server, app, PHONE)
    await pick_up(server, there)
    return caller, there, app


async def present(server: MemoryServer, connection: str) -> list[str]:
    answer = await server.rest("GET", f"{CALLS}/{connection}/participants")
    return [each["identifier"]["rawId"] for each in answer.body["value"]]


def after(server: MemoryServer, connection: str, kind: str) -> list[str]:
    """The kinds of the events from the newest of one kind on."""
    kinds = server.kinds(connection)
    return kinds[len(kinds) - 1 - kinds[::-1].index(kind) :]


# ------------------------------------------------------------------------------------------------ adding


def test_a_phone_is_added_and_everybody_hears_everybody(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        caller, app = await answered(server)
        body = await add(
            server,
            app,
            PHONE,
            sourceCallerIdNumber={"value": "+15550142"},
            operationContext="one more",
            operationCallbackUri="https://app.example/once",
        )
        invitation = body.pop("invitationId")
        identifier = {"rawId": PHONE, "kind": "phoneNumber", "phoneNumber": {"value": PHONE[2:]}}
        whole = {"identifier": identifier, "isMuted": False, "isOnHold": False}
        assert body == {"participant": whole, "operationContext": "one more"}
        assert len(invitation) == 36
        assert there.told[-1].caller == "4:+15550142"
        await pick_up(server, there)
        assert tones(caller.heard) == {500, 700}
        assert tones(there.heard) == {400, 700}
        assert tones(server.audio.heard()) == {400, 500}
        assert await present(server, app) == [CALLER, PHONE, SELF]
        assert after(server, app, "ParticipantsUpdated") == ["ParticipantsUpdated", "AddParticipantSucceeded"]
        event = server.event(app, "AddParticipantSucceeded")
        assert event.url == "https://app.example/once"
        assert (event.data["participant"], event.data["operationContext"]) == (identifier, "one more")
        assert server.result(app, "AddParticipantSucceeded") == (200, 0)

    in_memory(scenario)


def test_an_app_is_added_and_sees_what_it_is_added_for(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller, app = await answered(server)
        await add(
            server,
            app,
            OTHER,
            sourceDisplayName="Support",
            customCallingContext={"voipHeaders": {"ticket": "7"}},
        )
        offer = server.incoming[-1]
        assert (offer["from"]["rawId"], offer["to"]["rawId"]) == (SELF, OTHER)
        assert offer["callerDisplayName"] == "Support"
        assert offer["customContext"] == {"sipHeaders": {}, "voipHeaders": {"ticket": "7"}}
        assert offer["serverCallId"] == server.incoming[0]["serverCallId"]
        other_audio = server.media.apps[OTHER_AUDIO] = MemoryApp()
        other = await server.answer(callbackUri=B, mediaStreamingOptions=streaming(OTHER_AUDIO))
        other_audio.say(tone(900))
        await server.settle(0.7)
        assert tones(caller.heard) == {700, 900}
        assert tones(other_audio.heard()) == {400, 700}
        assert tones(server.audio.heard()) == {400, 900}
        assert await present(server, other) == [CALLER, SELF, OTHER]
        call = (await server.rest("GET", f"{CALLS}/{other}")).body
        assert (call["source"]["rawId"], call["answeredBy"]["id"]) == (SELF, OTHER)
        assert server.result(app, "AddParticipantSucceeded") == (200, 0)

    in_memory(scenario)


@pytest.mark.parametrize(
    ("reason", "code"), [("busy", (486, 8539)), ("declined", (603, 8538)), ("no-answer", (480, 8587))]
)
def test_a_phone_declines_to_be_added(in_memory: InMemory, reason: str, code: tuple[int, int]) -> None:
    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        caller, app = await answered(server)
        await add(server, app, PHONE, operationContext="mine")
        there.tell("decline", reason=reason)
        await server.settle(0.5)
        assert server.result(app, "AddParticipantFailed") == code
        data = server.event(app, "AddParticipantFailed").data
        assert (data["participant"]["rawId"], data["operationContext"]) == (PHONE, "mine")
        assert caller.states[-1] == "connected"
        assert tones(caller.heard) == {700}

    in_memory(scenario)


@pytest.mark.parametrize("seconds", [0, 5])
def test_nobody_answers_in_the_time_of_the_invitation(in_memory: InMemory, seconds: int) -> None:
    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        _, app = await answered(server)
        await add(server, app, PHONE, invitationTimeoutInSeconds=seconds)
        await server.settle(seconds - 0.2 if seconds else 0)
        assert ("AddParticipantFailed" in server.kinds(app)) == (seconds == 0)
        await server.settle(0.3)
        assert server.result(app, "AddParticipantFailed") == (480, 8587)
        assert there.states[-2:] == ["ended", "waiting"]

    in_memory(scenario)


def test_who_is_in_a_call_is_busy_and_who_is_nowhere_cannot_be_reached(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        _, _, app = await three(server)
        await add(server, app, PHONE)
        assert server.result(app, "AddParticipantFailed") == (486, 8539)
        await add(server, app, FAX)
        assert server.result(app, "AddParticipantFailed") == (480, 8541)

    in_memory(scenario)


def test_an_addition_is_taken_back(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        _, app = await answered(server)
        invitation = (await add(server, app, PHONE))["invitationId"]
        take_back = {"invitationId": invitation, "operationContext": "no"}
        assert await do(server, app, "/participants:cancelAddParticipant", **take_back) == take_back
        event = server.event(app, "CancelAddParticipantSucceeded").data
        assert event["invitationId"] == invitation
        assert server.result(app, "CancelAddParticipantSucceeded") == (200, 5300)
        assert PHONE in event["resultInformation"]["message"]
        assert there.states == ["waiting", "ringing", "ended", "waiting"]
        await do(server, app, "/participants:cancelAddParticipant", **take_back)
        assert server.result(app, "CancelAddParticipantFailed") == (404, 8522)
        assert "AddParticipantFailed" not in server.kinds(app)

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ removing


def test_who_was_removed_is_not_heard_and_hears_nothing(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller, there, app = await three(server)
        heard = len(there.frames)
        assert await do(
            server, app, "/participants:remove", participantToRemove={"rawId": PHONE}, operationContext="out"
        ) == {"operationContext": "out"}
        removed_at = server.event(app, "RemoveParticipantSucceeded").at
        assert not [at for at in there.times[heard:] if at > removed_at + 0.04], "two frames"
        await server.settle(0.6)
        assert tones_after(caller, removed_at) == {700}
        assert tones(caller.heard) == {700}
        assert tones(server.audio.heard()) == {400}
        assert there.states[-2:] == ["ended", "waiting"]
        assert there.reason == "removed by an app"
        assert after(server, app, "RemoveParticipantSucceeded") == ["RemoveParticipantSucceeded", "ParticipantsUpdated"]
        assert await present(server, app) == [CALLER, SELF]

    in_memory(scenario)


def test_the_other_one_of_two_is_removed(in_memory: InMemory) -> None:
    """Recorded: E8."""

    async def scenario(server: MemoryServer) -> None:
        caller, app = await answered(server)
        assert await do(server, app, "/participants:remove", participantToRemove={"rawId": CALLER}) == {}
        assert caller.states[-1] == "ended"
        assert server.kinds(app)[-3:] == ["RemoveParticipantSucceeded", "MediaStreamingStopped", "CallDisconnected"]
        assert server.result(app) == (200, 5002)

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ transferring


def test_a_caller_is_transferred_to_a_phone(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        caller, app = await answered(server)
        to = {"targetParticipant": {"rawId": PHONE}, "operationContext": "over to you"}
        assert await do(server, app, ":transferToParticipant", **to) == {"operationContext": "over to you"}
        assert there.told[-1].caller == CALLER, "documented: the target sees who is transferred"
        await server.settle(0.6)
        assert tones(caller.heard) == {700}, "until the target answers he stays where he is"
        await pick_up(server, there)
        kinds = ["CallTransferAccepted", "MediaStreamingStopped", "CallDisconnected"]
        assert after(server, app, "CallTransferAccepted") == kinds
        accepted = server.event(app, "CallTransferAccepted")
        assert accepted.data["transferTarget"]["rawId"] == PHONE
        assert (accepted.data["transferee"]["rawId"], accepted.data["operationContext"]) == (CALLER, "over to you")
        assert tones(caller.heard) == {500}
        assert tones(there.heard) == {400}
        assert tones(server.audio.heard()[-RATE:]) == {400}, "what it heard last"
        assert (await server.rest("GET", f"{CALLS}/{app}")).status == 404
        there.tell("hangUp")
        await server.settle()
        assert caller.states == ["ringing", "connected", "ended"]

    in_memory(scenario)


def test_nothing_is_heard_of_a_call_that_was_left(in_memory: InMemory) -> None:
    """Within two frames of the target's answer the app hears the transferee no more, nor he the app."""

    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        caller, app = await answered(server)
        await do(server, app, ":transferToParticipant", targetParticipant={"rawId": PHONE})
        await pick_up(server, there)
        answered_at = server.event(app, "CallTransferAccepted").at
        assert tones_after(caller, answered_at) == set(), "the target says nothing yet"
        assert tones_after(there, answered_at) == {400}
        assert not [at for at, _ in server.audio.messages if at > answered_at + 0.04]
        there.tell("hangUp")
        await server.settle()

    in_memory(scenario)


def test_a_caller_is_transferred_to_an_app(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller, app = await answered(server)
        await do(
            server,
            app,
            ":transferToParticipant",
            targetParticipant={"rawId": OTHER},
            sourceCallerIdNumber={"value": "+15550142"},
            customCallingContext={"sipHeaders": {"X-Ticket": "7"}},
        )
        offer = server.incoming[-1]
        assert offer["from"]["rawId"] == "4:+15550142"
        assert offer["customContext"] == {"sipHeaders": {"X-Ticket": "7"}, "voipHeaders": {}}
        assert offer["serverCallId"] != server.incoming[0]["serverCallId"]
        other_audio = server.media.apps[OTHER_AUDIO] = MemoryApp()
        other = await server.answer(callbackUri=B, mediaStreamingOptions=streaming(OTHER_AUDIO))
        other_audio.say(tone(900))
        await server.settle(0.7)
        assert tones(caller.heard) == {900}
        assert tones(other_audio.heard()) == {400}
        assert server.kinds(app)[-1] == "CallDisconnected"
        assert await present(server, other) == [CALLER, OTHER]
        await server.hang_up(other)
        assert caller.states[-1] == "ended"

    in_memory(scenario)


def test_one_of_three_is_transferred_and_the_others_stay(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        target = await phone(server, MOBILE, 600)
        caller, there, app = await three(server)
        to = {"targetParticipant": {"rawId": MOBILE}}
        refused = await ask(server, app, ":transferToParticipant", **to)
        assert (refused.status, refused.body["error"]["code"]) == (400, "8523")
        await do(server, app, ":transferToParticipant", **to, transferee={"rawId": PHONE})
        await pick_up(server, target)
        assert tones(caller.heard) == {700}
        assert tones(there.heard) == {600}
        assert tones(target.heard) == {500}
        assert tones(server.audio.heard()) == {400}
        assert after(server, app, "CallTransferAccepted") == ["CallTransferAccepted", "ParticipantsUpdated"]
        assert await present(server, app) == [CALLER, SELF]
        target.tell("hangUp")
        await server.settle()
        assert there.states[-2:] == ["ended", "waiting"], "it is a phone, and may be called again"
        await add(server, app, PHONE)
        assert there.states[-1] == "ringing"

    in_memory(scenario)


@pytest.mark.parametrize(
    ("reason", "code"), [("busy", (486, 8539)), ("declined", (603, 8538)), ("", (480, 8587)), ("nowhere", (480, 8541))]
)
def test_a_target_does_not_answer_and_everybody_stays(in_memory: InMemory, reason: str, code: tuple[int, int]) -> None:
    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        caller, app = await answered(server)
        target = FAX if reason == "nowhere" else PHONE
        await do(server, app, ":transferToParticipant", targetParticipant={"rawId": target}, operationContext="x")
        if target is PHONE and reason:
            there.tell("decline", reason=reason)
        await server.settle(0.7 if reason else 6)
        assert server.result(app, "CallTransferFailed") == code
        assert server.event(app, "CallTransferFailed").data["operationContext"] == "x"
        assert tones(caller.heard) == {700}
        assert tones(server.audio.heard()) == {400}
        assert len(server.control.registry.calls) == 1
        await server.hang_up(app)

    in_memory(scenario, ring_timeout_s=5)


@pytest.mark.parametrize("who", ["caller", "app"])
def test_the_transferee_hangs_up_while_the_target_rings(in_memory: InMemory, who: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        caller, app = await answered(server)
        await do(server, app, ":transferToParticipant", targetParticipant={"rawId": PHONE})
        if who == "caller":
            caller.tell("hangUp")
            await server.settle()
            assert server.result(app, "CallTransferFailed") == (487, 8542)
        else:
            await server.hang_up(app)
        assert there.states == ["waiting", "ringing", "ended", "waiting"]
        assert server.control.registry.calls == {}

    in_memory(scenario)


def test_a_phone_hangs_up_just_as_it_is_transferred(in_memory: InMemory) -> None:
    """What it says crosses the order that it goes over into the other call."""

    async def scenario(server: MemoryServer) -> None:
        target = await phone(server, MOBILE, 600)
        _, there, app = await three(server)
        to = {"targetParticipant": {"rawId": MOBILE}, "transferee": {"rawId": PHONE}}
        await do(server, app, ":transferToParticipant", **to)
        target.tell("answer")
        there.tell("hangUp")
        await server.settle(0.5)
        assert target.states[-2:] == ["ended", "waiting"]
        assert there.states[-2:] == ["ended", "waiting"]
        assert len(server.control.registry.calls) == 1

    in_memory(scenario)


def test_only_phones_can_be_transferred(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await server.create(OTHER)
        await server.settle()
        await server.answer(callbackUri=B)
        refused = await ask(server, app, ":transferToParticipant", targetParticipant={"rawId": PHONE})
        assert (refused.status, refused.body["error"]["code"]) == (400, "8585")

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ moving


async def two_calls(server: MemoryServer) -> tuple[Party, str, Party, Party, str]:
    """A caller with an app, and two phones (500, 600 Hz) that another app has called."""
    first, second = await phone(server, PHONE, 500), await phone(server, MOBILE, 600)
    caller, app = await answered(server)
    there = await server.create(PHONE, MOBILE, callbackUri=B)
    await server.settle()
    await pick_up(server, first)
    await pick_up(server, second)
    return caller, app, first, second, there


def test_people_are_moved_from_another_call(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller, app, first, second, there = await two_calls(server)
        body = await do(
            server,
            app,
            "/participants:moveHere",
            targetParticipants=[{"rawId": PHONE}, {"rawId": FAX}],
            fromCall=there,
            operationContext="come",
        )
        assert [each["identifier"]["rawId"] for each in body["participants"]] == [PHONE, FAX]
        assert (body["fromCall"], body["operationContext"]) == (there, "come")
        await server.settle(0.6)
        moved_at = server.event(there, "ParticipantsUpdated").at
        assert tones_after(first, moved_at) == {400, 700}
        assert tones_after(second, moved_at) == set()
        assert tones_after(caller, moved_at) == {500, 700}
        assert tones(server.audio.heard()) == {400, 500}
        assert await present(server, app) == [CALLER, PHONE, SELF]
        assert len(await present(server, there)) == 2
        await server.hang_up(there)

    in_memory(scenario)


def test_an_app_of_the_newest_api_version_is_told_of_moves(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        first = await phone(server, PHONE, 500)
        there = await server.create(PHONE, callbackUri=B)
        await server.settle()
        await pick_up(server, first)
        await server.call()
        body = {"incomingCallContext": server.context, "callbackUri": "https://app.example/callback"}
        made = await server.rest("POST", f"{CALLS}:answer", body, version=NEWEST)
        await server.settle()
        app = made.body["callConnectionId"]
        people = [{"rawId": PHONE}, {"rawId": FAX}]
        await do(server, app, "/participants:moveHere", targetParticipants=people, fromCall=there)
        succeeded = server.event(app, "MoveParticipantSucceeded").data
        assert (succeeded["participant"]["rawId"], succeeded["fromCall"]) == (PHONE, there)
        failed = server.event(app, "MoveParticipantFailed").data
        assert (failed["participant"]["rawId"], failed["fromCall"]) == (FAX, there)
        assert server.result(app, "MoveParticipantFailed") == (404, 8522)
        assert server.kinds(there)[-1] == "CallDisconnected", "nobody is left there"

    in_memory(scenario)


def test_nobody_is_moved_from_a_call_that_is_not_there(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        _, app = await answered(server)
        people = [{"rawId": PHONE}]
        gone = await ask(server, app, "/participants:moveHere", targetParticipants=people, fromCall="none")
        assert (gone.status, gone.body["error"]["code"]) == (404, "8522")
        here = await ask(server, app, "/participants:moveHere", targetParticipants=people, fromCall=app)
        assert (here.status, here.body["error"]["code"]) == (400, "8523")

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ connecting


async def connect(server: MemoryServer, locator: dict[str, str], **more: Any) -> RestAnswer:
    body = {"callLocator": locator, "callbackUri": B, **more}
    answer = await server.rest("POST", f"{CALLS}:connect", body, version=NEWEST)
    await server.settle()
    return answer


def test_an_app_connects_by_the_id_of_a_call(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller, app = await answered(server)
        other_audio = server.media.apps[OTHER_AUDIO] = MemoryApp()
        locator = {"kind": "serverCallLocator", "serverCallId": server.incoming[0]["serverCallId"]}
        made = await connect(server, locator, mediaStreamingOptions=streaming(OTHER_AUDIO), operationContext="late")
        assert made.status == 200
        other = made.body["callConnectionId"]
        assert (made.body["targets"], made.body["callConnectionState"]) == ([], "connecting")
        assert not {"source", "serverCallId", "sourceDisplayName", "answeredBy"} & set(made.body)
        assert server.kinds(other)[:2] == ["CallConnected", "ParticipantsUpdated"]
        assert server.event(other, "CallConnected").data["operationContext"] == "late"
        other_audio.say(tone(900))
        await server.settle(0.7)
        assert tones(caller.heard) == {700, 900}
        assert tones(other_audio.heard()) == {400, 700}
        assert await present(server, other) == [CALLER, SELF], "recorded: E11"
        call = (await server.rest("GET", f"{CALLS}/{other}")).body
        assert (call["callConnectionState"], call["serverCallId"]) == ("connected", locator["serverCallId"])
        await server.hang_up(app)
        await server.settle(0.6)
        assert tones(caller.heard) == {900}
        await server.rest("POST", f"{CALLS}/{other}:terminate")
        await server.settle()
        assert caller.states[-1] == "ended"

    in_memory(scenario)


@pytest.mark.parametrize("locator", [{"groupCallId": "standup"}, {"kind": "roomCallLocator", "roomId": "7"}])
def test_apps_meet_in_a_group_or_a_room(in_memory: InMemory, locator: dict[str, str]) -> None:
    async def scenario(server: MemoryServer) -> None:
        there = await phone(server, PHONE, 500)
        first = (await connect(server, locator)).body["callConnectionId"]
        assert server.kinds(first) == ["CallConnected", "ParticipantsUpdated"]
        assert await present(server, first) == []
        second = (await connect(server, locator)).body["callConnectionId"]
        (record,) = server.control.registry.calls.values()
        assert set(record.data.connections) == {first, second}
        await add(server, first, PHONE)
        await pick_up(server, there)
        assert await present(server, second) == [PHONE]
        await server.hang_up(first)
        await server.hang_up(second)
        assert there.states[-2:] == ["ended", "waiting"]
        assert server.control.registry.calls == {}

    in_memory(scenario)


@pytest.mark.parametrize(
    ("locator", "status", "code"),
    [
        ({"serverCallId": "none"}, 404, "8522"),
        ({"kind": "serverCallLocator"}, 400, "8523"),
        ({"kind": "serverCallLocator", "roomId": "7"}, 400, "8523"),
        ({"kind": "otherLocator", "roomId": "7"}, 400, "8523"),
        ({}, 400, "8523"),
    ],
)
def test_a_call_that_cannot_be_found(in_memory: InMemory, locator: dict[str, str], status: int, code: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        answer = await connect(server, locator)
        assert (answer.status, answer.body["error"]["code"]) == (status, code)
        assert server.control.registry.calls == {}

    in_memory(scenario)


def test_an_app_connects_to_a_call_that_is_never_answered(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        other = (await connect(server, {"serverCallId": server.incoming[0]["serverCallId"]})).body["callConnectionId"]
        assert server.kinds(other) == []
        caller.tell("hangUp")
        await server.settle()
        assert server.kinds(other) == ["ConnectFailed", "CallDisconnected"]
        assert server.result(other, "ConnectFailed") == (200, 5002)

    in_memory(scenario)
