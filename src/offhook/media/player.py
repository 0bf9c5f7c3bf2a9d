"""Prompts: WAV files that are played into a call, as rows of the plane that only speak.

A clip is mapped, not read: a hundred calls that play the same file share its pages, which are still in memory from when
control made it. Files are opened and looked at in a thread, so that a tick waits for none. Who makes clips replaces a
file and never shortens it: a page that is gone from under a mapping kills the process.
"""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from offhook.audio import pcm
from offhook.audio.files import converted
from offhook.media.hearing import Prompt
from offhook.media.link import StartPlay, StopPlay
from offhook.media.plane import Row
from offhook.media.tidings import PlayBegan, PlayEnded

if TYPE_CHECKING:
    from offhook.media.worker import MediaWorker

RATES = (8000, 16_000, 24_000)  # Hz, of clips


class UnfitClip(Exception):
    """A clip that cannot be played. `index`: which one."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


def load(paths: Sequence[str]) -> tuple[int, list[pcm.Samples]]:
    """Return the rate of a row that plays `paths`, the highest of them, and their samples. Raises `UnfitClip`."""
    clips = []
    for index, path in enumerate(paths):
        try:
            clips.append(_map(path))
        except (OSError, ValueError, EOFError, RuntimeError, wave.Error) as error:  # all that `wave` raises
            raise UnfitClip(index, f"{error}" or type(error).__name__) from None
    rate = max((rate for rate, _ in clips), default=RATES[0])
    return rate, [samples if own == rate else _convert(samples, own, rate) for own, samples in clips]


def _map(path: str) -> tuple[int, pcm.Samples]:
    with open(path, "rb") as file, wave.open(file) as head:
        rate, channels, width, frames = (
            head.getframerate(),
            head.getnchannels(),
            head.getsampwidth(),
            head.getnframes(),
        )
        if rate not in RATES or channels != 1 or width != 2:
            raise ValueError(f"{channels} channels of {8 * width} bits at {rate} Hz: not a clip")
        offset = file.tell()
    if not frames:
        return rate, np.zeros(0, np.int16)
    return rate, np.asarray(np.memmap(path, "<i2", "r", offset, (frames,)))  # A memmap's own slices are slow.


def _convert(samples: pcm.Samples, rate_in: int, rate_out: int) -> pcm.Samples:
    """Return a clip at another rate; unlike one that is mapped, it is memory of this play alone."""
    seconds = (samples[at : at + rate_in].astype(np.float32) for at in range(0, len(samples), rate_in))
    return np.concatenate([np.zeros(0, np.int16), *converted(seconds, rate_in, rate_out)])


class Player:
    """One play: the Source of its row. Clips follow each other without a gap."""

    def __init__(self, order: StartPlay, rate: int, clips: Sequence[pcm.Samples], worker: MediaWorker) -> None:
        self.row = Row(order.call, order.by, rate, self, self, prompt=Prompt(order.by, frozenset(order.to)))
        self._id = order.play
        self._loop = order.loop and any(len(clip) for clip in clips)
        self._clips = clips
        self._size = pcm.samples_per_frame(rate)
        self._clip = 0
        self._at = 0  # the next sample of it
        self._began = False
        self._ended = False
        self._worker = worker

    def poll(self, now: float) -> bytes | None:
        """Source: the next 20 ms; the last of them is filled up with silence."""
        if self._ended:
            return None
        pieces, missing = [], self._size
        while missing and self._clip < len(self._clips):
            piece = self._clips[self._clip][self._at : self._at + missing]
            pieces.append(piece.tobytes())
            missing -= len(piece)
            self._at += len(piece)
            if self._at == len(self._clips[self._clip]):
                self._clip, self._at = self._clip + 1, 0
                if self._loop and self._clip == len(self._clips):
                    self._clip = 0
        self._tell_of(sounding=bool(pieces))
        return b"".join([*pieces, bytes(2 * missing)]) if missing < self._size else None

    def send(self, data: bytes | memoryview) -> None:
        """Sink: nothing is sent to a prompt."""

    def _tell_of(self, sounding: bool) -> None:
        """Tell once that it has begun, and once, when the last frame has gone out, that it has ended."""
        loop = asyncio.get_running_loop()
        if sounding and not self._began:
            self._began = True
            loop.call_soon(self._worker.tell, PlayBegan(self._id))
        if not sounding:
            self._ended = True
            loop.call_soon(self._worker.players.end, self._id)


class Players:
    """Every play of one media worker."""

    def __init__(self, worker: MediaWorker) -> None:
        self._worker = worker
        self._players: dict[str, Player] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        worker.register({StartPlay: self._start, StopPlay: self._stop})

    def end(self, play: str) -> None:
        """A play has come to its end."""
        if (player := self._players.pop(play, None)) is not None:
            self._worker.plane.remove(player.row)
            self._worker.tell(PlayEnded(play))

    def close(self) -> None:
        """Stop everything."""
        for play in [*self._loading, *self._players]:
            self._stop(StopPlay(play))

    def _start(self, order: StartPlay) -> None:
        task = asyncio.create_task(self._load(order))
        self._loading[order.play] = task
        task.add_done_callback(lambda task: self._loading.pop(order.play, None))

    async def _load(self, order: StartPlay) -> None:
        try:
            rate, clips = await asyncio.to_thread(load, order.clips)
        except UnfitClip as unfit:
            self._worker.tell(PlayEnded(order.play, unfit.index, str(unfit)))
            return
        self._players[order.play] = player = Player(order, rate, clips, self._worker)
        self._worker.plane.add(player.row)
        self._worker.clock.wake()

    def _stop(self, order: StopPlay) -> None:
        if (task := self._loading.pop(order.play, None)) is not None:
            task.cancel()
        if (player := self._players.pop(order.play, None)) is not None:
            self._worker.plane.remove(player.row)
