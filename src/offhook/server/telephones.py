"""Telephones in calls: from SIP sessions to the messages of a `Call`, and back.

A *line* is one telephone in one call: its SIP session, which lives here in the control process, and its RTP leg, which
lives in the call's media worker. Where its audio goes is agreed in SDP; the worker is told by `OpenRtp` and `AgreeRtp`.

    a telephone calls     INVITE ─► OpenRtp ─► RtpOpened ─► the callee rings ─► answered: 200 and ConnectLeg
    we call a telephone   Invite ─► OpenRtp ─► RtpOpened ─► INVITE ─► 200: AgreeRtp ─► LegAnswered ─► ConnectLeg
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from offhook.call import messages as m
from offhook.call.model import EndCause, Shown
from offhook.legs.sip import events
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.negotiation import Agreed, MediaPolicy, Negotiation, NotAcceptable
from offhook.legs.sip.session import Session
from offhook.legs.sip.stack import SipStack
from offhook.media import link
from offhook.server.dialplan import Route, dial, e164
from offhook.server.placement import Busy, Worker
from offhook.server.sip_config import Sip, SipPhone

if TYPE_CHECKING:
    from offhook.server.control import Control

log = logging.getLogger(__name__)

CUSTOM = ("x-", "user-to-user")  # headers (lower case) that are passed on as SIP headers of the custom context
CUSTOM_LIMIT = 20  # of them
CONTEXT_CHARS = 1000  # of one of them

ENDS: dict[int, EndCause] = {  # SIP status of a call that was not answered → why
    403: EndCause.DECLINED,
    404: EndCause.UNREACHABLE,
    408: EndCause.NO_ANSWER,
    410: EndCause.UNREACHABLE,
    480: EndCause.NO_ANSWER,
    484: EndCause.UNREACHABLE,
    486: EndCause.BUSY,
    487: EndCause.CANCELED,
    600: EndCause.BUSY,
    603: EndCause.DECLINED,
    604: EndCause.UNREACHABLE,
}
REFUSALS: dict[EndCause, int] = {  # why a telephone's call was not answered → SIP status
    EndCause.BUSY: 486,
    EndCause.DECLINED: 603,
    EndCause.REJECTED: 603,
    EndCause.FORBIDDEN: 403,
    EndCause.NO_ANSWER: 480,
    EndCause.UNREACHABLE: 404,
    EndCause.MEDIA_LOST: 500,
}


@dataclass(eq=False)
class Line:
    """One telephone in one call."""

    leg: str
    worker: Worker
    negotiation: Negotiation
    session: Session | None = None  # None: the RTP port is being opened, then it is called
    port: int = 0
    agreed: Agreed | None = None
    answered: bool = False
    to: str = ""  # whom we call, a raw id
    shown: Shown | None = None  # what it sees of who calls


class Telephones:
    """Every line of this server. `stack` is set once it has been made with `on_invite`."""

    def __init__(
        self,
        control: Control,
        sip: Sip,
        host: str,
        routes: Sequence[Route],
        phones: Sequence[SipPhone],
        raw_id: Callable[[str], str],
    ) -> None:
        """`host`: the address for audio. `raw_id` gives the raw id of a name that is no number."""
        self._control = control
        self._sip = sip
        self._host = host
        self._routes = routes
        self._raw_id = raw_id
        self._shown_host = sip.advertised or host
        self._policy = MediaPolicy(tuple(sip.codecs), srtp=sip.srtp)
        self._phones = {phone.user: phone for phone in phones}
        self._user_of = {self._phone_id(phone): phone.user for phone in phones}
        self._lines: dict[str, Line] = {}  # by leg
        self.stack: SipStack | None = None

    # ------------------------------------------------------------------------------------------ a telephone calls

    def on_invite(self, session: IncomingSession) -> None:
        """A telephone that may call does."""
        negotiation = Negotiation(self._policy, self._shown_host)
        try:
            agreed = None if session.offer is None else negotiation.consider(session.offer)
            caller, to = self._caller(session), self._address(session.request_uri.user)
            worker = self._control.place([to])
        except NotAcceptable as error:
            session.reject(error.code, str(error))
        except Busy as busy:
            session.reject(503, str(busy), q850=42)
        except ValueError as error:
            session.reject(404, str(error), q850=1)
        else:
            leg = worker.ids.guid()
            self._lines[leg] = line = Line(leg, worker, negotiation, session, agreed=agreed)
            session.on_event = partial(self._on_event, line)
            session.ring()
            shown = Shown(caller, session.from_.display[:256], _custom_context(session))
            self._control.call_from(worker, leg, self._opening(line), shown, to)

    def _caller(self, session: IncomingSession) -> str:
        """Return the raw id of who calls: a phone that has logged in is who it is, whatever it says."""
        if session.phone:
            return self._phone_id(self._phones[session.phone])
        user = session.from_.uri.user
        if not user or user.lower() == "anonymous":
            return "4:anonymous"
        return self._address(user)

    def _address(self, user: str) -> str:
        """Return the raw id of the user part of a SIP URI: a number where it is one, else somebody by name."""
        if user in self._phones:
            return self._phone_id(self._phones[user])
        if user.lstrip("+").replace("-", "").replace(".", "").isdigit():
            try:
                return f"4:{e164(user, self._sip.region)}"
            except ValueError:
                return f"4:{user}"  # A short number, or one of a PBX.
        return self._raw_id(user)

    def _phone_id(self, phone: SipPhone) -> str:
        return f"4:{phone.number}" if phone.number else self._raw_id(phone.user)

    # ------------------------------------------------------------------------------------------ a telephone is called

    def reaches(self, to: str, by_app: bool) -> bool:
        """Whether `to` (a raw id) is a telephone that can be called: logged in, or a number with a route.

        Routes are for what an app calls: what somebody dials from outside never goes out again.
        """
        if self.stack is None:
            return False
        user = self._user_of.get(to)
        if user is not None and self.stack.contacts(user):
            return True
        return by_app and to.startswith("4:+") and dial(self._routes, to[2:]) is not None

    def call(self, worker: Worker, leg: str, to: str, shown: Shown) -> None:
        """Let a telephone ring, as `leg`. How it goes comes as reports."""
        negotiation = Negotiation(self._policy, self._shown_host)
        self._lines[leg] = line = Line(leg, worker, negotiation, to=to, shown=shown)
        worker.send(self._opening(line))

    def _opening(self, line: Line) -> link.OpenRtp:
        """Return the order that opens its port; what is agreed on later replaces the rest of it."""
        codec = line.agreed.codec if line.agreed is not None else self._policy.codecs[0]
        return link.OpenRtp(line.leg, codec, {"PCMU": 0, "PCMA": 8}[codec], self._host)

    def on_opened(self, leg: str, port: int) -> None:
        """Tiding: the RTP port is there."""
        line = self._lines.get(leg)
        if line is None:
            return
        line.port = port
        if line.session is not None:
            self._control.report(leg, m.LegReady(leg))
            return
        assert self.stack is not None
        try:
            line.session = self._invite(line)
        except ValueError as error:  # The phone has logged out meanwhile, say.
            log.info("cannot call %s: %s", line.to, error)
            self._drop(line, EndCause.UNREACHABLE)

    def _invite(self, line: Line) -> Session:
        assert self.stack is not None
        assert line.shown is not None
        offer, on_event, shown = line.negotiation.offer(line.port), partial(self._on_event, line), line.shown
        number = shown.caller.removeprefix("4:") if shown.caller.startswith("4:+") else ""
        headers = tuple((shown.custom_context or {}).get("sipHeaders", {}).items())
        user = self._user_of.get(line.to)
        if user is not None and self.stack.contacts(user):
            from_ = f"sip:{number or 'anonymous'}@{self._shown_host}"
            return self.stack.invite(user, from_, offer, on_event, display=shown.name, headers=headers)
        dialled = dial(self._routes, line.to[2:], number)
        if dialled is None:
            raise ValueError("no route leads there any more")
        from_ = f"sip:{dialled.caller_id or 'anonymous'}@{self._shown_host}"
        return self.stack.invite(
            dialled.number, from_, offer, on_event, trunk=dialled.trunk, display=shown.name, headers=headers
        )

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
            self._agree(line, agreed)

    def end(self, leg: str, cause: EndCause) -> None:
        """The call is over for this leg."""
        line = self._lines.pop(leg, None)
        if line is None or line.session is None:
            return
        if isinstance(line.session, IncomingSession) and not line.answered:
            line.session.reject(REFUSALS.get(cause, 480))
        else:
            line.session.hang_up()

    def lost(self, leg: str) -> None:
        """The media worker has lost the leg: no audio came, or the worker is gone."""
        self.end(leg, EndCause.MEDIA_LOST)

    # ------------------------------------------------------------------------------------------ what a telephone says

    def _on_event(self, line: Line, event: events.Event) -> None:
        if self._lines.get(line.leg) is not line:
            return
        match event:
            case events.Answered(description):
                self._on_answered(line, description)
            case events.Offered(description):
                self._on_offered(line, description)
            case events.Digits(tones):
                line.worker.send(link.PressDigits(line.leg, tones))
            case events.Referred():
                assert line.session is not None
                line.session.refer_progress(603)  # Who takes part in a call, its app decides.
            case events.Ended(code):
                self._drop(line, EndCause.REMOTE_LEFT if line.answered else self._why(line, code))

    def _why(self, line: Line, code: int) -> EndCause:
        """Return why a call came to nothing. Who calls and gives up has hung up."""
        if isinstance(line.session, IncomingSession):
            return EndCause.REMOTE_LEFT
        return ENDS.get(code, EndCause.UNREACHABLE)

    def _drop(self, line: Line, cause: EndCause) -> None:
        """The telephone is gone."""
        self._lines.pop(line.leg, None)
        line.worker.send(link.EndLeg(line.leg, cause.value))
        self._control.report(line.leg, m.LegEnded(line.leg, cause))

    def _on_answered(self, line: Line, description: str | None) -> None:
        assert line.session is not None
        if description is not None:
            try:
                self._agree(line, line.negotiation.accept(description))
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
        self._agree(line, agreed)

    def _agree(self, line: Line, agreed: Agreed) -> None:
        line.agreed = agreed
        keys = link.SrtpKeys(agreed.send_key, agreed.receive_key) if agreed.send_key else None
        line.worker.send(
            link.AgreeRtp(
                line.leg,
                agreed.codec,
                agreed.payload_type,
                agreed.dtmf_type,
                agreed.remote,
                agreed.rtcp_mux,
                keys,
                held=agreed.held,
            )
        )


def _custom_context(session: IncomingSession) -> dict[str, dict[str, str]] | None:
    """Return the INVITE's own headers as IncomingCall's custom context; None when there are none."""
    found = {name: value[:CONTEXT_CHARS] for name, value in session.headers if name.lower().startswith(CUSTOM)}
    return {"sipHeaders": dict(list(found.items())[:CUSTOM_LIMIT])} if found else None
