"""The ways to where a request is to go: when one fails, the next is tried (RFC 3263 section 4.3)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from offhook.legs.sip.flows import Flow
from offhook.legs.sip.locate import Target
from offhook.legs.sip.uri import Uri

if TYPE_CHECKING:
    from offhook.legs.sip.transport import Transports

LOOK_UP_S = 10.0

Use = Callable[[Flow | None], None]


class Ways:
    """The ways to `uri`, the best first."""

    def __init__(self, transports: Transports, uri: Uri, near: Flow | None = None) -> None:
        """`near`: an open way that is the only one."""
        self._transports = transports
        self._uri = uri
        self._near = near
        self._left: deque[Target] | None = None if near is None else deque()  # None: not known yet

    @property
    def more(self) -> bool:
        """Whether there is another one, as far as we know."""
        return bool(self._left)

    def take(self, use: Use) -> None:
        """Hand the next way to `use`, None when there is no other: at once if nothing has to be looked up or opened."""
        if self._near is not None:
            near, self._near = self._near, None
            use(near)
        elif self._left is not None:
            self._open_next(use)
        elif (target := self._transports.target_of(self._uri)) is not None:
            self._left = deque([target])
            self._open_next(use)
        elif self._transports.may_lead_somewhere(self._uri):
            self._transports.spawn(self._look_up(use))
        else:
            use(None)

    def failed(self, flow: Flow) -> None:
        """Nobody has answered over `flow`, or said that he cannot: other requests try the others first, too."""
        self._transports.locator.avoid(Target(flow.transport, *flow.remote))

    def _open_next(self, use: Use) -> None:
        assert self._left is not None
        if not self._left:
            use(None)
            return
        target = self._left.popleft()

        def opened(flow: Flow | None) -> None:
            if flow is None and self._left:
                self._transports.locator.avoid(target)
                self._open_next(use)
            else:
                use(flow)

        self._transports.open(target, self._uri.host, opened)

    async def _look_up(self, use: Use) -> None:
        try:
            async with asyncio.timeout(LOOK_UP_S):
                self._left = deque(await self._transports.locate(self._uri))
        except OSError:  # TimeoutError among them
            self._left = deque()
        if not self._left:
            self._transports.counts["names_not_found"] += 1
        self._open_next(use)
