"""From raw messages to a `MediaStream` and its handler: what every kind of socket has in common."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from offhook.bot.errors import StreamClosed
from offhook.bot.messages import Message, StreamingData
from offhook.bot.stream import INTERNAL_ERROR, OK, UNSUPPORTED_DATA, MediaStream, Transport
from offhook.wire.streaming import AudioData, AudioMetadata, Ignored, TranscriptionMetadata

RATES = range(8_000, 48_001, 50)  # Hz: what a stream may have; ACS has 16000 and 24000 (contract 2.4)
_FRAMES_PER_S = 50

Handler = Callable[[MediaStream], Awaitable[None]]

_log = logging.getLogger(__name__)


class Connection:
    """The way in of one socket. The first message that tells the rate makes the stream; `opened` is called with it.

    What cannot be read is ignored, and said once. Audio that is not mono of 8 to 48 kHz closes the socket with 1003.
    """

    def __init__(
        self, transport: Transport, headers: Mapping[str, str], path: str, opened: Callable[[MediaStream], None]
    ) -> None:
        self.stream: MediaStream | None = None
        self._transport = transport
        self._headers = headers
        self._path = path
        self._opened = opened
        self._paused = False
        self._over = False
        self._complained = False

    def receive(self, data: bytes | bytearray | memoryview | str) -> None:
        """One whole message has come; a view needs to be valid during the call only."""
        message = StreamingData.parse(data)
        if type(message) is AudioData and self.stream is not None:  # nearly always
            self.stream.feed(message)
        elif isinstance(message, Ignored):
            if not self._complained:
                self._complained = True
                _log.warning("a message that cannot be read is ignored, as are all later ones: %s", message.cause)
        elif not self._over:
            self._receive_other(message)

    def _receive_other(self, message: Message) -> None:
        metadata = _metadata(message) if self.stream is None or isinstance(message, AudioMetadata) else None
        if metadata is not None and not _playable(metadata, message):
            self.end()
            self._transport.close(UNSUPPORTED_DATA, "only mono audio of 8 to 48 kHz is taken")
        elif self.stream is not None:
            self.stream.feed(message)
        elif metadata is not None:
            self.stream = MediaStream(self._transport, metadata, self._headers, self._path)
            if self._paused:
                self.stream.pause()
            self.stream.feed(message)
            self._opened(self.stream)

    def pause(self) -> None:
        """More than `WAIT_ABOVE` bytes wait to be sent."""
        self._paused = True
        if self.stream is not None:
            self.stream.pause()

    def resume(self) -> None:
        """The network has caught up."""
        self._paused = False
        if self.stream is not None:
            self.stream.resume()

    def end(self) -> None:
        """The socket is closing or gone."""
        self._over = True
        if self.stream is not None:
            self.stream.end()


async def run(handler: Handler, stream: MediaStream) -> None:
    """Run a handler to its end and close its stream: with 1000, or with 1011 when it raised, which is logged.

    `StreamClosed` is the usual end of a handler that only speaks.
    """
    code = OK
    try:
        await handler(stream)
    except StreamClosed:
        pass
    except Exception:
        _log.exception("the handler of call connection %s failed", stream.call_connection_id or "(no id)")
        code = INTERNAL_ERROR
    await end(stream, code)


async def end(stream: MediaStream, code: int) -> None:
    """The handler has ended: close its stream."""
    if stream.dropped:
        _log.warning("the handler read too slowly: %d messages were dropped", stream.dropped)
    await stream.close(code)


def _metadata(first: Message) -> AudioMetadata | None:
    """What the first message says of the stream. It should be AudioMetadata (contract 4.2); where it is audio, the rate
    follows from a frame being 20 ms. A transcription socket has no rate. A digit says nothing."""
    match first:
        case AudioMetadata():
            return first
        case AudioData(pcm=pcm) if pcm:
            rate = len(pcm) // 2 * _FRAMES_PER_S
            return AudioMetadata(subscription_id="", encoding="PCM", sample_rate=rate, channels=1, length=len(pcm))
        case TranscriptionMetadata(subscription_id=subscription):
            return AudioMetadata(subscription_id=subscription, encoding="", sample_rate=0, channels=1, length=0)
    return None


def _playable(metadata: AudioMetadata, message: Message) -> bool:
    if isinstance(message, TranscriptionMetadata):
        return True
    return metadata.sample_rate in RATES and metadata.channels == 1
