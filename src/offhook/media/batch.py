"""The streams of a slot, read and written together: what nearly every app does nearly all the time, without a way
through Python objects for each of them.

Most of the time a stream is *regular*: its app sends exactly one 20 ms message a tick, which is played at once, or
nothing at all. Then a tick reads its socket straight into a line of one matrix, and the messages of all lines are
checked and decoded together (`wire.websocket.AudioTexts`). What else the tick would have done to the stream's socket
and playout is the same each time, so it is counted here and made up for later (`Regular.settle`). Whatever is not as
expected, is not the same message as the others', or is due for a look, is polled as ever, by its `poll`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from offhook.audio import pcm
from offhook.wire.websocket import AudioTexts

if TYPE_CHECKING:
    from offhook.media.plane import Row

LONGEST = 2048  # bytes of a message that is read this way: 20 ms at 24 kHz in base64, and what stands around it
DEEPEST = 3  # frames that may wait to be played, where an app is sometimes late: each is played so many ticks later
LOOK_EVERY = 50  # ticks after which a stream is polled as ever, for what this way does not see: 1 s …
LOOK_SELDOM = 5  # … times so many where nothing waits

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_NOTHING, _UNKNOWN, _UNREAD = -1, -2, -3  # in the place of the size of a message: none came; an error; it is polled
_POLLED = -4  # what is expected then: never what comes

Samples = npt.NDArray[np.int16]
Frames = list[bytes]
Receive = Callable[[memoryview], int]
Transmit = Callable[[bytes | memoryview], int]


class Envelope(NamedTuple):
    """What stands around the base64 of an app's audio messages."""

    head: bytes
    tail: bytes


class Regular(NamedTuple):
    """How a stream's next ticks can be had without its `poll`, as long as what comes is as expected.

    `envelope` of the one message a tick; None: nothing comes. `settle(ticks, now, waiting)` makes up for so many ticks,
    of which the last one was at `now`, and gives back what waits. `waiting`: frames that wait, the oldest first.
    """

    receive: Receive
    envelope: Envelope | None
    settle: Callable[[int, float, Frames], None]
    waiting: Sequence[bytes] = ()


class Batched(Protocol):
    """A stream that can be read together with others."""

    def poll(self, now: float, received: memoryview | None = None) -> bytes | None:
        """As `plane.Source`; `received` was read from its socket already."""

    def regular(self, settle: Callable[[], None]) -> Regular | None:
        """After a `poll`: return how to go on without; None when that cannot be. It calls `settle` before it changes
        what it is about, or tells what it has counted."""


