"""A handler without a socket: the service's end of a stream in memory, for tests and on virtual time.

    async def test() -> None:
        async with MemorySocket(handler, rate=16_000) as service:
            service.audio(tone)            # what the caller says
            await asyncio.sleep(1)
            assert service.heard == tone   # what the app sent back

    offhook.testing.clock.run(test())

Nothing here keeps time or plays audio: that is the service, which `offhook.testing` has in memory, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pybase64

from offhook.audio.frames import bytes_per_frame
from offhook.bot.connection import Connection, Handler, run
from offhook.bot.stream import MediaStream
from offhook.wire import streaming

HANDLER_TIMEOUT_S = 5.0  # for the handler to return when the service has closed


class MemorySocket:
    """The service's end of one connection to `handler`; also an async context manager that closes it.

    `messages` is all that the app sent, as it was sent. `on_message`, when set, is called with each instead of keeping
    it, and `on_close` with the code that the app closes with: with these two it carries any service. `rate` in Hz: send
    AudioMetadata at once; None: whoever drives `receive` does. Unread messages are not bounded.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        rate: int | None = None,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        on_message: Callable[[bytes], None] | None = None,
        on_close: Callable[[int], None] | None = None,
    ) -> None:
        self.messages: list[bytes] = []
        self.close_code: int | None = None  # what the app closed with
        self._handler = handler
        self._on_message = on_message or self.messages.append
        self._on_close = on_close
        self._rate = rate or 0
        self._gone = asyncio.Event()
        self._handling: asyncio.Task[None] | None = None
        self._connection = Connection(self, {k.lower(): v for k, v in (headers or {}).items()}, path, self._opened)
        if rate is not None:
            self.receive(streaming.audio_metadata("memory", rate))

    @property
    def stream(self) -> MediaStream | None:
        """The stream that the handler has; None before the first message that tells the rate."""
        return self._connection.stream

    @property
    def heard(self) -> bytes:
        """The PCM of all audio that the app sent, whatever was stopped."""
        parsed = map(streaming.parse, self.messages)
        return b"".join(message.pcm for message in parsed if isinstance(message, streaming.Audio))

    @property
    def stops(self) -> int:
        """How many StopAudio the app sent."""
        return sum(isinstance(streaming.parse(message), streaming.StopAudio) for message in self.messages)

    # -------------------------------------------------------------------------------------- what the service does

    def receive(self, message: bytes | memoryview | str) -> None:
        """The app receives one raw message; nothing once the socket is closed."""
        if not self._gone.is_set():
            self._connection.receive(message)

    def audio(self, pcm: bytes, participant: str | None = None) -> None:
        """The app receives PCM of any length at `rate`, in frames of 20 ms; all at once, whatever its length.

        Silence of a whole frame is flagged. `participant` is a raw id in an unmixed stream.
        """
        envelope = streaming.AudioEnvelope(participant)
        size = bytes_per_frame(self._rate)
        for at in range(0, len(pcm), size):
            frame = pcm[at : at + size].ljust(size, b"\0")
            time = streaming.timestamp(asyncio.get_running_loop().time())
            text = pybase64.b64encode(frame)
            tail = streaming.TAIL[not any(frame)]
            self.receive(b"".join((envelope.head, time, envelope.middle, text, tail)))

    def dtmf(self, tone: str) -> None:
        """The app receives a digit."""
        self.receive(streaming.dtmf_data(tone))

    def full(self, is_full: bool) -> None:
        """The network takes nothing for now, or takes everything again."""
        if is_full:
            self._connection.pause()
        else:
            self._connection.resume()

    async def hang_up(self) -> None:
        """Close as the service does at the end of a call; wait for the handler, which is cancelled after 5 s.

        An exception of the handler has been logged, and is not raised here.
        """
        self._end()
        if self._handling is not None:
            await asyncio.wait([self._handling], timeout=HANDLER_TIMEOUT_S)
            self._handling.cancel()
            await asyncio.gather(self._handling, return_exceptions=True)

    async def __aenter__(self) -> MemorySocket:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.hang_up()

    def _opened(self, stream: MediaStream) -> None:
        self._handling = asyncio.get_running_loop().create_task(run(self._handler, stream))

    def _end(self) -> None:
        self._gone.set()
        self._connection.end()

    # ------------------------------------------------------------------------------------------- as a `Transport`

    def send(self, message: bytes) -> None:
        """The app sends."""
        self._on_message(message)

    def unsent(self) -> int:
        """Nothing is kept."""
        return 0

    def close(self, code: int, reason: str) -> None:
        """The app closes."""
        if not self._gone.is_set():
            self.close_code = code
            self._end()
            if self._on_close is not None:
                self._on_close(code)

    async def wait_closed(self) -> None:
        """Wait until it is closed, by either side."""
        await self._gone.wait()
