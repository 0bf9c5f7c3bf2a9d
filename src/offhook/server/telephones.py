"""Telephones in calls: from SIP sessions to the messages of a `Call`, and back.

Where the audio of a `Line` goes is agreed in SDP; its worker is told by `OpenRtp` and `AgreeRtp`.

    a telephone calls     INVITE ─► OpenRtp ─► RtpOpened ─► the callee rings ─► answered: 200 and ConnectLeg
    we call a telephone   Invite ─► OpenRtp ─► RtpOpened ─► INVITE ─► 200: AgreeRtp ─► LegAnswered ─► ConnectLeg
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from offhook.call import messages as m
from offhook.call import people_messages as p
from offhook.call.model import EndCause, Release, Shown
from offhook.legs.sip import events
from offhook.legs.sip.dialog import MAX_FORWARDS
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.memento import Memento
from offhook.legs.sip.negotiation import MediaPolicy, Negotiation, NotAcceptable, payload_type
from offhook.legs.sip.session import Session
from offhook.legs.sip.stack import SipStack
from offhook.media import link
from offhook.server import causes
from offhook.server.adoption import LineCopy
from offhook.server.lines import Line
from offhook.server.phone_book import PhoneBook, number_of
from offhook.server.placement import Busy, Worker
from offhook.server.records import CallRecord
from offhook.server.referrals import Referrals
from offhook.server.sip_config import Sip

if TYPE_CHECKING:
    from offhook.server.control import Control

log = logging.getLogger(__name__)


class Telephones:
    """Every line of this server. `stack` is set once it has been made with `on_invite`."""

    def __init__(self, control: Control, sip: Sip, host: str, book: PhoneBook) -> None:
        """`host`: the address for audio."""
        self._control = control
        self._host = host
        self._shown_host = sip.advertised or host
        self._policy = MediaPolicy(tuple(sip.codecs), srtp=sip.encryption)
        self._lines: dict[str, Line] = {}  # by leg
        self.book = book
        self.referrals = Referrals(control, self)
        self.stack: SipStack | None = None

    # ------------------------------------------------------------------------------------------ a telephone calls

    def on_invite(self, session: IncomingSession) -> None:
        """A telephone that may call does."""
        with self._control.exchange.steps.step():
            if session.replaces is None:
                self._take_call(session)
            else:
                self.referrals.take_over(session)

    def _take_call(self, session: IncomingSession) -> None:
        try:
            shown, to = self.book.shown(session), self.book.dialled(session)
            line = self.expect(session, self._control.place([to]))
        except NotAcceptable as error:
            session.reject(error.code, str(error))
        except Busy as busy:
            session.reject(503, str(busy), q850=42)
        except ValueError as error:
            session.reject(404, str(error), q850=1)
        else:
            session.ring()
            self._control.call_from(line.worker, line.leg, self.opening(line), shown, to)

    def expect(self, session: IncomingSession, worker: Worker) -> Line:
        """Return a new line for a telephone that calls. Raises `NotAcceptable` for what we cannot speak."""
        negotiation = Negotiation(self._policy, self._shown_host)
        agreed = None if session.offer is None else negotiation.consider(session.offer)
        leg = worker.ids.guid()
        self._lines[leg] = line = Line(leg, worker, negotiation, session, agreed=agreed)
        line.keep()
        session.on_event = partial(self._on_event, line)
        return line

    def answered_lines(self) -> list[Line]:
        """Return the telephones that are in calls."""
        return [line for line in self._lines.values() if line.answered]

    def line_of(self, session: Session) -> Line | None:
        """Return the line that a session is of."""
        return next((line for line in self._lines.values() if line.session is session), None)

    # ------------------------------------------------------------------------------------------ a telephone is called

    def reaches(self, to: str, by_app: bool) -> bool:
        """Whether `to` (a raw id) is a telephone that can be called: logged in, or a number with a route.

        Routes are for what an app calls: what somebody dials from outside never goes out again.
        """
        if self.stack is None:
            return False
        user = self.book.phone_user(to)
        if user is not None and self.stack.contacts(user):
            return True
        return by_app and self.book.dial(to) is not None

    def call(self, worker: Worker, leg: str, to: str, shown: Shown) -> None:
        """Let a telephone ring, as `leg`. How it goes comes as reports."""
        negotiation = Negotiation(self._policy, self._shown_host)
        self._lines[leg] = line = Line(leg, worker, negotiation, to=to, shown=shown)
        line.keep()
        worker.send(self.opening(line))

    def opening(self, line: Line) -> link.OpenRtp:
        """Return the order that opens its port; what is agreed on later replaces the rest of it."""
        codec = line.agreed.codec if line.agreed is not None else self._policy.codecs[0]
        return link.OpenRtp(line.leg, codec, payload_type(codec), self._host)

    def on_opened(self, leg: str, port: int) -> None:
        """Tiding: the RTP port is there."""
        line = self._lines.get(leg)
        if line is None:
            return
        line.port = port
        if line.session is not None:
            line.keep()
            self._control.report(leg, m.LegReady(leg))
            return
        assert self.stack is not None
        try:
            line.session = self._invite(line)
        except ValueError as error:  # The phone has logged out meanwhile, say.
            log.info("cannot call %s: %s", line.to, error)
            self._drop(line, EndCause.UNREACHABLE)
            return
        line.session.on_change = partial(self._on_change, line)
        line.keep()

    def on_directions(self, leg: str, heard: bool, reached: bool) -> None:
        """Tiding: which ways its audio goes has changed."""
        line = self._lines.get(leg)
        if line is not None:
            line.heard, line.reached = heard, reached

    def _invite(self, line: Line) -> Session:
        assert self.stack is not None
        assert line.shown is not None
        offer, on_event, shown = line.negotiation.offer(line.port), partial(self._on_event, line), line.shown
        number = number_of(shown.caller)
        headers = tuple((shown.custom_context or {}).get("sipHeaders", {}).items())
        invite = partial(
            self.stack.invite, display=shown.name, headers=headers, max_forwards=self._max_forwards(line.leg)
        )
        user = self.book.phone_user(line.to)
        if user is not None and self.stack.contacts(user):
            from_ = f"sip:{number or 'anonymous'}@{self._shown_host}"
            return invite(user, from_, offer, on_event)
        dialled = self.book.dial(line.to, number)
        if dialled is None:
            raise ValueError("no route leads there any more")
        from_ = f"sip:{dialled.caller_id or 'anonymous'}@{self._shown_host}"
        return invite(dialled.number, from_, offer, on_event, trunk=dialled.trunk)

    def _max_forwards(self, leg: str) -> int:
        """Return over how many hops a call may still go: fewer than that of the telephone that has made it, so that
        calls do not go round in circles for ever."""
        record = self._control.registry.by_leg.get(leg)
        callers = [] if record is None else self._callers(record)
        hops = [caller.max_forwards - 1 for caller in callers if isinstance(caller, IncomingSession)]
        return min(hops, default=MAX_FORWARDS)

    def trunk_of(self, record: CallRecord) -> str:
        """Return the name of the trunk that a call came by; "" if by none."""
        return next((caller.trunk for caller in self._callers(record)), "")

    def _callers(self, record: CallRecord) -> list[Session]:
        legs = [leg.id for leg in record.data.legs.values() if leg.inviter]
        sessions = [self._lines[leg].session for leg in legs if leg in self._lines]
        return [session for session in sessions if session is not None]

    # ------------------------------------------------------------------------------------------ what a call wants done

    def connect(self, leg: str) -> None:
        """The call goes through to this leg: whoever called is answered."""
        line = self._lines.get(leg)
        if line is None or line.answered or not isinstance(line.session, IncomingSession):
            return
        line.answered = True
        if line.session.offer is None:
            line.session.answer(line.negotiation.offer(line.port))
        else:
            description, agreed = line.negotiation.answer(line.session.offer, line.port)
            line.session.answer(description)
            line.agree(agreed)
        line.keep()

    def end(self, leg: str, cause: EndCause) -> None:
        """The call is over for this leg."""
        line = self._lines.get(leg)
        if line is None:
            return
        self.forget(line)
        if line.session is None:
            return
        if isinstance(line.session, IncomingSession) and not line.answered:
            code, q850 = causes.refusal(cause)
            line.session.reject(code, q850=q850)
        else:
            line.session.hang_up(causes.goodbye(cause))

    def forget(self, line: Line) -> None:
        if self._lines.pop(line.leg, None) is not None:
            line.forget()
        self.referrals.forget(line.leg)

    def lost(self, leg: str) -> None:
        """The media worker has lost the leg: no audio came, or the worker is gone."""
        self.end(leg, EndCause.MEDIA_LOST)

    def trunk_transfers(self, leg: str, target: str) -> bool:
        """Whether a transfer to `target` (a raw id) is the telephone's trunk's to make."""
        line = self._lines.get(leg)
        return line is not None and self.referrals.asks(line, target)

    def ask_to_transfer(self, leg: str, target: str, transfer: str) -> None:
        """Ask the trunk for it. How that ends is reported to the transferee's call, as the end of `transfer`."""
        self.referrals.ask(self._lines[leg], target, transfer)

    def tell_referrer(self, effect: p.ReferralRings | p.ReferralEnded) -> None:
        """How it goes with whom a telephone has referred its call to."""
        line = self._lines.get(effect.leg)
        if line is None:
            return
        if isinstance(effect, p.ReferralRings):
            self.referrals.rings(line)
        else:
            self.referrals.ended(line, 200 if effect.cause is None else causes.refusal(effect.cause)[0])

    # ------------------------------------------------------------------------------------------ another process

    def adopt(self, worker: Worker, copy: LineCopy) -> None:
        """Take over a line of the control process before this one, whose call has been taken over.

        One that rang over TCP or TLS leaves its call.
        """
        assert self.stack is not None
        negotiation = Negotiation(self._policy, self._shown_host, copy.said)
        line = Line(copy.leg, worker, negotiation, port=copy.port, agreed=copy.agreed, to=copy.to)
        line.answered = isinstance(copy.memento, Memento)
        self._lines[copy.leg] = line
        with self._control.exchange.steps.step():
            line.session = None if copy.memento is None else self.stack.resume(copy.memento)
            if line.session is None:
                self._drop(line, EndCause.UNREACHABLE if copy.to else EndCause.REMOTE_LEFT)
                return
            line.session.on_event = partial(self._on_event, line)
            line.session.on_change = partial(self._on_change, line)
            if copy.leg not in self._control.registry.by_leg:
                self.end(copy.leg, EndCause.REMOTE_LEFT)

    # ------------------------------------------------------------------------------------------ what a telephone says

    def _on_event(self, line: Line, event: events.Event) -> None:
        if self._lines.get(line.leg) is line:
            with self._control.exchange.steps.step():
                self._take(line, event)
                if self._lines.get(line.leg) is line:
                    line.keep()

    def _on_change(self, line: Line) -> None:
        if self._lines.get(line.leg) is line:
            with self._control.exchange.steps.step():
                line.keep()

    def _take(self, line: Line, event: events.Event) -> None:
        match event:
            case events.Progress(_, _, str(description)):
                self._on_early(line, description)
            case events.Answered(description):
                self._on_answered(line, description)
            case events.Offered(description):
                self._on_offered(line, description)
            case events.Digits(tones):
                line.worker.send(link.PressDigits(line.leg, tones))
            case events.Referred():
                self.referrals.on_referred(line, event)
            case events.ReferProgress():
                self.referrals.on_progress(line, event)
            case events.Ended(code):
                self.referrals.on_ended(line)
                # Who calls and gives up has hung up.
                left = line.answered or isinstance(line.session, IncomingSession)
                self._drop(line, EndCause.REMOTE_LEFT if left else causes.end_cause(code), causes.release(event))

    def _drop(self, line: Line, cause: EndCause, release: Release | None = None) -> None:
        """The telephone is gone."""
        self.forget(line)
        line.worker.send(link.EndLeg(line.leg, cause.value))
        self._control.report(line.leg, m.LegEnded(line.leg, cause, release))

    def _on_early(self, line: Line, description: str) -> None:
        """There is something to hear before it answers, for the legs of its call. No app gets it: ACS streams none."""
        record = self._control.registry.by_leg.get(line.leg)
        if record is None:
            return
        try:
            line.agree(line.negotiation.accept(description))
        except NotAcceptable as error:
            log.warning("a telephone that rings has said what was not offered: %s", error)
            return
        line.worker.send(link.OverhearLeg(line.leg, record.data.id, line.to))

    def _on_answered(self, line: Line, description: str | None) -> None:
        assert line.session is not None
        if description is not None:
            try:
                line.agree(line.negotiation.accept(description))
            except NotAcceptable as error:
                log.warning("a telephone answered with what was not offered: %s", error)
                line.session.hang_up(q850=88)
                return
        if not line.answered and not isinstance(line.session, IncomingSession):
            line.answered = True
            self._control.report(line.leg, m.LegAnswered(line.leg))

    def _on_offered(self, line: Line, description: str | None) -> None:
        """They put us on hold or back, move their audio, or change the codec."""
        assert line.session is not None
        if description is None:
            line.session.answer(line.negotiation.offer(line.port))
            return
        try:
            answer, agreed = line.negotiation.answer(description, line.port)
        except NotAcceptable:
            line.session.refuse(488)
            return
        line.session.answer(answer)
        line.agree(agreed)
