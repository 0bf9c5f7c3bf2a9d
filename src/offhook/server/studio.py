"""Where prompts are made and speech is written down: apart from calls and media, which must not wait for it.

The work is done in processes of their own (`server.sounds`), started when first needed. One that dies takes only what
it was doing with it, and another is started.

Bounds: `WAITING` pieces of work at a time, one more is refused; each has `LONGEST_S`.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
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
LONGEST_S = 60.0  # for one of them, waiting included
STAMPS = 10_000  # files whose state we remember

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
        self._pool: Executor | None = None
        self._waiting = 0
        self._stamps: dict[str, Stamp] = {}  # by name of the clip, the oldest first
        self._being_made: dict[Path, asyncio.Lock] = {}

    async def clip(self, source: Source) -> Path:
        """Return a WAV file with the sound of `source`, kept until `release`. Raises `StudioError`."""
        try:
            if source.kind == "file":
                return await self._fetched(source)
            return await self._said(source)
        except (PromptError, SpeechError) as error:
            raise StudioError(_KINDS.get(error.fault, "failed"), error.message) from None

    async def hold_music(self) -> Path:
        """Return the default music, kept until `release`."""
        path = self._clips.path("hold music 1")
        async with self._making(path):
            if not self._clips.touch(path):
                await self._work(sounds.hold_music, path)
        return self._clips.lease(path)

    def release(self, path: Path) -> None:
        """A clip that was asked for is not needed any more."""
        self._clips.release(path)

    async def recognise(self, pcm: bytes, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """Return what is said in 16 kHz PCM, limited to `phrases` if there are any. Raises `StudioError`."""
        name = self._engines.recognizer
        try:
            return await self._work(sounds.recognise, name, self._options(name), pcm, locale, phrases)
        except SpeechError as error:
            raise StudioError(_KINDS.get(error.fault, "failed"), error.message) from None

    async def close(self) -> None:
        """Do no more work."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    # ------------------------------------------------------------------------------------------ clips

    async def _fetched(self, source: Source) -> Path:
        """With a cache id a file is fetched once; without, asked every time whether it has changed."""
        path = self._clips.path("id", source.cache_id) if source.cache_id else self._clips.path("file", source.uri)
        async with self._making(path):
            there = self._clips.touch(path)
            if not (there and source.cache_id):
                known = self._stamps.get(path.name, Stamp()) if there else Stamp()
                fetched = await self._fetch(source.uri, known)
                if fetched.data is not None:
                    await self._work(sounds.decode, fetched.data, path)
                    self._remember(path, fetched.stamp)
                    return self._clips.lease(path, fresh=True)
            return self._clips.lease(path)

    async def _said(self, source: Source) -> Path:
        if not (source.text if source.kind == "text" else source.ssml).strip():
            raise SpeechError(Fault.EMPTY, "there is nothing to say")
        name = self._engines.synthesizer
        what = (source.kind, source.text, source.ssml, source.locale, source.voice_kind, source.voice_name)
        path = self._clips.path(name, *what)
        async with self._making(path):
            if not self._clips.touch(path):
                await self._work(sounds.say, name, self._options(name), source, path)
                return self._clips.lease(path, fresh=True)
            return self._clips.lease(path)

    def _making(self, path: Path) -> asyncio.Lock:
        """Two who want the same clip make it once."""
        if len(self._being_made) > WAITING:
            self._being_made = {path: lock for path, lock in self._being_made.items() if lock.locked()}
        return self._being_made.setdefault(path, asyncio.Lock())

    def _remember(self, path: Path, stamp: Stamp) -> None:
        self._stamps.pop(path.name, None)
        self._stamps[path.name] = stamp
        if len(self._stamps) > STAMPS:
            del self._stamps[next(iter(self._stamps))]

    def _options(self, engine: str) -> dict[str, str]:
        return dict(self._engines.options.get(engine, {}))

    # ------------------------------------------------------------------------------------------ work

    async def _work(self, work: Callable[..., T], *args: object) -> T:
        """Return `work(*args)`, done in another process."""
        if self._waiting >= WAITING:
            raise SpeechError(Fault.BUSY, f"{WAITING} prompts and utterances are being worked on")
        pool = self._pool = self._pool or _start()
        self._waiting += 1
        try:
            async with asyncio.timeout(LONGEST_S):
                return await asyncio.get_running_loop().run_in_executor(pool, work, *args)
        except BrokenProcessPool:
            log.error("a process that works on sound has died")
            self._drop(pool)
            raise SpeechError(Fault.FAILED, "the process that worked on it has died") from None
        except TimeoutError:
            self._drop(pool)
            raise SpeechError(Fault.FAILED, f"not done within {LONGEST_S:g} s") from None
        finally:
            self._waiting -= 1

    def _drop(self, pool: Executor) -> None:
        """Start anew with the next piece of work; what others have begun there is finished."""
        if self._pool is pool:
            self._pool = None
        pool.shutdown(wait=False)


def _start() -> Executor:
    # Spawned, not forked: sockets, threads and the frozen heap of this process are none of theirs.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(PROCESSES, context, initializer=_begin)


def _begin() -> None:
    """In the new process: leave Ctrl-C to who started us, and do not outlive him."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
