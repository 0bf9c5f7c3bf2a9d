"""Transfers: REFER, and the NOTIFYs that tell how it goes (RFC 3515, RFC 3891; blind and attended)."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from offhook.legs.sip import body, grammar
from offhook.legs.sip.events import ReferProgress, Referred, Replaces, parse_replaces
from offhook.legs.sip.exchange import ServerTransaction
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.message import REASONS, Request, Response
from offhook.legs.sip.uri import parse_address, parse_uri
from offhook.legs.sip.usage import DialogUsage

SIPFRAG = "message/sipfrag"
EXPIRES_S = 180  # how long a transfer is reported on, at most


class Transfers:
    """Both directions of one session. One transfer each way at a time.

    NOTIFYs go out one after the other, so that none overtakes another; of several that wait, only the last one is sent.
    """

    def __init__(self, session: DialogUsage) -> None:
        self._session = session
        self._ours = False  # we asked them, and wait for the end of it
        self._asked: ServerTransaction | None = None  # their REFER, while we are told of it
        self._theirs = ""  # the Event of what they asked us and we accepted, "" for none
        self._notifying = False  # a NOTIFY of ours is not answered
        self._waiting: Request | None = None  # the next one
        self._afterwards: Callable[[], None] | None = None

    def refer(self, to: str, replaces: Replaces | None) -> None:
        """Ask them to call `to`. Raises ValueError for what is no URI."""
        uri = parse_uri(to)
        request = self._session.next_request("REFER")
        if request is None:
            return
        if self._ours:
            self._session.on_event(ReferProgress(491, REASONS[491], final=True))
            return
        self._ours = True
        query = f"?Replaces={quote(str(replaces), safe='')}" if replaces else ""
        request.headers.add("Refer-To", f"<{uri}{query}>")
        request.headers.add("Referred-By", self._session.local.tagged(""))
        self._session.request(request, self._answered)

    def _answered(self, response: Response) -> None:
        if response.final:
            self._tell(response.code, response.reason, final=not response.success)

    def take_notify(self, transaction: ServerTransaction) -> None:
        """How the transfer goes that we asked for."""
        request = transaction.request
        event, _ = grammar.split_head(request.headers.get("Event") or "")
        if event.lower() != "refer":
            self._session.reply(transaction, 489)
        elif not self._ours:
            self._session.reply(transaction, 481)
        else:
            kind, _ = body.content_type(request.headers.get("Content-Type") or "")
            if kind != SIPFRAG:
                raise body.UnsupportedBody(f"{SIPFRAG} is expected")
            line = request.body.partition(b"\r\n")[0].decode(errors="replace")
            _, code, reason, *_ = [*line.split(" ", 2), "", ""]
            status = grammar.number(code, "the status of the transfer", 699)
            state, _ = grammar.split_head(request.headers.get("Subscription-State") or "")
            self._session.reply(transaction, 200)
            self._tell(status, reason, final=status >= 200 or state.lower() == "terminated")

    def _tell(self, code: int, reason: str, final: bool) -> None:
        if self._ours:
            self._ours = not final
            self._session.on_event(ReferProgress(code, reason, final))

    def take_refer(self, transaction: ServerTransaction) -> None:
        """They ask us to call somebody else: accepted, unless our user refuses it before he returns."""
        request = transaction.request
        targets = request.headers.listed("Refer-To")
        if len(targets) != 1:
            raise SipSyntaxError("Refer-To: one is expected")
        if self._theirs or self._asked is not None:
            self._session.reply(transaction, 491)
            return
        uri = parse_address(targets[0]).uri
        replaces = uri.header("replaces")
        referred = Referred(
            uri.without_headers(),
            parse_replaces(replaces) if replaces else None,
            request.headers.get("Referred-By") or "",
        )
        self._asked = transaction
        self._session.on_event(referred)
        self._accept()

    def refuse(self, code: int) -> None:
        """Refuse what they ask, as long as that is possible."""
        if self._asked is not None:
            transaction, self._asked = self._asked, None
            self._session.reply(transaction, code)

    def _accept(self) -> None:
        if self._asked is not None:
            transaction, self._asked = self._asked, None
            self._session.reply(transaction, 202)
            self._theirs = f"refer;id={transaction.request.cseq.number}"
            self.progress(100, "")

    def progress(self, code: int, reason: str) -> None:
        """Tell them how the call that they wanted goes; with a final status, that is the end of it."""
        self._accept()
        if not self._theirs:
            return
        request = self._session.next_request("NOTIFY")
        if request is None:
            return
        final = code >= 200
        request.headers.add("Event", self._theirs)
        state = "terminated;reason=noresource" if final else f"active;expires={EXPIRES_S}"
        request.headers.add("Subscription-State", state)
        body.put(request, SIPFRAG, f"SIP/2.0 {code} {reason or REASONS.get(code, 'Unspecified')}\r\n")
        if final:
            self._theirs = ""
        self._waiting = request
        self._notify()

    def when_told(self, act: Callable[[], None]) -> None:
        """Do something once they have been told how their transfer went: at once, as a rule. What is told later comes
        too late."""
        if self._notifying:
            self._afterwards = act
        else:
            act()

    def _notify(self) -> None:
        if self._notifying:
            return
        if self._waiting is not None:
            request, self._waiting = self._waiting, None
            self._notifying = True
            self._session.request(request, self._notified)
        elif self._afterwards is not None:
            act, self._afterwards = self._afterwards, None
            act()

    def _notified(self, response: Response) -> None:
        if response.final:
            self._notifying = False
            self._notify()
