"""Packets from a network in, one frame per tick out: G.711 octets, put in order, held no longer than they must be.

A packet's *slack* is how long before it is needed it arrives, in samples; less than 0 is too late. The *lag* is how far
the playout stands behind the sender, counted from the first packet, and a packet's *transit* is the lag that would have
left it no slack. So the lag that is needed, the *goal*, is the largest transit of the last seconds, a few outliers
aside. When nothing has come the playout waits, and the lag grows; otherwise it goes to the goal by small pieces that
are left out or said twice (`offhook.audio.stretch`). A sender whose clock is faster or slower than ours is nothing
special: transits move slowly, and the lag follows.

Time is counted in ticks and in the sender's time stamps: that a tick of ours was late is not taken for jitter, and
ticks that were left out count as ticks without a packet.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

import numpy as np

from offhook.audio.arrivals import Counts, SequenceNumbers
from offhook.audio.conceal import HISTORY, LASTS, continuation
from offhook.audio.g711 import OCTETS_PER_FRAME as FRAME
from offhook.audio.g711 import RATE, Codec
from offhook.audio.pcm import Samples
from offhook.audio.stretch import NEEDED, SHORTEST, crossfade, lengthen, shorten

SAMPLES_PER_MS = RATE // 1000
TICK_S = FRAME / RATE

# Bounds, in samples and packets.
CAPACITY = 400 * SAMPLES_PER_MS  # of the buffer; full: the oldest is dropped and counted
PACKETS = 100  # the same, for small packets
LARGEST = 120 * SAMPLES_PER_MS  # of one packet; a larger one is discarded and counted
MOST_LAG = 200 * SAMPLES_PER_MS  # the goal is never further above the fastest transit

# Adaptation.
ARRIVALS = 250  # ticks with packets whose transits are remembered, 5 s at one packet a tick
OUTLIERS = 100  # one in so many is not waited for: a stall is one of them, however long it was
REVIEW = 10  # such ticks between two looks at the goal
TOLERANCE = 5 * SAMPLES_PER_MS  # the lag may be off the goal by less than this
ALIKE = 0.7  # least likeness of the two ends of a piece that is left out or repeated …
PATIENCE = 25  # … until it was not found in so many ticks, 0.5 s: then the best there is
JUMP = 3  # ticks more between two packets than there were pulls: our own clock has left some out …
SEARCH = 25  # … and what came for them is at hand after so many at the latest, as a leg does not read all at once

SEAM = 16  # samples from made-up to real sound, 2 ms

_NOTHING = -(1 << 62)  # smaller than any transit


class JitterBuffer:
    """One RTP stream of `codec` between packets of any duration up to `LARGEST` and a 20 ms tick.

    With regular packets nothing is held back: what arrives before a tick is played in it. Everything is bounded:
    `CAPACITY`, `PACKETS`, and for the delay `MOST_LAG`. With no loss and no change of delay, a packet passes as it is.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.counts = Counts()
        self._jitter = 0.0  # samples
        self._sequence = SequenceNumbers(self.counts)
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next packet: another sender (SSRC). Counts go on."""
        self._sequence.forget()
        self._queue: list[tuple[int, bytes]] = []  # (time stamp without wrap-around, octets), in order
        self._history = (b"", b"")  # the last two frames that were returned
        self._made: Samples | None = None  # what is played in the place of real sound …
        self._used = 0  # … and how much of it was
        self._slowest: int  # largest transit since the last pull
        self._on_the_way: float  # of the last packet, see `put`
        self._put_at: float  # `now` of the last packet …
        self._pulls: int  # … and pulls since then
        self._started = False
        self._begin(0, 0.0)

    @property
    def delay_ms(self) -> float:
        """How long a packet waits here that arrives as fast as the fastest of the last seconds did."""
        return (self._lag - self._held - self._fastest) / SAMPLES_PER_MS

    @property
    def jitter_ms(self) -> float:
        """The interarrival jitter of RFC 3550, 6.4.1."""
        return self._jitter / SAMPLES_PER_MS

    def put(self, sequence: int, timestamp: int, payload: bytes | memoryview, now: float) -> None:
        """Take a packet that the tick of `now` (seconds) found: RTP's sequence number, time stamp and payload.

        An empty payload says that this number was not audio (RFC 4733 events, RFC 3389 comfort noise), so not lost.
        Does not raise: what makes no sense is counted.
        """
        if not self._sequence.accept(sequence):
            return
        self.counts.received += 1
        size = len(payload)
        if not 0 < size <= LARGEST:
            self.counts.discarded += size > 0
            return
        if not self._started:
            self._started = True
            self._begin(timestamp, now)
        if now - self._put_at > (self._pulls + JUMP) * TICK_S:
            self._jump(now)
        self._put_at = now
        self._pulls = 0
        slack = (timestamp - self._head + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000
        if not -CAPACITY <= slack <= self._held + CAPACITY:
            if sequence != self._sequence.highest:
                self.counts.discarded += 1
                return
            self._leap(slack, now)
            slack = 0
        at = self._head + slack
        on_the_way = now * RATE - at  # by two clocks: only its changes mean something
        self._jitter += (abs(on_the_way - self._on_the_way) - self._jitter) / 16
        self._on_the_way = on_the_way
        if self._lag - slack > self._slowest and not self._left_out:  # else it may be us who are late
            self._slowest = self._lag - slack
        if slack + size <= 0:
            self.counts.late += 1
            return
        queue = self._queue
        if not queue or at >= queue[-1][0]:
            queue.append((at, bytes(payload)))
        else:
            insort(queue, (at, bytes(payload)))
        if slack + size > CAPACITY or len(queue) > PACKETS:
            self._make_room()

    def pull(self) -> bytes | None:
        """Return the frame of this tick, 160 octets; None before the first packet, and while there has been nothing to
        play for longer than is made up. Call it once a tick, after the packets of the tick."""
        if not self._started:
            return None
        self._pulls += 1
        if self._slowest is not _NOTHING:
            self._review()
        queue = self._queue
        if queue and self._made is None and -TOLERANCE < self._lag - self._goal < TOLERANCE:
            at, payload = queue[0]
            if at == self._head and len(payload) == FRAME:
                del queue[0]
                self._head += FRAME
                self._history = self._history[1], payload
                return payload
        if self._held and queue:
            self._catch_up()
        if self._left_out:
            self._leave_out()
        frame = self._rescaled() or self._assembled()
        if frame is not None:
            self._history = self._history[1], frame
        return frame

    # -------------------------------------------------------------------------------------------- time

    def _begin(self, head: int, now: float) -> None:
        """Play on from the time stamp `head`, which came at `now`, and know nothing of the network."""
        self._head = head  # time stamp of what is played next
        self._lag = 0
        self._goal = 0
        self._fastest = 0  # least transit that is remembered
        self._held = 0  # samples that the head has stood still
        self._left_out = 0  # samples that may be dropped, as the ticks for them were left out …
        self._search = 0  # … in the next so many ticks
        self._slowest = _NOTHING
        self._transits: deque[int] = deque(maxlen=ARRIVALS)  # the slowest of each tick that had any
        self._until_review = 1
        self._patience = PATIENCE
        self._on_the_way = now * RATE - head
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
        self._conceal_from(b"")
        self._begin(self._head + slack, now)

    def _review(self) -> None:
        """Remember the slowest packet of this tick; now and then, look what lag is needed."""
        self._transits.append(self._slowest)
        self._slowest = _NOTHING
        self._until_review -= 1
        if not self._until_review:
            ordered = sorted(self._transits)
            self._until_review = REVIEW if len(ordered) >= REVIEW else 1
            self._fastest = ordered[0]
            self._goal = min(ordered[-1 - len(ordered) // OUTLIERS], ordered[0] + MOST_LAG)

    # -------------------------------------------------------------------------------------------- the queue

    def _ready(self, most: int) -> bytes:
        """Return the octets that can be played without a hole, up to `most`."""
        line = b""
        for at, payload in self._queue:
            known = self._head + len(line) - at
            if known < 0 or len(line) >= most:
                break
            line += payload[known:]
        return line[:most]

    def _consume(self, count: int) -> None:
        self._head += count
        queue = self._queue
        while queue and queue[0][0] + len(queue[0][1]) <= self._head:
            del queue[0]

    def _make_room(self) -> None:
        """Drop the oldest until the rest is within the bounds; what was dropped is not waited for."""
        queue = self._queue
        end = max(at + len(payload) for at, payload in queue)
        surplus = 0
        while end - queue[surplus][0] > CAPACITY or len(queue) - surplus > PACKETS:
            surplus += 1
        if surplus:
            if self._made is None or self._used:  # Else it was just made: a backlog of many packets costs it once.
                self._conceal_from(b"")
            self._held += self._drop(surplus)

    def _leave_out(self) -> None:
        """Drop what was for ticks that were left out, in whole frames and but for the newest packet."""
        self._search -= 1
        surplus = min(self._left_out, self._lag - self._goal) if self._search else 0
        waiting = self._queue[-1][0] - self._head if self._queue else 0
        dropped = min(surplus, waiting) // FRAME * FRAME
        if dropped > 0:
            self._conceal_from(b"")
            self._consume(dropped)
            self._lag -= dropped
            self.counts.dropped_ms += dropped / SAMPLES_PER_MS
        self._left_out = max(0, surplus - dropped)

    def _drop(self, count: int) -> int:
        """Drop the oldest `count` packets; return how many samples that was."""
        samples = sum(len(payload) for _, payload in self._queue[:count])
        del self._queue[:count]
        self.counts.dropped_ms += samples / SAMPLES_PER_MS
        return samples

    # -------------------------------------------------------------------------------------------- frames

    def _rescaled(self) -> bytes | None:
        """Return a frame that brings the lag nearer to the goal; None when it is near, or nothing at hand is fit."""
        excess = self._lag - self._goal
        if self._made is not None or -TOLERANCE < excess < TOLERANCE:
            return None
        line = self._ready(NEEDED)
        change, needed = (shorten, FRAME + SHORTEST) if excess > 0 else (lengthen, FRAME)
        if len(line) < needed:
            return None
        changed = change(self._decode(line), abs(excess), ALIKE if self._patience else -1.0)
        if changed is None:
            self._patience = max(0, self._patience - 1)
            return None
        self._patience = PATIENCE
        frame, used = changed
        self._consume(used)
        self._lag -= used - FRAME
        if used > FRAME:
            self.counts.shortened_ms += (used - FRAME) / SAMPLES_PER_MS
        else:
            self.counts.lengthened_ms += (FRAME - used) / SAMPLES_PER_MS
        return self._encode(frame)

    def _assembled(self) -> bytes | None:
        """Return a frame of what is there, and of what is made up where there is nothing."""
        frame = self._real(FRAME)
        while len(frame) < FRAME:
            missing = FRAME - len(frame)
            if self._queue:  # A hole, and what comes after it.
                missing = min(missing, self._queue[0][0] - self._head)
                self._head += missing
            elif not frame and self._made is not None and self._used >= LASTS:
                self._hold(FRAME)
                self.counts.silent_ms += FRAME / SAMPLES_PER_MS
                return None
            else:
                self._hold(missing)
            frame += self._made_up(missing, frame)
            frame += self._real(FRAME - len(frame))
        return frame

    def _hold(self, count: int) -> None:
        """Nothing has come: wait for it, so that it is not too late when it comes."""
        self._held += count
        self._lag += count

    def _catch_up(self) -> None:
        """Something has come after a wait: skip what is lost of it, as that was waited for and made up already."""
        skipped = min(self._held, max(0, self._queue[0][0] - self._head))
        self._head += skipped
        self._lag -= skipped
        self._held = 0

    def _real(self, most: int) -> bytes:
        """Return and consume what can be played, up to `most`, with a seam if something was made up before it."""
        real = self._ready(most)
        self._consume(len(real))
        if real and self._made is not None:
            old = self._made[self._used : self._used + SEAM]
            new = self._decode(real[:SEAM])
            old = np.pad(old, (0, SEAM))[: len(new)]
            real = self._encode(crossfade(old, new)) + real[SEAM:]
            self._made = None
        return real

    def _made_up(self, count: int, before: bytes) -> bytes:
        """Return `count` octets of concealment, after `before` in this frame; silence when it has faded away."""
        if self._made is None:
            self._conceal_from(before)
        assert self._made is not None
        piece = self._made[self._used : self._used + count]
        self._used += count
        self.counts.concealed_ms += len(piece) / SAMPLES_PER_MS
        self.counts.silent_ms += (count - len(piece)) / SAMPLES_PER_MS
        return self._encode(np.pad(piece, (0, count - len(piece))))

    def _conceal_from(self, before: bytes) -> None:
        past = b"".join((*self._history, before))[-HISTORY:]
        self._made, self._used = continuation(self._decode(past)), 0

    def _decode(self, octets: bytes) -> Samples:
        return self.codec.decode(np.frombuffer(octets, np.uint8))

    def _encode(self, samples: Samples) -> bytes:
        return self.codec.encode(samples).tobytes()
