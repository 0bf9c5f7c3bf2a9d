"""RTP legs in a whole media worker, with telephones around them, on a made-up network and virtual time."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import numpy as np

from offhook.audio import g711, pcm
from offhook.legs.ports import PortRange
from offhook.legs.rtp import RtpLeg
from offhook.legs.rtp_legs import RtpLegs
from offhook.legs.udp import Address, Ancillary, UdpSocket
from offhook.media.clock import TICK_S
from offhook.media.link import ConnectLeg, OpenRtp, OpenStream, Order
from offhook.media.memory_link import memory_pair
from offhook.media.tidings import RtpOpened, Tiding
from offhook.media.worker import MediaWorker
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp

T = TypeVar("T", bound=Tiding)

HOST = "192.0.2.1"  # ours
PHONE = ("198.51.100.7", 4000)
TOLERANCE = 0.5  # dB; G.711 itself is within 0.1 here
HEADER = struct.Struct("!BBHII")


# ------------------------------------------------------------------------------------------------ a made-up network


EPOCH = 1_800_000_000.0  # Unix time at loop time 0: see conftest.py


class FakeSocket:
    """A UDP socket of ours. Arrivals are stamped as the kernel does it; reads are counted."""

    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port
        self._queue: deque[tuple[float, bytes, Address]] = deque()  # with the loop time of its arrival
        self._peer: Address = None
        self.reads = 0
        self.closed = False
        self.refuses = False  # as when ICMP says that nobody listens

    def arrive(self, data: bytes, source: Address) -> None:
        if self._peer in (None, source):
            self._queue.append((self._network.now(), data, source))

    def recv(self, size: int) -> bytes:
        return self.recvmsg(size, 0)[0]

    def recvmsg(self, size: int, ancillary: int) -> tuple[bytes, Ancillary, int, Address]:
        self.reads += 1
        self._check()
        if not self._queue:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        arrived, data, source = self._queue.popleft()
        stamp = round((EPOCH + arrived) * 1e9)
        return data[:size], [(socket.SOL_SOCKET, 35, struct.pack("@qq", *divmod(stamp, 10**9)))], 0, source

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recvmsg(len(buffer), 0)[0]
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: bytes | memoryview) -> int:
        assert self._peer is not None
        return self.sendto(bytes(data), self._peer)

    def sendto(self, data: bytes, address: Address) -> int:
        self._check()
        self._network.sent.append((self._network.now(), self._port, data, address))
        return len(data)

    def connect(self, address: Address) -> None:
        self._peer = address

    def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        assert not self.closed
        if self.refuses:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")


class Network:
    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time
        self.sockets: dict[int, FakeSocket] = {}
        self.sent: list[tuple[float, int, bytes, Address]] = []  # when, from our port, what, to

    def open(self, host: str, port: int) -> UdpSocket:
        assert host == HOST
        if port in self.sockets and not self.sockets[port].closed:
            raise OSError(errno.EADDRINUSE, "in use")
        self.sockets[port] = FakeSocket(self, port)
        return self.sockets[port]


class Telephone:
    """The other side of a leg: sends packets to its port, keeps those that were sent to it."""

    def __init__(self, network: Network, port: int, address: Address = PHONE, codec: g711.Codec = g711.PCMU) -> None:
        self.network = network
        self.port = port
        self.address = address
        self.codec = codec
        self.sequence, self.timestamp, self.ssrc = 65_530, 2**32 - 800, 0x1234

    def send(self, data: bytes, source: Address = None) -> None:
        self.network.sockets[self.port].arrive(data, source or self.address)

    def packet(self, payload: bytes, kind: int = 0, timestamp: int | None = None) -> bytes:
        self.sequence += 1
        stamp = self.timestamp if timestamp is None else timestamp
        return HEADER.pack(0x80, kind, self.sequence & 0xFFFF, stamp & 0xFFFFFFFF, self.ssrc) + payload

    def say_frame(self, payload: bytes) -> None:
        self.send(self.packet(payload, self.codec.payload_type))
        self.timestamp += len(payload)

    async def say(self, samples: pcm.Samples, every: float = TICK_S) -> None:
        """Send 20 ms of `samples` (8 kHz) at a time."""
        octets = self.codec.encode(samples).tobytes()
        start = self.network.now()
        for number, at in enumerate(range(0, len(octets), 160)):
            self.say_frame(octets[at : at + 160])
            await asyncio.sleep(start + (number + 1) * every - self.network.now())

    @property
    def received(self) -> list[tuple[int, bool, int, int, int, bytes]]:
        """Type, marker, sequence, timestamp, SSRC and payload of each RTP packet, in order."""
        packets = [data for _, port, data, to in self.network.sent if port == self.port and to == self.address]
        parsed = [(HEADER.unpack_from(data), data[12:]) for data in packets if not 192 <= data[1] < 224]
        return [(kind & 0x7F, kind > 0x7F, *rest, payload) for (_, kind, *rest), payload in parsed]

    def heard(self, since: int = 10) -> pcm.Samples:
        """The audio of the packets that it was sent, from the one numbered `since` on."""
        audio = [payload for kind, *_, payload in self.received if kind == self.codec.payload_type]
        return self.codec.decode(np.frombuffer(b"".join(audio[since:]), np.uint8))


class Media:
    """A media worker with RTP legs on the made-up network, as control sees it."""

    def __init__(self, ports: PortRange | None = None, timeout_s: float = 60.0) -> None:
        random.seed(7)  # when reports are due, and reviews
        self.network = Network()
        self.control, end = memory_pair()
        self.tidings: list[Tiding] = []
        self.control.on_receive(self.tidings.append)
        self.apps: dict[str, MemoryApp] = {}
        self.worker = MediaWorker(end, self._dial, epoch=EPOCH)
        self.legs = RtpLegs(self.worker, ports or PortRange(20_000, 20_099), timeout_s, self.network.open)
        self.worker.start()

    async def _dial(self, url: str, headers: Any, listener: Any) -> Any:
        return await self.apps[url](url, headers, listener)

    async def order(self, *orders: Order) -> None:
        for order in orders:
            self.control.send(order)
        for _ in range(10):
            await asyncio.sleep(0)

    def told(self, kind: type[T]) -> list[T]:
        return [tiding for tiding in self.tidings if isinstance(tiding, kind)]

    async def open(self, leg: str = "leg", codec: g711.Codec = g711.PCMU, **fields: Any) -> Telephone:
        """Open a leg, not yet in a call."""
        await self.order(OpenRtp(leg, codec.name, codec.payload_type, HOST, **{"dtmf_type": 101, **fields}))
        number = len(self.told(RtpOpened))
        return Telephone(self.network, self.told(RtpOpened)[-1].port, (PHONE[0], 4000 + 10 * number), codec)

    async def telephone(
        self, leg: str = "leg", call: str = "call", codec: g711.Codec = g711.PCMU, **fields: Any
    ) -> Telephone:
        """A telephone in a call."""
        telephone = await self.open(leg, codec, **fields)
        await self.order(ConnectLeg(leg, call, f"4:{leg}"))
        return telephone

    async def app(self, name: str = "app", rate: int = 16_000, call: str = "call") -> MemoryApp:
        """An app that streams the call both ways."""
        self.apps[name] = MemoryApp()
        await self.order(
            OpenStream(
                name, call, "", "", "", f"8:{name}", name, "", rate, unmixed=False, bidirectional=True, dtmf=True
            )
        )
        return self.apps[name]

    def counts(self) -> dict[str, int]:
        """What all legs have counted, without the zeros and the sound that was made up around the edges."""
        counts, _ = self.figures()
        return {
            name.removeprefix("rtp_"): value for name, value in counts.items() if value and not name.endswith("_ms")
        }

    def figures(self) -> tuple[Mapping[str, int], Mapping[str, float]]:
        """What all legs have counted until now, and what is measured now."""
        for leg, _ in self.legs._legs.values():
            leg.leave()  # What is read together is counted every few seconds.
        return self.legs.figures()

    def faults(self) -> list[int]:
        """Of each row: in how many ticks it raised."""
        return [row.faults for slot in self.worker.plane.slots for rows in slot.calls.values() for row in rows]

    def slot(self, call: str = "call") -> int:
        return next(number for number, slot in enumerate(self.worker.plane.slots) if call in slot.calls)

    def leg(self, name: str = "leg") -> RtpLeg:
        return self.legs._legs[name][0]


def on_virtual_time(test: Callable[[Media], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on virtual time with media of its own."""

    async def main() -> None:
        media = Media()
        raised: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        await test(media)
        media.legs.close()
        await media.worker.close()
        assert raised == []
        assert all(one.closed for one in media.network.sockets.values())
        assert not any(slot.rows for slot in media.worker.plane.slots)

    def test_on_virtual_time() -> None:
        run(main())

    test_on_virtual_time.__name__ = test.__name__
    return test_on_virtual_time


def tone(hz: float, seconds: float = 1.0, dbfs: float = -20.0) -> pcm.Samples:
    return pcm.tone(hz, g711.RATE, seconds, dbfs)


async def at_phase(seconds: float) -> None:
    """Wait until so far into a tick of the clock."""
    await asyncio.sleep(TICK_S - asyncio.get_running_loop().time() % TICK_S + seconds)


def level(samples: pcm.Samples, hz: float, rate: int = g711.RATE) -> float:
    return pcm.tone_level(samples, hz, rate)
