"""How many calls a media worker takes: none that would make those it has late.

Three rules, all of them asked before a call is placed, never after:

* a **limit**: as many calls as keep the worker's core `TARGET_SHARE` busy, measured at its start (`measured_limit`) or
  set by the operator;
* a **gate** in the worker: it closes when most of the last seconds were late, or they took too much of the core,
  whatever the limit says, and opens again well below that;
* a **reservation** in control: a call counts from the moment it is placed, long before it costs anything, so a burst
  of calls does not slip in between two reports of the worker.
"""

from __future__ import annotations

import socket
import time
from functools import cache

import pybase64

from offhook.audio import pcm
from offhook.audio.playout import Playout
from offhook.media.tidings import Vitals
from offhook.wire import streaming

TARGET_SHARE = 0.70  # of one core, at the limit: what is left is for bursts, handshakes, and neighbours
CLOSE_SHARE = 0.85  # of one core, over the last seconds
REOPEN_SHARE = 0.75
CLOSE_LATE = 0.05  # of a second's ticks that began more than 10 ms late; a virtual machine that is held up for 15 ms
REOPEN_LATE = 0.05  # by its host once or twice a second has 1 to 2 %, whatever it does. The same, with more than 5 ms
SPARE = 0.1  # of the limit: up to so many calls are taken even when it is late, which then is not their doing
SILENT_S = 5.0  # without a report, which comes every second
FRAMES_PER_S = 1000 // pcm.FRAME_MS


# ------------------------------------------------------------------------------------------------ the worker's side


class Gate:
    """Whether a worker takes calls as far as its own lateness and CPU are concerned, with hysteresis."""

    def __init__(self) -> None:
        self.open = True

    def judge(self, share: float, over_10_ms: float, over_5_ms: float) -> bool:
        """Note the last seconds; return whether the gate is open.

        `share`: of one core that the process used, 0 … 1. `over_10_ms`: the share of ticks, 0 … 1, that began more than
        so late in most of them, or more; `over_5_ms`: at worst in the very last ones.
        """
        if share > CLOSE_SHARE or over_10_ms > CLOSE_LATE:
            self.open = False
        elif share < REOPEN_SHARE and over_5_ms <= REOPEN_LATE:
            self.open = True
        return self.open


# ------------------------------------------------------------------------------------------------ control's side


REFUSALS = ("silent", "limit", "gate", "reserved")


def refusal(vitals: Vitals, held: int, age_s: float) -> str | None:
    """Return why a worker takes no further call, or None when it does.

    `vitals` is what it told last, `age_s` seconds ago; `held` is how many calls that are not over control has placed on
    it, those that still ring included. The reasons are `REFUSALS`: it hangs; it has its limit; its `Gate` is closed; or
    what was placed and costs nothing yet will take the rest of the core.
    """
    if age_s > SILENT_S:
        return "silent"
    if held >= vitals.limit:
        return "limit"
    if held < SPARE * vitals.limit:
        return None
    if not vitals.gate_open:
        return "gate"
    to_come = max(0, held + 1 - vitals.calls) * TARGET_SHARE / vitals.limit
    return "reserved" if vitals.core_share + to_come > CLOSE_SHARE else None


# ------------------------------------------------------------------------------------------------ the limit

RATE = 24_000
BLOCKS, FRAMES = 40, 25  # of the measurement: 1000 frames, about 30 ms
CALL = 2.5
"""What a call costs over what its frames cost in the measurement, which has no mixing, no resampling, no event loop, no
TCP and no TLS. Too small, and the gate has to do the limit's work; too large, and a part of the core stays idle."""


@cache
def measured_limit() -> int:
    """Return how many calls fit into `TARGET_SHARE` of one core of this machine; measured once a process."""
    return max(1, int(TARGET_SHARE / (CALL * FRAMES_PER_S * _frame_cost())))


def _frame_cost() -> float:
    """Return the seconds that a frame takes on its way to an app and back, through system calls and all.

    It is taken in blocks of half a millisecond, and the quickest counts: a machine that is busy at the moment disturbs
    some of them, hardly all; a slow one is slow in each.
    """
    ours, apps = socket.socketpair()
    playout = Playout(RATE)
    frame = pcm.tone(440, RATE, pcm.FRAME_MS / 1000).astype("<i2").tobytes()
    quickest = float("inf")
    with ours, apps:
        for _ in range(BLOCKS):
            start = time.perf_counter()
            for _ in range(FRAMES):
                ours.send(b'{"kind":"AudioData","audioData":{"data":"%b"}}' % pybase64.b64encode(frame))
                apps.send(apps.recv(8192))
                said = streaming.parse(memoryview(ours.recv(8192)))
                assert isinstance(said, streaming.Audio)
                playout.push(said.pcm, start)
                frame = playout.pull(start) or frame
            quickest = min(quickest, time.perf_counter() - start)
    return quickest / FRAMES
