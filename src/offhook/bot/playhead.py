"""Where the caller is in what was said: by the clock, and by the service's word where it gives one."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

UNANSWERED = 16  # stops whose answer is waited for; of more, the oldest is left as estimated


@dataclass(eq=False)
class Stop:
    """One StopAudio: it stood at `sent_s` of the audio, and `flushed_s` of it were discarded."""

    sent_s: float
    flushed_s: float  # estimated until `answered` is set
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def heard_to_s(self) -> float:
        """The position up to which everything had been heard, or discarded by an earlier stop."""
        return self.sent_s - self.flushed_s


class Playhead:
    """Follows the audio that one stream has sent, in seconds; `now` is the event loop's time.

    The service plays what it gets at once and in real time, so that what is heard follows from what was sent and when.
    By that estimate the caller hears a little early, by the way to the service and its buffer: 20 to 60 ms, usually. A
    position is counted along all that was sent, discarded audio included.
    """

    def __init__(self) -> None:
        self.sent_s = 0.0
        self._flushed_s = 0.0
        self._stopped_s = 0.0  # where the last stop stood
        self._ends = 0.0  # when all that was sent will have been heard
        self._unanswered: deque[Stop] = deque(maxlen=UNANSWERED)

    def push(self, seconds: float, now: float) -> None:
        """So much was sent."""
        self.sent_s += seconds
        self._ends = (now if now > self._ends else self._ends) + seconds

    def ahead_s(self, now: float) -> float:
        """How much of what was sent is still to be heard."""
        return max(0.0, self._ends - now)

    def position_s(self, now: float) -> float:
        """Up to where everything was heard or discarded."""
        return self.sent_s - self.ahead_s(now)

    def heard_s(self, now: float) -> float:
        """How much was heard in all."""
        return self.position_s(now) - self._flushed_s

    def stop(self, now: float, *, answer: bool) -> Stop:
        """StopAudio was sent; `answer`: the service will say what it discarded."""
        stop = Stop(self.sent_s, self.ahead_s(now))
        self._flushed_s += stop.flushed_s
        self._stopped_s = self.sent_s
        self._ends = now
        if answer:
            self._unanswered.append(stop)
        return stop

    def answered(self, flushed_s: float) -> None:
        """The service has said what the oldest unanswered stop discarded."""
        if self._unanswered:
            stop = self._unanswered.popleft()
            flushed_s = min(max(0.0, flushed_s), stop.sent_s)
            self._flushed_s += flushed_s - stop.flushed_s
            stop.flushed_s = flushed_s
            stop.answered.set()

    def reached(self, position_s: float, now: float) -> None:
        """The service has just played what was sent up to a position; old news once that was stopped."""
        if position_s > self._stopped_s:
            self._ends = now + self.sent_s - position_s

    def end(self) -> None:
        """No answer will come any more: stops that wait for one stay as estimated."""
        for stop in self._unanswered:
            stop.answered.set()
        self._unanswered.clear()
