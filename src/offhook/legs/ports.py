"""The UDP ports of RTP legs."""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Callable
from typing import TypeVar

TRIES = 100  # ports that turn out to be another program's, before we give up

S = TypeVar("S")


class NoPortError(OSError):
    """No port of the range is free."""


class PortRange:
    """Even ports from `first` to `last`, each with the odd one above it for RTCP; handed out in random order, the one
    that was given back last comes last, so that packets of an old call do not reach a new one."""

    def __init__(self, first: int, last: int) -> None:
        """Raise ValueError for a range without an even port whose odd one is in it as well."""
        if not 1024 <= first <= last <= 65_535:
            raise ValueError(f"RTP ports: {first}-{last} is not a range within 1024-65535")
        ports = list(range(first + first % 2, last, 2))
        if not ports:
            raise ValueError(f"RTP ports: {first}-{last} has no even port with the odd one above it")
        random.SystemRandom().shuffle(ports)
        self._free = deque(ports)
        self._name = f"{first}-{last}, {len(ports)} legs"

    def take(self, open: Callable[[int], S]) -> tuple[int, S]:
        """Return a port and what `open` made of it: sockets, or OSError EADDRINUSE for the next port to be tried.

        Raise `NoPortError` when there is none left, and whatever else `open` raises.
        """
        for _ in range(min(TRIES, len(self._free))):
            port = self._free.popleft()
            try:
                return port, open(port)
            except OSError as error:
                self._free.append(port)
                if error.errno != errno.EADDRINUSE:
                    raise
        raise NoPortError(f"no free RTP port in the range {self._name}")

    def give_back(self, port: int) -> None:
        """The sockets of `port` are closed."""
        self._free.append(port)
