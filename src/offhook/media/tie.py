"""Ties: legs of one media worker that take part in calls of another one of the same server (ADR 0014).

A leg that moves into a call of another worker stays where its socket is. There it is alone in a mix of its own with one
end of a tie; the other end stands for it in the call, a row like any other.

    leg ◄──► mix of its own ◄──► Tie ═══ datagrams ═══ Tie ◄──► mix of the call
    └──────── the worker it is at ─────────┘     └── the worker that has the call ──┘

Beside the frames, what the leg's party presses and (truth mode) says in words goes over the tie to the call. Nothing
waits: a row's tick reads what has come. Both ends tick by the machine's one clock, a frame each a tick, so nothing has
to be stretched; a frame waits for its tick of the other end, 20 ms at most, and 20 ms more once one end was late.

Bounds: `DEPTH` frames wait at a tie, the oldest is dropped; the kernel holds some two seconds for a worker that does
not read, and what comes then is lost.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from offhook.media.link import BorrowLeg, LendLeg, ReseatLeg, ReturnLeg
from offhook.media.plane import DEFAULT_RATE, Row
from offhook.media.worker import MediaWorker

RATE = DEFAULT_RATE  # Hz of every tie: of a mix that no stream is in, as that of a lent leg
DEPTH = 2  # frames: one fewer, and two ends that tick at the same moment would lose frames all the time
READS = 1_000  # datagrams at a tick; what is more waits for the next one
DATAGRAM = 4_096  # bytes of one: no frame, tones (100) or words (1000 characters) are longer

AUDIO, TONES, WORDS = b"a", b"t", b"w"


class Tie:
    """One end of a tie: Source and Sink of a row in `mix`. `send` takes what goes to the other end."""

    def __init__(
        self,
        leg: str,
        mix: str,
        party: str,
        worker: MediaWorker,
        send: Callable[[bytes], None],
        read: Callable[[], None],
    ) -> None:
        self.row = Row(mix, party, RATE, self, self)
        self._leg = leg
        self._worker = worker
        self._send = send
        self._read = read
        self._name = leg.encode() + b" "
        self._frames: deque[bytes] = deque(maxlen=DEPTH)

    def poll(self, now: float) -> bytes | None:
        """Source: the next 20 ms from the other end; None when it is late."""
        self._read()
        return self._frames.popleft() if self._frames else None

    def send(self, data: bytes | memoryview) -> None:
        """Sink: 20 ms for the other end."""
        self._send(b"".join((AUDIO, self._name, data)))

    def pass_tones(self, tones: str) -> None:
        """The leg's party has pressed digits."""
        self._send(TONES + self._name + tones.encode())

    def pass_words(self, words: str) -> None:
        """The leg's client has told the words of what is being said."""
        self._send(WORDS + self._name + words.encode())

    def take(self, kind: bytes, payload: bytes) -> None:
        """Something has come from the other end."""
        if kind == AUDIO:
            self._frames.append(payload)
        elif kind == TONES:
            self._worker.pressed(self.row.call, self._leg, payload.decode())
        elif kind == WORDS:
            self._worker.says(self.row.call, self.row.party, payload.decode())

    def reseat(self, mix: str) -> None:
        """Stand for the leg in another mix."""
        self._worker.plane.remove(self.row)
        self.row = Row(mix, self.row.party, RATE, self, self)
        self._worker.plane.add(self.row)
        self._worker.clock.wake()


class _Line:
    """Our socket to one other worker, for all ties with it. `take` gets what comes: kind, leg and payload."""

    def __init__(self, ours: Path, theirs: Path, take: Callable[[bytes, str, bytes], None]) -> None:
        self._theirs = str(theirs)
        self._take = take
        ours.unlink(missing_ok=True)  # of this worker's process before this one
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(ours))

    def send(self, datagram: bytes) -> None:
        """Send it, if the other worker is there and reads."""
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            pass
        except OSError:  # not connected yet; or to the socket of a process that has died
            # Connected both ways, as the kernel queues only a few datagrams else.
            with contextlib.suppress(OSError):
                self._socket.connect(self._theirs)
                self._socket.send(datagram)

    def read(self) -> None:
        """Take what has come."""
        with contextlib.suppress(OSError):  # there is nothing more, or the other end has died
            for _ in range(READS):
                name, _, payload = self._socket.recv(DATAGRAM).partition(b" ")
                self._take(name[:1], name[1:].decode(), payload)

    def close(self) -> None:
        self._socket.close()


class Ties:
    """Carries out a worker's orders about legs that are lent and borrowed. `directory` is where the sockets are, of all
    workers of this server and of nobody else; `number` is the worker's own."""

    def __init__(self, worker: MediaWorker, number: int, directory: Path) -> None:
        self._worker = worker
        self._number = number
        self._directory = directory
        self._ties: dict[str, Tie] = {}  # by leg
        self._lines: dict[int, _Line] = {}  # by number of the other worker
        worker.register(
            {LendLeg: self._lend, BorrowLeg: self._borrow, ReturnLeg: self._return, ReseatLeg: self._reseat}
        )

    def close(self) -> None:
        """Close the sockets, when the clock has stopped."""
        for line in self._lines.values():
            line.close()

    def _lend(self, order: LendLeg) -> None:
        self._worker.lent[order.mix] = self._open(order.leg, order.mix, "", order.to)

    def _borrow(self, order: BorrowLeg) -> None:
        self._open(order.leg, order.call, order.party, order.of)

    def _open(self, leg: str, mix: str, party: str, other: int) -> Tie:
        line = self._line(other)
        line.read()  # what is left of an earlier tie of this leg
        tie = self._ties[leg] = Tie(leg, mix, party, self._worker, line.send, line.read)
        self._worker.plane.add(tie.row)
        self._worker.clock.wake()
        return tie

    def _return(self, order: ReturnLeg) -> None:
        if (tie := self._ties.pop(order.leg, None)) is not None:
            self._worker.plane.remove(tie.row)
            self._worker.lent.pop(tie.row.call, None)

    def _reseat(self, order: ReseatLeg) -> None:
        tie = self._ties.get(order.leg)
        if tie is not None and tie.row.call not in self._worker.lent:
            tie.reseat(order.call)

    def _line(self, other: int) -> _Line:
        if other not in self._lines:
            ours, theirs = (self._directory / name for name in (f"{self._number}-{other}", f"{other}-{self._number}"))
            self._lines[other] = _Line(ours, theirs, self._take)
        return self._lines[other]

    def _take(self, kind: bytes, leg: str, payload: bytes) -> None:
        if (tie := self._ties.get(leg)) is not None:
            tie.take(kind, payload)
