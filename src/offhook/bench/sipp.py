"""Telephones that call, by sipp: a SIP traffic generator that others wrote, so that it shares no mistake with us.

It only signals, and echoes audio where it is told to be where the audio goes. Debian's package is sip-tester.
"""

from __future__ import annotations

import asyncio
import csv
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from offhook.bench.frames import HOST
from offhook.bench.processes import BenchError

RATE = 20  # calls a second
OVERHEAD_S = 20.0  # beyond what its calls take: answers that are late, and its own end

_MISSING = "telephones of others are wanted, and sipp is missing (Debian package sip-tester): nothing was measured"


class Placed(msgspec.Struct, frozen=True):
    """What became of calls: `placed`, of which `answered` went as they should, from INVITE to BYE, and `failed` did
    not. `setup_ms`: from INVITE to 200, the mean."""

    placed: int
    answered: int
    failed: int
    setup_ms: float


def check() -> None:
    """Raise `BenchError` when sipp is not here."""
    if shutil.which("sipp") is None:
        raise BenchError(_MISSING)


async def place(
    port: int, calls: int, seconds: float, audio: Sequence[int] | None = None, rate: float = RATE
) -> Placed:
    """Place so many calls to `port` of loopback, `rate` a second, each of so many seconds from its answer on.

    `audio`: the port of each call's audio, given out in turns; None: sipp's own, where it comes back at once. Raise
    OSError when sipp cannot do it.
    """
    with TemporaryDirectory(prefix="offhook-bench-") as folder:
        scenario, ports, statistics = (Path(folder, name) for name in ("call.xml", "ports.csv", "statistics.csv"))
        scenario.write_bytes(resources.files("offhook.bench").joinpath("sip_call.xml").read_bytes())
        own = free_port()
        ports.write_text("SEQUENTIAL\n" + "".join(f"{one};\n" for one in audio or [own]))
        limit = calls / rate + seconds + OVERHEAD_S
        options: dict[str, object] = {"-sf": scenario, "-inf": ports, "-stf": statistics, "-i": HOST, "-mp": own}
        options |= {"-r": rate, "-m": calls, "-l": calls, "-d": round(1000 * seconds), "-timeout": round(limit)}
        command = ["sipp", f"{HOST}:{port}", "-nostdin", "-trace_stat", "-rtp_echo", "-fd", "1"]
        command += [str(word) for option in options.items() for word in option]
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
        try:
            async with asyncio.timeout(limit + OVERHEAD_S):
                _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in (0, 1):  # 1: a call failed
            raise OSError(f"sipp ended with {process.returncode}: {said.decode(errors='replace')[-500:]}")
        return counted(statistics.read_text())


def counted(text: str) -> Placed:
    """Return what sipp's statistics say in their last line, at the end. Raise OSError when there is none."""
    lines = list(csv.DictReader(text.splitlines(), delimiter=";"))
    if not lines:
        raise OSError("sipp wrote no statistics")
    last = lines[-1]
    answered, failed = int(last["SuccessfulCall(C)"]), int(last["FailedCall(C)"])
    took = last["ResponseTimesetup(C)"]
    return Placed(int(last["TotalCallCreated"]), answered, failed, _milliseconds(took))


def _milliseconds(clock: str) -> float:
    """Return the milliseconds of hours:minutes:seconds, the latter with a fraction after another colon, or a point."""
    hours, minutes, seconds, *fraction = clock.split(":")
    return 1000 * (60 * (60 * int(hours) + int(minutes)) + float(".".join((seconds, *fraction))))


def free_port() -> int:
    """Return a UDP port of loopback that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
        return port
