"""The built-in leg: a simulated party over a WebSocket of the media worker.

The client sends PCM ahead in pieces of any size and the worker's clock consumes it; it gets back one binary message of
20 ms of what the party hears, every tick, from the moment it is connected. Text messages are JSON with a `kind`; the
forms are in docs/caller-api.md and in `Said` and `Told` below.

Bounds: `Playout` holds 10 minutes of the client's audio (more is refused and counted); a client that does not read
loses frames (`lost_frames`) rather than filling our memory; a message is at most 1 MiB; marks not reached: `MARKS`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import msgspec

from offhook.audio.playout import Playout
from offhook.legs.bad_line import BadLine
from offhook.media.link import ExpectLeg
from offhook.media.plane import Row
from offhook.media.tidings import DigitsSent, LegAttached, LegGone, LegJoined, LineEnded, PhoneAnswered
from offhook.media.worker import MediaWorker

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


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Said)
