"""Which address the outside sees: a STUN binding request (RFC 5389), over UDP."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
from typing import Any

PAUSES_S = (0.5, 0.5, 1.0, 1.0)  # after each copy of the request
COOKIE = 0x2112A442
REQUEST, SUCCESS = 0x0001, 0x0101
MAPPED, XOR_MAPPED = 0x0001, 0x0020

_HEADER = struct.Struct("!HHI12s")  # type, length of what follows, cookie, transaction
_ATTRIBUTE = struct.Struct("!HH")


async def mapped_address(host: str, port: int, family: int = socket.AF_UNSPEC) -> str:
    """Return the IP address from which a STUN server sees this machine's packets of `family` come. Raises OSError
    (TimeoutError) when none answers."""
    loop = asyncio.get_running_loop()
    transaction = secrets.token_bytes(12)
    answer: asyncio.Future[str] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Client(transaction, answer), remote_addr=(host, port), family=family
    )
    try:
        for pause in PAUSES_S:
            transport.sendto(_HEADER.pack(REQUEST, 0, COOKIE, transaction))
            done, _ = await asyncio.wait([answer], timeout=pause)
            if done:
                return answer.result()
        raise TimeoutError(f"no STUN answer from {host} port {port}")
    finally:
        transport.close()


class _Client(asyncio.DatagramProtocol):
    def __init__(self, transaction: bytes, answer: asyncio.Future[str]) -> None:
        self._transaction = transaction
        self._answer = answer

    def datagram_received(self, data: bytes, _: Any) -> None:
        address = parse(data, self._transaction)
        if address is not None and not self._answer.done():
            self._answer.set_result(address)

    def error_received(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


def parse(data: bytes, transaction: bytes) -> str | None:
    """Return the address that a binding response tells; None for anything else."""
    if len(data) < _HEADER.size:
        return None
    kind, length, cookie, of = _HEADER.unpack_from(data)
    if (kind, cookie, of) != (SUCCESS, COOKIE, transaction) or len(data) < _HEADER.size + length:
        return None
    found: dict[int, str] = {}
    at, end = _HEADER.size, _HEADER.size + length
    while end - at >= _ATTRIBUTE.size:
        attribute, size = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if attribute in (MAPPED, XOR_MAPPED) and size in (8, 20) and at + size <= end:
            key = (data[4:20] if attribute == XOR_MAPPED else bytes(16))[: size - 4]
            octets = bytes(a ^ b for a, b in zip(data[at + 4 : at + size], key, strict=True))
            found[attribute] = str(ipaddress.ip_address(octets))
        at += size + -size % 4
    return found.get(XOR_MAPPED) or found.get(MAPPED)
