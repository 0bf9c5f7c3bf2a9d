"""Where prompts are made and speech is written down: apart from calls and media, which must not wait for it.

The work is done in processes of their own (`server.sounds`), started when first needed or, for the first text, when an
app is likely to ask for one (`warm_up`), each with one piece of work at a time. One that dies, or takes too long, takes
only what it was doing with it, and another is started.

Bounds: `PROCESSES` at a time; `WAITING` pieces of work, one more is refused; each has `LONGEST_S`; `FILES` of apps are
in memory at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from offhook.call.prompts import Source
from offhook.server import sounds
from offhook.server.clips import Clips
from offhook.server.fetching import Fetch, Stamp
from offhook.server.sounds import PromptError, PromptFault
from offhook.speech.values import Fault, Recognition, SpeechError

log = logging.getLogger(__name__)

PROCESSES = 2
WAITING = 100  # pieces of work, those that are being done included
LONGEST_S = 60.0  # for one of them, waiting not included
FILES = 16  # of 32 MiB at most each
STAMPS = 10_000  # files whose state we remember
NICE = 10  # what a call's audio needs goes before

T = TypeVar("T")


class StudioError(Exception):
    """What was asked for cannot be had. `kind`: format, download, empty, unsupported, or failed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


_KINDS: Mapping[PromptFault | Fault, str] = {
    PromptFault.FORMAT: "format",
    PromptFault.TOO_LARGE: "format",
    PromptFault.DOWNLOAD: "download",
    Fault.EMPTY: "empty",
    Fault.LOCALE: "unsupported",
    Fault.VOICE: "unsupported",
}


