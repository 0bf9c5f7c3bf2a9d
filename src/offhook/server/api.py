"""The REST surface of Call Automation: request → DTO → Command, and back.

Every answer is made without waiting for anyone: the handlers are plain functions, so an app whose one thread waits for
its answer can never wait for itself. Status codes, bodies and headers are as recorded (recorded 1-4); what is not
implemented answers 501 in the error envelope.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from offhook.call import messages as m
from offhook.call.model import (
    CallData,
    Connection,
    ConnectionState,
    EndCause,
    MediaStream,
    Participant,
    StreamOptions,
    StreamState,
)
from offhook.media.egress import AddressPolicy
from offhook.server.control import Control
from offhook.server.metrics import OPERATION
from offhook.server.repeats import Answer
from offhook.server.requests import ApiError, answer_signed, json_response, raw_path
from offhook.wire import rest
from offhook.wire.auth import Verifier
from offhook.wire.ids import IdMint, context_token

log = logging.getLogger(__name__)

SUPPORTED = (
    "2023-03-06, 2023-10-15, 2024-04-15, 2024-09-15, 2025-05-15, 2025-06-15, 2026-03-12"  # api-supported-versions
)

CHAIN = "X-Microsoft-Skype-Chain-ID"  # header: the call's correlation id; a fresh GUID when there is no call

REJECT_REASONS = {"none": EndCause.REJECTED, "busy": EndCause.BUSY, "forbidden": EndCause.FORBIDDEN}


@dataclass(frozen=True, slots=True)
class Asked:
    """One authenticated request."""

    body: bytes
    api_version: str
    path: dict[str, str]  # of the template: callConnectionId, participantRawId …


class Api:
    """Answers `/calling/…` and `/identities`. `wall` gives Unix time in seconds."""

    def __init__(
        self,
        control: Control,
        verifier: Verifier,
        ids: IdMint,
        resource: str,
        policy: AddressPolicy,
        wall: Callable[[], float],
    ) -> None:
        self._control = control
        self._verifier = verifier
        self._ids = ids
        self._resource = resource
        self._policy = policy
        self._wall = wall
        self._warned_versions: set[str] = set()

    def routes(self) -> list[Route]:
        """The last one takes every path: what nobody else serves is answered in the error envelope."""
        return [
            Route("/identities", self._answering(self._create_identity), methods=["POST"]),
            Route("/{path:path}", self._answering(self._operate), methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]

    # ------------------------------------------------------------------------------------------ the way of a request

    def _answering(self, act: Callable[[Request, bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            response = await answer_signed(request, self._verifier, self._wall(), act)
            response.headers["api-supported-versions"] = SUPPORTED
            if (id := request.headers.get("x-ms-client-request-id")) is not None:
                response.headers["x-ms-client-request-id"] = id
            if (agent := request.headers.get("user-agent")) is not None:
                response.headers["X-Microsoft-Skype-Client"] = response.headers["X-Ms-Client-Version"] = agent
            response.headers.setdefault(CHAIN, self._ids.guid())
            return response

        return endpoint

    def _operate(self, request: Request, body: bytes) -> Response:
        found = rest.match(request.method, raw_path(request))
        if found is None:
            raise ApiError(404, "8522", "There is no such resource.")
        if isinstance(found, rest.MethodNotAllowed):
            allow = {"Allow": ", ".join(found.allow)}
            raise ApiError(405, "8520", f"{request.method} does not apply to this resource.", allow)
        operation, path = found
        request.scope[OPERATION] = operation.name
        handler = self._HANDLERS.get(operation.name)
        if handler is None:
            raise ApiError(501, "8520", f"{operation.name} is not implemented here yet; see docs/coverage.md.")
        asked = Asked(body, self._api_version(request), path)
        request_id = request.headers.get("repeatability-request-id")
        whole = (request.method, raw_path(request), body)
        answer = self._control.once(request_id, whole, lambda: handler(self, asked))
        response = (
            json_response(operation.success, answer.body) if answer.body else Response(status_code=operation.success)
        )
        if answer.correlation is not None:
            response.headers[CHAIN] = answer.correlation
        # Recorded: present on terminate, absent on createCall, answer and reject although they send ids (1.1).
        if request_id is not None and operation.name == "terminate":
            response.headers["Repeatability-Result"] = "accepted"
        return response

    def _api_version(self, request: Request) -> str:
        version = request.query_params.get("api-version", "")
        if not version:
            raise ApiError(400, "8523", "The query parameter api-version is missing.")
        if version[:10] > SUPPORTED[-10:] and version not in self._warned_versions and len(self._warned_versions) < 100:
            self._warned_versions.add(version)
            log.warning("api-version %r is newer than this server; answered as %s", version[:50], SUPPORTED[-10:])
        return version

    # ------------------------------------------------------------------------------------------ calls

    def _create_call(self, asked: Asked) -> Answer:
        wanted = rest.decode(rest.CreateCallRequest, asked.body)
        targets = [_raw_id(target, "targets") for target in wanted.targets]
        party = wanted.source.id if wanted.source is not None else self._ids.user(self._resource)
        number = wanted.source_caller_id_number.value if wanted.source_caller_id_number is not None else None
        options = self._stream_options(wanted.media_streaming_options)
        worker = self._control.place(targets)
        connection = Connection(
            id=worker.ids.guid(),
            party=party,
            callback=self._url(wanted.callback_uri, "callbackUri", ("http", "https")),
            api_version=asked.api_version,
            stream=_stream(worker.ids, options),
            operation_context=wanted.operation_context,
            source=party,
            source_number=number,
            source_name=wanted.source_display_name or "",
            targets=tuple(targets),
            created=True,
        )
        caller = f"4:{number}" if number else party
        call = self._control.create_call(worker, connection, targets, caller, wanted.source_display_name or "")
        return Answer(rest.encode(_properties(call, connection, fresh=True)), call.correlation_id)

    def _answer_call(self, asked: Asked) -> Answer:
        wanted = rest.decode(rest.AnswerCallRequest, asked.body)
        token = _token(wanted.incoming_call_context)
        to = self._control.offered_to(token)
        if wanted.answered_by is not None:
            party = wanted.answered_by.id
        else:
            party = to if to.startswith("8:") else f"8:acs:{self._resource}_{_NOBODY}"
        record = self._control.record_of_offer(token)
        call, ids = record.data, record.worker.ids
        connection = Connection(
            id=ids.guid(),
            party=party,
            callback=self._url(wanted.callback_uri, "callbackUri", ("http", "https")),
            api_version=asked.api_version,
            stream=_stream(ids, self._stream_options(wanted.media_streaming_options)),
            operation_context=wanted.operation_context,
            source=call.caller,
            source_name=call.caller.removeprefix("4:") if call.caller.startswith("4:") else None,
            targets=(party,),
            answered_by=party,
        )
        self._control.answer(token, connection)
        return Answer(rest.encode(_properties(call, connection, fresh=True)), call.correlation_id)

    def _redirect_call(self, asked: Asked) -> Answer:
        wanted = rest.decode(rest.RedirectCallRequest, asked.body)
        token, target = _token(wanted.incoming_call_context), _raw_id(wanted.target, "target")
        call = self._control.record_of_offer(token).data
        self._control.redirect(token, target)
        return Answer(correlation=call.correlation_id)

    def _reject_call(self, asked: Asked) -> Answer:
        wanted = rest.decode(rest.RejectCallRequest, asked.body)
        reason = (wanted.call_reject_reason or "none").lower()
        if reason not in REJECT_REASONS:
            raise ApiError(400, "8523", f"callRejectReason: {reason[:50]!r} is none of none, busy, forbidden.")
        token = _token(wanted.incoming_call_context)
        call = self._control.record_of_offer(token).data
        self._control.reject(token, REJECT_REASONS[reason])
        return Answer(correlation=call.correlation_id)

    def _get_call(self, asked: Asked) -> Answer:
        call, connection = self._control.connection(asked.path["callConnectionId"])
        return Answer(rest.encode(_properties(call, connection, fresh=False)), call.correlation_id)

    def _hang_up(self, asked: Asked) -> Answer:
        return self._command(asked, m.HangUp(asked.path["callConnectionId"]))

    def _terminate(self, asked: Asked) -> Answer:
        return self._command(asked, m.Terminate(asked.path["callConnectionId"]))

    def _command(self, asked: Asked, command: m.Command) -> Answer:
        call, connection = self._control.connection(asked.path["callConnectionId"])
        self._control.command(connection.id, command)
        return Answer(correlation=call.correlation_id)

    # ------------------------------------------------------------------------------------------ participants

    def _list_participants(self, asked: Asked) -> Answer:
        call, connection = self._control.connection(asked.path["callConnectionId"])
        members = [_participant(p) for p in self._control.participants(connection.id)]
        return Answer(rest.encode(rest.ParticipantList(members)), call.correlation_id)

    def _get_participant(self, asked: Asked) -> Answer:
        call, connection = self._control.connection(asked.path["callConnectionId"])
        wanted = asked.path["participantRawId"]
        for participant in self._control.participants(connection.id):
            if participant.party == wanted:
                return Answer(rest.encode(_participant(participant)), call.correlation_id)
        raise ApiError(404, "8522", "Participant not found.")

    # ------------------------------------------------------------------------------------------ media streaming

    def _start_media_streaming(self, asked: Asked) -> Answer:
        context, callback = self._media_request(asked)
        return self._command(asked, m.StartStream(asked.path["callConnectionId"], context, callback))

    def _stop_media_streaming(self, asked: Asked) -> Answer:
        context, callback = self._media_request(asked)
        return self._command(asked, m.StopStream(asked.path["callConnectionId"], context, callback))

    def _media_request(self, asked: Asked) -> tuple[str | None, str | None]:
        wanted = rest.decode(rest.MediaStreamingRequest, asked.body or b"{}")
        callback = wanted.operation_callback_uri
        if callback is not None:
            callback = self._url(callback, "operationCallbackUri", ("http", "https"))
        return wanted.operation_context, callback

    def _stream_options(self, wanted: rest.MediaStreamingOptions | None) -> StreamOptions | None:
        if wanted is None:
            return None
        url = wanted.transport_url
        return StreamOptions(
            url="" if not url else self._url(url, "transportUrl", ("ws", "wss")),
            rate=wanted.rate,
            unmixed=wanted.unmixed,
            bidirectional=bool(wanted.enable_bidirectional),
            dtmf=bool(wanted.enable_dtmf_tones),
            start=bool(wanted.start_media_streaming),
        )

    # ------------------------------------------------------------------------------------------ identities

    def _create_identity(self, request: Request, body: bytes) -> Response:
        request.scope[OPERATION] = "createIdentity"
        wanted = rest.decode(rest.CreateIdentityRequest, body or b"{}")
        user = self._ids.user(self._resource)
        answer = rest.identity_response(user, wanted, self._wall())
        return json_response(201, rest.encode(answer))

    # ------------------------------------------------------------------------------------------ the operations

    _HANDLERS: ClassVar[dict[str, Callable[[Api, Asked], Answer]]] = {
        "createCall": _create_call,
        "answerCall": _answer_call,
        "redirectCall": _redirect_call,
        "rejectCall": _reject_call,
        "getCall": _get_call,
        "hangUp": _hang_up,
        "terminate": _terminate,
        "listParticipants": _list_participants,
        "getParticipant": _get_participant,
        "startMediaStreaming": _start_media_streaming,
        "stopMediaStreaming": _stop_media_streaming,
    }
    implemented: ClassVar[frozenset[str]] = frozenset(_HANDLERS)  # every other operation is answered with 501

    # ------------------------------------------------------------------------------------------ fields

    def _url(self, text: str, field: str, schemes: tuple[str, ...]) -> str:
        """Return `text` if it is an absolute URL of one of `schemes` to a host that is not plainly refused."""
        host = _host(text, schemes)
        if host is None:
            either = " or ".join(schemes)
            raise ApiError(400, "8523", f"{field}: must be an absolute {either} URL, without user and password.")
        address = "127.0.0.1" if host == "localhost" else host
        try:
            refusal = self._policy.refusal(str(ipaddress.ip_address(address)))
        except ValueError:
            refusal = None  # A name: it is looked up, and checked, when it is dialled.
        if refusal is not None:
            raise ApiError(400, "8523", f"{field}: {refusal}")
        return text


_NOBODY = "00000000-0000-0000-0000-000000000000"  # an app that answers for a number (recorded 4.1)


# ------------------------------------------------------------------------------------------------ requests


def _host(url: str, schemes: tuple[str, ...]) -> str | None:
    """Return the host of an absolute URL of one of `schemes`, or None when it is no such URL."""
    if not url.isprintable() or " " in url:
        return None  # Line ends above all: `urlsplit` takes them out, but the URL is dialled as it stands.
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is none
    except ValueError:
        return None
    return parts.hostname if parts.scheme in schemes and parts.username is None else None


def _token(context: str) -> str:
    token = context_token(context)
    if token is None:
        raise ApiError(400, "8523", "incomingCallContext: not one that this server gave out.")
    return token


def _raw_id(identifier: rest.Identifier, field: str) -> str:
    try:
        return rest.raw_id(identifier)
    except ValueError as error:
        raise ApiError(400, "8523", f"{field}: {error}") from None


def _stream(ids: IdMint, options: StreamOptions | None) -> MediaStream:
    state = StreamState.DISABLED if options is None else StreamState.INACTIVE
    return MediaStream(ids.guid(), options, state)


# ------------------------------------------------------------------------------------------------ answers


def _participant(participant: Participant) -> rest.CallParticipant:
    return rest.CallParticipant(rest.identifier(participant.party), participant.muted, participant.on_hold)


def _properties(call: CallData, connection: Connection, fresh: bool) -> rest.CallConnectionProperties:
    """Return the call as this connection sees it; `fresh`: in the answer that makes the connection (recorded 4.1)."""
    connected = connection.state is ConnectionState.CONNECTED and not fresh
    number = connection.source_number
    answered = connection.answered_by
    return rest.CallConnectionProperties(
        call_connection_id=connection.id,
        server_call_id=call.server_call_id if connected or not connection.created else None,
        targets=[rest.identifier(target) for target in connection.targets],
        call_connection_state="connected" if connected else "connecting",
        callback_uri=connection.callback,
        source_caller_id_number=rest.PhoneNumber(number) if number else None,
        source_display_name=connection.source_name,
        source=rest.identifier(connection.source) if connection.source else None,
        correlation_id=call.correlation_id,
        answered_by=rest.CommunicationUser(answered) if answered else None,
        media_streaming_subscription=_streaming_subscription(connection.stream, fresh),
        transcription_subscription=None if fresh else _NO_TRANSCRIPTION,
    )


def _streaming_subscription(stream: MediaStream, fresh: bool) -> rest.MediaStreamingSubscription:
    """Recorded 4.2: without options all keys in the first answer, `state` alone in later ones."""
    if stream.options is None and not fresh:
        return rest.MediaStreamingSubscription(state="disabled")
    active = stream.state in (StreamState.OPENING, StreamState.ACTIVE) and not fresh
    state = "disabled" if stream.options is None else "active" if active else "inactive"
    return rest.MediaStreamingSubscription(id=stream.id, state=state, subscribed_content_types=["audio"])


_NO_TRANSCRIPTION = rest.TranscriptionSubscription(state="disabled", subscribed_result_types=[])
