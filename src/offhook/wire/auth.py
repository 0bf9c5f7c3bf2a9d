"""The access key scheme of the REST API: HMAC-SHA256 over method, path, date, host and body (contract 1.1 to 1.3).

The SDKs disagree on the host and the path they sign: with or without port, with a trailing slash, with another
percent-encoding than they send. `Verifier` therefore tries a small set of candidates, the usual one first. A request
may carry a bearer token instead (`bearer`).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn
from urllib.parse import quote, unquote

import pybase64

_SIGNED_HEADERS = "x-ms-date;host;x-ms-content-sha256"
_AUTHORIZATION = re.compile(
    r"HMAC-SHA256 +SignedHeaders=([^&]+)&Signature=([A-Za-z0-9+/]{43}=)", re.IGNORECASE | re.ASCII
)
_PORT = re.compile(r":[0-9]+$")
_MAX_DATE = 40  # characters; an HTTP date has 29


class AuthError(Exception):
    """The request is not authentic. `str()` says why, in words that may be sent to the client: never the key."""

    reason = "hmac"  # a word for metrics


class TokenRefused(AuthError):
    """The bearer token is wrong; `reason` is one of TOKEN_REASONS."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class KeysMissing(Exception):
    """The key that could judge a bearer token is not at hand yet: the request may come again in a second."""


TOKEN_REASONS = (
    "not_accepted",
    "malformed",
    "unknown_key",
    "signature",
    "issuer",
    "audience",
    "expired",
    "early",
    "subject",
)
VerifyToken = Callable[[str, float], None]
"""`verify(token, now)` returns if the token is good; raises `TokenRefused` or `KeysMissing`. `now`: Unix seconds."""


def decode_key(text: str) -> bytes:
    """Return the bytes of an access key; raise ValueError when it is not standard base64 of at least one byte."""
    try:
        key = pybase64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("an access key must be standard base64, with its padding") from None
    if not key:
        raise ValueError("the access key is empty")
    return key


def sign(method: str, path_and_query: str, host: str, body: bytes, key: str, date: str) -> dict[str, str]:
    """Return the headers that authenticate a request, as the SDKs send them.

    `path_and_query` as it goes on the wire; `host` as in the Host header; `key` in base64; `date` an HTTP date.
    """
    content_hash = _content_hash(body)
    signature = pybase64.b64encode_as_string(_digest(decode_key(key), method, path_and_query, date, host, content_hash))
    return {
        "x-ms-date": date,
        "x-ms-content-sha256": content_hash,
        "Authorization": f"HMAC-SHA256 SignedHeaders={_SIGNED_HEADERS}&Signature={signature}",
    }


def refuse_tokens(token: str, now: float) -> NoReturn:
    """A `VerifyToken` for servers that nobody told of an issuer."""
    raise TokenRefused("not_accepted", "bearer tokens are not accepted here: use an access key")


class Verifier:
    """Checks signed requests against every one of `keys` (base64), so that a key can be replaced without a gap.

    `names` are the server's public names, with or without port, for servers behind a proxy that rewrites Host (each
    costs a few more candidates). A date may be off by `window_s` seconds either way; JavaScript repeats a request
    with its first date. A request with a bearer token is left to `verify_token`.
    """

    def __init__(
        self,
        keys: Sequence[str],
        names: Sequence[str] = (),
        window_s: float = 900,
        verify_token: VerifyToken = refuse_tokens,
    ) -> None:
        if not keys:
            raise ValueError("no access key given")
        self._keys = [decode_key(key) for key in keys]
        self._names = tuple(names)
        self._window_s = window_s
        self._verify_token = verify_token

    def verify(self, method: str, target: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """Return if the request is authentic, else raise `AuthError`, or what `verify_token` raises.

        `target` is the raw request target (path and query, undecoded), `headers` have lower-case names, `body` is
        what was received, `now` the Unix time in seconds.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._verify_token(token.strip(), now)
        signature = _sent_signature(headers)
        date = self._sent_date(headers, now)
        content_hash = _content_hash(body)
        if not hmac.compare_digest(
            _header(headers, "x-ms-content-sha256").encode("utf-8", "replace"), content_hash.encode()
        ):
            raise AuthError("x-ms-content-sha256 is not the SHA-256 of the body that arrived")
        for path in _paths(target):
            for host in self._hosts(headers):
                for key in self._keys:
                    if hmac.compare_digest(signature, _digest(key, method, path, date, host, content_hash)):
                        return
        raise AuthError(
            f"the signature does not match: another access key, or signed for another host than "
            f"{headers.get('host', '')[:100]!r} or another path than {target[:200]!r}"
        )

    def _sent_date(self, headers: Mapping[str, str], now: float) -> str:
        date = _header(headers, "x-ms-date")
        try:
            if len(date) > _MAX_DATE:
                raise ValueError
            moment = parsedate_to_datetime(date)
            offset = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, IndexError, OverflowError):
            raise AuthError("x-ms-date is not an HTTP date such as 'Sun, 22 Nov 2026 06:37:38 GMT'") from None
        if abs(offset) > self._window_s:
            at = datetime.fromtimestamp(now, UTC).strftime("%H:%M:%S")
            raise AuthError(f"x-ms-date is {offset:+.0f} s off this server's clock ({at} UTC): compare the clocks")
        return date

    def _hosts(self, headers: Mapping[str, str]) -> Iterator[str]:
        """What may have been signed as host, likeliest first."""
        sent = headers.get("host", "")
        port = _PORT.search(sent)
        for name in (sent, headers.get("x-ms-host"), headers.get("x-forwarded-host"), *self._names):
            if not name:
                continue
            bare = _PORT.sub("", name)
            # Java drops the port; Python keeps a default port that HTTP leaves out of Host; a public name may be
            # configured without the port it is served on.
            for host in dict.fromkeys((name, bare, f"{bare}:443", f"{bare}:80", bare + (port.group() if port else ""))):
                yield host
                yield f"{host}/"  # Python, when the endpoint was given with a trailing slash


def _paths(target: str) -> Iterator[str]:
    """What may have been signed as path and query, likeliest first."""
    yield target
    path, mark, query = target.partition("?")
    # aiohttp rewrites the path after the SDK signed it: `8%3Aacs%3A…` is signed, `8:acs:…` sent (contract 1.2).
    encoded = "/".join(quote(unquote(segment), safe="", errors="replace") for segment in path.split("/")) + mark + query
    if encoded != target:
        yield encoded
    decoded = unquote(target)
    if decoded != target:
        yield decoded


def _sent_signature(headers: Mapping[str, str]) -> bytes:
    authorization = _header(headers, "authorization")
    match = _AUTHORIZATION.fullmatch(authorization)
    if not match or match[1].lower() != _SIGNED_HEADERS:
        raise AuthError(f"Authorization is not of the form 'HMAC-SHA256 SignedHeaders={_SIGNED_HEADERS}&Signature=…'")
    return pybase64.b64decode(match[2])


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise AuthError(f"the {name} header is missing")
    return value


def _content_hash(body: bytes) -> str:
    return pybase64.b64encode_as_string(hashlib.sha256(body).digest())


def _digest(key: bytes, method: str, path: str, date: str, host: str, content_hash: str) -> bytes:
    text = f"{method}\n{path}\n{date};{host};{content_hash}"
    # A header may hold what UTF-8 cannot: such a text shall match nothing, and not raise.
    return hmac.digest(key, text.encode("utf-8", "replace"), "sha256")
