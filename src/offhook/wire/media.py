"""Bodies of the media operations (play, recognize, DTMF, hold, mute), and what their events have of their own.

Field names and which of them are required: contract 2.4 and 2.5. Limits: what the specification or the documentation
of ACS says where it says anything, else ours; those are in docs/prompts-and-digits.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from offhook.wire.rest import Context, Dto, Identifier, Text, Uri

# ------------------------------------------------------------------------------------------------------- tones

TONES: dict[str, str] = {  # word on the wire → key of a telephone (contract 2.4)
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    **{letter: letter.upper() for letter in "abcd"},
    "pound": "#",
    "asterisk": "*",
}
WORDS: dict[str, str] = {key: word for word, key in TONES.items()}

Tone = Annotated[str, Meta(pattern=rf"^(?i:{'|'.join(TONES)})\Z")]

MAX_TONES = 18  # of one sendDtmfTones (documented: control mid-call media actions)


def keys(tones: Sequence[str]) -> str:
    """Return the keys that are meant by words in any casing: `["one", "Pound"]` → `"1#"`."""
    return "".join(TONES[tone.lower()] for tone in tones)


def words(keys: str) -> list[str]:
    """Return the words for keys: `"1#"` → `["one", "pound"]`."""
    return [WORDS[key] for key in keys]


# -------------------------------------------------------------------------------------------------- play sources

MAX_SOURCES = 10  # prompts of one operation
MAX_TEXT = 4_000  # characters of a text to be spoken (documented: gathering user input)
MAX_SSML = 64 * 1024  # characters


class FileSource(Dto):
    uri: Uri


class TextSource(Dto):
    """The custom voice endpoint that the SDKs may name is ignored: engines are chosen by configuration."""

    text: Annotated[str, Meta(max_length=MAX_TEXT)]
    source_locale: Text | None = None
    voice_kind: Annotated[str, Meta(pattern=r"^(?i:male|female)\Z")] | None = None
    voice_name: Text | None = None


class SsmlSource(Dto):
    ssml_text: Annotated[str, Meta(max_length=MAX_SSML)]


class PlaySource(Dto):
    """`kind` says which of the three has to be there, in any casing."""

    kind: Annotated[str, Meta(pattern=r"^(?i:file|text|ssml)\Z")]
    play_source_cache_id: Text | None = None
    file: FileSource | None = None
    text: TextSource | None = None
    ssml: SsmlSource | None = None


Sources = Annotated[list[PlaySource], Meta(max_length=MAX_SOURCES)]
People = Annotated[list[Identifier], Meta(max_length=100)]

# ------------------------------------------------------------------------------------------------------ requests


class ActionRequest(Dto, kw_only=True):
    """What every media operation may have."""

    operation_context: Context | None = None
    operation_callback_uri: Uri | None = None


class PlayOptions(Dto):
    loop: bool


class PlayRequest(ActionRequest, kw_only=True):
    """`play_to`: none, or an empty list, is everybody."""

    play_sources: Annotated[list[PlaySource], Meta(min_length=1, max_length=MAX_SOURCES)]
    play_to: People | None = None
    interrupt_call_media_operation: bool | None = None
    play_options: PlayOptions | None = None


class DtmfOptions(Dto):
    inter_tone_timeout_in_seconds: Annotated[int, Meta(ge=1, le=60)] | None = None
    max_tones_to_collect: Annotated[int, Meta(ge=1, le=100)] | None = None
    stop_tones: Annotated[list[Tone], Meta(max_length=len(TONES))] | None = None


class SpeechOptions(Dto):
    end_silence_timeout_in_ms: Annotated[int, Meta(ge=100, le=60_000)] | None = None


class Choice(Dto):
    """A choice by what is said, or also by a key."""

    label: Annotated[str, Meta(min_length=1, max_length=256)]
    phrases: Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=50)]
    tone: Tone | None = None


class RecognizeOptions(Dto):
    target_participant: Identifier
    interrupt_prompt: bool | None = None
    initial_silence_timeout_in_seconds: Annotated[int, Meta(ge=0, le=300)] | None = None
    speech_language: Text | None = None
    dtmf_options: DtmfOptions | None = None
    choices: Annotated[list[Choice], Meta(max_length=50)] | None = None
    speech_options: SpeechOptions | None = None


class RecognizeRequest(ActionRequest, kw_only=True):
    """`play_prompts` rules when both kinds of prompt are there."""

    recognize_input_type: Annotated[str, Meta(pattern=r"^(?i:dtmf|speech|speechOrDtmf|choices)\Z")]
    recognize_options: RecognizeOptions
    play_prompt: PlaySource | None = None
    play_prompts: Sources | None = None
    interrupt_call_media_operation: bool | None = None


class ContinuousDtmfRecognitionRequest(ActionRequest, kw_only=True):
    target_participant: Identifier


class SendDtmfTonesRequest(ActionRequest, kw_only=True):
    tones: Annotated[list[Tone], Meta(min_length=1, max_length=MAX_TONES)]
    target_participant: Identifier


class HoldRequest(ActionRequest, kw_only=True):
    target_participant: Identifier
    play_source_info: PlaySource | None = None


class UnholdRequest(ActionRequest, kw_only=True):
    target_participant: Identifier


class MuteParticipantsRequest(Dto, kw_only=True):
    target_participants: Annotated[list[Identifier], Meta(min_length=1, max_length=100)]
    operation_context: Context | None = None


# ------------------------------------------------------------------------------------------------------- answers


class ContextAnswer(Dto):
    """Body of the answers to mute and sendDtmfTones: `{}` without a context (recorded 4.3)."""

    operation_context: str | None = None


# -------------------------------------------------------------------------------------------------------- events


def failed_source(index: int | None) -> dict[str, Any]:
    """Return PlayFailed's or RecognizeFailed's own key; it is there only when a source failed (recorded 6.2)."""
    return {} if index is None else {"failedPlaySourceIndex": index}


def dtmf_result(keys: str) -> dict[str, Any]:
    """Return RecognizeCompleted's own keys when tones were collected (contract 3.2)."""
    return {"recognitionType": "dtmf", "dtmfResult": {"tones": words(keys)}}


def speech_result(speech: str, confidence: float) -> dict[str, Any]:
    """Return RecognizeCompleted's own keys when speech was recognised."""
    return {"recognitionType": "speech", "speechResult": {"speech": speech, "confidence": confidence}}


def choice_result(label: str, phrase: str | None, confidence: float | None) -> dict[str, Any]:
    """Return RecognizeCompleted's own keys when a choice was made; by a key, there is no phrase and no confidence."""
    said = {} if phrase is None else {"recognizedPhrase": phrase, "confidence": confidence}
    return {"recognitionType": "choices", "choiceResult": {"label": label, **said}}


def tone_received(key: str, sequence: int) -> dict[str, Any]:
    """Return ContinuousDtmfRecognitionToneReceived's own keys; the first `sequence` is 1 (ours)."""
    return {"sequenceId": sequence, "tone": WORDS[key]}
