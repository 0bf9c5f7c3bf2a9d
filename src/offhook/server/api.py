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
    StreamOptions,
)
from offhook.media.egress import AddressPolicy
from offhook.server import api_calls, api_media, api_people
from offhook.server.control import Control
from offhook.server.metrics import OPERATION
from offhook.server.repeats import Answer
from offhook.server.requests import ApiError, answer_signed, json_response, raw_path
from offhook.wire import rest
from offhook.wire.auth import Verifier
from offhook.wire.ids import IdMint

log = logging.getLogger(__name__)

SUPPORTED = (
    "2023-03-06, 2023-10-15, 2024-04-15, 2024-09-15, 2025-05-15, 2025-06-15, 2026-03-12"  # api-supported-versions
)

ACCEPTED = (
    frozenset(  # operations whose answer has Repeatability-Result; others do not, although they get ids (recorded 1.1)
        {
            "terminate",
            "transferToParticipant",
            "addParticipant",
            "removeParticipant",
            "moveParticipants",
            "cancelAddParticipant",
            "mute",
            "sendDtmfTones",
        }
    )
)

CHAIN = "X-Microsoft-Skype-Chain-ID"  # header: the call's correlation id; a fresh GUID when there is no call


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
        self.control = control
        self._verifier = verifier
        self.ids = ids
        self.resource = resource
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
            response.headers.setdefault(CHAIN, self.ids.guid())
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
        answer = self.control.once(request_id, whole, lambda: handler(self, asked))
        response = (
            json_response(operation.success, answer.body) if answer.body else Response(status_code=operation.success)
        )
        if answer.correlation is not None:
            response.headers[CHAIN] = answer.correlation
        if request_id is not None and operation.name in ACCEPTED:
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

    # ------------------------------------------------------------------------------------------ what handlers need

    def command(self, asked: Asked, command: m.Command) -> Answer:
        """Apply a command of the app whose connection is asked for. Raises `Refused`."""
        call, connection = self.control.connection(asked.path["callConnectionId"])
        self.control.command(connection.id, command)
        return Answer(correlation=call.correlation_id)

    def callback(self, url: str | None) -> str | None:
        """Return where one operation wants its events sent; raise `ApiError` when it is no URL."""
        return None if url is None else self.url(url, "operationCallbackUri", ("http", "https"))

    def stream_options(self, wanted: rest.MediaStreamingOptions | None) -> StreamOptions | None:
        """Return the stream that is wanted; raise `ApiError` when its URL is none. None for none."""
        if wanted is None:
            return None
        url = wanted.transport_url
        return StreamOptions(
            url="" if not url else self.url(url, "transportUrl", ("ws", "wss")),
            rate=wanted.rate,
            unmixed=wanted.unmixed,
            bidirectional=bool(wanted.enable_bidirectional),
            dtmf=bool(wanted.enable_dtmf_tones),
            start=bool(wanted.start_media_streaming),
        )

    def url(self, text: str, field: str, schemes: tuple[str, ...]) -> str:
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

    # ------------------------------------------------------------------------------------------ identities

    def _create_identity(self, request: Request, body: bytes) -> Response:
        request.scope[OPERATION] = "createIdentity"
        wanted = rest.decode(rest.CreateIdentityRequest, body or b"{}")
        user = self.ids.user(self.resource)
        answer = rest.identity_response(user, wanted, self._wall())
        return json_response(201, rest.encode(answer))

    # ------------------------------------------------------------------------------------------ the operations

    _HANDLERS: ClassVar[dict[str, Callable[[Api, Asked], Answer]]] = {
        **api_calls.HANDLERS,
        **api_people.HANDLERS,
        **api_media.HANDLERS,
    }
    implemented: ClassVar[frozenset[str]] = frozenset(_HANDLERS)  # every other operation is answered with 501


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
