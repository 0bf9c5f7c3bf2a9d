"""One call as a test holds it: say, press, hang up; hear speech, silence, tones and words; and know when.

Plain functions, no `await`: each lets the call go on just as long as it takes, on virtual time in memory, in real time
on a running server. Whoever listens looks back to where the caller last began to do something, so that an answer that
came at once is not missed; what is heard is not used up. All times are seconds of audio since the caller was connected.

Bounds: a call keeps what was said and heard, an hour at most (`offhook.testing.caller.HEARD_S`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from offhook.audio.pcm import FRAMES_PER_SECOND, Samples, as_samples, level, samples_per_frame
from offhook.audio.resample import convert
from offhook.testing import hearing
from offhook.testing.caller import Party
from offhook.testing.hearing import Span, Turn
from offhook.testing.speech import RECOGNIZER_RATE, Recognize, Sound, Speak, samples_of, words_of

T = TypeVar("T")

SPEECH_S = 0.1  # a shorter sound is a click
PAUSE_S = 0.5  # after it a phrase is over, and recognised
STEP_FRAMES = 5  # between two looks at what is heard
PATIENCE_S = 10.0  # of real time beyond what is to be heard, before a running server is given up


class Exchange(Protocol):
    """Where calls are made: `InProcess` or `Live`."""

    app_errors: list[Exception]

    def run(self, doing: Coroutine[Any, Any, T]) -> T: ...
    async def call(self, to: str, from_: str, rate: int) -> Party: ...
    async def phone(self, id: str, rate: int) -> Party: ...
    async def timeline(self, party: Party) -> list[dict[str, Any]]: ...
    def close(self) -> None: ...


class NotHeard(AssertionError):
    """The caller did not hear what it should have."""


class CallEnded(AssertionError):
    """The call is over, or never came about."""


class AppFailed(AssertionError):
    """The app's handler raised; the cause is its exception."""


@dataclass(frozen=True)
class Heard:
    """Something that the caller heard, and what it is."""

    from_s: float
    to_s: float
    text: str = ""  # of words


@dataclass(frozen=True)
class Event:
    """One line of the server's own timeline of the call, e.g. `what="CallConnected"`."""

    at_s: float
    what: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Act:
    """Something that the caller did, or tried to hear."""

    at_s: float
    what: str


@dataclass(frozen=True)
class Interruption:
    """The caller spoke over the app from `from_s` on. `stopped_after_s`: so much later the app was silent; None when it
    went on, 0 when it had paused just then."""

    from_s: float
    stopped_after_s: float | None


