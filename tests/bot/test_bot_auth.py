"""The check of the socket's token: what is let in, what is not, and where the keys come from."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import jwt
import picows
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from offhook.bot import MediaStream, serve
from offhook.bot.auth import ACS_ISSUER, KeysMissing, TokenRejected, TokenVerifier

AUDIENCE = "3f0c6a1e-0000-4000-8000-000000000001"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwks(*keys: tuple[str, rsa.RSAPrivateKey]) -> dict[str, Any]:
    documents = []
    for kid, key in keys:
        document = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
        documents.append({**document, "kid": kid, "use": "sig"})
    return {"keys": documents}


def headers(key: Any = KEY, kid: str | None = "k1", algorithm: str = "RS256", **claims: Any) -> dict[str, str]:
    now = int(time.time())
    body = {"iss": ACS_ISSUER, "aud": AUDIENCE, "nbf": now, "exp": now + 300, **claims}
    token = jwt.encode(
        {name: value for name, value in body.items() if value is not None},
        key,
        algorithm,
        {} if kid is None else {"kid": kid},
    )
    return {"authorization": f"Bearer {token}"}


class Keys:
    """A server of a JWKS document."""

    def __init__(self) -> None:
        self.document: object = jwks(("k1", KEY))
        self.fetched = 0
        self.second = Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.fetched += 1
                if outer.fetched == 2:
                    outer.second.set()
                body = json.dumps(outer.document).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/calling/keys"
        self.thread = Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def keys() -> Iterator[Keys]:
    server = Keys()
    yield server
    server.close()


def verifier(**options: Any) -> TokenVerifier:
    return TokenVerifier(jwks(("k1", KEY)), AUDIENCE, **options)


def test_a_good_token_is_let_in() -> None:
    assert verifier().status(headers()) is HTTPStatus.OK
    assert asyncio.run(verifier().claims(headers()))["aud"] == AUDIENCE
    assert verifier(issuer="us").status(headers(iss="us")) is HTTPStatus.OK
    assert verifier().status({"authorization": headers()["authorization"].replace("Bearer", "bearer")}) is HTTPStatus.OK


NOW = int(time.time())
BAD: dict[str, Mapping[str, str]] = {
    "none": {},
    "basic": {"authorization": "Basic YTpi"},
    "empty": {"authorization": "Bearer "},
    "no token": {"authorization": "Bearer x.y.z"},
    "another's key": headers(OTHER),
    "unknown key": headers(kid="k2"),
    "no key named": headers(kid=None),
    "another audience": headers(aud="another"),
    "another issuer": headers(iss="https://example.com"),
    "expired": headers(exp=NOW - 3600),
    "not yet": headers(nbf=NOW + 3600),
    "for ever": headers(exp=None),
    "no audience": headers(aud=None),
    "no issuer": headers(iss=None),
    "shared secret": headers("secret" * 10, algorithm="HS256"),
    "unsigned": headers(None, algorithm="none"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_token_is_refused(bad: Mapping[str, str]) -> None:
    assert verifier().status(bad) is HTTPStatus.UNAUTHORIZED
    with pytest.raises(TokenRejected):
        asyncio.run(verifier().claims(bad))


@pytest.mark.parametrize("document", [{}, {"keys": []}, {"keys": [{"kty": "EC"}]}, {"keys": [{"kty": "RSA"}]}, []])
def test_a_document_without_keys_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="no RSA key"):
        TokenVerifier(document, AUDIENCE)


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ImportError, match=r"offhook\[auth\]"):
        verifier()


def test_the_servers_own_tokens_are_let_in(tmp_path: Path) -> None:
    from offhook.server.tokens import TokenSigner

    signer = TokenSigner(tmp_path, ACS_ISSUER, AUDIENCE)
    check = TokenVerifier(signer.jwks(), AUDIENCE)
    assert check.status({"authorization": f"Bearer {signer.socket(time.time())}"}) is HTTPStatus.OK


@pytest.mark.sockets
def test_keys_are_fetched_once_and_again_when_they_change(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        check = TokenVerifier(keys.url, AUDIENCE)
        await check.prepare()
        await check.prepare()
        assert check.status(headers()) is HTTPStatus.OK
        assert keys.fetched == 1
        # A key that is not known while the keys are new: no one makes us fetch again and again.
        assert check.status(headers(OTHER, "k2")) is HTTPStatus.UNAUTHORIZED
        with pytest.raises(KeysMissing):
            await check.claims(headers(OTHER, "k2"))
        assert keys.fetched == 1
        monkeypatch.setattr("offhook.bot.auth.AGAIN_S", 0.0)
        monkeypatch.setattr("offhook.bot.auth.RETRY_S", 0.0)
        keys.document = jwks(("k2", OTHER))
        assert check.status(headers(OTHER, "k2")) is HTTPStatus.SERVICE_UNAVAILABLE
        assert (await check.claims(headers(OTHER, "k2")))["iss"] == ACS_ISSUER
        assert check.status(headers(OTHER, "k2")) is HTTPStatus.OK
        assert keys.fetched == 2

    asyncio.run(run())


@pytest.mark.sockets
def test_old_keys_are_fetched_again_while_they_are_used(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.bot.auth.REFRESH_S", 0.0)
    for name in ("AGAIN_S", "RETRY_S"):
        monkeypatch.setattr(f"offhook.bot.auth.{name}", 0.0)

    async def run() -> None:
        check = TokenVerifier(keys.url, AUDIENCE)
        await check.prepare()
        assert check.status(headers()) is HTTPStatus.OK
        assert await asyncio.to_thread(keys.second.wait, 60)

    asyncio.run(run())


@pytest.mark.sockets
def test_serve_answers_401_and_503_and_lets_the_good_in(
    keys: Keys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offhook.bot.auth.RETRY_S", 0.0)

    async def handler(stream: MediaStream) -> None:
        pass

    async def status(url: str, given: Mapping[str, str]) -> int:
        try:
            transport, _ = await picows.ws_connect(picows.WSListener, url, extra_headers=given, max_redirects=0)
        except picows.WSHandshakeError as error:
            return int(error.response.status) if error.response is not None else 0
        transport.disconnect(graceful=False)
        return 101

    async def run() -> None:
        document, keys.document = keys.document, {}
        check = TokenVerifier(keys.url, AUDIENCE)
        async with await serve(handler, verify=check) as server, asyncio.timeout(60):
            assert await status(server.url, headers()) == 503  # the keys cannot be had yet
            keys.document = document
            while (answer := await status(server.url, headers())) == 503:
                pass
            assert answer == 101
            assert await status(server.url, headers(OTHER)) == 401
            assert await status(server.url, {}) == 401

    asyncio.run(run())
    assert "could not be fetched" in caplog.text


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/keys"])
def test_only_the_web_is_fetched(url: str, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(TokenVerifier(url, AUDIENCE).prepare())
    assert "only http and https" in caplog.text
