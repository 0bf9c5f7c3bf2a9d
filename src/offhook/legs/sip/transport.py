"""Where SIP messages come in and go out: UDP, TCP and TLS sockets over IPv4 and IPv6 (RFC 3261 section 18).

What is bounded: 1,000 connections, each with one unfinished message (64 KiB) and 256 KiB that wait to be sent; a
connection over which nobody was admitted within 10 s is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

from offhook.legs.sip.flows import Connection, Flow, HostPort, UdpFlow, UdpListener, family_of, ip_of, without_scope
from offhook.legs.sip.locate import PORTS, Locator, Target
from offhook.legs.sip.uri import Uri
from offhook.legs.sip.ways import Ways

MAX_CONNECTIONS = 1_000
CONNECT_S = 10.0
RECEIVE_BUFFER = 1_048_576  # bytes of UDP, as far as the kernel allows it: some 500 messages


@dataclass(frozen=True)
class Listen:
    """One address to listen on; port 0 is a free one."""

    transport: Literal["udp", "tcp", "tls"]
    host: str
    port: int = 0


class Transports:
    """All sockets. `start` it on the loop that it shall live on, and `close` it once."""

    def __init__(
        self,
        listen: Sequence[Listen],
        advertised: str = "",
        tls_server: ssl.SSLContext | None = None,
        tls_client: ssl.SSLContext | None = None,
        welcomes: Callable[[str], bool] = lambda ip: True,
    ) -> None:
        """`advertised`: the address that others reach us at, "" for the socket's own. `welcomes` says whether to take a
        connection from an address at all. Raises ValueError for TLS without a certificate."""
        if tls_server is None and any(one.transport == "tls" for one in listen):
            raise ValueError("SIP over TLS needs a certificate")
        self._listen = tuple(listen)
        self._advertised = advertised
        self._tls_server = tls_server
        self._tls_client = tls_client  # None: the system's authorities
        self._welcomes = welcomes
        self._udp = [self._make_listener(one) for one in listen if one.transport == "udp"]
        self._servers: list[asyncio.Server] = []
        self._connections: dict[Target, Connection] = {}
        self._dialing: dict[Target, list[Callable[[Flow | None], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.locator = Locator()
        self.ports: dict[str, int] = {}  # by transport; of several addresses, the first one's
        self.counts: Counter[str] = Counter()
        self.receive: Callable[[bytes, Flow], None] = lambda data, flow: None
        self.lost: Callable[[Flow], None] = lambda flow: None

    async def start(self) -> None:
        """Open all sockets. Raises OSError when one cannot be; none is open then."""
        udp = iter(self._udp)
        try:
            for listen in self._listen:
                opening = self._open_udp(listen, next(udp)) if listen.transport == "udp" else self._open_server(listen)
                port = await opening
                self.ports.setdefault(listen.transport, port)
        except OSError:
            await self.close()
            raise

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for listener in self._udp:
            listener.close()
        for server in self._servers:
            server.close()
        for connection in list(self._connections.values()):
            connection.abort()
        for server in self._servers:
            await server.wait_closed()

    def ways(self, uri: Uri, near: Flow | None = None, pinned: bool = False) -> Ways:
        """Return the ways to `uri`. `near` is the only one when it is an open connection to the same host, or `pinned`
        and not closed."""
        if near is not None and (self._serves(near, uri) or (pinned and not near.closed)):
            return Ways(self, uri, near)
        return Ways(self, uri)

    def target_of(self, uri: Uri) -> Target | None:
        """Return where `uri` leads if that needs no look-up: its host is an address."""
        transport = self._transport(uri)
        if transport not in PORTS or family_of(uri.host) is None:
            return None
        return Target(transport, uri.host, uri.port or PORTS[transport])

    def may_lead_somewhere(self, uri: Uri) -> bool:
        """Whether a look-up is worth it."""
        return bool(uri.host) and self._transport(uri) in PORTS

    async def locate(self, uri: Uri) -> list[Target]:
        """Look up where `uri` leads, as far as we have sockets for it. Raises OSError for a name that is not known."""
        families = {listener.family for listener in self._udp}
        targets = await self.locator.locate(uri, list(self.ports) or ["udp"])
        return [target for target in targets if target.transport != "udp" or family_of(target.host) in families]

    def open(self, target: Target, name: str, use: Callable[[Flow | None], None]) -> None:
        """Hand a way to `target` to `use`, at once if no connection has to be opened. `name` is what a certificate has
        to be for: what we were told to call, whatever DNS has made of it (RFC 5922)."""
        transport, host, port = target
        if transport == "udp":
            listener = next((one for one in self._udp if one.family == family_of(host)), None)
            use(None if listener is None else UdpFlow(listener, (host, port)))
        elif target in self._connections:
            use(self._connections[target])
        elif target in self._dialing:
            self._dialing[target].append(use)
        else:
            self._dialing[target] = [use]
            self.spawn(self._dial(target, name))

    def host_for(self, bound: str, remote: str) -> str:
        """Return our address as `remote` has to know it; `bound` is what the socket is bound to."""
        if self._advertised and family_of(self._advertised) in (None, family_of(remote)):
            return self._advertised
        address = ip_of(bound)
        if address is not None and not address.is_unspecified:
            return bound
        with (
            contextlib.suppress(OSError),
            socket.socket(family_of(remote) or socket.AF_INET, socket.SOCK_DGRAM) as probe,
        ):
            probe.connect((remote, 9))  # sends nothing; the kernel chooses the address
            return str(probe.getsockname()[0])
        return bound

    def sent_by(self, transport: str, own: tuple[Any, ...], remote: str) -> HostPort:
        return self.host_for(without_scope(own[0]), remote), self.ports.get(transport, own[1])

    # ------------------------------------------------------------------------------------------ of connections

    def opened(self, connection: Connection, outbound: bool) -> bool:
        """Take a new connection; False when it has to be closed at once."""
        welcome = outbound or self._welcomes(connection.remote[0])
        if len(self._connections) >= MAX_CONNECTIONS or not welcome:
            self.counts["connections_refused"] += 1
            return False
        self._connections[Target(connection.transport, *connection.remote)] = connection
        return True

    def closed(self, connection: Connection) -> None:
        self._connections.pop(Target(connection.transport, *connection.remote), None)
        self.lost(connection)

    # ------------------------------------------------------------------------------------------ listening

    def _make_listener(self, listen: Listen) -> UdpListener:
        return UdpListener(self, listen.host)

    async def _open_udp(self, listen: Listen, listener: UdpListener) -> int:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: listener, sock=_udp_socket(listen))
        return listener.port

    async def _open_server(self, listen: Listen) -> int:
        make = partial(Connection, self, listen.transport, False)
        context = self._tls_server if listen.transport == "tls" else None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(make, listen.host, listen.port, ssl=context)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    # ------------------------------------------------------------------------------------------ reaching out

    async def _dial(self, target: Target, name: str) -> None:
        transport, host, port = target
        flow: Flow | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                context = self._client_context if transport == "tls" else None
                _, flow = await asyncio.get_running_loop().create_connection(
                    partial(Connection, self, transport, True),
                    host,
                    port,
                    ssl=context,
                    server_hostname=name if context else None,
                )
        except (OSError, TimeoutError, ssl.CertificateError):
            self.counts["connections_failed"] += 1
        for use in self._dialing.pop(target):
            use(flow)

    def _transport(self, uri: Uri) -> str:
        """Return the transport of a URI that is not looked up."""
        return uri.transport or next(iter(self.ports), "udp")

    def _serves(self, near: Flow, uri: Uri) -> bool:
        """Whether an open way may be taken to `uri`. Of a name, DNS may have chosen any transport."""
        named = family_of(uri.host) is None
        fits = near.transport == (uri.transport or near.transport if named else self._transport(uri))
        return near.reliable and not near.closed and fits and (named or near.remote[0] == uri.host)

    @cached_property
    def _client_context(self) -> ssl.SSLContext:
        return self._tls_client or ssl.create_default_context()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it be done until we are closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _udp_socket(listen: Listen) -> socket.socket:
    sock = socket.socket(family_of(listen.host) or socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has sockets of its own
        sock.bind((listen.host, listen.port))
    except OSError:
        sock.close()
        raise
    return sock
