"""The JWTs that we sign: on callbacks and media sockets, with the documents by which apps verify them (contract 3.4),
and, in the development profile, those that an app gets from the managed identity endpoint."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from offhook.server import files

OPENID_PATH = "/calling/.well-known/acsopenidconfiguration"
JWKS_PATH = "/calling/keys"

CALLBACK_LIFE_S = 300
SOCKET_LIFE_S = 24 * 3600
IDENTITY_LIFE_S = 3600
IDENTITY_ISSUER = "urn:offhook:identity"  # another one than of callbacks and sockets: an app's server gets those, too


class TokenSigner:
    """Signs with an RS256 key that is made once and kept in `data_dir`.

    ACS signs a new token for each event. Signing costs a third of a millisecond, which is more than all the rest of an
    event, so a callback token is used again for `cache_s` seconds (0: never). Receivers cannot tell unless they
    keep a list of `jti`. `now` is Unix time in seconds throughout.
    """

    def __init__(self, data_dir: Path, issuer: str, audience: str, cache_s: float = 60) -> None:
        """Raises `ValueError` when the key file cannot be read as one."""
        if not 0 <= cache_s < CALLBACK_LIFE_S:
            raise ValueError(f"a callback token lives {CALLBACK_LIFE_S} s and cannot be used again for {cache_s:g} s")
        self._issuer = issuer
        self._audience = audience
        self._cache_s = cache_s
        self._key = _load_or_make_key(data_dir / "token-key.pem")
        self._jwk = _jwk(self._key.public_key())
        self._callback = ""
        self._callback_made = float("-inf")

    def callback(self, now: float) -> str:
        """A token of 5 minutes, for `Authorization: Bearer` on a callback."""
        if not 0 <= now - self._callback_made < self._cache_s:  # also when the clock was set back
            self._callback = self._sign(now, CALLBACK_LIFE_S, self._issuer, self._audience)
            self._callback_made = now
        return self._callback

    def socket(self, now: float) -> str:
        """A token of 24 hours, for one opened stream; its socket is dialled again with the same one."""
        return self._sign(now, SOCKET_LIFE_S, self._issuer, self._audience)

    def identity(self, now: float, audience: str) -> str:
        """A token of 1 hour, for requests to our own REST API."""
        return self._sign(now, IDENTITY_LIFE_S, IDENTITY_ISSUER, audience)

    def openid_configuration(self, base_url: str) -> dict[str, Any]:
        """The document at OPENID_PATH. `base_url` is where the app reaches this server, such as https://host:port."""
        return {
            "issuer": self._issuer,
            "jwks_uri": base_url.rstrip("/") + JWKS_PATH,
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
        }

    def jwks(self) -> dict[str, Any]:
        """The document at JWKS_PATH."""
        return {"keys": [dict(self._jwk)]}

    def _sign(self, now: float, life_s: int, issuer: str, audience: str) -> str:
        issued = int(now)
        claims = {
            "iss": issuer,
            "aud": audience,
            "iat": issued,
            "nbf": issued,
            "exp": issued + life_s,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._jwk["kid"]})


def _load_or_make_key(path: Path) -> rsa.RSAPrivateKey:
    pem = files.make_once(path, _make_key)
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{path} is not the key that was made here; remove it to get a new one")
    return key


def _make_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _jwk(key: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    required = {"e": _base64url(numbers.e), "kty": "RSA", "n": _base64url(numbers.n)}
    # RFC 7638: the SHA-256 of the required members in this order, without spaces.
    canonical = json.dumps(required, separators=(",", ":")).encode()
    kid = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()
    return {**required, "use": "sig", "alg": "RS256", "kid": kid}


def _base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
