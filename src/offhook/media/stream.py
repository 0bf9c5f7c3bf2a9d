"""One connection's audio WebSocket to its app: a row of the plane on one side, a socket on the other.

It dials, sends AudioMetadata first on every connection, passes the plane's messages on, takes the app's audio into its
`Playout`, and dials again when the socket is lost. Bounds: at most `QUEUE` messages (1 s) wait for a slow or lost
socket, the oldest are dropped and counted; the kernel holds about a quarter of a second more (`dial.SEND_BUFFER`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from offhook.audio import pcm
from offhook.audio.playout import Playout
from offhook.media.dial import AppSocket, Dial, DialError
from offhook.media.link import OpenStream, StreamDown, StreamEnded, StreamOddity, StreamUp, Tiding
from offhook.media.plane import Plane, Row
from offhook.wire import streaming

QUEUE = 50  # messages: 1 s of a mixed stream
OPENING_TRIES = (0.0, 1.0, 3.0)  # seconds from the first try (ACS's own are unknown: contract 7.3)
REOPENING_TRIES = (0.0, 0.5, 1.5, 3.5, 7.0, 15.0)  # at once, then five within 15 s
SHORT_LIVED_S = 5.0  # a socket that lasted less does not earn a fresh set of tries


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
        self.row = Row(order.call, order.party, order.rate, self, self, stream=True, unmixed=order.unmixed)
        self._socket: AppSocket | None = None
        self._writable = False
        self._queue: deque[bytes] = deque()
        self._lost: asyncio.Future[tuple[bool, str]] = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._rates = RateWatch(order.rate)
        self._ended = False
        self.sent = self.dropped = self.received = self.ignored_bytes = self.stops = 0
        self.oddities: dict[str, int] = {}

    # ------------------------------------------------------------------------------------------ the plane's side

    def poll(self, now: float) -> bytes | None:
        """Source: one frame of what the app wants heard."""
        return self.playout.pull(now)

    def send(self, message: bytes) -> None:
        """Sink: pass one message on, or queue it while the socket is slow or away."""
        if self._writable and not self._queue:
            assert self._socket is not None
            self._socket.send(message)
            self.sent += 1
            return
        if len(self._queue) >= QUEUE:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(message)

    def send_digit(self, tone: str) -> None:
        """Tell the app of one DTMF tone of another party, if it asked for them."""
        if self.order.dtmf:
            self.send(streaming.dtmf_data(tone))

    # ------------------------------------------------------------------------------------------ the socket's side

    def on_message(self, message: memoryview) -> None:
        self.received += 1
        match streaming.parse(message):
            case streaming.Audio(pcm=audio):
                self._on_audio(audio)
            case streaming.StopAudio():
                self.stops += 1
                self.playout.flush()
            case streaming.Ignored(cause=cause):
                self._odd(cause, "the app sent a message that is ignored; see docs/wire.md for the forms that are read")

    def _on_audio(self, audio: bytes) -> None:
        if not self.order.bidirectional:
            self.ignored_bytes += len(audio)
            self._odd("not bidirectional", "the app sends audio, but the stream was opened without enableBidirectional")
            return
        now = self._loop.time()
        if (suspect := self._rates.saw(len(audio), now)) is not None:
            detail = f"frames look like {suspect} Hz, the stream is {self.order.rate} Hz: it sounds fast or slow"
            self._odd("wrong sample rate", detail)
        if self.playout.push(audio, now) < len(audio):
            self._odd("playout full", "more than 10 minutes of audio wait to be played; what comes now is refused")

    def on_too_large(self, size: int) -> None:
        self._odd("too large", f"a message of {size} bytes; at most 1 MiB is read")

    def on_writable(self, writable: bool) -> None:
        self._writable = writable
        while self._writable and self._queue and self._socket is not None:
            self._socket.send(self._queue.popleft())
            self.sent += 1

    def on_closed(self, clean: bool, detail: str) -> None:
        self._writable = False
        self._socket = None
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
        """Leave the plane, send what is queued if the socket takes it, close with 1000."""
        if self._task is not None:
            self._task.cancel()
        socket, self._socket, self._writable = self._socket, None, False
        if socket is not None:
            socket.close(1000)
        self._end()

    async def _run(self) -> None:
        again = False
        tries: Sequence[float] = OPENING_TRIES
        short_lived = 0
        while True:
            try:
                await self._open(tries)
            except DialError as error:
                self._down("interrupted" if again else error.failure, error.detail)
                return
            opened = self._loop.time()
            self._up(again)
            clean, detail = await self._lost
            if clean:
                self._down("closed", detail)
                return
            # An app that accepts the socket and drops it at once gets no endless row of new ones.
            short_lived = short_lived + 1 if self._loop.time() - opened < SHORT_LIVED_S else 0
            if short_lived >= len(REOPENING_TRIES):
                self._down("interrupted", f"{detail}, {short_lived} times in a row")
                return
            self.playout.flush()  # What was queued belongs to a conversation that the app has lost.
            again, tries = True, REOPENING_TRIES[short_lived:]

    async def _open(self, tries: Sequence[float]) -> None:
        """Dial until it works; raise the last `DialError` when it did not, or one that no other try would help."""
        order = self.order
        headers = {
            "Authorization": f"Bearer {order.token}",
            "x-ms-call-connection-id": order.connection,
            "x-ms-call-correlation-id": order.correlation,
        }
        begun = self._loop.time()
        for number, at in enumerate(tries, 1):
            await asyncio.sleep(max(0.0, begun + at - self._loop.time()))
            self._lost = self._loop.create_future()
            try:
                self._socket = await self._dial(order.url, headers, self)
            except DialError as error:
                if error.final or number == len(tries):
                    raise
            else:
                return

    def _up(self, again: bool) -> None:
        socket = self._socket
        if socket is None or self._lost.done():  # It was closed again before we could look.
            return
        socket.send(streaming.audio_metadata(self.order.subscription, self.order.rate))
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
        self._ended = True
        self._plane.remove(self.row)
        self.playout.flush()
        self._tell(StreamEnded(self.order.stream, self.stats()))

    def stats(self) -> dict[str, int]:
        """Return what was counted: messages and frames unless the name says bytes."""
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


class RateWatch:
    """Notices an app that sends 20 ms frames of another sample rate than the stream's.

    A rate cannot be read off PCM, but an app that sends a message of the same odd size about 50 times a second means
    20 ms frames, and the size then says which rate it believes in. Looked at over 3 s.
    """

    WINDOW_S = 3.0
    RATES = (8000, 16_000, 24_000, 32_000, 44_100, 48_000)

    def __init__(self, rate: int) -> None:
        self._suspects = {pcm.bytes_per_frame(r): r for r in self.RATES if r != rate}
        self._size = 0
        self._count = 0
        self._since = 0.0

    def saw(self, size: int, now: float) -> int | None:
        """Note a message of `size` bytes; return the rate it speaks of once that is sure."""
        if size != self._size:
            self._size, self._count, self._since = size, 0, now
        self._count += 1
        if size not in self._suspects or now - self._since < self.WINDOW_S:
            return None
        per_second = self._count / (now - self._since)
        self._count, self._since = 0, now
        return self._suspects[size] if 45 <= per_second <= 55 else None
