"""Webhooks out: each connection's events, one a POST, in order, tried again while there is hope.

How ACS retries callbacks is not documented; the schedule here is ours. Nothing in this module logs or reports the query
string of a callback URL: apps keep secrets there.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain, repeat
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from offhook.media.egress import AddressPolicy, Refused, check, resolve
from offhook.media.weather import Fate

log = logging.getLogger(__name__)

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # before each further try; the last one repeats
GIVE_UP_S = 120.0  # after the first try of an event
RETRY_AFTER_MAX_S = 30.0
LANE_EVENTS = 1000
LANES = 10_000

CONNECT_TIMEOUT_S = 3.0
TOTAL_TIMEOUT_S = 5.0
ANSWER_LIMIT = 64 << 10
PER_HOST = 100
_KEEP_ALIVE_S = 4.0  # less than the 5 s of common servers, or we would post into a connection they just closed


class Reply(NamedTuple):
    """What an endpoint answered. `retry_after` is in seconds."""

    status: int
    body: bytes = b""
    retry_after: float | None = None


Post = Callable[[str, Mapping[str, str], bytes], Awaitable[Reply]]
"""`post(url, headers, body)`. Raises `OSError` when there is no answer, its subclass `Refused` when the address policy
forbids the endpoint, `ValueError` when the URL is none. Their texts do not contain the URL's query string."""

Settled = Callable[[], None]
"""Called once, when an event is on its way no more: delivered, given up, or dropped."""

OnResult = Callable[[str, str, str, bool, str], None]
"""`on_result(lane, kind, url without its query, ok, detail)`: an event has been delivered or given up."""


