"""What the machine tells of itself and of our processes. Linux only: /proc and prctl."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

STEAL = 7  # of the figures of the line `cpu` in /proc/stat
OPEN_FILES = 65_536
_PR_SET_PDEATHSIG = 1


def supported() -> bool:
    """Whether the figures can be had here."""
    return sys.platform == "linux"


def own_cpu_s() -> float:
    """Return the user and system time, in seconds, that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_s(pid: int) -> float:
    """Return the user and system time, in seconds, that a process has used; in steps of 10 ms."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib() -> int:
    """Return how much memory of this process is resident, in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


class Steal:
    """How much of the machine's time the hypervisor gave to others since this was made, or since `percent`."""

    def __init__(self) -> None:
        self._before = _times()

    def percent(self) -> float:
        before, self._before = self._before, _times()
        passed = [now - then for now, then in zip(self._before, before, strict=True)]
        return round(100 * passed[STEAL] / max(sum(passed), 1), 2)


def _times() -> list[int]:
    # guest and guest_nice, which follow, are part of user and nice.
    return [int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent is gone, however that ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def allow_open_files() -> None:
    """Raise this process's limit of open files to what it may be, up to `OPEN_FILES`: a socket a call."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
