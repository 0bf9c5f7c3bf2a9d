"""The built-in leg: a simulated party over a WebSocket of the media worker.

The client sends PCM ahead in pieces of any size and the worker's clock consumes it; it gets back one binary message of
20 ms of what the party hears, every tick, from the moment it is connected. Text messages are JSON with a `kind`; the
forms are in docs/caller-api.md and in `Said` and `Told` below.

Bounds: `Playout` holds 10 minutes of the client's audio (more is refused and counted); a client that does not read
loses frames (`lost_frames`) rather than filling our memory; a message is at most 1 MiB; marks not reached: `MARKS`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import picows

from offhook.audio.playout import Playout
from offhook.legs.bad_line import BadLine
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
from offhook.media.plane import Row
from offhook.media.tidings import DigitsSent, LegAttached, LegGone, LegJoined, LineEnded, PhoneAnswered
from offhook.media.websocket import CLOSE_TIMEOUT_S, MESSAGE_LIMIT
from offhook.media.worker import MediaWorker

PATH = "/legs/"  # of the audio socket; the one-time token follows
MARKS = 1000  # of one leg, not reached yet; the words that its client told are among them
WORDS = 1000  # characters told at once
TONE_S = 0.2  # that a tone which the party is sent takes
TONES = frozenset("0123456789*#ABCD")
DECLINES = frozenset({"busy", "declined", "no-answer"})


class Said(msgspec.Struct, frozen=True):
    """A text message from the client, in one WebSocket frame.

    `kind`: dtmf, said, mark, flush, answer, decline, hangUp.
    """

    kind: str
    tones: str = ""  # dtmf: any of 0-9 * # A-D
    text: str = ""  # said: the words that the audio which follows brings, for whoever listens to them
    name: str = ""  # mark: comes back as {"kind":"mark"} once all audio sent before it was played, or flushed
    reason: str = "declined"  # decline: busy, declined, no-answer


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text message to the client. `kind`: waiting, ringing, connected, dtmf, mark, moved, ended, error."""

    kind: str
    rate: int = 0  # connected: Hz of the binary messages both ways
    caller: str = msgspec.field(default="", name="from")  # ringing (phone)
    to: str = ""  # ringing (phone)
    tones: str = ""  # dtmf: what the party is sent, such as 1
    name: str = ""  # mark
    frame: int = -1  # mark: index of the 20 ms frame, counted from `connected`, in which it was reached
    url: str = ""  # moved (phone): the audio socket to open instead of this one
    reason: str = ""  # ended, error


