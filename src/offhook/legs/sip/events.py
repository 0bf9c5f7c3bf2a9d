"""What a session tells its user: plain values, in the order in which it happened. `Ended` is always the last one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from offhook.legs.sip import grammar
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.uri import Uri


@dataclass(frozen=True)
class Q850:
    """Why a call ended, in the telephone network's words (RFC 3326, Q.850): 16 is a normal end, 17 busy …"""

    cause: int
    text: str = ""

    def __str__(self) -> str:
        return f"Q.850;cause={self.cause}" + (f";text={grammar.quote(self.text)}" if self.text else "")


@dataclass(frozen=True)
class Replaces:
    """The dialog that an INVITE takes the place of (RFC 3891), as seen by who gets that INVITE."""

    call_id: str
    to_tag: str
    from_tag: str

    def __str__(self) -> str:
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}"


@dataclass(frozen=True)
class Progress:
    """It rings there, or there is something to hear before it is answered (`sdp`: the answer to our offer)."""

    code: int
    reason: str
    sdp: str | None = None


@dataclass(frozen=True)
class Answered:
    """An offer of ours was answered, or (`sdp` None) the other side has nothing to add: an outgoing call is up, an
    incoming one was acknowledged, a re-offer was taken. Of several with `sdp`, the last one rules."""

    sdp: str | None = None


@dataclass(frozen=True)
class Offered:
    """They want other media, or hold, or resume; `sdp` is their offer, None if they want ours. `Session.answer` or
    `Session.refuse` within 10 s; after that it is refused."""

    sdp: str | None


@dataclass(frozen=True)
class OfferFailed:
    """Our re-offer was refused; all is as it was."""

    code: int
    reason: str


@dataclass(frozen=True)
class Digits:
    """DTMF that came by SIP INFO."""

    tones: str


@dataclass(frozen=True)
class DigitsSent:
    """All digits of one `info_digits` are there; `failure`: why not, "" if they are."""

    failure: str = ""


@dataclass(frozen=True)
class Referred:
    """They want us to call `to` in their place, taking over the call `replaces`. `Session.refuse_refer` at once, or
    tell how it goes by `Session.refer_progress`."""

    to: Uri
    replaces: Replaces | None
    referred_by: str


@dataclass(frozen=True)
class ReferProgress:
    """How a transfer that we asked for goes: 202 when they will try it, then what the new call was answered; `final`:
    nothing more will come."""

    code: int
    reason: str
    final: bool


@dataclass(frozen=True)
class Ended:
    """The session is over. `code` says how: 200 after BYE (or the status in its Reason), 487 when cancelled, or the
    final response, 408 for none."""

    code: int
    reason: str
    q850: Q850 | None = None
    by_us: bool = False


Event = Progress | Answered | Offered | OfferFailed | Digits | DigitsSent | Referred | ReferProgress | Ended


def parse_reason(values: Iterable[str]) -> Q850 | None:
    """Return what the Reason headers say in Q.850's terms; None if they do not, or are none."""
    found = _parse_reason(values, "Q.850", range(128))
    return None if found is None else Q850(*found)


def parse_status(values: Iterable[str]) -> tuple[int, str] | None:
    """Return what the Reason headers say as a SIP status and its text; None if they do not, or are none."""
    return _parse_reason(values, "SIP", range(200, 700))


def _parse_reason(values: Iterable[str], wanted: str, causes: range) -> tuple[int, str] | None:
    """Return cause and text of the first Reason of a protocol; one that is malformed is passed over (RFC 3326)."""
    for value in values:
        try:
            protocol, params = grammar.split_head(value)
            if protocol.upper() == wanted:
                cause = grammar.number(params.get("cause") or "", "cause", causes[-1])
                if cause in causes:
                    return cause, params.get("text") or ""
        except SipSyntaxError:
            continue
    return None


def parse_replaces(value: str) -> Replaces:
    """Return what a Replaces header names. Raises `SipSyntaxError`."""
    call_id, params = grammar.split_head(value)
    to_tag, from_tag = params.get("to-tag"), params.get("from-tag")
    if not (call_id and to_tag and from_tag):
        raise SipSyntaxError("Replaces: a Call-ID, to-tag and from-tag are expected")
    return Replaces(call_id, to_tag, from_tag)
