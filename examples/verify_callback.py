"""How an app checks that a callback, or the upgrade of an audio socket, comes from its own server.

    python examples/verify_callback.py JWKS_URL AUDIENCE < token

`JWKS_URL` is `http://127.0.0.1:7080/calling/keys` with Offhook, and
`https://acscallautomation.communication.azure.com/calling/keys` with ACS. `AUDIENCE` is the resource id: the content of
`DATA_DIR/resource-id`, or what `audience` is set to. An app makes one `Verifier` and keeps it: it caches the keys.
"""

import json
import sys
from typing import Any

import jwt

ISSUER = "https://acscallautomation.communication.azure.com"  # Offhook's default, too


class Verifier:
    """Checks `Authorization: Bearer …` of callbacks and WebSocket upgrades."""

    def __init__(self, jwks_url: str, audience: str, issuer: str = ISSUER) -> None:
        self._keys = jwt.PyJWKClient(jwks_url, cache_keys=True)
        self._audience = audience
        self._issuer = issuer

    def claims(self, authorization: str) -> dict[str, Any]:
        """Return the token's claims; raise `jwt.PyJWTError` when it is not to be trusted."""
        token = authorization.removeprefix("Bearer ").strip()
        key = self._keys.get_signing_key_from_jwt(token)
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=["RS256"],
            audience=self._audience,
            issuer=self._issuer,
            options={"require": ["exp", "iss", "aud"]},
        )
        return claims


if __name__ == "__main__":
    print(json.dumps(Verifier(sys.argv[1], sys.argv[2]).claims(sys.stdin.read())))
