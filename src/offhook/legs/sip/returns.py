"""Requests for phones whose connection ended with another process, and whose Contact nobody listens at.

Such a phone is behind a NAT, or has no certificate for TLS: it can only connect by itself, and does so with its next
REGISTER. Until then requests wait, two minutes at most; each is of a session or of a call that is tried, which have
their own bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from offhook.legs.sip.flows import Flow

RETURN_S = 120.0

Use = Callable[[Flow | None], None]


class Returns:
    """What waits, by the user of the phone. Must be made on a running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, dict[Use, asyncio.TimerHandle]] = {}

    def wait(self, user: str, use: Use) -> None:
        """Hand the connection over which the phone comes back to `use`; None when it does not."""
        self._waiting.setdefault(user, {})[use] = self._loop.call_later(RETURN_S, self._give_up, user, use)

    def came(self, user: str, flow: Flow) -> None:
        """The phone has registered over the connection `flow`."""
        for use, timer in self._waiting.pop(user, {}).items():
            timer.cancel()
            use(flow)

    def close(self) -> None:
        """Wait for nobody any more."""
        for timer in (timer for waiting in self._waiting.values() for timer in waiting.values()):
            timer.cancel()
        self._waiting.clear()

    def _give_up(self, user: str, use: Use) -> None:
        del self._waiting[user][use]
        if not self._waiting[user]:
            del self._waiting[user]
        use(None)