def without_query(url: str) -> str:
    """The part of a URL that may be shown: no query, no fragment, no user and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Parcel(msgspec.Struct, frozen=True):
    """An event, ready to be posted. `lane`: the connection's id. `last`: of its connection.

    An IncomingCall is for `endpoints` (URLs of Event Grid's side) instead of one `url`, and of use `until` the call
    rings no more (Unix time). `id` tells parcels apart; it is the event's own id, or the token of the
    incomingCallContext. `fate`: what goes wrong with it on purpose.
    """

    id: str
    lane: str
    url: str
    kind: str
    body: bytes
    last: bool = False
    until: float | None = None
    fate: Fate | None = None
    endpoints: tuple[str, ...] = ()


@dataclass(slots=True)
class _Event:
    post: Post
    url: str
    body: bytes
    kind: str
    settled: Settled | None
    since: float  # loop time at which it was queued


@dataclass(slots=True)
class _Lane:
    """`queue[0]` is on its way. `closed`: the last event is in the queue."""

    queue: deque[_Event] = field(default_factory=deque)
    closed: bool = False


class _Outcome(NamedTuple):
    ok: bool
    detail: str
    again: bool = False
    wait_s: float = 0.0


class Deliverer:
    """Delivers each lane's events in order, and the lanes independently: a hung endpoint delays its own lane only.

    An event is tried again after a network error, 408, 429 or 5xx, by BACKOFF_S (or Retry-After, up to 30 s), and given
    up when GIVE_UP_S would be exceeded; the lane then goes on with the next one. Any 2xx acknowledges. Other answers,
    redirects among them, and a refused address are final at once.

    A lane holds LANE_EVENTS events and there are at most LANES lanes with something to do; an event beyond that is
    dropped. Counters: events `sent`, `failed` (given up) and `dropped` (no room, or left over at the end), and tries
    `retried`. `on_result` is told of every event once, `took` of every one that is delivered: how many seconds after it
    was queued.
    """

    def __init__(
        self,
        post: Post,
        token: Callable[[], str],
        on_result: OnResult | None = None,
        took: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._post = post
        self._token = token
        self._on_result = on_result
        self._took = took
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.sent = 0
        self.retried = 0
        self.failed = 0
        self.dropped = 0

    def send(
        self,
        lane: str,
        url: str,
        body: bytes,
        kind: str,
        last: bool = False,
        settled: Settled | None = None,
        over: Callable[[Post], Post] = lambda post: post,
    ) -> None:
        """Queue an event; call it on the event loop. It neither waits nor raises.

        `lane` is the connection id, `kind` the event's name for logs. The `last` event of a connection is taken even
        when the lane is full, and nothing is taken behind it. `settled` is not called for what `close` leaves over.
        `over` is given the usual way of posting, and returns that of this event.
        """
        current = self._lanes.get(lane)
        if self._closing or (current is None and len(self._lanes) >= LANES):
            return self._drop(lane, url, kind, settled)
        if current is None:
            current = self._lanes[lane] = _Lane()
            task = asyncio.get_running_loop().create_task(self._run(lane, current))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif current.closed or (len(current.queue) >= LANE_EVENTS and not last):
            return self._drop(lane, url, kind, settled)
        now = asyncio.get_running_loop().time()
        current.queue.append(_Event(over(self._post), url, body, kind, settled, now))
        current.closed = last

    @property
    def pending(self) -> int:
        """How many events are queued or on their way."""
        return sum(len(lane.queue) for lane in self._lanes.values())

    async def close(self, grace_s: float) -> None:
        """Take no more events, give the queued ones `grace_s` seconds, then drop what is left."""
        self._closing = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for name, lane in self._lanes.items():
            for event in lane.queue:
                self._drop(name, event.url, event.kind)
        self._lanes.clear()

    def _drop(self, lane: str, url: str, kind: str, settled: Settled | None = None) -> None:
        self.dropped += 1
        reason = "stopped before it was delivered" if self._closing else "no room in the queue"
        self._report(lane, url, kind, _Outcome(False, f"dropped: {reason}"))
        if settled is not None and not self._closing:
            settled()

    async def _run(self, name: str, lane: _Lane) -> None:
        while lane.queue:
            event = lane.queue[0]
            outcome = await self._deliver(name, event)
            lane.queue.popleft()
            if outcome.ok:
                self.sent += 1
                self._took(asyncio.get_running_loop().time() - event.since)
            else:
                self.failed += 1
            self._report(name, event.url, event.kind, outcome)
            if event.settled is not None:
                try:
                    event.settled()
                except Exception:  # The connection's next events are to go out nevertheless.
                    log.exception("what follows a delivered event failed")
        del self._lanes[name]

    def _report(self, lane: str, url: str, kind: str, outcome: _Outcome) -> None:
        shown = without_query(url)
        if not outcome.ok:
            log.warning("%s for %s not delivered to %s: %s", kind, lane, shown, outcome.detail)
        if self._on_result:
            try:
                self._on_result(lane, kind, shown, outcome.ok, outcome.detail)
            except Exception:
                log.exception("on_result failed")  # an observer's fault must not stop the lane

    async def _deliver(self, name: str, event: _Event) -> _Outcome:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + GIVE_UP_S
        for delay in chain(BACKOFF_S, repeat(BACKOFF_S[-1])):
            outcome = await self._try(event)
            wait = max(delay, outcome.wait_s)
            if not outcome.again or loop.time() + wait > give_up_at:
                break
            log.info("%s for %s: %s; again in %g s", event.kind, name, outcome.detail, wait)
            self.retried += 1
            await asyncio.sleep(wait)
        return outcome

    async def _try(self, event: _Event) -> _Outcome:
        try:
            headers = {
                "Content-Type": "application/json; charset=utf-8",
                "Authorization": f"Bearer {self._token()}",
            }
            reply = await event.post(event.url, headers, event.body)
        except (Refused, ValueError) as error:
            return _Outcome(False, str(error))
        except OSError as error:
            return _Outcome(False, str(error) or type(error).__name__, again=True)
        except Exception as error:  # a fault of ours; its text might have the whole URL, so only its kind is told
            return _Outcome(False, f"internal error: {type(error).__name__}")
        if 200 <= reply.status < 300:
            return _Outcome(True, f"HTTP {reply.status}")
        again = reply.status in (408, 429) or reply.status >= 500
        return _Outcome(False, f"HTTP {reply.status}", again, min(reply.retry_after or 0.0, RETRY_AFTER_MAX_S))


class HttpPoster:
    """A `Post` over HTTP that goes only where the address policy allows. Make it on the event loop.

    The address that is connected is the one that was checked. Redirects are not followed, the proxies of the
    environment are not used, cookies are not kept, and only the first ANSWER_LIMIT bytes of an answer are read. At most
    PER_HOST requests are under way to one host and port, others wait within their own time-out; hosts do not share
    this limit.
    """

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext, total_s: float = TOTAL_TIMEOUT_S) -> None:
        self._total_s = total_s
        self._session = aiohttp.ClientSession(
            connector=guarded_connector(policy, tls),
            timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,  # a small answer must not unpack into a large one
            headers={"User-Agent": "Offhook", "Accept-Encoding": "identity"},
        )

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        target = parse_url(url)
        try:
            async with self._session.post(target, headers=headers, data=body, allow_redirects=False) as response:
                answer = await _read_up_to(response.content, ANSWER_LIMIT)
                return Reply(response.status, answer, _seconds(response.headers.get("Retry-After")))
        except Exception as error:
            raise explain(error, target, self._total_s) from None

    async def close(self) -> None:
        await self._session.close()


def guarded_connector(policy: AddressPolicy, tls: ssl.SSLContext) -> aiohttp.TCPConnector:
    """Return what makes aiohttp connect only to addresses that the policy allows."""

    def make_socket(address: Any) -> socket.socket:
        # The last gate before a connection, and for a literal address the only one: that asks no resolver.
        family, kind, protocol, _, sockaddr = address
        check(sockaddr[0], policy)
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        ssl=tls,
        resolver=_Resolver(policy),
        socket_factory=make_socket,
        limit=0,
        limit_per_host=PER_HOST,
        keepalive_timeout=_KEEP_ALIVE_S,
    )


class _Resolver(AbstractResolver):
    """Gives aiohttp the addresses that the policy allows, and nothing else."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=sockaddr[0], port=port, family=found, proto=0, flags=socket.AI_NUMERICHOST
            )
            for found, sockaddr in await resolve(host, port, self._policy)
        ]

    async def close(self) -> None:
        """There is nothing to release."""


