"""Ears: rows of the plane that only listen to one party, until it has said something.

What was said goes to the control process as a piece of PCM, which has the speech recognised elsewhere: a media worker
has no time for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from offhook.audio import pcm
from offhook.audio.voice_activity import EnergyActivity
from offhook.media.link import Listen, StopListening
from offhook.media.plane import Row
from offhook.media.tidings import SpeechBegan, SpeechEnded

if TYPE_CHECKING:
    from offhook.media.worker import MediaWorker

RATE = 16_000  # Hz
LONGEST_S = 30  # of what is said, whatever is asked for
PRE_ROLL = 15  # frames before the beginning was known that belong to it: 300 ms
START = 5  # frames of voice in a row that are a beginning: 100 ms; a click is shorter
TAIL = 10  # frames of quiet that stay at the end: 200 ms
WORDS = 100  # truths between two things said; the newest

SPEECH = 0.5  # a frame this probable is speech
QUIET = 0.35  # and below this it is not: between the two it is what it was


class Ear:
    """One ear: the Sink of its row."""

    def __init__(self, order: Listen, worker: MediaWorker) -> None:
        self.row = Row(order.call, "", RATE, self, self, ear_for=order.party)
        self.party = order.party
        self._id = order.ear
        self._worker = worker
        self._activity = EnergyActivity()
        self._voice = False  # in the last frame
        self._run = 0  # frames in a row with a voice; while it speaks, without one
        self._speaks = False
        self._end = max(1, round(order.end_silence_ms / pcm.FRAME_MS))
        self._most = min(order.max_s, LONGEST_S) * pcm.FRAMES_PER_SECOND
        self._frames: deque[bytes] = deque(maxlen=PRE_ROLL)
        self._words: deque[str] = deque(maxlen=WORDS)
        self._ended = False

    def poll(self, now: float) -> bytes | None:
        """Source: an ear says nothing."""
        return None

    def send(self, data: bytes | memoryview) -> None:
        """Sink: 20 ms of what the party says."""
        if self._ended:
            return
        frame = bytes(data)
        self._frames.append(frame)
        probability = self._activity.probability(pcm.as_samples(frame))
        self._voice = probability >= (QUIET if self._voice else SPEECH)
        self._run = self._run + 1 if self._voice is not self._speaks else 0
        if not self._speaks and self._run >= START:
            self._begin()
        elif self._speaks and (self._run >= self._end or len(self._frames) >= self._most):
            self._finish()

    def says(self, words: str) -> None:
        """The party's client says what the words are that its audio brings."""
        self._words.append(words)

    def _begin(self) -> None:
        self._speaks, self._run = True, 0
        self._frames = deque(self._frames)
        asyncio.get_running_loop().call_soon(self._worker.tell, SpeechBegan(self._id))

    def _finish(self) -> None:
        self._ended = True
        frames = list(self._frames)[: len(self._frames) - max(0, self._run - TAIL)]
        said = SpeechEnded(self._id, b"".join(frames), " ".join(self._words))
        asyncio.get_running_loop().call_soon(self._worker.ears.finish, self._id, said)


class Ears:
    """Every ear of one media worker."""

    def __init__(self, worker: MediaWorker) -> None:
        self._worker = worker
        self._ears: dict[str, Ear] = {}
        worker.register({Listen: self._listen, StopListening: lambda order: self._close(order.ear)})

    def says(self, call: str, party: str, words: str) -> None:
        """The client of a simulated party tells what is said in the audio that is now being played."""
        for ear in self._ears.values():
            if ear.row.call == call and ear.party == party:
                ear.says(words)

    def finish(self, ear: str, said: SpeechEnded) -> None:
        """An ear has heard something."""
        if ear in self._ears:
            self._close(ear)
            self._worker.tell(said)

    def close(self) -> None:
        """Listen to nobody any more."""
        for ear in list(self._ears):
            self._close(ear)

    def _listen(self, order: Listen) -> None:
        self._ears[order.ear] = ear = Ear(order, self._worker)
        self._worker.plane.add(ear.row)
        self._worker.clock.wake()

    def _close(self, ear: str) -> None:
        if (found := self._ears.pop(ear, None)) is not None:
            self._worker.plane.remove(found.row)
