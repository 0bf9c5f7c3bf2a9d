"""What the control process and a media worker say to each other, and nothing else passes between them.

Every message is a tagged msgspec Struct, so that the same messages travel over a local socket to a worker process
(`media.socket_link`) or through the in-memory pair at the end of this file. Orders go down to the worker, tidings come
up; each direction keeps its order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from offhook.media.weather import Weather

# ------------------------------------------------------------------------------------------------ control → worker


class Order(msgspec.Struct, frozen=True, tag=True):
    """Something the worker shall do."""


class ExpectLeg(Order, frozen=True):
    """A simulated party will open its audio socket with `token` within `attach_s` seconds.

    `call` is None for a phone that waits for calls: it gets one with `RingPhone`. `weather` is over its line.
    """

    leg: str
    token: str
    rate: int
    call: str | None = None
    attach_s: float = 10.0
    weather: Weather | None = None


class RingPhone(Order, frozen=True):
    """Let the waiting phone ring for `call`; it answers with `PhoneAnswered` or `LegGone`."""

    leg: str
    call: str
    caller: str
    to: str


class PhoneWaits(Order, frozen=True):
    """Tell the phone's client that it waits: control knows now, and a call for it rings here."""

    leg: str


class ConnectLeg(Order, frozen=True):
    """Put the leg into the call's mix: from now on it is heard and hears. `party` is its raw id in unmixed streams."""

    leg: str
    call: str
    party: str


class OverhearLeg(Order, frozen=True):
    """Let the legs of `call` hear a telephone that has not answered yet: how it rings there, or an announcement.

    It hears nobody, and no stream hears it; `ConnectLeg` or `EndLeg` ends that.
    """

    leg: str
    call: str
    party: str


class EndLeg(Order, frozen=True):
    """Take the leg out of the mix, tell its client `reason` and, unless it is a phone that stays, close its socket."""

    leg: str
    reason: str


class ReseatLeg(Order, frozen=True):
    """Move a connected leg into the mix of another call of this worker; what it was sent is not played there."""

    leg: str
    call: str


class LendLeg(Order, frozen=True):
    """Let the connected leg, which has a mix of its own (`ReseatLeg`, `lent_mix`), take part in a call of worker `to`.

    What it says goes there, and what it hears comes from there: see `BorrowLeg` and `media.tie`.
    """

    leg: str
    mix: str
    to: int


class BorrowLeg(Order, frozen=True):
    """Put the leg that worker `of` lends into the mix of `call`, as `party`: `ReseatLeg` applies to it here, too."""

    leg: str
    call: str
    party: str
    of: int


class ReturnLeg(Order, frozen=True):
    """The leg is lent, or borrowed, no more. One that is neither is ignored."""

    leg: str


class MoveLeg(Order, frozen=True):
    """Tell a waiting phone's client to open `url`, at another worker, instead; the leg is then none of this one's."""

    leg: str
    url: str


class SrtpKeys(msgspec.Struct, frozen=True):
    """What protects the packets of each direction: key parameters as SDP writes them, `inline:…` (RFC 4568)."""

    send: str
    receive: str


class OpenRtp(Order, frozen=True):
    """Open a telephone's RTP port on the local address `host`; answered by `RtpOpened`, or `LegGone` when it cannot be.

    `codec` is one of `legs.codecs.NAMES`. `dtmf_type` is the payload type of telephone events, None for none. `remote`
    is where to send until packets come, and where they come from is known. `rtcp_mux`: RTCP on the same port, not on
    the one above.
    """

    leg: str
    codec: str
    payload_type: int
    host: str
    dtmf_type: int | None = None
    remote: tuple[str, int] | None = None
    rtcp_mux: bool = False
    srtp: SrtpKeys | None = None


class AgreeRtp(Order, frozen=True):
    """What has been agreed on with the telephone since `OpenRtp`, which it replaces: codec, types, where to send.

    `remote` is None when it stays where it was; else packets may come from elsewhere now. `held`: see `HoldLeg`. What
    it sends has the types of what it is sent, unless they are named. `dtmf_rate`: clock of the events it is sent, Hz.
    `ptime_ms`: of the packets it is sent, 10 to 60. `parameters`: what it says of the codec (a=fmtp).
    """

    leg: str
    codec: str
    payload_type: int
    dtmf_type: int | None = None
    remote: tuple[str, int] | None = None
    rtcp_mux: bool = False
    srtp: SrtpKeys | None = None
    held: bool = False
    receive_type: int | None = None
    receive_dtmf_type: int | None = None
    dtmf_rate: int = 8000
    ptime_ms: int = 20
    parameters: str = ""


class HoldLeg(Order, frozen=True):
    """The telephone is on hold, or no longer: while it is, it may send nothing for as long as it likes."""

    leg: str
    held: bool


class SendDigits(Order, frozen=True):
    """Send DTMF tones (0-9 * # A-D) to the party; answered by `DigitsSent` with the same `operation`."""

    leg: str
    tones: str
    operation: str = ""


class PressDigits(Order, frozen=True):
    """The party has pressed digits, said signalling (SIP INFO): as if its audio had."""

    leg: str
    tones: str


class RouteParty(Order, frozen=True):
    """What a party of a call (a raw id: its leg, or an app and its streams) is kept from; the last one rules.

    Nobody hears who is `muted`. Who is `on_hold` is heard by nobody, and hears only what is played to him alone.
    """

    call: str
    party: str
    muted: bool = False
    on_hold: bool = False


