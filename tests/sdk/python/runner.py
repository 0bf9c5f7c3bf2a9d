"""The Python SDK as a runner (see ../runner.py): `python/runner.py sync|aio`, with the SDK's folder on PYTHONPATH.

Both clients take the same calls; `settle` waits for what the aio one returns.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import azure.communication.callautomation as sdk
from azure.communication.callautomation.aio import CallAutomationClient as AsyncCallAutomationClient
from azure.core.exceptions import HttpResponseError
from azure.core.messaging import CloudEvent

Arguments = Mapping[str, Any]

VERSION = metadata.version("azure-communication-callautomation")
FIRST = VERSION == "1.0.0"  # the only one that wants a CallInvite; the others deprecate it
FEATURES = {
    "text": hasattr(sdk, "TextSource"),
    "speech": hasattr(sdk, "RecognitionChoice"),
    "streaming": hasattr(sdk, "MediaStreamingOptions"),
    "play context": True,
    "playlist": VERSION not in ("1.1.0", "1.2.0"),  # these two send the first source of several
    "transferee": not FIRST,
    "callbacks": not FIRST,  # of their own for single operations
    "headers": not FIRST,
    "isOnHold": "is_on_hold" in inspect.signature(sdk.CallParticipant.__init__).parameters,
}


class Method(NamedTuple):
    """A method of the SDK: what it takes by position, in wire names; all else that is given goes by keyword."""

    name: str
    positional: tuple[str, ...] = ()
    constant: tuple[Any, ...] = ()
    of_client: bool = False


OPERATIONS = {
    "createCall": Method("create_call", ("invite", "callbackUri"), of_client=True),
    "answerCall": Method("answer_call", ("incomingCallContext", "callbackUri"), of_client=True),
    "redirectCall": Method("redirect_call", ("incomingCallContext", "invite"), of_client=True),
    "rejectCall": Method("reject_call", ("incomingCallContext",), of_client=True),
    "connect": Method("connect_call", ("callbackUri",), of_client=True),
    "getCall": Method("get_call_properties"),
    "hangUp": Method("hang_up", constant=(False,)),
    "terminate": Method("hang_up", constant=(True,)),
    "transferToParticipant": Method("transfer_call_to_participant", ("target",)),
    "listParticipants": Method("list_participants"),
    "getParticipant": Method("get_participant", ("target",)),
    "addParticipant": Method("add_participant", ("invite",)),
    "removeParticipant": Method("remove_participant", ("target",)),
    "mute": Method("mute_participant", ("target",)),
    "cancelAddParticipant": Method("cancel_add_participant_operation", ("invitationId",)),
    "moveParticipants": Method("move_participants", ("targets", "fromCall")),
    "play": Method("play_media_to_all", ("sources",)),
    "cancelAllMediaOperations": Method("cancel_all_media_operations"),
    "recognize": Method("start_recognizing_media", ("type", "target")),
    "startContinuousDtmfRecognition": Method("start_continuous_dtmf_recognition", ("target",)),
    "stopContinuousDtmfRecognition": Method("stop_continuous_dtmf_recognition", ("target",)),
    "sendDtmfTones": Method("send_dtmf_tones", ("tones", "target")),
    "hold": Method("hold", ("target",)),
    "unhold": Method("unhold", ("target",)),
    "startMediaStreaming": Method("start_media_streaming"),
    "stopMediaStreaming": Method("stop_media_streaming"),
}
# What an aio client has a method for, and does not send: it passes connect's body by another name than its own layer
# below takes, and forgets to wait for the requests about media streaming (azure-sdk-for-python#38910).
LOST_IN_AIO = {"1.3.0": {"connect"}, "1.4.0b1": {"connect", "startMediaStreaming", "stopMediaStreaming"}}
PLAY_TO_SOME = Method("play_media", ("sources", "to"))

KEYWORDS = {
    "operationContext": "operation_context",
    "operationCallbackUri": "operation_callback_url",
    "mediaStreaming": "media_streaming",
    "sourceCallerIdNumber": "source_caller_id_number",
    "serverCallId": "server_call_id",
    "callRejectReason": "call_reject_reason",
    "invitationTimeoutInSeconds": "invitation_timeout",
    "voipHeaders": "voip_headers",
    "playSource": "play_source",
    "prompt": "play_prompt",
    "interruptPrompt": "interrupt_prompt",
    "initialSilenceTimeoutInSeconds": "initial_silence_timeout",
    "interToneTimeoutInSeconds": "dtmf_inter_tone_timeout",
    "maxTonesToCollect": "dtmf_max_tones_to_collect",
    "stopTones": "dtmf_stop_tones",
    "speechLanguage": "speech_language",
    "endSilenceTimeoutInSeconds": "end_silence_timeout",
}


# ----------------------------------------------------------------------------------------------------- arguments


def identifier(raw_id: str) -> Any:
    number = raw_id.removeprefix("4:")
    return sdk.CommunicationUserIdentifier(raw_id) if number == raw_id else sdk.PhoneNumberIdentifier(number)


def source(given: Arguments) -> Any:
    if "file" in given:
        return sdk.FileSource(url=given["file"])
    if "ssml" in given:
        return sdk.SsmlSource(ssml_text=given["ssml"])
    return sdk.TextSource(text=given["text"], source_locale=given.get("locale"), voice_name=given.get("voice"))


def streaming(given: Arguments) -> Any:
    transports = getattr(sdk, "StreamingTransportType", None) or sdk.MediaStreamingTransportType  # the name in 1.4.0b1
    return sdk.MediaStreamingOptions(
        transport_url=given["transportUrl"],
        transport_type=transports.WEBSOCKET,
        content_type=sdk.MediaStreamingContentType.AUDIO,
        audio_channel_type=sdk.MediaStreamingAudioChannelType(given["audioChannelType"]),
        start_media_streaming=given["startMediaStreaming"],
        enable_bidirectional=given["enableBidirectional"],
        audio_format=sdk.AudioFormat.PCM24_K_MONO,
    )


def tones(words: list[str]) -> list[Any]:
    return [sdk.DtmfTone(word) for word in words]


CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "invite": identifier,
    "target": identifier,
    "transferee": identifier,
    "targets": lambda raw_ids: [identifier(each) for each in raw_ids],
    "to": lambda raw_ids: [identifier(each) for each in raw_ids],
    "sourceCallerIdNumber": sdk.PhoneNumberIdentifier,
    "sources": lambda given: source(given[0]) if len(given) == 1 else [source(each) for each in given],
    "playSource": source,
    "prompt": source,
    "type": sdk.RecognizeInputType,
    "tones": tones,
    "stopTones": tones,
    "choices": lambda given: [sdk.RecognitionChoice(label=each["label"], phrases=each["phrases"]) for each in given],
    "mediaStreaming": streaming,
}


def converted(given: Arguments) -> dict[str, Any]:
    """The arguments as the SDK wants them, by wire name."""
    values = {name: CONVERTERS[name](value) if name in CONVERTERS else value for name, value in given.items()}
    if FIRST and "invite" in values:
        number = values.pop("sourceCallerIdNumber", None)
        values["invite"] = sdk.CallInvite(values["invite"], source_caller_id_number=number)
    return values


# ------------------------------------------------------------------------------------------------------- results


def raw_id(of: Any) -> str | None:
    return None if of is None else str(of.raw_id)


def participant(of: Any) -> dict[str, Any]:
    hold = {"isOnHold": of.is_on_hold} if FEATURES["isOnHold"] else {}
    return {"identifier": raw_id(of.identifier), "isMuted": of.is_muted, **hold}


def told(result: Any) -> dict[str, Any]:
    """What an SDK's result says, in wire names."""
    if isinstance(result, list):
        return {"participants": [participant(each) for each in result]}
    if isinstance(result, sdk.CallParticipant):
        return participant(result)
    if isinstance(result, sdk.CallConnectionProperties):
        return properties(result)
    names = {"operation_context": "operationContext", "invitation_id": "invitationId", "from_call": "fromCall"}
    said = {wire: getattr(result, name) for name, wire in names.items() if getattr(result, name, None) is not None}
    if getattr(result, "participant", None) is not None:
        said["participant"] = participant(result.participant)
    if getattr(result, "participants", None) is not None:
        said["participants"] = [participant(each) for each in result.participants]
    return said


