"""The rows of a slot, read and written together: what nearly everybody does nearly all the time, without a way through
Python objects for each of them.

Most of the time a row is *regular*: exactly one message (of an app) or packet (of a telephone) comes in a tick, which
is played at once or some ticks later, or nothing comes at all. Then a tick reads its socket straight into a line of one
matrix, and all lines are checked and decoded together (`Form`). What else the tick would have done to the row's socket
and queue is the same each time, so it is counted here and made up for later (`Regular.settle`). Whatever is not as
expected, is not of the others' form, or is due for a look, is polled as ever, by its `poll`.

Packets to telephones are written the same way: all of a slot get their headers at once.
"""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from offhook.audio import pcm
from offhook.wire import rtp
from offhook.wire.websocket import AudioTexts

if TYPE_CHECKING:
    from offhook.media.plane import Row

LONGEST = 2048  # bytes that are read this way: of a message with 20 ms at 24 kHz in base64, or of any packet
DEEPEST = 3  # frames that may wait to be played, where a sender is sometimes late: each is played so many ticks later
PAST = 2  # frames that were played and a queue may still want to know
LOOK_EVERY = 50  # ticks after which a row is polled as ever, for what this way does not see: 1 s …
LOOK_SELDOM = 5  # … times so many for a stream of which nothing waits, as it cannot leave anything unread
SETTLED = 5  # ticks without a change of rows before a slot is read together: it costs to begin and to end
MISSED_S = 0.03  # from one tick to the next: the clock has left some out

_KEPT = DEEPEST + PAST + 1  # ticks
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_NOTHING, _UNKNOWN, _UNREAD = -1, -2, -3  # in the place of the size of a message: none came; an error; it is polled
_POLLED = -4  # what is expected then: never what comes

Octets = npt.NDArray[np.uint8]
Frames = npt.NDArray[Any]  # samples (int16), or octets of a codec
Lines = npt.NDArray[np.intp]
Receive = Callable[[memoryview], int]
Transmit = Callable[[bytes | memoryview], int]
Leave = Callable[[], None]


def alone() -> None:
    """What a row calls for `Leave` that has not been together with others."""


# ------------------------------------------------------------------------------------------------ what comes


class Envelope(NamedTuple):
    """What stands around the base64 of an app's audio messages. An app puts all its audio into one."""

    head: bytes
    tail: bytes


class Header(NamedTuple):
    """The header of a telephone's next packet of 20 ms of G.711."""

    octets: bytes


class Regular(NamedTuple):
    """How a row's next ticks can be had without its `poll`, as long as what comes is as expected.

    `first` says what comes next, a message or packet a tick; None: nothing. `recent`: frames that came last, the oldest
    first, of which the last `depth` wait to be played. `settle(ticks, now, recent)` makes up for so many ticks, of
    which the last one was at `now`, and gives as many frames back.
    """

    receive: Receive
    first: Envelope | Header | None
    settle: Callable[[int, float, list[bytes]], None]
    recent: Sequence[bytes] = ()
    depth: int = 0


class Batched(Protocol):
    """A stream or leg that can be read together with others."""

    def poll(self, now: float, received: memoryview | None = None) -> bytes | None:
        """As `plane.Source`; `received` was read from its socket already."""

    def regular(self, leave: Leave) -> Regular | None:
        """After a `poll`: return how to go on without; None when that cannot be. It calls `leave` before it changes
        what it is about, or tells what it has counted."""


class Form(Protocol):
    """How the lines of one matrix look that come as expected."""

    size: int  # octets

    def fits(self, line: int, first: Envelope | Header) -> bool:
        """Whether what comes in that line will look so; if so, that is expected from now on."""

    def alike(self, messages: Octets, lines: Lines) -> npt.NDArray[np.bool_]:
        """Return which of `messages`, of the right size, are those that are expected in `lines`."""

    def take(self, messages: Octets, lines: Lines) -> Frames:
        """Return the frames in such messages, and go on to the next ones; raise `ValueError` if one makes no sense."""


