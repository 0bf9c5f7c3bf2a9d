"""One call's audio as the app's code sees it: typed messages in, PCM and StopAudio out.

Bounds. Received and not yet read: 10 s of audio frames per participant, the oldest dropped and counted (`dropped`); a
digit goes only when nothing but digits wait. Sent and not yet taken by the network: `send_audio` waits above 256 KiB,
`send_audio_nowait` refuses above 4 MiB and counts (`refused`).

A `MediaStream` stands on a `Transport`, which is all that ties it to a kind of socket: `offhook.bot.server` has one for
picows, `adapters` for other libraries, `memory` one without any socket. `Connection` is the way in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from offhook.bot.errors import StreamClosed
from offhook.bot.messages import Message
from offhook.bot.pcm import Pcm, pcm_bytes
from offhook.bot.playhead import Playhead, Stop
from offhook.bot.speaker import Speaker
from offhook.wire.streaming import (
    HEARD_QUERY,
    AudioData,
    AudioMetadata,
    HeardData,
    MarkData,
    audio_data_out,
    mark_data_out,
    stop_audio_out,
)

OK, UNSUPPORTED_DATA, INTERNAL_ERROR = 1000, 1003, 1011  # RFC 6455 7.4.1


INBOX_FRAMES = 500  # per participant: 10 s at 50 frames a second
PARTICIPANTS = 4  # an unmixed stream carries at most four (contract 4.2)
WAIT_ABOVE = 256 << 10  # bytes of unsent messages above which `send_audio` waits
REFUSE_ABOVE = 4 << 20  # bytes of unsent messages above which `send_audio_nowait` refuses: a minute of 24 kHz
PIECE = 48_000  # bytes of PCM in one message, a second at 24 kHz: far below the 1 MiB Offhook takes in one message

_log = logging.getLogger(__name__)


class Transport(Protocol):
    """What a `MediaStream` needs of a socket. Its owner tells the stream of messages, back-pressure and the end by
    `Connection.receive`, `pause`, `resume` and `end`."""

    def send(self, message: bytes) -> None:
        """Send one text message (UTF-8) without waiting; keep it while the network is slow. Not called once closed."""

    def unsent(self) -> int:
        """Bytes that are kept because the network is slow; asked only between `pause` and `resume`."""

    def close(self, code: int, reason: str) -> None:
        """Begin to close with a WebSocket close code, after what was sent; more than once does nothing."""

    async def wait_closed(self) -> None:
        """Wait until it is gone. A peer that does not answer a close must not hold this for ever."""


class MediaStream:
    """The audio of one call, both ways, for as long as its socket is open. `serve` makes them; a handler uses one.

    `async for` gives the messages in order of arrival and ends with the socket; one task may read. Everything here
    belongs to the event loop of the server; nothing is safe to call from another thread.
    """

    def __init__(
        self, transport: Transport, metadata: AudioMetadata, headers: Mapping[str, str] | None = None, path: str = "/"
    ) -> None:
        self._transport = transport
        self.metadata = metadata  # the newest: sample rate, bytes per frame
        self.headers = headers or {}  # of the upgrade request, read without regard to case
        self.path = path  # of the upgrade request, with its query
        # The app asked the service to say what was heard, and for its marks to come back (`HeardData`, `MarkData`).
        self.heard_asked = tuple(HEARD_QUERY.split("=")) in parse_qsl(urlsplit(path).query)
        self.dropped = 0  # messages lost because the handler read too slowly
        self.refused = 0  # calls of `send_audio_nowait` that sent nothing
        self.playhead = Playhead()  # of all that was sent, by whichever way
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._speaker: Speaker | None = None
        self._inbox: deque[Message] = deque()
        self._participants: set[str | None] = set()
        self._receiver: Callable[[Message], None] | None = None
        self._waiter: asyncio.Future[None] | None = None  # of the one task that reads, when there is nothing
        self._closed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._sending = asyncio.Lock()
        self._odd = b""  # the first half of a sample whose second half is still to come
        self._stops = 0

    @property
    def call_connection_id(self) -> str:
        """`x-ms-call-connection-id` of the upgrade (contract 4.1); empty when the header was missing."""
        return self.headers.get("x-ms-call-connection-id", "")

    @property
    def correlation_id(self) -> str:
        """`x-ms-call-correlation-id` of the upgrade: `correlationId` of the call's events; empty when missing."""
        return self.headers.get("x-ms-call-correlation-id", "")

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more; what had arrived can still be read."""
        return self._closed.is_set()

    # ---------------------------------------------------------------------------------------------------- hearing

    def __aiter__(self) -> MediaStream:
        return self

    async def __anext__(self) -> Message:
        while not self._inbox:
            if self.closed:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError("another task reads this stream already")
            self._waiter = self._loop.create_future()  # an Event would cost twice as much, 50 times a second
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._inbox.popleft()

    async def deliver(self, receiver: Callable[[Message], None]) -> None:
        """Call `receiver` with every message the moment it is received, until the stream ends; instead of `async for`.

        The lowest delay and cost there is: no task switch, no queue. So `receiver` must be quick; an exception from it
        is logged and closes the stream with 1011.
        """
        while self._inbox:
            receiver(self._inbox.popleft())
        self._receiver = receiver
        try:
            await self._closed.wait()
        finally:
            self._receiver = None

    # --------------------------------------------------------------------------------------------------- speaking

    @property
    def speaker(self) -> Speaker:
        """Speech in real time, that can be interrupted; made when it is first asked for."""
        if self._speaker is None:
            self._speaker = Speaker(self)
        return self._speaker

    async def send_audio(self, pcm: Pcm) -> bool:
        """Speak mono 16-bit PCM of any length at `metadata.sample_rate`; it is queued there and played in real time.

        Bytes are little-endian, an array has samples of int16 (TypeError for others); half a sample at the end is kept
        for the next call. Waits while the network is slow.
        True when all of it was sent; False when `stop_audio` was called meanwhile, and the rest is not sent. Raises
        StreamClosed. Calls from several tasks are sent whole, one after the other.
        """
        if self.closed:
            raise StreamClosed("the stream has ended")
        if len(pcm) <= PIECE and self._writable.is_set() and not self._sending.locked():  # nearly always: no wait
            return self.send_audio_nowait(pcm)
        stops = self._stops
        async with self._sending:
            for piece in self._pieces(pcm) if stops == self._stops else ():
                await self._writable.wait()
                if self.closed:
                    raise StreamClosed("the stream has ended")
                if stops != self._stops:
                    break
                self._send(piece)
        return stops == self._stops

    def send_audio_nowait(self, pcm: Pcm) -> bool:
        """As `send_audio`, without ever waiting: False, and nothing sent, when the stream is closed or 4 MiB wait."""
        if self.closed or (not self._writable.is_set() and self._transport.unsent() > REFUSE_ABOVE):
            self.refused += 1
            return False
        if type(pcm) is bytes and len(pcm) <= PIECE and not (self._odd or len(pcm) & 1):  # nearly always
            self._send(pcm)
            return True
        for piece in self._pieces(pcm):
            self._send(piece)
        return True

    def stop_audio(self) -> Stop:
        """Silence at once: all that was sent and is not yet played is discarded (StopAudio, contract 4.5).

        A `send_audio` still under way ends. What is sent from now on is played. On a closed stream nothing is sent.
        Where a `speaker` is used, its `interrupt` is what is wanted: this leaves what it has queued.
        """
        self._stops += 1
        self._odd = b""
        if not self.closed:
            self._transport.send(stop_audio_out())
        return self.playhead.stop(self._clock(), answer=self.heard_asked and not self.closed)

    def send_mark(self, mark: str) -> None:
        """Mark the end of what was sent so far: `MarkData` comes back when that was heard or discarded (contract 4.8).

        Only where the service offers it; see `OutStreamingData.mark`. Does nothing on a closed stream.
        """
        if not self.closed:
            self._transport.send(mark_data_out(mark))

    async def close(self, code: int = OK, reason: str = "") -> None:
        """Close the socket with a WebSocket close code, and wait for it to be gone."""
        if not self.closed:
            self.end()
            self._transport.close(code, reason)
        await self._transport.wait_closed()

    def _send(self, piece: bytes) -> None:
        rate = self.metadata.sample_rate
        if not rate:
            raise ValueError("this is a transcription socket: it carries no audio")
        self._transport.send(audio_data_out(piece))
        self.playhead.push(len(piece) / (2 * rate), self._clock())

    def _pieces(self, pcm: Pcm) -> list[bytes]:
        data = pcm_bytes(pcm)
        if self._odd or len(data) & 1:
            data = self._odd + data
            whole = len(data) & ~1
            data, self._odd = data[:whole], data[whole:]
        return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]

    # -------------------------------------------------------------------------------------------- the socket's side

    def feed(self, message: Message) -> None:
        """The socket has received a message."""
        if isinstance(message, AudioData):
            if len(self._participants) < PARTICIPANTS:
                self._participants.add(message.participant_raw_id)
        elif isinstance(message, AudioMetadata):
            self.metadata = message
        elif isinstance(message, HeardData):
            self.playhead.answered(message.flushed_ms / 1000)
            return
        elif isinstance(message, MarkData) and self._speaker is not None and self._speaker.marked(message):
            return
        if self._receiver is not None:
            self._give(self._receiver, message)
            return
        if len(self._inbox) >= INBOX_FRAMES * max(1, len(self._participants)):
            self._drop_oldest()
        self._inbox.append(message)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _give(self, receiver: Callable[[Message], None], message: Message) -> None:
        try:
            receiver(message)
        except Exception:
            _log.exception("the receiver of call connection %s failed", self.call_connection_id or "(no id)")
            self._transport.close(INTERNAL_ERROR, "")
            self.end()

    def _drop_oldest(self) -> None:
        audio = (at for at, message in enumerate(self._inbox) if isinstance(message, AudioData))
        del self._inbox[next(audio, 0)]
        self.dropped += 1

    def pause(self) -> None:
        """More than `WAIT_ABOVE` waits to be sent."""
        self._writable.clear()

    def resume(self) -> None:
        """The network has caught up."""
        self._writable.set()

    def end(self) -> None:
        """The socket is closing or gone: wake whoever waits for it."""
        self._closed.set()
        self._wake()
        self._writable.set()
        if self._speaker is not None:
            self._speaker.end()