def properties(of: Any) -> dict[str, Any]:
    subscription = getattr(of, "media_streaming_subscription", None)
    number = of.source_caller_id_number
    return {
        "callConnectionId": of.call_connection_id,
        "serverCallId": of.server_call_id,
        "correlationId": of.correlation_id,
        "callConnectionState": of.call_connection_state,
        "callbackUri": of.callback_url,
        "source": raw_id(of.source),
        "sourceCallerIdNumber": None if number is None else number.properties["value"],
        "targets": [raw_id(each) for each in of.targets or []],
        "mediaStreaming": None if subscription is None else {"id": subscription.id, "state": subscription.state},
    }


# ------------------------------------------------------------------------- what the SDK leaves to its documentation


def read_event(given: Arguments) -> dict[str, Any]:
    event: CloudEvent[dict[str, Any]] = CloudEvent.from_dict(json.loads(given["body"])[0])
    assert event.data is not None
    return {"type": event.type.rpartition(".")[2], **event.data}


def read_messages(given: Arguments) -> dict[str, Any]:
    return {"messages": [read_message(json.loads(text)) for text in given["messages"]]}


def read_message(message: dict[str, Any]) -> dict[str, Any]:
    if message["kind"] == "AudioData":
        audio = message["audioData"]
        return {"kind": "AudioData", "data": audio["data"], "silent": audio["silent"]}
    payload: dict[str, Any] = message[message["kind"][0].lower() + message["kind"][1:]]
    return {"kind": message["kind"], **payload}


