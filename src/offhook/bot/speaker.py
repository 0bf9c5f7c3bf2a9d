"""Saying things to the caller in real time, so that an interruption loses little, and knowing what was heard."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Generator
from contextlib import aclosing
from typing import TYPE_CHECKING

from offhook.bot.errors import StreamClosed
from offhook.bot.playhead import Playhead, Stop
from offhook.bot.sources import Source, frames
from offhook.wire.streaming import MarkData

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from offhook.bot.stream import MediaStream

LEAD_S = 0.2  # what is sent ahead of what is heard: what a stall of the app or the network may last unheard
QUEUE = 64  # utterances that may wait for their turn
TOLERANCE_S = 1e-6  # positions are sums of seconds: far below a sample
ANSWER_S = 1.0  # for the service to say what was heard, where it does; then our estimate counts

_MARK = "offhook-"  # begins the ids of our own marks

_log = logging.getLogger(__name__)


class Utterance:
    """One thing that is said. Await it to wait until it was heard: True if to its end, False if it was cut short.

    An error of its source (an async iterator that raises, say) is raised from the await; what was said stays said.
    """

    def __init__(self, frames: AsyncGenerator[bytes, None], playhead: Playhead, clock: Callable[[], float]) -> None:
        self._frames = frames
        self._playhead = playhead
        self._clock = clock
        self._heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._from_s: float | None = None  # its place in what the stream has sent
        self._to_s = 0.0
        self._whole = False  # all of it was sent
        self._stop: Stop | None = None  # what interrupted it
        self._end_s: float | None = None  # where the caller was when it ended otherwise

    def __await__(self) -> Generator[None, None, bool]:
        return asyncio.shield(self._heard).__await__()

    @property
    def done(self) -> bool:
        """It was heard to its end, or cut short."""
        return self._heard.done()

    @property
    def played_ms(self) -> float:
        """How much of it the caller has heard, in milliseconds of audio; see `Speaker.exact`."""
        if self._from_s is None:
            return 0.0
        return 1000 * max(0.0, min(self._position_s(), self._to_s) - self._from_s)

    def _position_s(self) -> float:
        """Where the caller is, or was when it ended. The answer to a stop may still correct that."""
        if self._end_s is not None:
            return self._end_s
        return self._playhead.position_s(self._clock()) if self._stop is None else self._stop.heard_to_s


class Speaker:
    """Says things one after the other, in real time: at most `LEAD_S` (200 ms) ahead of what the caller hears.

        stream.speaker.say(pcm)                          # returns at once
        await stream.speaker.say("greeting.wav")         # waits until it was heard
        await stream.speaker.say(tts(text), rate=22_050)  # as it is made
        lost_ms = await stream.speaker.interrupt()

    Each stream has one, `stream.speaker`. At most 64 utterances wait (`QUEUE`). An async iterator is read only as fast
    as it is said, and no further once it is interrupted.

    How it knows what was heard: by its own clock (`exact` is False), which is early by the way to the service and its
    buffer, 20 to 60 ms; or from Offhook, where the app's transport URL has `?offhook-heard=1`. Then `interrupt` and the
    end of an utterance are as the service says, and `played_ms` between them is within a frame of it. When the service
    owes an answer for 1 s (it is not Offhook, say), the rest of the stream is estimated, and `exact` turns False.
    """

    def __init__(self, stream: MediaStream) -> None:
        self._stream = stream
        self._playhead = stream.playhead
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Utterance] = deque()  # to be sent; the first is being sent
        self._unheard: list[Utterance] = []  # all that are not done, in order
        self._marks: dict[str, tuple[float, Utterance | None]] = {}  # id: position; the utterance that ends there
        self._marked = 0
        self._exact = stream.heard_asked
        self._sending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the one above, and cancelled ones that still close their source

    @property
    def exact(self) -> bool:
        """What was heard is known from the service; False: it is estimated. See the class."""
        return self._exact

    @property
    def played_ms(self) -> float:
        """What the caller has heard of all that this stream has sent, in milliseconds of audio."""
        return 1000 * self._playhead.heard_s(self._loop.time())

    @property
    def speaking(self) -> bool:
        """Something said is still to be heard."""
        return bool(self._unheard)

    def say(self, source: Source, rate: int | None = None) -> Utterance:
        """Say something after what was said before; return at once, with what can be awaited.

        `source`: mono 16-bit little-endian PCM as bytes or int16 array, a WAV file as bytes or path (read here and
        now), or an async iterator of PCM in pieces of any size. `rate`: of PCM in Hz, from 8000 to 48000, by default
        the stream's; WAV files say their own. Another rate than the stream's is converted.

        Raises StreamClosed; asyncio.QueueFull when 64 wait; ValueError for a rate or a WAV file that cannot be said;
        TypeError for what is no source; OSError for a file that cannot be read.
        """
        if self._stream.closed:
            raise StreamClosed("the stream has ended")
        if len(self._waiting) >= QUEUE:
            raise asyncio.QueueFull(f"{QUEUE} utterances wait already")
        stream_rate = self._stream.metadata.sample_rate
        if not stream_rate:
            raise ValueError("this is a transcription socket: it carries no audio")
        utterance = Utterance(frames(source, rate, stream_rate), self._playhead, self._loop.time)
        self._waiting.append(utterance)
        self._unheard.append(utterance)
        if self._sending is None:
            self._sending = self._loop.create_task(self._send_all())
            self._tasks.add(self._sending)
            self._sending.add_done_callback(self._tasks.discard)
        return utterance

    async def interrupt(self) -> int:
        """Silence at once; return how many milliseconds of what was sent the caller did not hear.

        StopAudio is sent before this waits for anything; all utterances end, and those that wait are not said (nor
        counted here). It waits only while `exact`, for the service's answer, 1 s at most. Being cancelled changes
        nothing.
        """
        ended = list(self._unheard)
        self._cancel()
        stop = self._stream.stop_audio()
        for utterance in ended:
            utterance._stop = utterance._stop or stop
        try:
            if self._exact and not self._stream.closed:
                await self._answered(stop)
        finally:
            self._cut(ended)
        return round(1000 * stop.flushed_s)

    async def drained(self) -> None:
        """Wait until all that was said has been heard or cut short, what is said meanwhile included."""
        while self._unheard:
            await asyncio.wait([self._unheard[-1]._heard])

    # ----------------------------------------------------------------------------------------------------- sending

    async def _send_all(self) -> None:
        me = asyncio.current_task()
        while self._waiting and self._sending is me:
            utterance = self._waiting[0]
            try:
                await self._send(utterance)
            except Exception as error:  # of its source, or the stream has ended
                self._fail(utterance, error)
            if self._sending is me:
                self._waiting.popleft()
        if self._sending is me:
            self._sending = None

    async def _send(self, utterance: Utterance) -> None:
        playhead, clock, me = self._playhead, self._loop.time, asyncio.current_task()
        async with aclosing(utterance._frames) as said:
            async for frame in said:
                await asyncio.sleep(max(0.0, playhead.ahead_s(clock()) - LEAD_S))
                if self._sending is not me:  # the source outlived a cancellation
                    return
                first = utterance._from_s is None
                if first:
                    utterance._from_s = utterance._to_s = playhead.sent_s
                await self._stream.send_audio(frame)
                utterance._to_s = playhead.sent_s
                if first and self._exact:  # from here on our clock is the service's
                    self._mark(None)
        utterance._whole = True
        in_s = playhead.ahead_s(clock())
        if self._exact:
            self._mark(utterance)
            self._loop.call_later(in_s + ANSWER_S, self._unanswered, utterance)
        else:
            self._loop.call_later(in_s, self._done, utterance)

    def _done(self, utterance: Utterance) -> None:
        """It was heard to its end, unless it was cut short before."""
        if not utterance.done:
            utterance._end_s = utterance._to_s
            self._cut([utterance])

    def _cut(self, utterances: list[Utterance]) -> None:
        """They end where the caller is."""
        for utterance in utterances:
            if not utterance.done:
                self._unheard.remove(utterance)
                position_s = utterance._position_s()
                if utterance._stop is None:
                    utterance._end_s = position_s
                utterance._heard.set_result(utterance._whole and position_s >= utterance._to_s - TOLERANCE_S)

    def _fail(self, utterance: Utterance, error: Exception) -> None:
        if not utterance.done:
            self._unheard.remove(utterance)
            utterance._end_s = utterance._to_s  # what was sent of it is still heard
            utterance._heard.set_exception(error)

    def _cancel(self) -> None:
        self._waiting.clear()
        self._marks.clear()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    # ------------------------------------------------------------------------------------------ the service's word

    def _mark(self, ends: Utterance | None) -> None:
        self._marked += 1
        mark = f"{_MARK}{self._marked}"
        self._marks[mark] = self._playhead.sent_s, ends
        self._stream.send_mark(mark)

    def marked(self, message: MarkData) -> bool:
        """A mark has come back; False if it is none of ours."""
        if not message.id.startswith(_MARK):
            return False
        position_s, utterance = self._marks.pop(message.id, (0.0, None))
        if message.status == "Completed" and position_s:
            self._playhead.reached(position_s, self._loop.time())
            if utterance is not None:
                self._done(utterance)
        return True

    def _unanswered(self, utterance: Utterance) -> None:
        if not utterance.done:
            self._estimate()
            self._done(utterance)

    async def _answered(self, stop: Stop) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await stop.answered.wait()
        except TimeoutError:
            self._estimate()

    def _estimate(self) -> None:
        self._marks.clear()
        if self._exact:
            self._exact = False
            _log.warning("the service does not say what was heard, though the URL asks for it: it is estimated")

    def end(self) -> None:
        """The stream has ended: nothing more is said, and no answer will come."""
        self._cancel()
        self._playhead.end()
        self._cut(list(self._unheard))
