"""Bearer tokens: where an app on a laptop gets them, whose are taken, and what is said about the others."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client import generate_latest
from starlette.applications import Starlette

from offhook.cli.where import find
from offhook.media.egress import AddressPolicy
from offhook.server import identity, tls
from offhook.server.api import Api
from offhook.server.app import Server
from offhook.server.config import ConfigError, Settings
from offhook.server.identity import ENDPOINT_PATH, ManagedIdentity, OpenIdKeys, Tokens, Trusted
from offhook.server.metrics import Metrics
from offhook.server.tokens import IDENTITY_ISSUER, TokenSigner
from offhook.testing.clock import run
from offhook.wire import bearer
from offhook.wire.auth import KeysMissing, TokenRefused, Verifier
from offhook.wire.ids import IdMint

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, RestAnswer

RESOURCE = "11111111-2222-4333-8444-555555555555"
AUDIENCE = "https://communication.azure.com/"
ISSUER = "https://login.example/tenant"
SECRET = "the secret of the endpoint"
NOBODY = "/calling/callConnections/00000000-0000-0000-0000-000000000000"
FOREIGN = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwks(kid: str = "k1") -> dict[str, Any]:
    document = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(FOREIGN.public_key()))
    return {"keys": [{**document, "kid": kid, "use": "sig"}]}


def foreign(now: float, kid: str = "k1", **changes: Any) -> str:
    """A token of the OpenID issuer."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "me", "nbf": now, "exp": now + 3600, **changes}
    return jwt.encode(claims, FOREIGN, "RS256", {"kid": kid})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def signer(data_dir: Path) -> TokenSigner:
    return TokenSigner(data_dir, "https://acs.example", RESOURCE)


# ------------------------------------------------------------------------------------------------ the endpoint


@pytest.fixture
def ask(in_memory: InMemory, signer: TokenSigner) -> Callable[..., RestAnswer]:
    """Ask the managed identity endpoint."""

    def asking(query: str, header: str = SECRET) -> RestAnswer:
        async def scenario(server: MemoryServer) -> RestAnswer:
            endpoint = ManagedIdentity(signer, SECRET, RESOURCE, server.wall)
            server.asgi = Starlette(routes=[endpoint.route()])
            return await server.send("GET", f"{ENDPOINT_PATH}?{query}", {"x-identity-header": header}, b"")

        answer: RestAnswer = in_memory(scenario)
        return answer

    return asking


@pytest.mark.parametrize("resource", [AUDIENCE, AUDIENCE.rstrip("/")])
def test_an_app_gets_a_token_in_app_services_form(
    resource: str, ask: Callable[..., RestAnswer], signer: TokenSigner
) -> None:
    answer = ask(f"api-version=2019-08-01&resource={resource}&client_id=whoever")
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.keys() == {"access_token", "client_id", "expires_on", "not_before", "resource", "token_type"}
    assert (answer.body["resource"], answer.body["token_type"]) == (resource, "Bearer")
    assert int(answer.body["expires_on"]) - int(answer.body["not_before"]) == 3600
    claims = jwt.decode(answer.body["access_token"], options={"verify_signature": False})
    assert (claims["iss"], claims["aud"], str(claims["exp"])) == (IDENTITY_ISSUER, resource, answer.body["expires_on"])


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [
        (f"resource={AUDIENCE}", "", 401),
        (f"resource={AUDIENCE}", SECRET + "x", 401),
        (f"resource={AUDIENCE}", "é", 401),
        ("resource=https://graph.microsoft.com", SECRET, 400),
        ("", SECRET, 400),
    ],
)
def test_nobody_else_gets_one_and_none_for_another_resource(
    query: str, header: str, status: int, ask: Callable[..., RestAnswer]
) -> None:
    answer = ask(query, header)
    assert answer.status == status
    assert answer.body.keys() == {"statusCode", "message"}
    assert answer.body["statusCode"] == status


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    made = identity.secret(tmp_path)
    assert len(made) > 30
    assert identity.secret(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "identity-header").stat().st_mode) == 0o600


# ------------------------------------------------------------------------------------------------ whose are taken


def ours(signer: TokenSigner) -> Trusted:
    keys = bearer.read_keys(signer.jwks())
    return Trusted(IDENTITY_ISSUER, [AUDIENCE], lambda: keys)


def theirs(**changes: Any) -> Trusted:
    keys = bearer.read_keys(jwks())
    return Trusted(**{"issuer": ISSUER, "audiences": [AUDIENCE], "keys": lambda: keys, **changes})


