"""One call's audio as the app's code sees it: typed messages in, PCM and StopAudio out.

Bounds. Received and not yet read: 10 s of audio frames per participant, the oldest dropped and counted (`dropped`); a
digit goes only when nothing but digits wait. Sent and not yet taken by the network: `send_audio` waits above 256 KiB,
`send_audio_nowait` refuses above 4 MiB and counts (`refused`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from picows import WSCloseCode, WSMsgType, WSTransport

from offhook.wire.streaming import AudioData, AudioMetadata, DtmfData, audio_data_out, stop_audio_out

Message = AudioMetadata | AudioData | DtmfData
Pcm = bytes | bytearray | memoryview | NDArray[np.int16]

INBOX_FRAMES = 500  # per participant: 10 s at 50 frames a second
PARTICIPANTS = 4  # an unmixed stream carries at most four (contract 4.2)
WAIT_ABOVE = 256 << 10  # bytes of unsent messages above which `send_audio` waits
REFUSE_ABOVE = 4 << 20  # bytes of unsent messages above which `send_audio_nowait` refuses: a minute of 24 kHz
PIECE = 48_000  # bytes of PCM in one message, a second at 24 kHz: far below the 1 MiB Offhook takes in one message
CLOSE_TIMEOUT_S = 2.0  # for the other side to answer a close


class StreamClosed(ConnectionError):
    """Audio was sent into a stream that has ended."""


class MediaStream:
    """The audio of one call, both ways, for as long as its socket is open. `serve` makes them; a handler uses one.

    `async for` gives the messages in order of arrival and ends with the socket. Everything here belongs to the event
    loop of the server; nothing is safe to call from another thread.
    """

    def __init__(self, transport: WSTransport, metadata: AudioMetadata, headers: Mapping[str, str], path: str) -> None:
        self._transport = transport
        self.metadata = metadata  # the newest: sample rate, bytes per frame
        self.headers = headers  # of the upgrade request, read without regard to case
        self.path = path  # of the upgrade request, with its query
        self.dropped = 0  # messages lost because the handler read too slowly
        self.refused = 0  # calls of `send_audio_nowait` that sent nothing
        self._inbox: deque[Message] = deque()
        self._participants: set[str | None] = set()
        self._receiver: Callable[[Message], None] | None = None
        self._arrived = asyncio.Event()
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
            self._arrived.clear()
            await self._arrived.wait()
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

    async def send_audio(self, pcm: Pcm) -> bool:
        """Speak mono 16-bit PCM of any length at `metadata.sample_rate`; it is queued there and played in real time.

        Bytes are little-endian; half a sample at the end is kept for the next call. Waits while the network is slow.
        True when all of it was sent; False when `stop_audio` was called meanwhile, and the rest is not sent. Raises
        StreamClosed. Calls from several tasks are sent whole, one after the other.
        """
        stops = self._stops
        async with self._sending:
            for piece in self._pieces(pcm) if stops == self._stops else ():
                await self._writable.wait()
                if self.closed:
                    raise StreamClosed("the stream has ended")
                if stops != self._stops:
                    break
                self._transport.send(WSMsgType.TEXT, audio_data_out(piece))
        return stops == self._stops

    def send_audio_nowait(self, pcm: Pcm) -> bool:
        """As `send_audio`, without ever waiting: False, and nothing sent, when the stream is closed or 4 MiB wait."""
        if self.closed or (not self._writable.is_set() and self._unsent() > REFUSE_ABOVE):
            self.refused += 1
            return False
        for piece in self._pieces(pcm):
            self._transport.send(WSMsgType.TEXT, audio_data_out(piece))
        return True

    def stop_audio(self) -> None:
        """Silence at once: all that was sent and is not yet played is discarded (StopAudio, contract 4.5).

        A `send_audio` still under way ends. What is sent from now on is played. Does nothing on a closed stream.
        """
        self._stops += 1
        self._odd = b""
        if not self.closed:
            self._transport.send(WSMsgType.TEXT, stop_audio_out())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket with a WebSocket close code, and wait for it to be gone: 2 s at most, then it is cut."""
        if not self.closed:
            self.end()
            self._transport.send_close(WSCloseCode(code), reason)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._transport.wait_disconnected()
        except TimeoutError:
            self._transport.disconnect(graceful=False)

    def _pieces(self, pcm: Pcm) -> list[bytes]:
        data = pcm.astype("<i2").tobytes() if isinstance(pcm, np.ndarray) else bytes(pcm)
        if self._odd or len(data) & 1:
            data = self._odd + data
            whole = len(data) & ~1
            data, self._odd = data[:whole], data[whole:]
        return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]

    def _unsent(self) -> int:
        return self._transport.underlying_transport.get_write_buffer_size()

    # -------------------------------------------------------------------------------------------- the socket's side

    def feed(self, message: Message) -> None:
        """The socket has received a message."""
        if isinstance(message, AudioMetadata):
            self.metadata = message
        elif isinstance(message, AudioData) and len(self._participants) < PARTICIPANTS:
            self._participants.add(message.participant_raw_id)
        if self._receiver is not None:
            self._receiver(message)
            return
        if len(self._inbox) >= INBOX_FRAMES * max(1, len(self._participants)):
            self._drop_oldest()
        self._inbox.append(message)
        self._arrived.set()

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
        self._arrived.set()
        self._writable.set()
