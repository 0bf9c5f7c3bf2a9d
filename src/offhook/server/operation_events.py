"""What events of media operations are on the wire: their codes, texts and keys (recorded 6.3, contract 3.3).

Codes and texts that were not recorded are those of the documentation of ACS (event codes of play and of recognize).
A text is followed by ` Cause:` and what went wrong, where that is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offhook.call import operation_messages as o
from offhook.call.operations import Failure, Outcome, Problem
from offhook.wire import events, media
from offhook.wire.events import ResultInformation

KINDS: Mapping[type, str] = {
    o.PlayStarted: "PlayStarted",
    o.PlayCompleted: "PlayCompleted",
    o.PlayFailed: "PlayFailed",
    o.PlayCanceled: "PlayCanceled",
    o.RecognizeCompleted: "RecognizeCompleted",
    o.RecognizeFailed: "RecognizeFailed",
    o.RecognizeCanceled: "RecognizeCanceled",
    o.ToneReceived: "ContinuousDtmfRecognitionToneReceived",
    o.ToneFailed: "ContinuousDtmfRecognitionToneFailed",
    o.TonesStopped: "ContinuousDtmfRecognitionStopped",
    o.SendTonesCompleted: "SendDtmfTonesCompleted",
    o.SendTonesFailed: "SendDtmfTonesFailed",
    o.HoldFailed: "HoldFailed",
}

PROBLEMS: Mapping[Problem, ResultInformation] = {
    Problem.CANCELED: ResultInformation(400, 8508, "Action falied, the operation was cancelled."),  # sic; recorded: E13
    Problem.PARTY_LEFT: ResultInformation(404, 8522, "Action failed, the participant has left the call."),
    Problem.FORMAT: ResultInformation(400, 8535, "Action failed, file format is invalid."),
    Problem.DOWNLOAD: ResultInformation(400, 8536, "Action failed, file could not be downloaded."),
    Problem.EMPTY: ResultInformation(400, 8582, "Action failed, the text or SSML of the play source is empty."),
    Problem.UNSUPPORTED: ResultInformation(
        400, 8565, "Action failed, bad request to the speech engine. Check input parameters."
    ),
    Problem.SPEECH_SERVICE: ResultInformation(500, 8565, "Action failed, the speech engine failed."),
    Problem.INITIAL_SILENCE: ResultInformation(400, 8510, "Action failed, initial silence timeout reached."),
    Problem.WRONG_TONE: ResultInformation(500, 8534, "Action failed, incorrect tone entered."),
    Problem.NOT_RECOGNISED: ResultInformation(400, 8563, "Action failed, speech could not be recognized."),
    Problem.NO_CHOICE: ResultInformation(400, 8547, "Action failed, recognized phrase does not match a valid option."),
    Problem.TOO_SLOW: ResultInformation(408, 8570, "Action failed, speech recognition timed out."),
    Problem.NOT_SENT: ResultInformation(500, 9999, "Action failed, the tones could not be sent."),
}
PROMPT_FAILED = ResultInformation(500, 8511, "Action failed, encountered failure while trying to play the prompt.")

OUTCOMES: Mapping[Outcome, ResultInformation] = {
    Outcome.MAX_TONES: ResultInformation(200, 8531, "Action completed, max digits received."),
    Outcome.STOP_TONE: ResultInformation(200, 8514, "Action completed as stop tone was detected."),
    Outcome.INTER_TONE_TIMEOUT: ResultInformation(400, 8532, "Action failed, inter-digit silence timeout reached."),
    Outcome.CHOICE_BY_TONE: ResultInformation(200, 8533, "Action completed, DTMF option matched."),
    Outcome.CHOICE_BY_SPEECH: ResultInformation(200, 8545, "Action completed, speech option matched."),
    Outcome.SPEECH: ResultInformation(200, 8569, "Action completed, speech was recognized."),
}
STOPPED = ResultInformation(200, 7000, "The conversation has ended. DiagCode: 0#7000.@")  # recorded: E12


def describe(event: o.Event) -> tuple[ResultInformation, dict[str, Any]]:
    """Return the event's result and the data keys that only its kind has."""
    match event:
        case o.PlayStarted() | o.PlayCompleted():
            return events.MEDIA_SUCCESS, {}
        case o.SendTonesCompleted():
            return events.SUCCESS, {}
        case o.PlayCanceled() | o.RecognizeCanceled():
            return PROBLEMS[Problem.CANCELED], {}
        case o.TonesStopped():
            return STOPPED, {}
        case o.ToneReceived(tone, sequence):
            return events.MEDIA_SUCCESS, media.tone_received(tone, sequence)
        case o.RecognizeCompleted(outcome, result):
            return OUTCOMES[outcome], _result(result)
        case o.RecognizeFailed(failure) if failure.index is not None:
            return _because(PROMPT_FAILED, failure.detail), media.failed_source(failure.index)
        case o.PlayFailed(failure):
            return _failed(failure), media.failed_source(failure.index)
        case o.RecognizeFailed(failure) | o.HoldFailed(failure) | o.ToneFailed(failure) | o.SendTonesFailed(failure):
            return _failed(failure), {}


def _failed(failure: Failure) -> ResultInformation:
    return _because(PROBLEMS[failure.problem], failure.detail)


def _because(result: ResultInformation, detail: str) -> ResultInformation:
    if not detail:
        return result
    return ResultInformation(result.code, result.sub_code, f"{result.message} Cause: {detail}")


def _result(result: str | o.Words | o.Chosen) -> dict[str, Any]:
    match result:
        case str():
            return media.dtmf_result(result)
        case o.Words(text, confidence):
            return media.speech_result(text, confidence)
        case o.Chosen(label, None):
            return media.choice_result(label, None, None)
        case o.Chosen(label, o.Words(text, confidence)):
            return media.choice_result(label, text, confidence)
        case _:
            raise TypeError(result)
