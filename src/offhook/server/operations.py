"""What media operations want done: sources are made into clips, workers play, listen and press, timers run.

Fetching, synthesis and recognition are the studio's, and take their time: each is a task of this process, whose result
comes back as a report. When control is killed such tasks are gone with it; the next control process prepares anew
what was being prepared, and gives up on speech that was being recognised: the audio was only here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from offhook.call import messages as m
from offhook.call import operation_messages as o
from offhook.call.operations import Failure, Operation, OperationKind, OperationState, Problem
from offhook.call.prompts import Source
from offhook.media import link, tidings
from offhook.server.adoption import INTERRUPTED
from offhook.server.records import CallRecord
from offhook.server.studio import StudioError
from offhook.speech.values import Recognition

log = logging.getLogger(__name__)


class StudioLike(Protocol):
    """Where clips are made and speech is recognised: `server.studio`, or the one of tests. Raises `StudioError`."""

    def warm_up(self) -> None:
        """A text is likely to be said soon."""

    async def clip(self, source: Source) -> Path:
        """Return a WAV file with the sound of `source`, kept until `release`."""

    async def hold_music(self) -> Path:
        """Return the default music, kept until `release`."""

    def release(self, path: Path) -> None:
        """A clip that was asked for is not needed any more."""

    async def recognise(self, pcm: bytes, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """Return what is said in 16 kHz PCM, limited to `phrases` if there are any."""


class Operations:
    """Must be made on a running event loop. `submit` takes reports, `wall` gives Unix time in seconds."""

    def __init__(
        self, studio: StudioLike, submit: Callable[[CallRecord, m.Message], None], wall: Callable[[], float]
    ) -> None:
        self._studio = studio
        self._submit = submit
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._records: dict[str, CallRecord] = {}  # by operation, as long as a worker may tell something of it
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by operation
        self._clips: dict[str, list[Path]] = {}  # that are kept for an operation
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}  # by operation and name

    def carry_out(self, record: CallRecord, effect: o.Effect) -> None:
        match effect:
            case o.RouteParty(party, muted, on_hold):
                record.worker.send(link.RouteParty(record.data.id, party, muted, on_hold))
            case o.StopPlay(id):
                record.worker.send(link.StopPlay(id))
            case o.StopListening(id):
                record.worker.send(link.StopListening(id))
            case o.Release(id):
                self._release(id)
            case _ if (operation := record.data.operations.get(effect.operation)) is not None:
                self._records[operation.id] = record
                self._further(record, operation, effect)

    def _further(self, record: CallRecord, operation: Operation, effect: o.Effect) -> None:
        id = operation.id
        match effect:
            case o.Prepare():
                self._prepare(record, operation)
            case o.StartPlay(_, clips):
                by = record.data.connections[operation.connection].party
                record.worker.send(link.StartPlay(id, record.data.id, by, clips, operation.to, operation.loop))
            case o.Listen():
                silence = operation.options.end_silence_ms
                record.worker.send(link.Listen(id, record.data.id, operation.to[0], silence))
            case o.Recognise(_, pcm):
                self._begin(id, self._recognise(record, operation, pcm))
            case o.PressTones(_, leg):
                record.home(leg).send(link.SendDigits(leg, operation.tones, id))
            case o.SetTimer(_, timer, seconds):
                operation.deadlines[timer] = self._wall() + seconds
                self._set_timer(record, operation, timer, seconds)
            case o.StopTimer(_, timer):
                self._stop_timer(id, timer)
                operation.deadlines.pop(timer, None)

    def expect_texts(self) -> None:
        """An app has said that it will have texts said: what that takes is made ready."""
        self._studio.warm_up()

    def on_tiding(self, tiding: tidings.Tiding) -> None:
        """Report what a worker tells of an operation; what is about something else is ignored."""
        match tiding:
            case tidings.PlayBegan(id):
                self._report(id, o.PlayBegan(id))
            case tidings.PlayEnded(id, -1, _):
                self._report(id, o.PlayEnded(id))
            case tidings.PlayEnded(id, failed, failure):
                self._report(id, o.PlayEnded(id, Failure(Problem.FORMAT, failure, failed)))
            case tidings.SpeechBegan(id):
                self._report(id, o.SpeechBegan(id))
            case tidings.SpeechEnded(id, pcm, truth):
                self._report(id, o.SpeechEnded(id, pcm, truth))
            case tidings.DigitsSent(_, id, failure):
                self._report(id, o.TonesSent(id, failure))

    def adopt(self, record: CallRecord) -> None:
        """Go on with the operations of a call that the control process before this one had."""
        for operation in record.data.operations.values():
            self._records[operation.id] = record
            for timer, at in operation.deadlines.items():
                self._set_timer(record, operation, timer, max(0.0, at - self._wall()))
            if operation.state is OperationState.PREPARING:
                self._prepare(record, operation)
            elif operation.state is OperationState.RECOGNISING:
                lost = Failure(Problem.SPEECH_SERVICE, INTERRUPTED)
                self._loop.call_soon(self._report, operation.id, o.RecognitionFailed(operation.id, lost))

    async def close(self) -> None:
        """Stop whatever is on its way."""
        tasks = list(self._tasks.values())
        for id in [*self._records]:
            self._release(id)
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------------ clips

    def _prepare(self, record: CallRecord, operation: Operation) -> None:
        if operation.failure is not None:  # What it was to play was too long to be kept (`adoption.encode`).
            self._loop.call_soon(self._submit, record, o.Prepared(operation.id, (), operation.failure))
        elif operation.sources or operation.kind is OperationKind.HOLD:
            self._begin(operation.id, self._make_clips(record, operation))
        else:
            self._submit(record, o.Prepared(operation.id, ()))

    async def _make_clips(self, record: CallRecord, operation: Operation) -> None:
        clips = self._clips.setdefault(operation.id, [])
        failure = None
        try:
            for source in operation.sources:
                clips.append(await self._studio.clip(source))
            if not operation.sources:
                clips.append(await self._studio.hold_music())
        except Exception as error:
            failure = _failure(error, len(clips))
        self._submit(record, o.Prepared(operation.id, tuple(map(str, clips)), failure))

    # ------------------------------------------------------------------------------------------ speech

    async def _recognise(self, record: CallRecord, operation: Operation, pcm: bytes) -> None:
        options = operation.options
        phrases = tuple(phrase for choice in options.choices for phrase in choice.phrases)
        report: o.Report
        try:
            if not pcm:
                raise StudioError("failed", "so much was said at once that this could not wait")
            heard = await self._studio.recognise(pcm, options.locale, phrases)
            report = o.Recognised(operation.id, heard.text, heard.confidence)
        except Exception as error:
            report = o.RecognitionFailed(operation.id, _failure(error, None))
        self._submit(record, report)

    # ------------------------------------------------------------------------------------------ what is held

    def _begin(self, operation: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[operation] = self._loop.create_task(work)

        def done(task: asyncio.Task[None]) -> None:
            if self._tasks.get(operation) is task:
                del self._tasks[operation]

        task.add_done_callback(done)

    def _report(self, operation: str, report: o.Report) -> None:
        if (record := self._records.get(operation)) is not None:
            self._submit(record, report)

    def _set_timer(self, record: CallRecord, operation: Operation, timer: str, seconds: float) -> None:
        self._stop_timer(operation.id, timer)
        self._timers[operation.id, timer] = self._loop.call_later(seconds, self._time_out, record, operation, timer)

    def _stop_timer(self, operation: str, timer: str) -> None:
        if (handle := self._timers.pop((operation, timer), None)) is not None:
            handle.cancel()

    def _time_out(self, record: CallRecord, operation: Operation, timer: str) -> None:
        del self._timers[operation.id, timer]
        operation.deadlines.pop(timer, None)
        self._submit(record, o.TimedOut(operation.id, timer))

    def _release(self, operation: str) -> None:
        self._records.pop(operation, None)
        for key in [key for key in self._timers if key[0] == operation]:
            self._stop_timer(*key)
        if (task := self._tasks.get(operation)) is not None:
            task.cancel()
        for clip in self._clips.pop(operation, ()):
            self._studio.release(clip)


_PROBLEMS = {  # by StudioError.kind
    "format": Problem.FORMAT,
    "download": Problem.DOWNLOAD,
    "empty": Problem.EMPTY,
    "unsupported": Problem.UNSUPPORTED,
    "failed": Problem.SPEECH_SERVICE,
}


def _failure(error: Exception, index: int | None) -> Failure:
    if isinstance(error, StudioError):
        return Failure(_PROBLEMS[error.kind], str(error), index)
    log.error("a media operation failed", exc_info=error)  # An operation that says nothing would never end.
    return Failure(Problem.SPEECH_SERVICE, "internal error", index)
