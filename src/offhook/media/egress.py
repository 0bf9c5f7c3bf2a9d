"""Where Offhook may connect to, for callbacks and for media sockets alike.

An app hands us URLs to dial. Without a guard that would let it reach into the machine and the network we run in, so
every address is judged after name resolution and the socket is connected to the very address that was judged: a name
that resolves differently the next time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

IPNetwork = IPv4Network | IPv6Network
SockAddr = tuple[Any, ...]
"""What `socket.connect` takes: (host, port) for IPv4, (host, port, flow, scope) for IPv6."""

# Our own table and not `ipaddress.is_private`, whose meaning changed between Python releases. After the IANA
# special-purpose registries; the first match rules.
_PRIVATE: list[tuple[IPNetwork, str]] = [
    (ip_network("127.0.0.0/8"), "a loopback address"),
    (ip_network("::1/128"), "a loopback address"),
    (ip_network("10.0.0.0/8"), "a private address"),
    (ip_network("172.16.0.0/12"), "a private address"),
    (ip_network("192.168.0.0/16"), "a private address"),
    (ip_network("fc00::/7"), "a private address"),
    (ip_network("100.64.0.0/10"), "a shared (carrier NAT) address"),
]
_NEVER: list[tuple[IPNetwork, str]] = [
    (ip_network("0.0.0.0/8"), "an unspecified address"),
    (ip_network("::/128"), "an unspecified address"),
    (ip_network("169.254.0.0/16"), "a link-local address"),  # cloud metadata lives at 169.254.169.254
    (ip_network("fe80::/10"), "a link-local address"),
    (ip_network("fec0::/10"), "a site-local address"),
    (ip_network("224.0.0.0/4"), "a multicast address"),
    (ip_network("ff00::/8"), "a multicast address"),
    (ip_network("192.0.0.0/24"), "a reserved address"),
    (ip_network("192.0.2.0/24"), "a reserved address"),
    (ip_network("192.88.99.0/24"), "a reserved address"),
    (ip_network("198.18.0.0/15"), "a reserved address"),
    (ip_network("198.51.100.0/24"), "a reserved address"),
    (ip_network("203.0.113.0/24"), "a reserved address"),
    (ip_network("240.0.0.0/4"), "a reserved address"),
    (ip_network("2001::/23"), "a reserved address"),  # Teredo among them, which hides an IPv4 address
    (ip_network("2001:db8::/32"), "a reserved address"),
    (ip_network("3fff::/20"), "a reserved address"),
]
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


class Refused(OSError):
    """The policy does not allow a connection to any address of this host."""


@dataclass(frozen=True)
class AddressPolicy:
    """Which addresses may be connected to. Public ones always may.

    `allow_private` opens loopback, private and carrier NAT addresses (the development profile). `allowed` opens
    whatever lies in these networks, in either profile. Link-local addresses, where clouds serve their credentials,
    are opened by `allowed` only.
    """

    allow_private: bool
    allowed: Sequence[IPNetwork] = ()

    def refusal(self, address: str) -> str | None:
        """Say why `address` (a literal IPv4 or IPv6 address) is refused, or None when it is allowed.

        An IPv4 address wrapped into IPv6 (mapped, 6to4, NAT64) is judged as the IPv4 address that it leads to.
        """
        try:
            ip = _unwrap(ip_address(address.partition("%")[0]))
        except ValueError:
            return "not an IP address"
        if any(ip in network for network in self.allowed):
            return None
        for network, reason in _NEVER:
            if ip in network:
                return reason
        for network, reason in _PRIVATE:
            if ip in network:
                return None if self.allow_private else reason
        if ip.version == 6 and ip not in _GLOBAL_IPV6:
            return "a reserved address"
        return None


def _unwrap(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv6Address):
        if ip in _NAT64:
            return IPv4Address(int(ip) & 0xFFFF_FFFF)
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip


async def resolve(host: str, port: int, policy: AddressPolicy) -> list[tuple[socket.AddressFamily, SockAddr]]:
    """Resolve `host` (a name or a literal address, without brackets) and return its allowed addresses, best first.

    Refused addresses are dropped. Raises `Refused` when none is left, `OSError` when the name does not resolve; both
    name the host. Connect to what is returned and never to the name: it may resolve to something else next time.
    """
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"{host}: {error.strerror}") from None
    except ValueError:  # no valid IDNA label, or a NUL in it
        raise OSError(f"{host!r} is not a host name") from None
    addresses: dict[SockAddr, socket.AddressFamily] = {}
    refusals: dict[str, str] = {}
    for family, _, _, _, sockaddr in infos:
        address = str(sockaddr[0])
        if reason := policy.refusal(address):
            refusals[address] = reason
        else:
            addresses[sockaddr] = family
    if not addresses:
        raise _refused(host, refusals)
    return [(family, sockaddr) for sockaddr, family in addresses.items()]


def _refused(host: str, refusals: dict[str, str]) -> Refused:
    reasons = ", ".join(f"{address} is {reason}" for address, reason in refusals.items())
    return Refused(f"{host} is refused: {reasons} (--allow-private opens a network)")


def check(address: str, policy: AddressPolicy) -> None:
    """Raise `Refused` when the policy does not allow this literal address."""
    if reason := policy.refusal(address):
        raise _refused(address, {address: reason})


async def connect(
    host: str, port: int, policy: AddressPolicy, *, send_buffer: int | None = None, timeout: float = 10
) -> socket.socket:
    """Return a connected, non-blocking TCP socket to an allowed address of `host`; its addresses are tried in turn.

    `send_buffer` is SO_SNDBUF in bytes, set before the connection is made so that it bounds the window from the start.
    `timeout` (seconds) covers name resolution and all tries; each address gets an equal share of what is left, so that
    one which drops packets does not use up the time of the next. Raises `Refused`, or an `OSError` that has every cause
    and is of the last one's kind (`ConnectionRefusedError`, `TimeoutError`).
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + timeout
    try:
        async with asyncio.timeout_at(give_up_at):
            addresses = await resolve(host, port, policy)
    except TimeoutError:
        raise TimeoutError(f"{host}: the name did not resolve within {timeout:g} s") from None
    causes, code = [], errno.ETIMEDOUT
    for index, (family, sockaddr) in enumerate(addresses):
        share = (give_up_at - loop.time()) / (len(addresses) - index)
        try:
            return await _connect_one(family, sockaddr, send_buffer, share)
        except TimeoutError:
            causes.append(f"{sockaddr[0]}: no answer within {share:.1f} s")
        except OSError as error:
            causes.append(f"{sockaddr[0]}: {error.strerror or error}")
            code = error.errno or code
    raise OSError(code, f"cannot connect to {host} port {port}: {'; '.join(causes)}")


async def _connect_one(
    family: socket.AddressFamily, sockaddr: SockAddr, send_buffer: int | None, timeout: float
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock
