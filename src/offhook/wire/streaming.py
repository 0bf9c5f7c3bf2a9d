"""Messages of the audio WebSocket, in both directions (contract 4).

The server dials the app. To it go AudioMetadata, AudioData and DtmfData, of one shape each; from it come audio
and StopAudio in every shape that the SDKs and samples make. Audio is mono s16le PCM. This module is on the path of
every frame: what can be made once is made once, and reading an ordinary message costs one pass of the JSON decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec
import pybase64

# ------------------------------------------------------------------------------------------ server: to the app

# An app asks for HeardData, and for its marks to come back, by this in the query of its transport URL.
HEARD_QUERY = "offhook-heard=1"

# What ends an AudioData message: TAIL[silent]. `silent` is always sent: samples discard a frame that lacks it.
TAIL = (b'","silent":false}}', b'","silent":true}}')


TIMESTAMP = 24  # octets of `timestamp`


class AudioEnvelope:
    """The unchanging bytes of a stream's AudioData messages of one party.

    A message is `b"".join((head, timestamp, middle, base64, TAIL[silent]))`. `raw_id` names the participant in an
    unmixed stream; in a mixed one it is None and has no key (a null breaks the JavaScript SDK). With a raw id of up to
    512 ASCII characters a 20 ms frame stays below 2048 bytes, the buffer of the published .NET receiver.
    """

    __slots__ = ("head", "middle")

    def __init__(self, raw_id: str | None) -> None:
        self.head = b'{"kind":"AudioData","audioData":{"timestamp":"'
        party = b"" if raw_id is None else b'"participantRawID":' + msgspec.json.encode(raw_id) + b","
        self.middle = b'",' + party + b'"data":"'


def timestamp(unix: float) -> bytes:
    """Return a Unix time in seconds as ISO 8601 with milliseconds and `Z`."""
    second, milliseconds = divmod(int(unix * 1000 + 0.001), 1000)  # a float of whole milliseconds may lie just below
    return b"%b.%03dZ" % (_second(second), milliseconds)


@lru_cache(maxsize=4)
def _second(unix: int) -> bytes:
    return datetime.fromtimestamp(unix, UTC).isoformat()[:19].encode()


def audio_metadata(subscription_id: str, rate: int) -> bytes:
    """Return the first message of every connection. `rate` in Hz; `length` is that of a 20 ms frame in bytes."""
    metadata = AudioMetadata(subscription_id, "PCM", rate, 1, rate // 50 * 2)
    return msgspec.json.encode({"kind": "AudioMetadata", "audioMetadata": metadata})


def dtmf_data(tone: str, timestamp: str | None = None, raw_id: str | None = None) -> bytes:
    """Return the message for one tone (a character of `0-9*#A-D`). The newer keys are left out unless given."""
    return msgspec.json.encode({"kind": "DtmfData", "dtmfData": DtmfData(tone, timestamp, raw_id)})


def heard_data(heard_ms: float, flushed_ms: float) -> bytes:
    """Return what answers StopAudio when the app has asked for it; see `HeardData`."""
    return msgspec.json.encode({"kind": "HeardData", "heardData": HeardData(heard_ms, flushed_ms)})


def mark_data(mark: str, status: Literal["Completed", "Cancelled"]) -> bytes:
    """Return what says that the audio before a mark was heard or discarded; see `MarkData`."""
    return msgspec.json.encode({"kind": "MarkData", "markData": MarkData(mark, status)})


# ---------------------------------------------------------------------------------------- server: from the app


class Audio(msgspec.Struct, frozen=True, gc=False):
    """Audio to be played: any number of bytes, at the stream's rate."""

    pcm: bytes


class StopAudio(msgspec.Struct, frozen=True, gc=False):
    """Discard what is queued and be silent."""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A mark in the audio (preview versions, contract 4.8)."""

    id: str


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A message that means nothing. `cause` is one of a few fixed strings, fit to count by."""

    cause: str


class _Payload(msgspec.Struct, gc=False):
    camel: str | None = msgspec.field(default=None, name="data")
    pascal: str | None = msgspec.field(default=None, name="Data")


class _Message(msgspec.Struct, gc=False):
    """Both usual spellings of an audio message at once; a sample in use even mixes them."""

    camel_kind: str | None = msgspec.field(default=None, name="kind")
    pascal_kind: str | None = msgspec.field(default=None, name="Kind")
    camel: _Payload | None = msgspec.field(default=None, name="audioData")
    pascal: _Payload | None = msgspec.field(default=None, name="AudioData")


