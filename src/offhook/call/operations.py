"""Media operations as values: what they are, and the states that they go through.

An *operation* is a long action with an end: a play, a recognition, a hold with its music, watching a party's keys,
sending it tones. It is a record in `CallData.operations` from the request to the end, so that it travels with the call.
Plays and recognitions of one connection are a queue, in the order of the requests: the first one runs, the others wait.
`operation_messages` is what is said to and by them; `play`, `recognize`, `hold` and `tones` say what becomes of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from offhook.call.prompts import Source

MAX_WAITING = 10  # plays and recognitions of a connection that wait for the one that runs
MAX_SENDING = 10  # operations of a connection that send tones


class OperationKind(Enum):
    PLAY = "play"
    RECOGNIZE = "recognize"
    HOLD = "hold"
    WATCH_TONES = "watch tones"
    SEND_TONES = "send tones"


QUEUE = (OperationKind.PLAY, OperationKind.RECOGNIZE)
"""The kinds of which one runs at a time on each connection, and which `CancelMedia` ends."""


class OperationState(Enum):
    QUEUED = "queued"
    PREPARING = "preparing"  # its clips are being fetched and synthesised
    PLAYING = "playing"
    PLAYED = "played"
    LISTENING = "listening"  # for keys, speech or both
    RECOGNISING = "recognising"  # what was said
    RUNNING = "running"  # of tones: watched, or on their way


class OperationInput(Enum):
    PREPARE = "prepare"
    PLAY = "play"
    PLAYED = "played"
    LISTEN = "listen"
    RECOGNISE = "recognise"


_S, _I = OperationState, OperationInput
OPERATION: dict[tuple[OperationState, OperationInput], OperationState] = {
    (_S.QUEUED, _I.PREPARE): _S.PREPARING,
    (_S.PREPARING, _I.LISTEN): _S.LISTENING,  # a recognition without prompt
    (_S.PREPARING, _I.PLAY): _S.PLAYING,
    (_S.PLAYING, _I.PLAYED): _S.PLAYED,
    (_S.PLAYING, _I.LISTEN): _S.LISTENING,  # the party interrupts its prompt
    (_S.PLAYED, _I.LISTEN): _S.LISTENING,
    (_S.LISTENING, _I.RECOGNISE): _S.RECOGNISING,
}
"""An operation may end in every state; it is then no more in `CallData.operations`."""


class Problem(Enum):
    """Why an operation did not do what it should; `server.webhooks` has the one table from here to codes and texts."""

    CANCELED = "canceled"
    PARTY_LEFT = "the participant has left"
    FORMAT = "bad format"
    DOWNLOAD = "download failed"
    EMPTY = "empty text"
    UNSUPPORTED = "voice or language not supported"
    SPEECH_SERVICE = "speech engine failed"
    INITIAL_SILENCE = "initial silence"
    WRONG_TONE = "wrong tone"
    NOT_RECOGNISED = "not recognised"
    NO_CHOICE = "no choice"
    TOO_SLOW = "recognition timed out"
    NOT_SENT = "tones not sent"


class Outcome(Enum):
    """What ended a recognition that has a result."""

    MAX_TONES = "max tones"
    STOP_TONE = "stop tone"
    INTER_TONE_TIMEOUT = "inter-tone timeout"
    CHOICE_BY_TONE = "choice by tone"
    CHOICE_BY_SPEECH = "choice by speech"
    SPEECH = "speech"


@dataclass(frozen=True, slots=True)
class Failure:
    """`index`: of the source that is to blame, None when none is."""

    problem: Problem
    detail: str = ""
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """`tone`: the key that means it, "" for none."""

    label: str
    phrases: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True, slots=True)
class RecognizeOptions:
    """What the app wants to know of a party. With `choices`, one of them is made, by a key or by what is said."""

    keys: bool = False
    speech: bool = False
    max_tones: int | None = None
    stop_tones: str = ""
    inter_tone_s: float = 2.0
    initial_silence_s: float = 5.0
    end_silence_ms: int = 500
    locale: str = "en-US"
    choices: tuple[Choice, ...] = ()
    interruptible: bool = True


@dataclass(slots=True)
class Operation:
    """One media operation. `to`: raw ids of those who hear it (nobody: everybody), or of the one party it is about."""

    id: str
    kind: OperationKind
    connection: str
    to: tuple[str, ...] = ()
    state: OperationState = OperationState.QUEUED
    context: str | None = None
    callback: str | None = None
    sources: tuple[Source, ...] = ()
    loop: bool = False
    options: RecognizeOptions = RecognizeOptions()
    failure: Failure | None = None  # found while it was prepared, to be told when what comes before has been played
    tones: str = ""  # collected so far, or to be sent
    ear: bool = False  # somebody listens to what is said
    speaking: bool = False  # the party has begun to speak: keys do not count any more
    sequence: int = 0  # of tones that were told
    deadlines: dict[str, float] = field(default_factory=dict)  # of its timers, Unix time; theirs who keep the timers
