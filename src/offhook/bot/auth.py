"""Is the socket's other end who it says: the JWT that ACS and Offhook put on the WebSocket upgrade (contract 3.4).

Needs PyJWT and cryptography: `pip install "offhook[auth]"`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from offhook.wire.auth import TokenRefused

if TYPE_CHECKING:
    from offhook.wire.bearer import Keys

ACS_ISSUER = "https://acscallautomation.communication.azure.com"  # of Offhook, too, unless it is configured
ACS_JWKS_URL = "https://acscallautomation.communication.azure.com/calling/keys"
JWKS_PATH = "/calling/keys"  # on an Offhook server

LEEWAY_S = 60  # by which two clocks may differ
REFRESH_S = 3600.0  # keys this old are fetched again while they are used on
AGAIN_S, RETRY_S = 60.0, 1.0  # after a fetch, and after a failed one: an unknown key id, which anyone can send, asks
FETCH_TIMEOUT_S = 5.0
FETCH_LIMIT = 256 << 10  # bytes of a JWKS document

_log = logging.getLogger(__name__)


class TokenRejected(Exception):
    """The token is missing, wrong or expired; the text says which."""


class KeysMissing(Exception):
    """The key that could judge the token is not at hand, and could not be fetched."""


class TokenVerifier:
    """Checks `Authorization: Bearer …` against the keys of a service. Make one and keep it.

        verifier = TokenVerifier("https://127.0.0.1:7443/calling/keys", audience=resource_id, ssl_context=...)
        server = await serve(handler, port=8080, verify=verifier)

    `keys` is the URL of a JWKS document (`ACS_JWKS_URL`, or `JWKS_PATH` on an Offhook server), or the document itself.
    `audience` is the resource's id, a GUID. RS256 only; `iss`, `aud` and `exp` are required; clocks may differ
    by a minute. Keys from a URL are fetched by `prepare` (which `serve` calls), each hour, and when a token names a key
    that is not known, at most once a minute (once a second while fetching fails); never on the event loop. Raises
    ImportError without PyJWT.
    """

    def __init__(
        self,
        keys: str | Mapping[str, Any],
        audience: str,
        issuer: str = ACS_ISSUER,
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`ssl_context`: to fetch keys from a server with a private CA. Raises ValueError for keys that are none."""
        self._bearer = _import_bearer()
        self._url = keys if isinstance(keys, str) else None
        self._audience = audience
        self._issuer = issuer
        self._ssl = ssl_context
        self._keys: Keys = {} if isinstance(keys, str) else self._bearer.read_keys(keys)
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Fetch the keys if there are none yet; a failure is logged, and put right when a token comes."""
        if not self._keys:
            await self._refresh()

    async def claims(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the claims of the token in an upgrade's (or callback's) headers, fetching keys when that is needed.

        For other WebSocket servers than `serve`. `headers` must not mind case, or be in lower case. Raises
        TokenRejected; KeysMissing when keys are needed and cannot be had.
        """
        try:
            return self._check(headers)
        except KeysMissing:
            if not await self._refresh():
                raise
            return self._check(headers)

    def status(self, headers: Mapping[str, str]) -> HTTPStatus:
        """Judge an upgrade without waiting: 200; 401; or 503 while keys are being fetched, for it to come again."""
        if self._url is not None and time.monotonic() > self._fetched_at + REFRESH_S:
            self._fetch_soon()
        try:
            self._check(headers)
        except TokenRejected as error:
            _log.warning("a socket is refused: %s", error)
            return HTTPStatus.UNAUTHORIZED
        except KeysMissing:
            if not self._fetch_soon():
                _log.warning("a socket is refused: its token is signed with a key that is not known")
                return HTTPStatus.UNAUTHORIZED
            return HTTPStatus.SERVICE_UNAVAILABLE
        return HTTPStatus.OK

    def _check(self, headers: Mapping[str, str]) -> dict[str, Any]:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenRejected("there is no bearer token")
        try:
            name = self._bearer.key_id(token)
            if name not in self._keys and self._url is not None:
                raise KeysMissing(f"no key {name!r} at {self._url}")
            claims: dict[str, Any] = self._bearer.claims(
                token, self._keys, self._issuer, [self._audience], time.time(), LEEWAY_S
            )
        except TokenRefused as error:
            raise TokenRejected(str(error)) from None
        return claims

    # ------------------------------------------------------------------------------------------------------- keys

    def _fetch_soon(self) -> bool:
        """Begin to fetch the keys, unless that is under way or failed just now; False when they are new."""
        if self._fetching is None:
            now = time.monotonic()
            if now < self._fetched_at + AGAIN_S:
                return False
            if now < self._tried_at + RETRY_S:
                return True  # it failed: the next try may not
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return True

    async def _refresh(self) -> bool:
        """Fetch the keys and wait for them; False when there was no try."""
        if not self._fetch_soon() or self._fetching is None:
            return False
        await asyncio.shield(self._fetching)
        return True

    async def _fetch(self) -> None:
        try:
            self._tried_at = time.monotonic()
            self._keys = self._bearer.read_keys(json.loads(await asyncio.to_thread(self._get)))
            self._fetched_at = time.monotonic()
        except (OSError, ValueError) as error:
            _log.warning("the keys to check tokens by could not be fetched from %s: %s", self._url, error)
        finally:
            self._fetching = None

    def _get(self) -> bytes:
        assert self._url is not None
        if not self._url.startswith(("https://", "http://")):
            raise ValueError("only http and https are fetched")
        with urllib.request.urlopen(self._url, timeout=FETCH_TIMEOUT_S, context=self._ssl) as response:
            document: bytes = response.read(FETCH_LIMIT)
        return document


def _import_bearer() -> Any:
    try:
        import cryptography  # noqa: F401 (PyJWT works without it until the first RSA key)
        import jwt  # noqa: F401

        from offhook.wire import bearer
    except ImportError as error:
        raise ImportError('checking tokens needs PyJWT and cryptography: pip install "offhook[auth]"') from error
    return bearer
