"""Asking a STUN server, and what is made of its answers."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.server import stun

OF = bytes(range(12))


def response(*attributes: tuple[int, bytes], kind: int = stun.SUCCESS, of: bytes = OF) -> bytes:
    body = b"".join(struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4) for name, value in attributes)
    return struct.pack("!HHI12s", kind, len(body), stun.COOKIE, of) + body


def test_the_sample_responses_of_rfc_5769_are_read() -> None:
    """Sections 2.2 and 2.3: their transaction and XOR-MAPPED-ADDRESS."""
    of = bytes.fromhex("b7e7a701bc34d686fa87dfae")
    ipv4 = bytes.fromhex("0001a147e112a643")
    ipv6 = bytes.fromhex("0002a1470113a9faa5d3f179bc25f4b5bed2b9d9")
    assert stun.parse(response((0x8022, b"test vector"), (stun.XOR_MAPPED, ipv4), of=of), of) == "192.0.2.1"
    assert stun.parse(response((stun.XOR_MAPPED, ipv6), of=of), of) == "2001:db8:1234:5678:11:2233:4455:6677"


def test_an_old_server_tells_it_plainly() -> None:
    assert stun.parse(response((stun.MAPPED, bytes([0, 1, 0, 9, 198, 51, 100, 7]))), OF) == "198.51.100.7"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        response(),
        response((stun.MAPPED, bytes(8)), kind=0x0111),
        response((stun.MAPPED, bytes(8)), of=bytes(12)),
        response((stun.MAPPED, bytes(7))),
        response((stun.MAPPED, bytes(8)))[:-1],
        struct.pack("!HHI12sHH4x", stun.SUCCESS, 8, stun.COOKIE, OF, stun.MAPPED, 8),
    ],
)
def test_anything_else_is_no_answer(data: bytes) -> None:
    assert stun.parse(data, OF) is None


@given(st.binary(max_size=100))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    stun.parse(data, OF)
    stun.parse(response()[:2] + len(data).to_bytes(2, "big") + response()[4:] + data, OF)


class Server(asyncio.DatagramProtocol):
    """Says from where packets come, from the second one on."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._count = 0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, source: Any) -> None:
        self._count += 1
        if self._count > 1 and not self._silent:
            self._transport.sendto(response((stun.MAPPED, bytes([0, 1, 0, 9, 127, 0, 0, 1])), of=data[8:20]), source)


@pytest.mark.sockets
@pytest.mark.parametrize("silent", [False, True])
def test_it_is_asked_again(silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stun, "PAUSES_S", (0.05, 0.05, 0.3 if silent else 30))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: Server(silent), local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        if silent:
            with pytest.raises(TimeoutError, match="no STUN answer"):
                await stun.mapped_address("127.0.0.1", port)
        else:
            assert await stun.mapped_address("127.0.0.1", port) == "127.0.0.1"
        transport.close()

    asyncio.run(main())


@pytest.mark.sockets
def test_nobody_there_is_an_error() -> None:
    async def main() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        transport.close()
        with pytest.raises(OSError):  # noqa: PT011 - what the system says
            await stun.mapped_address("127.0.0.1", port)

    asyncio.run(main())
