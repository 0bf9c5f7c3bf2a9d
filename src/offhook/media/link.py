"""What the control process and a media worker say to each other, and nothing else passes between them.

Every message is a tagged msgspec Struct, so that the same messages travel over a local socket to a worker process
(`media.socket_link`) or through an in-memory pair (`media.memory_link`). Orders, which are here, go down to the worker;
what comes up is in `media.tidings`. Each direction keeps its order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from offhook.media.tidings import Tiding
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
