"""Media operations in whole calls: REST in, events and tones out, in memory and on virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from offhook.audio import pcm
from offhook.testing.tone_studio import FILE, MUSIC_HZ

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, Party, RestAnswer

RATE = 16_000
CALLER, PHONE, MOBILE = "4:+15550100", "4:+15550199", "4:+15550177"
CONTEXT = {"operationContext": "context"}
STREAMING = {
    "transportUrl": "wss://app.example/audio",
    "transportType": "websocket",
    "contentType": "audio",
    "audioChannelType": "mixed",
    "startMediaStreaming": True,
    "enableBidirectional": True,
}
STARTED, COMPLETED = "PlayStarted", "PlayCompleted"


def who(raw_id: str) -> dict[str, str]:
    return {"rawId": raw_id}


def text(words: str) -> dict[str, Any]:
    return {"kind": "text", "text": {"text": words}}


def file(uri: str) -> dict[str, Any]:
    return {"kind": "file", "file": {"uri": uri}}


def recognition(kind: str, *prompts: dict[str, Any], **options: Any) -> dict[str, Any]:
    options = {"targetParticipant": who(CALLER), **options}
    return {"recognizeInputType": kind, "recognizeOptions": options, "playPrompts": list(prompts), **CONTEXT}


class InCall:
    """One app in a call with one caller."""

    def __init__(self, server: MemoryServer, connection: str, caller: Party) -> None:
        self.server = server
        self.connection = connection
        self.caller = caller

    async def ask(self, action: str, body: Any = None, seconds: float = 0.1, **headers: str) -> RestAnswer:
        """Ask for a media operation, and let some time pass."""
        path = f"/calling/callConnections/{self.connection}{action}"
        answer = await self.server.rest("POST", path, body, headers=headers)
        await self.server.settle(seconds)
        return answer

    async def play(self, *sources: dict[str, Any], seconds: float = 0.1, **more: Any) -> RestAnswer:
        return await self.ask(":play", {"playSources": sources, **CONTEXT, **more}, seconds)

    @property
    def kinds(self) -> list[str]:
        """The media events, in order."""
        signalling = ("CallConnected", "ParticipantsUpdated", "CallDisconnected")
        return [kind for kind in self.server.kinds(self.connection) if kind not in signalling]

    def data(self, kind: str) -> Any:
        return self.server.event(self.connection, kind).data

    def codes(self, kind: str) -> tuple[int, int]:
        return self.server.result(self.connection, kind)

    def participant(self, raw_id: str) -> tuple[bool, bool]:
        """Whether somebody is muted, and on hold, by the newest ParticipantsUpdated."""
        people = self.data("ParticipantsUpdated")["participants"]
        return next((p["isMuted"], p["isOnHold"]) for p in people if p["identifier"]["rawId"] == raw_id)


async def answered(server: MemoryServer, **more: Any) -> InCall:
    caller = await server.call()
    return InCall(server, await server.answer(**more), caller)


def heard(party: Party, hz: float, last: float) -> float:
    """The level, in dBFS, of a tone in the last so many seconds of what a party heard."""
    frames = b"".join(party.frames[-round(last * 50) :])
    return pcm.tone_level(pcm.as_samples(frames), hz, RATE)


def silent(party: Party, last: float) -> bool:
    return not np.any(pcm.as_samples(b"".join(party.frames[-round(last * 50) :])))


# ------------------------------------------------------------------------------------------------ play


@pytest.mark.parametrize(
    ("options", "times"), [(None, 0), ({}, 0), ({"cognitiveServicesEndpoint": "https://speech.example"}, 2)]
)
def test_an_app_that_names_a_speech_service_finds_one_that_is_ready(
    in_memory: InMemory, options: Any, times: int
) -> None:
    async def scenario(server: MemoryServer) -> None:
        more = {} if options is None else {"callIntelligenceOptions": options}
        await server.call()
        await server.answer(**more)
        await server.phone("+15550177")
        await server.create("4:+15550177", **more)
        assert server.studio.warmed == times

    in_memory(scenario)


def test_a_prompt_is_heard_and_told(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        assert (await app.play(text("440"), seconds=0.6)).status == 202
        assert heard(app.caller, 440, 0.4) == pytest.approx(-20, abs=0.5)
        assert app.kinds == [STARTED]
        await server.settle(1)
        assert app.kinds == [STARTED, COMPLETED]
        assert app.data(COMPLETED)["operationContext"] == "context"
        assert app.data(COMPLETED)["resultInformation"]["message"] == "Action completed successfully."
        assert silent(app.caller, 0.2)

    in_memory(scenario)


def test_sources_are_played_in_order_and_plays_one_after_the_other(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.play(text("440"), file(FILE))
        await app.play(text("700"), seconds=1.4)
        assert heard(app.caller, 1000, 0.2) == pytest.approx(-20, abs=0.5)
        assert app.kinds == [STARTED]
        await server.settle(1)
        assert heard(app.caller, 700, 0.2) == pytest.approx(-20, abs=0.5)
        assert app.kinds == [STARTED, COMPLETED, STARTED]
        await server.settle(1)

    in_memory(scenario)


def test_a_loop_until_it_is_canceled(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.play(text("440 0.3"), playOptions={"loop": True}, seconds=5)
        assert heard(app.caller, 440, 1) == pytest.approx(-20, abs=0.5)
        assert (await app.ask(":cancelAllMediaOperations")).status == 202
        assert app.kinds == [STARTED, "PlayCanceled"]
        assert app.data("PlayCanceled")["resultInformation"] == {
            "code": 400,
            "subCode": 8508,
            "message": "Action falied, the operation was cancelled.",
        }
        await server.settle(0.2)
        assert silent(app.caller, 0.1)

    in_memory(scenario)


@pytest.mark.parametrize(
    ("sources", "kinds", "codes", "index"),
    [
        ([file("https://x/bad")], ["PlayFailed"], (400, 8535), 0),
        ([text("440 0.2"), text("!download")], [STARTED, "PlayFailed"], (400, 8536), 1),
        ([text("!empty")], ["PlayFailed"], (400, 8582), 0),
        ([text("!unsupported")], ["PlayFailed"], (400, 8565), 0),
    ],
)
def test_a_bad_source(
    in_memory: InMemory, sources: list[Any], kinds: list[str], codes: tuple[int, int], index: int
) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        assert (await app.play(*sources, seconds=1)).status == 202
        assert app.kinds == kinds
        assert app.codes("PlayFailed") == codes
        assert app.data("PlayFailed")["failedPlaySourceIndex"] == index

    in_memory(scenario)


def test_one_that_interrupts(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.play(text("440 5"), seconds=0.5)
        await app.play(text("700"), interruptCallMediaOperation=True, seconds=0.5)
        assert app.kinds == [STARTED, "PlayCanceled", STARTED]
        assert heard(app.caller, 700, 0.2) == pytest.approx(-20, abs=0.5)
        assert heard(app.caller, 440, 0.2) < -60

    in_memory(scenario)


def test_events_go_to_the_callback_of_the_operation(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.play(text("440 0.2"), operationCallbackUri="https://app.example/own", seconds=1)
        urls = {posted.kind: posted.url for posted in server.events(app.connection)}
        assert urls[STARTED] == urls[COMPLETED] == "https://app.example/own"
        assert urls["CallConnected"] != urls[STARTED]

    in_memory(scenario)


def test_only_who_is_named_hears_it_and_the_app_never(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        phones = {number: await server.phone(number) for number in (PHONE, MOBILE)}
        streaming = {**STREAMING, "enableBidirectional": False}
        connection = await server.create(PHONE, MOBILE, mediaStreamingOptions=streaming)
        await server.settle()
        for phone in phones.values():
            phone.tell("answer")
            await server.settle()
        app = InCall(server, connection, phones[PHONE])
        await app.play(text("440"), playTo=[who(MOBILE)], seconds=0.6)
        assert heard(phones[MOBILE], 440, 0.3) == pytest.approx(-20, abs=0.5)
        assert silent(phones[PHONE], 0.3)
        await app.play(text("700"), seconds=1.2)
        assert heard(phones[PHONE], 700, 0.3) == heard(phones[MOBILE], 700, 0.3) == pytest.approx(-20, abs=0.5)
        assert not any(server.audio.heard())

    in_memory(scenario)


def test_a_prompt_and_the_audio_of_the_app_are_mixed(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server, mediaStreamingOptions=STREAMING)
        server.audio.say(pcm.tone(900, RATE, 3.0, -20).tobytes())
        await app.play(text("440"), seconds=0.8)
        assert heard(app.caller, 440, 0.4) == pytest.approx(-20, abs=0.5)
        assert heard(app.caller, 900, 0.4) == pytest.approx(-20, abs=0.5)

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ recognize


def test_keys_after_a_prompt(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        body = recognition("dtmf", text("440"), dtmfOptions={"maxTonesToCollect": 3, "stopTones": ["pound"]})
        assert (await app.ask(":recognize", body, 1.5)).status == 202
        app.caller.tell("dtmf", tones="12")
        await server.settle(0.5)
        assert app.kinds == []
        app.caller.tell("dtmf", tones="#")
        await server.settle()
        assert app.kinds == ["RecognizeCompleted"]
        assert app.codes("RecognizeCompleted") == (200, 8514)
        assert app.data("RecognizeCompleted")["recognitionType"] == "dtmf"
        assert app.data("RecognizeCompleted")["dtmfResult"] == {"tones": ["one", "two"]}
        assert app.data("RecognizeCompleted")["operationContext"] == "context"

    in_memory(scenario)


def test_a_key_ends_the_prompt_within_two_frames(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.ask(":recognize", recognition("dtmf", text("440 5"), dtmfOptions={"maxTonesToCollect": 1}), 1)
        app.caller.tell("dtmf", tones="5")
        await server.settle(0.2)
        assert app.kinds == ["RecognizeCompleted"]
        assert silent(app.caller, 0.16)

    in_memory(scenario)


@pytest.mark.parametrize(
    ("options", "pressed", "event", "codes", "after"),
    [
        ({}, "", "RecognizeFailed", (400, 8510), 5.0),
        ({"initialSilenceTimeoutInSeconds": 1}, "", "RecognizeFailed", (400, 8510), 1.0),
        ({"dtmfOptions": {"maxTonesToCollect": 4}}, "12", "RecognizeCompleted", (400, 8532), 2.0),
        ({"dtmfOptions": {"interToneTimeoutInSeconds": 7}}, "12", "RecognizeCompleted", (400, 8532), 7.0),
    ],
)
def test_times_that_run_out(
    in_memory: InMemory, options: Any, pressed: str, event: str, codes: tuple[int, int], after: float
) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.ask(":recognize", recognition("dtmf", **options), 0)
        if pressed:
            app.caller.tell("dtmf", tones=pressed)
        await server.settle(after - 0.1)
        assert app.kinds == []
        await server.settle(0.3)
        assert app.kinds == [event]
        assert app.codes(event) == codes

    in_memory(scenario)


CHOICES = [{"label": "Yes", "phrases": ["yes", "sure"], "tone": "one"}, {"label": "No", "phrases": ["no"]}]


async def speak(app: InCall, truth: str = "") -> None:
    """The caller speaks for a second."""
    if truth:
        app.caller.tell("said", text=truth)
    app.caller.say(pcm.tone(500, RATE, 1.0, -20).tobytes())
    await app.server.settle(3)


@pytest.mark.parametrize("truth", ["sure, why not", ""])
def test_a_choice_by_what_is_said(in_memory: InMemory, truth: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        server.studio.hears = "oh yes"
        app = await answered(server)
        await app.ask(":recognize", recognition("choices", text("440 10"), choices=CHOICES), 0.5)
        await speak(app, truth)
        assert app.kinds == ["RecognizeCompleted"]
        assert app.codes("RecognizeCompleted") == (200, 8545)
        phrase, confidence = ("sure", 1.0) if truth else ("yes", 0.5)
        chosen = {"label": "Yes", "recognizedPhrase": phrase, "confidence": confidence}
        assert app.data("RecognizeCompleted")["choiceResult"] == chosen
        assert silent(app.caller, 0.5), "it has ended the prompt"

    in_memory(scenario)


@pytest.mark.parametrize(
    ("kind", "options", "hears", "event", "codes"),
    [
        ("speech", {}, "good morning", "RecognizeCompleted", (200, 8569)),
        ("speechOrDtmf", {}, "good morning", "RecognizeCompleted", (200, 8569)),
        ("speech", {}, "", "RecognizeFailed", (400, 8563)),
        ("speech", {"speechLanguage": "tlh"}, "nuqneH", "RecognizeFailed", (400, 8565)),
        ("choices", {"choices": CHOICES}, "perhaps", "RecognizeFailed", (400, 8547)),
    ],
)
def test_what_becomes_of_speech(
    in_memory: InMemory, kind: str, options: Any, hears: str, event: str, codes: tuple[int, int]
) -> None:
    async def scenario(server: MemoryServer) -> None:
        server.studio.hears = hears
        app = await answered(server)
        await app.ask(":recognize", recognition(kind, **options))
        await speak(app)
        assert app.kinds == [event]
        assert app.codes(event) == codes
        if event == "RecognizeCompleted":
            assert app.data(event)["speechResult"] == {"speech": hears, "confidence": 0.5}

    in_memory(scenario)


@pytest.mark.parametrize(
    ("tone", "event", "codes"),
    [("1", "RecognizeCompleted", (200, 8533)), ("2", "RecognizeFailed", (500, 8534))],
)
def test_a_choice_by_key(in_memory: InMemory, tone: str, event: str, codes: tuple[int, int]) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.ask(":recognize", recognition("choices", choices=CHOICES))
        app.caller.tell("dtmf", tones=tone)
        await server.settle()
        assert app.kinds == [event]
        assert app.codes(event) == codes

    in_memory(scenario)


def test_a_prompt_that_cannot_be_had(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.ask(":recognize", recognition("dtmf", text("440 0.2"), text("!format")), 1)
        assert app.kinds == ["RecognizeFailed"]
        assert app.codes("RecognizeFailed") == (500, 8511)
        assert app.data("RecognizeFailed")["failedPlaySourceIndex"] == 1

    in_memory(scenario)


def test_a_recognition_cancels_what_plays_unless_it_says_not_to(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.play(text("440 2"))
        waits = {**recognition("dtmf"), "interruptCallMediaOperation": False}
        await app.ask(":recognize", waits, 0.5)
        assert app.kinds == [STARTED]
        await app.ask(":recognize", recognition("dtmf"), 0.5)
        assert app.kinds == [STARTED, "PlayCanceled", "RecognizeCanceled"]
        await app.ask(":cancelAllMediaOperations")
        assert app.kinds[3:] == ["RecognizeCanceled"]

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ tones


def test_every_key_is_told(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        body = {"targetParticipant": who(CALLER), **CONTEXT}
        assert (await app.ask(":startContinuousDtmfRecognition", body)).status == 200
        app.caller.tell("dtmf", tones="4*")
        await server.settle()
        received = "ContinuousDtmfRecognitionToneReceived"
        told = [posted.data for posted in server.events(app.connection) if posted.kind == received]
        assert [(data["sequenceId"], data["tone"]) for data in told] == [(1, "four"), (2, "asterisk")]
        assert (await app.ask(":stopContinuousDtmfRecognition", body)).status == 200
        assert app.kinds[2:] == ["ContinuousDtmfRecognitionStopped"]
        assert app.codes("ContinuousDtmfRecognitionStopped") == (200, 7000)
        app.caller.tell("dtmf", tones="5")
        await server.settle()
        assert len(app.kinds) == 3

    in_memory(scenario)


def test_tones_are_sent_to_a_party(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        body = {"targetParticipant": who(CALLER), "tones": ["one", "Pound"], **CONTEXT}
        sent = await app.ask(":sendDtmfTones", body, 3, **{"Repeatability-Request-ID": "x"})
        assert (sent.status, sent.body) == (202, CONTEXT)
        assert sent.headers["repeatability-result"] == "accepted"
        assert [told.tones for told in app.caller.told if told.kind == "dtmf"] == ["1", "#"]
        assert app.kinds == ["SendDtmfTonesCompleted"]
        assert app.data("SendDtmfTonesCompleted")["operationContext"] == "context"

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ mute and hold


class Three:
    """An app and two phones that all talk at once: the phones at 500 and 900 Hz."""

    def __init__(self, app: InCall, phone: Party, mobile: Party) -> None:
        self.app, self.phone, self.mobile = app, phone, mobile


async def three(server: MemoryServer) -> Three:
    phones = [await server.phone(number) for number in (PHONE, MOBILE)]
    connection = await server.create(PHONE, MOBILE)
    await server.settle()
    for phone, hz in zip(phones, (500, 900), strict=True):
        phone.tell("answer")
        await server.settle()
        phone.say(pcm.tone(hz, RATE, 30.0, -20).tobytes())
    await server.settle(1)
    return Three(InCall(server, connection, phones[0]), *phones)


def test_who_is_muted_is_heard_by_nobody_within_two_frames(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        call = await three(server)
        assert heard(call.mobile, 500, 0.5) == pytest.approx(-20, abs=0.5)
        body = {"targetParticipants": [who(PHONE)], **CONTEXT}
        muted = await call.app.ask("/participants:mute", body, 0.2)
        assert (muted.status, muted.body) == (200, CONTEXT)
        assert call.app.participant(PHONE) == (True, False)
        assert silent(call.mobile, 0.16)
        assert heard(call.phone, 900, 0.16) == pytest.approx(-20, abs=0.5)
        assert (await call.app.ask("/participants:mute", {"targetParticipants": [who(PHONE)]})).body == {}

    in_memory(scenario)


def test_who_is_on_hold_hears_music_and_nobody_else(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        call = await three(server)
        held = await call.app.ask(":hold", {"targetParticipant": who(PHONE)}, 1)
        assert (held.status, held.content) == (200, b"")
        assert call.app.participant(PHONE) == (False, True)
        assert heard(call.phone, MUSIC_HZ, 0.5) == pytest.approx(-20, abs=0.5)
        assert heard(call.phone, 900, 0.5) < -60
        assert silent(call.mobile, 0.5)
        assert (await call.app.ask(":unhold", {"targetParticipant": who(PHONE)}, 0.2)).status == 200
        assert call.app.participant(PHONE) == (False, False)
        assert heard(call.phone, 900, 0.16) == pytest.approx(-20, abs=0.5)
        assert heard(call.mobile, 500, 0.16) == pytest.approx(-20, abs=0.5)
        assert call.app.kinds == []

    in_memory(scenario)


def test_a_hold_with_music_that_is_bad_is_taken_back(in_memory: InMemory) -> None:
    """Recorded: E14."""

    async def scenario(server: MemoryServer) -> None:
        call = await three(server)
        body = {"targetParticipant": who(PHONE), "playSourceInfo": file("https://x/bad"), **CONTEXT}
        assert (await call.app.ask(":hold", body, 0.5)).status == 200
        assert server.kinds(call.app.connection)[-3:] == ["ParticipantsUpdated", "HoldFailed", "ParticipantsUpdated"]
        assert call.app.codes("HoldFailed") == (400, 8535)
        assert call.app.participant(PHONE) == (False, False)
        assert heard(call.mobile, 500, 0.2) == pytest.approx(-20, abs=0.5)

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ refusals and ends

ACTIONS: list[tuple[str, Any]] = [
    (":play", {"playSources": [text("440")], "playTo": [who(CALLER)]}),
    (":recognize", recognition("dtmf")),
    (":startContinuousDtmfRecognition", {"targetParticipant": who(CALLER)}),
    (":stopContinuousDtmfRecognition", {"targetParticipant": who(CALLER)}),
    (":sendDtmfTones", {"targetParticipant": who(CALLER), "tones": ["one"]}),
    (":hold", {"targetParticipant": who(CALLER)}),
    (":unhold", {"targetParticipant": who(CALLER)}),
    ("/participants:mute", {"targetParticipants": [who(CALLER)]}),
    (":cancelAllMediaOperations", None),
]


@pytest.mark.parametrize(("action", "body"), ACTIONS)
def test_a_call_that_is_gone_or_never_was(in_memory: InMemory, action: str, body: Any) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await server.hang_up(app.connection)
        for connection in (app.connection, "another"):
            answer = await server.rest("POST", f"/calling/callConnections/{connection}{action}", body)
            assert (answer.status, answer.body["error"]["code"]) == (404, "8522")

    in_memory(scenario)


@pytest.mark.parametrize(("action", "body"), ACTIONS)
def test_a_call_that_does_not_stand_yet(in_memory: InMemory, action: str, body: Any) -> None:
    async def scenario(server: MemoryServer) -> None:
        await server.phone(PHONE)
        connection = await server.create(PHONE)
        answer = await server.rest("POST", f"/calling/callConnections/{connection}{action}", body)
        assert (answer.status, answer.body["error"]["code"]) == (400, "8501")

    in_memory(scenario)


@pytest.mark.parametrize(("action", "body"), [each for each in ACTIONS if "stop" not in each[0] and each[1]])
def test_somebody_who_is_not_there(in_memory: InMemory, action: str, body: Any) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        other: dict[str, Any] = {
            name: [who(MOBILE)] if name in ("playTo", "targetParticipants") else who(MOBILE)
            for name in body
            if name in ("playTo", "targetParticipants", "targetParticipant")
        }
        if action == ":recognize":
            other = {"recognizeOptions": {"targetParticipant": who(MOBILE)}}
        answer = await app.ask(action, {**body, **other})
        assert (answer.status, answer.body["error"]["code"]) == (404, "8522")
        assert answer.body["error"]["message"] == "Participant not found."

    in_memory(scenario)


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        (":play", {"playSources": [{"kind": "file"}]}, "playSources[0].file is required"),
        (":play", {"playSources": [{**text("x"), "kind": "ssml"}]}, "playSources[0].ssml is required"),
        (":play", {"playSources": [text("440")], "playTo": [{}]}, "playTo"),
        (":play", {"playSources": [text("440")], "operationCallbackUri": "ftp://x"}, "operationCallbackUri"),
        (":recognize", recognition("choices"), "recognizeOptions.choices is required"),
        (":recognize", {**recognition("dtmf"), "playPrompts": None, "playPrompt": {"kind": "text"}}, "playPrompt.text"),
        (":hold", {"targetParticipant": who(CALLER), "playSourceInfo": {"kind": "text"}}, "playSourceInfo.text"),
        (":sendDtmfTones", {"targetParticipant": who(CALLER), "tones": ["one"] * 19}, "tones"),
    ],
)
def test_what_is_wrong_is_named(in_memory: InMemory, action: str, body: Any, field: str) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        answer = await app.ask(action, body)
        assert (answer.status, answer.body["error"]["code"]) == (400, "8523")
        assert field in answer.body["error"]["message"]

    in_memory(scenario)


def test_too_many_wait(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        for _ in range(11):
            assert (await app.play(text("440"), seconds=0)).status == 202
        refused = await app.play(text("440"))
        assert (refused.status, refused.body["error"]["code"]) == (400, "8500")

    in_memory(scenario)


def test_the_end_of_the_call_comes_last(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        app = await answered(server)
        await app.play(text("440 9"))
        await app.ask(":startContinuousDtmfRecognition", {"targetParticipant": who(CALLER)})
        await app.ask(":hold", {"targetParticipant": who(CALLER)}, 1)
        app.caller.tell("hangUp")
        await server.settle(3)
        assert server.kinds(app.connection)[-3:] == [
            "PlayCanceled",
            "ContinuousDtmfRecognitionStopped",
            "CallDisconnected",
        ]

    in_memory(scenario)
