"""The server in one piece: settings in, a running `Server` out. `offhook serve`, the demo and tests start it here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from offhook.media import socket_link
from offhook.media.egress import AddressPolicy
from offhook.media.memory_link import memory_pair
from offhook.media.tidings import Tiding
from offhook.server import identity, logs, openapi, sip_service, telephone_report, tls
from offhook.server.api import Api
from offhook.server.call_records import RecordFile
from offhook.server.callers import Callers
from offhook.server.clips import Clips
from offhook.server.config import Settings
from offhook.server.control import Control
from offhook.server.delivery import Deliverer, HttpPoster
from offhook.server.eventgrid import VALIDATION_PATH, VALIDATION_TIMEOUT_S, Endpoints
from offhook.server.fetching import Fetcher
from offhook.server.listening import Listening, audio_base, listen
from offhook.server.media import media, stay_in_time
from offhook.server.metrics import Metrics
from offhook.server.phone import BrowserPhone
from offhook.server.placement import Worker
from offhook.server.processes import GRACE_S, RemoteWorker, Slot
from offhook.server.reloading import ReadAnew
from offhook.server.studio import Engines, Studio
from offhook.server.tokens import JWKS_PATH, OPENID_PATH, TokenSigner
from offhook.server.webhooks import Webhooks
from offhook.wire import events
from offhook.wire.auth import Verifier
from offhook.wire.ids import IdMint

log = logging.getLogger(__name__)

FIRST_WORKER_S = 15.0  # that the first media worker has to be there; then we serve without
OTHER_WORKERS_S = 1.0  # that the others have from then on
RECONNECT_S = 0.05  # after a media worker was lost


class Server(Listening):
    """One Offhook server: `async with Server(settings) as server: …`.

    The media are in this process, whatever `settings.workers` says, unless `remote` workers are given: that is how a
    `Supervisor` starts it, with the listening sockets, which it then neither opens nor tells anybody of. Raises
    `ConfigError` when the settings do not allow a start, `OSError` when a port cannot be bound.
    """

    def __init__(
        self,
        settings: Settings,
        http_socket: socket.socket | None = None,
        https_socket: socket.socket | None = None,
        remote: Sequence[RemoteWorker] = (),
    ) -> None:
        super().__init__(settings, http_socket, https_socket)
        self._remote = remote
        self._metrics = Metrics()
        self._stack = contextlib.AsyncExitStack()
        self._identities: list[ssl.SSLContext] = []  # that show our certificate

    async def __aenter__(self) -> Server:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def reload(self, settings: Settings) -> ReadAnew:
        read = super().reload(settings)
        if self.sip is not None:
            sip_service.reload(self.sip, self.control, self.settings)
        self._endpoints.use(self.settings.endpoints())
        self._webhooks.inbound = self.settings.inbound_plan()
        for context in self._identities:
            context.load_cert_chain(*self.certificate())
        return read

    async def drain(self) -> None:
        """Take no new calls; return when the last one is over, or `drain_timeout_s` is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_timeout_s):
                await self.control.drain()

    async def _start(self) -> None:
        if not self._remote:
            self._stack.callback(self.bind())
        settings = self.settings
        logs.configure(settings)
        trust = tls.client_context([self.tls.ca, *([settings.ca] if settings.ca else [])])
        policy = settings.address_policy()

        signer = TokenSigner(settings.data_dir, settings.issuer, settings.audience, settings.token_cache_s)
        endpoints, webhooks = self._endpoints, self._webhooks = self._make_webhooks(policy, trust, signer)
        audio = None if self._remote or not settings.caller_api else listen(settings.host)
        bases = [each.audio for each in self._remote] or [audio_base(settings.host, audio) if audio else ""]
        self.control = Control(
            workers=[Worker(number, partial(IdMint, settings.node, number), base) for number, base in enumerate(bases)],
            notifier=webhooks,
            socket_token=lambda: signer.socket(time.time()),
            wall=time.time,
            studio=self._make_studio(policy, trust),
            ring_timeout_s=settings.ring_timeout_s,
            max_calls=settings.max_calls,
        )
        accounting = self.control.exchange.accounting
        if settings.records.file is not None:
            accounting.file = RecordFile(settings.records.file, settings.records.redact_numbers)
        self._metrics.watch_calls(self.control)
        if self._remote:
            self._connect()
        else:
            await self._start_media(policy, trust, audio)
        self._stack.push_async_callback(accounting.close)
        self._stack.push_async_callback(self.control.close)
        await self._wait_for_workers()
        sip = sip_service.telephones(settings, self.control, self._identity(), trust)
        self.sip = await self._stack.enter_async_context(sip)

        tokens = await self._stack.enter_async_context(identity.tokens(settings, signer, trust))
        verifier = Verifier(self.keys, settings.names, verify_token=tokens.verify)
        routes = self._routes(policy, verifier, signer, endpoints)
        await self._serve(self._metrics.counted(Starlette(routes=routes)))
        endpoints.start()
        if not self._remote:
            self._stack.callback(self.tell_client_verbs())
        stay_in_time()

    # ------------------------------------------------------------------------------------------ the media workers

    async def _start_media(self, policy: AddressPolicy, trust: ssl.SSLContext, audio: socket.socket | None) -> None:
        """Start the one media worker of this process."""
        limit = self.settings.max_calls_per_worker
        running = await self._stack.enter_async_context(media(0, policy, trust, audio, limit, self.settings.sip))
        control_end, worker_end = memory_pair()
        self.control.connect(self.control.workers[0], control_end)
        running.keeping.connect(worker_end)

    def _connect(self) -> None:
        """Connect to the worker processes, and again whenever one was lost."""
        for worker, remote in zip(self.control.workers, self._remote, strict=True):
            task = asyncio.create_task(self._keep_connected(worker, remote.path))
            self._stack.callback(_disconnect, worker, task)

    async def _keep_connected(self, worker: Worker, path: str) -> None:
        while True:
            # The supervisor holds the worker's socket: while the worker is not there, the connection waits for it.
            try:
                link = await socket_link.connect(path, Tiding, partial(self.control.connect, worker))
                await link.gone.wait()
            except OSError as error:  # no descriptor left, say: it may be better soon
                log.error("media worker %d cannot be reached: %s", worker.number, error)
            await asyncio.sleep(RECONNECT_S)

    async def _wait_for_workers(self) -> None:
        """Wait for the first worker, and a moment for the others: what they keep of calls is taken over meanwhile."""
        waits = [asyncio.create_task(worker.ready.wait()) for worker in self.control.workers]
        await asyncio.wait(waits, timeout=FIRST_WORKER_S, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(waits, timeout=OTHER_WORKERS_S)
        for wait in waits:
            wait.cancel()

    # ------------------------------------------------------------------------------------------ the parts

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
        deliverer = Deliverer(poster, lambda: signer.callback(time.time()), took=self._metrics.callback_s.add)
        self._stack.push_async_callback(deliverer.close, GRACE_S)
        urls = settings.endpoints()
        endpoints = Endpoints(urls, slow_poster, self.url, validation, self._metrics.notification_s.add)
        self._metrics.watch_events(deliverer, endpoints)
        self._stack.push_async_callback(endpoints.close)
        return endpoints, Webhooks(deliverer, endpoints, topic, time.time, settings.inbound_plan())

    def _make_studio(self, policy: AddressPolicy, trust: ssl.SSLContext) -> Studio:
        """Make what prompts and speech are for."""
        fetcher = Fetcher(policy, trust)
        self._stack.push_async_callback(fetcher.close)
        speech = self.settings.speech
        engines = Engines(speech.synthesizer, speech.recognizer, speech.options)
        studio = Studio(Clips(self.settings.data_dir / "prompts"), fetcher, engines)
        self._stack.push_async_callback(studio.close)
        if speech.preload:
            studio.warm_up()
        return studio

    def _routes(
        self, policy: AddressPolicy, verifier: Verifier, signer: TokenSigner, endpoints: Endpoints
    ) -> list[Route]:
        settings, control = self.settings, self.control
        routes = [*self._open_routes(signer, endpoints), self._metrics.route(settings.metrics_readers())]
        if settings.profile == "development":
            routes.append(openapi.route(Api.implemented))
        if settings.managed_identity:
            secret = identity.secret(settings.data_dir)
            routes.append(identity.ManagedIdentity(signer, secret, settings.resource, time.time).route())
        if settings.caller_api:
            routes += Callers(control, verifier, settings.resource, time.time).routes()
            routes += BrowserPhone(control, settings.resource, settings.names).routes()
        ids = IdMint(node=settings.node)
        routes.append(telephone_report.route(settings, control, self.sip, verifier))
        return routes + Api(control, verifier, ids, settings.resource, policy, time.time).routes()

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
            told = self.health()
            return JSONResponse(told, 200 if told["status"] in ("ok", "degraded") else 503)

        return [
            Route(OPENID_PATH, openid),
            Route(JWKS_PATH, jwks),
            Route(VALIDATION_PATH, confirm),
            Route("/health", health),
        ]

    def note(self, slots: Sequence[Slot]) -> None:
        """The supervisor tells how the processes of the media workers are."""
        for worker, slot in zip(self.control.workers, slots, strict=True):
            worker.slot = slot

    def health(self) -> dict[str, Any]:
        """Say how we are. `status`: ok, degraded (a worker is missing), down (all are), or draining."""
        workers = self.control.workers
        up = sum(worker.up for worker in workers)
        status = "ok" if up == len(workers) else "degraded" if up else "down"
        return {
            "status": "draining" if self.control.draining else status,
            "pid": os.getpid(),
            "calls": len(self.control.registry.calls),
            "workers": [
                {
                    "up": worker.up,
                    "calls": len(worker.calls),
                    **(msgspec.structs.asdict(worker.slot) if worker.slot is not None else {}),
                }
                for worker in workers
            ],
        }

    # ------------------------------------------------------------------------------------------ listening

    def _identity(self) -> ssl.SSLContext:
        """Return a context that shows our certificate, also one that is read later."""
        self._identities.append(tls.server_context(*self.certificate()))
        return self._identities[-1]

    async def _serve(self, app: ASGIApp) -> None:
        for listening, secure in ((self.http_socket, False), (self.https_socket, True)):
            if listening is None:
                continue
            config = uvicorn.Config(
                app,
                log_level="critical",  # we say ourselves what went wrong
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,  # who may read /metrics is judged by the peer itself
                timeout_keep_alive=15,
                limit_concurrency=1000,
                h11_max_incomplete_event_size=64 << 10,
                timeout_graceful_shutdown=1,
            )
            config.load()
            if secure:
                config.ssl = self._identity()
            server = _Uvicorn(config)
            task = asyncio.create_task(server.serve(sockets=[listening]))
            self._stack.push_async_callback(_stop, server, task)
            while not server.started:
                if task.done():
                    task.result()
                await asyncio.sleep(0.005)


def _disconnect(worker: Worker, connecting: asyncio.Task[None]) -> None:
    connecting.cancel()
    if worker.link is not None:
        worker.link.close()


class _Uvicorn(uvicorn.Server):
    """Signals are the business of whoever runs us, not of each listener."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _stop(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    server.should_exit = True
    await task
