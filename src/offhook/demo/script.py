"""What the demo's caller does: ask, listen, interrupt, hang up; by ear, not by the clock."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offhook.demo.timeline import Timeline
from offhook.demo.turns import Turn, TurnTaker
from offhook.demo.voices import speak
from offhook.testing.caller import Caller, Party

RATE = 24_000
QUESTION = "Hi there, who am I talking to and how does this work?"
INTERRUPTION = "Thank you, that is all I wanted to know, goodbye!"
LISTEN_S = 3.5  # to the answer, before the caller interrupts it
ANSWER_S = 30.0  # for the call to be answered
PAUSE_S = 1.1  # of the bot, after which it has finished; it pauses between sentences, too
TURN_S = 20.0  # for the bot to begin, or to end, what it says

Samples = npt.NDArray[np.int16]


class Unheard(Exception):
    """The call did not go as the script wants it; the text says where."""

    def __init__(self, text: str, *, answered: bool = True) -> None:
        super().__init__(text)
        self.answered = answered


@dataclass(frozen=True)
class Words:
    """All that the caller says, and a sample of the bot's voice to know it by."""

    question: Samples
    interruption: Samples
    bot_sample: Samples

    @classmethod
    def spoken(cls) -> Words:
        return cls(
            speak(QUESTION, "caller", RATE),
            speak(INTERRUPTION, "caller", RATE),
            speak("This is how the bot sounds when it speaks.", "bot", RATE),
        )


class Ear:
    """Listens to what the caller hears: frames with their times, and whose turn it is."""

    def __init__(self) -> None:
        self.frames: list[tuple[float, bytes]] = []  # (Unix time, 20 ms)
        self._turns = TurnTaker(RATE, PAUSE_S)
        self._speaking = False
        self._changed = asyncio.Event()

    def hear(self, frame: bytes) -> None:
        """Take the next 20 ms."""
        self.frames.append((time.time(), frame))
        turn = self._turns.hear(frame)
        if turn is not None:
            self._speaking = turn is not Turn.ENDED
            self._changed.set()

    async def until(self, speaking: bool, what: str) -> None:
        """Wait until the bot speaks, or has finished a sentence."""
        try:
            async with asyncio.timeout(TURN_S):
                while self._speaking is not speaking:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise Unheard(f"{what}: not within {TURN_S:g} s") from None


@dataclass(frozen=True)
class Held:
    """A call that was held, as the caller heard it. Times are Unix seconds."""

    party: Party
    words: Words
    connected_at: float
    frames: list[tuple[float, bytes]]

    @property
    def heard(self) -> Samples:
        return np.frombuffer(b"".join(frame for _, frame in self.frames), np.int16)

    @property
    def audible_ms(self) -> int:
        """Milliseconds of what was heard that were not digital silence."""
        return 20 * sum(any(frame) for _, frame in self.frames)

    @property
    def lost_frames(self) -> int:
        """Frames that the server had sent when the caller had said its last words, and that did not come."""
        return self.party.missed_frames

    def silence_after(self, stopped_at: float | None) -> float | None:
        """Milliseconds from `stopped_at` to the arrival of the first silent frame after it."""
        if stopped_at is None:
            return None
        silent = next((at for at, frame in self.frames if at >= stopped_at and not any(frame)), None)
        return None if silent is None else round((silent - stopped_at) * 1000, 1)


async def hold(caller: Caller, number: str, words: Words, timeline: Timeline) -> Held:
    """Place the call and hold the conversation. Raises `Unheard` when the other side does not play its part."""
    ear = Ear()
    timeline.add("caller", f"dials {number}")
    timeline.busy("ringing")
    party = await caller.call(number, rate=RATE)
    party.on_frame = ear.hear
    if await party.wait_for("connected", "ended", timeout=ANSWER_S) != "connected":
        raise Unheard(f"the call was not answered: {party.states[-1].reason}", answered=False)
    connected_at = time.time()
    timeline.add("caller", "connected", at=connected_at, mark="connected")
    timeline.busy("on the phone")
    await ear.until(True, "the bot's greeting")
    await ear.until(False, "the end of the bot's greeting")
    timeline.add("caller", f"“{QUESTION}”", mark="caller asks")
    await party.say(words.question)
    await party.played(timeout=TURN_S)
    await ear.until(True, "the bot's answer")
    await party.wait_for_frames(party.frames_heard + round(LISTEN_S * 50), timeout=TURN_S)
    timeline.add("caller", f"interrupts: “{INTERRUPTION}”", mark="caller interrupts")
    await party.say(words.interruption)
    await party.played(timeout=TURN_S)
    await party.wait_for_frames(party.frames_heard + 25, timeout=TURN_S)
    timeline.add("caller", "hangs up", mark="hang-up")
    await party.hang_up()
    await party.wait_for("ended", timeout=5)
    return Held(party, words, connected_at, ear.frames)


def delayed(samples: Samples, by: int) -> Samples:
    """Return `samples` after `by` samples of silence."""
    return np.concatenate([np.zeros(by, np.int16), samples])
