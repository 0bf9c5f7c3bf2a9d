"""What goes into a Call and what comes out of it about media operations (`operations`); a part of `messages`."""

from __future__ import annotations

from dataclasses import dataclass

from offhook.call.operations import Failure, Outcome, RecognizeOptions
from offhook.call.prompts import Source

# ---------------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Play:
    """`to`: raw ids; nobody: everybody. `interrupt`: instead of what this connection plays and recognises."""

    connection: str
    operation: str
    sources: tuple[Source, ...]
    to: tuple[str, ...] = ()
    loop: bool = False
    interrupt: bool = False
    context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class Recognize:
    connection: str
    operation: str
    party: str
    options: RecognizeOptions
    prompts: tuple[Source, ...] = ()
    interrupt: bool = False
    context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class CancelMedia:
    """End what this connection plays and recognises, and what waits for it."""

    connection: str


@dataclass(frozen=True, slots=True)
class WatchTones:
    """Tell every key that the party presses, until `UnwatchTones`."""

    connection: str
    operation: str
    party: str
    context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class UnwatchTones:
    connection: str
    party: str
    context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class SendTones:
    connection: str
    operation: str
    party: str
    tones: str
    context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class Mute:
    """Nobody hears the parties any more. There is no way back (contract 2.3)."""

    connection: str
    parties: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """`music`: None for the default."""

    connection: str
    operation: str
    party: str
    music: Source | None = None
    context: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class Unhold:
    connection: str
    party: str


Command = Play | Recognize | CancelMedia | WatchTones | UnwatchTones | SendTones | Mute | Hold | Unhold

# ---------------------------------------------------------------------------------------------------- reports


@dataclass(frozen=True, slots=True)
class Prepared:
    """The clips (paths) of an operation's sources, or of those before the first one that failed."""

    operation: str
    clips: tuple[str, ...]
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class PlayBegan:
    operation: str


@dataclass(frozen=True, slots=True)
class PlayEnded:
    """Everything was played, or one clip could not be."""

    operation: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    operation: str


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """`pcm`: 16 kHz, 16-bit, mono. `truth`: the words, when they are known without recognising them."""

    operation: str
    pcm: bytes
    truth: str = ""


@dataclass(frozen=True, slots=True)
class Recognised:
    """`text`: "" when nothing could be made of it. `confidence`: 0 to 1."""

    operation: str
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class RecognitionFailed:
    operation: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class TonesPressed:
    leg: str
    tones: str


@dataclass(frozen=True, slots=True)
class TonesSent:
    """`failure`: why not, "" if they were."""

    operation: str
    failure: str = ""


@dataclass(frozen=True, slots=True)
class TimedOut:
    operation: str
    timer: str


Report = (
    Prepared
    | PlayBegan
    | PlayEnded
    | SpeechBegan
    | SpeechEnded
    | Recognised
    | RecognitionFailed
    | TonesPressed
    | TonesSent
    | TimedOut
)

# ------------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class PlayStarted:
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class PlayCompleted:
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class PlayFailed:
    failure: Failure
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class PlayCanceled:
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class Words:
    """What was said."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """`words`: by which; None when it was a key."""

    label: str
    words: Words | None = None


@dataclass(frozen=True, slots=True)
class RecognizeCompleted:
    """`result`: a str is the keys that were pressed."""

    outcome: Outcome
    result: str | Words | Chosen
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class RecognizeFailed:
    failure: Failure
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class RecognizeCanceled:
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class ToneReceived:
    tone: str
    sequence: int
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class ToneFailed:
    failure: Failure
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class TonesStopped:
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class SendTonesCompleted:
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class SendTonesFailed:
    failure: Failure
    operation_context: str | None


@dataclass(frozen=True, slots=True)
class HoldFailed:
    failure: Failure
    operation_context: str | None


Event = (
    PlayStarted
    | PlayCompleted
    | PlayFailed
    | PlayCanceled
    | RecognizeCompleted
    | RecognizeFailed
    | RecognizeCanceled
    | ToneReceived
    | ToneFailed
    | TonesStopped
    | SendTonesCompleted
    | SendTonesFailed
    | HoldFailed
)

# ----------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make clips of the operation's sources, of the default music if it has none; answered by `Prepared`."""

    operation: str


@dataclass(frozen=True, slots=True)
class StartPlay:
    operation: str
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopPlay:
    operation: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen to what the operation's party says; answered by `SpeechBegan` and `SpeechEnded`."""

    operation: str


@dataclass(frozen=True, slots=True)
class StopListening:
    operation: str


@dataclass(frozen=True, slots=True)
class Recognise:
    """Turn PCM (16 kHz, 16-bit, mono) into words; answered by `Recognised` or `RecognitionFailed`."""

    operation: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class PressTones:
    """Send the operation's tones to the party on `leg`; answered by `TonesSent`."""

    operation: str
    leg: str


@dataclass(frozen=True, slots=True)
class RouteParty:
    """From now on this holds of the party; the last one rules."""

    party: str
    muted: bool
    on_hold: bool


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Send `TimedOut` after `seconds`; a timer of this name that the operation has already is set anew."""

    operation: str
    timer: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StopTimer:
    operation: str
    timer: str


@dataclass(frozen=True, slots=True)
class Release:
    """The operation has ended: what is held for it, and what is on its way for it, is not needed any more."""

    operation: str


Effect = (
    Prepare
    | StartPlay
    | StopPlay
    | Listen
    | StopListening
    | Recognise
    | PressTones
    | RouteParty
    | SetTimer
    | StopTimer
    | Release
)
