"""`GET /offhook/telephones`: how the telephones of this server are, for `offhook doctor`. Signed like the REST API."""

from __future__ import annotations

import asyncio
import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from offhook.legs.sip.stack import SipStack
from offhook.server.config import Settings
from offhook.server.control import Control
from offhook.server.lines import Line
from offhook.server.requests import answer_signed, json_response
from offhook.wire import rest
from offhook.wire.auth import Verifier

PATH = "/offhook/telephones"


class Registered(rest.Dto):
    """One trunk's registration. `seconds` that it is so; `detail`: the registrar's last answer, "not tried yet"."""

    trunk: str
    registered: bool
    seconds: float
    detail: str


class Talking(rest.Dto):
    """One telephone in a call. `heard`: its audio comes here; `reached`: ours does not come back as unreachable."""

    call_id: str
    party: str
    address: str  # where its audio is to go, "" while that is not known
    heard: bool
    reached: bool


class Telephones(rest.Dto):
    """`host` is what SIP and RTP are bound to; `sip` and `sips` are ports, None for what is off."""

    host: str
    sip: int | None
    sips: int | None
    registrations: list[Registered]
    talking: list[Talking]


def route(settings: Settings, control: Control, stack: SipStack | None, verifier: Verifier) -> Route:
    """Return the route of `PATH`; `stack` is None where no telephones are served."""

    def show(request: Request, body: bytes) -> Response:
        return json_response(200, msgspec.json.encode(_look(settings, control, stack)))

    async def endpoint(request: Request) -> Response:
        return await answer_signed(request, verifier, time.time(), show)

    return Route(PATH, endpoint)


def _look(settings: Settings, control: Control, stack: SipStack | None) -> Telephones:
    now, lines = asyncio.get_running_loop().time(), control.exchange.telephones
    ports = {} if stack is None else stack.ports
    tried = {} if stack is None else stack.registrations
    return Telephones(
        settings.sip.host or settings.host,
        ports.get("udp"),
        ports.get("tls"),
        [Registered(name, one.registered, round(now - one.since, 1), one.detail) for name, one in tried.items()],
        [] if lines is None else [_talking(control, line) for line in lines.answered_lines()],
    )


def _talking(control: Control, line: Line) -> Talking:
    record = control.registry.by_leg.get(line.leg)
    leg = None if record is None else record.data.legs.get(line.leg)
    remote = None if line.agreed is None else line.agreed.remote
    return Talking(
        "" if record is None else record.data.id,
        line.to if leg is None else leg.party,
        "" if remote is None else f"{remote[0]} port {remote[1]}",
        line.heard,
        line.reached,
    )
