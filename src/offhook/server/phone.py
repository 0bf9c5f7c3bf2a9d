"""A phone in the browser, "talk to my bot": the page, its files, and what it asks of the server.

Only in the development profile. The page knows no access key. It is given a token of its own, made at each start, that
these routes take and no others: they place calls, and show and end those calls. That keeps out what else the person's
browser has open: another site cannot read the page and hence the token, nor send the header that carries it; one that
points its own name at this machine (DNS rebinding) is found out by Host. Documented in docs/browser-phone.md.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Collection, Sequence
from importlib import resources
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from offhook.server.callers import RATES
from offhook.server.control import Control
from offhook.server.placement import Busy
from offhook.server.registry import FINISHED
from offhook.server.requests import ApiError, json_response
from offhook.wire import rest
from offhook.wire.ids import parse_address

CALLER = "+15550100"  # who the app is told is calling
TOKEN_HEADER = "x-offhook-page"
MAX_CALLS = 10  # under way at a time, of all open pages
BODY_LIMIT = 4096  # bytes
BODY_TIMEOUT_S = 5.0  # for a body to arrive

_PAGE = "index.html"
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".mjs": "text/javascript", ".svg": "image/svg+xml"}


class NewCall(rest.Dto):
    """POST /phone/calls."""

    to: str  # an address: E.164 number, raw id, or bare name
    rate: int = 24_000


class BrowserPhone:
    """The routes of the page. It answers under loopback's names and under `names`; any other Host gets 421."""

    def __init__(self, control: Control, resource: str, names: Collection[str] = ()) -> None:
        self._control = control
        self._resource = resource
        self._names = frozenset(name.lower() for name in names)
        self._token = secrets.token_urlsafe(24)
        self._placed: deque[str] = deque(maxlen=FINISHED)  # ids of the calls that pages have placed
        self._headers = _headers([worker.audio for worker in control.workers])

    def routes(self) -> list[Route]:
        folder = resources.files("offhook.server") / "static" / "phone"
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        page = files.pop(_PAGE).replace(b"{{token}}", self._token.encode())
        return [
            self._file("/phone", _PAGE, page),
            *(self._file(f"/phone/{name}", name, content) for name, content in files.items()),
            self._route("/phone/calls", "POST", self._place),
            self._route("/phone/calls/{id}", "GET", self._show),
            self._route("/phone/calls/{id}", "DELETE", self._hang_up),
        ]

    def _file(self, path: str, name: str, content: bytes) -> Route:
        media_type = _MEDIA_TYPES[name[name.rindex(".") :]]

        async def endpoint(request: Request) -> Response:
            try:
                self._check_host(request)
            except ApiError as error:
                return self._error(request, error)
            return Response(content, headers=self._headers, media_type=media_type)

        return Route(path, endpoint)

    def _route(self, path: str, method: str, act: Callable[[Request, bytes], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                self._check_host(request)
                self._check_page(request)
                response = act(request, await _read(request))
            except ApiError as error:
                return self._error(request, error)
            except rest.InvalidBody as invalid:
                return self._error(request, ApiError(400, "8523", str(invalid)))
            except Busy as busy:
                return self._error(request, ApiError(503, "8506", str(busy)))
            response.headers.update(self._headers)
            return response

        return Route(path, endpoint, methods=[method])

    def _error(self, request: Request, error: ApiError) -> Response:
        return json_response(error.status, rest.error_body(error.code, str(error), request.url.path), self._headers)

    # ------------------------------------------------------------------------------------------ who may ask

    def _check_host(self, request: Request) -> None:
        """Raise 421 unless the page was asked for by a name of ours: a rebound name is the attacker's."""
        try:
            name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._names and not _is_loopback(name):
            raise ApiError(421, "8523", "This name is not one of the server's: open the page by 127.0.0.1 or --name.")

    def _check_page(self, request: Request) -> None:
        """Raise 403 unless the request comes from a page of this start of the server."""
        own = f"{request.url.scheme}://{request.headers['host']}"
        origin = request.headers.get("origin")
        # A browser names the origin of whatever changes something, and may leave it out when a page reads its own.
        if origin != own and not (origin is None and request.method == "GET"):
            raise ApiError(403, "8523", "This request does not come from the server's own page.")
        token = request.headers.get(TOKEN_HEADER, "").encode()
        if not secrets.compare_digest(token, self._token.encode()):
            raise ApiError(403, "8523", "The server was started again since this page was opened: reload the page.")

    # ------------------------------------------------------------------------------------------ what it may ask

    def _place(self, request: Request, body: bytes) -> Response:
        wanted = rest.decode(NewCall, body)
        if wanted.rate not in RATES:
            raise ApiError(400, "8523", f"rate: {wanted.rate} is none of {', '.join(map(str, RATES))}")
        try:
            caller, to = parse_address(CALLER, self._resource), parse_address(wanted.to.strip(), self._resource)
        except ValueError as error:
            raise ApiError(400, "8523", str(error)) from None
        if sum(id in self._control.registry.calls for id in self._placed) >= MAX_CALLS:
            raise Busy("There are as many calls as there may be from this page.")
        ticket = self._control.place_call(caller, to, wanted.rate, "Browser phone")
        self._placed.append(ticket.call)
        return _json(201, {"id": ticket.call, "audioUrl": ticket.audio_url})

    def _show(self, request: Request, body: bytes) -> Response:
        """The timeline, oldest first, and the figures of the sockets that have ended, by stream."""
        record = self._control.registry.recent(self._own_call(request))
        if record is None:
            raise ApiError(404, "8522", "Call not found.")
        told = {"began": record.began, "over": record.data.over, "timeline": list(record.timeline)}
        return _json(200, {**told, "streams": record.stats})

    def _hang_up(self, request: Request, body: bytes) -> Response:
        if not self._control.hang_up(self._own_call(request)):
            raise ApiError(404, "8522", "Call not found.")
        return Response(status_code=204)

    def _own_call(self, request: Request) -> str:
        id: str = request.path_params["id"]
        if id not in self._placed:
            raise ApiError(404, "8522", "Call not found.")
        return id


def _headers(audio: Sequence[str]) -> dict[str, str]:
    """Of every answer: nothing is kept, and the page runs nothing but its own files and talks to nobody else."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": " ".join(["'self'", *audio]),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _is_loopback(name: str) -> bool:
    """Whether a host name always means this machine. An address cannot be rebound."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                body += part
                if len(body) > BODY_LIMIT:
                    raise ApiError(413, "8523", f"The body is larger than {BODY_LIMIT} bytes.")
    except TimeoutError:
        raise ApiError(408, "8523", f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from None
    except ClientDisconnect:
        raise ApiError(400, "8523", "The body ended early.") from None
    return bytes(body)


def _json(status: int, body: Any) -> Response:
    return json_response(status, msgspec.json.encode(body))
