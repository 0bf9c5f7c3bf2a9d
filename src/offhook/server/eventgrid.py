"""Event Grid's side of IncomingCall: subscriber endpoints, proven by a handshake and told of calls (contract 3.5).

An endpoint gets no notification before it has proven that it wants them: it answers a validation event with the code in
it, or somebody opens the validation URL. People start this server before their app, so the handshake is tried for ever.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

from offhook.server.delivery import Post, Reply, Settled, without_query
from offhook.wire import events

log = logging.getLogger(__name__)

VALIDATION_PATH = "/eventgrid/validate"
"""GET with `?code=` completes the handshake: the server routes it to `Endpoints.confirm`."""

VALIDATION_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)  # the last one repeats
NOTIFICATION_BACKOFF_S = (1.0, 2.0, 5.0, 10.0)  # the last one repeats, within the ring time
VALIDATION_TIMEOUT_S = 30.0
NOTIFICATION_TIMEOUT_S = 10.0
PENDING = 1000

_HEADERS = {"Content-Type": "application/json; charset=utf-8"}
_VALIDATION = {**_HEADERS, "aeg-event-type": "SubscriptionValidation"}
_NOTIFICATION = {**_HEADERS, "aeg-event-type": "Notification"}


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """`url` is without its query. `error`: why the last attempt to reach the endpoint failed, if it did."""

    url: str
    valid: bool
    error: str | None


@dataclass(slots=True)
class _Endpoint:
    url: str
    # One code for as long as we run: a validation URL that somebody copied from the log stays good.
    code: str = field(default_factory=lambda: str(uuid.uuid4()))
    handshake: asyncio.Task[None] | None = None
    valid: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    pending: set[asyncio.Task[None]] = field(default_factory=set)
    error: str | None = None


class Endpoints:
    """The configured endpoints, by their URLs. `start` begins the handshakes; use it all on one event loop.

    `post` should allow VALIDATION_TIMEOUT_S for an answer. `validation_body(code, url)` builds the validation event.
    `base_url` is where people reach this server; the validation URL begins with it.

    Counters: notifications `sent`, `failed` (the call stopped ringing first) and `dropped`, and tries `retried`. `took`
    is told of every notification that is taken: how many seconds after `offer`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        post: Post,
        base_url: str,
        validation_body: Callable[[str, str], bytes],
        took: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._post = post
        self._base_url = base_url.rstrip("/")
        self._validation_body = validation_body
        self._endpoints = {url: _Endpoint(url) for url in urls}
        self._tasks: set[asyncio.Task[None]] = set()
        self._took = took
        self.sent = 0
        self.retried = 0
        self.failed = 0
        self.dropped = 0

    @property
    def pending(self) -> int:
        """How many notifications are on their way."""
        return sum(len(endpoint.pending) for endpoint in self._endpoints.values())

    def start(self) -> None:
        """Begin the handshakes. Until one succeeds it is tried again, every 10 s in the end."""
        for endpoint in self._endpoints.values():
            endpoint.handshake = self._spawn(self._validate(endpoint))

    def use(self, urls: Iterable[str]) -> None:
        """Replace the endpoints, once started. One that stays is as it was; one that goes is told of no further calls,
        and of those that ring already as before."""
        before, self._endpoints = self._endpoints, {url: self._endpoints.get(url) or _Endpoint(url) for url in urls}
        for url in before.keys() - self._endpoints.keys():
            if (handshake := before[url].handshake) is not None:
                handshake.cancel()
        for url in self._endpoints.keys() - before.keys():
            self._endpoints[url].handshake = self._spawn(self._validate(self._endpoints[url]))

    def confirm(self, code: str) -> bool:
        """Somebody opened the validation URL; False for a code that is none of ours."""
        for endpoint in self._endpoints.values():
            if endpoint.code == code:
                self._accept(endpoint)
                return True
        return False

    def offer(self, urls: Iterable[str], body: bytes, seconds: float, settled: Settled | None = None) -> None:
        """Send a notification to the endpoints at `urls`, for no longer than the `seconds` that the call rings.

        It does not wait. 200 to 204 is success; anything else is tried again (NOTIFICATION_BACKOFF_S). An endpoint that
        has not proven itself yet is asked to at once. More than PENDING notifications to one endpoint are dropped.
        A URL that is no endpoint any more is left out. `settled`: none is to be told of it any more (not called for
        what `close` stops).
        """
        deadline = asyncio.get_running_loop().time() + seconds
        tasks = []
        for endpoint in (self._endpoints[url] for url in urls if url in self._endpoints):
            if len(endpoint.pending) >= PENDING:
                self.dropped += 1
                self._note(endpoint, f"{PENDING} notifications wait for it, dropped one more")
                continue
            endpoint.hurry.set()
            task = self._spawn(self._notify(endpoint, body, deadline))
            endpoint.pending.add(task)
            task.add_done_callback(endpoint.pending.discard)
            tasks.append(task)
        if settled is not None:
            _when_done(tasks, settled)

    def status(self) -> list[EndpointStatus]:
        endpoints = self._endpoints.values()
        return [EndpointStatus(without_query(each.url), each.valid.is_set(), each.error) for each in endpoints]

    async def close(self) -> None:
        """Stop handshakes and notifications where they are."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _validate(self, endpoint: _Endpoint) -> None:
        delays = chain(VALIDATION_BACKOFF_S, repeat(VALIDATION_BACKOFF_S[-1]))
        while not endpoint.valid.is_set():
            endpoint.hurry.clear()
            error = await self._handshake(endpoint)
            if error is None:
                self._accept(endpoint)
                return
            if not endpoint.valid.is_set():  # else it was confirmed in the meantime
                self._note(endpoint, f"not validated: {error}")
            if await _set_within(endpoint.hurry, next(delays)):
                delays = chain(VALIDATION_BACKOFF_S, repeat(VALIDATION_BACKOFF_S[-1]))

    async def _handshake(self, endpoint: _Endpoint) -> str | None:
        """Try once; return what went wrong."""
        body = self._validation_body(endpoint.code, f"{self._base_url}{VALIDATION_PATH}?code={endpoint.code}")
        reply = await self._ask(endpoint, _VALIDATION, body, VALIDATION_TIMEOUT_S)
        if isinstance(reply, str):
            return reply
        if reply.status != 200:  # 202 among them: Event Grid does not accept it
            return f"HTTP {reply.status} instead of 200"
        if events.validation_response(reply.body) != endpoint.code:
            return "the answer does not have the validation code"
        return None

    async def _notify(self, endpoint: _Endpoint, body: bytes, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await endpoint.valid.wait()
                for delay in chain(NOTIFICATION_BACKOFF_S, repeat(NOTIFICATION_BACKOFF_S[-1])):
                    reply = await self._ask(endpoint, _NOTIFICATION, body, NOTIFICATION_TIMEOUT_S)
                    if isinstance(reply, Reply) and 200 <= reply.status <= 204:
                        endpoint.error = None
                        self.sent += 1
                        self._took(loop.time() - since)
                        return
                    self.retried += 1
                    self._note(endpoint, reply if isinstance(reply, str) else f"HTTP {reply.status}")
                    await asyncio.sleep(delay)
        self.failed += 1
        log.warning("the call stopped ringing before %s took the notification", without_query(endpoint.url))

    async def _ask(self, endpoint: _Endpoint, headers: dict[str, str], body: bytes, timeout: float) -> Reply | str:
        """Post once and return the reply, or what went wrong."""
        try:
            async with asyncio.timeout(timeout):
                return await self._post(endpoint.url, headers, body)
        except (OSError, ValueError) as error:
            return str(error) or f"no answer within {timeout:g} s"

    def _accept(self, endpoint: _Endpoint) -> None:
        if not endpoint.valid.is_set():
            log.info("%s takes incoming calls", without_query(endpoint.url))
        endpoint.error = None
        endpoint.valid.set()
        endpoint.hurry.set()  # a handshake that waits for its next try has nothing to do any more

    def _note(self, endpoint: _Endpoint, error: str) -> None:
        if error != endpoint.error:  # said once, not every 10 s
            log.warning("%s: %s", without_query(endpoint.url), error)
        endpoint.error = error


def _when_done(tasks: list[asyncio.Task[None]], done: Callable[[], None]) -> None:
    """Call `done` when all of `tasks` have ended, unless one was cancelled."""
    left = set(tasks)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            left.discard(task)
            if not left:
                done()

    for task in tasks:
        task.add_done_callback(ended)
    if not tasks:
        done()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
