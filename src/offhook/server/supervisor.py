"""The supervisor: starts the control process and the media workers, starts them again when they die or hang, ends them.

It does nothing else, so there is little that could end it. It holds every listening socket for ever and hands them
down: what connects while a process is being started again waits in the socket's backlog.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from offhook.server import logs, processes
from offhook.server.config import Settings
from offhook.server.listening import Listening, audio_base, listen
from offhook.server.processes import GRACE_S, RemoteWorker, Slot
from offhook.server.reloading import ReadAnew

log = logging.getLogger(__name__)

RESTARTS = 3  # of one process …
WITHIN_S = 10.0  # … in so many seconds; one more, and it is not started again
READY_S = 30.0  # for a process to do its work, from its start; then it is killed
END_S = GRACE_S + 10.0  # for control to end calls and deliver their events; then it is killed
WORKER_END_S = 5.0  # for a media worker to close its sockets
CONTROL, WORKER = "offhook.server.control_process", "offhook.server.worker_process"
LINK_BACKLOG = 16  # connections of control that wait for a worker


class CannotStart(Exception):
    """No server came up; the log says what is wrong."""


class Restarts:
    """Whether a process that died is started again: not when it has died too often of late."""

    def __init__(self) -> None:
        self.count = 0
        self._at: deque[float] = deque(maxlen=RESTARTS)

    def allow(self, now: float) -> bool:
        """Note that it died at `now` (seconds, any monotonic clock); return whether to start it again."""
        if len(self._at) == RESTARTS and now - self._at[0] < WITHIN_S:
            return False
        self._at.append(now)
        self.count += 1
        return True


class Process:
    """One process of the server, kept running. `changed` is called when it was started, is ready, or has died.

    `module` is what it runs, `start()` what it is told first, `descriptors` are the sockets that it gets. With `spare`
    another one waits all the while for its turn, with everything imported: that is most of the time that a start takes.
    """

    def __init__(
        self,
        name: str,
        module: str,
        start: Callable[[], Sequence[processes.Told]],
        descriptors: Sequence[socket.socket | None],
        changed: Callable[[], None],
        spare: bool = False,
    ) -> None:
        self.name = name
        self._module = module
        self._start = start
        self._descriptors = [each.fileno() for each in descriptors if each is not None]
        self._changed = changed
        self._has_spare = spare
        self._spare: asyncio.subprocess.Process | None = None
        self._restarts = Restarts()
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False
        self._keeping: asyncio.Task[None] | None = None
        self.ready = False
        self.parked = False  # it died too often
        self.status: int | None = None  # exit status, of the last time

    @property
    def slot(self) -> Slot:
        """How it is."""
        return Slot(self.pid, self._restarts.count, self.parked)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def keep(self) -> None:
        """Start it, and again whenever it dies."""
        self._keeping = asyncio.create_task(self._keep())

    def tell(self, told: processes.Told) -> None:
        """Tell it something, if it is there."""
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.write(processes.encode(told))

    async def end(self, seconds: float) -> None:
        """Let it end: it has so many seconds, then it is killed."""
        self._ending = True
        if self._keeping is None:
            return
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        _, late = await asyncio.wait([self._keeping], timeout=seconds)
        if late:
            log.error("%s does not end: it is killed", self.name)
            _kill(self._process)
            await self._keeping
        if self._spare is not None:
            _kill(self._spare)
            await self._spare.wait()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._run()
            except OSError as error:  # no memory, no process or descriptor left
                log.error("%s cannot be started: %s", self.name, error)
                self.status = None
            self._process, self.ready = None, False
            if self._ending or self.status == 0:
                break
            log.error("%s died: %s", self.name, _cause(self.status))
            self.parked = not self._restarts.allow(loop.time())
            if self.parked:
                log.critical("%s died %d times in %g s: it is not started again", self.name, RESTARTS + 1, WITHIN_S)
                break
            self._changed()
        self._changed()

    async def _run(self) -> None:
        """Start it and wait for its end."""
        spare, self._spare = self._spare, None
        self._process = process = spare if _runs(spare) else await self._spawn()
        assert process.stdin is not None
        assert process.stdout is not None
        for told in self._start():
            self.tell(told)
        if self._ending:
            process.stdin.close()
        self._changed()
        try:
            async with asyncio.timeout(READY_S):
                self.ready = await process.stdout.readline() == processes.READY
        except TimeoutError:
            log.error("%s is not ready after %g s: it is killed", self.name, READY_S)
            _kill(process)
        self._changed()
        if self._has_spare and self.ready and not self._ending:
            await self._provide()
        watching = asyncio.create_task(self._watch(process, process.stdout)) if self.ready else None
        self.status = await process.wait()
        if watching is not None:
            watching.cancel()

    async def _watch(self, process: asyncio.subprocess.Process, beats: asyncio.StreamReader) -> None:
        """Kill it when it hangs: what it held is then lost, or taken over, as when it dies."""
        if await processes.hangs(beats):
            log.error("%s hangs: it is killed", self.name)
            _kill(process)

    async def _provide(self) -> None:
        """Start the spare one; without it, the next start takes longer."""
        try:
            self._spare = await self._spawn()
        except OSError as error:
            log.warning("no spare process for %s: %s", self.name, error)

    async def _spawn(self) -> asyncio.subprocess.Process:
        # -P: what lies in the working directory is none of our modules. A session of its own: signals of a terminal
        # are for the supervisor. The name is for people who list processes.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", self._module, *self.name.split()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=self._descriptors,
            start_new_session=True,
        )


class Supervisor(Listening):
    """A server of several processes: `async with Supervisor(settings) as server: …`, with what `Server` offers.

    Raises `ConfigError` and `OSError` as that one does, and `CannotStart`. It has `ended` when control, or every media
    worker, died too often.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._stack = contextlib.AsyncExitStack()
        self._draining = False
        self._drained = asyncio.Event()
        self._came = asyncio.Event()  # control is ready for the first time, or will not be
        self.control: Process
        self.workers: list[Process] = []

    async def __aenter__(self) -> Supervisor:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End at once: calls are hung up, their events delivered."""
        await self._stack.aclose()

    def reload(self, settings: Settings) -> ReadAnew:
        read = super().reload(settings)
        self.control.tell(processes.Reload(self._settings()))
        return read

    async def drain(self) -> None:
        """Take no new calls; return when the last one is over, or `drain_timeout_s` is."""
        self._draining = True
        self.control.tell(processes.Drain())
        await self._drained.wait()

    async def _start(self) -> None:
        self._stack.callback(self.bind())
        logs.configure(self.settings)
        ties = self._make_directory()
        remote = [self._make_worker(number, ties) for number in range(self.settings.workers)]

        def start() -> list[processes.Told]:
            http, https = self.http_socket, self.https_socket
            start = processes.ControlStart(self._settings(), _fd(http), _fd(https), remote)
            return [start, self._told_of_workers(), *([processes.Drain()] if self._draining else [])]

        sockets = [self.http_socket, self.https_socket]
        self.control = Process("control", CONTROL, start, sockets, self._on_change, spare=True)
        for worker in self.workers:
            worker.keep()
            self._stack.push_async_callback(worker.end, WORKER_END_S)
        self.control.keep()
        self._stack.push_async_callback(self.control.end, END_S)
        await self._came.wait()
        if not self.control.ready:
            raise CannotStart("the server does not start: the log says why")
        self._stack.callback(self.tell_client_verbs())

    def _make_directory(self) -> Path:
        """Make a directory for sockets, that nobody else may enter (mode 0700)."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="offhook-")))

    def _make_worker(self, number: int, ties: Path) -> RemoteWorker:
        """Make the process of a media worker and its sockets; return where control finds it."""
        host = self.settings.host
        path = str(self._make_directory() / "link")
        link = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        link.bind(path)
        link.listen(LINK_BACKLOG)
        audio = self._stack.enter_context(listen(host)) if self.settings.caller_api else None

        def start() -> list[processes.Told]:
            return [processes.WorkerStart(self._settings(), number, link.fileno(), _fd(audio), str(ties))]

        self.workers.append(Process(f"worker {number}", WORKER, start, [link, audio], self._on_change))
        return RemoteWorker(path, audio_base(host, audio) if audio is not None else "")

    def _settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json")

    def _told_of_workers(self) -> processes.Workers:
        return processes.Workers([worker.slot for worker in self.workers])

    def _on_change(self) -> None:
        """A process was started, is ready, or has died: pass it on, and see whether we go on."""
        self.control.tell(self._told_of_workers())
        if self.control.ready:
            self._came.set()
        if self.control.parked or all(worker.parked for worker in self.workers):
            self.ended.set()
            self._came.set()
        if self._draining and self.control.status == 0 and self.control.pid is None:
            self._drained.set()


def _fd(listening: socket.socket | None) -> int | None:
    return None if listening is None else listening.fileno()


def _runs(process: asyncio.subprocess.Process | None) -> TypeGuard[asyncio.subprocess.Process]:
    return process is not None and process.returncode is None


def _kill(process: asyncio.subprocess.Process | None) -> None:
    if _runs(process):
        process.kill()


def _cause(status: int | None) -> str:
    if status is None:
        return "it was not there"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
