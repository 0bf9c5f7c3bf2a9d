"""What the machine tells of itself and of our processes. Linux only: /proc and prctl."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

if sys.platform != "win32":
    import resource

OPEN_FILES = 65_536
LIBRARIES = ("numpy", "msgspec", "pybase64", "picows", "pylibsrtp", "websockets")  # whose versions matter to a figure
_PR_SET_PDEATHSIG = 1
_USER, _NICE, _SYSTEM, _STEAL = 0, 1, 2, 7  # of the figures of the line `cpu` in /proc/stat
_PPID, _TIMES = 1, slice(11, 15)  # of those in /proc/PID/stat after the name: user, system, and the same of the reaped


def supported() -> bool:
    """Whether the figures can be had here."""
    return sys.platform == "linux"


def own_cpu_s() -> float:
    """Return the user and system time, in seconds, that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_s(pid: int) -> float:
    """Return the user and system time, in seconds, that a process has used; in steps of 10 ms."""
    return sum(int(ticks) for ticks in _stat(Path(f"/proc/{pid}"))[_TIMES][:2]) / os.sysconf("SC_CLK_TCK")


def tree_cpu_s() -> float:
    """Return what this process and all that it has started, directly or not, have used, in seconds."""
    ticks = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = sum(one.ru_utime + one.ru_stime for one in ticks)
    parents: dict[int, int] = {}
    times: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has just ended.
            stat = _stat(folder)
            parents[int(folder.name)] = int(stat[_PPID])
            times[int(folder.name)] = sum(int(ticks) for ticks in stat[_TIMES])
    tree = {os.getpid()}
    for pid in sorted(parents):  # A child has the higher number, but for a wrap: then others get a little too much.
        if parents[pid] in tree:
            tree.add(pid)
    return used + sum(times[pid] for pid in tree - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def _stat(folder: Path) -> list[str]:
    return (folder / "stat").read_text().rpartition(")")[2].split()


def rss_kib(pid: int | None = None) -> int:
    """Return how much memory of a process, of this one by default, is resident, in KiB."""
    return int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def descriptors(pid: int | None = None) -> int:
    """Return how many file descriptors a process, this one by default, has open."""
    return len(os.listdir(f"/proc/{pid or 'self'}/fd"))


def udp_sockets(pid: int) -> int:
    """Return how many UDP sockets (IPv4) a process has open."""
    inodes = {line.split()[9] for line in Path("/proc/net/udp").read_text().splitlines()[1:]}
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # It has just been closed.
            count += os.readlink(descriptor).removeprefix("socket:[").removesuffix("]") in inodes
    return count


def unsent_bytes(port: int) -> int:
    """Return the bytes that wait in this machine's TCP sockets for whoever listens at local `port` (IPv4)."""
    unsent = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, _, queues = line.split()[:5]
        if int(remote.partition(":")[2], 16) == port:
            unsent += int(queues.partition(":")[0], 16)
    return unsent


class Busy(msgspec.Struct, frozen=True):
    """What else went on during a measurement: load average, and the percentages of the machine's time that the
    hypervisor gave to other guests (`steal`) and that processes used which are not of this run (`others`)."""

    load: float
    steal: float
    others: float


class Watch:
    """Watches the machine from when it is made."""

    def __init__(self) -> None:
        self._began, self._times, self._tree = time.monotonic(), _times(), tree_cpu_s()

    def end(self) -> Busy:
        """Return what went on since."""
        passed = [now - then for now, then in zip(_times(), self._times, strict=True)]
        machine_s = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        used_s = sum(passed[kind] for kind in (_USER, _NICE, _SYSTEM)) / os.sysconf("SC_CLK_TCK")
        others_s = max(used_s - (tree_cpu_s() - self._tree), 0.0)
        return Busy(
            load=round(os.getloadavg()[0], 2),
            steal=round(100 * passed[_STEAL] / max(sum(passed), 1), 2),
            others=round(100 * others_s / machine_s, 2),
        )


def _times() -> list[int]:
    # guest and guest_nice, which follow, are part of user and nice.
    return [int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


class Facts(msgspec.Struct, frozen=True):
    """What figures were measured on."""

    cpu: str
    cores: int
    kernel: str
    python: str
    libraries: dict[str, str]
    memory_gib: float


def facts() -> Facts:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    libraries = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            libraries[name] = importlib.metadata.version(name)
    return Facts(
        cpu=models[0].partition(": ")[2] if models else platform.machine(),
        cores=os.cpu_count() or 1,
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries=libraries,
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * resource.getpagesize() / (1 << 30), 1),
    )


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent is gone, however that ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def allow_open_files() -> None:
    """Raise this process's limit of open files to what it may be, up to `OPEN_FILES`: a socket a call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