@pytest.fixture
def reason(in_memory: InMemory) -> Callable[..., str]:
    """Ask for a call with a token; return why it is refused, or "" when it is not."""

    def asking(made: Callable[[float], str], *trusted: Trusted) -> str:
        async def scenario(server: MemoryServer) -> str:
            verifier = Verifier([server.KEY], verify_token=Tokens(trusted).verify)
            policy = AddressPolicy(allow_private=True)
            api = Api(server.control, verifier, IdMint(node=1), RESOURCE, policy, server.wall)
            metrics = Metrics()
            counted: Any = metrics.counted(Starlette(routes=api.routes()))
            server.asgi = counted
            headers = {"host": "server.example", "authorization": f"Bearer {made(server.wall())}"}
            answer = await server.send("GET", f"{NOBODY}?api-version=2025-06-15", headers, b"")
            error = answer.body["error"]
            counts = [line for line in generate_latest(metrics.registry).decode().splitlines() if line.endswith(" 1.0")]
            reasons = [line.split('"')[1] for line in counts if line.startswith("offhook_rest_unauthorized_total")]
            if answer.status == 404:
                assert (error["code"], reasons) == ("8522", [])
                return ""
            assert (answer.status, error["code"]) == (401, "7501")
            assert error["message"].startswith("Token Validation Error: ")
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            [reason] = reasons
            return reason

        found: str = in_memory(scenario)
        return found

    return asking


def test_our_own_tokens_are_taken_and_those_of_the_issuer(reason: Callable[..., str], signer: TokenSigner) -> None:
    both = ours(signer), theirs()
    assert reason(lambda now: signer.identity(now, AUDIENCE), *both) == ""
    assert reason(foreign, *both) == ""
    assert reason(foreign, ours(signer), theirs(subjects=["me", "you"])) == ""


def test_others_are_told_why_not(reason: Callable[..., str], signer: TokenSigner) -> None:
    both = ours(signer), theirs(subjects=["me"])
    assert reason(foreign) == "not_accepted"
    assert reason(foreign, ours(signer)) == "unknown_key"
    assert reason(lambda now: "x", *both) == "malformed"
    assert reason(lambda now: foreign(now, sub="another"), *both) == "subject"
    assert reason(lambda now: foreign(now - 10_000), *both) == "expired"
    assert reason(lambda now: foreign(now, aud="https://graph.microsoft.com"), *both) == "audience"
    # A key signs for its own issuer only.
    assert reason(lambda now: foreign(now, iss=IDENTITY_ISSUER), *both) == "issuer"


def test_what_apps_get_on_callbacks_and_sockets_opens_nothing(
    reason: Callable[..., str], signer: TokenSigner, data_dir: Path
) -> None:
    assert reason(signer.socket, ours(signer)) == "issuer"
    for issuer, audience, why in (("https://acs.example", AUDIENCE, "issuer"), (IDENTITY_ISSUER, RESOURCE, "audience")):
        careless = TokenSigner(data_dir, issuer, audience)
        assert reason(careless.callback, ours(signer)) == why


def test_the_log_says_each_reason_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    tokens = Tokens([theirs()])
    with caplog.at_level(logging.WARNING):
        for now in (0.0, 1.0, 59.0, 61.0):
            for bad in ("x", foreign(now, aud="another")):
                with pytest.raises(TokenRefused):
                    tokens.verify(bad, now)
    assert len(caplog.records) == 4


# ------------------------------------------------------------------------------------------------ keys


class Issuer:
    """An OpenID issuer; `documents` by URL, None for one that does not answer."""

    def __init__(self) -> None:
        self.keys_url = "https://keys.example/jwks"
        self.documents: dict[str, Any] = {
            f"{ISSUER}/.well-known/openid-configuration": {"issuer": ISSUER, "jwks_uri": self.keys_url},
            self.keys_url: jwks(),
        }
        self.fetched: list[float] = []  # when the keys were asked for

    async def fetch(self, url: str) -> object:
        if url == self.keys_url:
            self.fetched.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        document = self.documents.get(url)
        if document is None:
            raise OSError("it does not answer")
        return document


@asynccontextmanager
async def judging(issuer: Issuer, url: str | None = None) -> AsyncIterator[Tokens]:
    async with OpenIdKeys(ISSUER, url, issuer.fetch).kept() as keys:
        yield Tokens([theirs(keys=lambda: keys.known, refresh=keys.refresh)])


