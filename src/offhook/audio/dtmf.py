"""DTMF digits as telephone events (RFC 4733): the key that is pressed is named in RTP packets, not heard as a tone.

Times are RTP timestamps: 160 a tick of 20 ms where the clock has 8 kHz, as nearly all have. An event keeps the
timestamp of its beginning and grows in duration from packet to packet, so the timestamp says which press a packet
belongs to; the marker bit, which some senders forget, does not.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

TONES = "0123456789*#ABCD"  # by event code (RFC 4733 section 3.2)
TICK = 160  # of an 8 kHz clock
TONE_TICKS = 5  # 100 ms, above the 40 ms that receivers ask for
END_PACKETS = 3  # the last packet of an event is sent this often (RFC 4733 section 2.5.1.4)
PAUSE_TICKS = 3  # after these; with the end's repeats 100 ms between two tones
QUEUE = 100  # digits that wait to be sent

_EVENT = struct.Struct("!BBH")
_END = 0x80
_VOLUME = 0x3F
_LOUDNESS = 10  # -10 dBm0
_TURN = 1 << 32
_SEND_TICKS = TONE_TICKS + END_PACKETS - 1
_DIGIT_TICKS = _SEND_TICKS + PAUSE_TICKS


class Event(NamedTuple):
    """One telephone event as one packet tells it. `volume` in -dBm0, `duration` so far, in units of the clock."""

    code: int
    end: bool
    volume: int
    duration: int


def parse(payload: bytes) -> Event | None:
    """Return the event in a payload; None when it is too short to hold one."""
    if len(payload) < _EVENT.size:
        return None
    code, flags, duration = _EVENT.unpack_from(payload)
    return Event(code, bool(flags & _END), flags & _VOLUME, duration)


class DigitReceiver:
    """Tells presses from the packets that repeat them: a digit counts once, at the first of its packets that comes.

    Lost packets, the last ones too, repeated and late ones do not matter. An event longer than its duration field can
    say (8 s) goes on under a new timestamp, right where it was: that is the same press.
    """

    def __init__(self) -> None:
        self._timestamp: int | None = None  # of the latest event
        self._last = Event(0, True, 0, 0)  # what was last told of it

    def take(self, timestamp: int, event: Event) -> str:
        """Return the tone that was pressed if this packet is the first of its event, else ""."""
        if self._timestamp is not None:
            newer = (timestamp - self._timestamp) % _TURN
            if newer >= _TURN // 2:
                return ""  # late, of an event before
            goes_on = newer == 0 or (not self._last.end and newer <= self._last.duration)
            if goes_on and event.code == self._last.code:
                if newer == 0:  # in whatever order they came
                    event = event._replace(
                        end=event.end or self._last.end, duration=max(event.duration, self._last.duration)
                    )
                self._timestamp, self._last = timestamp, event
                return ""
        self._timestamp, self._last = timestamp, event
        return TONES[event.code] if event.code < len(TONES) else ""


class Packet(NamedTuple):
    """What the RTP packet of an event carries."""

    timestamp: int
    marker: bool
    payload: bytes


class DigitSender:
    """Sends digits one after the other, a packet a tick in place of the audio, its end three times, then a pause.

    `tick`: units of the events' clock in 20 ms.
    """

    def __init__(self) -> None:
        self.tick = TICK
        self._waiting: deque[int] = deque()  # codes; the first one is being sent
        self._tick = 0  # of the first one
        self._began = 0

    def press(self, tones: str) -> None:
        """Queue `tones` (0-9 * # A-D); raise ValueError, and queue none, when one is no tone or more than `QUEUE` would
        wait."""
        codes = [TONES.find(tone) for tone in tones.upper()]
        if -1 in codes:
            raise ValueError(f"{tones!r}: tones are 0-9, *, # and A-D")
        if not self.has_room(len(codes)):
            raise ValueError(f"more than {QUEUE} tones would wait to be sent")
        self._waiting.extend(codes)

    def has_room(self, count: int) -> bool:
        """Whether `count` more digits can be queued."""
        return len(self._waiting) + count <= QUEUE

    @property
    def done(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting

    def next(self, timestamp: int) -> Packet | None:
        """Return the packet for this tick, whose audio has `timestamp`; None when audio is due."""
        if not self._waiting:
            return None
        self._tick += 1
        if self._tick == 1:
            self._began = timestamp
        if self._tick <= _SEND_TICKS:
            end = _END if self._tick >= TONE_TICKS else 0
            duration = self.tick * min(self._tick, TONE_TICKS)
            return Packet(self._began, self._tick == 1, _EVENT.pack(self._waiting[0], end | _LOUDNESS, duration))
        if self._tick == _DIGIT_TICKS:
            self._waiting.popleft()
            self._tick = 0
        return None
