import base64
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.wire import streaming
from offhook.wire.streaming import (
    TAIL,
    Audio,
    AudioData,
    AudioEnvelope,
    AudioMetadata,
    Dialect,
    DtmfData,
    Ignored,
    Mark,
    StopAudio,
    parse,
    parse_from_server,
)

PCM = bytes(range(256)) * 2
DATA = base64.b64encode(PCM).decode()
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)


def frame(raw_id: str | None, pcm: bytes, silent: bool = False, at: float = 1731698172.925) -> bytes:
    envelope = AudioEnvelope(raw_id)
    head, middle = envelope.head, envelope.middle
    return b"".join((head, streaming.timestamp(at), middle, base64.b64encode(pcm), TAIL[silent]))


# ------------------------------------------------------------------------------------------------ to the app


def test_audio_metadata() -> None:
    assert streaming.audio_metadata("89e8cb59", 16_000) == (
        b'{"kind":"AudioMetadata","audioMetadata":{"subscriptionId":"89e8cb59","encoding":"PCM",'
        b'"sampleRate":16000,"channels":1,"length":640}}'
    )
    assert b'"sampleRate":24000,"channels":1,"length":960' in streaming.audio_metadata("x", 24_000)


def test_audio_data_of_a_mixed_stream_has_no_participant() -> None:
    assert frame(None, b"\1\2") == (
        b'{"kind":"AudioData","audioData":{"timestamp":"2024-11-15T19:16:12.925Z","data":"AQI=","silent":false}}'
    )


