"""The telephones that are programs of others: baresip, a softphone, and sipp, a traffic generator, on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

LOOPBACK = "127.0.0.1"
PATIENCE_S = 30  # for anything at all that a test waits for
BARESIP_S = 60  # after which a baresip ends by itself, whatever happens to the test
MODULES = "/usr/lib/baresip/modules"
CONFIG = """\
sip_listen {host}:{sip_port}
net_interface {host}
module_path {modules}
module g711.so
module g722.so
module opus.so
module srtp.so
module aubridge.so
module aufile.so
module sndfile.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{port}
audio_source {source}
audio_player aubridge,x
audio_alert aubridge,none
snd_path {folder}
{more}
"""


def program(name: str, package: str) -> str:
    """Return the path of a peer. Without it the test skips, or fails with OFFHOOK_REQUIRE_PEERS=1."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")  # where Debian has servers
    if path is None:
        reason = f"{name} is not installed (Debian package {package})"
        if os.environ.get("OFFHOOK_REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


async def end(process: asyncio.subprocess.Process) -> None:
    """Have a peer leave, if it has not."""
    if process.returncode is None:
        process.terminate()
    await process.wait()


# ------------------------------------------------------------------------------------------------ baresip


class Baresip:
    """A running baresip, by its control socket: JSON in netstrings. `folder` has what it recorded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, folder: Path) -> None:
        self._reader = reader
        self._writer = writer
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            try:
                size = int((await self._reader.readuntil(b":"))[:-1])
                self.events.append(json.loads(await self._reader.readexactly(size)))
                await self._reader.readexactly(1)
            except (asyncio.IncompleteReadError, ConnectionError):
                return

    def do(self, command: str, params: str = "") -> None:
        """Carry out one of its commands, such as "dial"."""
        text = json.dumps({"command": command, "params": params}).encode()
        self._writer.write(b"%d:%s," % (len(text), text))

    @property
    def kinds(self) -> list[str]:
        """Its events, such as CALL_ESTABLISHED."""
        return [event["type"] for event in self.events if event.get("event")]

    async def close(self) -> None:
        self._writer.close()
        await self._task


@asynccontextmanager
async def baresip(
    path: str,
    folder: Path,
    account: str,
    *,
    source: str = "aubridge,x",
    host: str = LOOPBACK,
    sip_port: int = 0,
    more: str = "",
) -> AsyncIterator[Baresip]:
    """Run one with an account, at `host`; it is ended at the end.

    `sip_port`: its own, 0 for a free one. `source`: what it says; `more`: of its config."""
    with _held_port() as port:
        config = CONFIG.format(
            modules=MODULES, port=port, sip_port=sip_port, folder=folder, host=host, source=source, more=more
        )
        folder.joinpath("config").write_text(config)
        folder.joinpath("accounts").write_text(account + "\n")
        with folder.joinpath("baresip.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                path, "-f", str(folder), "-t", str(BARESIP_S), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            phone = Baresip(*await _connect(port), folder)
            try:
                yield phone
            finally:
                await phone.close()
        finally:
            await end(process)


@contextmanager
def _held_port() -> Iterator[int]:
    """A free port of TCP, that nobody else gets meanwhile. But baresip can listen there: it says SO_REUSEADDR, too."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, 0))
        yield held.getsockname()[1]


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await asyncio.open_connection(LOOPBACK, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)


# ------------------------------------------------------------------------------------------------ sipp


async def run_sipp(path: str, folder: Path, scenario: Path | str, target: str, *options: str, host: str) -> str:
    """Run a scenario (a file, or the name of one that sipp ships) to its end; return what it printed.

    `target` is whom it calls, or "". Fails unless all of its calls went as the scenario has it.
    """
    which = ("-sf", str(scenario)) if isinstance(scenario, Path) else ("-sn", scenario)
    command = (path, *((target,) if target else ()), *which, "-i", host, "-mi", host, "-nostdin", "-trace_err")
    process = await asyncio.create_subprocess_exec(
        *command,
        *("-timeout", str(PATIENCE_S - 5), "-timeout_error"),
        *options,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        await end(process)
    assert process.returncode == 0, f"{scenario}: exit code {process.returncode}\n{_errors(folder)}"
    return output.decode(errors="replace")


def _errors(folder: Path) -> str:
    return "\n".join(found.read_text(errors="replace") for found in folder.glob("*errors.log"))[-3000:]
