"""The caller API: place calls and hang them up as a simulated party, wait for calls as a simulated phone.

HTTP here, audio on the media worker's own port (`legs.simulated_legs`). Signed like the REST API, with the same keys,
and only there in the development profile. Documented in docs/caller-api.md; the structs below are its bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from offhook.media.weather import Weather
from offhook.server.control import Control
from offhook.server.metrics import OPERATION
from offhook.server.records import CallRecord
from offhook.server.requests import ApiError, answer_signed, json_response
from offhook.wire import rest
from offhook.wire.auth import Verifier
from offhook.wire.ids import parse_address

RATES = (8000, 16_000, 24_000, 48_000)


class NewCall(rest.Dto):
    """POST /offhook/calls. `to` and `from` are addresses: E.164 number, raw id, or bare name."""

    to: str
    from_: str = msgspec.field(default="+15550100", name="from")
    rate: int = 24_000
    display_name: str = ""
    custom_context: dict[str, dict[str, str]] | None = None  # {"sipHeaders": {}, "voipHeaders": {}}
    weather: Weather | None = None  # over the call


class NewPhone(rest.Dto):
    """POST /offhook/phones."""

    id: str
    rate: int = 24_000
    weather: Weather | None = None  # over each call to it, but those of a caller with another weather


class Placed(rest.Dto):
    """Answer to both: open `audio_url` within 10 s. `call_id` is empty for a phone."""

    id: str
    raw_id: str
    audio_url: str
    call_id: str = ""


class Callers:
    """The routes of the caller API."""

    def __init__(self, control: Control, verifier: Verifier, resource: str, wall: Callable[[], float]) -> None:
        self._control = control
        self._verifier = verifier
        self._resource = resource
        self._wall = wall

    def routes(self) -> list[Route]:
        return [
            self._route("/offhook/calls", "POST", self._place),
            self._route("/offhook/calls", "GET", self._list),
            self._route("/offhook/calls/{id}", "GET", self._show),
            self._route("/offhook/calls/{id}", "DELETE", self._hang_up),
            self._route("/offhook/phones", "POST", self._phone),
            self._route("/offhook/phones", "GET", self._phones),
        ]

    def _route(self, path: str, method: str, act: Callable[[Request, bytes], Response]) -> Route:
        def named(request: Request, body: bytes) -> Response:
            request.scope[OPERATION] = f"{method} {path}"
            return act(request, body)

        async def endpoint(request: Request) -> Response:
            return await answer_signed(request, self._verifier, self._wall(), named)

        return Route(path, endpoint, methods=[method])

    def _place(self, request: Request, body: bytes) -> Response:
        wanted = rest.decode(NewCall, body)
        _check_rate(wanted.rate)
        caller, to = self._address(wanted.from_, "from"), self._address(wanted.to, "to")
        name = wanted.display_name[:256]
        ticket = self._control.place_call(caller, to, wanted.rate, name, wanted.custom_context, wanted.weather)
        return _json(201, Placed(ticket.leg, caller, ticket.audio_url, ticket.call))

    def _phone(self, request: Request, body: bytes) -> Response:
        wanted = rest.decode(NewPhone, body)
        _check_rate(wanted.rate)
        party = self._address(wanted.id, "id")
        ticket = self._control.add_phone(party, wanted.rate, wanted.weather)
        return _json(201, Placed(ticket.leg, party, ticket.audio_url))

    def _list(self, request: Request, body: bytes) -> Response:
        records = [*self._control.registry.finished, *self._control.registry.calls.values()]
        return _json(200, {"calls": [_summary(record) for record in records]})

    def _show(self, request: Request, body: bytes) -> Response:
        record = self._control.registry.recent(request.path_params["id"])
        if record is None:
            raise ApiError(404, "8522", "Call not found.")
        return _json(200, {**_summary(record), "timeline": list(record.timeline), "streams": record.stats})

    def _hang_up(self, request: Request, body: bytes) -> Response:
        if not self._control.hang_up(request.path_params["id"]):
            raise ApiError(404, "8522", "Call not found.")
        return Response(status_code=204)

    def _phones(self, request: Request, body: bytes) -> Response:
        phones = [
            {"id": phone.leg, "rawId": phone.party, "waiting": phone.attached and phone.call is None}
            for phone in self._control.registry.phones.values()
        ]
        return _json(200, {"phones": phones})

    def _address(self, text: str, field: str) -> str:
        try:
            return parse_address(text, self._resource)
        except ValueError as error:
            raise ApiError(400, "8523", f"{field}: {error}") from None


def _check_rate(rate: int) -> None:
    if rate not in RATES:
        raise ApiError(400, "8523", f"rate: {rate} is none of {', '.join(map(str, RATES))}")


def _summary(record: CallRecord) -> dict[str, Any]:
    data = record.data
    return {
        "callId": data.id,
        "serverCallId": data.server_call_id,
        "correlationId": data.correlation_id,
        "from": data.caller,
        "began": record.began,
        "over": data.over,
        "legs": [{"rawId": leg.party, "state": leg.state.value} for leg in data.legs.values()],
        "connections": [
            {"callConnectionId": c.id, "state": c.state.value, "stream": c.stream.state.value, "rawId": c.party}
            for c in data.connections.values()
        ],
    }


def _json(status: int, body: Any) -> Response:
    return json_response(status, msgspec.json.encode(body))
