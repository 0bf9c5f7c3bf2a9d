"""A link within one process, for `--workers 0` and tests: what is sent on one end is received on the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from offhook.media.link import Order
from offhook.media.tidings import Tiding


class LinkEnd:
    """One end of an in-memory link: the other end receives on the next loop turn."""

    def __init__(self) -> None:
        self._peer: LinkEnd | None = None
        self._receive: Callable[[Any], None] | None = None
        self._lost: Callable[[], None] | None = None
        self._inbox: deque[Order | Tiding] = deque()

    def send(self, message: Order | Tiding) -> None:
        if self._peer is not None:
            self._peer._take(message)

    def on_receive(self, receive: Callable[[Any], None]) -> None:
        self._receive = receive
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def on_lost(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def close(self) -> None:
        """The other end gets what was sent before, and then hears that the link is lost."""
        peer, self._peer = self._peer, None
        self._inbox.clear()
        if peer is not None:
            asyncio.get_running_loop().call_soon(peer._lose)

    def _lose(self) -> None:
        if self._inbox and self._receive is not None:
            asyncio.get_running_loop().call_soon(self._lose)
        elif self._peer is not None:
            self._peer = None
            if self._lost is not None:
                self._lost()

    def _take(self, message: Order | Tiding) -> None:
        self._inbox.append(message)
        if len(self._inbox) == 1 and self._receive is not None:
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        # Never within `send`: the sender finishes what it is doing first, as it would over a socket. And one message a
        # turn: a receiver that raises costs that one message.
        if not self._inbox:
            return  # closed meanwhile
        assert self._receive is not None
        message = self._inbox.popleft()
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._receive(message)


def memory_pair() -> tuple[LinkEnd, LinkEnd]:
    """Return two joined ends of a link within one process: (control's, worker's)."""
    control, worker = LinkEnd(), LinkEnd()
    control._peer, worker._peer = worker, control
    return control, worker
