"""A whole server in memory with telephones around it, on virtual time: SIP stacks and RTP on networks that are made up.

The server has a trunk (`TRUNK`, a telephone of its own, which says 500 Hz) and two phones that log in, `desk` and
`shop`; every telephone says a tone of its own and keeps what it hears.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.legs.sip_stack.conftest import MemoryTransports, Network

from offhook.audio import g711, pcm
from offhook.audio.dtmf import DigitSender
from offhook.legs.ports import PortRange
from offhook.legs.rtp_legs import RtpLegs
from offhook.legs.sip import events
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.negotiation import MediaPolicy, Negotiation
from offhook.legs.sip.session import Session
from offhook.legs.sip.stack import Settings as StackSettings
from offhook.legs.sip.stack import SipStack
from offhook.legs.sip.transport import Listen
from offhook.legs.udp import Address, Ancillary, UdpSocket
from offhook.server.config import Settings
from offhook.server.phone_book import PhoneBook
from offhook.server.sip_service import _stack_settings
from offhook.server.telephones import Telephones
from offhook.wire.ids import stable_user

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer

SERVER, TRUNK, DESK, SHOP = "192.0.2.1", "192.0.2.2", "192.0.2.11", "192.0.2.12"
SIP_PORT = 5060
RESOURCE = "11111111-2222-4333-8444-555555555555"
AUDIO = "wss://app.example/audio"
CALLS = "/calling/callConnections"
NEWEST = "2026-03-12"
CALLER, NUMBER, MOBILE, DESK_NUMBER = "4:+15550100", "4:+15550199", "4:+15550123", "4:+15550101"
RATE = 16_000
PATIENCE_S = 20.0  # of virtual time


# ------------------------------------------------------------------------------------------------ RTP in memory


class Wires:
    """Every UDP socket for audio, by address: packets arrive at once, and those for nobody are lost."""

    def __init__(self) -> None:
        self.sockets: dict[tuple[str, int], WireSocket] = {}

    def open(self, host: str, port: int) -> UdpSocket:
        if (host, port) in self.sockets:
            raise OSError(errno.EADDRINUSE, "in use")
        self.sockets[host, port] = socket = WireSocket(self, (host, port))
        return socket


class WireSocket:
    """A `UdpSocket` of `Wires`."""

    def __init__(self, wires: Wires, at: tuple[str, int]) -> None:
        self._wires = wires
        self._at = at
        self._peer: Address = None
        self._queue: deque[tuple[bytes, Address]] = deque()

    def recv(self, size: int) -> bytes:
        return self.recvmsg(size, 0)[0]

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def recvmsg(self, size: int, ancillary: int) -> tuple[bytes, Ancillary, int, Address]:
        if not self._queue:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        data, source = self._queue.popleft()
        return data[:size], [], 0, source

    def send(self, data: bytes | memoryview) -> int:
        return self.sendto(data, self._peer)

    def sendto(self, data: bytes | memoryview, address: Address) -> int:
        there = self._wires.sockets.get(tuple(address))
        if there is not None and there._peer in (None, self._at):
            there._queue.append((bytes(data), self._at))
        return len(data)

    def connect(self, address: Address) -> None:
        self._peer = tuple(address)

    def close(self) -> None:
        del self._wires.sockets[self._at]


# ------------------------------------------------------------------------------------------------ telephones


class Line:
    """One call of a telephone: its session and its audio."""

    def __init__(self, phone: Telephone, number: int) -> None:
        self.phone = phone
        self.events: list[events.Event] = []
        self.digits: list[int] = []  # RFC 4733 events, as often as they came
        self.session: Session | None = None
        self.silent = False
        self._early = ""  # the answer that was given before the call was answered
        self._keys = DigitSender()
        self._heard: deque[bytes] = deque(maxlen=25)
        self._negotiation = Negotiation(MediaPolicy(("PCMU",)), phone.host)
        self._port = 6000 + 2 * number
        self._socket = phone.wires.open(phone.host, self._port)
        self._talking: asyncio.Task[None] | None = None

    @property
    def live(self) -> Session:
        assert self.session is not None
        return self.session

    @property
    def incoming(self) -> IncomingSession:
        assert isinstance(self.session, IncomingSession)
        return self.session

    def offer(self, hold: bool = False) -> str:
        return self._negotiation.offer(self._port, hold=hold)

    def answer(self, offer: str) -> str:
        """Return an answer, and talk from now on."""
        description, agreed = self._negotiation.answer(offer, self._port)
        self._talk(agreed.remote)
        return description

    def ring(self) -> None:
        assert self.incoming.offer is not None
        if self.phone.rings_with_sound:
            self._early = self.answer(self.incoming.offer)
        self.incoming.ring(self._early or None)

    def pick_up(self) -> None:
        assert self.incoming.offer is not None
        self.incoming.answer(self._early or self.answer(self.incoming.offer))

    def press(self, tones: str) -> None:
        """Press keys, told as RFC 4733 has it."""
        self._keys.press(tones)

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def over(self) -> bool:
        return bool(self.told(events.Ended))

    def hears(self) -> set[int]:
        """Which multiples of 100 Hz were in the last half second."""
        octets = np.frombuffer(b"".join(self._heard), np.uint8)
        return tones(g711.PCMU.decode(octets), g711.RATE) if len(octets) else set()

    def on_event(self, event: events.Event) -> None:
        self.events.append(event)
        match event:
            case events.Answered(str(description)):
                self._talk(self._negotiation.accept(description).remote)
            case events.Offered(str(description)):
                self.live.answer(self.answer(description))
            case events.Ended():
                self.close()

    def close(self) -> None:
        if self._talking is not None:
            self._talking.cancel()
        self._socket.close()
        self.phone.lines.remove(self)

    def _talk(self, remote: Address) -> None:
        if self._talking is not None:
            self._talking.cancel()
        self._talking = asyncio.get_running_loop().create_task(self._say(remote))

    async def _say(self, remote: Address) -> None:
        octets = g711.PCMU.encode(pcm.tone(self.phone.hz, g711.RATE, 1, -15)).tobytes()
        for number in itertools.count():
            kind, timestamp, payload = 0, number * 160, octets[number * 160 % len(octets) :][:160]
            if (key := self._keys.next(timestamp)) is not None:
                kind, timestamp, payload = 101, key.timestamp, key.payload
            if key is not None or not self.silent:
                self._socket.sendto(struct.pack("!BBHII", 0x80, kind, number & 0xFFFF, timestamp, 1) + payload, remote)
            self._read()
            await asyncio.sleep(0.02)

    def _read(self) -> None:
        try:
            while True:
                packet = self._socket.recv(2000)
                if packet[1] & 0x7F == 101:
                    self.digits.append(packet[12])
                elif not 192 <= packet[1] < 224:
                    self._heard.append(packet[12:])
        except BlockingIOError:
            return


class Telephone:
    """A host with a stack. `picks_up`: it answers at once; else it rings, and `rings_with_sound`: its tone, before the
    answer. With `user` it logs in at the server."""

    def __init__(self, network: Network, wires: Wires, host: str, hz: int, user: str = "") -> None:
        self.host = host
        self.hz = hz
        self.user = user or "+15550100"
        self.wires = wires
        self.picks_up = True
        self.rings_with_sound = False
        self.rejects = 0  # with this status
        self.lines: list[Line] = []  # which are not over
        self._made = 0
        server = f"sip:{SERVER}:{SIP_PORT}"
        trunk = Trunk("server", (f"{SERVER}/32",), server)
        if user:
            trunk = replace(trunk, user=user, password=f"{user}'s secret", register=server)
        self.stack = SipStack(
            StackSettings((Listen("udp", host, SIP_PORT),), trunks=(trunk,)),
            self._invited,
            transports=partial(MemoryTransports, network),
        )

    @property
    def line(self) -> Line:
        """Its newest call."""
        return self.lines[-1]

    def call(self, to: str, **more: Any) -> Line:
        line = self._line()
        line.session = self.stack.invite(to, self.user, line.offer(), line.on_event, trunk="server", **more)
        return line

    def _line(self) -> Line:
        self._made += 1
        line = Line(self, self._made)
        self.lines.append(line)
        return line

    def _invited(self, session: IncomingSession) -> None:
        line = self._line()
        line.session = session
        session.on_event = line.on_event
        if self.rejects:
            session.reject(self.rejects)
        elif self.picks_up:
            line.pick_up()
        else:
            line.ring()


# ------------------------------------------------------------------------------------------------ the scene


class Scene:
    """`server` is `MemoryServer` of `tests.conftest`; whatever `settings` say is added to its SIP settings."""

    def __init__(self, server: MemoryServer, **settings: Any) -> None:
        self.server = server
        self.network, self.wires = Network(), Wires()
        self.trunk = Telephone(self.network, self.wires, TRUNK, 500)
        self.desk = Telephone(self.network, self.wires, DESK, 900, "desk")
        self.shop = Telephone(self.network, self.wires, SHOP, 1100, "shop")
        trunk = {"name": "t", "allow": [f"{TRUNK}/32"], "server": f"sip:{TRUNK}:{SIP_PORT}"}
        chosen: dict[str, Any] = {
            "sip": {"port": SIP_PORT, "host": SERVER} | settings.pop("sip", {}),
            "trunk": [trunk | settings.pop("trunk", {})],
            "phone": [
                {"user": "desk", "password": "desk's secret", "number": "+15550101"},
                {"user": "shop", "password": "shop's secret"},
            ],
            "route": [{"prefix": "+1", "trunk": "t"}],
        }
        self.settings = made = Settings(**chosen, **settings)
        self.rtp = RtpLegs(server.media.worker, PortRange(20_000, 20_199), open_socket=self.wires.open)
        self.raw_id = partial(stable_user, RESOURCE)
        book = PhoneBook(made.sip.region, self.raw_id)
        book.use([route.route() for route in made.route], made.phone, made.trunk)
        self.telephones = Telephones(server.control, made.sip, SERVER, book)
        self.stack = SipStack(
            replace(_stack_settings(made, SERVER), listen=(Listen("udp", SERVER, SIP_PORT),)),
            self.telephones.on_invite,
            transports=partial(MemoryTransports, self.network),
        )

    async def start(self) -> None:
        await self.stack.start()
        self.telephones.stack = self.stack
        self.server.control.exchange.telephones = self.telephones
        for phone in (self.trunk, self.desk, self.shop):
            await phone.stack.start()
        await asyncio.sleep(1)

    async def close(self) -> None:
        """Hang everything up, and see that nothing is left."""
        for phone in (self.trunk, self.desk, self.shop):
            for line in list(phone.lines):
                line.live.hang_up()
        await asyncio.sleep(1)
        assert not self.telephones._lines
        assert not self.telephones.referrals._asked
        assert not self.stack.sessions
        assert not self.wires.sockets
        for stack in (self.trunk.stack, self.desk.stack, self.shop.stack, self.stack):
            await stack.close()
        self.rtp.close()

    # ------------------------------------------------------------------------------------------ calls

    async def answered(self, phone: Telephone | None = None) -> tuple[Line, str]:
        """A telephone (the trunk) calls an app (700 Hz), which answers: its line, and the app's connection."""
        line = (phone or self.trunk).call("+15550199")
        await self.server.settle(0.5)
        connection = await self.server.answer(mediaStreamingOptions=streaming())
        self.server.audio.say(pcm.tone(700, RATE, 20, -15).tobytes())
        await self.server.settle(1)
        return line, connection

    async def created(self, *targets: str) -> str:
        """An app (700 Hz) calls; return its connection, a second later."""
        connection = await self.server.create(
            *targets, mediaStreamingOptions=streaming(), sourceCallerIdNumber={"value": "+15550188"}
        )
        await self.server.settle(0.5)
        if self.server.audio.opened:
            self.server.audio.say(pcm.tone(700, RATE, 20, -15).tobytes())
        await self.server.settle(0.5)
        return connection

    async def do(self, connection: str, operation: str, status: int = 202, **body: Any) -> Any:
        """An app asks for an operation (`/participants:add` …) that is granted."""
        answer = await self.server.rest("POST", f"{CALLS}/{connection}{operation}", body, version=NEWEST)
        assert answer.status == status, answer.content
        await self.server.settle(0.5)
        return answer.body

    async def present(self, connection: str) -> set[str]:
        answer = await self.server.rest("GET", f"{CALLS}/{connection}/participants")
        return {each["identifier"]["rawId"] for each in answer.body["value"]}

    def app_hears(self) -> set[int]:
        return tones(pcm.as_samples(self.server.audio.heard()[-RATE:]), RATE)


def streaming() -> dict[str, Any]:
    return {
        "transportUrl": AUDIO,
        "transportType": "websocket",
        "audioChannelType": "mixed",
        "startMediaStreaming": True,
        "enableBidirectional": True,
        "enableDtmfTones": True,
    }


def tones(samples: pcm.Samples, rate: int) -> set[int]:
    """Which multiples of 100 Hz are in `samples`."""
    return {hz for hz in range(100, 2000, 100) if len(samples) and pcm.tone_level(samples, hz, rate) > -35}


def hold(in_memory: InMemory, scenario: Callable[[Scene], Awaitable[None]], **settings: Any) -> None:
    """Run `scenario`; nothing may be left of its calls."""

    async def main(server: MemoryServer) -> None:
        scene = Scene(server, **settings)
        await scene.start()
        await scenario(scene)
        await scene.close()

    in_memory(main)
