"""What is read from and written to the audio WebSocket, under the names of the other languages' SDKs.

`StreamingData.parse` and `OutStreamingData` are all that an app needs which keeps its own WebSocket loop; the rest of
`offhook.bot` is built on the same values.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from offhook.wire.streaming import (
    AudioData,
    AudioMetadata,
    Dialect,
    DtmfData,
    HeardData,
    Ignored,
    MarkData,
    TranscribedWord,
    TranscriptionData,
    TranscriptionMetadata,
    audio_data_out,
    mark_data_out,
    parse_from_server,
    stop_audio_out,
)

Message = AudioMetadata | AudioData | DtmfData | TranscriptionMetadata | TranscriptionData | HeardData | MarkData

_KINDS: dict[str, type[Message]] = {kind.__name__.lower(): kind for kind in Message.__args__}
# For each type its keys in lower case, and as they are spelled; drafts of the transcript had another name for one.
_KEYS: dict[type[msgspec.Struct], dict[str, str]] = {
    kind: {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(kind)}
    for kind in (*_KINDS.values(), TranscribedWord)
}
_KEYS[TranscriptionData]["resultstate"] = "resultStatus"
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


class StreamingData:
    """Reads what the service sends: ACS and Offhook alike."""

    @staticmethod
    def parse(message: bytes | bytearray | memoryview | str) -> Message | Ignored:
        """Return one WebSocket message (text, or its UTF-8 bytes) as a typed value; never raise.

        Keys and `kind` are taken in any casing, null like an absent key, and `timestamp` may be missing, as may the
        `data` of a silent frame (contract 4.2). Whatever else comes is an `Ignored` with a `cause` fit to count by:
        "not json", "not an object", "no kind", "unknown kind" or "malformed". A loop passes over it, since a service
        may add kinds at any time:

            match StreamingData.parse(text):
                case AudioData(pcm=pcm):
                    ...
        """
        read = parse_from_server(memoryview(message) if isinstance(message, bytearray) else message)
        return _parse_unusual(message) if isinstance(read, Ignored) else read


class OutStreamingData:
    """Makes what the app sends: text messages, as an app in the language of `dialect` writes them (contract 4.4).

    The services read every dialect; which one is sent matters only to whoever compares bytes.
    """

    @staticmethod
    def audio(pcm: bytes, dialect: Dialect = "python") -> str:
        """Return the message that plays `pcm`: mono, 16-bit little-endian, at the stream's rate, of any length that
        keeps the message below 1 MiB (16 s at 24 kHz)."""
        return audio_data_out(pcm, dialect).decode()

    @staticmethod
    def stop_audio(dialect: Dialect = "python") -> str:
        """Return the message that discards what was sent and has not been played."""
        return stop_audio_out(dialect).decode()

    @staticmethod
    def mark(mark: str) -> str:
        """Return the message that marks the end of the audio sent so far; it comes back as `MarkData`.

        Offhook answers it where asked to by the transport URL, and betas of ACS (contract 4.8); others ignore it.
        """
        return mark_data_out(mark).decode()


def _parse_unusual(message: bytes | bytearray | memoryview | str) -> Message | Ignored:
    try:
        decoded = msgspec.json.decode(message)
    except _UNREADABLE:
        return Ignored("not json")
    if not isinstance(decoded, dict):
        return Ignored("not an object")
    content = {key.lower(): value for key, value in decoded.items()}
    name = content.get("kind")
    if not isinstance(name, str):
        return Ignored("no kind")
    kind = _KINDS.get(name.lower())
    if kind is None:
        return Ignored("unknown kind")
    payload = content.get(name.lower())
    if not isinstance(payload, dict):
        return Ignored("malformed")
    try:
        return msgspec.convert(_complete(kind, _spelled(kind, payload)), kind, strict=False)
    except (msgspec.ValidationError, OverflowError):
        return Ignored("malformed")


def _spelled(kind: type[msgspec.Struct], payload: Mapping[str, object]) -> dict[str, object]:
    """The payload's keys as its type spells them; nulls and unknown keys are left out."""
    keys = _KEYS[kind]
    spelled = {keys[key.lower()]: item for key, item in payload.items() if key.lower() in keys and item is not None}
    words = spelled.get("words")
    if isinstance(words, list):
        spelled["words"] = [_spelled(TranscribedWord, word) for word in words if isinstance(word, dict)]
    return spelled


def _complete(kind: type[Message], payload: dict[str, object]) -> dict[str, object]:
    """The payload with what may be missing."""
    if kind is AudioData:
        silence = {"data": ""} if payload.get("silent") is True else {}
        return {"timestamp": "", **silence, **payload}
    if kind is AudioMetadata:
        rate = payload.get("sampleRate")
        frame = rate // 50 * 2 if isinstance(rate, int) else 0
        return {"subscriptionId": "", "encoding": "PCM", "channels": 1, "length": frame, **payload}
    return payload