class StartPlay(Order, frozen=True):
    """Play `clips` (paths of WAV files, 16-bit mono PCM at 8, 16 or 24 kHz) one after the other into the call.

    They are heard by the parties `to` (raw ids; nobody named: by every leg that is not on hold) and by no stream of the
    app `by`, whose prompt it is; other apps hear what is played to everybody. `loop`: again and again, until `StopPlay`
    comes. Answered by `PlayBegan` and `PlayEnded`.
    """

    play: str
    call: str
    by: str
    clips: tuple[str, ...]
    to: tuple[str, ...] = ()
    loop: bool = False


class StopPlay(Order, frozen=True):
    """Fall silent with the next tick, and say no more of it. One that has ended is ignored."""

    play: str


class Listen(Order, frozen=True):
    """Listen to what a party of the call says: answered by `SpeechBegan` and `SpeechEnded`, once each.

    `end_silence_ms` of quiet end what is said, and so do `max_s` seconds of it.
    """

    ear: str
    call: str
    party: str
    end_silence_ms: int = 800
    max_s: int = 30


class StopListening(Order, frozen=True):
    """Listen no more, and say no more of it. One that has ended is ignored."""

    ear: str


class OpenStream(Order, frozen=True):
    """Dial the app's WebSocket and stream the call's audio over it.

    `stream` is unique per opening; `subscription` is what AudioMetadata names; `token` goes into the Authorization
    header of every dial of this opening. `party` is the app's own raw id, under which others hear it. `weather` is over
    the socket.
    """

    stream: str
    call: str
    connection: str
    correlation: str
    subscription: str
    party: str
    url: str
    token: str
    rate: int
    unmixed: bool
    bidirectional: bool
    dtmf: bool
    weather: Weather | None = None


class CloseStream(Order, frozen=True):
    """Stop streaming and close the socket with 1000."""

    stream: str


class Quit(Order, frozen=True):
    """End, to be started anew: control has reported the calls of this worker as lost when it lost the link to it."""


Act = (
    ExpectLeg
    | RingPhone
    | PhoneWaits
    | ConnectLeg
    | OverhearLeg
    | EndLeg
    | ReseatLeg
    | LendLeg
    | BorrowLeg
    | ReturnLeg
    | MoveLeg
    | OpenRtp
    | AgreeRtp
    | HoldLeg
    | SendDigits
    | PressDigits
    | RouteParty
    | StartPlay
    | StopPlay
    | Listen
    | StopListening
    | OpenStream
    | CloseStream
    | Quit
)
"""An order to act: every order but `Commit`."""


class Commit(Order, frozen=True, omit_defaults=True):
    """All that follows from one message, taken all together or, when control dies before it is sent, not at all.

    The worker remembers each value of `put` under its key (opaque to it, at most 256 KiB), forgets the keys in
    `delete`, and acts on `orders`. `seen` tidings of this link have been handled, and need not be told again.
    See `media.keeping`.
    """

    seen: int
    put: dict[str, bytes] = {}
    delete: tuple[str, ...] = ()
    orders: tuple[Act, ...] = ()


# ------------------------------------------------------------------------------------------------ worker → control


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


# ------------------------------------------------------------------------------------------------ names of mixes


def lent_mix(call: str, leg: str) -> str:
    """Return the name of the mix that a leg has for itself while it is lent to `call` of another worker."""
    return f"{call}/{leg}"


def call_of(mix: str) -> str:
    """Return the call that a mix belongs to: its own name, or the first part of what `lent_mix` made."""
    return mix.partition("/")[0]


# ------------------------------------------------------------------------------------------------ the link itself


class Link(Protocol):
    """One end of a link, as long as it holds."""

    def send(self, message: Order | Tiding) -> None:
        """Hand `message` to the other end. Never blocks; when the link is lost, the message is, too."""

    def on_receive(self, receive: Callable[[Any], None]) -> None:
        """Set who gets the messages, in order; what came before is handed over as well. Never within `send`."""

    def on_lost(self, lost: Callable[[], None]) -> None:
        """Set who is told, once, that the other end is gone (not after `close`)."""

    def close(self) -> None:
        """Give the link up; the other end is told that it is lost."""


class LinkEnd:
    """One end of an in-memory link: the other end receives on the next loop turn."""

    def __init__(self) -> None:
        self._peer: LinkEnd | None = None
        self._receive: Callable[[Any], None] | None = None
        self._lost: Callable[[], None] | None = None
        self._inbox: deque[Order | Tiding] = deque()

    def send(self, message: Order | Tiding) -> None:
        if self._peer is not None:
            self._peer._take(message)

    def on_receive(self, receive: Callable[[Any], None]) -> None:
        self._receive = receive
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def on_lost(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def close(self) -> None:
        """The other end gets what was sent before, and then hears that the link is lost."""
        peer, self._peer = self._peer, None
        self._inbox.clear()
        if peer is not None:
            asyncio.get_running_loop().call_soon(peer._lose)

    def _lose(self) -> None:
        if self._inbox and self._receive is not None:
            asyncio.get_running_loop().call_soon(self._lose)
        elif self._peer is not None:
            self._peer = None
            if self._lost is not None:
                self._lost()

    def _take(self, message: Order | Tiding) -> None:
        self._inbox.append(message)
        if len(self._inbox) == 1 and self._receive is not None:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        # Never within `send`: the sender finishes what it is doing first, as it would over a socket. And one message a
        # turn: a receiver that raises costs that one message.
        if not self._inbox:
            return  # closed meanwhile
        assert self._receive is not None
        message = self._inbox.popleft()
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._receive(message)


def memory_pair() -> tuple[LinkEnd, LinkEnd]:
    """Return two joined ends of a link within one process: (control's, worker's)."""
    control, worker = LinkEnd(), LinkEnd()
    control._peer, worker._peer = worker, control
    return control, worker
