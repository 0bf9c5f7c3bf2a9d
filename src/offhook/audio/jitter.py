"""Packets from a network in, one frame per tick out: put in order, decoded in order, held no longer than they must be.

A packet's *slack* is how long before it is needed it arrives, in units; less than 0 is too late. The *lag* is how far
the playout stands behind the sender, counted from the first packet, and a packet's *transit* is the lag that would have
left it no slack. So the lag that is needed, the *goal*, is the largest transit of the last seconds, a few outliers
aside. When nothing has come the playout waits, and the lag grows; otherwise it goes to the goal by small pieces that
are left out or said twice (`offhook.audio.stretch`). A sender whose clock is faster or slower than ours is nothing
special: transits move slowly, and the lag follows.

Time is counted in ticks and in the sender's time stamps: that a tick of ours was late is not taken for jitter, and
ticks that were left out count as ticks without a packet. Its unit is 1/8000 s whatever the codec (`audio.decoding`).

A packet is opened when it is its turn, as a codec may remember what was before: what is opened leaves the queue for the
*line*, the sound that comes next.
"""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

from offhook.audio.arrivals import Counts, SequenceNumbers
from offhook.audio.decoding import FRAME, UNITS_PER_MS, UNITS_PER_S, Decoder
from offhook.audio.stand_in import SEAM, StandIn
from offhook.audio.stretch import NEEDED, SHORTEST, lengthen, shorten
from offhook.audio.transits import Transits

TICK_S = FRAME / UNITS_PER_S

# Bounds, in units and packets.
CAPACITY = 400 * UNITS_PER_MS  # of the buffer; full: the oldest is dropped and counted
PACKETS = 100  # the same, for small packets
LARGEST = 120 * UNITS_PER_MS  # of one packet; a larger one is discarded and counted

# Adaptation.
TOLERANCE = 5 * UNITS_PER_MS  # the lag may be off the goal by less than this
ALIKE = 0.7  # least likeness of the two ends of a piece that is left out or repeated …
PATIENCE = 25  # … until it was not found in so many ticks, 0.5 s: then the best there is
JUMP = 3  # ticks more between two packets than there were pulls: our own clock has left some out …
SEARCH = 25  # … and what came for them is at hand after so many at the latest, as a leg does not read all at once

_NOTHING = -(1 << 62)  # smaller than any transit


class Step(NamedTuple):
    """Where a regular stream stands: the numbers of its next packet, and the line of the last two frames that were
    played and of what waits behind them, `waiting` bytes."""

    sequence: int
    timestamp: int
    recent: bytes
    waiting: int