_decode_usual = msgspec.json.Decoder(_Message).decode
_decode_any = msgspec.json.Decoder().decode
_UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_AUDIO_KINDS = frozenset({"AudioData", "audioData"})


def audio_in(message: bytes | memoryview | str) -> bytes | None:
    """Return the audio of an audio message of contract 4.4, with keys and `kind` in any casing; None: it is none, and
    `parse` says what it is."""
    try:
        usual = _decode_usual(message)
        payload = usual.camel or usual.pascal
        if payload is not None and (usual.camel_kind or usual.pascal_kind) in _AUDIO_KINDS:
            data = payload.camel if payload.camel is not None else payload.pascal
            if data is not None:
                return pybase64.b64decode(data, validate=True)
    except (msgspec.DecodeError, RecursionError, ValueError):  # the last: no UTF-8, or no base64
        pass
    read = _parse_unusual(message)
    return read.pcm if isinstance(read, Audio) else None


class AudioReader:
    """Reads one app's messages, as `audio_in` does; much faster, as an app puts all its audio into one envelope.

    What stands around the audio of the last message is remembered; between the same head and tail again, what is
    strictly base64 can be nothing else than audio.
    """

    __slots__ = ("head", "tail")
    LIMIT = 512  # bytes of head and tail that are remembered

    def __init__(self) -> None:
        self.head = self.tail = b"\0"  # nothing begins with it

    def read(self, message: bytes | memoryview) -> bytes | None:
        """Return the audio of `message`, or None: it is none."""
        text = bytes(message)
        if text.startswith(self.head) and text.endswith(self.tail):
            try:
                return pybase64.b64decode(text[len(self.head) : -len(self.tail)], validate=True)
            except ValueError:
                pass
        audio = audio_in(text)
        if audio:
            head, found, tail = text.partition(pybase64.b64encode(audio))
            if found and len(head) + len(tail) <= self.LIMIT:
                self.head, self.tail = head, tail
        return audio


def parse(message: bytes | memoryview | str) -> Audio | StopAudio | Mark | Ignored:
    """Return what the app means by a message: every shape of contract 4.4, with keys and `kind` in any casing.

    Only `kind` decides: JavaScript sends a `stopAudio` object with its audio. Never raises; the causes of `Ignored`
    are "not json", "not an object", "no kind", "unknown kind", "no audio data", "not base64" and "no mark id".
    """
    audio = audio_in(message)
    return _parse_unusual(message) if audio is None else Audio(audio)


def _parse_unusual(message: bytes | memoryview | str) -> Audio | StopAudio | Mark | Ignored:
    try:
        decoded = _decode_any(message)
    except _UNDECODABLE:
        return Ignored("not json")
    if not isinstance(decoded, dict):
        return Ignored("not an object")
    content = _lower_keys(decoded)
    kind = content.get("kind")
    if not isinstance(kind, str):
        return Ignored("no kind")
    match kind.lower():
        case "audiodata":
            data = _lower_keys(content.get("audiodata")).get("data")
            return _audio(data) if isinstance(data, str) else Ignored("no audio data")
        case "stopaudio":
            return StopAudio()
        case "markdata":
            mark = _lower_keys(content.get("markdata")).get("id")
            return Mark(mark) if isinstance(mark, str) else Ignored("no mark id")
        case _:
            return Ignored("unknown kind")


def _lower_keys(value: object) -> Mapping[str, object]:
    return {key.lower(): item for key, item in value.items()} if isinstance(value, dict) else {}


def _audio(data: str) -> Audio | Ignored:
    try:
        return Audio(pybase64.b64decode(data, validate=True))
    except ValueError:
        return Ignored("not base64")


# -------------------------------------------------------------------------------------- app: from the server


class AudioMetadata(msgspec.Struct, rename="camel", frozen=True):
    """The first message of a connection: `sample_rate` in Hz, `length` of a frame in bytes."""

    subscription_id: str
    encoding: str
    sample_rate: int
    channels: int
    length: int