@dataclass(frozen=True)
class Engines:
    """Which engines speak and listen, and what each is told."""

    synthesizer: str = "hibari"
    recognizer: str = "pocketsphinx"
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Studio:
    """Make it on the event loop."""

    def __init__(self, clips: Clips, fetch: Fetch, engines: Engines = Engines()) -> None:
        self._clips = clips
        self._fetch = fetch
        self._engines = engines
        self._pools: set[ProcessPoolExecutor] = set()  # of one process each
        self._idle: list[ProcessPoolExecutor] = []
        self._turns = asyncio.Semaphore(PROCESSES)
        self._files = asyncio.Semaphore(FILES)
        self._work: set[asyncio.Task[object]] = set()
        self._warming: asyncio.Task[None] | None = None  # what the first piece of work waits for
        self._stamps: dict[str, Stamp] = {}  # by name of the clip, the oldest first
        self._being_made: dict[Path, asyncio.Lock] = {}

    async def clip(self, source: Source) -> Path:
        """Return a WAV file with the sound of `source`, kept until `release`. Raises `StudioError`."""
        with _told():
            if source.kind == "file":
                # With a cache id a file is fetched once; without, it is asked every time whether it has changed.
                made_of = ("id", source.cache_id) if source.cache_id else ("file", source.uri)
                return await self._kept(self._clips.path(*made_of), partial(self._fetched, source))
            name, options = self._engine(self._engines.synthesizer)
            voice = (source.locale, source.voice_kind, source.voice_name)
            path = self._clips.path(name, repr(sorted(options.items())), *voice, source.kind, source.text, source.ssml)
            return await self._kept(path, partial(self._made, sounds.say, (name, options, source)))

    def warm_up(self) -> None:
        """A text is likely to be said soon: have a process ready for it, unless there is one."""
        if self._pools or self._work:
            return
        self._warming = self._begin(sounds.warm_up, *self._engine(self._engines.synthesizer))

    async def hold_music(self) -> Path:
        """Return the default music, kept until `release`. Raises `StudioError`."""
        with _told():
            return await self._kept(self._clips.path("hold music 1"), partial(self._made, sounds.hold_music, ()))

    def release(self, path: Path) -> None:
        """A clip that was asked for is not needed any more."""
        self._clips.release(path)

    async def recognise(self, pcm: bytes, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """Return what is said in 16 kHz PCM, limited to `phrases` if there are any. Raises `StudioError`."""
        name, options = self._engine(self._engines.recognizer)
        with _told():
            return await self._do(sounds.recognise, name, options, pcm, locale, phrases)

    async def close(self) -> None:
        """Do no more work; what is being done is left undone."""
        for pool in self._pools.difference(self._idle):
            _kill(pool)
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for pool in self._pools:
            await asyncio.to_thread(pool.shutdown)  # A moment: what is left does nothing.
        self._pools.clear()
        self._idle.clear()

    def _engine(self, name: str) -> tuple[str, dict[str, str]]:
        return name, dict(self._engines.options.get(name, {}))

    # ------------------------------------------------------------------------------------------ clips

    async def _kept(self, path: Path, make: Callable[[Path, bool], Awaitable[None]]) -> Path:
        """Lease a clip, and let `make(path, whether it is there)` see to it. Two who want the same make it once."""
        if len(self._being_made) > WAITING:
            self._being_made = {path: lock for path, lock in self._being_made.items() if lock.locked()}
        self._clips.lease(path)
        try:
            async with self._being_made.setdefault(path, asyncio.Lock()):
                await make(path, self._clips.touch(path))
        except BaseException:
            self._clips.release(path)
            raise
        return path

    async def _made(self, work: Callable[..., None], made_of: tuple[object, ...], path: Path, there: bool) -> None:
        if not there:
            await self._do(work, *made_of, path)
            self._clips.add(path)

    async def _fetched(self, source: Source, path: Path, there: bool) -> None:
        if there and source.cache_id:
            return
        async with self._files:
            known = self._stamps.get(path.name, Stamp()) if there else Stamp()
            fetched = await self._fetch(source.uri, known)
            if fetched.data is None:
                return
            await self._do(sounds.decode, fetched.data, path)
        self._clips.add(path)
        self._stamps.pop(path.name, None)
        self._stamps[path.name] = fetched.stamp
        if len(self._stamps) > STAMPS:
            del self._stamps[next(iter(self._stamps))]

    # ------------------------------------------------------------------------------------------ work

    async def _do(self, work: Callable[..., T], *args: object) -> T:
        """Return `work(*args)`, done in another process.

        Who does not wait for it any more leaves the process to finish it: that costs less than starting another.
        """
        if len(self._work) >= WAITING:
            raise SpeechError(Fault.BUSY, f"{WAITING} prompts and utterances are being worked on")
        if self._warming is not None:
            await asyncio.wait([self._warming])  # Sooner than another process is as far.
            self._warming = None
        return await asyncio.shield(self._begin(work, *args))

    def _begin(self, work: Callable[..., T], *args: object) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(self._in_turn(work, *args))
        self._work.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[T]) -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # Nobody may be left who looks at it.

    async def _in_turn(self, work: Callable[..., T], *args: object) -> T:
        async with self._turns:
            pool = self._idle.pop() if self._idle else self._start()
            try:
                async with asyncio.timeout(LONGEST_S):
                    result = await asyncio.get_running_loop().run_in_executor(pool, work, *args)
            except BrokenProcessPool:
                self._end(pool)
                raise SpeechError(Fault.FAILED, "the process that worked on it has died") from None
            except TimeoutError:
                self._end(pool)
                raise SpeechError(Fault.FAILED, f"not done within {LONGEST_S:g} s") from None
            except BaseException:
                self._idle.append(pool)
                raise
            self._idle.append(pool)
            return result

    def _start(self) -> ProcessPoolExecutor:
        # Spawned, not forked: sockets, threads and the frozen heap of this process are none of theirs.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(os.getpid(),))
        self._pools.add(pool)
        return pool

    def _end(self, pool: ProcessPoolExecutor) -> None:
        self._pools.discard(pool)
        _kill(pool)
        pool.shutdown(wait=False)


def _kill(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):  # Python 3.14 has kill_workers() for this
        process.kill()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What goes wrong is a `StudioError`; what the operator can mend is in the log too."""
    try:
        yield
    except (PromptError, SpeechError) as error:
        if error.fault in (Fault.MISSING, Fault.FAILED, Fault.BUSY):
            log.warning("speech: %s", error)
        raise StudioError(_KINDS.get(error.fault, "failed"), error.message) from None


def _begin(parent: int) -> None:
    """In the new process: leave Ctrl-C to who started us, do not outlive him, and let audio go first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)  # He was gone before we asked.
    if hasattr(os, "nice"):
        os.nice(NICE)
