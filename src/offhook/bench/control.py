"""A whole server of a run: its control process is this process, so that what it costs and holds can be seen exactly;
a media worker and the app that answers have processes of their own. Telephones of loopback may call it.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from offhook.bench import call_app, machine
from offhook.bench.app import Ports
from offhook.bench.figures import Late, NoStream
from offhook.bench.frames import HOST
from offhook.bench.processes import running
from offhook.legs.sip.stack import SipStack
from offhook.media.tidings import Vitals
from offhook.media.vitals import LATENESS_BOUNDS_S
from offhook.server.app import Server
from offhook.server.config import DEVELOPMENT_KEY, Settings
from offhook.server.listening import listen
from offhook.server.processes import RemoteWorker, WorkerStart
from offhook.server.sip_config import Sip, Trunk
from offhook.server.supervisor import LINK_BACKLOG, WORKER, WORKER_END_S, Process

RTP_PORTS = 12_000, 19_999  # not those that a server on this machine has by default
VITALS_S = 3.0  # for the worker's next report, one a second
ASK_EVERY_S = 0.1


class Held(msgspec.Struct, frozen=True):
    """What control holds (sessions and transactions of SIP, asyncio tasks, descriptors, resident memory), and what its
    worker does (UDP sockets of RTP, descriptors, memory)."""

    calls: int
    sessions: int
    transactions: int
    tasks: int
    descriptors: int
    rss_kib: int
    rtp_sockets: int
    worker_descriptors: int
    worker_rss_kib: int


class Control:
    """A running server with one media worker."""

    def __init__(self, server: Server, worker_pid: int) -> None:
        assert server.sip is not None
        self.server = server
        self.sip: SipStack = server.sip
        self._worker_pid = worker_pid

    @property
    def sip_port(self) -> int:
        """The port for SIP over UDP."""
        return self.sip.ports["udp"]

    @property
    def refused(self) -> int:
        """Calls so far for which there was no room."""
        return self.server.control.refused.total()

    async def vitals(self) -> Vitals:
        """Return the worker's next report. Raise `NoStream` when it does not come."""
        (worker,) = self.server.control.workers
        last = worker.vitals
        try:
            async with asyncio.timeout(VITALS_S):
                while worker.vitals is last or worker.vitals is None:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(ASK_EVERY_S)
        except TimeoutError:
            raise NoStream("the media worker does not report") from None
        return worker.vitals

    def held(self) -> Held:
        """Return what is held now, once what is garbage is gone."""
        gc.collect()
        return Held(
            calls=len(self.server.control.registry.calls),
            sessions=self.sip.sessions,
            transactions=self.sip.transactions,
            tasks=len(asyncio.all_tasks()),
            descriptors=machine.descriptors(),
            rss_kib=machine.rss_kib(),
            rtp_sockets=machine.udp_sockets(self._worker_pid),
            worker_descriptors=machine.descriptors(self._worker_pid),
            worker_rss_kib=machine.rss_kib(self._worker_pid),
        )


def late(before: Vitals, after: Vitals) -> Late:
    """Return how late ticks were between two reports; each is as late as the bound of its bucket."""
    counts = [now - then for now, then in zip(after.ticks_late, before.ticks_late, strict=True)]
    bounds_ms = [1000 * bound for bound in (*LATENESS_BOUNDS_S, 1.0)]
    ticks = [bound for bound, count in zip(bounds_ms, counts, strict=True) for _ in range(count)] or [0.0]
    return Late(*(ticks[ceil(share * len(ticks)) - 1] for share in (0.5, 0.99, 1.0)))


@asynccontextmanager
async def control(app: Ports) -> AsyncIterator[Control]:
    """A server, until the context ends, whose calls `app` echoes. Raise OSError when it does not start."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="offhook-bench-"))
        http = stack.enter_context(listen(HOST))
        url = f"http://{HOST}:{http.getsockname()[1]}"
        answering = stack.enter_context(running(call_app.Job(app.url(), url, DEVELOPMENT_KEY), call_app.Ready))
        settings = Settings(
            host=HOST,
            https=None,
            data_dir=Path(folder),
            incoming=[answering.incoming],
            sip=Sip(port=0, rtp_ports=RTP_PORTS),
            trunk=[Trunk(name="bench", allow=[ip_network("127.0.0.0/8")])],
        )
        worker, remote = await _worker(stack, settings, folder)
        server = await stack.enter_async_context(Server(settings, http, None, [remote]))
        if worker.pid is None or not server.control.workers[0].up:
            raise NoStream("the media worker did not start")
        yield Control(server, worker.pid)


async def _worker(stack: AsyncExitStack, settings: Settings, folder: str) -> tuple[Process, RemoteWorker]:
    """Start the media worker, as the supervisor does."""
    path = str(Path(folder, "link"))
    link = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    link.bind(path)
    link.listen(LINK_BACKLOG)
    start = WorkerStart(settings.model_dump(mode="json"), 0, link.fileno(), audio=None, ties=folder)
    worker = Process("worker 0", WORKER, lambda: [start], [link], lambda: None)
    worker.keep()
    stack.push_async_callback(worker.end, WORKER_END_S)
    return worker, RemoteWorker(path, "")
