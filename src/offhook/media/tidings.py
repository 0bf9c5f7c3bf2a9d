"""What a media worker tells control over the link (`media.link`): that something happened, or how it is doing."""

from __future__ import annotations

import msgspec


class Tiding(msgspec.Struct, frozen=True, tag=True):
    """Something that happened in the worker."""


class Welcome(Tiding, frozen=True):
    """The first tiding on every link: which worker this is, and since when it runs (`boot`, Unix time in ms)."""

    worker: int
    boot: int


class Kept(Tiding, frozen=True):
    """One value that the worker remembers, put by the control process that was there before, or by this one.

    They come in the order in which their keys were first put.
    """

    key: str
    value: bytes


class KeptAll(Tiding, frozen=True):
    """That was everything; what comes now has happened since, or was not handled by the control process before."""


class LegAttached(Tiding, frozen=True):
    """The party's audio socket is open."""

    leg: str


class PhoneAnswered(Tiding, frozen=True):
    """The phone picked up `call`; by the time this is read, that call may be over and another one ring."""

    leg: str
    call: str


class LegJoined(Tiding, frozen=True):
    """The leg is in the mix."""

    leg: str


class LegGone(Tiding, frozen=True):
    """The leg's party hung up, declined (`reason`: busy, declined, no-answer), or was lost; not told of a leg that
    `EndLeg` ended first. `left`: the call that a phone left, which goes on waiting for the next one; "": it is gone."""

    leg: str
    reason: str
    left: str = ""


class RtpOpened(Tiding, frozen=True):
    """The telephone's RTP port is open: `port`, on the address that was ordered."""

    leg: str
    port: int


class LegFigures(Tiding, frozen=True):
    """How the audio of a telephone's leg was, once it has ended: follows every `RtpOpened`.

    `counts` and `gauges` are those of `legs.rtp_legs`, the gauges as they were at the end.
    """

    leg: str
    codec: str
    counts: dict[str, int]
    gauges: dict[str, float]


class LegDirections(Tiding, frozen=True):
    """Which ways the audio of a telephone goes: told when it has changed, and every few seconds while one is missing.
    At first it goes both.

    `heard`: something came in the last seconds, or the telephone is on hold. `reached`: its host does not say that
    nobody listens there.
    """

    leg: str
    heard: bool
    reached: bool


class DigitsPressed(Tiding, frozen=True):
    leg: str
    tones: str


class DigitsSent(Tiding, frozen=True):
    """All tones of one `SendDigits` have been played to the party; `failure`: why not, "" if they have."""

    leg: str
    operation: str
    failure: str = ""


class PlayBegan(Tiding, frozen=True):
    """The first frame of the first clip is on its way to who shall hear it."""

    play: str


class PlayEnded(Tiding, frozen=True):
    """The last frame of the last clip has been played; or the clip with index `failed` could not be, because of
    `failure`."""

    play: str
    failed: int = -1
    failure: str = ""


class SpeechBegan(Tiding, frozen=True):
    """The party has begun to speak."""

    ear: str


class SpeechEnded(Tiding, frozen=True):
    """What the party said: PCM, 16 kHz, 16-bit, mono, 30 s at most (960,000 bytes), a little quiet around it.

    `truth`: the words, when a simulated party's client has told them; "" otherwise. The ear listens no more. `pcm` is
    empty when too much speech waits for control (`media.keeping`).
    """

    ear: str
    pcm: bytes
    truth: str = ""


class LineEnded(Tiding, frozen=True):
    """What happened on the bad line of a leg of `call`, which it has left: `legs.bad_line.BadLine.counts`."""

    leg: str
    call: str
    counts: dict[str, int]


class StreamUp(Tiding, frozen=True):
    """The app's socket is open; `again` after it had been lost."""

    stream: str
    again: bool = False


class StreamDown(Tiding, frozen=True):
    """The stream is over without having been told to be.

    `failure` is a `call.model.StreamFailure` value, or "closed" when the app closed its socket cleanly.
    """

    stream: str
    failure: str
    detail: str


class StreamOddity(Tiding, frozen=True):
    """The first time something odd is seen on a stream (each later time only counts)."""

    stream: str
    cause: str
    detail: str


class StreamEnded(Tiding, frozen=True):
    """Final figures of a stream; follows every end."""

    stream: str
    stats: dict[str, int]


class Vitals(Tiding, frozen=True):
    """How the worker is doing, once a second (`media.vitals`). What counts, counts since the worker's start."""

    pid: int
    calls: int  # in the plane
    rows: int
    streams: int  # open or being opened
    streams_up: int  # whose socket is open
    ticks_late: tuple[int, ...]  # ticks by lateness, one for each of `vitals.LATENESS_BOUNDS_S`, and those later still
    late_s: float  # the sum of their lateness
    ticks_jumped: int  # left out, of 20 ms each
    cpu_s: float  # of the process
    core_share: float  # of one core, in the last second; more than 1 with threads
    send_queue: int  # messages that wait for slow or lost sockets of apps: of all streams
    send_queue_max: int  # … of the worst one
    playout_s: float  # audio from apps that waits to be played: of all streams
    playout_max_s: float  # … of the fullest one
    counts: dict[str, int]  # by the names of `vitals.STREAM_COUNTS`, of `StreamEnded`, and what legs count
    gauges: dict[str, float]  # what legs measure
    limit: int  # calls that this worker takes (`media.admission`)
    gate_open: bool


UNCOUNTED: tuple[type[Tiding], ...] = (Welcome, Kept, KeptAll, Vitals)
"""Tidings that `Commit.seen` does not count: they are about the worker as it is, and are never told again."""
