"""Every simulated party of one media worker, and the port that their sockets come to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

import picows

from offhook.legs.simulated import PartySocket, SimulatedLeg
from offhook.media.link import (
    ConnectLeg,
    EndLeg,
    ExpectLeg,
    MoveLeg,
    Order,
    PhoneWaits,
    PressDigits,
    ReseatLeg,
    RingPhone,
    SendDigits,
)
from offhook.media.tidings import LegGone
from offhook.media.websocket import CLOSE_TIMEOUT_S, MESSAGE_LIMIT
from offhook.media.worker import MediaWorker

PATH = "/legs/"  # of the audio socket; the one-time token follows


class SimulatedLegs:
    """Every simulated party of one media worker, and the port their sockets come to."""

    def __init__(self, worker: MediaWorker) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._legs: dict[str, SimulatedLeg] = {}
        self._expected: dict[str, tuple[SimulatedLeg, asyncio.TimerHandle]] = {}  # by token
        self._sockets: set[_PartySocket] = set()
        self._server: asyncio.Server | None = None
        worker.register(self._handlers())

    def _handlers(self) -> Mapping[type[Order], Callable[[Any], None]]:
        return {
            ExpectLeg: self._expect,
            RingPhone: lambda order: self._with(order.leg, lambda leg: leg.ring(order.call, order.caller, order.to)),
            PhoneWaits: lambda order: self._with(order.leg, lambda leg: leg.wait()),
            ConnectLeg: lambda order: self._with(order.leg, lambda leg: leg.connect(order.call, order.party)),
            ReseatLeg: lambda order: self._with(order.leg, lambda leg: leg.reseat(order.call)),
            SendDigits: lambda order: self._with(order.leg, lambda leg: leg.send_digits(order.tones, order.operation)),
            PressDigits: lambda order: self._with(order.leg, lambda leg: leg.press(order.tones)),
            EndLeg: self._end,
            MoveLeg: self._move,
        }

    async def listen(self, listening: socket.socket) -> None:
        """Accept audio sockets that come to `listening`, which is closed with this."""
        self._server = await picows.ws_create_server(
            self._accept, sock=listening, max_frame_size=MESSAGE_LIMIT, enable_auto_ping=True
        )

    async def close(self) -> None:
        """Close the port and every socket, and wait for them to be gone: 2 s at most."""
        for _, timer in self._expected.values():
            timer.cancel()
        self._expected.clear()
        if self._server is not None:
            self._server.close()
        for leg in self._legs.values():
            leg.end("the server stops", stays=False)
        self._legs.clear()
        await asyncio.gather(*(socket.wait_closed() for socket in self._sockets))

    def attach(self, token: str, socket: PartySocket) -> SimulatedLeg | None:
        """Give the socket to the leg that expects `token`, once; None when nobody does."""
        leg = self._claim(token)
        if leg is not None:
            leg.attach(socket)
        return leg

    def on_open(self, socket: _PartySocket) -> None:
        """A client's socket is open."""
        self._sockets.add(socket)

    def on_closed(self, socket: _PartySocket, leg: SimulatedLeg) -> None:
        """The client's socket of `leg` is gone."""
        self._sockets.discard(socket)
        if self._legs.get(leg.id) is leg:  # Else it has moved away, and perhaps come back as another one.
            del self._legs[leg.id]

    def _claim(self, token: str) -> SimulatedLeg | None:
        leg, timer = self._expected.pop(token, (None, None))
        if timer is not None:
            timer.cancel()
        return leg

    def _expect(self, order: ExpectLeg) -> None:
        leg = SimulatedLeg(order, self._worker)
        self._legs[order.leg] = leg
        timer = self._loop.call_later(order.attach_s, self._expire, order.token)
        self._expected[order.token] = (leg, timer)

    def _expire(self, token: str) -> None:
        leg, _ = self._expected.pop(token)
        del self._legs[leg.id]
        self._worker.tell(LegGone(leg.id, "its audio socket was not opened in time"))

    def _end(self, order: EndLeg) -> None:
        leg = self._legs.get(order.leg)
        if leg is None or leg.call is None:  # It left before control knew.
            return
        leg.end(order.reason)
        if not leg.is_phone:
            del self._legs[leg.id]
            self._claim(leg.token)  # Its client may still come: too late.

    def _move(self, order: MoveLeg) -> None:
        if (leg := self._legs.pop(order.leg, None)) is not None:  # Else its client hung up before control knew.
            leg.move(order.url)

    def _with(self, id: str, act: Callable[[SimulatedLeg], None]) -> None:
        if (leg := self._legs.get(id)) is not None:
            act(leg)

    def _accept(self, request: picows.WSUpgradeRequest) -> picows.WSListener | None:
        path = request.path.decode("ascii", "replace")
        leg, _ = self._expected.get(path.removeprefix(PATH) if path.startswith(PATH) else "", (None, None))
        if leg is None:
            return None
        # The library takes "upgrade" alone; Firefox says "keep-alive, Upgrade" (RFC 6455 4.2.1 asks for a list).
        if "upgrade" in (option.strip().lower() for option in request.headers.get("connection", "").split(",")):
            request.headers["connection"] = "upgrade"
        return _PartySocket(leg, self)


class _PartySocket(picows.WSListener):
    """A client's socket: passes what comes on to its leg. The instance is a `PartySocket`."""

    def __init__(self, leg: SimulatedLeg, legs: SimulatedLegs) -> None:
        self._leg = leg
        self._legs = legs
        self._in_text = False  # the message under way is a text
        self._is_legs = False  # the leg's own socket: the first that came with its token

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=1 << 18)
        # Only now: an upgrade that fails after `_accept` must leave the leg to whoever comes rightly, or to its timer.
        self._is_legs = self._legs.attach(self._leg.token, self) is not None
        if self._is_legs:
            self._legs.on_open(self)
        else:
            transport.disconnect()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if not self._is_legs:
            return
        match frame.msg_type:
            case picows.WSMsgType.BINARY:
                self._in_text = False
                self._leg.on_audio(frame.get_payload_as_memoryview())
            case picows.WSMsgType.TEXT:
                self._in_text = True
                self._leg.on_text(frame.get_payload_as_memoryview())
            case picows.WSMsgType.CONTINUATION if not self._in_text:
                self._leg.on_audio(frame.get_payload_as_memoryview())
            case picows.WSMsgType.CLOSE:
                if not transport.is_close_frame_sent:
                    transport.send_close(picows.WSCloseCode.OK)
                transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        if self._is_legs:
            self._leg.on_closed()
            self._legs.on_closed(self, self._leg)

    def pause_writing(self) -> None:
        self._leg.writable = False

    def resume_writing(self) -> None:
        self._leg.writable = True

    def send_text(self, data: bytes) -> None:
        self._transport.send(picows.WSMsgType.TEXT, data)

    def send_binary(self, data: bytes) -> None:
        self._transport.send(picows.WSMsgType.BINARY, data)

    def close(self) -> None:
        """Send the close frame; the client answers it within 2 s, or is cut off."""
        self._transport.send_close(picows.WSCloseCode.OK)
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.disconnect, False)

    async def wait_closed(self) -> None:
        await self._transport.wait_disconnected()
