"""The steps of a scenario: what each takes in the file, and what it does in the call (`offhook.testing.call`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from offhook.testing.call import Call

Seconds = Annotated[float, Meta(ge=0, le=3600)]  # a call keeps an hour of what it heard
Text = Annotated[str, Meta(min_length=1, max_length=2000)]


class Unexpected(AssertionError):
    """Something that a scenario expects is not so."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping of the file, with its keys."""


class Step:
    """What a step does. Where only its first key is given, the file may have the value alone: `press: "1"`."""

    @property
    def sound_file(self) -> str | None:
        """The file that it plays."""
        return None

    def do(self, call: Call, folder: Path) -> None:
        """Do it. Raises AssertionError when the call does not go that way. Files are looked for in `folder`."""
        raise NotImplementedError


class Say(Part, Step, frozen=True):
    """Say a text."""

    text: Text

    def __post_init__(self) -> None:
        if self.text.lower().endswith(".wav"):
            raise ValueError("a text is said, a file is played: use `play`")

    def do(self, call: Call, folder: Path) -> None:
        call.say(self.text)


class Play(Part, Step, frozen=True):
    """Play a sound file."""

    file: Text

    @property
    def sound_file(self) -> str | None:
        return self.file

    def do(self, call: Call, folder: Path) -> None:
        call.play(folder / self.file)


class Press(Part, Step, frozen=True):
    """Press keys."""

    keys: Annotated[str, Meta(pattern="^[0-9*#A-Da-d]{1,100}$")]

    def do(self, call: Call, folder: Path) -> None:
        call.press(self.keys)


class Pause(Part, Step, frozen=True):
    """Let the call go on."""

    seconds: Seconds

    def do(self, call: Call, folder: Path) -> None:
        call.wait(self.seconds)


class BargeIn(Part, Step, frozen=True):
    """Speak over the app, once it has spoken for `after` seconds; it has to be silent `stops_within` seconds later."""

    say: Text | None = None
    play: Text | None = None
    within: Seconds = 5.0
    after: Seconds = 0.3
    stops_within: Seconds | None = None

    def __post_init__(self) -> None:
        if (self.say is None) == (self.play is None):
            raise ValueError("it needs either `say` or `play`")

    @property
    def sound_file(self) -> str | None:
        return self.play

    def do(self, call: Call, folder: Path) -> None:
        sound = self.say if self.play is None else folder / self.play
        assert sound is not None
        stopped = call.barge_in(sound, self.within, self.after).stopped_after_s
        if self.stops_within is not None and (stopped is None or stopped > self.stops_within):
            went_on = "never" if stopped is None else f"after {stopped:.2f} s"
            raise Unexpected(f"the app should have been silent {self.stops_within:g} s later; it was {went_on}")


class Hears(Part, Step, frozen=True):
    """Hear words."""

    words: Annotated[str, Meta(pattern=r"\w", max_length=2000)]
    within: Seconds = 10.0

    def do(self, call: Call, folder: Path) -> None:
        call.hears(self.words, self.within)


class HearsSpeech(Part, Step, frozen=True):
    """Hear any sound of 0.1 s or longer."""

    within: Seconds = 5.0

    def do(self, call: Call, folder: Path) -> None:
        call.hears_speech(self.within)


class HearsSilence(Part, Step, frozen=True, rename={"for_": "for"}):
    """Hear nothing for so long, from now on."""

    for_: Seconds = 1.0
    within: Seconds = 5.0

    def do(self, call: Call, folder: Path) -> None:
        call.hears_silence(self.for_, self.within)


class HearsTone(Part, Step, frozen=True):
    """Hear a tone, at `level` dBFS if given."""

    hz: Annotated[float, Meta(gt=0, lt=24_000)]
    level: Annotated[float, Meta(le=0)] | None = None
    within: Seconds = 5.0

    def do(self, call: Call, folder: Path) -> None:
        call.hears_tone(self.hz, self.level, self.within)


class Ends(Part, Step, frozen=True):
    """Let the app hang up."""

    within: Seconds = 5.0

    def do(self, call: Call, folder: Path) -> None:
        call.ends(self.within)


class HangUp(Part, Step, frozen=True):
    """Leave the call."""

    def do(self, call: Call, folder: Path) -> None:
        call.hang_up()


class Expects(Part, Step, frozen=True):
    """What has to be true by now: `events` came in this order (others between them do not matter), the reply to what
    was last said came within `latency_below` seconds, the `transcript` has these words, the call was `answered`, and
    `outcome` is why it ended."""

    events: Sequence[str] | None = None
    latency_below: Seconds | None = None
    transcript: Text | None = None
    answered: bool | None = None
    outcome: str | None = None

    def __post_init__(self) -> None:
        if all(value is None for value in msgspec.structs.astuple(self)):
            raise ValueError(f"it needs one of {', '.join(self.__struct_fields__)}")

    def do(self, call: Call, folder: Path) -> None:
        if self.events is not None:
            self._check_events([event.what for event in call.events], self.events)
        if self.latency_below is not None:
            self._check_latency(call.latency, self.latency_below)
        if self.transcript is not None and _words(self.transcript) not in _words(heard := call.transcript()):
            raise Unexpected(f"{self.transcript!r} is not in what was heard: {heard!r}")
        if self.answered not in (None, call.answered):
            raise Unexpected("the call was answered" if call.answered else f"it was not answered: {call.outcome}")
        if self.outcome not in (None, call.outcome):
            raise Unexpected(f"the outcome is {call.outcome or 'open: the call goes on'!r}, not {self.outcome!r}")

    @staticmethod
    def _check_events(came: list[str], expected: Sequence[str]) -> None:
        rest = iter(came)
        missing = next((event for event in expected if event not in rest), None)
        if missing is not None:
            raise Unexpected(f"no {missing} where it was expected; there were {', '.join(came) or 'none'}")

    @staticmethod
    def _check_latency(latency: list[float | None], below: float) -> None:
        if not latency:
            raise Unexpected("nothing was said yet that could have had a reply")
        newest = latency[-1]
        if newest is None or newest >= below:
            took = "there was no reply" if newest is None else f"it took {newest:.2f} s"
            raise Unexpected(f"a reply within {below:g} s was expected; {took}")


STEP_KINDS: dict[str, type[Part]] = {
    "say": Say,
    "play": Play,
    "press": Press,
    "pause": Pause,
    "barge_in": BargeIn,
    "hears": Hears,
    "hears_speech": HearsSpeech,
    "hears_silence": HearsSilence,
    "hears_tone": HearsTone,
    "ends": Ends,
    "hang_up": HangUp,
    "expects": Expects,
}


def _words(text: str) -> str:
    """The words alone, in lower case, each with a space on both sides."""
    return " ".join(["", *re.findall(r"[\w']+", text.lower()), ""])
