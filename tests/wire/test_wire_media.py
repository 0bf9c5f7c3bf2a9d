import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.wire import media, rest

WHO = {"rawId": "4:+15550100"}
FILE = {"kind": "file", "file": {"uri": "https://x/y.wav"}}


def decode(type: type[rest.T], body: dict[str, Any]) -> rest.T:
    return rest.decode(type, json.dumps(body).encode())


@given(st.text(alphabet="".join(media.WORDS), max_size=20))
def test_keys_and_words_are_each_others_inverse(pressed: str) -> None:
    assert media.keys(media.words(pressed)) == pressed


def test_tones_come_in_any_casing() -> None:
    assert media.keys(["One", "POUND", "asterisk", "A"]) == "1#*A"


def test_play_as_python_sends_it() -> None:
    sent = {
        "playSources": [FILE],
        "playTo": [],
        "interruptCallMediaOperation": False,
        "playOptions": {"loop": False},
        "operationCallbackUri": None,
    }
    wanted = decode(media.PlayRequest, sent)
    assert wanted.play_sources[0].file == media.FileSource("https://x/y.wav")
    assert wanted.play_options == media.PlayOptions(loop=False)


RECOGNIZE: dict[str, Any] = {"recognizeInputType": "dtmf", "recognizeOptions": {"targetParticipant": WHO}}


CHOICE = {"label": "Yes", "phrases": ["yes"], "tone": "one"}
WRONG: list[tuple[type[rest.Dto], dict[str, Any], str]] = [
    (media.PlayRequest, {}, "playSources"),
    (media.PlayRequest, {"playSources": []}, "playSources"),
    (media.PlayRequest, {"playSources": [FILE] * 11}, "playSources"),
    (media.PlayRequest, {"playSources": [{"kind": "video"}]}, "playSources[0].kind"),
    (media.PlayRequest, {"playSources": [{"file": FILE["file"]}]}, "playSources[0].kind"),
    (media.PlayRequest, {"playSources": [{"kind": "file", "file": {}}]}, "playSources[0].file.uri"),
    (media.PlayRequest, {"playSources": [{"kind": "text", "text": {"text": "x" * 4_001}}]}, "playSources[0].text.text"),
    (media.PlayRequest, {"playSources": [{"kind": "ssml", "ssml": {}}]}, "playSources[0].ssml.ssmlText"),
    (media.PlayRequest, {"playSources": [FILE], "playOptions": {}}, "playOptions.loop"),
    (media.RecognizeRequest, {}, "recognizeInputType"),
    (media.RecognizeRequest, {"recognizeInputType": "dtmf"}, "recognizeOptions"),
    (media.RecognizeRequest, {**RECOGNIZE, "recognizeInputType": "smell"}, "recognizeInputType"),
    (media.RecognizeRequest, {**RECOGNIZE, "recognizeOptions": {}}, "recognizeOptions.targetParticipant"),
    (media.ContinuousDtmfRecognitionRequest, {}, "targetParticipant"),
    (media.SendDtmfTonesRequest, {"targetParticipant": WHO}, "tones"),
    (media.SendDtmfTonesRequest, {"targetParticipant": WHO, "tones": []}, "tones"),
    (media.SendDtmfTonesRequest, {"targetParticipant": WHO, "tones": ["one"] * 19}, "tones"),
    (media.SendDtmfTonesRequest, {"tones": ["one"]}, "targetParticipant"),
    (media.HoldRequest, {}, "targetParticipant"),
    (media.UnholdRequest, {}, "targetParticipant"),
    (media.MuteParticipantsRequest, {}, "targetParticipants"),
    (media.MuteParticipantsRequest, {"targetParticipants": []}, "targetParticipants"),
]
WRONG_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"initialSilenceTimeoutInSeconds": 301}, "initialSilenceTimeoutInSeconds"),
    ({"initialSilenceTimeoutInSeconds": "5"}, "initialSilenceTimeoutInSeconds"),
    ({"dtmfOptions": {"interToneTimeoutInSeconds": 0}}, "dtmfOptions.interToneTimeoutInSeconds"),
    ({"dtmfOptions": {"maxTonesToCollect": 0}}, "dtmfOptions.maxTonesToCollect"),
    ({"dtmfOptions": {"stopTones": ["eleven"]}}, "dtmfOptions.stopTones[0]"),
    ({"choices": [CHOICE] * 51}, "choices"),
    ({"choices": [{**CHOICE, "tone": "1"}]}, "choices[0].tone"),
    ({"choices": [{"label": "x"}]}, "choices[0].phrases"),
    ({"speechOptions": {"endSilenceTimeoutInMs": 99}}, "speechOptions.endSilenceTimeoutInMs"),
]


@pytest.mark.parametrize(("type", "body", "field"), WRONG)
def test_what_is_wrong_is_named(type: type[rest.Dto], body: dict[str, Any], field: str) -> None:
    with pytest.raises(rest.InvalidBody) as refused:
        decode(type, body)
    assert re.sub(r"\[\.\.\.\]", "[0]", refused.value.field) == field


@pytest.mark.parametrize(("wrong", "field"), WRONG_OPTIONS)
def test_what_is_wrong_with_recognize_options_is_named(wrong: dict[str, Any], field: str) -> None:
    body = {"recognizeInputType": "choices", "recognizeOptions": {"targetParticipant": WHO, **wrong}}
    test_what_is_wrong_is_named(media.RecognizeRequest, body, f"recognizeOptions.{field}")


@pytest.mark.parametrize("input_type", ["dtmf", "Speech", "SPEECHORDTMF", "choices"])
def test_an_input_type_in_any_casing(input_type: str) -> None:
    wanted = decode(media.RecognizeRequest, {**RECOGNIZE, "recognizeInputType": input_type})
    assert wanted.recognize_input_type == input_type


def test_results() -> None:
    assert media.failed_source(None) == {}
    assert media.failed_source(1) == {"failedPlaySourceIndex": 1}
    assert media.dtmf_result("1#") == {"recognitionType": "dtmf", "dtmfResult": {"tones": ["one", "pound"]}}
    assert media.choice_result("Yes", None, None) == {"recognitionType": "choices", "choiceResult": {"label": "Yes"}}
    assert media.choice_result("Yes", "yes", 0.5)["choiceResult"]["recognizedPhrase"] == "yes"
    assert media.speech_result("hello", 0.5)["speechResult"] == {"speech": "hello", "confidence": 0.5}
    assert media.tone_received("*", 1) == {"sequenceId": 1, "tone": "asterisk"}
