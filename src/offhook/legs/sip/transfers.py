"""Transfers: REFER, and the NOTIFYs that tell how it goes (RFC 3515, RFC 3891; blind and attended)."""

from __future__ import annotations

from urllib.parse import quote

from offhook.legs.sip import body, grammar
from offhook.legs.sip.events import ReferProgress, Referred, Replaces, parse_replaces
from offhook.legs.sip.exchange import ServerTransaction
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.message import REASONS, Response
from offhook.legs.sip.uri import parse_address, parse_uri
from offhook.legs.sip.usage import DialogUsage

SIPFRAG = "message/sipfrag"
EXPIRES_S = 180  # how long a transfer is reported on, at most


class Transfers:
    """Both directions of one session. One transfer each way at a time."""

    def __init__(self, session: DialogUsage) -> None:
        self._session = session
        self._ours = False  # we asked them, and wait for the end of it
        self._theirs = ""  # the Event of what they asked us, "" for none

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
        if response.final and not response.success:
            self._tell(response.code, response.reason, final=True)

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
        """They ask us to call somebody else."""
        request = transaction.request
        targets = request.headers.listed("Refer-To")
        if len(targets) != 1:
            raise SipSyntaxError("Refer-To: one is expected")
        if self._theirs:
            self._session.reply(transaction, 491)
            return
        uri = parse_address(targets[0]).uri
        replaces = uri.header("replaces")
        referred = Referred(
            uri.without_headers(),
            parse_replaces(replaces) if replaces else None,
            request.headers.get("Referred-By") or "",
        )
        self._session.reply(transaction, 202)
        self._theirs = f"refer;id={request.cseq.number}"
        self.progress(100, "")
        self._session.on_event(referred)

    def progress(self, code: int, reason: str) -> None:
        """Tell them how the call that they wanted goes; with a final status, that is the end of it."""
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
        self._session.request(request, lambda response: None)
