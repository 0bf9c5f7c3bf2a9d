"""What comes from a telephone: its packets, out of the kernel's buffer and into the leg's jitter buffer.

Nothing waits for packets. The kernel's socket buffer is the queue (`udp.RECEIVE_BUFFER`), and the row's tick takes out
of it what is there: no event-loop turn, no task and no callback a packet. In a steady stream there is one packet a
tick, and then that one is read and no second one looked for but every `LOOK_EVERY` ticks, as a read that finds nothing
costs more than one that finds a packet. A packet that is left behind that way is no later for it: audio that is ahead
of the tick would wait in the jitter buffer otherwise.

The kernel also says when a packet arrived. That is asked for a few packets now and then, for the choice of the slot
that is ticked right after them (`legs.slots`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from offhook.audio import comfort_noise, dtmf
from offhook.audio.jitter import JitterBuffer
from offhook.legs import rtcp, udp
from offhook.legs.codecs import Coding
from offhook.legs.rtp_path import Path
from offhook.media.batch import DEEPEST, Header, Leave, Regular, alone
from offhook.wire.rtp import HEADER, MARKER, PLAIN, REPORTS, payload_of

LOOK_EVERY = 16  # ticks between looks for a second packet in a steady stream
WATCHED = 8  # packets whose arrivals decide on a slot


class Receiver:
    """Source of a leg's row: `offhook.media.plane.Source`."""

    def __init__(
        self,
        path: Path,
        coding: Coding,
        settle: Callable[[Sequence[float]], None],
        press: Callable[[str], None],
        take_report: Callable[[bytes], None],
    ) -> None:
        """`settle` is told when packets arrive, in loop time: some time after the first, and after each `watch`;
        `press`, which tone was pressed; `take_report` gets RTCP packets that come between those of RTP."""
        self._path = path
        self._settle = settle
        self._press = press
        self._take_report = take_report
        self._loop = asyncio.get_running_loop()
        self.jitter = JitterBuffer(coding.decoder)
        self._quiet_bytes, self._noise_type = coding.quiet_bytes, coding.noise_type
        self._audio_type = 0
        self._dtmf_type: int | None = None
        self._watching = True  # whom packets are from, and when they arrive …
        self._watched = 0  # … of so many by now
        self._arrivals: list[float] = []
        self._polls = 0
        self._steady = False  # the last poll found one packet of audio
        self._source: int | None = None  # the SSRC of their audio
        self._before_source = (0, 0, 0)  # its first sequence number; packets received and lost before it
        self._event_source: int | None = None
        self._digits = dtmf.DigitReceiver()
        self.malformed = self.other_types = 0
        self.leave: Leave = alone  # to be called before anything changes that `regular` has said

    def expect(self, audio_type: int, dtmf_type: int | None) -> None:
        """Set the payload types of audio and telephone events, None for none."""
        self._audio_type, self._dtmf_type = audio_type, dtmf_type

    def decode_by(self, coding: Coding) -> None:
        """What comes from now on is of this codec."""
        self._quiet_bytes, self._noise_type = coding.quiet_bytes, coding.noise_type
        self.jitter.decode_by(coding.decoder)

    def poll(self, now: float, received: memoryview | None = None) -> bytes | None:
        """Take what has arrived, after the packet that was `received` already; return the next 20 ms."""
        self._polls += 1
        one_is_enough = self._steady and self._polls % LOOK_EVERY
        read = self._read_watched if self._watching else self._read_connected
        found = 0
        try:
            if received is not None:
                found += self._take(bytes(received), now)
            for _ in range(udp.DRAIN):
                if read(now):
                    found += 1
                    if one_is_enough:
                        break
        except BlockingIOError:
            pass
        except OSError:  # ICMP: nobody listens at the other side's port
            self._path.unreachable += 1
        self._steady = found == 1
        return self.jitter.pull()

    def regular(self, leave: Leave) -> Regular | None:
        """Say how the next ticks can be had without `poll`: see `offhook.media.batch`."""
        if not self._steady or self._watching or self._path.srtp is not None:
            return None
        step = self.jitter.in_step(DEEPEST)
        if step is None or self._source is None:
            return None
        self.leave = leave
        self._steady = False  # When it is polled again, that is to look for a second packet, too.
        header = HEADER.pack(PLAIN, self._audio_type, step.sequence, step.timestamp, self._source)
        settle, receive = self.jitter.stepped, self._path.socket.recv_into
        return Regular(receive, Header(header), settle, step.recent, step.waiting, self._take_second)

    def _take_second(self, packet: memoryview, now: float) -> None:
        self._take(bytes(packet), now)

    def close(self) -> None:
        """Tell nobody anything any more: what refers to each other would wait for a garbage collection, a long one."""
        self.leave()
        self._settle = self._press = self._take_report = _unheard

    def watch(self) -> None:
        """Look anew when packets arrive, and whom they are from."""
        self.leave()
        self._watched, self._arrivals = 0, []
        self._watching = True

    def received(self, clock: int) -> rtcp.Received:
        """Return what has come from their source; `clock`: of its time stamps, Hz."""
        first, received, lost = self._before_source
        counts = self.jitter.counts
        jitter = int(self.jitter.jitter_ms * clock / 1000)
        return rtcp.Received(self._source or 0, first, counts.received - received, counts.lost - lost, jitter)

    # ------------------------------------------------------------------------------------------ packets that came

    def _read_connected(self, now: float) -> bool:
        """Read a packet; return whether it was audio. Raise BlockingIOError when there is none."""
        return self._take(self._path.socket.recv(udp.PACKET), now)

    def _read_watched(self, now: float) -> bool:
        """The same while it matters whom it is from, or when it arrived."""
        path = self._path
        packet, ancillary, _, address = path.socket.recvmsg(udp.PACKET, udp.ANCILLARY)
        if path.latched is not None and address != path.latched:
            path.strangers += 1  # It was in the queue before the socket was connected.
            return False
        if not self._take(packet, now):
            return False
        if path.latched is None:
            path.latch(address)
        self._watched += 1
        self._arrivals.append(self._loop.time() - udp.age(ancillary))
        if self._watched == WATCHED:
            self._watching = False
            self._loop.call_soon(self._settle, self._arrivals)
        return True

    def _take(self, packet: bytes, now: float) -> bool:
        """Act on a packet; return whether it was audio, and no copy."""
        path = self._path
        if len(packet) < HEADER.size:
            self.malformed += 1
            return False
        flags, kind, sequence, timestamp, source = HEADER.unpack_from(packet)
        if path.mux and kind in REPORTS:
            if path.latched is not None:  # else it is not known whose it is
                self._take_report(packet)
            return False
        if path.srtp is not None:
            opened = path.srtp.unprotect(packet)
            if opened is None:
                path.forged += 1
                return False
            packet = opened
        payload = packet[HEADER.size :] if flags == PLAIN else payload_of(packet)
        if not payload:
            self.malformed += 1
            return False
        kind &= ~MARKER
        if kind != self._audio_type:
            self._take_other(kind, sequence, timestamp, source, payload, now)
            return False
        if source != self._source:
            self._begin_source(source, sequence)
        counts = self.jitter.counts
        duplicates = counts.duplicates
        self.jitter.put(sequence, timestamp, payload, now, 0 if len(payload) <= self._quiet_bytes else None)
        return counts.duplicates == duplicates  # Behind a copy there may be the packet that this tick waits for.

    def _take_other(self, kind: int, sequence: int, timestamp: int, source: int, payload: bytes, now: float) -> None:
        """Act on a packet that is not audio, and so not missing where it is one of theirs."""
        quiet = kind == self._noise_type
        if source == self._source:
            self.jitter.put(sequence, timestamp, b"", now, comfort_noise.level(payload) if quiet else None)
        if kind == self._dtmf_type:
            self._take_event(source, timestamp, payload)
        elif not quiet:
            self.other_types += 1

    def _begin_source(self, source: int, sequence: int) -> None:
        self.jitter.reset()
        self._source = source
        self._before_source = sequence, self.jitter.counts.received, self.jitter.counts.lost

    def _take_event(self, source: int, timestamp: int, payload: bytes) -> None:
        if source != self._event_source:  # Some send events as a source of their own.
            self._event_source = source
            self._digits = dtmf.DigitReceiver()
        event = dtmf.parse(payload)
        if event is None:
            self.malformed += 1
        elif tone := self._digits.take(timestamp, event):
            self._press(tone)


def _unheard(what: object) -> None:
    """What is left to be told when the leg is over."""
