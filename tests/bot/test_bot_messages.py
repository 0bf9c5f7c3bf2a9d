"""StreamingData.parse and OutStreamingData: every casing in, golden bytes out."""

import base64
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.bot import (
    AudioData,
    AudioMetadata,
    Dialect,
    DtmfData,
    HeardData,
    Ignored,
    MarkData,
    Message,
    OutStreamingData,
    StreamingData,
    TranscribedWord,
    TranscriptionData,
    TranscriptionMetadata,
)

PCM = bytes(range(16))
B64 = base64.b64encode(PCM).decode()

# Contract 4.2, word for word, and what each means.
SENT: list[tuple[str, Message]] = [
    (
        '{"kind":"AudioMetadata","audioMetadata":{"subscriptionId":"89e8","encoding":"PCM","sampleRate":16000,'
        '"channels":1,"length":640}}',
        AudioMetadata("89e8", "PCM", 16_000, 1, 640),
    ),
    (
        '{"kind":"AudioData","audioData":{"timestamp":"2024-11-15T19:16:12.925Z","participantRawID":"8:acs:a_b",'
        f'"data":"{B64}","silent":false}}}}',
        AudioData("2024-11-15T19:16:12.925Z", PCM, "8:acs:a_b", False),
    ),
    (
        f'{{"kind":"AudioData","audioData":{{"timestamp":"2024-11-15T19:16:12.925Z","data":"{B64}","silent":true}}}}',
        AudioData("2024-11-15T19:16:12.925Z", PCM, None, True),
    ),
    ('{"kind":"DtmfData","dtmfData":{"data":"3"}}', DtmfData("3")),
    (
        '{"kind":"DtmfData","dtmfData":{"data":"#","timestamp":"2024-11-15T19:16:12.925Z","participantRawID":"4:+1"}}',
        DtmfData("#", "2024-11-15T19:16:12.925Z", "4:+1"),
    ),
    (
        '{"kind":"TranscriptionMetadata","transcriptionMetadata":{"subscriptionId":"s","locale":"en-us",'
        '"callConnectionId":"c","correlationId":"r","speechRecognitionModelEndpointId":""}}',
        TranscriptionMetadata("s", "en-us", "c", "r", ""),
    ),
    (
        '{"kind":"TranscriptionData","transcriptionData":{"text":"hello.","format":"display","confidence":0.83,'
        '"offset":2516998782481234400,"duration":14700000,"words":[{"text":"hello","offset":2516998782481234400,'
        '"duration":4500000}],"participantRawID":"4:+1555","resultStatus":"Final"}}',
        TranscriptionData(
            "hello.",
            "display",
            0.83,
            2516998782481234400,
            14700000,
            (TranscribedWord("hello", 2516998782481234400, 4500000),),
            "4:+1555",
            "Final",
        ),
    ),
    ('{"kind":"MarkData","markData":{"id":"m1","status":"Completed"}}', MarkData("m1", "Completed")),
    ('{"kind":"HeardData","heardData":{"heardMs":1234.5,"flushedMs":80}}', HeardData(1234.5, 80.0)),
]


