"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it.

A minute of call takes as long as its work takes, and every run sees the same order of timers. Only for code that keeps
to the loop's clock (`loop.time`, `asyncio.sleep`, `call_later`). What is given to a thread or a process
(`asyncio.to_thread`, `run_in_executor`) is done on the spot, and takes no time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class StuckError(RuntimeError):
    """Nothing is scheduled and nothing can happen any more, but the test still waits."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: the time it was asked to wait passes at once."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise StuckError("the test waits for something that no timer and no socket will bring about")
        self.passed += max(timeout, 0.0)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, starting at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._jumping.passed

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Call `func` now, in this thread, whatever `executor` is."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def block(self, seconds: float) -> None:
        """Let time pass while the loop stands still, as code that blocks does."""
        self._jumping.passed += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a fresh virtual-time loop and return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
