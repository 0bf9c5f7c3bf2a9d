"""Bearer tokens: JWTs that an issuer signed with RS256, judged by the keys of its JWKS document (RFC 7517, 7519).

Nothing is fetched and no clock is read here. Needs PyJWT and cryptography, so only those who check tokens import it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import jwt

from offhook.wire.auth import TokenRefused

MAX_TOKEN = 16 * 1024  # characters; those of Entra with many groups in them have some thousands

Keys = Mapping[str, jwt.PyJWK]
"""Public RSA keys by their ids."""

# Times are checked here, by the caller's clock. RS256 alone: neither `none` nor a public key taken for a shared secret.
_OPTIONS: Any = {"require": ["exp", "iss", "aud"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
_REASONS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidAlgorithmError, "signature"),
    (jwt.InvalidIssuerError, "issuer"),
    (jwt.InvalidAudienceError, "audience"),
)


def read_keys(document: object) -> dict[str, jwt.PyJWK]:
    """Return the usable keys of a JWKS document by their ids; raise `ValueError` when there is none.

    Keys of another kind or for another use are left out, and those that cannot be read.
    """
    keys = document.get("keys") if isinstance(document, Mapping) else None
    found: dict[str, jwt.PyJWK] = {}
    for key in keys if isinstance(keys, list) else []:
        if isinstance(key, Mapping) and key.get("kty") == "RSA" and key.get("use", "sig") == "sig":
            try:
                found[str(key.get("kid", ""))] = jwt.PyJWK({**key}, algorithm="RS256")
            except (jwt.PyJWTError, ValueError, TypeError):
                continue
    if not found:
        raise ValueError("the JWKS document has no RSA key to check signatures by")
    return found


def key_id(token: str) -> str:
    """Return the id of the key that a token says it is signed with, "" when it says none. Nothing is checked."""
    try:
        if len(token) > MAX_TOKEN:
            raise TokenRefused("malformed", f"the token has more than {MAX_TOKEN} characters")
        name: str = jwt.get_unverified_header(token).get("kid", "")
    except jwt.PyJWTError as error:
        raise TokenRefused("malformed", f"this is no JWT: {error}") from None
    return name


def claims(
    token: str, keys: Keys, issuer: str, audiences: Collection[str], now: float, leeway_s: float
) -> dict[str, Any]:
    """Return the claims of a good token; raise `TokenRefused` for any other.

    `iss`, `aud` and `exp` have to be there, `nbf` may be. `now`: Unix seconds; two clocks may differ by `leeway_s`.
    """
    key = keys.get(key_id(token))
    if key is None:
        raise TokenRefused("unknown_key", "it is signed with a key that is not known")
    try:
        found: dict[str, Any] = jwt.decode(
            token, key, algorithms=["RS256"], audience=audiences, issuer=issuer, options=_OPTIONS
        )
    except jwt.PyJWTError as error:
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "malformed")
        raise TokenRefused(reason, str(error)) from None
    if not now < _time(found, "exp") + leeway_s:
        raise TokenRefused("expired", "the token has expired")
    if "nbf" in found and not _time(found, "nbf") - leeway_s <= now:
        raise TokenRefused("early", "the token is not valid yet")
    return found


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused("malformed", f"{name} is not a time")
    return value
