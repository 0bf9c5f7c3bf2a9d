"""DTMF by SIP INFO: application/dtmf-relay and application/dtmf, as telephones that cannot do RFC 4733 send it."""

from __future__ import annotations

import re
from collections import deque

from offhook.legs.sip import body
from offhook.legs.sip.events import Digits, DigitsSent
from offhook.legs.sip.exchange import ServerTransaction
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.message import Response
from offhook.legs.sip.usage import DialogUsage

RELAY = "application/dtmf-relay"
PLAIN = "application/dtmf"
MAX_TONES = 64  # that wait to be sent

_TONES = re.compile(r"[0-9A-D*#]*")
_SIGNAL = re.compile(r"^signal\s*=\s*([0-9a-d*#]{1,2})\s*$", re.IGNORECASE | re.MULTILINE)
_NUMBERED = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}


class InfoDigits:
    """Both directions of one session. Tones are sent one after the other, each when the last one was taken."""

    def __init__(self, session: DialogUsage) -> None:
        self._session = session
        self._waiting: deque[str] = deque()
        self._ms = 100
        self._sending = False

    def send(self, tones: str, ms: int) -> None:
        """Send 0-9 * # A-D, each of `ms`; ends in `DigitsSent`. Raises ValueError for others, or too many."""
        if _TONES.fullmatch(tones) is None or len(self._waiting) + len(tones) > MAX_TONES:
            raise ValueError(f"DTMF: at most {MAX_TONES} of 0-9 * # A-D are expected")
        self._waiting.extend(tones)
        self._ms = ms
        if not self._sending:
            self._next()

    def _next(self) -> None:
        request = self._session.next_request("INFO")
        if request is None:
            return
        self._sending = bool(self._waiting)
        if not self._waiting:
            self._session.on_event(DigitsSent())
            return
        body.put(request, RELAY, f"Signal={self._waiting.popleft()}\r\nDuration={self._ms}\r\n")
        self._session.request(request, self._answered)

    def _answered(self, response: Response) -> None:
        if response.success:
            self._next()
        elif response.final:
            self._waiting.clear()
            self._sending = False
            self._session.on_event(DigitsSent(f"{response.code} {response.reason}"))

    def take(self, transaction: ServerTransaction) -> None:
        """An INFO: with digits, or with nothing (some send that to see whether we are there)."""
        request = transaction.request
        kind, _ = body.content_type(request.headers.get("Content-Type") or "")
        text = request.body.decode(errors="replace")
        if request.body and kind not in (RELAY, PLAIN):
            raise body.UnsupportedBody(f"{RELAY} or {PLAIN} is expected")
        tones = ""
        if kind == RELAY:
            match = _SIGNAL.search(text)
            if match is None:
                raise SipSyntaxError("Signal= and a tone are expected")
            tones = match[1].upper()
        elif kind == PLAIN:
            tones = text.strip().upper()
        tones = _NUMBERED.get(tones, tones)
        if _TONES.fullmatch(tones) is None or len(tones) > MAX_TONES:
            raise SipSyntaxError("0-9 * # A-D are expected")
        self._session.reply(transaction, 200)
        if tones:
            self._session.on_event(Digits(tones))