def test_keys_are_found_by_the_issuers_configuration_and_fetched_each_hour() -> None:
    async def scenario() -> None:
        issuer = Issuer()
        async with judging(issuer) as tokens:
            with pytest.raises(KeysMissing):
                tokens.verify(foreign(0), 0)
            await asyncio.sleep(2.5)
            tokens.verify(foreign(0), 0)
            issuer.documents[issuer.keys_url] = None
            await asyncio.sleep(2 * 3600)
            tokens.verify(foreign(0), 0)  # what was fetched last is used on
            assert len(issuer.fetched) > 3
            assert issuer.fetched[1] - issuer.fetched[0] == pytest.approx(3600, abs=5)
            issuer.documents[issuer.keys_url] = jwks("k2")
            await asyncio.sleep(40)
            tokens.verify(foreign(0, "k2"), 0)
            with pytest.raises(TokenRefused):
                tokens.verify(foreign(0), 0)

    run(scenario())


def test_an_unknown_key_asks_for_newer_ones_at_most_every_half_minute() -> None:
    async def scenario() -> None:
        issuer = Issuer()
        async with judging(issuer, issuer.keys_url) as tokens:
            await asyncio.sleep(100)
            issuer.documents[issuer.keys_url] = jwks("k2")
            with pytest.raises(KeysMissing):
                tokens.verify(foreign(0, "k2"), 0)
            await asyncio.sleep(2)
            tokens.verify(foreign(0, "k2"), 0)
            for _ in range(100):
                await asyncio.sleep(1)
                with pytest.raises((TokenRefused, KeysMissing)):
                    tokens.verify(foreign(0, "k3"), 0)
            assert len(issuer.fetched) <= 2 + 100 // 30 + 1
            assert all(b - a >= 30 for a, b in zip(issuer.fetched, issuer.fetched[1:], strict=False))

    run(scenario())


def test_an_issuer_that_does_not_answer_is_asked_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        issuer = Issuer()
        issuer.documents[issuer.keys_url] = None
        async with judging(issuer, issuer.keys_url) as tokens:
            await asyncio.sleep(300)
            with pytest.raises(KeysMissing):
                tokens.verify(foreign(0), 0)
            assert 8 <= len(issuer.fetched) <= 15
            issuer.documents[issuer.keys_url] = jwks()
            await asyncio.sleep(35)
            tokens.verify(foreign(0), 0)

    run(scenario())
    assert f"the keys of {ISSUER} could not be fetched: it does not answer" in caplog.text


