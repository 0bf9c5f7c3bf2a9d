import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.wire import rest

USER = "8:acs:2dee53b4-368b-45b4-ab52-8493fb117652_00000005-14a2-493b-8a72-5a3a0d000081"
NUMBER = "4:+15550100"

ANSWER = {"incomingCallContext": "ctx", "callbackUri": "https://app.example/cb"}
# as sent by the Python SDK 1.6.0 (contract 2.4)
STREAMING = {
    "transportType": "websocket",
    "audioChannelType": "mixed",
    "transportUrl": "wss://x/y",
    "contentType": "audio",
    "startMediaStreaming": True,
    "enableBidirectional": True,
    "audioFormat": "pcm24KMono",
    "enableDtmfTones": True,
}


def answer(**changes: object) -> rest.AnswerCallRequest:
    return rest.decode(rest.AnswerCallRequest, json.dumps(ANSWER | changes).encode())


def streaming(**changes: object) -> rest.MediaStreamingOptions:
    options = answer(mediaStreamingOptions=STREAMING | changes).media_streaming_options
    assert options is not None
    return options


# ------------------------------------------------------------------------------------------------- identifiers

IDENTIFIERS: list[tuple[str, str, dict[str, Any]]] = [
    (USER, "communicationUser", {"id": USER}),
    ("8:spool:x", "communicationUser", {"id": "8:spool:x"}),
    ("8:dod-acs:a_b", "communicationUser", {"id": "8:dod-acs:a_b"}),
    (NUMBER, "phoneNumber", {"value": "+15550100"}),
    ("4:anonymous", "phoneNumber", {"value": "anonymous", "isAnonymous": True}),
    ("8:orgid:u", "microsoftTeamsUser", {"userId": "u", "cloud": "public"}),
    ("8:gcch:u", "microsoftTeamsUser", {"userId": "u", "cloud": "gcch"}),
    ("8:teamsvisitor:u", "microsoftTeamsUser", {"userId": "u", "isAnonymous": True}),
    ("28:orgid:a", "microsoftTeamsApp", {"appId": "a", "cloud": "public"}),
    ("28:dod:a", "microsoftTeamsApp", {"appId": "a", "cloud": "dod"}),
    (
        "8:acs:r_t_u",
        "teamsExtensionUser",
        {"userId": "u", "tenantId": "t", "resourceId": "r", "cloud": "public"},
    ),
]


@pytest.mark.parametrize(("raw_id", "kind", "own"), IDENTIFIERS)
def test_the_full_form_of_an_identifier(raw_id: str, kind: str, own: dict[str, Any]) -> None:
    written = json.loads(rest.encode(rest.identifier(raw_id)))
    assert list(written.items()) == [("rawId", raw_id), ("kind", kind), (kind, own)]


@pytest.mark.parametrize("raw_id", ["48:x", "8:other:x", "x", "8:acs", ""])
def test_an_unknown_identifier_has_no_sub_object(raw_id: str) -> None:
    assert json.loads(rest.encode(rest.identifier(raw_id))) == {"rawId": raw_id, "kind": "unknown"}


@pytest.mark.parametrize(("raw_id", "kind", "own"), IDENTIFIERS)
def test_a_raw_id_is_inferred_from_the_sub_object(raw_id: str, kind: str, own: dict[str, Any]) -> None:
    for sent in ({"rawId": raw_id}, {"rawId": raw_id, kind: own}, {kind: own}, {"kind": kind, kind: own}):
        assert rest.raw_id(msgspec.convert(sent, rest.Identifier)) == raw_id


def test_an_identifier_as_javascript_sends_it() -> None:
    sent = {"kind": "phoneNumber", "phoneNumber": {"value": "+15550100", "isAnonymous": False}}
    assert rest.raw_id(msgspec.convert(sent, rest.Identifier)) == NUMBER


def test_an_identifier_that_names_nobody_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither a rawId nor"):
        rest.raw_id(rest.Identifier(kind="communicationUser"))
    with pytest.raises(ValueError, match="cloud 'moon' is not known"):
        rest.raw_id(rest.Identifier(microsoft_teams_app=rest.MicrosoftTeamsApp("a", "moon")))


# ---------------------------------------------------------------------------------------------------- requests


def test_a_request_of_the_python_sdk() -> None:
    request = answer(operationContext="oc", mediaStreamingOptions=STREAMING, answeredBy={"id": USER})
    assert request.callback_uri == "https://app.example/cb"
    assert request.operation_context == "oc"
    assert request.answered_by == rest.CommunicationUser(USER)
    options = request.media_streaming_options
    assert options is not None
    assert (options.transport_url, options.rate, options.unmixed) == ("wss://x/y", 24_000, False)
    assert options.start_media_streaming
    assert options.enable_bidirectional
    assert options.enable_dtmf_tones


