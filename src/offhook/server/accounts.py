"""What a call record is made of, noted while the call goes on: who was in it, when, how it sounded, why it ended.

It is plain data, travels with the call's copy to the worker, and so outlives the control process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from offhook.audio import emodel
from offhook.call import messages as m
from offhook.call import people_messages as p
from offhook.call.model import CallData, Connection, EndCause, LegState, Release
from offhook.media.tidings import LegFigures

LEGS = 100  # of one call, of whom an account is given; the newest
APPS = 100  # the same
TARGETS = 20  # that were called
PACKET_MS = 20.0  # of audio, which the sender waits for before it sends them

By = Literal["app", "party", "server"]
"""Who ended something: an app by REST, somebody at a telephone (or a simulated one), or this server by itself."""

T = TypeVar("T")


class LegAudio(msgspec.Struct, frozen=True):
    """How a telephone's audio arrived. Packets, and milliseconds; `round_trip_ms`, `mos`: None when not known."""

    codec: str
    received: int
    lost: int
    late: int
    duplicates: int
    sent: int
    jitter_ms: float
    delay_ms: float  # in the jitter buffer
    round_trip_ms: float | None
    mos: float | None

    @classmethod
    def of(cls, figures: LegFigures) -> LegAudio:
        """Return what a worker has measured, with an estimate of what people would say of it (`audio.emodel`)."""
        counts, gauges = figures.counts, figures.gauges
        received, lost = counts["received"], counts["lost"]
        failed = max(lost + counts["late"] + counts["discarded"], 0)
        one_way = gauges["round_trip_ms"] / 2 + gauges["delay_ms"] + PACKET_MS
        mos = emodel.mos(emodel.rating(one_way, failed / (received + lost))) if received > 0 else None
        return cls(
            figures.codec,
            received,
            lost,
            counts["late"],
            counts["duplicates"],
            counts["sent"],
            round(gauges["jitter_ms"], 1),
            round(gauges["delay_ms"], 1),
            round(gauges["round_trip_ms"], 1) or None,
            None if mos is None else round(mos, 2),
        )


class Ending(msgspec.Struct):
    """How something ended. `party`: the raw id of who did it, "" if nobody in particular."""

    by: By
    cause: EndCause
    party: str = ""
    release: Release | None = None


class LegAccount(msgspec.Struct):
    """One party's leg. Times are Unix seconds. `called`: we called it; else it has called."""

    party: str
    called: bool
    began: float
    answered: float | None = None
    ended: float | None = None
    ending: Ending | None = None
    moved_to: str = ""  # the id of the call that it left for
    audio: LegAudio | None = None  # of a telephone


class AppAccount(msgspec.Struct):
    """One app's connection, and what went over its audio sockets."""

    party: str
    role: Literal["created", "answered", "joined"]
    seconds: float = 0.0  # that a socket was open
    sent: int = 0  # messages to the app
    played: int = 0  # frames from the app


class Account(msgspec.Struct):
    """One call. `due`: legs of telephones whose figures are to come. `up`: since when which audio socket is open."""

    inbound: bool = False
    targets: list[str] = []
    answered: float | None = None
    ended: float | None = None
    ending: Ending | None = None
    legs: dict[str, LegAccount] = {}
    apps: dict[str, AppAccount] = {}
    due: list[str] = []
    up: dict[str, float] = {}

    def note(self, data: CallData, message: m.Message, effects: Sequence[m.Effect], now: float) -> None:
        """`message` has made of the call what `data` says, and has led to `effects`."""
        self._note_who_is_there(data, now)
        match message:
            case m.PlaceCall():
                self.inbound = True
            case m.LegEnded(leg, cause, release) if leg in self.legs:
                self._leg_ended(leg, Ending("party", cause, self.legs[leg].party, release), now)
        for effect in effects:
            match effect:
                case m.Invite(_, to) if to not in self.targets and len(self.targets) < TARGETS:
                    self.targets.append(to)
                case m.EndLeg(leg, cause):
                    self._leg_ended(leg, Ending("server", cause), now)
                case p.HandOver(moved, to_call):
                    self._leg_moved(moved.id, to_call, now)
                case m.Notify(_, m.CallConnected()) if self.answered is None:
                    self.answered = now
                case m.CallOver():
                    self.ended, self.ending = now, _ending(message, data)

    def _note_who_is_there(self, data: CallData, now: float) -> None:
        for app in data.connections.values():
            if app.id not in self.apps:
                self.apps[app.id] = AppAccount(app.party, _role(app))
                _keep_newest(self.apps, APPS)
        for leg in data.legs.values():
            if leg.of_call is not None or (leg.id not in self.legs and leg.state is LegState.ENDED):
                continue  # It is in another call, or has been gone for so long that we know of it no more.
            if leg.id not in self.legs:
                self.legs[leg.id] = LegAccount(leg.party, not leg.inviter, now)
                _keep_newest(self.legs, LEGS)
            account = self.legs[leg.id]
            if account.moved_to:  # It has come back.
                account.ended, account.moved_to = None, ""
            if leg.state is LegState.CONNECTED and account.answered is None:
                account.answered = now
                self.answered = now if self.answered is None else self.answered

    def _leg_ended(self, leg: str, ending: Ending, now: float) -> None:
        account = self.legs.get(leg)
        if account is not None and account.ended is None:
            account.ended, account.ending = now, ending

    def _leg_moved(self, leg: str, to_call: str, now: float) -> None:
        account = self.legs.get(leg)
        if account is not None and account.ended is None:
            account.ended, account.moved_to = now, to_call

    def stream_ended(self, stream: str, connection: str, stats: dict[str, int], now: float) -> None:
        """An audio socket of a connection has ended, and has these figures (`media.stream`)."""
        began = self.up.pop(stream, None)
        app = self.apps.get(connection)
        if app is not None:
            app.seconds += 0.0 if began is None else now - began
            app.sent += stats.get("sent", 0)
            app.played += stats.get("played", 0)


def _role(app: Connection) -> Literal["created", "answered", "joined"]:
    return "created" if app.created else "joined" if app.joined else "answered"


def _keep_newest(table: dict[str, T], limit: int) -> None:
    if len(table) > limit:
        del table[next(iter(table))]


def _ending(message: m.Message, data: CallData) -> Ending:
    """Return who ended the call by `message`, and why."""
    match message:
        case m.HangUp(connection) | m.Terminate(connection):
            return Ending("app", EndCause.HUNG_UP_BY_APP, data.connections[connection].party)
        case p.RemoveParticipant(asker):
            return Ending("app", EndCause.REMOVED, data.connections[asker.connection].party)
        case p.CancelAdd(asker):
            return Ending("app", EndCause.CANCELED, data.connections[asker.connection].party)
        case m.Reject(_, cause):
            return Ending("app", cause)
        case m.LegEnded(leg, cause, release):
            return Ending("party", cause, data.legs[leg].party, release)
        case p.Abandoned():
            return Ending("party", EndCause.CANCELED, data.caller)
        case m.RingTimedOut():
            return Ending("server", EndCause.NO_ANSWER)
        case m.Unreachable(_, cause) | m.EndCall(cause):
            return Ending("server", cause)
        case _:  # who was left has gone over to another call
            return Ending("party", EndCause.REMOTE_LEFT)
