"""The server in one piece: settings in, a running `Server` out. `offhook serve`, the demo and tests start it here."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from offhook.legs.simulated import SimulatedLegs
from offhook.media.dial import Dialer
from offhook.media.egress import AddressPolicy
from offhook.media.link import LinkEnd, memory_pair
from offhook.media.worker import MediaWorker
from offhook.server import files, tls
from offhook.server.api import Api
from offhook.server.callers import Callers
from offhook.server.config import Settings
from offhook.server.control import Control
from offhook.server.delivery import Deliverer, HttpPoster
from offhook.server.eventgrid import VALIDATION_PATH, VALIDATION_TIMEOUT_S, Endpoints
from offhook.server.phone import BrowserPhone
from offhook.server.tokens import JWKS_PATH, OPENID_PATH, TokenSigner
from offhook.server.webhooks import Webhooks
from offhook.wire import events
from offhook.wire.auth import Verifier
from offhook.wire.ids import IdMint

log = logging.getLogger(__name__)

GRACE_S = 5.0  # at the end, for events that are still queued
SERVER_FILE = "server.json"  # in the data directory: where the running server is, for the client verbs


class Server:
    """One Offhook server: `async with Server(settings) as server: …`.

    `http` and `https` are the ports that it listens on (None: that one is off). Raises `ConfigError` when the settings
    do not allow a start, `OSError` when a port cannot be bound.
    """

    def __init__(self, settings: Settings) -> None:
        settings.check()
        self.settings = settings
        self.http: int | None = None
        self.https: int | None = None
        self.keys = settings.access_keys()
        self.tls = tls.ensure(settings.data_dir, settings.names)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Server:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        settings = self.settings
        trust = tls.client_context([self.tls.ca, *([settings.ca] if settings.ca else [])])
        policy = settings.address_policy()
        http, https = self._bind()

        link, legs = self._make_worker(Dialer(policy, trust))
        signer = TokenSigner(settings.data_dir, settings.issuer, settings.audience, settings.token_cache_s)
        endpoints, webhooks = self._make_webhooks(policy, trust, signer)
        ids = IdMint(node=settings.node, epoch=int(time.time()) & 0xFFF)
        self.control = Control(
            end=link,
            notifier=webhooks,
            ids=ids,
            socket_token=lambda: signer.socket(time.time()),
            wall=time.time,
            ring_timeout_s=settings.ring_timeout_s,
            max_calls=settings.max_calls,
        )
        self._stack.push_async_callback(self.control.close)

        verifier = Verifier(self.keys, settings.names)
        routes = self._open_routes(signer, endpoints)
        if settings.caller_api:
            audio = await legs.listen(settings.host)
            base = f"ws://{_bracketed(settings.host)}:{audio}"
            routes += Callers(self.control, verifier, settings.resource, base, time.time).routes()
            routes += BrowserPhone(self.control, settings.resource, base, settings.names).routes()
        routes += Api(self.control, verifier, ids, settings.resource, policy, time.time).routes()
        await self._serve(Starlette(routes=routes), http, https)
        endpoints.start()
        self._tell_client_verbs()
        # What exists now stays: a full collection would cost 30 ms in the middle of somebody's sentence.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    # ------------------------------------------------------------------------------------------ the parts

    def _make_worker(self, dial: Dialer) -> tuple[LinkEnd, SimulatedLegs]:
        """Start the media worker; return control's end of the link to it, and its simulated parties."""
        control_end, worker_end = memory_pair()
        epoch = time.time() - asyncio.get_running_loop().time()
        self.worker = MediaWorker(worker_end, dial, epoch)
        self._stack.push_async_callback(self.worker.close)
        legs = SimulatedLegs(self.worker)
        self._stack.push_async_callback(legs.close)
        self.worker.start()
        return control_end, legs

    def _make_webhooks(
        self, policy: AddressPolicy, trust: ssl.SSLContext, signer: TokenSigner
    ) -> tuple[Endpoints, Webhooks]:
        """Make what posts events: to Event Grid endpoints and to callbacks."""
        settings = self.settings
        topic = f"/subscriptions/offhook/providers/microsoft.communication/communicationservices/{settings.resource}"

        def validation(code: str, url: str) -> bytes:
            return events.subscription_validation(code, url, event_id=str(uuid.uuid4()), time=time.time(), topic=topic)

        poster = HttpPoster(policy, trust)
        self._stack.push_async_callback(poster.close)
        slow_poster = HttpPoster(policy, trust, total_s=VALIDATION_TIMEOUT_S)
        self._stack.push_async_callback(slow_poster.close)
        deliverer = Deliverer(poster, lambda: signer.callback(time.time()))
        self._stack.push_async_callback(deliverer.close, GRACE_S)
        endpoints = Endpoints(settings.incoming, slow_poster, self.url, validation)
        self._stack.push_async_callback(endpoints.close)
        return endpoints, Webhooks(deliverer, endpoints, topic, time.time)

    def _open_routes(self, signer: TokenSigner, endpoints: Endpoints) -> list[Route]:
        """What needs no key. Coroutines all of them: Starlette would run a plain function in a thread."""

        async def openid(request: Request) -> Response:
            return JSONResponse(signer.openid_configuration(self.url))

        async def jwks(request: Request) -> Response:
            return JSONResponse(signer.jwks())

        async def confirm(request: Request) -> Response:
            """The `validationUrl` of the Event Grid handshake: somebody confirms the subscription by hand."""
            if endpoints.confirm(request.query_params.get("code", "")):
                return PlainTextResponse("Webhook successfully validated as a subscription endpoint.")
            return PlainTextResponse("Unknown code.", 400)

        async def health(request: Request) -> Response:
            return JSONResponse({"status": "ok", "calls": len(self.control.calls)})

        return [
            Route(OPENID_PATH, openid),
            Route(JWKS_PATH, jwks),
            Route(VALIDATION_PATH, confirm),
            Route("/health", health),
        ]

    # ------------------------------------------------------------------------------------------ listening

    @property
    def url(self) -> str:
        """Base URL under which this server can be reached: https where it is on."""
        url = self._base("https", self.https) or self._base("http", self.http)
        assert url is not None
        return url

    @property
    def plain_url(self) -> str | None:
        """Base URL over plain http, which a browser opens without asking; None where http is off."""
        return self._base("http", self.http)

    def _base(self, scheme: str, port: int | None) -> str | None:
        """Base URL of one of the two ports: under the first name we have when we listen on every address."""
        host = self.settings.host
        if host in ("0.0.0.0", "::") and self.settings.names:
            host = self.settings.names[0]
        return None if port is None else f"{scheme}://{_bracketed(host)}:{port}"

    def _bind(self) -> tuple[socket.socket | None, socket.socket | None]:
        sockets: list[socket.socket | None] = []
        for port in (self.settings.http, self.settings.https):
            bound = None if port is None else _listen(self.settings.host, port)
            if bound is not None:
                self._stack.callback(bound.close)
            sockets.append(bound)
        http, https = sockets
        self.http = None if http is None else http.getsockname()[1]
        self.https = None if https is None else https.getsockname()[1]
        return http, https

    async def _serve(self, app: Starlette, http: socket.socket | None, https: socket.socket | None) -> None:
        cert, key = self.settings.tls_cert or self.tls.cert, self.settings.tls_key or self.tls.key
        for listening, secure in ((http, False), (https, True)):
            if listening is None:
                continue
            config = uvicorn.Config(
                app,
                log_level="critical",  # we say ourselves what went wrong
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_keep_alive=15,
                limit_concurrency=1000,
                h11_max_incomplete_event_size=64 << 10,
                timeout_graceful_shutdown=1,
            )
            config.load()
            if secure:
                config.ssl = tls.server_context(cert, key)
            server = _Uvicorn(config)
            task = asyncio.create_task(server.serve(sockets=[listening]))
            self._stack.push_async_callback(_stop, server, task)
            while not server.started:
                if task.done():
                    task.result()
                await asyncio.sleep(0.005)

    def _tell_client_verbs(self) -> None:
        """Write where we are and with which key; only the owner may read it."""
        path = self.settings.data_dir / SERVER_FILE
        told = {
            "http": self._base("http", self.http),
            "https": self._base("https", self.https),
            "key": self.keys[0],
            "ca": str(self.tls.ca),
            "pid": os.getpid(),
        }
        files.replace(path, json.dumps(told).encode())
        self._stack.callback(_forget, path)


class _Uvicorn(uvicorn.Server):
    """Signals are the business of whoever runs us, not of each listener."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _stop(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    server.should_exit = True
    await task


def _forget(path: Path) -> None:
    """Remove the server file, unless another server has written its own since."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_bytes())["pid"] == os.getpid():
            path.unlink()


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    return bound


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