class _Texts:
    """Texts with PCM in base64 in one envelope."""

    def __init__(self, envelope: Envelope, frame_bytes: int) -> None:
        self._envelope = envelope
        self._texts = AudioTexts(*envelope, frame_bytes)
        self.size = self._texts.size

    def fits(self, line: int, first: Envelope | Header) -> bool:
        return first == self._envelope

    def alike(self, messages: Octets, lines: Lines) -> npt.NDArray[np.bool_]:
        return self._texts.alike(messages)

    def take(self, messages: Octets, lines: Lines) -> Frames:
        return self._texts.audio(messages)


class _Packets:
    """RTP packets of one codec with an octet a sample: each line has its own numbers."""

    def __init__(self, count: int, frame_bytes: int) -> None:
        self._headers = rtp.Headers(count, step=frame_bytes)
        self.size = rtp.HEADER.size + frame_bytes

    def fits(self, line: int, first: Envelope | Header) -> bool:
        if not isinstance(first, Header):
            return False
        self._headers.set(line, first.octets)
        return True

    def alike(self, messages: Octets, lines: Lines) -> npt.NDArray[np.bool_]:
        return self._headers.are_on(messages, lines)

    def take(self, messages: Octets, lines: Lines) -> Frames:
        self._headers.advance(lines)
        return messages[:, rtp.HEADER.size : self.size]


# ------------------------------------------------------------------------------------------------ reading


