"""A media worker as the server runs it, in its own process or in control's, with all the ways parties reach it."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from offhook.legs.ports import PortRange
from offhook.legs.rtp_legs import RtpLegs
from offhook.legs.simulated_legs import SimulatedLegs
from offhook.media.admission import measured_limit
from offhook.media.dial import Dialer
from offhook.media.egress import AddressPolicy
from offhook.media.keeping import Keeping
from offhook.media.tidings import Welcome
from offhook.media.tie import Ties
from offhook.media.worker import MediaWorker
from offhook.server.sip_config import Sip


@dataclass(frozen=True)
class Media:
    """A running media worker. Control reaches it through links given to `keeping.connect`."""

    keeping: Keeping
    worker: MediaWorker


@asynccontextmanager
async def media(
    number: int,
    policy: AddressPolicy,
    trust: ssl.SSLContext,
    audio: socket.socket | None,
    max_calls: int = 0,
    sip: Sip | None = None,
    ties: Path | None = None,
) -> AsyncIterator[Media]:
    """Run the media worker `number`; simulated parties come to `audio`, when there is one, telephones as `sip` says.

    `trust` is what certificates of apps are checked with. `max_calls`: it takes so many; 0: what a core carries.
    `ties`: the directory of the sockets to the server's other workers, if there are any.
    """
    keeping = Keeping(Welcome(number, boot=int(time.time() * 1000)))
    worker = MediaWorker(keeping, Dialer(policy, trust), epoch=time.time() - asyncio.get_running_loop().time())
    legs = SimulatedLegs(worker)
    telephones = None
    if sip is not None and sip.on:
        telephones = RtpLegs(worker, PortRange(*sip.rtp_ports), sip.rtp_timeout_s)
    tied = None if ties is None else Ties(worker, number, ties)
    if audio is not None:
        await legs.listen(audio)
    worker.start()
    worker.vitals.start(max_calls or measured_limit())
    try:
        yield Media(keeping, worker)
    finally:
        await legs.close()
        if telephones is not None:
            telephones.close()
        await worker.close()
        if tied is not None:
            tied.close()


def stay_in_time() -> None:
    """Call it once all is made: what exists now stays.

    A full collection would cost 30 ms in the middle of somebody's sentence.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
