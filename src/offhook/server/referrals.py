"""Transfers by SIP: those that telephones ask us for (REFER, Replaces), and those that we ask a trunk for (REFER).

A telephone that refers a call elsewhere only says *whom*: the user part of the URI that it names is looked up as if the
telephone had dialled it, so that it reaches apps and phones and no route, and nothing is ever sent to a foreign host.
Who may do so: a `[[phone]]`, and a trunk with `allow_transfer`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offhook.call import messages as m
from offhook.call import people
from offhook.call import people_messages as p
from offhook.call.model import ConnectionState, EndCause, LegState
from offhook.call.refusals import Refused
from offhook.legs.sip import events
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.negotiation import NotAcceptable
from offhook.legs.sip.session import Session
from offhook.legs.sip.uri import Uri, parse_uri
from offhook.server import causes
from offhook.server.lines import Line
from offhook.server.records import CallRecord

if TYPE_CHECKING:
    from offhook.server.control import Control
    from offhook.server.telephones import Telephones

log = logging.getLogger(__name__)

REFER_S = 180.0  # for a trunk to say how a transfer ended that we have asked for


class _NotPossible(Exception):
    """What a telephone wants cannot be done. `code`: the SIP status that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass
class _Asked:
    """A transfer that a trunk was asked for, and its id in the transferee's call."""

    transfer: str
    timer: asyncio.TimerHandle
    accepted: bool = False  # the trunk tries