class Reader:
    """Reads one frame a tick of each of some rows of one rate and codec."""

    def __init__(self, rows: Sequence[Row]) -> None:
        codec = rows[0].codec
        self._rows = rows
        self._silence = np.frombuffer(pcm.silence(rows[0].rate), np.int16)
        if codec is not None:
            self._silence = np.full(len(self._silence), codec.silence, np.uint8)
        self._frames: Frames = np.tile(self._silence, (len(rows), 1))
        self._messages: Octets  # a line for each row: made when somebody is regular
        self._lines: list[memoryview] = []
        self._receives: list[Receive] = [_unread] * len(rows)
        self._expected = [_POLLED] * len(rows)  # sizes
        self._regular: list[Regular | None] = [None] * len(rows)
        self._since = [0] * len(rows)  # tick from which on a row is regular
        self._form: Form | None = None
        self._saying: Lines | None = None  # lines in which a message is expected; None: to be found out
        self._depths = np.zeros(len(rows), np.intp)  # frames that wait
        self._delayed: Lines | None = None  # lines whose last frames are kept; None: to be found out
        self._kept: Frames | None = None  # the frames that came last, by tick modulo their number, and by line
        self._tick = 0
        self._now = 0.0

    def read(self, now: float) -> Frames:
        """Return the frames, a line for each row; a row that raises is silent. Valid until the next read."""
        if now - self._now > MISSED_S:
            self.leave_all()
        sizes = self._receive()
        frames = self._together() if sizes == self._expected else None
        if frames is None:
            frames = self._one_by_one(sizes, now)
        self._tick += 1
        self._now = now
        for line in range(self._tick % LOOK_EVERY, len(self._rows), LOOK_EVERY):
            regular = self._regular[line]
            if regular and (regular.recent or self._tick - self._since[line] >= LOOK_EVERY * LOOK_SELDOM):
                self._leave(line)
        return frames

    def leave_all(self) -> None:
        """Have every row polled next time, here or elsewhere."""
        for line in range(len(self._rows)):
            self._leave(line)

    def _receive(self) -> list[int]:
        """Read a message into each line; return their sizes."""
        if not self._lines:
            return [_UNREAD] * len(self._rows)
        sizes = []
        for receive, line in zip(self._receives, self._lines, strict=True):
            try:
                sizes.append(receive(line))
            except _WOULD_BLOCK:
                sizes.append(_NOTHING)
            except OSError:
                sizes.append(_UNKNOWN)
        return sizes

    def _together(self) -> Frames | None:
        """Return the frames of lines that have all come as expected; None when it is not so after all."""
        if self._saying is None:
            self._saying = np.flatnonzero(np.array(self._expected) > 0)
        if self._delayed is None:
            self._delayed = np.array([n for n, one in enumerate(self._regular) if one and one.recent], np.intp)
        lines = self._saying
        if not len(lines):
            return self._frames
        assert self._form is not None
        whole = len(lines) == len(self._rows)
        messages = self._messages if whole else self._messages[lines]
        if not self._form.alike(messages, lines).all():
            return None
        try:
            frames = self._form.take(messages, lines)
        except ValueError:
            return None
        if whole and not len(self._delayed):
            return frames
        self._frames[lines] = frames
        self._delay(self._delayed)
        return self._frames

    def _one_by_one(self, sizes: Sequence[int], now: float) -> Frames:
        """Take the lines that have come as expected, and poll the others."""
        as_expected = np.array(sizes) == np.array(self._expected)
        lines = np.flatnonzero(as_expected & (np.array(sizes) > 0))
        if self._form is not None and len(lines):
            alike = self._form.alike(self._messages[lines], lines)
            as_expected[lines[~alike]] = False
            lines = lines[alike]
            try:
                self._frames[lines] = self._form.take(self._messages[lines], lines)
                self._delay(np.array([line for line in lines if (one := self._regular[line]) and one.recent], np.intp))
            except ValueError:  # Somebody's makes no sense: each for himself.
                as_expected[lines] = False
        for line in np.flatnonzero(~as_expected).tolist():
            self._poll(line, sizes[line], now)
        return self._frames

    def _delay(self, lines: Lines) -> None:
        """Keep the frames of these lines, and put those into their place that came so many ticks ago as they wait."""
        if self._kept is not None and len(lines):
            self._kept[self._tick % _KEPT, lines] = self._frames[lines]
            self._frames[lines] = self._kept[(self._tick - self._depths[lines]) % _KEPT, lines]

    # ------------------------------------------------------------------------------------------ row by row

    def _poll(self, line: int, size: int, now: float) -> None:
        """Have a row polled as ever, which has sent what is in its line already, and see whether it is regular."""
        row, one = self._rows[line], self._rows[line].batched
        self._frames[line] = self._silence
        try:
            self._leave(line)
            if one is None:
                frame = row.source.poll(now)
            else:
                frame = one.poll(now, self._lines[line][:size] if size > 0 else None)
            if frame is not None:
                self._frames[line] = np.frombuffer(frame, self._silence.dtype).reshape(self._silence.shape)
            if one is not None and self._tick >= SETTLED:
                self._enter(line, one, said=frame is not None)
        except Exception:
            row.faults += 1

    def _enter(self, line: int, one: Batched, said: bool) -> None:
        regular = one.regular(_leave_of(self, line))
        if regular is None or said != (regular.first is not None):
            return
        expected = _NOTHING
        if regular.first is not None:
            if self._form is None or self._form.size not in self._expected:
                self._form = self._form_of(regular.first)
            if not self._form.fits(line, regular.first) or self._form.size > LONGEST:
                return  # Others speak to us in another way.
            expected = self._form.size
        if not self._lines:
            self._messages = np.zeros((len(self._rows), LONGEST), np.uint8)
            flat = self._messages.reshape(-1).data
            self._lines = [flat[at : at + LONGEST] for at in range(0, len(flat), LONGEST)]
        self._receives[line] = regular.receive
        self._expected[line] = expected
        self._regular[line] = regular
        self._since[line] = self._tick + 1
        self._saying = self._delayed = None
        if regular.recent:
            self._keep(line, regular.recent)
            self._depths[line] = regular.depth

    def _form_of(self, first: Envelope | Header) -> Form:
        size = self._silence.nbytes
        return _Texts(first, size) if isinstance(first, Envelope) else _Packets(len(self._rows), size)

    def _keep(self, line: int, frames: Sequence[bytes]) -> None:
        """Put frames, of which the last one came in this tick, where the next ticks find them."""
        if self._kept is None:
            self._kept = np.zeros((_KEPT, *self._frames.shape), self._frames.dtype)
        for age, frame in enumerate(reversed(frames)):
            self._kept[(self._tick - age) % _KEPT, line] = np.frombuffer(frame, self._frames.dtype)

    def _leave(self, line: int) -> None:
        """Have a row polled next time, and make up for what it has missed."""
        regular = self._regular[line]
        if regular is None:
            return
        self._regular[line] = None
        self._receives[line] = _unread
        self._expected[line] = _POLLED
        self._depths[line] = 0
        self._saying = self._delayed = None
        ticks = self._tick - self._since[line]
        if ticks > 0:
            recent: list[bytes] = []
            if self._kept is not None:
                ages = range(len(regular.recent), 0, -1)
                recent = [self._kept[(self._tick - age) % _KEPT, line].tobytes() for age in ages]
            regular.settle(ticks, self._now, recent)


