"""The demo's app: its HTTP half with a client that takes notes, its bot on a stream whose socket is the test."""

import asyncio
import json
import threading
import wave
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("azure.communication.callautomation")
pytest.importorskip("hibari")

from azure.communication.callautomation import CallAutomationClient, MediaStreamingOptions
from azure.core.exceptions import ResourceNotFoundError
from starlette.applications import Starlette

from offhook.bot.memory import MemorySocket
from offhook.demo.app import ANSWER, GREETING, RATE, Bot, web_app

SPEECH = (4_000 * np.sin(2 * np.pi * 200 * np.arange(480) / RATE)).astype("<i2").tobytes()
CONNECTION = "c-1"


class Diary:
    """Stands for `tell`."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __call__(self, what: str, **more: Any) -> None:
        self.lines.append({"what": what, **more})

    @property
    def story(self) -> list[str]:
        return [line["what"] for line in self.lines]


# ------------------------------------------------------------------------------------------------------------ HTTP


class Client:
    """Stands for the SDK's client."""

    def __init__(self, error: Exception | None = None) -> None:
        self.answered: list[tuple[str, str, MediaStreamingOptions]] = []
        self.error = error

    def answer_call(self, context: str, callback_url: str, *, media_streaming: MediaStreamingOptions) -> Any:
        assert threading.current_thread() is not threading.main_thread(), "the loop would stand still meanwhile"
        if self.error:
            raise self.error
        self.answered.append((context, callback_url, media_streaming))
        return type("Properties", (), {"call_connection_id": CONNECTION})


def web(client: Client, diary: Diary) -> Starlette:
    return web_app(cast(CallAutomationClient, client), "http://app/api/callbacks", "ws://app/", diary)


def post(app: Starlette, path: str, body: object) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


INCOMING = {
    "eventType": "Microsoft.Communication.IncomingCall",
    "data": {"from": {"kind": "phoneNumber", "rawId": "4:+15550100"}, "incomingCallContext": "opaque"},
}


def test_the_subscription_is_validated() -> None:
    event = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "512d38b6"}}
    status, body = post(web(Client(), Diary()), "/api/incomingCall", [event])
    assert (status, json.loads(body)) == (200, {"validationResponse": "512d38b6"})


def test_an_incoming_call_is_answered_with_media_streaming() -> None:
    client, diary = Client(), Diary()
    assert post(web(client, diary), "/api/incomingCall", [INCOMING])[0] == 200
    ((context, callback_url, streaming),) = client.answered
    assert (context, callback_url) == ("opaque", "http://app/api/callbacks")
    assert (streaming.transport_url, streaming.transport_type) == ("ws://app/", "websocket")
    assert (streaming.audio_format, streaming.audio_channel_type) == ("pcm24KMono", "mixed")
    assert streaming.start_media_streaming
    assert streaming.enable_bidirectional
    assert diary.story == ["call comes in", "call answered"]


def test_a_caller_who_gave_up_is_no_fault_of_the_app() -> None:
    diary = Diary()
    status, _ = post(web(Client(ResourceNotFoundError("Call not found.")), diary), "/api/incomingCall", [INCOMING])
    assert status == 200
    assert diary.story == ["call comes in", "call could not be answered"]


def test_events_are_told_as_they_came() -> None:
    diary = Diary()
    event = {"type": "Microsoft.Communication.CallConnected", "data": {"callConnectionId": CONNECTION}}
    assert post(web(Client(), diary), "/api/callbacks", [event])[0] == 200
    assert diary.lines == [{"what": "event", "event": event}]


# ------------------------------------------------------------------------------------------------------------- bot


def converse(bot: Bot, *frames: bytes, rate: int = RATE) -> list[str]:
    """Hold a call with the bot; the kinds of message that it sent, a burst of audio counting once."""

    async def run() -> list[str]:
        async with MemorySocket(bot, rate=rate, headers={"x-ms-call-connection-id": CONNECTION}) as service:
            await asyncio.sleep(0)
            for pcm in frames:
                service.audio(pcm or bytes(rate // 50 * 2))
                await asyncio.sleep(0)
        kinds = [json.loads(message)["Kind"] for message in service.messages]
        return [kind for at, kind in enumerate(kinds) if at == 0 or kind != kinds[at - 1]]

    return asyncio.run(run())


@pytest.fixture(scope="module")
def bot() -> Bot:
    return Bot()


def test_the_whole_conversation(bot: Bot) -> None:
    bot._tell = diary = Diary()
    silence = bytes(960)
    sent = converse(bot, *[silence] * 250, *[SPEECH] * 50, *[silence] * 100, *[SPEECH] * 50, *[silence] * 100)
    assert diary.story == [
        "stream opened", "bot speaks", "bot heard speech", "bot speaks", "bot interrupted", "stream closed",
    ]  # fmt: skip
    assert [line["text"] for line in diary.lines if line["what"] == "bot speaks"] == [GREETING, ANSWER]
    assert sent == ["AudioData", "StopAudio"]


def test_the_answer_is_long_enough_to_be_interrupted(bot: Bot) -> None:
    assert 10 < len(bot._words[ANSWER]) / RATE < 20


def test_it_can_be_interrupted_in_its_greeting_and_then_answers(bot: Bot) -> None:
    bot._tell = diary = Diary()
    assert converse(bot, *[SPEECH] * 50, *[b""] * 50) == ["AudioData", "StopAudio", "AudioData"]
    assert diary.story == ["stream opened", "bot speaks", "bot interrupted", "bot speaks", "stream closed"]


def test_what_it_heard_is_kept_with_the_time_of_silence(bot: Bot, tmp_path: Path) -> None:
    bot._heard, bot._tell = tmp_path / "heard.wav", Diary()
    converse(bot, SPEECH, b"", SPEECH)
    with wave.open(str(tmp_path / "heard.wav")) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, RATE)
        assert wav.readframes(10_000) == SPEECH + bytes(960) + SPEECH
    bot._heard = None


def test_a_stream_of_another_rate_is_refused_in_words(bot: Bot, caplog: pytest.LogCaptureFixture) -> None:
    bot._tell = Diary()
    converse(bot, bytes(640), rate=16_000)
    assert "16000 Hz, and 24000 was asked for" in caplog.text
