"""The media workers as the control process sees them, and which of them carries the next call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from offhook.legs.simulated_legs import PATH
from offhook.media.admission import REFUSALS, refusal
from offhook.media.link import Act, Link
from offhook.media.tidings import Vitals
from offhook.server.adoption import Copy, Step
from offhook.server.processes import Slot
from offhook.wire.ids import IdMint

REASONS = ("draining", "max_calls", "no_worker", *REFUSALS)
"""Why a call is refused, for counting: the server is being stopped, is full, has no worker, or what a worker says."""


class Busy(Exception):
    """There is no room for one more call, no call is taken, or nobody can say yet which there are; the message
    says why, fit to be shown.

    `reason` is one of `REASONS`.
    """

    def __init__(self, message: str, reason: str = "max_calls") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(eq=False)
class Worker:
    """A media worker, or the place of one that is not there at the moment.

    `mint(epoch)` makes what mints the ids of the calls that it carries, since its boot. `audio`: base URL of the audio
    sockets of its simulated parties, such as ws://127.0.0.1:4711.
    """

    number: int
    mint: Callable[[int], IdMint]
    audio: str = ""
    link: Link | None = None
    boot: int | None = None  # Unix time in ms; None: it has never been there
    ready: asyncio.Event = field(default_factory=asyncio.Event)  # it is there, and has told what it keeps …
    told: bool = False  # … or had, before it was lost
    starts: int = 0  # times that it has come, each in another process
    slot: Slot | None = None  # what the supervisor tells of its process, if there is one
    calls: set[str] = field(default_factory=set)  # their ids
    vitals: Vitals | None = None  # what it told last …
    vitals_at: float = 0.0  # … at this loop time
    step: Step = field(default_factory=Step)  # what it will be told at the end of this step of control
    kept: list[Copy] = field(default_factory=list)  # what it has told so far of what it keeps
    ids: IdMint = field(init=False)

    def __post_init__(self) -> None:
        self.ids = self.mint(0)

    @property
    def up(self) -> bool:
        """Whether it can carry calls."""
        return self.ready.is_set()

    @property
    def awaited(self) -> bool:
        """Whether its process runs and has never told us what it keeps: a call that nobody knows may be one of its."""
        return not self.told and self.slot is not None and self.slot.pid is not None

    def welcome(self, boot: int) -> None:
        """It runs, since `boot`."""
        self.boot = boot
        self.starts += 1
        self.ids = self.mint(boot // 1000 & 0xFFF)

    def keeps(self) -> list[Copy]:
        """It has told all that it keeps, and can carry calls; return what that was."""
        self.ready.set()
        self.told = True
        self.step.keeps = True
        kept, self.kept = self.kept, []
        return kept

    def lose(self) -> None:
        """It is gone, or nobody can tell it anything."""
        self.link, self.vitals = None, None
        self.ready.clear()
        self.step, self.kept = Step(), []

    def refusal(self, now: float) -> str | None:
        """Return why it takes no further call (see `media.admission`), or None. What has never told limits nothing."""
        return None if self.vitals is None else refusal(self.vitals, len(self.calls), now - self.vitals_at)

    def send(self, order: Act) -> None:
        """Give it an order, at the end of this step; nobody gets it when the worker is gone."""
        self.step.order(order)

    def take_step(self) -> None:
        """Tell it what it is to be told."""
        self.step.take(self.link)

    def audio_url(self, token: str) -> str:
        """Where a simulated party's client opens its audio socket."""
        return f"{self.audio}{PATH}{token}"


def ready(workers: Iterable[Worker]) -> list[Worker]:
    """Return the workers that are there. Raises `Busy` when none is."""
    there = [worker for worker in workers if worker.up]
    if not there:
        raise Busy("No media worker is ready.", "no_worker")
    return there


def place(workers: Iterable[Worker], now: float, preferred: Worker | None = None) -> Worker:
    """Return the worker for one more call: `preferred` if it takes one, else the one of the others that has the fewest.

    `now`: loop time. Raises `Busy` when none takes calls.
    """
    refusals = {worker: worker.refusal(now) for worker in ready(workers)}
    takers = [worker for worker, reason in refusals.items() if reason is None]
    if not takers:
        fewest = min(refusals, key=lambda worker: len(worker.calls))
        raise Busy("The media workers carry as many calls as they can in time.", refusals[fewest] or "")
    return preferred if preferred in takers else min(takers, key=lambda worker: len(worker.calls))