def write_audio(given: Arguments) -> dict[str, Any]:
    message = {"Kind": "AudioData", "AudioData": {"Data": given["data"]}, "StopAudio": None}
    return {"message": json.dumps(message)}


def write_stop(given: Arguments) -> dict[str, Any]:
    return {"message": json.dumps({"Kind": "StopAudio", "AudioData": None, "StopAudio": {}})}


HELPERS: dict[str, Callable[[Arguments], dict[str, Any]]] = {
    "readEvent": read_event,
    "readMessages": read_messages,
    "writeAudio": write_audio,
    "writeStop": write_stop,
}


# --------------------------------------------------------------------------------------------------------- doing


async def settle(result: Any) -> Any:
    """Wait for what the aio client returns, and for all pages of a list."""
    if inspect.isawaitable(result):
        result = await result
    if hasattr(result, "__aiter__"):
        return [item async for item in result]
    return list(result) if hasattr(result, "by_page") else result


class Runner:
    """One client; see ../runner.py. `of_each` are further keywords of each operation, `options` those of the client."""

    def __init__(self, style: str, of_each: Mapping[str, Any] | None = None, **options: Any) -> None:
        self._of_each = of_each or {}
        self._client_class: Any = AsyncCallAutomationClient if style == "aio" else sdk.CallAutomationClient
        self._options = options
        self.client = self._make(os.environ["ACS_CONNECTION_STRING"])
        lost = LOST_IN_AIO.get(VERSION, set()) if style == "aio" else set()
        connection = self.client.get_call_connection("none")
        self.operations = [
            operation
            for operation, method in OPERATIONS.items()
            if operation not in lost and hasattr(self.client if method.of_client else connection, method.name)
        ]

    def _make(self, connection_string: str) -> Any:
        return self._client_class.from_connection_string(connection_string, **self._options)

    async def do(self, what: str, on: str | None, given: Arguments) -> dict[str, Any]:
        """Do what is asked and return its result."""
        if what == "signWith":
            return await self._sign_with(given["key"])
        if what in HELPERS:
            return HELPERS[what](given)
        method = PLAY_TO_SOME if what == "play" and "to" in given else OPERATIONS[what]
        of = self.client if method.of_client else self.client.get_call_connection(on)
        values = converted(given)
        positional = [values.pop(name) for name in method.positional]
        keywords = {KEYWORDS.get(name, name): value for name, value in values.items()}
        result = getattr(of, method.name)(*method.constant, *positional, **keywords, **self._of_each)
        return told(await settle(result))

    async def _sign_with(self, key: str) -> dict[str, Any]:
        await self.close()
        endpoint, _, _ = os.environ["ACS_CONNECTION_STRING"].partition("accesskey=")
        self.client = self._make(f"{endpoint}accesskey={base64.b64encode(key.encode()).decode()}")
        return {}

    async def close(self) -> None:
        if hasattr(self.client, "close"):  # the sync one of 1.0.0 has not
            await settle(self.client.close())


async def answer(runner: Runner, command: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": await runner.do(command["do"], command["on"], command["with"])}
    except HttpResponseError as error:
        return {"refused": {"status": error.status_code, "code": error.error.code if error.error else ""}}
    except Exception:
        return {"failed": traceback.format_exc()}


async def serve(runner: Runner) -> None:
    """Answer commands until there are no more. stdout is ours alone: 1.3.0 and 1.4.0b1 print on it, too."""
    out, sys.stdout = sys.stdout, sys.stderr
    hello = {
        "version": VERSION,
        "operations": runner.operations,
        "features": [name for name, there in FEATURES.items() if there],
    }
    print(json.dumps(hello), file=out, flush=True)
    while line := sys.stdin.readline():
        print(json.dumps(await answer(runner, json.loads(line))), file=out, flush=True)
    await runner.close()


if __name__ == "__main__":
    asyncio.run(serve(Runner(sys.argv[1])))
