"""Repeatable requests: an SDK that retries gets one answer, and the thing is done once (contract 1.7)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

KEEP_S = 900.0  # seconds an answer is remembered; SDKs retry for a minute or two
KEEP = 10_000  # answers at most; the oldest go first

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer to a request, and the correlation id of the call that it is about."""

    body: bytes = b""
    correlation: str | None = None


class RepeatMismatch(Exception):
    """The same Repeatability-Request-ID came with another request."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What was answered to a request, `at` (Unix time); `fingerprint` is of the request."""

    fingerprint: bytes
    at: float
    answer: T


class Repeats(Generic[T]):
    """Remembers answers by Repeatability-Request-ID. Only successes: what failed may be tried again."""

    def __init__(self) -> None:
        self._done: OrderedDict[str, Done[T]] = OrderedDict()

    def once(
        self,
        id: str | None,
        request: tuple[str, str, bytes],
        act: Callable[[], T],
        now: float,
        keep: Callable[[str, Done[T]], None] = lambda id, done: None,
    ) -> T:
        """Return `act()`, or what it returned for the same `id` before. What is new goes to `keep`, too.

        `request` is (method, raw path, body): raises `RepeatMismatch` when it is not what `id` stood for.
        """
        if id is None:
            return act()
        while self._done and (len(self._done) >= KEEP or next(iter(self._done.values())).at < now - KEEP_S):
            self._done.popitem(last=False)
        fingerprint = hashlib.sha256(b"\0".join((request[0].encode(), request[1].encode(), request[2]))).digest()
        done = self._done.get(id[:200])
        if done is not None:
            if done.fingerprint != fingerprint:
                raise RepeatMismatch(f"Repeatability-Request-ID {id[:200]} was used for another request")
            return done.answer
        new = self._done[id[:200]] = Done(fingerprint, now, act())
        keep(id[:200], new)
        return new.answer

    def restore(self, id: str, done: Done[T]) -> None:
        """Remember what was kept."""
        self._done[id] = done
