"""A call that we make: from the INVITE to its answer, by one of several phones perhaps (RFC 3261 section 13.2)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial

from offhook.legs.sip import body, session_timer
from offhook.legs.sip.client import ClientRequest
from offhook.legs.sip.dialog import Dialog, calling
from offhook.legs.sip.events import Q850, Ended, Event, Progress, parse_reason
from offhook.legs.sip.flows import Flow
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.memento import Memento, Ringing
from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.session import Session
from offhook.legs.sip.uri import Address, Uri
from offhook.legs.sip.usage import ALLOW, SUPPORTED, Context, Party, Phase

LONGEST_RING_S = 300.0
MAX_FORKS = 16  # phones that ring for one INVITE and are told apart; of more, all but the one that answers are ignored


RESERVED = frozenset(
    {"via", "from", "to", "call-id", "cseq", "contact", "route", "record-route", "max-forwards", "replaces"}
    | {"allow", "supported", "require", "proxy-require", "session-expires", "min-se"}
    | {"authorization", "proxy-authorization", "content-type", "content-length", "content-encoding"}
)
"""Headers that are the stack's."""


def new_invite(to: Uri, from_: Address, offer: str, max_forwards: int, headers: Iterable[tuple[str, str]]) -> Request:
    """Return an INVITE without Via and Contact. Raises ValueError for headers that are not the caller's to set."""
    request = Request("INVITE", to)
    request.headers.add("Max-Forwards", max_forwards)
    request.headers.add("From", from_.tagged(secrets.token_hex(8)))
    request.headers.add("To", Address(to.bare()))
    request.headers.add("Call-ID", secrets.token_hex(16))
    request.headers.add("CSeq", f"{secrets.randbelow(2**16) + 1} INVITE")
    request.headers.add("Allow", ALLOW)
    request.headers.add("Supported", SUPPORTED)
    for name, value in headers:
        if name.lower() in RESERVED:
            raise ValueError(f"header {name} cannot be chosen")
        request.headers.add(name, value)
    body.put(request, body.SDP, offer)
    return request


def new_cancel(invite: Request, reason: Q850 | None = None) -> Request:
    """Return the CANCEL of an INVITE that was sent, without Via (section 9.1)."""
    cancel = Request("CANCEL", invite.uri)
    cancel.headers.take(invite.headers, "Route", "From", "To", "Call-ID")
    cancel.headers.add("CSeq", f"{invite.cseq.number} CANCEL")
    cancel.headers.add("Max-Forwards", 70)
    if reason is not None:
        cancel.headers.add("Reason", reason)
    return cancel