def test_a_create_call_request() -> None:
    body = {"targets": [{"rawId": USER, "communicationUser": {"id": USER}}], "callbackUri": "https://app.example/cb"}
    request = rest.decode(rest.CreateCallRequest, json.dumps(body).encode())
    assert [rest.raw_id(target) for target in request.targets] == [USER]


@pytest.mark.parametrize(
    ("format", "rate"),
    [(None, 16_000), ("Pcm16KMono", 16_000), ("pcm16KMono", 16_000), ("Pcm24KMono", 24_000), ("PCM24KMONO", 24_000)],
)
def test_the_rate_is_read_in_any_casing(format: str | None, rate: int) -> None:
    assert streaming(audioFormat=format).rate == rate


@pytest.mark.parametrize(("channels", "unmixed"), [("mixed", False), ("Unmixed", True), ("UNMIXED", True)])
def test_the_channel_type_is_read_in_any_casing(channels: str, unmixed: bool) -> None:
    assert streaming(audioChannelType=channels, transportType="WebSocket").unmixed is unmixed


@pytest.mark.parametrize(
    ("field", "value"),
    [("audioFormat", "pcm8KMono"), ("audioChannelType", "stereo"), ("transportType", "rtp"), ("audioFormat", "\n")],
)
def test_a_streaming_option_that_does_not_exist_is_refused(field: str, value: str) -> None:
    with pytest.raises(rest.InvalidBody) as caught:
        streaming(**{field: value})
    assert caught.value.field == f"mediaStreamingOptions.{field}"


def test_nulls_and_unknown_fields_are_as_good_as_nothing() -> None:
    request = answer(operationContext=None, mediaStreamingOptions=None, answeredBy=None, madeUp=[{"x": None}])
    assert request == answer()
    options = {"transportType": "websocket", "audioChannelType": "mixed"}
    nulls = dict.fromkeys(set(STREAMING) - set(options))
    assert answer(mediaStreamingOptions=options | nulls) == answer(mediaStreamingOptions=options)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"operationContext":null}'])
def test_an_empty_body_is_an_empty_object(body: bytes) -> None:
    assert rest.decode(rest.MediaStreamingRequest, body) == rest.MediaStreamingRequest()


TARGET = {"rawId": USER}


@pytest.mark.parametrize(
    ("type", "body", "field", "message"),
    [
        (rest.AnswerCallRequest, {"incomingCallContext": "c"}, "callbackUri", "callbackUri is required"),
        (rest.AnswerCallRequest, ANSWER | {"callbackUri": 7}, "callbackUri", "callbackUri: Expected `str`"),
        (rest.AnswerCallRequest, ANSWER | {"callbackUri": None}, "callbackUri", "callbackUri: Expected `str`"),
        (rest.AnswerCallRequest, ANSWER | {"callbackUri": "x" * 8193}, "callbackUri", "length <= 8192"),
        (rest.AnswerCallRequest, ANSWER | {"operationContext": "x" * 5001}, "operationContext", "length <= 5000"),
        (rest.AnswerCallRequest, ANSWER | {"incomingCallContext": "x" * 65537}, "incomingCallContext", "<= 65536"),
        (
            rest.AnswerCallRequest,
            ANSWER | {"mediaStreamingOptions": {"transportType": "websocket"}},
            "mediaStreamingOptions.audioChannelType",
            "mediaStreamingOptions.audioChannelType is required",
        ),
        (rest.CreateCallRequest, {"callbackUri": "x", "targets": []}, "targets", "length >= 1"),
        (rest.CreateCallRequest, {"callbackUri": "x", "targets": [TARGET] * 101}, "targets", "length <= 100"),
        (rest.CreateCallRequest, {"callbackUri": "x", "targets": [{"rawId": "x" * 513}]}, "targets[0].rawId", "512"),
        (rest.RedirectCallRequest, {"incomingCallContext": "c"}, "target", "target is required"),
        (rest.RejectCallRequest, [], "", "the body: Expected `object`, got `array`"),
        (rest.CreateIdentityRequest, {"expiresInMinutes": 59}, "expiresInMinutes", "expiresInMinutes: Expected"),
    ],
)
def test_an_error_names_the_field(type: type[rest.Dto], body: object, field: str, message: str) -> None:
    with pytest.raises(rest.InvalidBody) as caught:
        rest.decode(type, json.dumps(body).encode())
    assert caught.value.field == field
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b'{"operationContext":"\xff"}', b"\xff", b'{"a":' + b"[" * 100_000]
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(rest.InvalidBody, match="the body is not JSON"):
        rest.decode(rest.MediaStreamingRequest, body)


