"""Calls and their media streams: request → DTO → Command, and back (contract 2.3, recorded 4.1, 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from offhook.call import messages as m
from offhook.call.model import CallData, Connection, ConnectionState, EndCause, MediaStream, StreamState
from offhook.server.repeats import Answer
from offhook.server.requests import ApiError, raw_id
from offhook.wire import participants, rest
from offhook.wire.ids import IdMint, context_token

if TYPE_CHECKING:
    from offhook.call.model import StreamOptions
    from offhook.server.api import Api, Asked

REJECT_REASONS = {"none": EndCause.REJECTED, "busy": EndCause.BUSY, "forbidden": EndCause.FORBIDDEN}

_NOBODY = "00000000-0000-0000-0000-000000000000"  # an app that answers for a number (recorded 4.1)


# ------------------------------------------------------------------------------------------------ making calls


def _create(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(rest.CreateCallRequest, asked.body)
    targets = [raw_id(target, "targets") for target in wanted.targets]
    party = wanted.source.id if wanted.source is not None else api.ids.user(api.resource)
    number = wanted.source_caller_id_number.value if wanted.source_caller_id_number is not None else None
    options = api.stream_options(wanted.media_streaming_options)
    callback = api.url(wanted.callback_uri, "callbackUri", ("http", "https"))
    worker = api.control.place(targets)
    connection = Connection(
        id=worker.ids.guid(),
        party=party,
        callback=callback,
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
    call = api.control.create_call(worker, connection, targets, caller, wanted.source_display_name or "")
    _expect_texts(api, wanted.call_intelligence_options)
    return _made(call, connection)


def _answer(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(rest.AnswerCallRequest, asked.body)
    token = _token(wanted.incoming_call_context)
    record, invitation = api.control.offered(token)
    if wanted.answered_by is not None:
        party = wanted.answered_by.id
    else:
        party = invitation.to if invitation.to.startswith("8:") else f"8:acs:{api.resource}_{_NOBODY}"
    caller, ids = (invitation.shown or record.data.shown).caller, record.worker.ids
    connection = Connection(
        id=ids.guid(),
        party=party,
        callback=api.url(wanted.callback_uri, "callbackUri", ("http", "https")),
        api_version=asked.api_version,
        stream=_stream(ids, api.stream_options(wanted.media_streaming_options)),
        operation_context=wanted.operation_context,
        source=caller,
        source_name=caller.removeprefix("4:") if caller.startswith("4:") else None,
        targets=(party,),
        answered_by=party,
    )
    api.control.answer(token, connection)
    _expect_texts(api, wanted.call_intelligence_options)
    return _made(record.data, connection)


def _expect_texts(api: Api, options: rest.CallIntelligenceOptions | None) -> None:
    if options is not None and options.cognitive_services_endpoint:
        api.control.exchange.operations.expect_texts()


def _redirect(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(rest.RedirectCallRequest, asked.body)
    token, target = _token(wanted.incoming_call_context), raw_id(wanted.target, "target")
    record, _ = api.control.offered(token)
    api.control.redirect(token, target)
    return Answer(correlation=record.data.correlation_id)


def _reject(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(rest.RejectCallRequest, asked.body)
    reason = (wanted.call_reject_reason or "none").lower()
    if reason not in REJECT_REASONS:
        raise ApiError(400, "8523", f"callRejectReason: {reason[:50]!r} is none of none, busy, forbidden.")
    token = _token(wanted.incoming_call_context)
    record, _ = api.control.offered(token)
    api.control.reject(token, REJECT_REASONS[reason])
    return Answer(correlation=record.data.correlation_id)


def _connect(api: Api, asked: Asked) -> Answer:
    wanted = rest.decode(participants.ConnectRequest, asked.body)
    kind, id = wanted.call_locator.where
    options = api.stream_options(wanted.media_streaming_options)
    callback = api.url(wanted.callback_uri, "callbackUri", ("http", "https"))
    party = api.ids.user(api.resource)
    record = api.control.locate(id) if kind == "server" else api.control.meet(f"{kind}:{id}", party)
    connection = Connection(
        id=record.worker.ids.guid(),
        party=party,
        callback=callback,
        api_version=asked.api_version,
        stream=_stream(record.worker.ids, options),
        operation_context=wanted.operation_context,
        joined=True,
    )
    api.control.join(record, connection)
    return _made(record.data, connection)


def _token(context: str) -> str:
    token = context_token(context)
    if token is None:
        raise ApiError(400, "8523", "incomingCallContext: not one that this server gave out.")
    return token


def _stream(ids: IdMint, options: StreamOptions | None) -> MediaStream:
    state = StreamState.DISABLED if options is None else StreamState.INACTIVE
    return MediaStream(ids.guid(), options, state)


# ------------------------------------------------------------------------------------------------ calls that there are


def _get(api: Api, asked: Asked) -> Answer:
    call, connection = api.control.connection(asked.path["callConnectionId"])
    return Answer(rest.encode(_properties(call, connection, fresh=False)), call.correlation_id)


def _hang_up(api: Api, asked: Asked) -> Answer:
    return api.command(asked, m.HangUp(asked.path["callConnectionId"]))


def _terminate(api: Api, asked: Asked) -> Answer:
    return api.command(asked, m.Terminate(asked.path["callConnectionId"]))


# ------------------------------------------------------------------------------------------------ media streaming


def _start_streaming(api: Api, asked: Asked) -> Answer:
    context, callback = _streaming_request(api, asked)
    return api.command(asked, m.StartStream(asked.path["callConnectionId"], context, callback))


def _stop_streaming(api: Api, asked: Asked) -> Answer:
    context, callback = _streaming_request(api, asked)
    return api.command(asked, m.StopStream(asked.path["callConnectionId"], context, callback))


def _streaming_request(api: Api, asked: Asked) -> tuple[str | None, str | None]:
    wanted = rest.decode(rest.MediaStreamingRequest, asked.body or b"{}")
    return wanted.operation_context, api.callback(wanted.operation_callback_uri)


# ------------------------------------------------------------------------------------------------ answers


def _made(call: CallData, connection: Connection) -> Answer:
    """Return the answer that makes a connection."""
    return Answer(rest.encode(_properties(call, connection, fresh=True)), call.correlation_id)


def _properties(call: CallData, connection: Connection, fresh: bool) -> rest.CallConnectionProperties:
    """Return the call as this connection sees it; `fresh`: in the answer that makes the connection (recorded 4.1)."""
    connected = connection.state is ConnectionState.CONNECTED and not fresh
    number = connection.source_number
    answered = connection.answered_by
    return rest.CallConnectionProperties(
        call_connection_id=connection.id,
        server_call_id=call.server_call_id if connected or answered else None,
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

HANDLERS: Mapping[str, Callable[[Api, Asked], Answer]] = {
    "createCall": _create,
    "answerCall": _answer,
    "redirectCall": _redirect,
    "rejectCall": _reject,
    "connect": _connect,
    "getCall": _get,
    "hangUp": _hang_up,
    "terminate": _terminate,
    "startMediaStreaming": _start_streaming,
    "stopMediaStreaming": _stop_streaming,
}
