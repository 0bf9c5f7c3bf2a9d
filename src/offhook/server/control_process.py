"""The control process: `python -m offhook.server.control_process`, started by the supervisor."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator

from offhook.server import processes
from offhook.server.app import Server
from offhook.server.config import ConfigError, Settings
from offhook.server.processes import ControlStart, Drain, Reload, Told, Workers

log = logging.getLogger(__name__)


async def _work(told: AsyncIterator[Told]) -> None:
    """Serve until all that is told is told, or until the last call is over after `Drain`."""
    start = await anext(told, None)
    if not isinstance(start, ControlStart):
        return  # It waited for its turn, which did not come.
    draining = asyncio.Event()

    async def obey() -> None:
        async for message in told:
            match message:
                case Workers(slots):
                    server.note(slots)
                case Reload(settings):
                    _reload(server, Settings(**settings))
                case Drain():
                    draining.set()

    async def drain() -> None:
        await draining.wait()
        await server.drain()

    http, https = (None if fd is None else socket.socket(fileno=fd) for fd in (start.http, start.https))
    async with Server(Settings(**start.settings), http, https, start.workers) as server:
        processes.say_ready()
        await processes.first_of(obey(), drain())


def _reload(server: Server, settings: Settings) -> None:
    try:
        server.reload(settings)
    except ConfigError as error:  # The supervisor could use it: the certificate has changed once more meanwhile.
        log.error("what was read anew is not used: %s", error)


if __name__ == "__main__":
    processes.run(_work)