class AudioData(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """20 ms of audio. `participant_raw_id` is None in a mixed stream; `silent`: digital silence only."""

    timestamp: str
    pcm: bytes = msgspec.field(name="data")
    participant_raw_id: str | None = msgspec.field(default=None, name="participantRawID")
    silent: bool = False


class DtmfData(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """One tone that a participant sent."""

    tone: str = msgspec.field(name="data")
    timestamp: str | None = None
    participant_raw_id: str | None = msgspec.field(default=None, name="participantRawID")


class TranscriptionMetadata(msgspec.Struct, rename="camel", frozen=True):
    """The first message of a transcription socket (contract 4.2)."""

    subscription_id: str = ""
    locale: str = ""
    call_connection_id: str = ""
    correlation_id: str = ""
    speech_recognition_model_endpoint_id: str = ""


class TranscribedWord(msgspec.Struct, rename="camel", frozen=True):
    """A word of a transcript; `offset` and `duration` in ticks of 100 ns."""

    text: str
    offset: int = 0
    duration: int = 0


class TranscriptionData(msgspec.Struct, rename="camel", frozen=True):
    """What a participant said; `offset` and `duration` in ticks of 100 ns, `result_status` is Final or Intermediate."""

    text: str
    format: str = ""
    confidence: float = 0.0
    offset: int = 0
    duration: int = 0
    words: tuple[TranscribedWord, ...] = ()
    participant_raw_id: str | None = msgspec.field(default=None, name="participantRawID")
    result_status: str = "Final"


class HeardData(msgspec.Struct, rename="camel", frozen=True):
    """The answer to StopAudio where the app has asked for it (Offhook only, `HEARD_QUERY`), in milliseconds of audio.

    `heard_ms`: of the app's audio, what has gone out to the caller since the socket opened; `flushed_ms`: what this
    StopAudio discarded.
    """

    heard_ms: float
    flushed_ms: float


class MarkData(msgspec.Struct, rename="camel", frozen=True):
    """A mark comes back: the audio before it was heard ("Completed") or discarded ("Cancelled") (contract 4.8)."""

    id: str
    status: str


class _ServerMessage(msgspec.Struct, rename="camel", gc=False):
    kind: str
    audio_data: AudioData | None = None
    audio_metadata: AudioMetadata | None = None
    dtmf_data: DtmfData | None = None


_decode_from_server = msgspec.json.Decoder(_ServerMessage).decode


def parse_from_server(message: bytes | memoryview | str) -> AudioMetadata | AudioData | DtmfData | Ignored:
    """Return what the server says. Never raises; the causes of `Ignored` are "not json", "malformed" (a key is missing
    or wrong, the audio is not base64) and "unknown kind" (transcripts and marks are read by nobody here)."""
    try:
        read = _decode_from_server(message)
    except msgspec.ValidationError:
        return Ignored("malformed")
    except _UNDECODABLE:
        return Ignored("not json")
    match read.kind:
        case "AudioData":
            return read.audio_data or Ignored("malformed")
        case "AudioMetadata":
            return read.audio_metadata or Ignored("malformed")
        case "DtmfData":
            return read.dtmf_data or Ignored("malformed")
        case _:
            return Ignored("unknown kind")


# ---------------------------------------------------------------------------------------- app: to the server

Dialect = Literal["python", "net", "js", "java"]

# What stands around the base64 of an audio message, and a whole stop message, as each SDK or its samples make them.
_AUDIO_OUT: dict[Dialect, tuple[bytes, bytes]] = {
    "python": (b'{"Kind":"AudioData","AudioData":{"Data":"', b'"},"StopAudio":null}'),
    "net": (
        b'{"Kind":"AudioData","AudioData":{"Data":"',
        b'","Timestamp":"0001-01-01T00:00:00+00:00","Participant":null,"IsSilent":false},"StopAudio":null}',
    ),
    "js": (b'{"kind":"audioData","audioData":{"data":"', b'","isSilent":false},"stopAudio":{}}'),
    "java": (
        b'{"kind":"AudioData","audioData":{"data":"',
        b'","timestamp":null,"participant":null,"isSilent":false},"stopAudio":null}',
    ),
}
_STOP_OUT: dict[Dialect, bytes] = {
    "python": b'{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}',
    "net": b'{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}',
    "js": b'{"kind":"stopAudio","stopAudio":{}}',
    "java": b'{"kind":"StopAudio","stopAudio":{}}',
}


def audio_data_out(pcm: bytes, dialect: Dialect = "python") -> bytes:
    """Return the message that has `pcm` played to the caller, as an app of that language sends it (contract 4.4)."""
    head, tail = _AUDIO_OUT[dialect]
    return b"".join((head, pybase64.b64encode(pcm), tail))


def stop_audio_out(dialect: Dialect = "python") -> bytes:
    """Return the message that stops what is being played, as an app of that language sends it."""
    return _STOP_OUT[dialect]


def mark_data_out(mark: str) -> bytes:
    """Return the message that marks the end of the audio sent so far; it comes back as `MarkData` (contract 4.8)."""
    return msgspec.json.encode({"Kind": "MarkData", "MarkData": {"Id": mark}})
