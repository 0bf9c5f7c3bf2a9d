"""Repeating what the transaction below does not: the 2xx to INVITE until its ACK, a reliable 1xx until its PRACK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from offhook.legs.sip.transaction import PATIENCE, T1, T2


class Repeater:
    """Calls `again` after T1, 2 × T1 … up to T2, and `give_up` after 64 × T1, until it is stopped (13.3.1.4)."""

    def __init__(self, again: Callable[[], None], give_up: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._again = again
        self._give_up = give_up
        self._interval = T1
        self._next = self._loop.call_later(T1, self._fire)
        self._last = self._loop.call_later(PATIENCE, self._end)

    def stop(self) -> None:
        """It is there. Stopping twice does no harm."""
        self._next.cancel()
        self._last.cancel()

    def _fire(self) -> None:
        self._again()
        self._interval = min(2 * self._interval, T2)
        self._next = self._loop.call_later(self._interval, self._fire)

    def _end(self) -> None:
        self.stop()
        self._give_up()