def cased(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {change(key): cased(item, change) for key, item in value.items()}
    return [cased(item, change) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("text", "meaning"), SENT)
def test_every_kind_is_read_from_text_and_bytes_in_any_casing(text: str, meaning: Message) -> None:
    data = text.encode()
    for form in (text, data, bytearray(data), memoryview(data)):
        assert StreamingData.parse(form) == meaning
    for change in (str.lower, str.upper, str.title, lambda key: key[0].upper() + key[1:]):
        other = cased(json.loads(text), change)
        name = next(key for key in other if key.lower() == "kind")
        other[name] = change(other[name])
        assert StreamingData.parse(json.dumps(other)) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        # silence may come without samples (contract 4.2), and a null is no participant
        ('{"kind":"AudioData","audioData":{"timestamp":"t","silent":true}}', AudioData("t", b"", None, True)),
        ('{"kind":"AudioData","audioData":{"data":null,"silent":true}}', AudioData("", b"", None, True)),
        (
            f'{{"kind":"AudioData","audioData":{{"data":"{B64}","participantRawID":null,"silent":null}}}}',
            AudioData("", PCM),
        ),
        (
            '{"kind":"AudioMetadata","audioMetadata":{"sampleRate":24000}}',
            AudioMetadata("", "PCM", 24_000, 1, 960),
        ),
        # an intermediate result without words, and the draft's name of its status
        (
            '{"kind":"TranscriptionData","transcriptionData":{"text":"he","words":null,"resultState":"Intermediate"}}',
            TranscriptionData("he", result_status="Intermediate"),
        ),
    ],
)
def test_what_may_be_missing_may_be_missing(text: str, meaning: Message) -> None:
    assert StreamingData.parse(text) == meaning


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("", "not json"),
        (b"\xff", "not json"),
        ("\ud800", "not json"),
        ("[" * 100_000, "not json"),
        ("[]", "not an object"),
        ("{}", "no kind"),
        ('{"kind":7}', "no kind"),
        ('{"kind":"VideoData","videoData":{}}', "unknown kind"),
        ('{"kind":"AudioData"}', "malformed"),
        ('{"kind":"AudioData","audioData":{"timestamp":"t"}}', "malformed"),
        ('{"kind":"AudioData","audioData":{"timestamp":"t","data":"A"}}', "malformed"),
        ('{"kind":"AudioMetadata","audioMetadata":{"sampleRate":"fast"}}', "malformed"),
        ('{"kind":"TranscriptionData","transcriptionData":{}}', "malformed"),
    ],
)
def test_what_means_nothing_is_ignored_with_its_cause(message: str | bytes, cause: str) -> None:
    assert StreamingData.parse(message) == Ignored(cause)


SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(B64)
KEYS = ["data", "timestamp", "silent", "sampleRate", "length", "words", "text", "heardMs", "flushedMs", "id", "status"]
PAYLOAD = st.dictionaries(st.sampled_from(KEYS), SCALAR | st.lists(SCALAR | st.dictionaries(st.text(), SCALAR)))
KINDS = ["audioData", "audioMetadata", "dtmfData", "transcriptionData", "heardData", "markData"]


@given(st.sampled_from(KINDS), PAYLOAD)
def test_parsing_near_misses_never_raises(kind: str, payload: dict[str, Any]) -> None:
    StreamingData.parse(json.dumps({"kind": kind, kind: payload}))


@given(st.binary() | st.text(st.characters(exclude_categories=())))
def test_parsing_anything_never_raises(message: bytes | str) -> None:
    StreamingData.parse(message)


# Contract 4.4: what the builders of the SDKs, and of the Python samples, emit.
AUDIO: dict[Dialect, str] = {
    "python": '{"Kind":"AudioData","AudioData":{"Data":"AQID"},"StopAudio":null}',
    "net": '{"Kind":"AudioData","AudioData":{"Data":"AQID","Timestamp":"0001-01-01T00:00:00+00:00",'
    '"Participant":null,"IsSilent":false},"StopAudio":null}',
    "js": '{"kind":"audioData","audioData":{"data":"AQID","isSilent":false},"stopAudio":{}}',
    "java": '{"kind":"AudioData","audioData":{"data":"AQID","timestamp":null,"participant":null,"isSilent":false},'
    '"stopAudio":null}',
}
STOP: dict[Dialect, str] = {
    "python": '{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}',
    "net": '{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}',
    "js": '{"kind":"stopAudio","stopAudio":{}}',
    "java": '{"kind":"StopAudio","stopAudio":{}}',
}


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_golden_messages(dialect: Dialect) -> None:
    assert OutStreamingData.audio(b"\1\2\3", dialect) == AUDIO[dialect]
    assert OutStreamingData.stop_audio(dialect) == STOP[dialect]


def test_the_dialect_is_python_unless_said_and_a_mark_has_one_form() -> None:
    assert OutStreamingData.audio(b"\1\2\3") == AUDIO["python"]
    assert OutStreamingData.stop_audio() == STOP["python"]
    assert OutStreamingData.mark("m1") == '{"Kind":"MarkData","MarkData":{"Id":"m1"}}'
