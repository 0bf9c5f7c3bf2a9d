"""An app on the official Python SDK, from its connection string: every operation and what comes of it.

`scenario.py sync|aio VERSION`. Both clients take the same calls; `settle` waits for what the aio one returns. What
happens around the app (callers, phones, events) is asked of the stage, see conftest.py.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from importlib import metadata
from typing import Any

from azure.communication.callautomation import (
    AudioFormat,
    CallAutomationClient,
    CallRejectReason,
    CommunicationUserIdentifier,
    FileSource,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    PhoneNumberIdentifier,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient as AsyncCallAutomationClient
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

CONNECTION_STRING = os.environ["ACS_CONNECTION_STRING"]
STAGE = os.environ["STAGE"]
CALLBACKS = f"{STAGE}/callbacks?from=the-app"
STREAMING = MediaStreamingOptions(
    transport_url=STAGE.replace("http:", "ws:") + "/audio",
    transport_type=StreamingTransportType.WEBSOCKET,
    content_type=MediaStreamingContentType.AUDIO,
    audio_channel_type=MediaStreamingAudioChannelType.MIXED,
    start_media_streaming=True,
    enable_bidirectional=True,
    audio_format=AudioFormat.PCM24_K_MONO,
)
FRAME_BYTES = 960


def ask(what: str, body: str | None = None, /, **query: Any) -> Any:
    """Ask the stage; see its methods of the same names."""
    posted = what in ("call", "phone", "speak", "send", "hangup")
    url = f"{STAGE}/{what}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, (body or "").encode() if posted else None) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None


def event(kind: str, connection: str, context: str | None) -> dict[str, Any]:
    """Wait for this event and return its data."""
    data: dict[str, Any] = ask("event", type=kind, connection=connection)["data"]
    assert data.get("operationContext") == context, data
    return data


async def settle(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def everything(pages: Any) -> list[Any]:
    return [item async for item in pages] if hasattr(pages, "__aiter__") else list(pages)


async def refused(call: Any, kind: type[HttpResponseError], status: int, code: str) -> None:
    """`call()` has to raise this error with this status and ACS code."""
    error: HttpResponseError | None = None
    try:
        await settle(call())
    except HttpResponseError as raised:
        error = raised
    assert type(error) is kind, repr(error)
    assert error.error is not None
    assert (error.status_code, error.error.code) == (status, code), error
    assert error.error.message


def sound(socket: dict[str, Any]) -> list[bytes]:
    """The frames of a socket that are not silent. The first message has to be the metadata."""
    metadata, *frames = map(json.loads, socket["messages"])
    assert metadata["kind"] == "AudioMetadata"
    assert metadata["audioMetadata"]["sampleRate"] == 24_000
    assert all(frame["kind"] == "AudioData" and "participantRawID" not in frame["audioData"] for frame in frames)
    return [base64.b64decode(f["audioData"]["data"]) for f in frames if not f["audioData"]["silent"]]


async def talk(client: Any) -> None:
    """Answer with media streaming, talk, stop and start it, hang up for everyone."""
    incoming = ask("call")
    answered = await settle(
        client.answer_call(
            incoming["incomingCallContext"], CALLBACKS, media_streaming=STREAMING, operation_context="to answer"
        )
    )
    id = answered.call_connection_id
    assert answered.call_connection_state == "connecting"
    assert (answered.correlation_id, answered.server_call_id) == (incoming["correlationId"], incoming["serverCallId"])
    assert answered.media_streaming_subscription.state == "inactive"
    connection = client.get_call_connection(id)
    event("CallConnected", id, "to answer")
    event("MediaStreamingStarted", id, "to answer")

    properties = await settle(connection.get_call_properties())
    assert properties.call_connection_state == "connected"
    assert properties.callback_url == CALLBACKS
    assert properties.source.raw_id == incoming["from"]["rawId"]
    assert properties.media_streaming_subscription.state == "active"
    assert properties.media_streaming_subscription.id == answered.media_streaming_subscription.id
    await participants(connection, incoming["from"]["rawId"])
    echo(id)
    await streaming_again(connection, id)

    playing = lambda: connection.play_media_to_all(FileSource(url="https://app.example/a.wav"))  # noqa: E731
    await refused(playing, HttpResponseError, 501, "8520")
    await settle(connection.hang_up(is_for_everyone=True))
    event("MediaStreamingStopped", id, "to start")
    assert event("CallDisconnected", id, "to answer")["resultInformation"]["subCode"] == 7000
    ask("party", who="caller", state="ended")
    await refused(connection.get_call_properties, ResourceNotFoundError, 404, "8522")
    await refused(lambda: connection.hang_up(is_for_everyone=False), ResourceNotFoundError, 404, "8522")


async def participants(connection: Any, caller: str) -> None:
    """The caller's id has `:` and `+` in it, the app's own `:` and `_`: they are path segments of getParticipant."""
    listed = await everything(connection.list_participants())
    raw_ids = {each.identifier.raw_id for each in listed}
    (app,) = raw_ids - {caller}
    assert caller.startswith("4:+")
    assert app.startswith("8:acs:")
    number, user = PhoneNumberIdentifier(caller.removeprefix("4:")), CommunicationUserIdentifier(app)
    for identifier in (number, user):
        participant = await settle(connection.get_participant(identifier))
        assert participant.identifier == identifier
        assert (participant.is_muted, participant.is_on_hold) == (False, False)
    stranger = PhoneNumberIdentifier("+15550999")
    await refused(lambda: connection.get_participant(stranger), ResourceNotFoundError, 404, "8522")


def echo(id: str) -> None:
    """Send the caller its own voice, once; then ten times over, to be stopped."""
    ask("speak")
    (socket,) = ask("sockets", count=1)
    assert socket["callConnectionId"] == id
    voice = sound(socket)
    assert {len(frame) for frame in voice} == {FRAME_BYTES}
    say = {"Kind": "AudioData", "AudioData": {"Data": base64.b64encode(b"".join(voice)).decode()}, "StopAudio": None}
    ask("send", json.dumps(say))
    ask("heard", what="voice")
    for _ in range(40):
        ask("send", json.dumps(say))
    ask("heard", what="sound")
    ask("send", json.dumps({"Kind": "StopAudio", "AudioData": None, "StopAudio": {}}))
    ask("heard", what="silence")


async def streaming_again(connection: Any, id: str) -> None:
    await settle(connection.stop_media_streaming(operation_context="to stop"))
    event("MediaStreamingStopped", id, "to stop")
    stopped = await settle(connection.get_call_properties())
    assert stopped.media_streaming_subscription.state == "inactive"
    await settle(connection.start_media_streaming(operation_context="to start"))
    event("MediaStreamingStarted", id, "to start")
    first, second = ask("sockets", count=2)
    assert json.loads(first["messages"][0]) == json.loads(second["messages"][0])
    started = await settle(connection.get_call_properties())
    assert started.media_streaming_subscription.state == "active"


async def call_a_phone(client: Any, phone: PhoneNumberIdentifier) -> None:
    us = PhoneNumberIdentifier("+15550111")
    created = await settle(
        client.create_call(phone, CALLBACKS, source_caller_id_number=us, operation_context="to call")
    )
    id = created.call_connection_id
    assert [target.raw_id for target in created.targets] == [phone.raw_id]
    event("CallConnected", id, "to call")
    ask("party", who="phone", state="connected")
    connection = client.get_call_connection(id)
    properties = await settle(connection.get_call_properties())
    assert properties.call_connection_state == "connected"
    assert properties.source_caller_id_number == us
    assert properties.media_streaming_subscription.state == "disabled"
    await settle(connection.hang_up(is_for_everyone=False))
    event("CallDisconnected", id, "to call")
    ask("party", who="phone", state="waiting")


async def reject_and_redirect(client: Any, phone: PhoneNumberIdentifier) -> None:
    reasons = {CallRejectReason.NONE: "rejected", CallRejectReason.BUSY: "busy", CallRejectReason.FORBIDDEN: "refused"}
    for reason, told in reasons.items():
        context = ask("call")["incomingCallContext"]
        await settle(client.reject_call(context, call_reject_reason=reason))
        assert told in ask("party", who="caller", state="ended")
        answering = lambda context=context: client.answer_call(context, CALLBACKS)  # noqa: E731
        await refused(answering, ResourceNotFoundError, 404, "8522")
    context = ask("call")["incomingCallContext"]
    await settle(client.redirect_call(context, phone))
    for who in ("caller", "phone"):
        ask("party", who=who, state="connected")
    ask("hangup")
    ask("party", who="phone", state="waiting")


async def wrong_key(client_class: Any) -> None:
    endpoint, _, _ = CONNECTION_STRING.partition("accesskey=")
    stranger = client_class.from_connection_string(f"{endpoint}accesskey={base64.b64encode(b'wrong').decode()}")
    connection = stranger.get_call_connection("00000000-0000-0000-0000-000000000000")
    await refused(connection.get_call_properties, ClientAuthenticationError, 401, "7509")
    await settle(stranger.close())


async def main(style: str, version: str) -> None:
    assert metadata.version("azure-communication-callautomation") == version
    clients: dict[str, Any] = {"sync": CallAutomationClient, "aio": AsyncCallAutomationClient}
    client_class = clients[style]
    client = client_class.from_connection_string(CONNECTION_STRING)
    await talk(client)
    phone = PhoneNumberIdentifier(ask("phone"))
    await call_a_phone(client, phone)
    await reject_and_redirect(client, phone)
    await wrong_key(client_class)
    await settle(client.close())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
