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
from offhook.legs.sip.uri import Uri

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
        self._connections: dict[tuple[str, str, int], Connection] = {}
        self._dialing: dict[tuple[str, str, int], list[Callable[[Flow | None], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
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

    def reach(
        self, uri: Uri, use: Callable[[Flow | None], None], near: Flow | None = None, pinned: bool = False
    ) -> None:
        """Find a way to `uri`, and hand it to `use`, None when there is none: at once if nothing has to be looked up
        or opened. `near` is taken when it is an open connection to the same host, or `pinned` and not closed."""
        transport = uri.transport or next(iter(self.ports), "udp")
        port = uri.port or (5061 if transport == "tls" else 5060)
        if near is not None and (_serves(near, transport, uri.host) or (pinned and not near.closed)):
            use(near)
        elif transport not in ("udp", "tcp", "tls") or not uri.host:
            use(None)
        elif family_of(uri.host) is None:
            self._spawn(self._look_up(transport, uri.host, port, use))
        else:
            self._reach(transport, uri.host, (uri.host, port), use)

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
        self._connections[(connection.transport, *connection.remote)] = connection
        return True

    def closed(self, connection: Connection) -> None:
        self._connections.pop((connection.transport, *connection.remote), None)
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

    def _reach(self, transport: str, name: str, remote: HostPort, use: Callable[[Flow | None], None]) -> None:
        if transport == "udp":
            listener = next((one for one in self._udp if one.family == family_of(remote[0])), None)
            use(None if listener is None else UdpFlow(listener, remote))
            return
        key = (transport, *remote)
        if key in self._connections:
            use(self._connections[key])
        elif key in self._dialing:
            self._dialing[key].append(use)
        else:
            self._dialing[key] = [use]
            self._spawn(self._dial(key, name))

    async def _dial(self, key: tuple[str, str, int], name: str) -> None:
        transport, host, port = key
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
        for use in self._dialing.pop(key):
            use(flow)

    async def _look_up(self, transport: str, name: str, port: int, use: Callable[[Flow | None], None]) -> None:
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        families = {one.family for one in self._udp} if transport == "udp" else {socket.AF_INET, socket.AF_INET6}
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await asyncio.get_running_loop().getaddrinfo(name, port, type=kind)
        except (OSError, TimeoutError):
            found = []
        host = next((str(address[0]) for family, _, _, _, address in found if family in families), None)
        if host is None:
            self.counts["names_not_found"] += 1
            use(None)
        else:
            self._reach(transport, name, (host, port), use)

    @cached_property
    def _client_context(self) -> ssl.SSLContext:
        return self._tls_client or ssl.create_default_context()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _serves(flow: Flow, transport: str, host: str) -> bool:
    same_host = flow.remote[0] == host or family_of(host) is None
    return flow.reliable and not flow.closed and flow.transport == transport and same_host


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
