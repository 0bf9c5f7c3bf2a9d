"""Where a SIP URI leads (RFC 3263): from the NAPTR, SRV and address records of its host to addresses, the best first.

Records are asked for where a URI has a name with a dot and no port. They are kept as long as their TTL says, 1,000
answers at most. Names without records, or with a port, are looked up as any program does: /etc/hosts counts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, Literal, NamedTuple

from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.name import Name, root
from dns.name import from_text as name_from_text
from dns.resolver import LRUCache

from offhook.legs.sip.uri import Uri

MAX_TARGETS = 8  # of one URI that are tried
MAX_ANSWERS = 1_000  # of name servers that are kept
MAX_AVOIDED = 1_000
AVOIDED_S = 30.0  # that a target which has failed comes after the others
SERVER_S, NAME_S = 1.0, 2.0  # that one name server has, and that all have for one question
THREADS = 8  # that wait for plain look-ups; more of them queue, and are dropped when nobody waits for them any more

PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}
SERVICES = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
NAPTR_SERVICES = {b"sip+d2u": "udp", b"sip+d2t": "tcp", b"sips+d2t": "tls"}

# Of its own: whatever else looks names up, or does slow work in the loop's executor, does not hold up calls.
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sip-names")


class Target(NamedTuple):
    """Where to send to: `host` is an IP address."""

    transport: str
    host: str
    port: int


def system_resolver() -> Resolver:
    """Return a resolver that asks the name servers of this machine, as they are set now. Raises DNSException."""
    resolver = Resolver()
    resolver.timeout, resolver.lifetime = SERVER_S, NAME_S
    return resolver


class Locator:
    """`resolver` makes what name servers are asked by, for each URI anew: they may be others by then."""

    def __init__(self, resolver: Callable[[], Resolver] = system_resolver) -> None:
        self._resolver = resolver
        self._cache = LRUCache(MAX_ANSWERS)
        self._avoided: dict[Target, float] = {}  # until when, in loop time

    async def locate(self, uri: Uri, transports: Sequence[str]) -> list[Target]:
        """Return where `uri` leads, by one of `transports` (the preferred one first) if it leaves that open: the best
        first, those that have failed lately last. Its host is a name, its transport one that we speak.

        Raises OSError when the name is not known.
        """
        targets = await self._by_records(uri, transports) if _has_records(uri) else None
        if targets is None:
            targets = await _plain(uri, transports)
        now = asyncio.get_running_loop().time()
        return sorted(targets, key=lambda target: self._avoided.get(target, now) > now)[:MAX_TARGETS]

    def avoid(self, target: Target) -> None:
        """It has failed: for `AVOIDED_S` the others come first."""
        self._avoided.pop(target, None)
        self._avoided[target] = asyncio.get_running_loop().time() + AVOIDED_S
        if len(self._avoided) > MAX_AVOIDED:
            del self._avoided[next(iter(self._avoided))]

    async def _by_records(self, uri: Uri, transports: Sequence[str]) -> list[Target] | None:
        """Return what SRV records say; None if there are none, or there is nobody to ask."""
        try:
            resolver = self._resolver()
            resolver.cache = self._cache
            services = await _services(resolver, uri, transports)
            asked = [_ask(resolver, name, "SRV") for _, name in services]
            found = [
                (transport, record)
                for (transport, _), records in zip(services, await asyncio.gather(*asked), strict=True)
                for record in records
            ]
            usable = [(transport, record) for transport, record in found if record.target != root][:MAX_TARGETS]
            hosts = await asyncio.gather(*(_addresses(resolver, record.target) for _, record in usable))
        except DNSException:
            return None
        targets = [
            Target(transport, host, record.port)
            for (transport, record), addresses in zip(usable, hosts, strict=True)
            for host in addresses
        ]
        return list(dict.fromkeys(targets)) if found else None


async def _services(resolver: Resolver, uri: Uri, transports: Sequence[str]) -> list[tuple[str, Name]]:
    """Return the names of SRV records to ask for, each with its transport, in order (RFC 3263 section 4.1)."""
    host = name_from_text(uri.host)
    if uri.transport:
        return [(uri.transport, name_from_text(SERVICES[uri.transport], host))]
    named = [
        (transport, record.replacement)
        for record in await _ask(resolver, host, "NAPTR")
        if record.flags.lower() == b"s" and (transport := NAPTR_SERVICES.get(record.service.lower(), "")) in transports
    ]
    return named or [(transport, name_from_text(SERVICES[transport], host)) for transport in transports]


async def _ask(resolver: Resolver, name: Name, kind: Literal["A", "AAAA", "NAPTR", "SRV"]) -> list[Any]:
    """Return the records of `name`, in the order in which they are to be used: for SRV, equals by their weight and
    chance (RFC 2782). None when nobody answers, too: some name servers drop what they do not know, as NAPTR or AAAA,
    and what the others say holds for all that."""
    try:
        answer = await resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
    except DNSException:
        return []
    if answer.rrset is None:
        return []
    return list(answer.rrset.processing_order() if kind in ("NAPTR", "SRV") else answer.rrset)


async def _addresses(resolver: Resolver, name: Name) -> list[str]:
    kinds = await asyncio.gather(_ask(resolver, name, "A"), _ask(resolver, name, "AAAA"))
    return [record.address for record in chain(*kinds)]


async def _plain(uri: Uri, transports: Sequence[str]) -> list[Target]:
    """Look the name up as any program does, for a URI with a port, or whose name has no records."""
    transport = uri.transport or transports[0]
    look_up = partial(socket.getaddrinfo, uri.host, uri.port or PORTS[transport], type=socket.SOCK_DGRAM)
    try:
        found = await asyncio.get_running_loop().run_in_executor(_threads, look_up)
    except UnicodeError:
        raise OSError(f"{uri.host!r} is not a host name") from None
    return list(dict.fromkeys(Target(transport, str(address[0]), int(address[1])) for *_, address in found))


def _has_records(uri: Uri) -> bool:
    """Whether to ask for them: a name without a dot is this network's (localhost, a container)."""
    return uri.port is None and "." in uri.host.rstrip(".") and not uri.host.endswith(".localhost")
