"""Bearer tokens in place of an access key: whose are taken, and in the development profile where an app gets them.

An app that was written with `DefaultAzureCredential` asks its surroundings for a token. On a laptop there are none, so
Offhook plays the managed identity endpoint of Azure App Service and takes what it gave out. In production it takes
those of one OpenID issuer, when the configuration names one. Documented in docs/identity.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offhook.server import files
from offhook.server.config import Settings
from offhook.server.tokens import IDENTITY_ISSUER, IDENTITY_LIFE_S, TokenSigner
from offhook.wire import bearer
from offhook.wire.auth import KeysMissing, TokenRefused, refuse_tokens

log = logging.getLogger(__name__)

RESOURCE = "https://communication.azure.com"  # what SDKs ask a token for, with a slash behind it or without
ENDPOINT_PATH = "/msi/token"  # as in App Service
SECRET_HEADER = "x-identity-header"

LEEWAY_S = 300.0  # by which the issuer's clock and ours may differ
SAY_AGAIN_S = 60.0  # before the same reason for a refusal stands in the log again

REFRESH_S = 3600.0  # keys this old are fetched again while they are used on
AGAIN_S = 30.0  # between two fetches: anyone can send a token that names a key which is not known
RETRY_S = (1.0, 2.0, 5.0, 10.0, AGAIN_S)  # after a fetch that failed; the last one repeats
FETCH_TIMEOUT_S = 5.0
FETCH_LIMIT = 256 << 10  # bytes of a document

Fetch = Callable[[str], Awaitable[object]]
"""`fetch(url)` returns the JSON document there. Raises `OSError` or `ValueError`."""


def secret(data_dir: Path) -> str:
    """Return what an app has to send in X-IDENTITY-HEADER; it is made once and kept in `data_dir`."""
    return files.make_once(data_dir / "identity-header", lambda: secrets.token_urlsafe(32).encode()).decode()


class ManagedIdentity:
    """The token endpoint of Azure App Service, version 2019-08-01, for whoever sends the secret.

    All identities are the same one here: `client_id` and the like are not looked at. Errors have App Service's form.
    """

    def __init__(self, signer: TokenSigner, secret: str, client_id: str, wall: Callable[[], float]) -> None:
        """`client_id` is told to apps that ask whose token it is; `wall` gives Unix time in seconds."""
        self._signer = signer
        self._secret = secret.encode()
        self._client_id = client_id
        self._wall = wall

    def route(self) -> Route:
        return Route(ENDPOINT_PATH, self._give)

    async def _give(self, request: Request) -> Response:
        sent = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(sent.encode(), self._secret):
            return _refusal(401, "X-IDENTITY-HEADER is not what `offhook env` says")
        resource = request.query_params.get("resource", "")
        if resource.rstrip("/") != RESOURCE:
            return _refusal(400, f"there are only tokens for {RESOURCE}/ here")
        now = self._wall()
        answer = {
            "access_token": self._signer.identity(now, resource),
            "client_id": self._client_id,
            "expires_on": str(int(now) + IDENTITY_LIFE_S),
            "not_before": str(int(now)),
            "resource": resource,
            "token_type": "Bearer",
        }
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"statusCode": status, "message": message}, status)


# ------------------------------------------------------------------------------------------------ whose are taken


class OpenIdKeys:
    """The public keys of an OpenID issuer: `async with OpenIdKeys(…).kept() as keys`.

    They are fetched in the background: at the start, each hour, and when a token names one that is not known, at most
    every 30 s. What was fetched last is used until something newer could be had.
    """

    def __init__(self, issuer: str, url: str | None, fetch: Fetch) -> None:
        """`url`: of the JWKS document; None: it is looked up in the issuer's OpenID configuration."""
        self.known: bearer.Keys = {}
        self._issuer = issuer
        self._url = url
        self._fetch = fetch
        self._fetched_at = float("-inf")
        self._wanted = asyncio.Event()

    def refresh(self) -> bool:
        """Ask for newer keys; return False when these are so new that there cannot be any."""
        self._wanted.set()
        return asyncio.get_running_loop().time() >= self._fetched_at + AGAIN_S

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[OpenIdKeys]:
        keeping = asyncio.create_task(self._keep())
        try:
            yield self
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._wanted.clear()
            try:
                self.known = bearer.read_keys(await self._fetch(self._url or await self._look_up()))
            except (OSError, ValueError, RecursionError) as error:
                log.warning("the keys of %s could not be fetched: %s", self._issuer, error)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
                continue
            failures = 0
            self._fetched_at = asyncio.get_running_loop().time()
            await asyncio.sleep(AGAIN_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S - AGAIN_S):
                    await self._wanted.wait()

    async def _look_up(self) -> str:
        """Return where the keys are (OpenID Connect Discovery 1.0)."""
        document = await self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if not isinstance(document, Mapping) or document.get("issuer") != self._issuer:
            raise ValueError(f"its OpenID configuration is not that of the issuer {self._issuer!r}")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise ValueError("its OpenID configuration has no jwks_uri")
        if self._issuer.startswith("https://") and not url.startswith("https://"):
            raise ValueError("its jwks_uri is not https")
        return url


