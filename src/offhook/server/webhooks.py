"""Events on their way to apps: from the glossary's `Event` to the wire's CloudEvent, into the connection's queue.

The one place that knows which codes and messages ACS gives with which event (contract 3.3, recorded 6.3).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import structs

from offhook.call import messages as m
from offhook.call import people_messages as p
from offhook.call.model import CallData, Connection, Release, Shown, StreamFailure
from offhook.server import bad_post, operation_events, people_events
from offhook.server.delivery import Deliverer, Parcel, Settled
from offhook.server.dialplan import Inbound, endpoints_for
from offhook.server.eventgrid import Endpoints
from offhook.server.people_events import END
from offhook.wire import events, rest
from offhook.wire.events import ResultInformation, SipDiagnosticInfo

KINDS: Mapping[type, str] = {  # what an event is called on the wire
    m.CallConnected: "CallConnected",
    m.CallDisconnected: "CallDisconnected",
    m.CreateCallFailed: "CreateCallFailed",
    m.AnswerFailed: "AnswerFailed",
    m.ParticipantsUpdated: "ParticipantsUpdated",
    m.StreamingStarted: "MediaStreamingStarted",
    m.StreamingStopped: "MediaStreamingStopped",
    m.StreamingFailed: "MediaStreamingFailed",
    **people_events.KINDS,
    **operation_events.KINDS,
}

STREAM: Mapping[StreamFailure, tuple[ResultInformation, str]] = {  # and mediaStreamingStatusDetails (contract 3.2)
    StreamFailure.UNREACHABLE: (events.STREAM_UNREACHABLE, "initialWebSocketConnectionFailed"),
    StreamFailure.NO_URL: (events.STREAM_UNREACHABLE, "streamUrlMissing"),
    StreamFailure.UNAUTHENTICATED: (events.STREAM_UNREACHABLE, "authenticationFailure"),
    StreamFailure.FORBIDDEN: (events.STREAM_UNREACHABLE, "forbidden"),
    StreamFailure.INTERRUPTED: (
        ResultInformation(500, 8603, "Action failed, the media streaming connection was interrupted."),
        "streamConnectionInterrupted",
    ),
    StreamFailure.SHUTDOWN: (
        ResultInformation(487, 8604, "Action failed, media streaming was canceled."),
        "serviceShutdown",
    ),
}


class Webhooks:
    """The `Notifier` of the server. `wall` gives Unix time in seconds. `inbound` says who is told of which calls; it
    may be replaced at any time."""

    def __init__(
        self, deliverer: Deliverer, endpoints: Endpoints, topic: str, wall: Callable[[], float], inbound: Inbound
    ) -> None:
        self._deliverer = deliverer
        self._endpoints = endpoints
        self._topic = topic
        self._wall = wall
        self.inbound = inbound

    def notice(
        self,
        call: CallData,
        connection: Connection,
        event: m.Event,
        callback: str | None,
        release: Release | None = None,
    ) -> Parcel | None:
        """Make what tells the app that holds `connection` of `event`; None if its api-version does not know it."""
        kind = KINDS[type(event)]
        if not events.is_sent_to(kind, connection.api_version):
            return None
        result, own, context = _describe(event)
        if release is not None and events.has_sip_details(connection.api_version):
            result = _with_details(result, release)
        id = str(uuid.uuid4())
        body = events.cloud_event(
            kind,
            event_id=id,
            time=self._wall(),
            call_connection_id=connection.id,
            server_call_id=call.server_call_id,
            correlation_id=call.correlation_id,
            version=connection.api_version,
            result=result,
            operation_context=context,
            own=own,
        )
        last = isinstance(event, m.CallDisconnected)
        return Parcel(id, connection.id, callback or connection.callback, kind, body, last)

    def offer(
        self, call: CallData, to: str, shown: Shown, context: str, token: str, seconds: float, trunk: str = ""
    ) -> Parcel | None:
        """Make IncomingCall; None when no Event Grid endpoint is to be told of it."""
        endpoints = endpoints_for(self.inbound, to, trunk)
        if not endpoints:
            return None
        body = events.incoming_call(
            event_id=str(uuid.uuid4()),
            time=self._wall(),
            topic=self._topic,
            to=to,
            caller=shown.caller,
            caller_display_name=shown.name,
            server_call_id=call.server_call_id,
            incoming_call_context=context,
            correlation_id=call.correlation_id,
            custom_context=shown.custom_context,
        )
        return Parcel(token, "", "", "IncomingCall", body, until=self._wall() + seconds, endpoints=endpoints)

    def post(self, parcel: Parcel, settled: Settled) -> None:
        """Queue what `notice` made for its connection's callback, send what `offer` made to its endpoints."""
        if parcel.fate is not None:
            bad_post.deliver(self._deliverer, parcel, parcel.fate, settled)
        elif parcel.until is None:
            self._deliverer.send(parcel.lane, parcel.url, parcel.body, parcel.kind, parcel.last, settled)
        else:
            self._endpoints.offer(parcel.endpoints, parcel.body, parcel.until - self._wall(), settled)


def _describe(event: m.Event) -> tuple[ResultInformation, dict[str, Any], str | None]:
    """Return the event's result, own data keys and operation context."""
    match event:
        case m.CallConnected(context):
            return events.SUCCESS, {}, context
        case m.CallDisconnected(cause, context) | m.CreateCallFailed(cause, context) | m.AnswerFailed(cause, context):
            return END[cause], {}, context
        case m.ParticipantsUpdated(participants, sequence):
            members = [rest.CallParticipant(rest.identifier(p.party), p.muted, p.on_hold) for p in participants]
            return events.SUCCESS, events.participants_updated(members, sequence), None
        case m.StreamingStarted(context, again):
            details = "streamConnectionReestablished" if again else "subscriptionStarted"
            return events.MEDIA_SUCCESS, _update(event, details), context
        case m.StreamingStopped(context):
            return events.MEDIA_SUCCESS, _update(event, "subscriptionStopped"), context
        case m.StreamingFailed(failure, detail, context):
            result, details = STREAM[failure]
            result = ResultInformation(result.code, result.sub_code, f"{result.message} Cause: {detail}")
            return result, _update(event, details), context
        case _ if isinstance(event, p.Event):
            return *people_events.describe(event), event.operation_context
        case _:
            return *operation_events.describe(event), event.operation_context


def _with_details(result: ResultInformation, release: Release) -> ResultInformation:
    sip = SipDiagnosticInfo(release.sip, release.sip_text)
    return structs.replace(result, sip_details=sip, q850_details=SipDiagnosticInfo(release.q850, release.q850_text))


def _update(event: m.Event, details: str) -> dict[str, Any]:
    return events.media_streaming_update(KINDS[type(event)], details)
