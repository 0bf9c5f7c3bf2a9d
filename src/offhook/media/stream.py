"""One connection's audio WebSocket to its app: a row of the plane on one side, a socket on the other.

It dials, sends AudioMetadata first on every connection, passes the plane's messages on, takes the app's audio into its
`Playout`, and dials again when the socket is lost. Bounds: at most `QUEUE` messages (1 s of a mixed stream, 0.25 s of
four participants unmixed) wait for a slow or lost socket, the oldest are dropped and counted; the socket itself holds
a second more at most (`dial.SEND_BUFFER`).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

from offhook.audio import pcm
from offhook.audio.playout import Playout
from offhook.media.batch import DEEPEST, Envelope, Leave, Regular, alone
from offhook.media.dial import AppSocket, Dial, DialError
from offhook.media.heard import Heard, is_asked
from offhook.media.link import OpenStream
from offhook.media.plane import Plane, Row
from offhook.media.tidings import StreamDown, StreamEnded, StreamOddity, StreamUp, Tiding
from offhook.wire import streaming, websocket

QUEUE = 50  # messages: 1 s of a mixed stream
OPENING_TRIES = (0.0, 1.0, 3.0)  # seconds from the start (ACS's own are unknown: contract 7.3)
REOPENING_TRIES = (0.0, 0.5, 1.5, 3.5, 7.0, 15.0)  # seconds from the loss: at once, then five within 15 s
SHORT_LIVED_S = 5.0  # a reopened socket that lasted less earns no new tries: what is left of the old ones is used


class MediaStream:
    """Row of the plane and owner of the socket. Create it, `start` it, and `close` it once."""

    def __init__(
        self, order: OpenStream, plane: Plane, dial: Dial, tell: Callable[[Tiding], None], wake: Callable[[], None]
    ) -> None:
        self.order = order
        self._plane = plane
        self._dial = dial
        self._tell = tell
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self.playout = Playout(order.rate)
        self._heard = Heard(self.playout, self.tell_app) if is_asked(order.url) else None
        self.row = Row(
            order.call, order.party, order.rate, self, self, stream=True, unmixed=order.unmixed, batched=self
        )
        self._socket: AppSocket | None = None
        self._writable = False
        self._queue: deque[bytes] = deque()
        self._leave: Leave = alone
        self._lost: asyncio.Future[tuple[bool, str]] = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._rates = RateWatch(order.rate)
        self._reader = streaming.AudioReader()
        self._bidirectional = order.bidirectional
        self._ended = False
        self._sent = self.dropped = self.received = self.ignored_bytes = self.stops = 0
        self.oddities: dict[str, int] = {}

    @property
    def is_up(self) -> bool:
        """Whether the socket is open."""
        return self._socket is not None

    @property
    def sent(self) -> int:
        """How many messages were sent to the app."""
        return self._sent if self._ended else self._sent + self.row.sent

    @property
    def waiting(self) -> int:
        """How many messages wait for a slow or lost socket."""
        return len(self._queue)

    # ------------------------------------------------------------------------------------------ the plane's side

    def poll(self, now: float, received: memoryview | None = None) -> bytes | None:
        """Source: one frame of what the app wants heard; `received` was read from its socket already."""
        if self._socket is not None:
            self._socket.poll(now, received)
        frame = self.playout.pull(now)
        if self._heard is not None:
            self._heard.pulled()
        return frame

    def regular(self, leave: Leave) -> Regular | None:
        """Say how the next ticks can be had without `poll`: see `batch.Batched`."""
        receive = None if self._socket is None else self._socket.receive
        if receive is None or self._heard is not None:
            return None
        self._leave = leave
        if self.playout.is_idle:
            return Regular(receive, None, self._idled)
        waiting = self.playout.in_step(DEEPEST)
        if waiting is None:
            return None
        envelope = Envelope(self._reader.head, self._reader.tail)
        return Regular(receive, envelope, self._stepped, waiting, len(waiting), ticks=self.playout.steps)

    def retimed(self) -> None:
        """The call is ticked at another time from now on."""
        self._leave()
        self.playout.retimed()

    def _idled(self, ticks: int, now: float, waiting: bytes) -> None:
        self.playout.idled(ticks)

    def _stepped(self, ticks: int, now: float, waiting: bytes) -> None:
        self.received += ticks
        self.playout.stepped(ticks, now, waiting)

    def send(self, message: bytes | memoryview) -> None:
        """Sink: pass one masked message on, or queue it while the socket is slow or away."""
        if self._writable and not self._queue:
            assert self._socket is not None
            self._socket.send(message)
            self._sent += 1
            return
        if len(self._queue) >= QUEUE:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(bytes(message))

    def tell_app(self, text: bytes) -> None:
        """Send the app a text of another kind than audio."""
        self.send(_message(text))

    def send_digit(self, tone: str) -> None:
        """Tell the app of one DTMF tone of another party, if it asked for them."""
        if self.order.dtmf:
            self.tell_app(streaming.dtmf_data(tone))

    # ------------------------------------------------------------------------------------------ the socket's side

    def on_message(self, message: memoryview) -> None:
        self.received += 1
        audio = self._reader.read(message)
        if audio is None:
            self._on_other(message)
        elif self._bidirectional:
            now = self._loop.time()
            size = len(audio)
            if size != self.playout.frame_bytes and (suspect := self._rates.saw(size, now)) is not None:
                detail = f"frames look like {suspect} Hz, the stream is {self.order.rate} Hz: it sounds fast or slow"
                self._odd("wrong sample rate", detail)
            if self.playout.push(audio, now) < size:
                self._odd("playout full", "more than 10 minutes of audio wait to be played; what comes now is refused")
        else:
            self.ignored_bytes += len(audio)
            self._odd("not bidirectional", "the app sends audio, but the stream was opened without enableBidirectional")

    def _on_other(self, message: memoryview) -> None:
        match streaming.parse(message):
            case streaming.StopAudio():
                self.stops += 1
                flushed = self.playout.flush()
                if self._heard is not None:
                    self._heard.stopped(flushed)
            case streaming.Mark(id=mark) if self._heard is not None:
                self._heard.mark(mark)
            case streaming.Mark():
                self._odd("mark", "marks are answered only if the transport URL asks for it; see docs/wire.md")
            case streaming.Ignored(cause=cause):
                self._odd(cause, "the app sent a message that is ignored; see docs/wire.md for the forms that are read")

    def on_too_large(self, size: int) -> None:
        self._odd("too large", f"a message of at least {size} bytes; at most 1 MiB is read")

    def on_writable(self, writable: bool) -> None:
        self._writable = writable and self._socket is not None
        if not writable:
            self._leave()  # It takes a poll to send what is left.
        while self._writable and self._queue and self._socket is not None:
            self._socket.send(self._queue.popleft())
            self._sent += 1
        if not self._ended:
            self.row.transmit = self._socket.transmit if self._writable and self._socket is not None else None

    def on_closed(self, clean: bool, detail: str) -> None:
        self._leave()
        self._writable = False
        self._socket = None
        self.row.transmit = None
        if not self._lost.done():
            self._lost.set_result((clean, detail))

    def _odd(self, cause: str, detail: str) -> None:
        """Count something odd; the first of each cause is told, the media path never logs."""
        self.oddities[cause] = self.oddities.get(cause, 0) + 1
        if self.oddities[cause] == 1:
            self._tell(StreamOddity(self.order.stream, cause, detail))

    # ------------------------------------------------------------------------------------------ its life

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def close(self) -> None:
        """Leave the plane; send the app what is queued and close the socket with 1000 (`gone` waits for that)."""
        if self._task is not None:
            self._task.cancel()
        self._writable = False
        self._leave()
        if (socket := self._socket) is not None:
            while self._queue:
                socket.send(self._queue.popleft())  # It may be lost in this, and then does nothing.
                self._sent += 1
            socket.close(1000)
        self._end()

    async def gone(self) -> None:
        """Wait for the socket that `close` closed."""
        if (socket := self._socket) is not None:
            await socket.wait_closed()
            self._socket = None

    async def _run(self) -> None:
        tries, since = deque(OPENING_TRIES), self._loop.time()
        again = False
        while True:
            try:
                await self._open(tries, since)
            except DialError as error:
                self._down("interrupted" if again else error.failure, error.detail)
                return
            opened = self._loop.time()
            self._up(again)
            clean, detail = await self._lost
            if clean:
                self._down("closed", detail)
                return
            self.playout.flush()  # What was queued belongs to a conversation that the app has lost.
            # An app that accepts every socket and drops it at once is not dialled for ever.
            if not again or self._loop.time() - opened >= SHORT_LIVED_S:
                tries, since = deque(REOPENING_TRIES), self._loop.time()
            again = True

    async def _open(self, tries: deque[float], since: float) -> None:
        """Dial at each of `tries` (seconds from `since`) until it works, and remove those that were used.

        Raises the `DialError` of the last try, or one that no other try would help.
        """
        order = self.order
        headers = {
            "Authorization": f"Bearer {order.token}",
            "x-ms-call-connection-id": order.connection,
            "x-ms-call-correlation-id": order.correlation,
        }
        while tries:
            await asyncio.sleep(max(0.0, since + tries.popleft() - self._loop.time()))
            self._lost = self._loop.create_future()
            try:
                socket = await self._dial(order.url, headers, self)
            except DialError as error:
                if error.final or not tries:
                    raise
            else:
                self._socket = None if self._lost.done() else socket
                return
        raise DialError("interrupted", "the app accepted the socket again and again, and lost it each time")

    def _up(self, again: bool) -> None:
        if self._socket is not None:  # Else it is lost already.
            self._socket.send(_message(streaming.audio_metadata(self.order.subscription, self.order.rate)))
            if self._heard is not None:
                self._heard.opened()
            self.on_writable(True)
        if not again:
            self._plane.add(self.row)
            self._wake()
        self._tell(StreamUp(self.order.stream, again))

    def _down(self, failure: str, detail: str) -> None:
        self._tell(StreamDown(self.order.stream, failure, detail))
        self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._leave()
        self._plane.remove(self.row)
        self.playout.flush()
        self._tell(StreamEnded(self.order.stream, self.stats()))
        self._sent += self.row.sent
        self._ended = True
        # Full collections are rare, so nothing that has ended may stand in a circle: the row has us as its source and
        # sink, and a task that was cancelled has us in its traceback.
        del self.row
        self._leave = alone
        self._task = None

    def stats(self) -> dict[str, int]:
        """Return what was counted: messages and frames unless the name says bytes."""
        self._leave()
        return {
            "sent": self.sent,
            "dropped": self.dropped + len(self._queue),
            "received": self.received,
            "stops": self.stops,
            "played": self.playout.played_frames,
            "skipped": self.playout.skipped_frames,
            "underruns": self.playout.underruns,
            "refused_bytes": self.playout.refused_bytes,
            "ignored_bytes": self.ignored_bytes,
            "faults": self.row.faults,
            **{f"odd: {cause}": count for cause, count in self.oddities.items()},
        }


def _message(text: bytes) -> bytes:
    return websocket.masked(websocket.TEXT, text, os.urandom(websocket.KEY))


class RateWatch:
    """Notices an app that sends 20 ms frames of another sample rate than the stream's.

    A rate cannot be read off PCM. But messages of one odd size, about 50 of them in each second, are 20 ms frames, and
    the size then says which rate the app believes in. Pieces of that size from a burst do not come 50 a second.
    """

    SECONDS = 3  # in a row
    RATES = (8000, 16_000, 24_000, 32_000, 44_100, 48_000)

    def __init__(self, rate: int) -> None:
        self._suspects = {pcm.bytes_per_frame(r): r for r in self.RATES if r != rate}
        self._size = 0
        self._start = 0.0  # of this second
        self._count = 0  # in this second
        self._steady = 0  # seconds

    def saw(self, size: int, now: float) -> int | None:
        """Note a message of `size` bytes; return the rate (Hz) that it speaks of once that is sure."""
        if size not in self._suspects:
            self._size = 0
            return None
        if size != self._size:
            self._size, self._start, self._count, self._steady = size, now, 0, 0
        passed = now - self._start
        if passed >= 1.0:
            steady = passed < 1.2 and 45 <= self._count / passed <= 55
            self._steady = self._steady + 1 if steady else 0
            self._start, self._count = now, 0
        self._count += 1
        if self._steady < self.SECONDS:
            return None
        self._steady = 0
        return self._suspects[size]
