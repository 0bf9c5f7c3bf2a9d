"""On virtual time the stamps of packets are read by a clock of virtual time, too."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.legs import rtp_scene

from offhook.legs import udp
from offhook.testing.clock import VirtualTimeLoop


@pytest.fixture(autouse=True)
def stamps_of_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that is busy between a stamp and the look at it makes the packet older than it is."""

    def wall_clock() -> float:
        loop = asyncio.events._get_running_loop()
        return rtp_scene.EPOCH + loop.time() if isinstance(loop, VirtualTimeLoop) else time.time()

    monkeypatch.setattr(udp, "wall_clock", wall_clock)