class PartySocket(Protocol):
    """The open socket to a simulated party's client."""

    def send_text(self, data: bytes) -> None: ...
    def send_binary(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class SimulatedLeg:
    """One simulated party: Source and Sink of a row, and the client's half of the conversation about it."""

    def __init__(self, order: ExpectLeg, worker: MediaWorker) -> None:
        self.id = order.leg
        self.token = order.token
        self.rate = order.rate
        self.is_phone = order.call is None
        self.call = order.call
        self._weather = order.weather
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._row: Row | None = None
        self._line: BadLine | None = None
        self._socket: PartySocket | None = None
        self._over = False  # for good: a phone that only left a call is not
        self.playout = Playout(order.rate, live_trim=False)
        self._pushed = 0  # bytes taken in
        self._marks: deque[tuple[int, str, bool]] = deque()  # (bytes to be played first, name or words, are words)
        self.writable = True
        self.frames = 0  # sent to the client, or lost
        self.lost_frames = 0  # because the client did not read

    # ------------------------------------------------------------------------------------------ the plane's side

    def poll(self, now: float) -> bytes | None:
        """Source: the next 20 ms of what the party says, or what its line leaves of it."""
        frame = self.playout.pull(now)
        if self._marks:
            self._reach_marks()
        return frame if self._line is None else self._line.carry(frame)

    def send(self, data: bytes | memoryview) -> None:
        """Sink: 20 ms of what the party hears."""
        self.frames += 1
        if self.writable and self._socket is not None:
            self._socket.send_binary(bytes(data))
        else:
            self.lost_frames += 1

    def _reach_marks(self) -> None:
        played = self._pushed - self.playout.queued_bytes
        while self._marks and self._marks[0][0] <= played:
            _, text, are_words = self._marks.popleft()
            if not are_words:
                self.tell(Told("mark", name=text, frame=self.frames))
            elif self._row is not None:
                self._worker.says(self._row.call, self._row.party, text)

    # ------------------------------------------------------------------------------------------ the client's side

    def attach(self, socket: PartySocket) -> None:
        """The client's socket is open."""
        self._socket = socket
        if not self.is_phone:  # A phone waits once control knows of it.
            self.tell(Told("ringing"))
        self._worker.tell(LegAttached(self.id))

    def on_audio(self, data: memoryview) -> None:
        """Take PCM of any size; an unfinished sample waits for its other byte."""
        if self._row is not None or not (self.is_phone or self._over):  # A phone that waits speaks to nobody.
            self._pushed += self.playout.push(data, self._loop.time())

    def on_text(self, data: memoryview) -> None:
        """Act on a text message; answer `error` to one that makes no sense, ignore one that was overtaken."""
        if self._over:
            return
        try:
            said = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeError) as error:
            self.tell(Told("error", reason=f"not understood: {error}"))
            return
        match said.kind:
            case "dtmf" if said.tones and len(said.tones) <= 100 and set(said.tones.upper()) <= TONES:
                if self._row is not None:
                    self._worker.pressed(self._row.call, self.id, said.tones.upper())
            case "mark" if len(self._marks) < MARKS and len(said.name) <= 100:
                self._marks.append((self._pushed, said.name, False))
            case "said" if len(self._marks) < MARKS and 0 < len(said.text) <= WORDS:
                self._marks.append((self._pushed, said.text, True))
            case "flush":
                self.playout.flush()
            case "answer" if self.is_phone:
                if self.call is not None and self._row is None:
                    self._worker.tell(PhoneAnswered(self.id, self.call))
            case "decline" if self.is_phone and self._row is None and said.reason in DECLINES:
                self._leave_call(said.reason)
            case "hangUp":
                self._leave_call("hung up")
            case _:
                self.tell(Told("error", reason=f"{said.kind!r} does not apply here, or its fields are not valid"))

    def on_closed(self) -> None:
        """The client's socket is gone: so is the party."""
        self._socket = None
        if not self._over:
            self._over = True
            self._leave_mix()
            self._worker.tell(LegGone(self.id, "hung up"))

    def tell(self, told: Told) -> None:
        if self._socket is not None:
            self._socket.send_text(_encoder.encode(told))

    # ------------------------------------------------------------------------------------------ orders

    def wait(self) -> None:
        """This phone is in no call, and control knows it."""
        self.tell(Told("waiting"))

    def ring(self, call: str, caller: str, to: str) -> None:
        """A call for this phone: `caller` and `to` are raw ids."""
        self.call = call
        self.tell(Told("ringing", caller=caller, to=to))

    def connect(self, call: str, party: str) -> None:
        """Join the mix of `call` as `party`; what the client has sent ahead is played from now on."""
        if self._socket is None or self._row is not None:
            return
        self.call = call
        self.frames = 0
        if self._weather is not None and self._weather.has_bad_line:
            self._line = BadLine(self.rate, self._weather)
        self._row = Row(call, party, self.rate, self, self)
        self.tell(Told("connected", rate=self.rate))
        self._worker.plane.add(self._row)
        self._worker.clock.wake()
        self._worker.tell(LegJoined(self.id))

    def reseat(self, call: str) -> None:
        """Go over into the mix of another call; what the client has sent ahead goes on there."""
        if self._row is None or self.call is None:
            if self.is_phone:  # It hung up before control knew: from the other call, by now.
                self._worker.tell(LegGone(self.id, "hung up", call))
            return
        self._worker.plane.remove(self._row)
        self.call = call
        self._row = Row(call, self._row.party, self.rate, self, self)
        self._worker.plane.add(self._row)
        self._worker.clock.wake()

    def send_digits(self, tones: str, operation: str) -> None:
        """Tell the client of tones, one after the other, as long as it stays in this call."""
        for number, tone in enumerate(tones):
            self._loop.call_later(number * TONE_S, self._send_digit, self.call, tone)
        self._loop.call_later(len(tones) * TONE_S, self._worker.tell, DigitsSent(self.id, operation))

    def _send_digit(self, call: str | None, tone: str) -> None:
        if self.call == call:
            self.tell(Told("dtmf", tones=tone))

    def press(self, tones: str) -> None:
        """Signalling says that the party has pressed digits."""
        if self._row is not None:
            self._worker.pressed(self._row.call, self.id, tones)

    def end(self, reason: str, stays: bool = True) -> None:
        """The call is over for this party; a phone that `stays` waits for the next one when control says so."""
        self._leave_mix()
        self.call = None
        self.tell(Told("ended", reason=reason))
        if self.is_phone and stays:
            return
        self._over = True
        if self._socket is not None:
            self._socket.close()

    def move(self, url: str) -> None:
        """This waiting phone's client shall open its audio socket at `url`; it is gone from here."""
        self.tell(Told("moved", url=url))
        self._over = True
        if self._socket is not None:
            self._socket.close()

    def _leave_call(self, reason: str) -> None:
        if self.call is not None:  # Else the call was over before the client knew.
            self._worker.tell(LegGone(self.id, reason, self.call if self.is_phone else ""))
            self.end(reason)

    def _leave_mix(self) -> None:
        if self._row is not None:
            self._worker.plane.remove(self._row)
            if self._line is not None:
                self._worker.tell(LineEnded(self.id, self._row.call, self._line.counts()))
            self._row = self._line = None
        self._pushed = 0
        self.playout.flush()
        self._marks.clear()


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


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Said)
