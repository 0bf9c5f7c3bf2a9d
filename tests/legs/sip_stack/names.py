"""Names for tests: a name server on loopback, and, on virtual time, what one might have said."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dns import flags, message, rcode, rdatatype, rrset
from dns.asyncresolver import Resolver
from dns.resolver import Answer

from offhook.legs.sip.locate import Locator, Target
from offhook.legs.sip.uri import Uri

PATIENCE_S = 20.0  # for an answer that comes
SILENCE_S = 0.2  # for one that never does


class Named(Locator):
    """Every name that has a dot leads to `targets`, as if records said so; without any, no name is known."""

    def __init__(self, *targets: Target) -> None:
        super().__init__()
        self._targets = targets

    async def _by_records(self, uri: Uri, transports: Sequence[str]) -> list[Target]:
        if not self._targets:
            raise OSError("no such name")
        return list(self._targets)


class NameServer(asyncio.DatagramProtocol):
    """Answers from `zone`: lines of `NAME TTL IN TYPE DATA`. What is not in it does not exist. `asked` counts
    questions by name and type; those of a type in `silent` are not answered."""

    def __init__(self, zone: str) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.silent: set[str] = set()
        self._records: dict[tuple[str, str], rrset.RRset] = {}
        self._transport: Any = None
        texts: dict[tuple[str, str], list[str]] = {}
        for line in filter(None, map(str.strip, zone.splitlines())):
            name, ttl, _, kind, data = line.split(maxsplit=4)
            texts.setdefault((name, kind), []).append(data)
            self._records[name, kind] = rrset.from_text(name, int(ttl), "IN", kind, *texts[name, kind])

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, source: Any) -> None:
        query = message.from_wire(data)
        (question,) = query.question
        key = str(question.name), rdatatype.to_text(question.rdtype)
        self.asked[key] += 1
        if key[1] in self.silent:
            return
        answer = message.make_response(query)
        answer.flags |= flags.RA | flags.AA
        if key in self._records:
            answer.answer.append(self._records[key])
        elif not any(name == key[0] for name, _ in self._records):
            answer.set_rcode(rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), source)


class Asking(Resolver):
    """Asks `server`, and waits as long as it takes for what that answers: the machine may be busy."""

    def __init__(self, server: NameServer, port: int) -> None:
        super().__init__(configure=False)
        self._server = server
        self.nameservers, self.port = ["127.0.0.1"], port
        self.timeout = PATIENCE_S

    async def resolve(self, name: Any, kind: Any, **more: Any) -> Answer:  # type: ignore[override]
        lifetime = SILENCE_S if kind in self._server.silent else PATIENCE_S
        return await super().resolve(name, kind, lifetime=lifetime, **more)


@asynccontextmanager
async def name_server(zone: str) -> AsyncIterator[tuple[NameServer, Locator]]:
    """A name server that runs, and a locator that asks it."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(zone), local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    try:
        yield server, Locator(lambda: Asking(server, port))
    finally:
        transport.close()