def _unread(line: memoryview) -> int:
    return _UNREAD


# ------------------------------------------------------------------------------------------------ writing


class Steady(NamedTuple):
    """How a telephone's next packets can be sent without its leg's `send`: each is a frame behind the next header.

    `settle(packets, sent)`: so many were due, and `sent` of them were taken by the kernel.
    """

    transmit: Transmit
    first: Header
    settle: Callable[[int, int], None]


class Paced(Protocol):
    """A leg that can be written to together with others."""

    def send(self, data: bytes | memoryview) -> None:
        """As `plane.Sink`."""

    def steady(self, leave: Leave) -> Steady | None:
        """After a `send`: as `Batched.regular`."""


class Writer:
    """Sends one frame of octets a tick to each of some legs."""

    def __init__(self, rows: Sequence[Row], frame_bytes: int) -> None:
        self._rows = rows
        self._headers = rtp.Headers(len(rows), step=frame_bytes)
        self._packets = np.zeros((len(rows), rtp.HEADER.size + frame_bytes), np.uint8)
        self._frames = self._packets[:, rtp.HEADER.size :]
        flat, step = self._packets.reshape(-1).data, self._packets.shape[1]
        self._lines = [flat[at : at + step] for at in range(0, len(flat), step)]
        self._transmits: list[Transmit | None] = [None] * len(rows)
        self._steady: list[Steady | None] = [None] * len(rows)
        self._since = [0] * len(rows)  # tick from which on a row is steady …
        self._unsent = [0] * len(rows)  # … and packets since then that were not taken
        self._tick = 0

    def write(self, frames: Octets) -> None:
        """Send each row its line of `frames`."""
        self._headers.put_on(self._packets)
        self._frames[:] = frames
        for line, (transmit, packet) in enumerate(zip(self._transmits, self._lines, strict=True)):
            if transmit is None:
                self._send(line, packet)
                continue
            try:
                transmit(packet)
            except OSError:  # the socket is full, or nobody listens at the other side's port
                self._unsent[line] += 1
        self._headers.advance()
        self._tick += 1

    def leave_all(self) -> None:
        """Have every row sent to by itself next time, here or elsewhere."""
        for line in range(len(self._rows)):
            self._leave(line)

    def _send(self, line: int, packet: memoryview) -> None:
        row = self._rows[line]
        try:
            row.sink.send(bytes(packet[rtp.HEADER.size :]))
        except Exception:
            row.faults += 1
            return
        if row.paced is None or self._tick < SETTLED:
            return
        steady = row.paced.steady(_leave_of(self, line))
        if steady is not None:
            self._steady[line] = steady
            self._transmits[line] = steady.transmit
            self._since[line], self._unsent[line] = self._tick + 1, 0
            self._headers.set_before(line, steady.first.octets)

    def _leave(self, line: int) -> None:
        steady, self._steady[line], self._transmits[line] = self._steady[line], None, None
        if steady is not None and (due := self._tick - self._since[line]) > 0:
            steady.settle(due, due - self._unsent[line])


def _leave_of(together: Reader | Writer, line: int) -> Leave:
    """Return what takes a row out that stands in `line`. It does not keep those alive that have been laid out anew: a
    row may have it for long, and what ends in a circle waits for a garbage collection."""
    known = weakref.ref(together)

    def leave() -> None:
        if (there := known()) is not None:
            there._leave(line)

    return leave