class OutgoingSession(Session):
    """`Progress` tells that it rings, `Answered` that it is up, `Ended` that it was refused or is over."""

    def __init__(self, context: Context, party: Party, invite: Request, on_event: Callable[[Event], None]) -> None:
        super().__init__(context, party, invite, invite.from_.uri.user)
        self.on_event = on_event
        self._seq = invite.cseq.number
        self._early: dict[str, Dialog] = {}  # by their tag
        self._early_sdp: dict[str, str] = {}
        self._rseqs: dict[str, int] = {}  # the last reliable response of each
        self._allows: set[str] = set()
        self._answered_by: str | None = None
        self._asked_invite: ClientRequest | None = None
        self._hop: Uri | None = None  # where it was sent
        self._too_long = self._loop.call_later(LONGEST_RING_S, self._ring_timed_out)

    def start(self, hop: Uri, near: Flow | None) -> None:
        """Send the INVITE to `hop`."""
        self._send_invite(self._invite, hop, near)

    def resume(self, hop: Uri, flow: Flow) -> None:
        """Send the INVITE, which another process has sent, again over `flow`: who has it takes it for a repetition, and
        says again how far it is."""
        self._ask_invite(self._invite, hop, flow, pinned=True)

    def _send_invite(self, invite: Request, hop: Uri, near: Flow | None) -> None:
        session_timer.propose(invite.headers, max(self._context.session_expires, self._min_se), self._min_se)
        self._ask_invite(invite, hop, near, self._party.pinned)

    def _ask_invite(self, invite: Request, hop: Uri, near: Flow | None, pinned: bool) -> None:
        self._hop = hop
        self._local_sdp = invite.body.decode()
        self._asked_invite = self._context.endpoint.request(
            invite,
            hop,
            partial(self._invite_answered, hop, near),
            near=near,
            pinned=pinned,
            credentials=self._party.credentials,
            next_seq=self._next_seq,
            contact_user=self._contact_user,
            otherwise=self._otherwise(near),
        )

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    # ------------------------------------------------------------------------------------------ responses

    def _invite_answered(self, hop: Uri, near: Flow | None, response: Response) -> None:
        assert self._asked_invite is not None
        self._flow = self._asked_invite.flow or near
        try:
            if not response.final:
                self._take_progress(response)
            elif response.success:
                self._take_success(response)
            elif self._phase is Phase.EARLY:
                self._take_failure(hop, near, response)
        except SipSyntaxError as error:
            self._end(Ended(502, str(error)))

    def _take_progress(self, response: Response) -> None:
        tag = response.to.tag
        if self._phase is not Phase.EARLY:
            return
        if response.code == 100:
            self.on_change()
            return
        if tag and response.contacts and (tag in self._early or len(self._early) < MAX_FORKS):
            self._early_dialog(tag, response)
            if "100rel" in response.headers.tokens("Require") and not self._acknowledge(tag, response):
                return  # it came before
        sdp = self._sdp(response)
        if sdp is not None:
            self._early_sdp[tag] = sdp
        self.on_event(Progress(response.code, response.reason, sdp))

    def _early_dialog(self, tag: str, response: Response) -> None:
        if tag not in self._early:
            self._early[tag] = calling(self._sent(), response)
            self._remember(self._early[tag].id)
        self._dialog = self._early[tag]
        self._allows |= response.headers.tokens("Allow")

    def _acknowledge(self, tag: str, response: Response) -> bool:
        """Send the PRACK of a reliable response; False if it is no new one (RFC 3262 section 4)."""
        rseq = response.number("RSeq")
        last = self._rseqs.get(tag)
        if rseq is None or (last is not None and rseq != last + 1):
            return False
        self._rseqs[tag] = rseq
        prack = self._early[tag].request("PRACK")
        prack.headers.add("RAck", f"{rseq} {response.cseq}")
        self.request(prack, lambda response: None)
        return True

    def _take_success(self, response: Response) -> None:
        tag = response.to.tag
        dialog = self._early.get(tag)
        if self._answered_by is None and self._phase is Phase.EARLY:
            self._confirm(tag, response)
        elif self._answered_by == tag and self._dialog is not None:
            self._send_ack(self._dialog, response.cseq.number, self._sent())  # ours was lost
        else:
            self._decline_fork(dialog or calling(self._sent(), response), response)

    def _confirm(self, tag: str, response: Response) -> None:
        early = self._early.get(tag)
        dialog = calling(self._sent(), response)  # what it says now is what counts: section 13.2.2.4
        if early is not None:
            dialog.local_seq, dialog.remote_seq = early.local_seq, early.remote_seq
        else:
            self._remember(dialog.id)
        self._dialog, self._answered_by = dialog, tag
        self._early = {tag: dialog}
        self._phase = Phase.CONFIRMED
        self._too_long.cancel()
        self._allows |= response.headers.tokens("Allow")
        self._send_ack(dialog, response.cseq.number, self._sent())
        self._set_terms(session_timer.confirmed(response))
        if not response.body and tag in self._early_sdp:
            body.put(response, body.SDP, self._early_sdp[tag])
        self._take_answer(response)
        self._go_on()

    def _decline_fork(self, dialog: Dialog, response: Response) -> None:
        """Somebody else answered before, or we have hung up: it has to be acknowledged all the same, and ended."""
        self._send_ack(dialog, response.cseq.number, self._sent())
        self._answered_by = self._answered_by or response.to.tag
        self._context.endpoint.request(
            dialog.request("BYE"),
            dialog.next_hop,
            lambda response: None,
            near=self._flow,
            pinned=self._party.pinned,
            credentials=self._party.credentials,
            next_seq=dialog.next_seq,
        )

    def _take_failure(self, hop: Uri, near: Flow | None, response: Response) -> None:
        least = response.number("Min-SE") if response.code == 422 else None
        if least is not None and least > self._min_se:
            self._min_se = least
            again = Request("INVITE", self._invite.uri, headers=self._sent().headers.copy(), body=self._invite.body)
            again.headers.remove("Via")
            again.headers.replace("CSeq", f"{self._next_seq()} INVITE")
            self._send_invite(again, hop, near)
            return
        self._end(Ended(response.code, response.reason, parse_reason(response.headers.listed("Reason"))))

    def _sent(self) -> Request:
        """Return the INVITE as it was sent last."""
        assert self._asked_invite is not None
        return self._asked_invite.request

    def _sdp(self, response: Response) -> str | None:
        try:
            return body.sdp_of(response)
        except body.UnsupportedBody:
            return None

    # ------------------------------------------------------------------------------------------ and the rest

    def _abandon(self) -> None:
        if self._phase is Phase.EARLY and self._asked_invite is not None:
            self._asked_invite.cancel(partial(new_cancel, reason=self._goodbye))

    def memento(self) -> Memento | Ringing | None:
        if self._phase is not Phase.EARLY:
            return super().memento()
        flow = None if self._asked_invite is None else self._asked_invite.flow
        if flow is None:
            return None
        return Ringing(bytes(self._sent()), flow.address, self.trunk, self.phone, hop=str(self._hop))

    def _ring_timed_out(self) -> None:
        self._abandon()
        self._end(Ended(408, "Request Timeout", by_us=True))

    def _they_allow(self, method: str) -> bool:
        return method.lower() in self._allows

    def _dialog_of(self, request: Request) -> Dialog:
        return self._early.get(request.from_.tag) or super()._dialog_of(request)

    def _end(self, event: Ended, waits_for_ack: bool = False) -> None:
        self._too_long.cancel()
        super()._end(event, waits_for_ack)
