"""Ways to the other side: packets from a UDP socket of ours, or a connection of TCP or TLS (RFC 3261 section 18)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from offhook.legs.sip.framing import PING, PONG, Framer, StreamError
from offhook.legs.sip.uri import Address, Uri

if TYPE_CHECKING:
    from offhook.legs.sip.transport import Transports

MAX_UNSENT = 262_144  # bytes
STRANGER_S = 10.0

HostPort = tuple[str, int]


class Flow(ABC):
    """A way to the other side: our UDP socket and its address, or a connection.

    `remote` is its address, `sent_by` ours, as it has to know it (for Via and Contact).
    """

    transport: str
    remote: HostPort
    sent_by: HostPort

    @property
    def reliable(self) -> bool:
        return self.transport != "udp"

    @property
    def address(self) -> HostPort | None:
        """Where packets are sent; None for a connection, which ends with its process."""
        return None if self.reliable else self.remote

    @property
    def closed(self) -> bool:
        return False

    def admit(self) -> None:  # noqa: B027 - nothing to do for packets
        """Somebody known is at the other end."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send one message; never raises. What cannot be sent is lost (UDP), or closes the connection."""

    def contact(self, user: str) -> Address:
        """Return the address at which requests reach us over this transport."""
        host, port = self.sent_by
        params: dict[str, str | None] = {} if self.transport == "udp" else {"transport": self.transport}
        return Address(Uri(user, host, port, params))


@dataclass(frozen=True)
class UdpFlow(Flow):
    """Packets from one of our sockets to one address."""

    listener: UdpListener
    remote: HostPort
    transport: str = "udp"

    @property
    def sent_by(self) -> HostPort:  # type: ignore[override]
        return self.listener.host_for(self.remote[0]), self.listener.port

    def send(self, data: bytes) -> None:
        self.listener.sendto(data, self.remote)


class UdpListener(asyncio.DatagramProtocol):
    """One UDP socket."""

    def __init__(self, transports: Transports, host: str) -> None:
        self._transports = transports
        self._host = host
        self._socket: asyncio.DatagramTransport | None = None
        self.port = 0
        self.family = family_of(host)

    def host_for(self, remote: str) -> str:
        return self._transports.host_for(self._host, remote)

    def sendto(self, data: bytes, remote: HostPort) -> None:
        if self._socket is not None:
            self._socket.sendto(data, remote)

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport  # type: ignore[assignment]  # a selector loop's is no DatagramTransport by type
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if data.strip(b"\r\n\0"):  # else it keeps a NAT open
            self._transports.receive(data, UdpFlow(self, (without_scope(addr[0]), addr[1])))

    def error_received(self, exc: Exception) -> None:
        self._transports.counts["udp_errors"] += 1


class Connection(asyncio.Protocol, Flow):
    """One TCP or TLS connection, whoever opened it."""

    def __init__(self, transports: Transports, transport: str, outbound: bool) -> None:
        self._transports = transports
        self.transport = transport
        self._outbound = outbound
        self._framer = Framer()
        self._socket: asyncio.Transport | None = None
        self._suspicion: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def admit(self) -> None:
        if self._suspicion is not None:
            self._suspicion.cancel()
            self._suspicion = None

    def send(self, data: bytes) -> None:
        if self._socket is None or self._closed:
            return
        self._socket.write(data)
        if self._socket.get_write_buffer_size() > MAX_UNSENT:
            self._transports.counts["connections_too_slow"] += 1
            self.abort()

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.remote = without_scope(peer[0]), peer[1]
        self.sent_by = self._transports.sent_by(self.transport, own, self.remote[0])
        if not self._transports.opened(self, self._outbound):
            self._closed = True
            transport.abort()
        elif not self._outbound:
            loop = asyncio.get_running_loop()
            self._suspicion = loop.call_later(STRANGER_S, self.abort)

    def data_received(self, data: bytes) -> None:
        try:
            for one in self._framer.feed(data):
                if one == PING:
                    self.send(PONG)
                elif one != PONG and not self._closed:
                    self._transports.receive(one, self)
        except StreamError:
            self._transports.counts["bad_streams"] += 1
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.admit()
        if not self._closed:
            self._closed = True
            self._transports.closed(self)


@lru_cache(maxsize=1024)  # each message comes from one, and few are new
def ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that `host` is, None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def family_of(host: str) -> socket.AddressFamily | None:
    """Return an address's family, None for a name."""
    address = ip_of(host)
    if address is None:
        return None
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


def without_scope(host: str) -> str:
    """Return an address without its scope."""
    return host.partition("%")[0]
