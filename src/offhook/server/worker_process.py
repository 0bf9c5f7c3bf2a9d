"""A media worker's process: `python -m offhook.server.worker_process`, started by the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from offhook.media import socket_link
from offhook.media.link import Order, Quit
from offhook.media.socket_link import SocketLink
from offhook.server import logs, processes, tls
from offhook.server.config import Settings
from offhook.server.media import media, stay_in_time
from offhook.server.processes import GRACE_S, Told, WorkerStart

LAST_WORDS_S = GRACE_S + 1.0  # that it stays when the supervisor is gone, and control still ends the calls


async def _work(told: AsyncIterator[Told]) -> None:
    """Carry media until all that is told is told, or control says `Quit`."""
    start = await anext(told, None)
    if not isinstance(start, WorkerStart):
        return
    settings = Settings(**start.settings)
    logs.configure(settings)
    local = tls.ensure(settings.data_dir, settings.names)
    trust = tls.client_context([local.ca, *([settings.ca] if settings.ca else [])])
    audio = None if start.audio is None else socket.socket(fileno=start.audio)
    limit = settings.max_calls_per_worker
    policy, ties = settings.address_policy(), Path(start.ties)
    async with media(start.number, policy, trust, audio, limit, settings.sip, ties) as running:
        quitting = asyncio.Event()
        control: SocketLink | None = None

        def connected(link: SocketLink) -> None:
            nonlocal control
            control = link
            running.keeping.connect(link)

        running.worker.register({Quit: lambda order: quitting.set()})
        await socket_link.serve(socket.socket(fileno=start.link), Order, connected)
        stay_in_time()
        processes.say_ready()
        await processes.first_of(quitting.wait(), _end_of(told))
        if quitting.is_set():
            sys.exit("control wants this media worker to start anew")
        if control is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(control.gone.wait(), LAST_WORDS_S)


async def _end_of(told: AsyncIterator[Told]) -> None:
    async for _ in told:
        pass


if __name__ == "__main__":
    processes.run(_work)