@pytest.mark.parametrize(
    ("configuration", "why"),
    [
        ({"issuer": "https://another.example", "jwks_uri": "https://keys.example/jwks"}, "not that of the issuer"),
        ([], "not that of the issuer"),
        ({"issuer": ISSUER}, "no jwks_uri"),
        ({"issuer": ISSUER, "jwks_uri": "file:///etc/hostname"}, "no jwks_uri"),
        ({"issuer": ISSUER, "jwks_uri": "http://keys.example/jwks"}, "not https"),
    ],
)
def test_a_configuration_that_is_wrong_is_not_followed(
    configuration: object, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        issuer = Issuer()
        issuer.documents[f"{ISSUER}/.well-known/openid-configuration"] = configuration
        async with judging(issuer) as tokens:
            await asyncio.sleep(10)
            with pytest.raises(KeysMissing):
                tokens.verify(foreign(0), 0)
            assert issuer.fetched == []

    run(scenario())
    assert why in caplog.text


# ------------------------------------------------------------------------------------------------ a running server


async def get(server: Server, path: str, token: str = "", **headers: str) -> tuple[int, Any]:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    trust = tls.client_context([server.tls.ca])
    async with aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{server.https}{path}"
        async with session.get(url, headers=headers, ssl=trust) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def openid(document: Any) -> AsyncIterator[str]:
    """An issuer on loopback; `document`: its keys, or a redirection's target."""

    async def configuration(request: web.Request) -> web.Response:
        return web.json_response({"issuer": url, "jwks_uri": f"{url}/jwks"})

    async def keys(request: web.Request) -> web.Response:
        if isinstance(document, str):
            raise web.HTTPFound(document)
        return web.json_response(document)

    routes = web.Application()
    routes.add_routes([web.get("/.well-known/openid-configuration", configuration), web.get("/jwks", keys)])
    runner = web.AppRunner(routes, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield url
    finally:
        await runner.cleanup()


@pytest.mark.sockets
def test_a_server_takes_the_tokens_of_its_issuer(data_dir: Path) -> None:
    async def scenario() -> None:
        async with openid(jwks()) as url:
            settings = Settings(data_dir=data_dir, http=None, https=0, openid_issuer=url)
            async with Server(settings) as server:
                path = f"{NOBODY}?api-version=2025-06-15"
                status = 503
                while status == 503:
                    status, answer = await get(server, path, foreign(time.time(), iss=url))
                assert (status, answer["error"]["code"]) == (404, "8522")
                assert (await get(server, path, foreign(time.time())))[0] == 401

    asyncio.run(scenario())


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("https://keys.example/jwks", "answers 302"),
        ({"keys": "x" * identity.FETCH_LIMIT}, "has more than"),
        ([], "no RSA"),
    ],
)
def test_what_an_issuer_may_not_answer(document: Any, why: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with (
            openid(document) as url,
            identity._fetching(ssl.create_default_context()) as fetch,
            OpenIdKeys(url, None, fetch).kept(),
        ):
            while not caplog.records:  # noqa: ASYNC110 (what it says is what is waited for)
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert why in caplog.text


@pytest.mark.sockets
def test_production_gives_no_tokens_and_takes_none_of_ours(data_dir: Path) -> None:
    async def scenario() -> None:
        made = tls.ensure(data_dir, [])
        key = "b3duIGtleSBvZiBhIHByb2R1Y3Rpb24gc2VydmVyLCBsb25nIGVub3VnaCB0byBiZSBhY2NlcHRlZA=="
        own: dict[str, Any] = {"keys": [key], "tls_cert": made.cert, "tls_key": made.key}
        async with Server(Settings(data_dir=data_dir, host="0.0.0.0", http=None, https=0, **own)) as server:
            secret = identity.secret(data_dir)
            status, answer = await get(server, f"{ENDPOINT_PATH}?resource={AUDIENCE}", **{"X-IDENTITY-HEADER": secret})
            assert (status, answer["error"]["code"]) == (401, "7509")
            token = TokenSigner(data_dir, "any", "any").identity(time.time(), AUDIENCE)
            status, answer = await get(server, NOBODY, token)
            assert (status, answer["error"]["code"]) == (401, "7501")
            assert (await get(server, "/openapi.json"))[0] == 401
            assert find(None, None, data_dir).identity() == {}

    asyncio.run(scenario())


# ------------------------------------------------------------------------------------------------ the official SDK


@pytest.fixture(scope="module")
def running(data_dir: Path) -> Iterator[Server]:
    """A server on a loop of its own, for clients that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Server(Settings(data_dir=data_dir, http=0, https=0))
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(30)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.sockets
@pytest.mark.sdk
@pytest.mark.parametrize("name", ["ManagedIdentityCredential", "DefaultAzureCredential"])
def test_an_app_with_azure_identity_runs_as_it_is(name: str, running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure import identity as azure_identity
    from azure.communication.callautomation import CallAutomationClient, PhoneNumberIdentifier
    from azure.core.credentials import AccessToken
    from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(running.tls.bundle))
    for variable, value in find(None, None, running.settings.data_dir).identity().items():
        monkeypatch.setenv(variable, value)
    with getattr(azure_identity, name)() as credential, CallAutomationClient(running.url, credential) as client:
        nobody = client.get_call_connection("00000000-0000-0000-0000-000000000000")
        with pytest.raises(ResourceNotFoundError):
            nobody.get_call_properties()
        call = client.create_call(PhoneNumberIdentifier("+15550177"), "http://127.0.0.1:1/callbacks")
        assert call.call_connection_id

    class Stranger:
        def get_token(self, *scopes: str, **_: Any) -> AccessToken:
            return AccessToken("x.y.z", 1 << 40)

    with CallAutomationClient(running.url, Stranger()) as client:
        with pytest.raises(ClientAuthenticationError) as caught:
            client.get_call_connection("00000000-0000-0000-0000-000000000000").get_call_properties()
        assert caught.value.error is not None
        assert caught.value.error.code == "7501"


# ------------------------------------------------------------------------------------------------ settings


def test_settings_that_make_no_sense_keep_the_server_from_starting(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match="say nothing without openid_issuer"):
        Settings(data_dir=data_dir, openid_subjects=["me"]).check()
    with pytest.raises(ConfigError) as caught:
        Settings(data_dir=data_dir, host="0.0.0.0", openid_issuer="http://a.example").check()
    assert any(problem.startswith("openid_issuer:") for problem in caught.value.problems)
    with pytest.raises(ConfigError, match="openid_audiences"):
        Settings.load(data_dir=data_dir, openid_audiences=[])
