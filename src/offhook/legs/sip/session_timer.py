"""Session timers (RFC 4028): who makes sure, and how often, that both sides still think that there is a call."""

from __future__ import annotations

from dataclasses import dataclass

from offhook.legs.sip import grammar
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.headers import Headers
from offhook.legs.sip.message import Message, Request, Response

DEFAULT_S = 1_800
SHORTEST_S = 90  # the RFC's: no proxy may ask for more often
LONGEST_S = 2**31 - 1


class IntervalTooSmall(ValueError):
    """The request asks for a shorter interval than ours at least (422 with Min-SE)."""


@dataclass(frozen=True)
class Terms:
    """After `interval` seconds without a refresh the call is over; `ours`: whether we are the one who refreshes."""

    interval: int
    ours: bool

    @property
    def due_s(self) -> float:
        """Seconds after which we refresh, or (not `ours`) give the call up (section 10)."""
        return self.interval / 2 if self.ours else self.interval - min(32.0, self.interval / 3)


def propose(headers: Headers, interval: int, shortest: int, ours: bool | None = None) -> None:
    """Put our wish into a request: first INVITE (`ours` None: they may choose), refresh, or another re-INVITE."""
    role = "" if ours is None else f";refresher={'uac' if ours else 'uas'}"
    headers.replace("Session-Expires", f"{interval}{role}")
    headers.replace("Min-SE", shortest)


def accept(request: Request, interval: int, shortest: int) -> Terms:
    """Return the terms for an INVITE or UPDATE that came (section 9), with `interval` as our wish.

    Raises `IntervalTooSmall`, or `SipSyntaxError` for headers that are none.
    """
    asked = request.number("Session-Expires", LONGEST_S)
    if asked is not None and asked < shortest:
        raise IntervalTooSmall
    least = max(request.number("Min-SE", LONGEST_S) or 0, shortest)
    terms = max(min(asked or interval, interval), least)
    if "timer" not in request.headers.tokens("Supported"):
        return Terms(terms, ours=True)
    return Terms(terms, ours=_refresher(request) == "uas")


def confirm(response: Response, terms: Terms) -> None:
    """Put the terms into the 2xx to their request."""
    response.headers.replace("Session-Expires", f"{terms.interval};refresher={'uas' if terms.ours else 'uac'}")
    if not terms.ours:
        response.headers.add("Require", "timer")


def confirmed(response: Response) -> Terms | None:
    """Return the terms of a 2xx that came to our request; None when the other side wants no timer."""
    try:
        interval = response.number("Session-Expires", LONGEST_S)
        if interval is None:
            return None
        return Terms(max(interval, SHORTEST_S), ours=_refresher(response) != "uas")
    except SipSyntaxError:
        return None


def _refresher(message: Message) -> str:
    _, params = grammar.split_head(message.headers.get("Session-Expires") or "")
    return (params.get("refresher") or "").lower()
