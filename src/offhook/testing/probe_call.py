"""A telephone call of our own to a SIP server, to see which ways audio goes: no sound is judged, packets are counted.

What goes out is counted by the server: its RTCP reports say what it has received.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Any

from offhook.audio import g711, pcm
from offhook.legs import rtcp
from offhook.legs.sip import events
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.negotiation import Agreed, MediaPolicy, Negotiation, NotAcceptable
from offhook.legs.sip.stack import Settings, SipStack
from offhook.legs.sip.transport import Listen
from offhook.legs.sip.uri import Uri

RING_S = 15.0  # for the answer
TALK_S = 8.0  # at most: the server reports what it has received within 7.5 s
FRAME_S = 0.02
PACKET = struct.Struct("!BBHII")
TONE_HZ, TONE_DB = 440, -20.0
LAWS = {"PCMU": g711.PCMU, "PCMA": g711.PCMA}


@dataclass
class Outcome:
    """What came of a call. `refusal`: why it was not answered, "" if it was. Packets of audio: `sent` by us; `taken` of
    them by the server, as far as it has said; `arrived` here. `remote`: where the server wants audio sent."""

    refusal: str = ""
    remote: str = ""
    sent: int = 0
    taken: int = 0
    arrived: int = 0


async def call(server: Uri, to: str, user: str, password: str, trust: ssl.SSLContext | None = None) -> Outcome:
    """Call `to` (a number or user) by way of `server` (an address), as `user`, and talk until both ways are proved, or
    for `TALK_S`. Without a password nobody's identity is proved. Raises OSError without a socket."""
    host = _own_address(server.host)
    listen = (Listen("udp", host),) if server.transport in ("", "udp") else ()
    trunk = Trunk("server", (), str(server), user if password else "", password)
    stack = SipStack(Settings(listen, trunks=(trunk,)), lambda session: session.reject(486), tls_client=trust)
    await stack.start()
    try:
        return await _Call(host).hold(stack, to, user)
    finally:
        await stack.close()


class _Call(asyncio.DatagramProtocol):
    """One call: its session and its audio socket."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._ssrc = secrets.randbits(32)
        self._outcome = Outcome()
        self._settled = asyncio.Event()  # answered or refused
        self._proved = asyncio.Event()  # both ways, or the call has ended
        self._agreed: Agreed | None = None
        self._negotiation = Negotiation(MediaPolicy(tuple(LAWS), srtp="off"), host)

    async def hold(self, stack: SipStack, to: str, user: str) -> Outcome:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._host, 0))
        try:
            offer = self._negotiation.offer(transport.get_extra_info("sockname")[1])
            session = stack.invite(to, user, offer, self._on_event, trunk="server")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RING_S):
                    await self._settled.wait()
            if self._agreed is not None and self._agreed.remote is not None:
                await self._talk(transport, LAWS[self._agreed.codec], self._agreed.remote)
            elif not self._outcome.refusal:
                self._outcome.refusal = f"nobody has answered within {RING_S:g} s"
            session.hang_up()
        finally:
            transport.close()
        return self._outcome

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.Answered(str(description)):
                try:
                    self._agreed = self._negotiation.accept(description)
                except NotAcceptable as error:
                    self._outcome.refusal = str(error)
                self._settled.set()
            case events.Ended(code, reason) if not self._settled.is_set():
                self._outcome.refusal = f"{code} {reason}"
                self._settled.set()
            case events.Ended():
                self._proved.set()

    async def _talk(self, transport: Any, law: g711.Codec, remote: tuple[str, int]) -> None:
        self._outcome.remote = f"{remote[0]} port {remote[1]}"
        loop = asyncio.get_running_loop()
        octets = law.encode(pcm.tone(TONE_HZ, g711.RATE, 1, TONE_DB)).tobytes()
        began = loop.time()
        for number in range(round(TALK_S / FRAME_S)):
            header = PACKET.pack(0x80, law.payload_type, number & 0xFFFF, number * 160, self._ssrc)
            transport.sendto(header + octets[number * 160 % len(octets) :][:160], remote)
            self._outcome.sent += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(began + (number + 1) * FRAME_S):
                    await self._proved.wait()
                    return

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) >= PACKET.size and not 192 <= data[1] < 224:  # else RTCP: RFC 5761 section 4
            self._outcome.arrived += 1
        for report in rtcp.parse(data):
            for block in report.blocks:
                if block.source == self._ssrc:
                    self._outcome.taken = max(self._outcome.taken, (block.highest & 0xFFFF) + 1 - max(block.lost, 0))
        if self._outcome.taken and self._outcome.arrived:
            self._proved.set()


def _own_address(remote: str) -> str:
    """Return the address of this machine by which `remote` is reached."""
    family, *_, address = socket.getaddrinfo(remote, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # sends nothing; the kernel chooses
        return str(probe.getsockname()[0])