def test_a_body_beyond_the_bound_is_refused_unread() -> None:
    fits = b'{"x":"%s"}' % (b"x" * (rest.MAX_BODY - 8))
    assert len(fits) == rest.MAX_BODY
    rest.decode(rest.MediaStreamingRequest, fits)
    with pytest.raises(rest.InvalidBody, match="more than 1048576"):
        rest.decode(rest.MediaStreamingRequest, fits + b" ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = sorted(rest.CreateCallRequest.__struct_encode_fields__)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_garbage_raises_nothing_but_invalid_body(body: dict[str, object]) -> None:
    with pytest.raises(rest.InvalidBody) as caught:
        rest.decode(rest.CreateCallRequest, json.dumps(body).encode())
    assert re.split(r"[.\[]", caught.value.field)[0] in KEYS


# ----------------------------------------------------------------------------------------------------- answers


def test_a_create_answer_has_the_recorded_keys_in_their_order_and_no_nulls() -> None:
    properties = rest.CallConnectionProperties(
        call_connection_id="c",
        targets=[rest.identifier(USER)],
        call_connection_state="connecting",
        callback_uri="https://app.example/callback?q=1",
        source_display_name="",
        source=rest.identifier(USER),
        correlation_id="k",
        media_streaming_subscription=rest.MediaStreamingSubscription(
            id="s", state="inactive", subscribed_content_types=["audio"]
        ),
    )
    user = f'{{"rawId":"{USER}","kind":"communicationUser","communicationUser":{{"id":"{USER}"}}}}'
    assert rest.encode(properties).decode() == (
        f'{{"callConnectionId":"c","targets":[{user}],"callConnectionState":"connecting",'
        f'"callbackUri":"https://app.example/callback?q=1","sourceDisplayName":"","source":{user},'
        '"correlationId":"k","mediaStreamingSubscription":'
        '{"id":"s","state":"inactive","subscribedContentTypes":["audio"]}}'
    )


def test_disabled_subscriptions_as_recorded() -> None:
    assert rest.encode(rest.MediaStreamingSubscription(state="disabled")) == b'{"state":"disabled"}'
    transcription = rest.TranscriptionSubscription(state="disabled", subscribed_result_types=[])
    assert rest.encode(transcription) == b'{"state":"disabled","subscribedResultTypes":[]}'


def test_a_participant_list_says_what_is_false_and_has_no_next_link() -> None:
    participant = rest.CallParticipant(rest.identifier(NUMBER), is_muted=False, is_on_hold=False)
    assert rest.encode(rest.ParticipantList([participant])) == (
        b'{"value":[{"identifier":{"rawId":"4:+15550100","kind":"phoneNumber","phoneNumber":{"value":"+15550100"}},'
        b'"isMuted":false,"isOnHold":false}]}'
    )


def test_an_error_as_recorded() -> None:
    assert rest.error_body("8522", "Call not found.", "/calling/callConnections/c") == (
        b'{"error":{"code":"8522","message":"Call not found.","target":"/calling/callConnections/c"}}'
    )
    assert rest.error_body("8522", "Call not found.", None) == b'{"error":{"code":"8522","message":"Call not found."}}'


@pytest.mark.parametrize("body", [b"", b"{}", b'{"createTokenWithScopes":[]}', b'{"createTokenWithScopes":null}'])
def test_an_identity_without_token(body: bytes) -> None:
    request = rest.decode(rest.CreateIdentityRequest, body)
    answer = rest.identity_response(USER, request, now=0.0)
    assert json.loads(rest.encode(answer)) == {"identity": {"id": USER}}


@pytest.mark.parametrize(
    ("minutes", "expires"),
    [("", "2026-01-06T10:00:01.5+00:00"), (',"expiresInMinutes":60', "2026-01-05T11:00:01.5+00:00")],
)
def test_an_identity_with_a_token(minutes: str, expires: str) -> None:
    body = f'{{"createTokenWithScopes":["voip"]{minutes}}}'.encode()
    request = rest.decode(rest.CreateIdentityRequest, body)
    answer = rest.identity_response(USER, request, now=1767607201.5, entropy=lambda n: b"\1" * n)
    assert json.loads(rest.encode(answer)) == {
        "identity": {"id": USER},
        "accessToken": {"token": "01" * 32, "expiresOn": expires},
    }


@pytest.mark.parametrize(
    ("unix", "text"),
    [
        (1767607201.0, "2026-01-05T10:00:01+00:00"),
        (1767607201.028034, "2026-01-05T10:00:01.028034+00:00"),
        (1767607210.25, "2026-01-05T10:00:10.25+00:00"),
    ],
)
def test_a_moment_has_its_trailing_zeros_trimmed(unix: float, text: str) -> None:
    assert rest.moment(unix) == text
