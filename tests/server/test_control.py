"""Whole calls through the whole stack, in memory and on virtual time: REST, control, media worker, legs, webhooks.

Every scenario ends with a check that control and the worker hold nothing of its calls any more (`MemoryServer.close`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offhook.media.dial import DialError

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer

CALLER, NUMBER, PHONE = "4:+15550100", "4:+15550199", "4:+15550177"
OTHER = "8:acs:11111111-2222-4333-8444-555555555555_00000000-0000-4000-8000-00000000000b"
AUDIO, OTHER_AUDIO = "wss://app.example/audio", "wss://other.example/audio"
RATE = 16_000

CONNECTED = ["CallConnected", "ParticipantsUpdated"]
STREAMED = [*CONNECTED, "MediaStreamingStarted"]


def streaming(url: str | None = AUDIO, start: bool = True) -> dict[str, Any]:
    options: dict[str, Any] = {
        "transportType": "websocket",
        "audioChannelType": "mixed",
        "startMediaStreaming": start,
        "enableBidirectional": True,
    }
    return options if url is None else {**options, "transportUrl": url}


def tone(hz: int, seconds: float = 1.0) -> bytes:
    time = np.arange(int(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * hz * time)).astype("<i2").tobytes()


def tones(pcm: bytes) -> set[int]:
    """Which multiples of 100 Hz are heard in the last second."""
    spectrum = np.abs(np.fft.rfft(np.frombuffer(pcm, "<i2")[-RATE:].astype(float))) / RATE * 2
    return {hz for hz in range(100, 2000, 100) if spectrum[hz] > 800}


# ------------------------------------------------------------------------------------------------ inbound


def test_a_caller_is_answered_and_hangs_up(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call(displayName="Somebody")
        (offer,) = server.incoming
        assert (offer["from"]["rawId"], offer["to"]["rawId"]) == (CALLER, NUMBER)
        assert offer["callerDisplayName"] == "Somebody"
        app = await server.answer(operationContext="mine")
        caller.tell("hangUp")
        await server.settle()
        assert caller.states == ["ringing", "connected", "ended"]
        assert server.kinds(app) == [*CONNECTED, "CallDisconnected"]
        assert server.event(app, "CallConnected").data["operationContext"] == "mine"
        assert server.result(app) == (200, 5002)

    in_memory(scenario)


def test_caller_and_app_hear_each_other(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        app = await server.answer(mediaStreamingOptions=streaming())
        assert server.kinds(app) == STREAMED
        caller.say(tone(400))
        server.audio.say(tone(700))
        await server.settle(1.2)
        assert tone(400) in server.audio.heard(), "bit for bit: no frame lost, doubled or changed"
        assert tone(700) in caller.heard
        await server.hang_up(app)
        assert server.kinds(app) == [*STREAMED, "MediaStreamingStopped", "CallDisconnected"]
        assert server.result(app) == (200, 7000)
        assert server.audio.closed[0][1] == 1000
        assert caller.reason == "the other side hung up"

    in_memory(scenario)


@pytest.mark.parametrize(
    ("reason", "told"),
    [("none", "rejected by the called app"), ("busy", "busy"), ("forbidden", "refused by the called app")],
)
def test_an_app_rejects_a_caller(in_memory: InMemory, reason: str, told: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        body = {"incomingCallContext": server.context, "callRejectReason": reason}
        assert (await server.rest("POST", "/calling/callConnections:reject", body)).status == 204
        await server.settle()
        assert caller.states == ["ringing", "ended"]
        assert caller.reason == told

    in_memory(scenario)


def test_nobody_answers_a_caller_in_time(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        await server.settle(19.7)
        assert caller.states == ["ringing"]
        await server.settle(0.3)
        assert caller.reason == "no answer"
        body = {"incomingCallContext": server.context, "callbackUri": "https://app.example/"}
        late = await server.rest("POST", "/calling/callConnections:answer", body)
        assert (late.status, late.body["error"]["code"]) == (404, "8522")

    in_memory(scenario, ring_timeout_s=20)


def test_nobody_listens_for_calls(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        assert (await server.call()).reason == "unreachable"

    in_memory(scenario, listening=False)


def test_the_caller_hangs_up_while_it_rings(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        caller.tell("hangUp")
        await server.settle()
        body = {"incomingCallContext": server.context, "callbackUri": "https://app.example/"}
        assert (await server.rest("POST", "/calling/callConnections:answer", body)).status == 404

    in_memory(scenario)


def test_the_caller_hangs_up_in_the_moment_of_the_answer(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        caller.tell("hangUp")  # Control does not know of it yet.
        app = await server.answer(mediaStreamingOptions=streaming())
        assert server.kinds(app) == ["AnswerFailed", "CallDisconnected"]
        assert server.result(app, "AnswerFailed") == (200, 5002)
        assert server.audio.opened == []

    in_memory(scenario)


def test_a_caller_that_never_opens_its_audio_is_given_up(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        placed = await server.rest("POST", "/offhook/calls", {"to": "+15550199"})
        await server.settle(10.1)
        shown = await server.rest("GET", f"/offhook/calls/{placed.body['callId']}")
        assert shown.body["over"]
        assert server.incoming == []

    in_memory(scenario)


def test_an_incoming_call_that_is_answered_again_changes_nothing(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        app = await server.answer(mediaStreamingOptions=streaming())
        body = {"incomingCallContext": server.context, "callbackUri": "https://app.example/"}
        again = await server.rest("POST", "/calling/callConnections:answer", body)
        assert (again.status, again.body["error"]["code"]) == (404, "8522")
        caller.say(tone(400))
        await server.settle(1.2)
        assert tones(server.audio.heard()) == {400}
        assert server.kinds(app) == STREAMED

    in_memory(scenario)


def test_a_call_is_ended_from_outside(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        app = await server.answer()
        assert (await server.rest("DELETE", f"/offhook/calls/{caller.call}")).status == 204
        await server.settle()
        assert server.kinds(app) == [*CONNECTED, "CallDisconnected"]
        assert caller.states[-1] == "ended"

    in_memory(scenario)


def test_the_server_stops(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer(mediaStreamingOptions=streaming())
        await server.control.close()
        await server.settle()
        assert server.kinds(app) == [*STREAMED, "MediaStreamingStopped", "CallDisconnected"]

    in_memory(scenario)


def test_digits_are_counted_and_not_written_down(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        await server.answer()
        caller.tell("dtmf", tones="1234#")
        await server.settle()
        shown = await server.rest("GET", f"/offhook/calls/{caller.call}")
        (line,) = [line for line in shown.body["timeline"] if line["what"] == "digits"]
        assert line == {"at": line["at"], "what": "digits", "count": 5}

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ redirect


async def redirect(server: MemoryServer, to: dict[str, Any]) -> None:
    body = {"incomingCallContext": server.context, "target": to}
    assert (await server.rest("POST", "/calling/callConnections:redirect", body)).status == 204
    await server.settle()


def test_a_caller_is_redirected_to_a_phone(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        phone = await server.phone()
        caller = await server.call()
        await redirect(server, {"phoneNumber": {"value": "+15550177"}})
        assert phone.told[-1].caller == CALLER
        phone.tell("answer")
        await server.settle()
        caller.say(tone(400))
        phone.say(tone(700))
        await server.settle(1.2)
        assert tone(400) in phone.heard
        assert tone(700) in caller.heard
        phone.tell("hangUp")
        await server.settle()
        assert caller.reason == "the other side hung up"
        assert phone.states == ["waiting", "ringing", "connected", "ended", "waiting"]

    in_memory(scenario)


def test_a_caller_is_redirected_to_another_app(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        first = server.context
        await redirect(server, {"communicationUser": {"id": OTHER}})
        assert server.incoming[-1]["to"]["rawId"] == OTHER
        assert server.context != first
        body = {"incomingCallContext": first, "callbackUri": "https://app.example/"}
        assert (await server.rest("POST", "/calling/callConnections:answer", body)).status == 404
        app = await server.answer()
        assert server.kinds(app) == CONNECTED
        assert caller.states == ["ringing", "connected"]

    in_memory(scenario)


def test_a_caller_is_redirected_to_nobody(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        await redirect(server, {"phoneNumber": {"value": "+15550166"}})
        assert caller.reason == "unreachable"
        assert len(server.incoming) == 1, "a number that an app names is somebody's phone, and no app's"

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ outbound


def test_an_app_calls_a_phone_twice(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        phone = await server.phone()
        for _ in range(2):
            app = await server.create(PHONE, sourceCallerIdNumber={"value": "+15550142"})
            await server.settle()
            assert phone.told[-1].kind == "ringing"
            assert phone.told[-1].caller == "4:+15550142"
            phone.tell("answer")
            await server.settle()
            assert server.kinds(app) == CONNECTED
            await server.hang_up(app)
            assert phone.states[-2:] == ["ended", "waiting"]

    in_memory(scenario)


@pytest.mark.parametrize(
    ("reason", "result"), [("busy", (486, 8539)), ("declined", (603, 8538)), ("no-answer", (480, 8587))]
)
def test_a_phone_declines(in_memory: InMemory, reason: str, result: tuple[int, int]) -> None:
    async def scenario(server: MemoryServer) -> None:
        phone = await server.phone()
        app = await server.create(PHONE)
        await server.settle()
        phone.tell("decline", reason=reason)
        await server.settle()
        assert server.kinds(app) == ["CreateCallFailed", "CallDisconnected"]
        assert server.result(app, "CreateCallFailed") == server.result(app) == result
        assert phone.states == ["waiting", "ringing", "ended", "waiting"]
        await server.create(PHONE)
        await server.settle()
        assert phone.states[-1] == "ringing", "it waits for the next call"

    in_memory(scenario)


def test_a_phone_rings_out(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        phone = await server.phone()
        app = await server.create(PHONE)
        await server.settle(20.1)
        assert server.result(app, "CreateCallFailed") == (480, 8587)
        assert phone.reason == "no answer"
        assert phone.states[-1] == "waiting"

    in_memory(scenario, ring_timeout_s=20)


def test_there_is_no_such_phone(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await server.create(PHONE)
        await server.settle()
        assert server.kinds(app) == ["CreateCallFailed", "CallDisconnected"]
        assert server.result(app) == (480, 8541)
        assert server.incoming == []

    in_memory(scenario)


def test_a_phone_that_has_not_opened_its_audio_yet_is_no_phone(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.rest("POST", "/offhook/phones", {"id": PHONE})
        app = await server.create(PHONE)
        await server.settle(11)
        assert server.result(app) == (480, 8541)
        assert server.control.registry.phones == {}

    in_memory(scenario)


def test_a_phone_in_a_call_is_busy(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.phone()
        await server.create(PHONE)
        second = await server.create(PHONE)
        await server.settle()
        assert server.result(second, "CreateCallFailed") == (486, 8539)

    in_memory(scenario)


def test_a_phone_that_is_gone_hangs_up(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        phone = await server.phone()
        app = await server.create(PHONE)
        await server.settle()
        phone.tell("answer")
        await server.settle()
        phone.drop()
        await server.settle()
        assert server.kinds(app) == [*CONNECTED, "CallDisconnected"]
        assert server.control.registry.phones == {}

    in_memory(scenario)


def test_an_app_calls_several(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        first, second = await server.phone("+15550171"), await server.phone("+15550172")
        app = await server.create("4:+15550171", "4:+15550172", mediaStreamingOptions=streaming())
        await server.settle()
        for phone in (first, second):
            phone.tell("answer")
            await server.settle()
        first.say(tone(400))
        second.say(tone(700))
        server.audio.say(tone(900))
        await server.settle(1.2)
        assert tones(server.audio.heard()) == {400, 700}
        assert tones(first.heard) == {700, 900}
        assert tones(second.heard) == {400, 900}
        assert server.event(app, "ParticipantsUpdated").data["sequenceNumber"] == 2
        assert len(server.event(app, "ParticipantsUpdated").data["participants"]) == 3

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ two apps


def test_two_apps_on_one_call_hear_each_other(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        other_audio = server.media.apps[OTHER_AUDIO] = type(server.audio)()
        first = await server.create(OTHER, mediaStreamingOptions=streaming())
        await server.settle()
        second = await server.answer(
            callbackUri="https://other.example/callback", mediaStreamingOptions=streaming(OTHER_AUDIO)
        )
        assert server.kinds(first) == server.kinds(second) == STREAMED
        one, two = (server.event(app, "CallConnected").data for app in (first, second))
        assert one["serverCallId"] == two["serverCallId"]
        assert one["correlationId"] == two["correlationId"]
        assert one["callConnectionId"] != two["callConnectionId"]

        server.audio.say(tone(400))
        other_audio.say(tone(700))
        await server.settle(1.2)
        assert tone(700) in server.audio.heard()
        assert tone(400) in other_audio.heard()

        await server.hang_up(second)
        assert server.result(second) == (200, 7000)
        assert server.result(first) == (200, 5002)

    in_memory(scenario)


def test_terminate_ends_the_call_for_both_apps(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        first = await server.create(OTHER)
        await server.settle()
        second = await server.answer()
        assert (await server.rest("POST", f"/calling/callConnections/{first}:terminate")).status == 204
        await server.settle()
        assert server.result(first) == (200, 7000)
        assert server.result(second) == (200, 5001)
        assert (await server.rest("GET", f"/calling/callConnections/{second}")).status == 404

    in_memory(scenario)


def test_an_app_that_has_left_has_no_call_any_more(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        phone = await server.phone()
        first = await server.create(PHONE, OTHER)
        await server.settle()
        phone.tell("answer")
        second = await server.answer()
        await server.hang_up(first)
        for method, path in (("GET", ""), ("GET", "/participants"), ("DELETE", ""), ("POST", ":startMediaStreaming")):
            gone = await server.rest(method, f"/calling/callConnections/{first}{path}")
            assert (gone.status, gone.body["error"]["code"]) == (404, "8522")
        left = await server.rest("GET", f"/calling/callConnections/{second}/participants")
        assert [one["identifier"]["rawId"] for one in left.body["value"]] == [PHONE, OTHER]
        assert server.event(second, "ParticipantsUpdated").data["participants"] == left.body["value"]

    in_memory(scenario)


def test_an_app_rejects_an_app(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await server.create(OTHER)
        await server.settle()
        body = {"incomingCallContext": server.context}
        assert (await server.rest("POST", "/calling/callConnections:reject", body)).status == 204
        await server.settle()
        assert server.kinds(app) == ["CreateCallFailed", "CallDisconnected"]
        assert server.result(app, "CreateCallFailed") == server.result(app) == (200, 5002)

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ streams


def test_a_stream_without_a_url_fails(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer(mediaStreamingOptions=streaming(None))
        assert server.kinds(app) == [*CONNECTED, "MediaStreamingFailed"]
        update = server.event(app, "MediaStreamingFailed").data["mediaStreamingUpdate"]
        assert update["mediaStreamingStatusDetails"] == "streamUrlMissing"

    in_memory(scenario)


def test_a_stream_that_is_refused_leaves_the_call_up(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        detail = "the server answered HTTP 401 instead of 101"
        server.audio.refusals = [DialError("unauthenticated", detail, final=True)]
        app = await server.answer(mediaStreamingOptions=streaming())
        assert server.kinds(app) == [*CONNECTED, "MediaStreamingFailed"]
        failed = server.event(app, "MediaStreamingFailed").data
        assert server.result(app, "MediaStreamingFailed") == (400, 8581)
        assert detail in failed["resultInformation"]["message"]
        assert failed["mediaStreamingUpdate"]["mediaStreamingStatusDetails"] == "authenticationFailure"
        assert caller.states[-1] == "connected"

    in_memory(scenario)


def test_a_socket_that_takes_three_seconds_to_open(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        server.audio.open_after_s = 3
        app = await server.answer(mediaStreamingOptions=streaming())
        await server.settle(2.5)
        assert server.kinds(app) == CONNECTED
        await server.settle(1)
        assert server.kinds(app) == STREAMED

    in_memory(scenario)


def test_a_hang_up_while_the_socket_opens(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        server.audio.open_after_s = 3
        app = await server.answer(mediaStreamingOptions=streaming())
        await server.hang_up(app)
        await server.settle(5)
        assert server.kinds(app) == [*CONNECTED, "MediaStreamingFailed", "CallDisconnected"]
        assert server.result(app, "MediaStreamingFailed") == (487, 8604)

    in_memory(scenario)


def test_a_stream_is_stopped_and_started_again(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer(mediaStreamingOptions=streaming(start=False))
        path = f"/calling/callConnections/{app}"
        for number in (1, 2):
            await server.rest("POST", f"{path}:startMediaStreaming", {"operationContext": f"start {number}"})
            await server.settle()
            subscription = (await server.rest("GET", path)).body["mediaStreamingSubscription"]
            assert subscription["state"] == "active"
            await server.rest("POST", f"{path}:stopMediaStreaming", {})
            await server.settle()
        assert server.kinds(app)[2:] == ["MediaStreamingStarted", "MediaStreamingStopped"] * 2
        assert [event.data["operationContext"] for event in server.events(app)[2:]] == ["start 1"] * 2 + ["start 2"] * 2
        assert [code for _, code in server.audio.closed] == [1000, 1000]

    in_memory(scenario)


def test_an_app_closes_its_socket_and_stops(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        app = await server.answer(mediaStreamingOptions=streaming())
        server.audio.drop(clean=True)
        stop = await server.rest("POST", f"/calling/callConnections/{app}:stopMediaStreaming", {})
        assert stop.status == 202
        await server.settle()
        assert server.kinds(app) == [*STREAMED, "MediaStreamingStopped"]
        assert caller.states[-1] == "connected"

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ many, and slow ones


def test_one_call_more_than_there_may_be(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.call()
        app = await server.answer()
        await server.call(from_="+15550101")
        for path, body in (
            ("/offhook/calls", {"to": "+15550199"}),
            ("/calling/callConnections", {"targets": [{"rawId": PHONE}], "callbackUri": "https://app.example/"}),
        ):
            refused = await server.rest("POST", path, body)
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        await server.hang_up(app)
        await server.call(from_="+15550102")

    in_memory(scenario, max_calls=2)


def test_one_phone_more_than_there_may_be(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.phone("a")
        assert (await server.rest("POST", "/offhook/phones", {"id": "b"})).status == 503

    in_memory(scenario, max_calls=1)


def test_an_app_whose_callback_hangs_delays_no_other(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        stuck = "https://app.example/stuck"
        server.hung.add(stuck)
        caller = await server.call()
        slow = await server.answer(callbackUri=stuck, mediaStreamingOptions=streaming())
        await server.call(from_="+15550101")
        quick = await server.answer()
        assert server.kinds(slow) == ["CallConnected"]
        assert server.kinds(quick) == CONNECTED
        await server.settle(30)
        assert caller.states[-1] == "connected"
        assert len(server.audio.audio) > 25 * 50

    in_memory(scenario)


def test_the_answer_leaves_before_the_app_is_told_anything(in_memory: InMemory) -> None:
    """An app with one thread would wait for itself."""

    async def scenario(server: MemoryServer) -> None:
        await server.call()
        body = {"incomingCallContext": server.context, "callbackUri": "https://app.example/"}
        await server.rest("POST", "/calling/callConnections:answer", body)
        assert len(server.posted) == 1, "IncomingCall, and nothing of this call yet"
        await server.settle()
        assert len(server.posted) == 3
        app = server.posted[-1].data["callConnectionId"]
        await server.rest("DELETE", f"/calling/callConnections/{app}")
        assert len(server.posted) == 3
        await server.settle()
        assert len(server.posted) == 4

    in_memory(scenario)


def test_the_timeline_shows_no_secret_of_an_app(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        caller = await server.call()
        url = f"{AUDIO}?code=SECRET"
        server.media.apps[url] = server.audio
        await server.answer(mediaStreamingOptions=streaming(url), callbackUri="https://app.example/?code=SECRET")
        shown = await server.rest("GET", f"/offhook/calls/{caller.call}")
        whats = [line["what"] for line in shown.body["timeline"]]
        assert whats == ["IncomingCall", "CallConnected", "ParticipantsUpdated", "stream opens", "StreamingStarted"]
        assert b"SECRET" not in shown.content

    in_memory(scenario)
