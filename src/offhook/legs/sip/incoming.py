"""A call that comes to us: from the INVITE to its answer (RFC 3261 section 13.3, reliable ringing of RFC 3262)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial

from offhook.legs.sip import body, session_timer
from offhook.legs.sip.dialog import MAX_FORWARDS, DialogId, called
from offhook.legs.sip.events import Q850, Ended, parse_reason
from offhook.legs.sip.exchange import ServerTransaction
from offhook.legs.sip.memento import Memento, Ringing
from offhook.legs.sip.message import Request
from offhook.legs.sip.repeater import Repeater
from offhook.legs.sip.session import Session
from offhook.legs.sip.uri import Address, parse_uri
from offhook.legs.sip.usage import Context, Handler, Party, Phase

RING_AGAIN_S = 60.0  # proxies give an INVITE up that shows no sign of life for three minutes
LONGEST_RING_S = 300.0


def merged_id(request: Request) -> DialogId:
    """Return by what an INVITE is known that comes to us by several ways (section 8.2.2.2)."""
    return DialogId((request.call_id, "", request.from_.tag))


class IncomingSession(Session):
    """`offer` is their session description, None when they want ours (answer in ACK). `replaces`: the session of ours
    that this one is to take the place of. Nothing has been sent but 100 Trying."""

    def __init__(
        self,
        context: Context,
        party: Party,
        transaction: ServerTransaction,
        replaces: Session | None = None,
        tag: str = "",
    ) -> None:
        """`tag`: ours, when another process has chosen it. Raises `SipSyntaxError`, `UnsupportedBody` or
        `IntervalTooSmall` for an INVITE that cannot be answered."""
        request = transaction.request
        self.offer = body.sdp_of(request)
        self.replaces = replaces
        forwards = request.number("Max-Forwards")
        self.max_forwards = MAX_FORWARDS if forwards is None else forwards
        self._accepted_terms = session_timer.accept(request, context.session_expires, context.min_se)
        self._supports = request.headers.tokens("Supported") | request.headers.tokens("Require")
        dialog = called(request, tag or secrets.token_hex(8))
        super().__init__(context, party, request, request.uri.user)  # Only now: who is there has to end, too.
        self._dialog = dialog
        self._allows = request.headers.tokens("Allow")
        self._transaction = transaction
        self._flow = transaction.flow
        self._rseq = secrets.randbelow(2**16) + 1
        self._unproved: Repeater | None = None  # a reliable response whose PRACK has not come
        self._offered_early = False  # whether a reliable response had an offer of ours
        self._awaits_answer = False  # the answer to it, in PRACK
        self._after_prack: Callable[[], None] | None = None
        self._remember(dialog.id)
        self._remember(merged_id(request))
        transaction.on_cancelled = self._cancelled
        transaction.on_lost = lambda: self._end(Ended(503, "Connection Lost"))
        self._ringing = self._loop.call_later(LONGEST_RING_S, self.reject, 480)
        self._again = self._loop.call_later(RING_AGAIN_S, self._ring_again, 0, None)

    def ring(self, sdp: str | None = None, code: int = 0) -> None:
        """Say that it rings: 180, or, with media that can be heard before the answer, 183 (or `code`). It is sent
        reliably if they demand that, or can and there is `sdp`."""
        if self._phase is not Phase.EARLY:
            return
        if self._unproved is not None:
            self._after_prack = partial(self.ring, sdp, code)
            return
        code = code or (183 if sdp else 180)
        reliable = "100rel" in self._supports and (
            sdp is not None or "100rel" in self._transaction.request.headers.tokens("Require")
        )
        headers: dict[str, object] = {"Require": "100rel", "RSeq": self._rseq} if reliable else {}
        response = self.reply(self._transaction, code, sdp=sdp, headers=headers)
        if sdp is not None:
            self._local_sdp = sdp
            if self.offer is not None:
                self._exchange = self.offer, sdp
        if reliable:
            self._unproved = Repeater(partial(self._transaction.respond, response), partial(self.reject, 504))
            self._awaits_answer = sdp is not None and self.offer is None and not self._offered_early
            self._offered_early |= self._awaits_answer
        self._again.cancel()
        self._again = self._loop.call_later(RING_AGAIN_S, self._ring_again, code, None if reliable else sdp)

    def answer(self, sdp: str) -> None:
        """Answer the offer that waits: an UPDATE's, if there is one, or else the call itself. If media could be heard
        before, `sdp` is what `ring` said."""
        if self._phase is not Phase.EARLY or self._owed is not None:
            super().answer(sdp)
        elif self._unproved is not None:
            self._after_prack = partial(self.answer, sdp)  # section 5 of RFC 3262: not before the PRACK
        else:
            self._pick_up(sdp)

    def reject(self, code: int, reason: str = "", q850: int | None = None, contacts: Sequence[str] = ()) -> None:
        """Refuse the call, with a status from 300 on; `contacts`: URIs to try instead (302). Raises ValueError."""
        if not 300 <= code <= 699:
            raise ValueError(f"a call is not refused with {code}")
        if self._phase is not Phase.EARLY:
            return
        headers: dict[str, object] = {} if q850 is None else {"Reason": Q850(q850)}
        if contacts:
            headers["Contact"] = ", ".join(str(Address(parse_uri(contact))) for contact in contacts)
        response = self.reply(self._transaction, code, reason, headers=headers)
        self._end(Ended(response.code, response.reason, None if q850 is None else Q850(q850), by_us=True))

    def ring_on(self) -> None:
        """It has rung in another process: say so once more, as is done from time to time."""
        self._again.cancel()
        self._ring_again(180, None)

    def memento(self) -> Memento | Ringing | None:
        if self._phase is not Phase.EARLY:
            return super().memento()
        assert self._dialog is not None
        if self.replaces is not None:
            return None
        flow, tag = self._transaction.flow, self._dialog.local.tag
        return Ringing(bytes(self._transaction.request), flow.address, self.trunk, self.phone, tag=tag)

    def _pick_up(self, sdp: str) -> None:
        self._local_sdp = sdp
        if self.offer is not None:
            self._exchange = self.offer, sdp
        self._phase = Phase.ANSWERED
        self._stop_ringing()
        self._set_terms(self._accepted_terms)
        if self._offered_early:
            self._accept(self._transaction, None)
        else:
            self._accept(self._transaction, sdp, offered=self.offer is None)

    def _ring_again(self, code: int, sdp: str | None) -> None:
        if code:
            self.reply(self._transaction, code, sdp=sdp)
        self._again = self._loop.call_later(RING_AGAIN_S, self._ring_again, code, sdp)

    def _cancelled(self, cancel: Request) -> None:
        self._abandon(487)
        self._end(Ended(487, "Request Terminated", parse_reason(cancel.headers.listed("Reason"))))

    def _handlers(self) -> dict[str, Handler]:
        return super()._handlers() | {"PRACK": self._take_prack}

    def _take_prack(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        words = (request.headers.get("RAck") or "").split()
        wanted = [str(self._rseq), str(self._transaction.request.cseq.number), "INVITE"]
        if self._unproved is None or words != wanted:
            self.reply(transaction, 481)
            return
        self._unproved.stop()
        self._unproved = None
        self._rseq += 1
        sdp = body.sdp_of(request)
        if sdp is not None and not self._awaits_answer:
            self.reply(transaction, 488)  # a second offer while it rings: UPDATE can bring it
        else:
            self.reply(transaction, 200)
        if self._awaits_answer:
            self._awaits_answer = False
            self._take_answer(request)
        later, self._after_prack = self._after_prack, None
        if later is not None:
            later()

    def _abandon(self, code: int = 480) -> None:
        if self._phase is Phase.EARLY:
            headers: dict[str, object] = {} if self._goodbye is None else {"Reason": self._goodbye}
            self.reply(self._transaction, code, headers=headers)

    def _they_allow(self, method: str) -> bool:
        return method.lower() in self._allows

    def _end(self, event: Ended, waits_for_ack: bool = False) -> None:
        self._stop_ringing()
        super()._end(event, waits_for_ack)

    def _stop_ringing(self) -> None:
        self._ringing.cancel()
        self._again.cancel()
        if self._unproved is not None:
            self._unproved.stop()
            self._unproved = None