def test_audio_data_of_an_unmixed_stream() -> None:
    assert frame("8:acs:a_b", b"\0\0", silent=True) == (
        b'{"kind":"AudioData","audioData":{"timestamp":"2024-11-15T19:16:12.925Z",'
        b'"participantRawID":"8:acs:a_b","data":"AAA=","silent":true}}'
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_raw_id_leaves_the_message_json(raw_id: str) -> None:
    assert json.loads(frame(raw_id, PCM))["audioData"]["participantRawID"] == raw_id


@pytest.mark.parametrize("raw_id", [None, "8:acs:" + "x" * 73, "8:" + "x" * 510])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_frame_stays_below_2048_bytes(raw_id: str | None, rate: int) -> None:
    assert len(frame(raw_id, b"\xff" * (rate // 50 * 2))) < 2048


@pytest.mark.parametrize(
    ("unix", "text"),
    [
        (0.0, b"1970-01-01T00:00:00.000Z"),
        (1731698172.0, b"2024-11-15T19:16:12.000Z"),
        (1731698172.9999, b"2024-11-15T19:16:12.999Z"),
    ],
)
def test_a_timestamp_always_has_milliseconds(unix: float, text: bytes) -> None:
    assert streaming.timestamp(unix) == text


def test_dtmf_data_is_minimal_unless_more_is_given() -> None:
    assert streaming.dtmf_data("3") == b'{"kind":"DtmfData","dtmfData":{"data":"3"}}'
    assert streaming.dtmf_data("#", "2024-11-15T19:16:12.925Z", "4:+15550100") == (
        b'{"kind":"DtmfData","dtmfData":{"data":"#","timestamp":"2024-11-15T19:16:12.925Z",'
        b'"participantRawID":"4:+15550100"}}'
    )


# ---------------------------------------------------------------------------------------------- from the app

# Every shape of contract 4.4, word for word.
AUDIO = {
    ".NET": '{"Kind":"AudioData","AudioData":{"Data":"%s","Timestamp":"0001-01-01T00:00:00+00:00",'
    '"Participant":null,"IsSilent":false},"StopAudio":null}',
    ".NET, older": '{"Kind":"AudioData","AudioData":{"Data":"%s","Timestamp":"0001-01-01T00:00:00",'
    '"Participant":null,"IsSilent":false},"StopAudio":null}',
    "JavaScript": '{"kind":"audioData","audioData":{"data":"%s","isSilent":false},"stopAudio":{}}',
    "Java": '{"kind":"AudioData","audioData":{"data":"%s","timestamp":null,"participant":null,"isSilent":false},'
    '"stopAudio":null}',
    "Python": '{"Kind":"AudioData","AudioData":{"Data":"%s"},"StopAudio":null}',
    "mixed casing": '{"kind":"AudioData","AudioData":{"data":"%s"},"StopAudio":null}',
    "bare": '{"kind":"AudioData","audioData":{"data":"%s"}}',
    "shouted": '{"KIND":"AUDIODATA","AUDIODATA":{"DATA":"%s"}}',
    "kind last, spaced": '{ "stopAudio" : null ,\n "audioData" : { "data" : "%s" } , "kind" : "AudioData" }',
    "null twin": '{"kind":"AudioData","audioData":null,"AudioData":{"data":null,"Data":"%s"}}',
}
STOP = {
    ".NET, Python": '{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}',
    "JavaScript": '{"kind":"stopAudio","stopAudio":{}}',
    "Java": '{"kind":"StopAudio","stopAudio":{}}',
    "accelerator": '{"Kind":"StopAudio","StopAudio":{}}',
    "bare": '{"kind":"StopAudio"}',
    "with stale audio": '{"kind":"StopAudio","audioData":{"data":"AAAA"},"stopAudio":null}',
    "shouted": '{"KIND":"STOPAUDIO"}',
}


@pytest.mark.parametrize("shape", AUDIO.values(), ids=AUDIO)
def test_audio_of_every_sdk_and_sample_is_read(shape: str) -> None:
    message = shape % DATA
    assert parse(message) == parse(message.encode()) == parse(memoryview(message.encode())) == Audio(PCM)


@pytest.mark.parametrize("shape", STOP.values(), ids=STOP)
def test_a_stop_of_every_sdk_and_sample_is_read(shape: str) -> None:
    assert parse(shape) == parse(memoryview(shape.encode())) == StopAudio()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_dialects_say_is_understood(dialect: Dialect) -> None:
    assert parse(streaming.audio_data_out(PCM, dialect)) == Audio(PCM)
    assert parse(streaming.stop_audio_out(dialect)) == StopAudio()


def test_the_dialects_are_the_recorded_shapes() -> None:
    names: dict[Dialect, str] = {"python": "Python", "net": ".NET", "js": "JavaScript", "java": "Java"}
    for dialect, name in names.items():
        assert streaming.audio_data_out(PCM, dialect).decode() == AUDIO[name] % DATA
    stops: dict[Dialect, str] = {"python": ".NET, Python", "net": ".NET, Python", "js": "JavaScript", "java": "Java"}
    for dialect, name in stops.items():
        assert streaming.stop_audio_out(dialect).decode() == STOP[name]


def test_escapes_in_base64_are_read() -> None:
    # System.Text.Json writes "+" as \u002B and may write "/" as it is or escaped.
    assert parse(r'{"Kind":"AudioData","AudioData":{"Data":"\u002B\u002B\/\/"}}') == Audio(b"\xfb\xef\xff")


@given(st.binary(max_size=5000), st.sampled_from(DIALECTS))
def test_audio_of_any_size_survives(pcm: bytes, dialect: Dialect) -> None:
    assert parse(streaming.audio_data_out(pcm, dialect)) == Audio(pcm)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (b"", "not json"),
        (b"hello", "not json"),
        (b'{"kind":"AudioData"', "not json"),
        (b"\xff\xfe", "not json"),
        (b'{"kind":"\xff"}', "not json"),
        ('{"kind":"\ud800"}', "not json"),
        (b"[" * 100_000, "not json"),
        (b'{"x":' + b"[" * 100_000, "not json"),
        # Java 1.4.0-beta.2 left the base64 unquoted
        (b'{"kind":"AudioData","audioData":{"data":AAAA}}', "not json"),
        (b"[]", "not an object"),
        (b'"AudioData"', "not an object"),
        (b"null", "not an object"),
        (b"{}", "no kind"),
        (b'{"kind":null}', "no kind"),
        (b'{"kind":5,"audioData":{"data":"AAAA"}}', "no kind"),
        (b'{"audioData":{"data":"AAAA"}}', "no kind"),
        (b'{"stopAudio":{}}', "no kind"),
        (b'{"kind":""}', "unknown kind"),
        (b'{"kind":"Video","audioData":{"data":"AAAA"}}', "unknown kind"),
        (b'{"kind":"AudioMetadata","stopAudio":{}}', "unknown kind"),
        (b'{"kind":"AudioData"}', "no audio data"),
        (b'{"kind":"AudioData","audioData":null}', "no audio data"),
        (b'{"kind":"AudioData","audioData":{}}', "no audio data"),
        (b'{"kind":"AudioData","audioData":{"data":null}}', "no audio data"),
        (b'{"kind":"AudioData","audioData":{"data":[1,2]}}', "no audio data"),
        (b'{"kind":"AudioData","audioData":"AAAA"}', "no audio data"),
        (b'{"KIND":"AUDIODATA","AUDIODATA":[]}', "no audio data"),
        (b'{"kind":"AudioData","audioData":{"data":"AAA"}}', "not base64"),
        (b'{"kind":"AudioData","audioData":{"data":"A-_A"}}', "not base64"),
        (b'{"kind":"AudioData","audioData":{"data":"AAAA\\n"}}', "not base64"),
        (b'{"kind":"AudioData","audioData":{"data":"AA=AAAA="}}', "not base64"),
        ('{"kind":"AudioData","audioData":{"data":"AAAé"}}', "not base64"),
        (b'{"KIND":"AudioData","audiodata":{"DATA":"AAA"}}', "not base64"),
        (b'{"kind":"MarkData","markData":{}}', "no mark id"),
    ],
)
def test_what_means_nothing_is_ignored_with_its_cause(message: bytes | str, cause: str) -> None:
    assert parse(message) == Ignored(cause)


def test_a_mark() -> None:
    assert parse('{"Kind":"MarkData","MarkData":{"Id":"m1","Status":"Completed"}}') == Mark("m1")


@given(st.binary() | st.text(st.characters(exclude_categories=())))
def test_parsing_never_raises(message: bytes | str) -> None:
    parse(message)
    parse_from_server(message)


SCALARS: st.SearchStrategy[Any] = st.none() | st.integers() | st.sampled_from([DATA, "AAA", "", "AudioData"])
KEY = st.sampled_from(["kind", "Kind", "KIND", "audioData", "AudioData", "audiodata", "stopAudio", "StopAudio", "x"])
PAYLOAD = st.dictionaries(st.sampled_from(["data", "Data", "DATA", "isSilent"]), SCALARS, max_size=2)
KINDS = st.sampled_from(["AudioData", "audioData", "audiodata", "StopAudio", "stopAudio", "Other", None, 5])


@given(st.dictionaries(KEY, PAYLOAD | SCALARS, max_size=4), st.sampled_from(["kind", "Kind", "KIND"]), KINDS)
def test_near_misses_are_read_by_kind_alone(content: dict[str, Any], key: str, kind: object) -> None:
    content = {name: value for name, value in content.items() if name.lower() != "kind"} | {key: kind}
    read = parse(json.dumps(content))
    word = kind.lower() if isinstance(kind, str) else None
    if word == "audiodata":
        assert isinstance(read, Audio) or read in (Ignored("no audio data"), Ignored("not base64"))
    else:
        assert read == {"stopaudio": StopAudio(), "other": Ignored("unknown kind"), None: Ignored("no kind")}[word]


# ------------------------------------------------------------------------------------- the app reads the server


@pytest.mark.parametrize("raw_id", [None, "8:acs:a_b"])
@pytest.mark.parametrize("silent", [False, True])
def test_an_app_reads_our_audio(raw_id: str | None, silent: bool) -> None:
    message = frame(raw_id, PCM, silent)
    for form in (message, memoryview(message), message.decode()):
        assert parse_from_server(form) == AudioData("2024-11-15T19:16:12.925Z", PCM, raw_id, silent)


def test_an_app_reads_our_metadata_and_tones() -> None:
    metadata = AudioMetadata("s", "PCM", 24_000, 1, 960)
    assert parse_from_server(streaming.audio_metadata("s", 24_000)) == metadata
    assert parse_from_server(streaming.dtmf_data("*")) == DtmfData("*", None, None)
    assert parse_from_server(streaming.dtmf_data("*", "t", "4:+1")) == DtmfData("*", "t", "4:+1")


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (b"", "not json"),
        (b"{", "not json"),
        (b'{"kind":"\xff"}', "not json"),
        (b'{"x":' + b"[" * 100_000, "not json"),
        (b"[]", "malformed"),
        (b"{}", "malformed"),
        (b'{"kind":"AudioData"}', "malformed"),
        (b'{"kind":"AudioMetadata","audioData":{"timestamp":"t","data":""}}', "malformed"),
        (b'{"kind":"DtmfData"}', "malformed"),
        (b'{"kind":"AudioData","audioData":{"timestamp":"t","data":"AAA"}}', "malformed"),
        (b'{"kind":"AudioData","audioData":{"data":"AAAA"}}', "malformed"),
        (b'{"kind":"TranscriptionData","transcriptionData":{"text":"hello."}}', "unknown kind"),
    ],
)
def test_an_app_ignores_the_rest(message: bytes, cause: str) -> None:
    assert parse_from_server(message) == Ignored(cause)


