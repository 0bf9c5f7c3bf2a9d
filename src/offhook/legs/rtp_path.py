"""The way of an RTP leg's packets: its sockets, who is at the other end, and what protects them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from offhook.legs import udp
from offhook.legs.udp import Address, UdpSocket
from offhook.media.link import SrtpKeys

if TYPE_CHECKING:
    from offhook.legs.srtp import Srtp

LAST_PORT = 65_535  # There is none after it for RTCP.

Sockets = tuple[UdpSocket, UdpSocket | None]  # for RTP, and for RTCP unless one carries both


class Path:
    """Both directions of one leg's packets.

    They go to where signalling said until the first valid audio comes, and from then on to where that came from. From
    elsewhere nothing is taken any more: the socket is connected, and the kernel drops it.
    """

    def __init__(
        self, host: str, sockets: Sockets, remote: Address, rtcp_mux: bool, keys: SrtpKeys | None, srtp: Srtp | None
    ) -> None:
        """`host`: ours. `remote`: where to send to, None as long as that is not known."""
        self.host = host
        self.socket, self._rtcp_socket = sockets
        self.remote = remote
        self.latched: Address = None  # where valid audio came from
        self.mux = rtcp_mux
        self.keys = keys
        self.srtp = srtp
        self.unsent = self.unreachable = self.strangers = self.forged = 0
        self.unreachable_reports = 0  # of `unreachable`, those about the port for RTCP: not everybody has one

    def send(self, packet: bytes) -> bool:
        """Send an RTP packet to `remote`, which is known; return whether the kernel took it."""
        if self.srtp is not None:
            packet = self.srtp.protect(packet)
        try:
            if self.latched is None:
                self.socket.sendto(packet, self.remote)
            else:
                self.socket.send(packet)
        except OSError:  # the socket is full, or nobody listens at the other side's port
            self.unsent += 1
            return False
        return True

    def latch(self, address: Address) -> None:
        """Valid audio came from there."""
        self.socket.connect(address)
        self.latched = self.remote = address

    def relatch(self, sockets: Sockets) -> None:
        """Take packets from anywhere again, by new sockets at the old ports."""
        self.socket, self._rtcp_socket = sockets
        self.latched = None

    def send_report(self, packet: bytes) -> None:
        """Send an RTCP packet to whom valid audio came from."""
        if self.srtp is not None:
            packet = self.srtp.protect_rtcp(packet)
        try:
            if self._rtcp_socket is None or self.mux:
                self.socket.send(packet)
            else:
                host, port, *rest = self.latched
                if port < LAST_PORT:
                    self._rtcp_socket.sendto(packet, (host, port + 1, *rest))
        except OSError:
            self.unsent += 1

    def open_report(self, packet: bytes) -> bytes | None:
        """Return an RTCP packet as it was before it was protected; None for one that is not authentic."""
        opened = packet if self.srtp is None else self.srtp.unprotect_rtcp(packet)
        self.forged += opened is None
        return opened

    def take_reports(self, take: Callable[[bytes, float], None]) -> None:
        """Hand the RTCP packets over that have come to a port of their own, with the seconds since they came."""
        if self._rtcp_socket is None:
            return

        def one(packet: bytes, age: float, address: Address) -> None:
            if self.latched is None or address[0] != self.latched[0]:
                self.strangers += 1
            elif (opened := self.open_report(packet)) is not None:
                take(opened, age)

        if not udp.drain(self._rtcp_socket, one):
            self.unreachable += 1
            self.unreachable_reports += 1

    def close(self) -> None:
        """Nothing comes and goes any more."""
        self.socket.close()
        if self._rtcp_socket is not None:
            self._rtcp_socket.close()
