"""From the glossary's events to what an app is sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import pytest

from offhook.call import messages as m
from offhook.call import operation_messages as o
from offhook.call import people_messages as p
from offhook.call.model import (
    CallData,
    Connection,
    EndCause,
    MediaStream,
    Participant,
    StreamFailure,
    StreamState,
)
from offhook.call.operations import Failure, Outcome, Problem
from offhook.server.delivery import Settled
from offhook.server.people_events import END
from offhook.server.webhooks import KINDS, STREAM, Webhooks
from offhook.wire import events

CALL = CallData("call", "server", "correlation", "4:+15550100", caller_name="Somebody")
EVENTS: list[m.Event] = [
    m.CallConnected("context"),
    m.CallDisconnected(EndCause.REMOTE_LEFT, "context"),
    m.CreateCallFailed(EndCause.BUSY, "context"),
    m.AnswerFailed(EndCause.REMOTE_LEFT, "context"),
    m.ParticipantsUpdated((Participant("4:+15550100"), Participant("8:acs:r_u")), 3),
    m.StreamingStarted("context"),
    m.StreamingStarted("context", again=True),
    m.StreamingStopped("context"),
    m.StreamingFailed(StreamFailure.UNREACHABLE, "connection refused", "context"),
    o.PlayStarted("context"),
    o.PlayCompleted("context"),
    o.PlayFailed(Failure(Problem.DOWNLOAD, "404", 0), "context"),
    o.PlayCanceled("context"),
    o.RecognizeCompleted(Outcome.MAX_TONES, "1#", "context"),
    o.RecognizeFailed(Failure(Problem.INITIAL_SILENCE), "context"),
    o.RecognizeCanceled("context"),
    o.ToneReceived("5", 1, "context"),
    o.ToneFailed(Failure(Problem.PARTY_LEFT), "context"),
    o.TonesStopped("context"),
    o.SendTonesCompleted("context"),
    o.SendTonesFailed(Failure(Problem.CANCELED), "context"),
    o.HoldFailed(Failure(Problem.FORMAT, "", 0), "context"),
    p.AddSucceeded("4:+15550177", "context"),
    p.AddFailed("4:+15550177", EndCause.BUSY, "context"),
    p.CancelAddSucceeded("invitation", "4:+15550177", "context"),
    p.CancelAddFailed("invitation", "context"),
    p.RemoveSucceeded("4:+15550177", "context"),
    p.ConnectFailed(EndCause.REMOTE_LEFT, "context"),
    p.TransferAccepted("4:+15550177", "4:+15550100", "context"),
    p.TransferFailed(EndCause.DECLINED, "context"),
    p.MoveSucceeded("4:+15550177", "there", "context"),
    p.MoveFailed("4:+15550177", "there", p.MoveProblem.IS_APP, "context"),
]
NEWEST = "2026-03-12"
INCOMING = "https://app.example/incoming"


class Sent:
    """Stands for the deliverer and the endpoints alike."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str, bool]] = []
        self.bodies: list[Any] = []
        self.offered: list[tuple[Sequence[str], float]] = []

    def send(self, lane: str, url: str, body: bytes, kind: str, last: bool, settled: Settled) -> None:
        self.sent.append((lane, url, kind, last))
        self.bodies += json.loads(body)

    def offer(self, urls: Sequence[str], body: bytes, seconds: float, settled: Settled) -> None:
        self.bodies += json.loads(body)
        self.offered.append((urls, seconds))


def webhooks(sent: Any) -> Webhooks:
    return Webhooks(sent, sent, "/topic", lambda: 1767607200.25, {("*", ""): (INCOMING,)})


def connection(version: str = NEWEST) -> Connection:
    return Connection(
        "c", "8:acs:r_u", "https://app.example/?a=b", version, MediaStream("s", None, StreamState.DISABLED)
    )


def sent(event: m.Event, version: str = NEWEST, callback: str | None = None) -> Sent:
    gone = Sent()
    ours = webhooks(gone)
    if (parcel := ours.notice(CALL, connection(version), event, callback)) is not None:
        ours.post(parcel, lambda: None)
    return gone


def data(event: m.Event, version: str = NEWEST) -> Any:
    (body,) = sent(event, version).bodies
    return body["data"]


def test_every_event_has_its_name() -> None:
    assert set(KINDS) == set(get_args(m.Event)) == {type(event) for event in EVENTS}
    assert set(KINDS.values()) <= set(events.SINCE)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_goes_to_its_connection_and_names_its_call(event: m.Event) -> None:
    gone = sent(event)
    kind = KINDS[type(event)]
    assert gone.sent == [("c", "https://app.example/?a=b", kind, kind == "CallDisconnected")]
    (body,) = gone.bodies
    assert body["type"] == body["data"]["publicEventType"] == f"Microsoft.Communication.{kind}"
    assert body["source"] == body["subject"] == "calling/callConnections/c"
    for key, value in {"callConnectionId": "c", "serverCallId": "server", "correlationId": "correlation"}.items():
        assert body["data"][key] == value
    assert body["data"]["version"] == NEWEST
    assert body["data"].get("operationContext") == (None if kind == "ParticipantsUpdated" else "context")
    assert "null" not in json.dumps(body)


