"""The operations of the REST API and their routes (contract 2.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote


class Operation(NamedTuple):
    """One operation of the API. `success`: HTTP status; `repeatable`: SDKs send Repeatability headers with it."""

    name: str
    method: str
    path: str
    success: int
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class MethodNotAllowed:
    """The path exists, for these methods only."""

    allow: tuple[str, ...]


_CALLS = "/calling/callConnections"
_CALL = _CALLS + "/{callConnectionId}"
_PARTICIPANTS = _CALL + "/participants"
_RECORDING = "/calling/recordings/{recordingId}"

OPERATIONS: tuple[Operation, ...] = (
    Operation("createCall", "POST", _CALLS, 201, True),
    Operation("answerCall", "POST", _CALLS + ":answer", 200, True),
    Operation("redirectCall", "POST", _CALLS + ":redirect", 204, True),
    Operation("rejectCall", "POST", _CALLS + ":reject", 204, True),
    Operation("connect", "POST", _CALLS + ":connect", 200, True),
    Operation("getCall", "GET", _CALL, 200),
    Operation("hangUp", "DELETE", _CALL, 204),
    Operation("terminate", "POST", _CALL + ":terminate", 204, True),
    Operation("transferToParticipant", "POST", _CALL + ":transferToParticipant", 202, True),
    Operation("listParticipants", "GET", _PARTICIPANTS, 200),
    Operation("getParticipant", "GET", _PARTICIPANTS + "/{participantRawId}", 200),
    Operation("addParticipant", "POST", _PARTICIPANTS + ":add", 202, True),
    Operation("removeParticipant", "POST", _PARTICIPANTS + ":remove", 202, True),
    Operation("mute", "POST", _PARTICIPANTS + ":mute", 200, True),
    Operation("cancelAddParticipant", "POST", _PARTICIPANTS + ":cancelAddParticipant", 202, True),
    Operation("moveParticipants", "POST", _PARTICIPANTS + ":moveHere", 202, True),
    Operation("play", "POST", _CALL + ":play", 202),
    Operation("cancelAllMediaOperations", "POST", _CALL + ":cancelAllMediaOperations", 202),
    Operation("recognize", "POST", _CALL + ":recognize", 202),
    Operation("startContinuousDtmfRecognition", "POST", _CALL + ":startContinuousDtmfRecognition", 200),
    Operation("stopContinuousDtmfRecognition", "POST", _CALL + ":stopContinuousDtmfRecognition", 200),
    Operation("sendDtmfTones", "POST", _CALL + ":sendDtmfTones", 202, True),
    Operation("hold", "POST", _CALL + ":hold", 200),
    Operation("unhold", "POST", _CALL + ":unhold", 200),
    Operation("startMediaStreaming", "POST", _CALL + ":startMediaStreaming", 202),
    Operation("stopMediaStreaming", "POST", _CALL + ":stopMediaStreaming", 202),
    Operation("startTranscription", "POST", _CALL + ":startTranscription", 202),
    Operation("stopTranscription", "POST", _CALL + ":stopTranscription", 202),
    Operation("updateTranscription", "POST", _CALL + ":updateTranscription", 202),
    # 200 when the request has a callLocator, 202 when it has a callConnectionId (recorded: R4, R5)
    Operation("startRecording", "POST", "/calling/recordings", 200, True),
    Operation("getRecording", "GET", _RECORDING, 200),
    Operation("stopRecording", "DELETE", _RECORDING, 204),
    Operation("pauseRecording", "POST", _RECORDING + ":pause", 202),
    Operation("resumeRecording", "POST", _RECORDING + ":resume", 202),
)


def _pattern(template: str) -> re.Pattern[str]:
    # A colon ends every id but the raw id of a participant, which has some of its own.
    pattern = template.replace("{participantRawId}", "(?P<participantRawId>[^/]+)")
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", pattern))


def _routes() -> tuple[tuple[re.Pattern[str], dict[str, Operation]], ...]:
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return tuple((_pattern(path), methods) for path, methods in by_path.items())


_ROUTES = _routes()


def match(method: str, raw_path: str) -> tuple[Operation, dict[str, str]] | MethodNotAllowed | None:
    """Return the operation at a path and the decoded ids in it; None when there is no such path.

    `raw_path` is the request's path as it came, without query: raw ids may be percent-encoded or not (contract 2.3).
    """
    path = re.sub(r"^/+", "/", raw_path)
    for pattern, methods in _ROUTES:
        if found := pattern.fullmatch(path):
            if method not in methods:
                return MethodNotAllowed(tuple(methods))
            return methods[method], {name: unquote(value) for name, value in found.groupdict().items()}
    return None
