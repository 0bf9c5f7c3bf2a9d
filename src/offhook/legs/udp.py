"""UDP sockets that are read when it suits us, and say when their packets arrived."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from time import time as wall_clock
from typing import Any, Protocol

PACKET = 1500  # bytes of the longest packet that is read; the rest of a longer one is lost
RECEIVE_BUFFER = 24_576  # bytes; Linux makes some 60 packets of 20 ms of it, and when it is full drops the newest
DRAIN = 64  # packets taken at a time at most: all that wait
ANCILLARY = 64  # bytes of room for a time stamp

_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; also the type of the control message that brings the stamp
_STAMP = struct.Struct("@qq")  # struct timespec of 64-bit Linux

Ancillary = list[tuple[int, int, bytes]]
Address = Any  # what the socket module makes of an address: a tuple whose first two items are host and port


class UdpSocket(Protocol):
    """What is used of a non-blocking UDP socket, as `socket.socket` has it."""

    def recv(self, size: int, /) -> bytes: ...
    def recv_into(self, buffer: memoryview, /) -> int: ...
    def recvmsg(self, size: int, ancillary: int, /) -> tuple[bytes, Ancillary, int, Address]: ...
    def send(self, data: bytes | memoryview, /) -> int: ...
    def sendto(self, data: bytes, address: Address, /) -> int: ...
    def connect(self, address: Address, /) -> None: ...
    def close(self) -> None: ...


def open_udp(host: str, port: int) -> socket.socket:
    """Return a socket on a local IPv4 or IPv6 address; raise OSError when there cannot be one."""
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if sys.platform == "linux":
            one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        one.bind((host, port))
    except OSError:
        one.close()
        raise
    return one


def age(ancillary: Ancillary) -> float:
    """Return how many seconds ago the packet of a `recvmsg` arrived; 0 where the kernel does not say (not Linux)."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _STAMP.size:
            stamp: tuple[int, int] = _STAMP.unpack_from(data)
            return max(wall_clock() - stamp[0] - stamp[1] / 1e9, 0.0)
    return 0.0


def drain(one: UdpSocket, take: Callable[[bytes, float, Address], None]) -> bool:
    """Show `take` what has arrived, `DRAIN` packets at most: packet, age, from where. False if one was undeliverable,
    which is said here (ICMP): nobody listens at the other side's port."""
    try:
        for _ in range(DRAIN):
            packet, ancillary, _, address = one.recvmsg(PACKET, ANCILLARY)
            take(packet, age(ancillary), address)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
