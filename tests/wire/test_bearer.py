"""A bearer token is taken only if everything about it is right, and each fault has its reason."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.wire import bearer
from offhook.wire.auth import TOKEN_REASONS, TokenRefused

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ISSUER, AUDIENCE = "https://login.example/", "https://communication.azure.com/"
NOW, LEEWAY_S = 1_800_000_000.5, 300.0


def jwk(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {**document, "kid": kid, "use": "sig"}


KEYS = bearer.read_keys({"keys": [jwk(KEY, "k1")]})


def token(key: Any = KEY, algorithm: str = "RS256", kid: str | None = "k1", **changes: Any) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "me", "nbf": NOW, "exp": NOW + 3600, **changes}
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key, algorithm, {} if kid is None else {"kid": kid})


def confused() -> str:
    """A token that anyone can make: signed with HS256, with our public key as the secret."""
    parts = [{"alg": "HS256", "kid": "k1", "typ": "JWT"}, {"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 3600}]
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = base64.urlsafe_b64encode(hmac.new(public, text, hashlib.sha256).digest()).rstrip(b"=")
    return f"{text.decode()}.{signature.decode()}"


def claims(text: str, **changes: Any) -> dict[str, Any]:
    judged: dict[str, Any] = {"issuer": ISSUER, "audiences": [AUDIENCE], "now": NOW, "leeway_s": LEEWAY_S, **changes}
    return bearer.claims(text, KEYS, **judged)


def test_a_good_token_says_whose_it_is() -> None:
    assert claims(token())["sub"] == "me"
    assert claims(token(aud=["elsewhere", AUDIENCE]))["sub"] == "me"
    assert claims(token(nbf=None))["sub"] == "me"
    assert claims(token(aud="another"), audiences=[AUDIENCE, "another"])["sub"] == "me"


def test_clocks_may_differ_by_five_minutes_and_no_more() -> None:
    assert claims(token(exp=NOW - LEEWAY_S + 1))
    assert claims(token(nbf=NOW + LEEWAY_S - 1))
    for late, reason in ((token(exp=NOW - LEEWAY_S), "expired"), (token(nbf=NOW + LEEWAY_S + 1), "early")):
        with pytest.raises(TokenRefused) as caught:
            claims(late)
        assert caught.value.reason == reason


BAD = {
    "no token": ("", "malformed"),
    "no JWT": ("x.y.z", "malformed"),
    "too long": (token(sub="x" * bearer.MAX_TOKEN), "malformed"),
    "another's key": (token(OTHER), "signature"),
    "unknown key": (token(kid="k2"), "unknown_key"),
    "no key named": (token(kid=None), "unknown_key"),
    "unsigned": (token(None, "none"), "signature"),
    "shared secret": (token("secret" * 10, "HS256"), "signature"),
    "the public key as shared secret": (confused(), "signature"),
    "another algorithm": (token(algorithm="RS512"), "signature"),
    "another audience": (token(aud="https://graph.microsoft.com"), "audience"),
    "no audience": (token(aud=None), "malformed"),
    "another issuer": (token(iss="https://login.evil.example/"), "issuer"),
    "no issuer": (token(iss=None), "malformed"),
    "expired": (token(exp=NOW - 3600), "expired"),
    "for ever": (token(exp=None), "malformed"),
    "for ever, in words": (token(exp=float("nan")), "expired"),
    "no time": (token(nbf=[]), "malformed"),
    "not yet": (token(nbf=NOW + 3600), "early"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_a_bad_token_is_refused_for_its_reason(bad: str, reason: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        claims(bad)
    assert caught.value.reason == reason
    assert reason in TOKEN_REASONS


def test_one_changed_letter_is_noticed() -> None:
    good = token()
    for at in (0, good.index(".") + 5, good.rindex(".") + 5):
        with pytest.raises(TokenRefused):
            claims(good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :])


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(st.text() | st.builds(lambda *parts: ".".join(map(encoded, parts)), json_values, json_values, json_values))
def test_garbage_raises_nothing_but_refusals(text: str) -> None:
    with pytest.raises(TokenRefused):
        claims(text)


@settings(max_examples=40)  # a signature for each
@given(st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "jti"]), json_values))
def test_odd_claims_under_a_good_signature_raise_nothing_but_refusals(odd: dict[str, Any]) -> None:
    body = {"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 1, **odd}
    signed = jwt.api_jws.encode(json.dumps(body).encode(), KEY, "RS256", {"kid": "k1"})
    with contextlib.suppress(TokenRefused):
        assert claims(signed)["iss"] == ISSUER


@pytest.mark.parametrize(
    "document", [{}, {"keys": []}, {"keys": [{"kty": "EC"}]}, {"keys": [{"kty": "RSA"}, 1]}, [], 1]
)
def test_a_document_without_keys_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="no RSA key"):
        bearer.read_keys(document)


def test_only_keys_to_sign_with_are_read() -> None:
    wrong = [{"kty": "RSA", "kid": "broken"}, {**jwk(OTHER, "k2"), "use": "enc"}, {"kty": "oct", "k": "c2VjcmV0"}]
    assert list(bearer.read_keys({"keys": [*wrong, jwk(KEY, "k1")]})) == ["k1"]
