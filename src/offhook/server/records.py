"""What control holds of each call and phone, beside the call's own state; and how it is copied and read back."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from offhook.call import messages as m
from offhook.call import operation_messages as o
from offhook.call import people_messages as p
from offhook.call.call import Call
from offhook.call.model import CallData
from offhook.media.weather import Fate, Weather, fate
from offhook.server.accounts import Account
from offhook.server.adoption import TIMELINE_TAIL, CallCopy, PhoneCopy, Ring
from offhook.server.placement import Worker

ANSWERS = 20  # of one call that a repeated request gets again after the control process was killed; the newest
TIMELINE = 500  # entries of one call's timeline; the newest are kept


@dataclass
class CallRecord:
    """A call, what only the control process knows of it, and what is told about it."""

    call: Call
    worker: Worker
    began: float  # Unix seconds
    stats: dict[str, dict[str, int]] = field(default_factory=dict)  # of its streams, when they have ended
    timeline: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=TIMELINE))
    streams: list[tuple[str, int]] = field(default_factory=list)  # (connection, epoch) whose StreamEnded is to come
    undelivered: set[str] = field(default_factory=set)  # ids of its parcels
    answers: deque[str] = field(default_factory=deque)  # keys of what was answered about it: at most ANSWERS
    weather: Weather | None = None
    events: dict[str, int] = field(default_factory=dict)  # so far, by kind; counted under weather only
    account: Account | None = None  # where call records are written
    borrowed: dict[str, Worker] = field(default_factory=dict)  # by leg: the other worker where it is (`server.moves`)

    @property
    def data(self) -> CallData:
        return self.call.data

    def home(self, leg: str) -> Worker:
        """Return the worker where a leg of this call is."""
        return self.borrowed.get(leg, self.worker)

    def lent_by(self, worker: Worker) -> list[str]:
        """Return the legs of this call that are at another worker, and at this one."""
        return [leg for leg, home in self.borrowed.items() if home is worker]

    def fate(self, kind: str) -> Fate | None:
        """Return what the weather does to the next event of this kind."""
        if self.weather is None:
            return None
        self.events[kind] = self.events.get(kind, 0) + 1
        return fate(self.weather, kind, self.events[kind])

    def copy(self, rings: dict[str, Ring]) -> CallCopy:
        """Return what the worker keeps of it; `rings` are its open invitations."""
        timeline = list(self.timeline)[-TIMELINE_TAIL:]
        return CallCopy(
            self.data,
            self.began,
            rings,
            self.streams,
            self.stats,
            timeline,
            self.weather,
            self.events,
            self.account,
            {leg: home.number for leg, home in self.borrowed.items()},
        )

    @classmethod
    def from_copy(cls, copy: CallCopy, worker: Worker, workers: Sequence[Worker]) -> CallRecord:
        """Return the record of a call that `worker`, one of `workers`, has kept."""
        return cls(
            Call(copy.data),
            worker,
            copy.began,
            copy.stats,
            deque(copy.timeline, TIMELINE),
            copy.streams,
            weather=copy.weather,
            events=copy.events,
            account=copy.account,
            borrowed={leg: workers[number] for leg, number in copy.borrowed.items()},
        )


@dataclass
class Phone:
    """A simulated phone that waits for calls."""

    leg: str
    party: str
    rate: int
    worker: Worker
    attached: bool = False
    call: str | None = None
    token: str = ""  # of the audio socket that its client was told to move to
    weather: Weather | None = None  # over its line, and over its calls that have none

    def copy(self) -> PhoneCopy:
        """Return what its worker keeps of it. Whether it is in a call, that call's copy says."""
        return PhoneCopy(self.leg, self.party, self.rate, self.attached, self.token, self.weather)


def stream_id(connection: str, epoch: int) -> str:
    """Return the name on the link of one opening of a connection's stream."""
    return f"{connection}.{epoch}"


def details(event: m.Event) -> dict[str, Any]:
    """Return what of an event is worth a line in the timeline."""
    match event:
        case m.CallDisconnected(cause) | m.CreateCallFailed(cause) | m.AnswerFailed(cause):
            return {"cause": cause.value}
        case p.ConnectFailed(cause) | p.TransferFailed(cause):
            return {"cause": cause.value}
        case p.AddFailed(party, cause):
            return {"party": party, "cause": cause.value}
        case p.AddSucceeded(party) | p.RemoveSucceeded(party) | p.MoveSucceeded(party):
            return {"party": party}
        case p.MoveFailed(party, problem=problem):
            return {"party": party, "cause": problem.value}
        case p.TransferAccepted(target, transferee):
            return {"target": target, "transferee": transferee}
        case m.StreamingFailed(failure, detail):
            return {"cause": failure.value, "detail": detail}
        case m.ParticipantsUpdated(participants):
            return {"participants": len(participants)}
        case o.PlayFailed(failure) | o.RecognizeFailed(failure) | o.HoldFailed(failure) | o.SendTonesFailed(failure):
            return {"cause": failure.problem.value}  # Not the detail: it may be what somebody has said.
        case o.RecognizeCompleted(outcome):
            return {"outcome": outcome.value}
        case _:
            return {}
