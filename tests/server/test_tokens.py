from __future__ import annotations

import base64
import json
import stat
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from offhook.server.tokens import TokenSigner, _jwk

ISSUER = "https://acscallautomation.communication.azure.com"
AUDIENCE = "d4c1b9f0-0000-4000-8000-000000000001"
NOW = 1_800_000_000.7


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    TokenSigner(directory, ISSUER, AUDIENCE)  # makes the key, which takes a while
    return directory


@pytest.fixture
def signer(data_dir: Path) -> TokenSigner:
    return TokenSigner(data_dir, ISSUER, AUDIENCE)


class Client(jwt.PyJWKClient):
    """What apps use, reading our document instead of fetching it."""

    def __init__(self, signer: TokenSigner) -> None:
        super().__init__("https://server.example/calling/keys")
        self._signer = signer

    def fetch_data(self) -> Any:
        return json.loads(json.dumps(self._signer.jwks()))


def verify(signer: TokenSigner, token: str, audience: str = AUDIENCE, issuer: str = ISSUER) -> dict[str, Any]:
    """Verify as an app does, but for the time: NOW is not now."""
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    key = Client(signer).get_signing_key_from_jwt(token).key
    return jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=issuer, options=options)


def test_a_callback_token_is_what_apps_expect(signer: TokenSigner) -> None:
    token = signer.callback(NOW)
    claims = verify(signer, token)
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (1_800_000_000, 1_800_000_000, 1_800_000_300)
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "RS256", "typ": "JWT", "kid": signer.jwks()["keys"][0]["kid"]}


def test_a_token_of_now_is_valid_now(signer: TokenSigner) -> None:
    for token in (signer.callback(time.time()), signer.socket(time.time())):
        jwt.decode(token, Client(signer).get_signing_key_from_jwt(token).key, algorithms=["RS256"], audience=AUDIENCE)


def test_the_wrong_audience_issuer_or_key_is_refused(signer: TokenSigner, tmp_path: Path) -> None:
    token = signer.callback(NOW)
    with pytest.raises(jwt.InvalidAudienceError):
        verify(signer, token, audience="other")
    with pytest.raises(jwt.InvalidIssuerError):
        verify(signer, token, issuer="other")
    with pytest.raises(jwt.PyJWKClientError):
        verify(TokenSigner(tmp_path, ISSUER, AUDIENCE), token)


def test_a_callback_token_is_signed_once_in_a_while(signer: TokenSigner) -> None:
    first = signer.callback(NOW)
    assert signer.callback(NOW + 59.9) == first
    second = signer.callback(NOW + 60)
    assert second != first
    assert verify(signer, second)["jti"] != verify(signer, first)["jti"]
    assert signer.callback(NOW - 5) not in (first, second)  # the clock was set back: the token is not valid yet


def test_without_cache_each_callback_token_is_new(data_dir: Path) -> None:
    signer = TokenSigner(data_dir, ISSUER, AUDIENCE, cache_s=0)
    assert signer.callback(NOW) != signer.callback(NOW)


@pytest.mark.parametrize("cache_s", [-1, 300])
def test_a_cache_that_outlives_the_token_is_refused(data_dir: Path, cache_s: float) -> None:
    with pytest.raises(ValueError, match="300 s"):
        TokenSigner(data_dir, ISSUER, AUDIENCE, cache_s)


def test_a_socket_token_lives_a_day_and_is_new_each_time(signer: TokenSigner) -> None:
    first, second = verify(signer, signer.socket(NOW)), verify(signer, signer.socket(NOW))
    assert first["exp"] - first["iat"] == 86_400
    assert first["jti"] != second["jti"]


def test_the_key_is_made_once_and_private(data_dir: Path, signer: TokenSigner) -> None:
    again = TokenSigner(data_dir, ISSUER, AUDIENCE)
    assert again.jwks() == signer.jwks()
    assert verify(again, signer.socket(NOW))
    assert stat.S_IMODE((data_dir / "token-key.pem").stat().st_mode) == 0o600


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "token-key.pem").write_text("damaged")
    with pytest.raises(ValueError, match=r"token-key\.pem"):
        TokenSigner(tmp_path, ISSUER, AUDIENCE)


def test_the_published_key_is_public_and_its_id_the_thumbprint(signer: TokenSigner) -> None:
    (key,) = signer.jwks()["keys"]
    assert set(key) == {"kty", "use", "alg", "kid", "n", "e"}
    assert (key["kty"], key["use"], key["alg"], key["e"]) == ("RSA", "sig", "RS256", "AQAB")


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    # the example of RFC 7638, section 3.1
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhM"
        "stn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5"
        "hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    number = int.from_bytes(base64.urlsafe_b64decode(n + "=="))
    assert _jwk(RSAPublicNumbers(65537, number).public_key()) == {
        "kty": "RSA",
        "n": n,
        "e": "AQAB",
        "use": "sig",
        "alg": "RS256",
        "kid": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    }


def test_openid_configuration_leads_to_the_keys(signer: TokenSigner) -> None:
    found = signer.openid_configuration("https://server.example:7443/")
    assert found["issuer"] == ISSUER
    assert found["jwks_uri"] == "https://server.example:7443/calling/keys"
    assert found["id_token_signing_alg_values_supported"] == ["RS256"]