class Reader:
    """Reads one frame a tick of each of some rows of one rate."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._size = pcm.bytes_per_frame(rows[0].rate)
        self._silence = pcm.silence(rows[0].rate)
        self._frames: Samples = np.zeros((len(rows), self._size // 2), np.int16)
        self._messages = np.zeros((len(rows), LONGEST), np.uint8)
        flat = self._messages.reshape(-1).data
        self._lines = [flat[at : at + LONGEST] for at in range(0, len(flat), LONGEST)]
        self._receives: list[Receive] = [_polled] * len(rows)
        self._expected = [_POLLED] * len(rows)  # sizes
        self._settles: list[Callable[[int, float, Frames], None] | None] = [None] * len(rows)
        self._since = [0] * len(rows)  # tick in which a row became regular, or was settled last
        self._saying: npt.NDArray[np.intp] | None = None  # lines in which a message is expected; None: not known yet
        self._depths = np.zeros(len(rows), np.intp)  # frames that wait …
        self._deep = self._depths[:0]  # … lines where any do …
        self._waiting: Samples | None = None  # … and what came in the last ticks, by tick modulo its length and line
        self._texts: AudioTexts | None = None
        self._envelope: Envelope | None = None
        self._tick = 0
        self._now = 0.0

    def read(self, now: float) -> Samples:
        """Return the frames, a line for each row; a row that raises is silent. Valid until the next read."""
        sizes = self._receive()
        frames = self._together() if sizes == self._expected else None
        if frames is None:
            frames = self._one_by_one(sizes, now)
        self._tick += 1
        self._now = now
        for line in range(self._tick % LOOK_EVERY, len(self._rows), LOOK_EVERY):
            if self._depths[line] or self._tick - self._since[line] >= LOOK_EVERY * LOOK_SELDOM:
                self._leave(line)
        return frames

    def _receive(self) -> list[int]:
        """Read a message into each line; return their sizes."""
        sizes = []
        for receive, line in zip(self._receives, self._lines, strict=True):
            try:
                sizes.append(receive(line))
            except _WOULD_BLOCK:
                sizes.append(_NOTHING)
            except OSError:
                sizes.append(_UNKNOWN)
        return sizes

    def _together(self) -> Samples | None:
        """Return the frames of lines that have all come as expected; None when it is not so after all."""
        if self._saying is None:
            self._saying = np.flatnonzero(np.array(self._expected) > 0)
        if not len(self._saying):
            return self._frames
        assert self._texts is not None
        whole = len(self._saying) == len(self._rows)
        messages = self._messages if whole else self._messages[self._saying]
        if not self._texts.alike(messages).all():
            return None
        try:
            audio = self._texts.audio(messages)
        except ValueError:
            return None
        if whole and not len(self._deep):
            return audio
        self._frames[self._saying] = audio
        self._delay(self._deep)
        return self._frames

    def _delay(self, lines: npt.NDArray[np.intp]) -> None:
        """Keep the frames of these lines, and put those into their place that came so many ticks ago as they wait."""
        if self._waiting is not None and len(lines):
            ticks = len(self._waiting)
            self._waiting[self._tick % ticks, lines] = self._frames[lines]
            self._frames[lines] = self._waiting[(self._tick - self._depths[lines]) % ticks, lines]

    def _one_by_one(self, sizes: Sequence[int], now: float) -> Samples:
        """Take the lines that have come as expected, and poll the others."""
        as_expected = np.array(sizes) == np.array(self._expected)
        lines = np.flatnonzero(as_expected & (np.array(sizes) > 0))
        if self._texts is not None and len(lines):
            alike = self._texts.alike(self._messages[lines])
            as_expected[lines[~alike]] = False
            lines = lines[alike]
            try:
                self._frames[lines] = self._texts.audio(self._messages[lines])
                self._delay(lines[self._depths[lines] > 0])
            except ValueError:  # Somebody's is no base64: each for himself.
                as_expected[lines] = False
        for line in np.flatnonzero(~as_expected).tolist():
            self._poll(line, sizes[line], now)
        return self._frames

    def _poll(self, line: int, size: int, now: float) -> None:
        """Have a row polled as ever, which has sent what is in its line already, and see whether it is regular."""
        self._leave(line)
        row = self._rows[line]
        try:
            if row.batched is None:
                frame = row.source.poll(now)
            else:
                frame = row.batched.poll(now, self._lines[line][:size] if size > 0 else None)
        except Exception:
            row.faults += 1
            frame = None
        if frame is not None and len(frame) != self._size:
            row.faults += 1
            frame = None
        self._frames[line] = pcm.as_samples(self._silence if frame is None else frame)
        if row.batched is not None:
            self._enter(line, row.batched, said=frame is not None)

    def _enter(self, line: int, stream: Batched, said: bool) -> None:
        regular = stream.regular(lambda: self._leave(line))
        if regular is None or said != (regular.envelope is not None):
            return
        if regular.envelope is None:
            expected = _NOTHING
        else:
            if self._envelope != regular.envelope:
                if self._texts is not None and self._texts.size in self._expected:
                    return  # Others speak to us in another way.
                texts = AudioTexts(*regular.envelope, self._size)
                if texts.size > LONGEST:
                    return
                self._texts, self._envelope = texts, regular.envelope
            assert self._texts is not None
            expected = self._texts.size
        self._receives[line] = regular.receive
        self._expected[line] = expected
        self._saying = None
        self._settles[line] = regular.settle
        self._since[line] = self._tick + 1
        if regular.waiting:
            self._wait(line, regular.waiting)

    def _wait(self, line: int, frames: Sequence[bytes]) -> None:
        """Put frames where the next ticks find them."""
        if self._waiting is None:
            self._waiting = np.zeros((DEEPEST + 1, *self._frames.shape), np.int16)
        for age, frame in enumerate(reversed(frames)):
            self._waiting[(self._tick - age) % len(self._waiting), line] = pcm.as_samples(frame)
        self._depths[line] = len(frames)
        self._deep = np.flatnonzero(self._depths)

    def _leave(self, line: int) -> None:
        """Have a row polled next time, and make up for what it has missed."""
        settle = self._settles[line]
        if settle is None:
            return
        self._settles[line] = None
        self._receives[line] = _polled
        self._expected[line] = _POLLED
        self._saying = None
        depth, waiting = int(self._depths[line]), []
        if depth and self._waiting is not None:
            ages = range(depth, 0, -1)
            waiting = [self._waiting[(self._tick - age) % len(self._waiting), line].tobytes() for age in ages]
            self._depths[line] = 0
            self._deep = np.flatnonzero(self._depths)
        if ticks := self._tick - self._since[line]:
            settle(ticks, self._now, waiting)

    def leave_all(self) -> None:
        """The rows are going to be read elsewhere."""
        for line in range(len(self._rows)):
            self._leave(line)


def _polled(line: memoryview) -> int:
    return _UNREAD
