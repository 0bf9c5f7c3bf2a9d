"""One leg of a call: an INVITE's dialog from its confirmation to its end (RFC 3261 sections 12 to 15, 3311, 4028).

How it begins is in `incoming` and `outgoing`. A method that comes too late, because the session has ended meanwhile or
what it answers is gone, does nothing: the user cannot know what is on its way.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from offhook.legs.sip import body, session_timer
from offhook.legs.sip.body import UnsupportedBody
from offhook.legs.sip.events import Q850, Answered, Ended, Offered, OfferFailed, Replaces, parse_reason, parse_status
from offhook.legs.sip.exchange import ServerTransaction
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.info import InfoDigits
from offhook.legs.sip.memento import Memento, Ringing
from offhook.legs.sip.message import Message, Request, Response
from offhook.legs.sip.repeater import Repeater
from offhook.legs.sip.session_timer import IntervalTooSmall, Terms
from offhook.legs.sip.transfers import Transfers
from offhook.legs.sip.usage import ALLOW, SUPPORTED, Context, DialogUsage, Handler, Party, Phase

OFFER_S = 10.0  # that our user has to answer an offer
GONE = (408, 481)  # responses that say that the other side knows of no call (section 12.2.1.2)


class Session(DialogUsage):
    """What incoming and outgoing sessions have in common."""

    def __init__(self, context: Context, party: Party, invite: Request, contact_user: str) -> None:
        super().__init__(context, party, invite, contact_user)
        self._owed: ServerTransaction | None = None  # has their offer, that is to be answered
        self._owed_timer: asyncio.TimerHandle | None = None
        # Our 2xx that has no ACK: its CSeq, whether it had our offer, and what repeats it.
        self._unacknowledged: tuple[int, bool, Repeater] | None = None
        self._asking: Request | None = None  # a re-INVITE or UPDATE of ours that is not answered
        self._queued: str | None = None  # the offer that comes after what is going on
        self._local_sdp = ""
        self._exchange: tuple[str, str] | None = None  # their last offer, our answer to it
        self._timer: asyncio.TimerHandle | None = None
        self._min_se = context.min_se
        self._transfers = Transfers(self)
        self._digits = InfoDigits(self)

    # ------------------------------------------------------------------------------------------ what its user does

    def answer(self, sdp: str) -> None:
        """Answer the offer that waits; if they wanted ours, this is it, and `Answered` brings their answer."""
        transaction = self._settle_owed()
        if transaction is None:
            return
        request = transaction.request
        offer = body.sdp_of(request)
        if offer is not None:
            self._exchange = offer, sdp
        self._local_sdp = sdp
        self._accept(transaction, sdp, offered=offer is None)
        self._go_on()

    def refuse(self, code: int = 488) -> None:
        """Refuse the offer that waits; the call goes on as it was."""
        transaction = self._settle_owed()
        if transaction is not None:
            self.reply(transaction, code)
            self._go_on()

    def reoffer(self, sdp: str) -> None:
        """Offer other media: hold, resume, another codec or address. Ends in `Answered` or `OfferFailed`; of several
        that have to wait for what is going on, only the last one is sent."""
        if self._phase is not Phase.ENDED:
            self._queued = sdp
            self._go_on()

    def hang_up(self, q850: int | None = None, text: str = "") -> None:
        """End the session, however far it is: `Ended` is told before this returns. An INVITE that came and was not
        answered is refused with 480; `IncomingSession.reject` can say more."""
        if self._phase is Phase.ENDED:
            return
        self._goodbye = None if q850 is None else Q850(q850, text)
        phase = self._phase
        if phase is Phase.EARLY:
            self._abandon()
        elif phase is Phase.CONFIRMED:
            self._transfers.when_told(self._send_bye)
        # Before they have acknowledged our 200, no BYE may be sent (section 15): it follows the ACK.
        code, reason = (487, "Request Terminated") if phase is Phase.EARLY else (200, "OK")
        self._end(Ended(code, reason, self._goodbye, by_us=True), waits_for_ack=phase is Phase.ANSWERED)

    def refer(self, to: str, replaces: Replaces | None = None) -> None:
        """Ask them to call the URI `to`, taking over the call `replaces` there. Ends in `ReferProgress`, `final`.
        Raises ValueError for what is no URI."""
        self._transfers.refer(to, replaces)

    def refer_progress(self, code: int, reason: str = "") -> None:
        """Tell how the transfer goes that they asked for by `Referred`; a final `code` (200: it is done) ends it."""
        self._transfers.progress(code, reason)

    def refuse_refer(self, code: int = 603) -> None:
        """Refuse to transfer at all, before the callback that `Referred` was told to returns. `code`: 403 or 603, which
        leave the call as it is (RFC 5057)."""
        self._transfers.refuse(code)

    def info_digits(self, tones: str, ms: int = 100) -> None:
        """Send 0-9 * # A-D by SIP INFO, each of `ms`; ends in `DigitsSent`. Raises ValueError for anything else."""
        self._digits.send(tones, ms)

    def memento(self) -> Memento | Ringing | None:
        """Return what the session needs to go on in another process; None before there is anything, and after its
        end."""
        dialog, terms = self._dialog, self._terms
        if dialog is None or self._phase not in (Phase.ANSWERED, Phase.CONFIRMED):
            return None
        return Memento(
            dialog.call_id,
            str(dialog.local),
            str(dialog.remote),
            str(dialog.target),
            tuple(map(str, dialog.routes)),
            dialog.local_seq,
            dialog.remote_seq,
            dialog.caller,
            str(self.request_uri),
            str(self.to),
            str(self.from_),
            self._contact_user,
            self.trunk,
            self.phone,
            None if self._flow is None else self._flow.address,
            self._they_allow("UPDATE"),
            self._local_sdp,
            self._exchange,
            0 if terms is None else terms.interval,
            terms is not None and terms.ours,
        )

    # ------------------------------------------------------------------------------------------ what comes

    def acknowledged(self, ack: Request) -> None:
        if self._unacknowledged is None or self._unacknowledged[0] != ack.cseq.number:
            return
        _, offered, repeater = self._unacknowledged
        repeater.stop()
        self._unacknowledged = None
        if self._phase is Phase.ENDED:
            self._send_bye()
            self._forget()
            return
        first = self._phase is Phase.ANSWERED
        self._phase = Phase.CONFIRMED
        if offered:
            self._take_answer(ack)
        elif first:
            self.on_event(Answered())
        self._go_on()

    def _take_answer(self, message: Message) -> None:
        """Hand on the answer to our offer; without one there is nothing to talk by."""
        try:
            sdp = body.sdp_of(message)
        except (UnsupportedBody, SipSyntaxError):
            sdp = None
        if sdp is None:
            self.hang_up(text="no answer to our offer")
        else:
            self.on_event(Answered(sdp))

    def _handlers(self) -> dict[str, Handler]:
        return {
            "INVITE": self._take_offer,
            "UPDATE": self._take_offer,
            "BYE": self._take_bye,
            "OPTIONS": lambda transaction: self.reply(transaction, 200),
            "INFO": self._digits.take,
            "REFER": self._transfers.take_refer,
            "NOTIFY": self._transfers.take_notify,
        }

    def _take_bye(self, transaction: ServerTransaction) -> None:
        self.reply(transaction, 200)
        self._abandon()
        reasons = transaction.request.headers.listed("Reason")
        self._end(Ended(*(parse_status(reasons) or (200, "OK")), parse_reason(reasons)))

    def _take_offer(self, transaction: ServerTransaction) -> None:
        """A re-INVITE, or an UPDATE, which may have no offer and only say that they are still there."""
        request = transaction.request
        invite = request.method == "INVITE"
        sdp = body.sdp_of(request)
        if invite or sdp is not None:
            if self._owed is not None or (invite and self._phase is Phase.EARLY):
                self.reply(transaction, 500, headers={"Retry-After": secrets.randbelow(10)})
                return
            if self._asking is not None or self._unacknowledged is not None:
                self.reply(transaction, 491)
                return
        try:
            terms = session_timer.accept(request, self._context.session_expires, self._context.min_se)
        except IntervalTooSmall:
            self.reply(transaction, 422, headers={"Min-SE": self._context.min_se})
            return
        if self._phase is not Phase.EARLY:
            self._set_terms(terms)
        self._dialog_of(request).refresh(request)
        if not invite and sdp is None:
            self._accept(transaction, None)
        elif self._exchange is not None and sdp == self._exchange[0]:
            self._accept(transaction, self._exchange[1])  # nothing new, they only say that they are still there
        else:
            self._owe(transaction)
            self.on_event(Offered(sdp))

    def _owe(self, transaction: ServerTransaction) -> None:
        self._owed = transaction
        self._owed_timer = self._loop.call_later(OFFER_S, partial(self.refuse, 500))
        transaction.on_cancelled = self._offer_cancelled

    def _offer_cancelled(self, cancel: Request) -> None:
        self.refuse(487)

    def _settle_owed(self) -> ServerTransaction | None:
        transaction, self._owed = self._owed, None
        if self._owed_timer is not None:
            self._owed_timer.cancel()
            self._owed_timer = None
        return transaction

    # ------------------------------------------------------------------------------------------ what is sent

    def _accept(self, transaction: ServerTransaction, sdp: str | None, offered: bool = False) -> None:
        """Answer INVITE or UPDATE with 200; that of an INVITE is repeated until its ACK."""
        response = self.reply(transaction, 200, sdp=sdp)
        if transaction.request.method == "INVITE":
            repeater = Repeater(partial(transaction.respond, response), self._not_acknowledged)
            self._unacknowledged = transaction.request.cseq.number, offered, repeater

    def drop(self) -> None:
        """Wait for no ACK any more: the stack closes."""
        if self._unacknowledged is not None:
            self._unacknowledged[2].stop()
            self._unacknowledged = None
        self._forget()

    def _not_acknowledged(self) -> None:
        self._unacknowledged = None
        if self._phase is Phase.ENDED:
            self._forget()
        self._send_bye()
        self._end(Ended(408, "No ACK"))

    # ------------------------------------------------------------------------------------------ our offers

    @property
    def _busy(self) -> bool:
        """Whether an offer is under way, either way, or an ACK."""
        return not (self._asking is None and self._owed is None and self._unacknowledged is None)

    def _go_on(self) -> None:
        """Send the offer that waits, once nothing else is going on."""
        if self._queued is not None and self._phase is Phase.CONFIRMED and not self._busy:
            sdp, self._queued = self._queued, None
            self._ask("INVITE", sdp, refresh=False)

    def _ask(self, method: str, sdp: str | None, refresh: bool) -> None:
        assert self._dialog is not None
        request = self._dialog.request(method)
        request.headers.add("Allow", ALLOW)
        request.headers.add("Supported", SUPPORTED)
        ours = None if self._terms is None else self._terms.ours
        session_timer.propose(request.headers, max(self._context.session_expires, self._min_se), self._min_se, ours)
        if sdp is not None:
            body.put(request, body.SDP, sdp)
        self._asking = request
        self.request(request, partial(self._asked, request, sdp, refresh))

    def _asked(self, request: Request, sdp: str | None, refresh: bool, response: Response) -> None:
        if not response.final:
            return
        assert self._dialog is not None
        if response.success and request.method == "INVITE":
            self._send_ack(self._dialog, response.cseq.number, request)
        if self._asking is not request or self._phase is Phase.ENDED:
            return  # a 2xx once more: its ACK was lost
        self._asking = None
        if response.success:
            self._dialog.refresh(response)
            self._set_terms(session_timer.confirmed(response))
            if sdp is not None:
                self._local_sdp = sdp
                self._exchange = None
            if not refresh:
                self._take_answer(response)
        elif response.code in GONE:
            self._end(Ended(response.code, response.reason))
        elif response.code == 491:
            self._loop.call_later(self._pause(), self._ask_again, request.method, sdp, refresh)
            return
        elif response.code == 422 and (least := response.number("Min-SE")) is not None and least > self._min_se:
            self._min_se = least
            self._ask(request.method, sdp, refresh)
            return
        elif not refresh:
            self.on_event(OfferFailed(response.code, response.reason))
        self._go_on()

    def _pause(self) -> float:
        """Return for how long to wait after 491, so that not both ask again at once (section 14.1)."""
        assert self._dialog is not None
        return random.uniform(2.1, 4.0) if self._dialog.caller else random.uniform(0.0, 2.0)

    def _ask_again(self, method: str, sdp: str | None, refresh: bool) -> None:
        if self._phase is Phase.CONFIRMED and refresh:
            self._refresh()
        elif self._queued is None and sdp is not None:
            self.reoffer(sdp)

    # ------------------------------------------------------------------------------------------ session timer

    def _set_terms(self, terms: Terms | None) -> None:
        self._terms = terms
        if terms is not None:
            self._due_in(terms.due_s, self._refresh if terms.ours else self._expire)
        elif self._timer is not None:
            self._timer.cancel()

    def _due_in(self, seconds: float, what: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, what)

    def _refresh(self) -> None:
        """Ask whether they are still there. If they do not say so within half of the interval, the call is over."""
        terms = self._terms
        if terms is None or self._phase is not Phase.CONFIRMED:
            return
        if self._busy:
            self._due_in(1.0, self._refresh)
            return
        self._due_in(terms.interval / 2, self._expire)
        if self._they_allow("UPDATE"):
            self._ask("UPDATE", None, refresh=True)
        else:
            self._ask("INVITE", self._local_sdp, refresh=True)

    def _expire(self) -> None:
        self._goodbye = None
        self._send_bye()
        self._end(Ended(408, "Session Expired"))

    # ------------------------------------------------------------------------------------------ the end

    @abstractmethod
    def _abandon(self) -> None:
        """End the INVITE that is not finally answered, if it is not."""

    @abstractmethod
    def _they_allow(self, method: str) -> bool:
        """Whether the other side has said that it takes such requests."""

    def _end(self, event: Ended, waits_for_ack: bool = False) -> None:
        """Tell the end, once, and forget everything; but an ACK that has to come is waited for."""
        if self._phase is Phase.ENDED:
            return
        self._phase = Phase.ENDED
        self._context.live.discard(self)
        self._set_terms(None)
        transaction = self._settle_owed()
        if transaction is not None:
            self.reply(transaction, 487)
        if not waits_for_ack:
            self.drop()
        self.on_event(event)