def parse_url(url: str) -> URL:
    """Return an http or https URL as it goes onto the wire. Raises `ValueError`."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.username is None:
            # What can go onto the wire as it stands does: path and query are the app's.
            return URL(url, encoded=url.isascii() and url.isprintable() and " " not in url)
    except ValueError:
        pass
    raise ValueError("not an http or https URL (with a user and a password it is none either)")


def explain(error: Exception, url: URL, total_s: float) -> Exception:
    """Return what went wrong in our words: aiohttp's have the whole URL here and there."""
    where = f"{url.host} port {url.port}"
    match error:
        case TimeoutError():
            return TimeoutError(f"{where} did not answer within {total_s:g} s")
        case aiohttp.ClientConnectorCertificateError():
            return ConnectionError(f"the certificate of {where} is not trusted: {error.certificate_error}")
        case aiohttp.ClientConnectorError(os_error=Refused()):
            return error.os_error
        case aiohttp.ClientConnectorError():
            return ConnectionError(f"cannot connect to {where}: {error.os_error}")
        case aiohttp.ClientResponseError():
            return ConnectionError(f"{where} does not speak HTTP: {error.message}")
        case aiohttp.ClientOSError() | aiohttp.ServerDisconnectedError():
            return ConnectionError(f"{where} closed the connection: {error}")
        case ValueError():
            return ValueError(f"{where} is nothing to ask")
        case _:
            return ConnectionError(f"a request to {where} failed: {type(error).__name__}")


async def _read_up_to(stream: aiohttp.StreamReader, limit: int) -> bytes:
    parts = bytearray()
    # The status has arrived and is what counts: a body that breaks off stays short.
    with suppress(aiohttp.ClientError, TimeoutError):
        while len(parts) < limit and (part := await stream.read(limit - len(parts))):
            parts += part
    return bytes(parts)


def _seconds(retry_after: str | None) -> float | None:
    """Parse Retry-After, a number of seconds or a date; None for anything else."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