@dataclass(frozen=True)
class Trusted:
    """An issuer whose tokens are taken. `subjects` empty: whoever they are about."""

    issuer: str
    audiences: Collection[str]
    keys: Callable[[], bearer.Keys]
    subjects: Collection[str] = ()
    refresh: Callable[[], bool] = lambda: False  # asks for newer keys; False: there cannot be any


class Tokens:
    """Judges the tokens that requests carry; the log says why one was refused, each reason once a minute."""

    def __init__(self, trusted: Collection[Trusted]) -> None:
        self._trusted = trusted
        self._said: dict[str, float] = {}  # reason → when

    def verify(self, token: str, now: float) -> None:
        """Return if the token is good; see `VerifyToken`. Nothing is waited for."""
        try:
            self._judge(token, now)
        except TokenRefused as refused:
            if not 0 <= now - self._said.get(refused.reason, float("-inf")) < SAY_AGAIN_S:
                self._said[refused.reason] = now
                log.warning("a request is refused for its token: %s", refused)
            raise

    def _judge(self, token: str, now: float) -> None:
        if not self._trusted:
            refuse_tokens(token, now)
        name = bearer.key_id(token)
        for trusted in self._trusted:
            keys = trusted.keys()
            if name in keys:
                claims = bearer.claims(token, keys, trusted.issuer, trusted.audiences, now, LEEWAY_S)
                if trusted.subjects and claims.get("sub") not in trusted.subjects:
                    raise TokenRefused("subject", "its subject is not among those that may ask here")
                return
        if any(trusted.refresh() for trusted in self._trusted):
            raise KeysMissing("The keys to check the token by are being fetched; come again.")
        raise TokenRefused("unknown_key", "it is signed with a key that is not known here")


@contextlib.asynccontextmanager
async def tokens(settings: Settings, signer: TokenSigner, trust: ssl.SSLContext) -> AsyncIterator[Tokens]:
    """Take the tokens that the configuration says: our own in development, and those of `openid_issuer`."""
    trusted = []
    if settings.managed_identity:
        ours = bearer.read_keys(signer.jwks())
        trusted.append(Trusted(IDENTITY_ISSUER, _either(RESOURCE), lambda: ours))
    async with contextlib.AsyncExitStack() as stack:
        if settings.openid_issuer is not None:
            fetch = await stack.enter_async_context(_fetching(trust))
            keys = OpenIdKeys(settings.openid_issuer, settings.openid_keys, fetch)
            await stack.enter_async_context(keys.kept())
            audiences, subjects = _either(*settings.openid_audiences), frozenset(settings.openid_subjects)
            trusted.append(Trusted(settings.openid_issuer, audiences, lambda: keys.known, subjects, keys.refresh))
        yield Tokens(trusted)


def _either(*audiences: str) -> frozenset[str]:
    """With and without a slash at the end: the scope of some SDKs has one too many."""
    bare = [audience.rstrip("/") for audience in audiences]
    return frozenset([*audiences, *bare, *(f"{audience}/" for audience in bare)])


@contextlib.asynccontextmanager
async def _fetching(trust: ssl.SSLContext) -> AsyncIterator[Fetch]:
    """Fetch over HTTP. The operator names the issuer, so it may be anywhere; redirects are not followed."""
    timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust), timeout=timeout) as session:

        async def fetch(url: str) -> object:
            try:
                async with session.get(url, allow_redirects=False) as response:
                    if response.status != 200:
                        raise OSError(f"{url} answers {response.status}")
                    body = b""
                    while part := await response.content.read(FETCH_LIMIT):
                        body += part
                        if len(body) > FETCH_LIMIT:
                            raise ValueError(f"{url} has more than {FETCH_LIMIT} bytes")
            except (aiohttp.ClientError, TimeoutError) as error:
                raise OSError(f"{url}: {type(error).__name__} {error}") from None
            document: object = json.loads(body)
            return document

        yield fetch
