"""What came from a network, what did not, and what came twice: counts, and RTP's sequence numbers."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 64  # the newest numbers of which is known whether they came
LEAP = 3000  # further ahead is not a loss but another beginning, if a second packet confirms it (RFC 3550, A.1)

_ALL = (1 << WINDOW) - 1


@dataclass(slots=True)
class Counts:
    """What a stream has gone through since it began: packets, and milliseconds of sound. None of it ever decreases."""

    received: int = 0  # all but duplicates and strays
    lost: int = 0  # had not come when `WINDOW` newer numbers were known
    reordered: int = 0  # came after a newer one, in time to be played or not
    late: int = 0  # came too late to be played
    duplicates: int = 0
    discarded: int = 0  # too large, or with a sequence number or time stamp that fits nothing
    concealed_ms: float = 0.0  # made up, because nothing was there
    recovered_ms: float = 0.0  # lost, but said again in the packet after it
    noise_ms: float = 0.0  # comfort noise: the sender had said that it falls silent
    silent_ms: float = 0.0  # not even that: nothing had been there for too long
    shortened_ms: float = 0.0  # left out to reduce the delay
    lengthened_ms: float = 0.0  # said twice to increase it
    dropped_ms: float = 0.0  # the buffer was full, or the sender's time stamps leapt


class SequenceNumbers:
    """Which of the newest sequence numbers (16 bits, RFC 3550) have come: bit n of `_came` is `highest` less n.

    Numbers from before the first packet pass for known, as there is no place for them any more.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self.forget()

    def forget(self) -> None:
        """The next packet is the first one of another sender."""
        self.highest: int | None = None
        self._came = _ALL
        self._confirming: int | None = None  # the number that would confirm a leap

    def accept(self, number: int) -> bool:
        """Note the number of a packet; return False for one that is to be ignored, and count it."""
        if self.highest is None:
            self.highest = number
            return True
        ahead = number - self.highest & 0xFFFF
        if 0 < ahead < LEAP:
            self.highest = number
            came = self._came << ahead | 1
            self._came = came & _ALL
            if came >> WINDOW != (1 << ahead) - 1:
                self._counts.lost += ahead - (came >> WINDOW).bit_count()
            return True
        behind = -ahead & 0xFFFF
        if behind >= WINDOW:
            return self._confirmed(number)
        if self._came >> behind & 1:
            self._counts.duplicates += 1
            return False
        self._came |= 1 << behind
        self._counts.reordered += 1
        return True

    def advance(self, count: int) -> None:
        """Note the `count` numbers after the highest one."""
        assert self.highest is not None
        self.highest = self.highest + count & 0xFFFF
        came = (self._came << count) | (1 << count) - 1
        self._came = came & _ALL
        self._counts.lost += count - (came >> WINDOW).bit_count()

    def _confirmed(self, number: int) -> bool:
        """Of a number that fits nothing: another beginning if it follows another such one, else a stray."""
        if number != self._confirming:
            self._confirming = number + 1 & 0xFFFF
            self._counts.discarded += 1
            return False
        self._counts.lost += WINDOW - self._came.bit_count()
        self.forget()
        self.highest = number
        return True
