"""A timer that is on time: asyncio's own waits whole milliseconds, so its callbacks come half a millisecond late.

On Linux the kernel's timerfd wakes the event loop instead, as precisely as a thread that sleeps.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import weakref
from collections.abc import Callable
from typing import Protocol

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_NANOSECONDS = 1_000_000_000


class Timer(Protocol):
    """What is to happen can still be called off."""

    def cancel(self) -> None: ...


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class TimerFd:
    """One timer of a running event loop. Its descriptor is closed with the object."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _TimerSpec()
        self._callback: Callable[[], None] | None = None
        self._loop = loop
        self._reading = False
        self._close = weakref.finalize(self, os.close, self._fd)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` at `when` (loop time, seconds), at once if that is over; replaces what was to be called."""
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._fire)
        self._callback = callback
        self._set(max(1, round(when * _NANOSECONDS)))  # 0 would switch it off
        return self

    def cancel(self) -> None:
        """Call nothing."""
        self._callback = None
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _set(self, nanoseconds: int) -> None:
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, _NANOSECONDS)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def _fire(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # It was set anew since.
            return
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


def precise_timer(loop: asyncio.AbstractEventLoop) -> Callable[[float, Callable[[], None]], Timer]:
    """Return the most precise `call_at` there is for `loop`: its own, where time is not the machine's or no Linux."""
    monotonic = type(loop).time is asyncio.BaseEventLoop.time
    return TimerFd(loop).call_at if monotonic and sys.platform == "linux" else loop.call_at
