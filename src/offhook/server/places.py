"""Where phones are registered, kept by the media workers for the control process after this one.

Every worker keeps all of it, so that it is there whichever of them dies before control does. Bounds: one value of at
most five places for each phone of the configuration, some 300 bytes a place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from offhook.legs.sip.memento import Place
from offhook.server.adoption import PlacesCopy
from offhook.server.placement import Worker
from offhook.server.steps import Steps


class Places:
    """The places of each phone, by its user."""

    def __init__(self, workers: Sequence[Worker], steps: Steps) -> None:
        self._workers = workers
        self._steps = steps
        self._known: dict[str, PlacesCopy] = {}
        self._restore: Callable[[str, Sequence[Place]], None] | None = None

    def use(self, restore: Callable[[str, Sequence[Place]], None]) -> None:
        """There is a registrar: it is told by `restore` what the one before it knew, as far as that is known by now."""
        self._restore = restore
        for copy in self._known.values():
            restore(copy.user, copy.places)

    def note(self, user: str, places: Sequence[Place]) -> None:
        """A phone has logged in, again, or out: this is where it is now."""
        with self._steps.step():
            if places:
                self._known[user] = PlacesCopy(user, tuple(places))
            else:
                self._known.pop(user, None)
            for worker in self._workers:
                self._tell(worker, user)

    def meet(self, worker: Worker, copies: Iterable[PlacesCopy]) -> None:
        """A worker has come, and has kept these. When control was killed before all of them were told, the newest
        counts."""
        for copy in copies:
            known = self._known.get(copy.user)
            if known is None or _last(known) < _last(copy):
                self._known[copy.user] = copy
                if self._restore is not None:
                    self._restore(copy.user, copy.places)
        for user in self._known:
            self._tell(worker, user)

    def _tell(self, worker: Worker, user: str) -> None:
        key = f"places {user}"
        if user in self._known:
            worker.step.put(key, self._known[user])
        else:
            worker.step.delete(key)


def _last(copy: PlacesCopy) -> float:
    return max((place.expires_at for place in copy.places), default=0.0)