class JitterBuffer:
    """One RTP stream, decoded by `decoder`, between packets of any duration up to `LARGEST` and a 20 ms tick.

    With regular packets nothing is held back: what arrives before a tick is played in it. Everything is bounded:
    `CAPACITY`, `PACKETS`, and for the delay `MOST_LAG`. With no loss and no change of delay, a packet passes as it is.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.counts = Counts()
        self._jitter = 0.0  # units
        self._sequence = SequenceNumbers(self.counts)
        self.decode_by(decoder)

    def decode_by(self, decoder: Decoder) -> None:
        """Begin anew with another codec, or another rate."""
        self._decoder = decoder
        self._step = decoder.clock // UNITS_PER_S  # of time stamps, a unit
        self._unit_bytes = decoder.unit_bytes
        self._frame_bytes = FRAME * decoder.unit_bytes
        self._duration = decoder.duration
        self._stateful = decoder.stateful
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next packet: another sender (SSRC). Counts go on."""
        self._sequence.forget()
        self._queue: list[tuple[int, int, bytes]] = []  # (place, duration, payload), in units, in order
        self._line = b""  # what has been opened, from the head on
        self._history = (b"", b"")  # the last two frames that were returned
        self._stand_in = StandIn(self._decoder, self.counts)
        self._slowest: int  # largest transit since the last pull
        self._on_the_way: float  # of the last packet, see `put`
        self._put_at: float  # `now` of the last packet …
        self._pulls: int  # … and pulls since then
        self._started = False
        self._offset = 0  # of time stamps, to whole units
        self._begin(0, 0.0)

    @property
    def quiet(self) -> bool:
        """Whether the sender has said that it falls silent, and nothing since."""
        return self._stand_in.noise is not None

    @property
    def delay_ms(self) -> float:
        """How long a packet waits here that arrives as fast as the fastest of the last seconds did."""
        return (self._lag - self._held - self._transits.fastest) / UNITS_PER_MS

    @property
    def jitter_ms(self) -> float:
        """The interarrival jitter of RFC 3550, 6.4.1."""
        return self._jitter / UNITS_PER_MS

    def put(self, sequence: int, timestamp: int, payload: bytes, now: float, noise: int | None = None) -> None:
        """Take a packet that the tick of `now` (seconds) found: RTP's sequence number, time stamp and payload.

        An empty payload says that this number was not audio (RFC 4733 events, RFC 3389 comfort noise), so not lost.
        `noise` (-dBov): with this packet the sender falls silent, and what is missing after it is not lost either.
        Does not raise: what makes no sense is counted.
        """
        if not self._sequence.accept(sequence):
            return
        self.counts.received += 1
        if noise != self._stand_in.noise and (payload or noise is not None) and sequence == self._sequence.highest:
            self._stand_in.announce(noise)
        size = self._duration(payload)
        if not 0 < size <= LARGEST:
            self.counts.discarded += len(payload) > 0
            return
        if not self._started:
            self._started = True
            self._begin(timestamp // self._step, now)
            self._offset = timestamp % self._step
        if now - self._put_at > (self._pulls + JUMP) * TICK_S:
            self._jump(now)
        self._put_at = now
        self._pulls = 0
        ahead = timestamp - self._offset - self._head * self._step
        slack = ((ahead + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000) // self._step
        if not -CAPACITY <= slack <= self._held + CAPACITY:
            if sequence != self._sequence.highest:
                self.counts.discarded += 1
                return
            self._leap(slack, now)
            slack = 0
        at = self._head + slack
        on_the_way = now * UNITS_PER_S - at  # by two clocks: only its changes mean something
        self._jitter += (abs(on_the_way - self._on_the_way) - self._jitter) / 16
        self._on_the_way = on_the_way
        if self._lag - slack > self._slowest and not self._left_out:  # else it may be us who are late
            self._slowest = self._lag - slack
        if slack + size <= 0:
            self.counts.late += 1
            return
        queue = self._queue
        if not queue or at >= queue[-1][0]:
            queue.append((at, size, payload))
        else:
            insort(queue, (at, size, payload))
        if slack + size > CAPACITY or len(queue) > PACKETS:
            self._make_room()

    def pull(self) -> bytes | None:
        """Return the line of this tick, `FRAME` units; None before the first packet, and while there has been nothing
        to play for longer than is made up. Call it once a tick, after the packets of the tick."""
        if not self._started:
            return None
        self._pulls += 1
        if self._slowest is not _NOTHING:
            self._transits.add(self._slowest)
            self._slowest = _NOTHING
        queue = self._queue
        if queue and self._stand_in.filling is None and -TOLERANCE < self._lag - self._transits.goal < TOLERANCE:
            at, size, line = queue[0]
            if at == self._head and size == FRAME and not self._line:
                del queue[0]
                if not self._stateful or len(line := self._decoder.open(line)) == self._frame_bytes:
                    self._head += FRAME
                    self._history = self._history[1], line
                    return line
                self._line = line
        if self._held and (queue or self._line):
            self._catch_up()
        if self._left_out:
            self._leave_out()
        frame = self._rescaled() or self._assembled()
        if frame is not None:
            self._history = self._history[1], frame
        return frame

    # -------------------------------------------------------------------------------------------- in step

    def in_step(self, most: int) -> Step | None:
        """Say where the stream stands, after a tick in which a packet of 20 ms came, and one was played as it is.

        None when it was anything else, when more than `most` packets wait, and for a codec that remembers.
        """
        queue, size, begun = self._queue, self._frame_bytes, len(self._line)
        at = self._head + begun // self._unit_bytes
        waits = len(queue) <= most and all(one[:2] == (at + n * FRAME, FRAME) for n, one in enumerate(queue))
        steady = -TOLERANCE < self._lag - self._transits.goal < TOLERANCE and self._pulls == 1 and not self.quiet
        between = self._stand_in.filling is not None or self._held or self._left_out or self._stateful or begun >= size
        if not (waits and steady and self._started) or between or any(len(one) != size for one in self._history):
            return None
        assert self._sequence.highest is not None
        timestamp = (at + len(queue) * FRAME) * self._step + self._offset
        recent = b"".join((*self._history, self._line, *(payload for _, _, payload in queue)))
        return Step(self._sequence.highest + 1 & 0xFFFF, timestamp & 0xFFFF_FFFF, recent, len(recent) - 2 * size)

    def stepped(self, ticks: int, now: float, recent: bytes) -> None:
        """As if since `in_step` the next packet had come in each of so many ticks, the last one at `now`; `recent` is
        what came last, as much as then."""
        size, queued = self._frame_bytes, len(recent) - len(self._queue) * self._frame_bytes
        waiting = (len(recent) - 2 * size) // self._unit_bytes
        self._sequence.advance(ticks)
        self.counts.received += ticks
        self._transits.add(self._lag - waiting, ticks)
        self._jitter *= (15 / 16) ** ticks
        self._head += ticks * FRAME
        self._history = recent[:size], recent[size : 2 * size]
        self._line = recent[2 * size : queued]
        packets = [recent[at : at + size] for at in range(queued, len(recent), size)]
        at = self._head + waiting - len(packets) * FRAME
        self._queue = [(at + n * FRAME, FRAME, packet) for n, packet in enumerate(packets)]
        self._on_the_way = now * UNITS_PER_S - (self._head + waiting - FRAME)
        self._put_at = now

    # -------------------------------------------------------------------------------------------- time

    def _begin(self, head: int, now: float) -> None:
        """Play on from `head`, which came at `now`, and know nothing of the network."""
        self._head = head  # place of what is played next: its time stamp in units, without wrap-around
        self._lag = 0
        self._transits = Transits()
        self._held = 0  # units that the head has stood still
        self._left_out = 0  # units that may be dropped, as the ticks for them were left out …
        self._search = 0  # … in the next so many ticks
        self._slowest = _NOTHING
        self._patience = PATIENCE
        self._on_the_way = now * UNITS_PER_S - head
        self._put_at = now
        self._pulls = 0

    def _jump(self, now: float) -> None:
        """Our own clock has left out ticks, and what has come meanwhile is waiting, as after a stall of the network.

        But it is dropped: no time is to be spent on it now, as the machine is too busy already. Were it left out in
        pieces, hundreds of calls would do so at once, and more ticks be left out.
        """
        left_out = (round((now - self._put_at) / TICK_S) - self._pulls) * FRAME
        self._hold(left_out)
        self._left_out += left_out
        self._search = SEARCH

    def _leap(self, slack: int, now: float) -> None:
        """The sender's time stamps make no sense any more: go on from the newest."""
        self._drop(len(self._queue))
        self._make_up_after(b"")
        self._begin(self._head + slack, now)

    # -------------------------------------------------------------------------------------------- the queue

    def _ready(self, most: int) -> bytes:
        """Return what can be played without a hole, up to `most` units; open what has to be opened for that."""
        line, queue, unit, wanted = self._line, self._queue, self._unit_bytes, most * self._unit_bytes
        while queue and len(line) < wanted:
            at, size, payload = queue[0]
            known = self._head + len(line) // unit - at
            if known < 0:
                break
            del queue[0]
            if known < size:
                line += self._decoder.open(payload)[known * unit :]
        self._line = line
        return line[:wanted]

    def _consume(self, count: int) -> None:
        self._head += count
        self._line = self._line[count * self._unit_bytes :]
        queue = self._queue
        while queue and queue[0][0] + queue[0][1] <= self._head:
            del queue[0]

    def _make_room(self) -> None:
        """Drop the oldest until the rest is within the bounds; what was dropped is not waited for."""
        queue = self._queue
        end = max(at + size for at, size, _ in queue)
        surplus = 0
        while end - queue[surplus][0] > CAPACITY or len(queue) - surplus > PACKETS:
            surplus += 1
        if surplus:
            self._break_off()
            self._held += self._drop(surplus)

    def _leave_out(self) -> None:
        """Drop what was for ticks that were left out, in whole frames and but for the newest packet."""
        self._search -= 1
        surplus = min(self._left_out, self._lag - self._transits.goal) if self._search else 0
        waiting = self._queue[-1][0] - self._head if self._queue else 0
        dropped = min(surplus, waiting) // FRAME * FRAME
        if dropped > 0:
            self._break_off()
            self._consume(dropped)
            self._lag -= dropped
            self.counts.dropped_ms += dropped / UNITS_PER_MS
        self._left_out = max(0, surplus - dropped)

    def _drop(self, count: int) -> int:
        """Drop the oldest `count` packets and what is before them; return how many units that was."""
        units = sum(size for _, size, _ in self._queue[:count]) + len(self._line) // self._unit_bytes
        del self._queue[:count]
        self._line = b""
        self.counts.dropped_ms += units / UNITS_PER_MS
        return units

    # -------------------------------------------------------------------------------------------- frames

    def _rescaled(self) -> bytes | None:
        """Return a frame that brings the lag nearer to the goal; None when it is near, or nothing at hand is fit."""
        excess = self._lag - self._transits.goal
        if self._stand_in.filling is not None or -TOLERANCE < excess < TOLERANCE:
            return None
        line = self._ready(NEEDED)
        change, needed = (shorten, FRAME + SHORTEST) if excess > 0 else (lengthen, FRAME)
        if len(line) < needed * self._unit_bytes:
            return None
        alike = ALIKE if self._patience else -1.0
        changed = change(self._decoder.samples(line), abs(excess), alike, self._decoder.wide)
        if changed is None:
            self._patience = max(0, self._patience - 1)
            return None
        self._patience = PATIENCE
        frame, used = changed
        self._consume(used)
        self._lag -= used - FRAME
        if used > FRAME:
            self.counts.shortened_ms += (used - FRAME) / UNITS_PER_MS
        else:
            self.counts.lengthened_ms += (FRAME - used) / UNITS_PER_MS
        return self._decoder.line(frame)

    def _assembled(self) -> bytes | None:
        """Return a frame of what is there, and of what is made up where there is nothing."""
        frame = self._real(FRAME)
        while missing := FRAME - len(frame) // self._unit_bytes:
            if self._queue:  # A hole, and what comes after it.
                hole = self._queue[0][0] - self._head
                if self._recovered(hole):
                    frame += self._real(missing)
                    continue
                missing = min(missing, hole)
                self._head += missing
            elif not frame and self._stand_in.faded:
                self._hold(FRAME)
                self.counts.silent_ms += FRAME / UNITS_PER_MS
                return None
            else:
                self._hold(missing)
            frame += self._made_up(missing, frame)
            frame += self._real(FRAME - len(frame) // self._unit_bytes)
        return frame

    def _recovered(self, hole: int) -> bool:
        """Whether a lost packet was found in the one after it, and is in the line now."""
        if self._stand_in.filling is not None:  # Something has been played in its place already.
            return False
        line = self._decoder.recover(self._queue[0][2], hole)
        if not line:
            return False
        self._line = line
        self.counts.recovered_ms += hole / UNITS_PER_MS
        return True

    def _hold(self, count: int) -> None:
        """Nothing has come: wait for it, so that it is not too late when it comes."""
        self._held += count
        self._lag += count

    def _catch_up(self) -> None:
        """Something has come after a wait: skip what is lost of it, as that was waited for and made up already."""
        if not self._line:
            skipped = min(self._held, max(0, self._queue[0][0] - self._head))
            self._head += skipped
            self._lag -= skipped
        self._held = 0

    def _real(self, most: int) -> bytes:
        """Return and consume what can be played, up to `most`, with a seam if something was made up before it."""
        real = self._ready(most)
        units = len(real) // self._unit_bytes
        self._consume(units)
        return self._stand_in.lead_into(real) if real and self._stand_in.filling is not None else real

    def _made_up(self, count: int, before: bytes) -> bytes:
        """Return `count` units of what stands for real sound, after `before` in this frame."""
        if not self._stand_in.goes_on:
            self._make_up_after(before)
        return self._stand_in.take(count)

    def _make_up_after(self, before: bytes) -> None:
        self._stand_in.begin(b"".join((*self._history, before)))

    def _break_off(self) -> None:
        """What comes next is going to be dropped: what is played instead begins with a seam from it.

        When it is our own machine that was held up, hundreds of calls do so at once: it must not cost a search.
        """
        if self._stand_in.filling is not None:
            return
        begin = self._line
        if not begin and self._queue and self._queue[0][0] == self._head and not self._stateful:
            begin = self._queue[0][2]
        if len(begin) < SEAM * self._unit_bytes:
            self._make_up_after(b"")
        else:
            self._stand_in.begin_with(begin[: SEAM * self._unit_bytes])