@given(st.data())
def test_a_reader_that_remembers_reads_what_one_without_memory_reads(data: st.DataObject) -> None:
    audio = st.binary(max_size=12).map(lambda pcm: base64.b64encode(pcm).decode())
    odd = st.sampled_from(["AAA", "AA==", "A\\u0041A=", 'AAAA","silent":true,"x":"', "", "====", "AA A"])
    forms = [
        '{"kind":"AudioData","audioData":{"data":"%s"}}',
        '{"Kind":"AudioData","AudioData":{"Data":"%s"},"StopAudio":null}',
        '{"kind":"audioData","audioData":{"data":"%s","isSilent":false},"stopAudio":{}}',
        '{"kind":"StopAudio","audioData":{"data":"%s"}}',
        "%s",
    ]
    reader = streaming.AudioReader()
    for _ in range(6):
        message = (data.draw(st.sampled_from(forms)) % data.draw(audio | odd)).encode()
        assert reader.read(memoryview(message)) == streaming.audio_in(message)


def test_a_reader_remembers_no_envelope_without_bound() -> None:
    reader = streaming.AudioReader()
    message = b'{"kind":"AudioData","audioData":{"data":"AAAA","note":"%b"}}' % (b"x" * streaming.AudioReader.LIMIT)
    assert reader.read(message) == bytes(3)
    assert len(reader.head) + len(reader.tail) < streaming.AudioReader.LIMIT