class Referrals:
    """`telephones` has the lines."""

    def __init__(self, control: Control, telephones: Telephones) -> None:
        self._control = control
        self._telephones = telephones
        self._asked: dict[str, _Asked] = {}  # by leg of the transferee
        self._waiting: dict[str, tuple[Line, events.Referred]] = {}  # by leg of the telephone

    # ------------------------------------------------------------------------------------------ a telephone asks

    def on_referred(self, line: Line, referred: events.Referred) -> None:
        """REFER: the telephone wants somebody else to have its place in the call."""
        session = _session(line)
        if not self._may_refer(session):
            log.info("%s may not transfer calls", session.phone or f"trunk {session.trunk}")
            session.refuse_refer(403)
        else:
            self._start(line, referred)

    def on_joined(self) -> None:
        """A leg has joined its call, or is gone: go on with what has waited for that."""
        for leg in tuple(self._waiting):
            if (waited := self._waiting.pop(leg, None)) is not None:
                self._start(*waited)

    def _start(self, line: Line, referred: events.Referred) -> None:
        """Do what a telephone wants, as soon as its legs are in their calls.

        A REFER may come from the 200 on, and a leg joins its call a few ticks later: when the media worker says so. No
        time is set, as a leg that does not join ends.
        """
        session = _session(line)
        other = None if referred.replaces is None else self._line_of(referred.replaces)
        if self._joins(line) or (other is not None and self._joins(other)):
            self._waiting[line.leg] = line, referred
            return
        try:
            if referred.replaces is None:
                self._refer(line, referred.to)
            else:
                self._unite(line, referred.replaces)
        except Refused as refused:
            session.refer_progress(603, str(refused))
        except _NotPossible as problem:
            session.refer_progress(problem.code, str(problem))

    def _joins(self, line: Line) -> bool:
        """Whether a telephone's leg is about to be in its call."""
        record = self._control.registry.by_leg.get(line.leg)
        leg = None if record is None else record.data.legs.get(line.leg)
        return line.answered and leg is not None and leg.state in (LegState.WAITING, LegState.RINGING)

    def _may_refer(self, session: Session) -> bool:
        trunk = self._telephones.book.trunk(session.trunk)
        return bool(session.phone) or (trunk is not None and trunk.allow_transfer)

    def _refer(self, line: Line, to: Uri) -> None:
        """Blind: whoever is named is rung, and comes in the telephone's place."""
        if not (to.dialable and to.user):
            raise _NotPossible(404, "Nobody Named")
        record = self._record(line)
        target = self._telephones.book.address(to.user)
        self._control.exchange.submit(record, p.Refer(line.leg, record.worker.ids.guid(), target))

    def _unite(self, line: Line, replaces: events.Replaces) -> None:
        """Attended: the telephone has two calls, and makes one of them, without itself.

        Of two with an app each, neither can become the other's: an app's connection is to one call.
        """
        other = self._line_of(replaces)
        if other is None or other is line:
            raise _NotPossible(404, "No Such Call")
        ours, theirs = _session(line), _session(other)
        if (ours.phone, ours.trunk) != (theirs.phone, theirs.trunk):
            raise _NotPossible(403, "Not Your Call")
        stays, goes = (line, other) if _has_app(self._record(line)) else (other, line)
        call, leaving = self._record(stays), self._record(goes)
        if _has_app(leaving) or call is leaving:
            raise _NotPossible(603, "Calls Cannot Be Joined")
        there, here = ({leg.id for leg in people.connected_legs(record.call)} for record in (call, leaving))
        if stays.leg not in there or goes.leg not in here or len(here) < 2:
            raise _NotPossible(603, "Not In Both Calls")
        people.check_room(call.call, len(here))
        ours.refer_progress(200)  # Before: with what follows, this telephone is hung up.
        self._control.exchange.submit(leaving, p.HandAllOver(goes.leg, call.data.id, stays.leg))

    def rings(self, line: Line) -> None:
        """Whom the telephone has named is being called."""
        _session(line).refer_progress(180)

    def ended(self, line: Line, code: int) -> None:
        """Somebody is there in the telephone's place (200), or will not be."""
        _session(line).refer_progress(code)

    def take_over(self, session: IncomingSession) -> None:
        """INVITE with Replaces: this telephone wants the place of another one (RFC 3891)."""
        try:
            self._take_over(session)
        except Refused as refused:
            session.reject(481, str(refused))
        except (_NotPossible, NotAcceptable) as problem:
            session.reject(problem.code, str(problem))

    def _take_over(self, session: IncomingSession) -> None:
        before = None if session.replaces is None else self._telephones.line_of(session.replaces)
        if before is None or not before.answered:
            raise _NotPossible(481, "Nothing To Replace")
        if not self._may_refer(session):
            raise _NotPossible(403, "Forbidden")
        if _early_only(session.headers):
            raise _NotPossible(486, "Answered Before")
        record = self._record(before)
        with self._control.exchange.steps.step():
            line = self._telephones.expect(session, record.worker)
            try:
                party = self._telephones.book.caller(session)
                self._control.exchange.submit(record, p.TakePlace(line.leg, before.leg, party))
            except Refused:
                self._telephones.forget(line)
                raise
            self._control.registry.by_leg[line.leg] = record
            record.worker.send(self._telephones.opening(line))

    def _line_of(self, replaces: events.Replaces) -> Line | None:
        stack = self._telephones.stack
        session = None if stack is None else stack.find(replaces)
        return None if session is None else self._telephones.line_of(session)

    def _record(self, line: Line) -> CallRecord:
        record = self._control.registry.by_leg.get(line.leg)
        if record is None:
            raise _NotPossible(603, "Not In A Call")
        return record

    # ------------------------------------------------------------------------------------------ we ask a trunk

    def asks(self, line: Line, target: str) -> bool:
        """Whether a transfer of this telephone to `target` (a raw id) is its trunk's to make: both are reached by it,
        and it is set to `transfer = "refer"`."""
        book = self._telephones.book
        if line.session is None or book.phone_user(target) is not None or self._control.registry.phones_of(target):
            return False
        return line.answered and self._refer_to(line.session.trunk, target) is not None

    def ask(self, line: Line, target: str, transfer: str) -> None:
        """Send the REFER. How it ends is reported to the transferee's call, as the end of `transfer`."""
        session = _session(line)
        uri = self._refer_to(session.trunk, target)
        assert uri is not None
        timer = asyncio.get_running_loop().call_later(REFER_S, self._time_out, line)
        self._asked[line.leg] = _Asked(transfer, timer)
        session.refer(str(uri))

    def _refer_to(self, name: str, target: str) -> Uri | None:
        trunk = self._telephones.book.trunk(name)
        if trunk is None or trunk.transfer != "refer":
            return None
        dialled = self._telephones.book.dial(target)
        if dialled is None or dialled.trunk != name:
            return None
        return Uri(dialled.number, parse_uri(trunk.server).host)

    def on_progress(self, line: Line, progress: events.ReferProgress) -> None:
        """A trunk tells how the transfer goes."""
        asked = self._asked.get(line.leg)
        if asked is None:
            return
        asked.accepted = asked.accepted or progress.code < 300
        if progress.final and progress.code < 200:
            return  # It will tell nothing more: what counts is whether it hangs up.
        if progress.final and progress.code < 300:
            self._end(line, p.TransferDone(asked.transfer))
        elif progress.final:
            cause, release = causes.end_cause(progress.code), causes.release(progress)
            self._end(line, p.TransferEnded(asked.transfer, cause, release))

    def _time_out(self, line: Line) -> None:
        self._end(line, p.TransferEnded(self._asked[line.leg].transfer, EndCause.NO_ANSWER))

    def on_ended(self, line: Line) -> None:
        """A telephone has hung up. Many trunks do just that once they have put the call through, and say no more."""
        asked = self._asked.get(line.leg)
        if asked is not None and asked.accepted:
            self._end(line, p.TransferDone(asked.transfer))

    def forget(self, leg: str) -> None:
        """The line is gone."""
        self._settle(leg)
        self._waiting.pop(leg, None)
        self.on_joined()

    def _settle(self, leg: str) -> None:
        if (asked := self._asked.pop(leg, None)) is not None:
            asked.timer.cancel()

    def _end(self, line: Line, report: m.Report) -> None:
        self._settle(line.leg)
        self._control.report(line.leg, report)


def _session(line: Line) -> Session:
    assert line.session is not None
    return line.session


def _has_app(record: CallRecord) -> bool:
    """Whether a call cannot become part of another one: an app is in it, or somebody is still rung for it."""
    apps = record.data.connections.values()
    in_it = any(app.state is not ConnectionState.DISCONNECTED for app in apps)
    return in_it or bool(record.data.invitations) or record.data.locator is not None


def _early_only(headers: Sequence[tuple[str, str]]) -> bool:
    """Whether an INVITE only wants to replace what still rings (RFC 3891 section 3)."""
    values = [value for name, value in headers if name.lower() == "replaces"]
    return any("early-only" in value.lower().replace(" ", "").split(";") for value in values)