def test_every_event_has_an_id_of_its_own() -> None:
    one, two = (sent(EVENTS[0]).bodies[0]["id"] for _ in range(2))
    assert one != two


def test_an_operation_may_name_a_callback() -> None:
    assert sent(EVENTS[5], callback="https://other.example/").sent[0][1] == "https://other.example/"


@pytest.mark.parametrize("cause", EndCause)
def test_every_end_has_a_code(cause: EndCause) -> None:
    result = data(m.CallDisconnected(cause, None))["resultInformation"]
    assert (result["code"], result["subCode"]) == (END[cause].code, END[cause].sub_code)
    assert result["message"].endswith(f"#{result['subCode']}.@")
    assert "operationContext" not in data(m.CallDisconnected(cause, None))


@pytest.mark.parametrize("failure", StreamFailure)
def test_every_failure_of_a_stream_says_what_happened(failure: StreamFailure) -> None:
    told = data(m.StreamingFailed(failure, "the very cause", None))
    assert told["resultInformation"]["message"].endswith(" Cause: the very cause")
    assert told["mediaStreamingUpdate"]["mediaStreamingStatus"] == "mediaStreamingFailed"
    assert told["mediaStreamingUpdate"]["mediaStreamingStatusDetails"] == STREAM[failure][1]


@pytest.mark.parametrize(
    ("again", "details"), [(False, "subscriptionStarted"), (True, "streamConnectionReestablished")]
)
def test_a_stream_that_starts(again: bool, details: str) -> None:
    assert data(m.StreamingStarted(None, again))["mediaStreamingUpdate"] == {
        "contentType": "Audio",
        "mediaStreamingStatus": "mediaStreamingStarted",
        "mediaStreamingStatusDetails": details,
    }


def test_participants() -> None:
    told = data(EVENTS[4])
    assert told["sequenceNumber"] == 3
    assert [one["identifier"]["kind"] for one in told["participants"]] == ["phoneNumber", "communicationUser"]


OLD = {
    "CallConnected",
    "CallDisconnected",
    "ParticipantsUpdated",
    "PlayCompleted",
    "PlayFailed",
    "PlayCanceled",
    "RecognizeCompleted",
    "RecognizeFailed",
    "RecognizeCanceled",
    "ContinuousDtmfRecognitionToneReceived",
    "ContinuousDtmfRecognitionToneFailed",
    "ContinuousDtmfRecognitionStopped",
    "SendDtmfTonesCompleted",
    "SendDtmfTonesFailed",
    "AddParticipantSucceeded",
    "AddParticipantFailed",
    "CancelAddParticipantSucceeded",
    "CancelAddParticipantFailed",
    "RemoveParticipantSucceeded",
    "CallTransferAccepted",
    "CallTransferFailed",
}


@pytest.mark.parametrize(
    ("version", "kinds"),
    [
        ("2023-10-15", OLD),
        ("2024-11-15-preview", set(KINDS.values()) - {"MoveParticipantSucceeded", "MoveParticipantFailed"}),
        ("2026-03-12", set(KINDS.values())),
    ],
)
def test_an_app_is_sent_what_its_sdk_knows(version: str, kinds: set[str]) -> None:
    assert {kind for event in EVENTS for _, _, kind, _ in sent(event, version).sent} == kinds


@pytest.mark.parametrize("problem", p.MoveProblem)
def test_every_reason_not_to_be_moved_has_a_code(problem: p.MoveProblem) -> None:
    told = data(p.MoveFailed("4:+15550177", "there", problem, None))
    assert (told["participant"]["rawId"], told["fromCall"]) == ("4:+15550177", "there")
    assert (told["resultInformation"]["code"], told["resultInformation"]["subCode"]) in {(404, 8522), (400, 8585)}


def test_an_incoming_call_is_offered_to_the_endpoints() -> None:
    gone = Sent()
    ours = webhooks(gone)
    parcel = ours.offer(CALL, "4:+15550199", CALL.shown, "context", "token", 30)
    assert parcel is not None
    assert parcel.id == "token"
    ours.post(parcel, lambda: None)
    (event,) = gone.bodies
    assert event["data"]["callerDisplayName"] == "Somebody"
    assert event["data"]["incomingCallContext"] == "context"
    assert "customContext" not in event["data"]
    assert gone.offered == [((INCOMING,), 30)]


def test_nobody_is_offered_a_call_when_nobody_is_configured() -> None:
    ours = webhooks(Sent())
    ours.inbound = {}
    assert ours.offer(CALL, "4:+15550199", CALL.shown, "context", "token", 30) is None