class Call:
    """Made by the `caller` fixture. `answered`: it was connected; if not, `outcome` says why.

    What has to be heard raises `NotHeard` when it is not, and says what was heard instead; the excerpt that it listened
    to is kept for the report. On a call that is over, everything that needs one raises `CallEnded`.
    """

    def __init__(self, exchange: Exchange, party: Party, speak: Speak, recognize: Recognize) -> None:
        self.rate = party.rate
        self.answered = party.connected
        self.acts: list[Act] = []
        self.excerpts: list[Samples] = []  # what was listened to in vain
        self._exchange = exchange
        self._party = party
        self._speak = speak
        self._recognize = recognize
        self._frame = samples_per_frame(party.rate)
        self._heard = bytearray()
        self._taken = 0  # frames of the party that are in `_heard`
        self._said: list[tuple[int, Samples, str]] = []  # (first sample, samples, what)
        self._since = 0  # frame at which the caller last began to do something

    # ------------------------------------------------------------------------------------------------------- acting

    def say(self, sound: Sound) -> Span:
        """Say a text, PCM or a file, and return when that was, once it was said: from the first audible sample to the
        last. What the app says meanwhile is heard. See `offhook.testing.speech.samples_of` for what can be said.

        The server's recognition of speech (`recognize`) takes a text for what it heard, as it stands."""
        samples = samples_of(sound, self.rate, self._speak)
        what = f"says {sound!r}" if isinstance(sound, str) else f"says {len(samples) / self.rate:.2f} s of audio"
        return self._utter(samples, what, words_of(sound))

    def play(self, path: Sound) -> Span:
        """As `say`, in a test that wants to make clear that this is a recording."""
        return self.say(path)

    def press(self, tones: str) -> None:
        """Press keys: any of 0-9 * # A-D. Raises ValueError for others."""
        if not re.fullmatch(r"[0-9*#A-Da-d]{1,100}", tones):
            raise ValueError(f"tones: {tones!r} has others than 0-9 * # A-D, or none, or more than 100")
        self._begin(f"presses {tones}")
        self._run(self._party.press(tones))

    def wait(self, seconds: float) -> None:
        """Let the call go on for so long, or to its end."""
        self._pass(round(seconds * FRAMES_PER_SECOND))

    def hang_up(self) -> None:
        """Leave the call, if it is not over. Raises `AppFailed` when the app's handler has raised, now or before."""
        if not self.over:
            self._begin("hangs up")
            self._run(self._leave())
        self._check_app()

    def barge_in(self, sound: Sound, within: float = 5.0, after: float = 0.3) -> Interruption:
        """Speak over the app: wait until it has been audible for `after` seconds, `within` seconds from now, and then
        say something. Returns when all is said."""
        __tracebackhide__ = True
        samples = samples_of(sound, self.rate, self._speak)

        def speaking() -> Heard | None:
            sound = next(reversed(hearing.sounds(self._samples(start), self.rate)), None)
            goes_on = sound is not None and sound.to_s > (self._now - start) / FRAMES_PER_SECOND - hearing.JOIN_S
            return self._shifted(sound, start) if sound and goes_on and sound.to_s - sound.from_s >= after else None

        start = self._now
        self._listen(speaking, within, f"the app to speak for {after:g} s", start)
        what = f"barges in with {sound!r}" if isinstance(sound, str) else "barges in"
        said = self._utter(samples, what, words_of(sound))
        over = next((heard for heard in self.sounds if heard.from_s <= said.from_s < heard.to_s), None)
        stopped = None if over is None or over.to_s > self.now_s - hearing.JOIN_S else over.to_s - said.from_s
        return Interruption(said.from_s, 0.0 if over is None else stopped)

    # ------------------------------------------------------------------------------------------------------ hearing

    def hears_speech(self, within: float = 5.0) -> Heard:
        """Hear the app speak, or make any other sound of 0.1 s or longer; return it as far as it has come."""
        __tracebackhide__ = True

        def check() -> Heard | None:
            sounds = hearing.sounds(self._samples(start), self.rate)
            found = next((sound for sound in sounds if sound.to_s - sound.from_s >= SPEECH_S), None)
            return found and self._shifted(found, start)

        start = self._since
        return self._listen(check, within, "speech", start)

    def hears_silence(self, for_: float = 1.0, within: float = 5.0) -> Heard:
        """Hear nothing for `for_` seconds in a row, from now on, beginning `within` seconds at the latest."""
        __tracebackhide__ = True
        frames = max(1, round(for_ * FRAMES_PER_SECOND))

        def check() -> Heard | None:
            flags = hearing.audible(self._samples(start), self.rate)
            loud = np.concatenate([[-1], np.flatnonzero(flags), [len(flags)]])
            gaps = np.flatnonzero(np.diff(loud) > frames)
            if not len(gaps):
                return None
            first = start + int(loud[gaps[0]]) + 1
            return Heard(first / FRAMES_PER_SECOND, (first + frames) / FRAMES_PER_SECOND)

        start = self._now
        return self._listen(check, within + for_, f"silence for {for_:g} s", start)

    def hears_tone(self, hz: float, level: float | None = None, within: float = 5.0) -> Heard:
        """Hear a tone of `hz` for 0.2 s, at `level` dBFS (within 3 dB) if given, that stands out of all else."""
        __tracebackhide__ = True

        def check() -> Heard | None:
            at = hearing.tone_at(self._samples(start), hz, self.rate, level)
            return None if at is None else self._shifted(Span(at, at + hearing.TONE_S), start)

        start = self._since
        wanted = f"a tone of {hz:g} Hz" + ("" if level is None else f" at {level:g} dBFS")
        return self._listen(check, within, wanted, start)

    def hears(self, words: str, within: float = 10.0) -> Heard:
        """Hear `words` in this order, next to each other, whatever their case and punctuation.

        A recogniser writes down what was heard at each pause of the app, and at last. Its word is as good as its model:
        test for a word that matters rather than a sentence.
        """
        __tracebackhide__ = True
        wanted = _words(words)
        if not wanted:
            raise ValueError(f"{words!r} has no words")
        text, known = "", 0

        def check() -> Heard | None:
            nonlocal text, known
            samples = self._samples(start)
            sounds = hearing.sounds(samples, self.rate, PAUSE_S)
            paused = bool(sounds) and sounds[-1].to_s <= len(samples) / self.rate - PAUSE_S
            if not sounds or (not paused and self._now < deadline and not self.over) or len(sounds) == known:
                return None
            known = len(sounds) if paused else 0
            text = self._written(samples)
            found = f" {wanted} " in f" {_words(text)} "
            return self._shifted(Span(sounds[0].from_s, sounds[-1].to_s), start, text) if found else None

        start = self._since
        deadline = self._now + round(within * FRAMES_PER_SECOND)
        return self._listen(check, within, f"the words {words!r}", start, lambda: f"wrote down {text!r}")

    def ends(self, within: float = 5.0) -> None:
        """Let the app hang up. Raises `NotHeard` when the call goes on."""
        __tracebackhide__ = True
        frames = round(within * FRAMES_PER_SECOND)
        self._pass(frames)
        if not self.over:
            raise self._failed(f"the call to end within {within:g} s", self._since, "it goes on")

    # -------------------------------------------------------------------------------------------------- what is known

    @property
    def now_s(self) -> float:
        """Seconds that the caller has heard."""
        return self._now / FRAMES_PER_SECOND

    @property
    def over(self) -> bool:
        """The call has ended, or was not answered."""
        return self._party.ended or not self._party.connected

    @property
    def outcome(self) -> str:
        """How it ended: `busy`, `no answer`, `the other side hung up` …; empty while it goes on."""
        return next((state.reason for state in reversed(self._party.states) if state.state == "ended"), "")

    @property
    def sounds(self) -> list[Span]:
        """What the caller heard: where there was sound; pauses below 0.3 s are part of it."""
        return hearing.sounds(self.heard, self.rate)

    @property
    def turns(self) -> list[Turn]:
        """Each time that the caller spoke, with the reply to it; see `offhook.testing.hearing.turns`."""
        return hearing.turns([self._audible(first, samples) for first, samples, _ in self._said], self.sounds)

    @property
    def latency(self) -> list[float | None]:
        """For each turn, seconds from the end of what the caller said to the reply at its ear; None without a reply."""
        return [turn.latency_s for turn in self.turns]

    @property
    def events(self) -> list[Event]:
        """The server's timeline of the call: events that the app was sent, by name, and what else happened."""
        entries = self._run(self._exchange.timeline(self._party))
        connected = (entry["at"] for entry in entries if entry["what"] == "CallConnected")
        began = next(connected, entries[0]["at"] if entries else 0.0)
        rest = ({key: value for key, value in entry.items() if key not in ("at", "what")} for entry in entries)
        return [Event(e["at"] - began, e["what"], details) for e, details in zip(entries, rest, strict=True)]

    def transcript(self) -> str:
        """Return all that the caller heard so far, written down by the recogniser: a line for each phrase."""
        spans = hearing.sounds(self.heard, self.rate, PAUSE_S)
        padding = round(0.1 * self.rate)
        lines = []
        for span in spans:
            first = max(0, round(span.from_s * self.rate) - padding)
            lines.append(self._written(self.heard[first : round(span.to_s * self.rate) + padding]))
        return "\n".join(line for line in lines if line)

    @property
    def heard(self) -> Samples:
        """All that the caller heard, mono at `rate`."""
        return as_samples(bytes(self._heard))

    @property
    def said(self) -> Samples:
        """All that the caller said, on the same time axis and of the same length."""
        line = np.zeros(len(self._heard) // 2, np.int16)
        for first, samples, _ in self._said:
            begin = max(first, 0)
            piece = samples[begin - first : begin - first + max(0, len(line) - begin)]
            line[begin : begin + len(piece)] = piece
        return line

    # --------------------------------------------------------------------------------------------------------- inside

    @property
    def _now(self) -> int:
        return self._taken

    def _begin(self, what: str) -> None:
        if self.over:
            raise CallEnded(f"the call is over ({self.outcome or 'not connected'}): the caller cannot do more")
        self._since = self._now
        self.acts.append(Act(self.now_s, what))

    def _utter(self, samples: Samples, what: str, words: str) -> Span:
        self._begin(what)
        missing = -len(samples) % self._frame
        whole = np.concatenate([samples, np.zeros(missing, np.int16)])
        end = self._run(self._speaking(whole, words, len(whole) // self._frame))
        first = end * self._frame - len(whole)
        self._said.append((first, whole, what))
        return self._audible(first, whole)

    async def _speaking(self, samples: Samples, words: str, frames: int) -> int:
        """Send and wait; return the frame after the last that was said (a mark names the last one)."""
        await self._party.say(samples, words)
        last = await self._party.played(timeout=frames / FRAMES_PER_SECOND + PATIENCE_S)
        await self._hear_until(last + 1)
        return last + 1

    async def _leave(self) -> None:
        await self._party.hang_up()
        await self._party.wait_for("ended", "waiting", timeout=PATIENCE_S)
        await self._hear_until(0)

    async def _hear_until(self, frames: int) -> None:
        missing = max(0, frames - self._party.frames_heard)
        await self._party.wait_for_frames(frames, timeout=missing / FRAMES_PER_SECOND + PATIENCE_S)
        new = self._party.frames_heard - self._taken
        self._heard += b"".join(list(self._party.frames)[-new:] if new else [])
        self._taken += new

    def _pass(self, frames: int) -> None:
        self._run(self._hear_until(self._now + frames))

    def _run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self._exchange.run(doing)

    def _samples(self, first_frame: int) -> Samples:
        return as_samples(bytes(self._heard[2 * first_frame * self._frame :]))

    def _shifted(self, span: Span, start: int, text: str = "") -> Heard:
        offset = start / FRAMES_PER_SECOND
        return Heard(span.from_s + offset, span.to_s + offset, text)

    def _audible(self, first: int, samples: Samples) -> Span:
        spans = hearing.sounds(samples, self.rate, np.inf)
        begin, end = (spans[0].from_s, spans[0].to_s) if spans else (0.0, len(samples) / self.rate)
        return Span(first / self.rate + begin, first / self.rate + end)

    def _written(self, samples: Samples) -> str:
        return self._recognize(convert(samples, self.rate, RECOGNIZER_RATE))

    def _listen(
        self,
        check: Callable[[], Heard | None],
        within: float,
        wanted: str,
        start: int,
        instead: Callable[[], str] | None = None,
    ) -> Heard:
        __tracebackhide__ = True
        if not self.answered:
            raise CallEnded(f"the call was not answered: {self.outcome}")
        deadline = self._now + round(within * FRAMES_PER_SECOND)
        while True:
            found = check()
            if found is not None:
                self.acts.append(Act(self.now_s, f"has heard {wanted}"))
                return found
            if self._now >= deadline or self.over:
                raise self._failed(f"{wanted} within {within:g} s", start, instead() if instead else "")
            self._pass(min(STEP_FRAMES, deadline - self._now))

    def _failed(self, wanted: str, start: int, instead: str) -> AssertionError:
        __tracebackhide__ = True
        self._check_app()
        excerpt = self._samples(start)
        self.excerpts.append(excerpt)
        self.acts.append(Act(self.now_s, f"has not heard {wanted}"))
        spans = [self._shifted(span, start) for span in hearing.sounds(excerpt, self.rate)]
        said = ", ".join(f"{span.from_s:.2f}–{span.to_s:.2f} s" for span in spans[:10]) or "none"
        hz = f", mostly {hearing.loudest_hz(excerpt, self.rate):.0f} Hz at {level(excerpt):.0f} dBFS" if spans else ""
        over = f" The call is over: {self.outcome}." if self.over else ""
        instead = f" It {instead}." if instead else ""
        return NotHeard(
            f"at {self.now_s:.2f} s the caller had not heard {wanted}.{instead}{over}"
            f" Sound since {start / FRAMES_PER_SECOND:.2f} s: {said}{hz}."
        )

    def _check_app(self) -> None:
        __tracebackhide__ = True
        if self._exchange.app_errors:
            error = self._exchange.app_errors[0]
            raise AppFailed(f"the app raised {type(error).__name__}: {error}") from error


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower()))
