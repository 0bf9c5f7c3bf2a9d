"""What every signed route has in common: the body is read and authenticated, and whatever goes wrong is answered in
the error envelope (contract 2.2, recorded 3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from offhook.call.call import Refusal, Refused
from offhook.server.metrics import UNAUTHORIZED
from offhook.server.placement import Busy
from offhook.server.repeats import RepeatMismatch
from offhook.wire import rest
from offhook.wire.auth import AuthError, KeysMissing, TokenRefused, Verifier

log = logging.getLogger(__name__)

BODY_LIMIT = rest.MAX_BODY  # bytes
BODY_TIMEOUT_S = 10.0  # for a body to arrive

REFUSALS: dict[Refusal, tuple[int, str]] = {  # HTTP status, ACS code (contract 3.3)
    Refusal.CALL_OVER: (404, "8522"),
    Refusal.INVITATION_GONE: (404, "8522"),
    Refusal.NOT_ESTABLISHED: (400, "8501"),
    Refusal.STREAMING_NOT_CONFIGURED: (400, "8581"),
    Refusal.PARTICIPANT_NOT_FOUND: (404, "8522"),
    Refusal.CALL_FULL: (400, "8585"),
    Refusal.TRANSFEREE_MISSING: (400, "8523"),
    Refusal.NOT_TRANSFERABLE: (400, "8585"),
    Refusal.TRANSFER_UNDER_WAY: (409, "8519"),
    Refusal.TOO_MANY_OPERATIONS: (400, "8500"),
}


class ApiError(Exception):
    """An answer in the error envelope."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


async def answer_signed(
    request: Request, verifier: Verifier, now: float, act: Callable[[Request, bytes], Response]
) -> Response:
    """Return what `act(request, body)` returns, or the answer to what went wrong. `now`: Unix time in seconds.

    `act` is called only for a request that is signed with one of our keys, or carries a token of an issuer that is
    trusted: 401, 408 and 413 come from here.
    """
    try:
        return act(request, await _authenticated_body(request, verifier, now))
    except ApiError as error:
        return _error(request, error.status, error.code, str(error), error.headers)
    except Refused as refused:
        return _error(request, *REFUSALS[refused.refusal], str(refused))
    except rest.InvalidBody as invalid:
        return _error(request, 400, "8523", str(invalid))
    except RepeatMismatch as mismatch:
        return _error(request, 412, "8583", str(mismatch), {"Repeatability-Result": "rejected"})
    except Busy as busy:
        return _error(request, 503, "8506", str(busy), {"Retry-After": "5"})
    except Exception:
        log.exception("%s %s failed", request.method, raw_path(request))
        return _error(request, 500, "9999", "Internal error.")


def json_response(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json; charset=utf-8")


def raw_path(request: Request) -> str:
    """Return the path as it came over the wire, percent-encoding and all."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.decode("latin-1")


def raw_id(identifier: rest.Identifier, field: str) -> str:
    """Return who is meant; raise `ApiError` naming `field` if nobody is."""
    try:
        return rest.raw_id(identifier)
    except ValueError as error:
        raise ApiError(400, "8523", f"{field}: {error}") from None


def _error(request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return json_response(status, rest.error_body(code, message, raw_path(request)), headers)


_SIGNED = frozenset({"authorization", "x-ms-date", "x-ms-content-sha256", "host"})


async def _authenticated_body(request: Request, verifier: Verifier, now: float) -> bytes:
    """Return the body if the request is authentic; raise `ApiError` (401, 408, 413, 503) if not."""
    body = await _read(request)
    query = request.scope["query_string"].decode("latin-1")
    target = f"{raw_path(request)}?{query}" if query else raw_path(request)
    headers: dict[str, str] = {}
    for name, value in request.scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in headers and key in _SIGNED:
            request.scope[UNAUTHORIZED] = "hmac"
            raise ApiError(401, "7509", f"Hmac Validation Error: the header {key} is there twice.")
        headers[key] = value.decode("latin-1")
    try:
        verifier.verify(request.method, target, headers, body, now)
    except TokenRefused as refused:
        request.scope[UNAUTHORIZED] = refused.reason
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise ApiError(401, "7501", f"Token Validation Error: {refused}", challenge) from None
    except AuthError as error:
        request.scope[UNAUTHORIZED] = error.reason
        raise ApiError(401, "7509", f"Hmac Validation Error: {error}") from None
    except KeysMissing as missing:
        raise ApiError(503, "8506", str(missing), {"Retry-After": "1"}) from None
    return body


async def _read(request: Request) -> bytes:
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size > BODY_LIMIT:
                    raise ApiError(413, "8523", "The body is larger than 1 MiB.")
                parts.append(part)
    except TimeoutError:
        raise ApiError(408, "8523", f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from None
    except ClientDisconnect:
        raise ApiError(400, "8523", "The body ended early.") from None
    return b"".join(parts)
