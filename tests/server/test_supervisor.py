"""When a process that died is started again. What processes do together: tests/server/test_worker_processes.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.server import processes
from offhook.server.config import Settings
from offhook.server.processes import BEAT, BEAT_S, MISSED_BEATS, RemoteWorker, Slot
from offhook.server.supervisor import RESTARTS, WITHIN_S, Restarts
from offhook.testing.clock import VirtualTimeLoop, run


def test_it_is_started_again_three_times_in_ten_seconds() -> None:
    restarts = Restarts()
    assert [restarts.allow(now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]
    assert restarts.count == RESTARTS


def test_what_dies_now_and_then_is_started_again_for_ever() -> None:
    restarts = Restarts()
    assert all(restarts.allow(now * (WITHIN_S + 1) / RESTARTS) for now in range(100))


@given(st.lists(st.floats(0, 30), max_size=60))
def test_never_more_than_three_starts_in_ten_seconds(gaps: list[float]) -> None:
    restarts, now, starts = Restarts(), 0.0, []
    for gap in gaps:
        now += gap
        if not restarts.allow(now):
            break
        starts.append(now)
    for index, start in enumerate(starts[RESTARTS:]):
        assert start - starts[index] >= WITHIN_S


# ------------------------------------------------------------------------------------------------ one that hangs


def hung_after(beating: Callable[[asyncio.StreamReader], Awaitable[None]]) -> tuple[bool, float]:
    """Let a process beat as `beating` does; return whether it hangs in the end, and virtual seconds until then."""

    async def main() -> tuple[bool, float]:
        beats = asyncio.StreamReader()
        task = asyncio.ensure_future(beating(beats))
        hung = await processes.hangs(beats)
        await task
        return hung, asyncio.get_running_loop().time()

    return run(main())


def test_who_misses_ten_beats_hangs() -> None:
    async def beating(beats: asyncio.StreamReader) -> None:
        for _ in range(5):
            beats.feed_data(BEAT)
            await asyncio.sleep(BEAT_S)

    hung, after = hung_after(beating)
    assert hung
    assert after == pytest.approx(4 * BEAT_S + MISSED_BEATS * BEAT_S, abs=BEAT_S)


def test_who_beats_late_does_not_hang() -> None:
    async def beating(beats: asyncio.StreamReader) -> None:
        for _ in range(100):
            await asyncio.sleep((MISSED_BEATS - 1) * BEAT_S)
            beats.feed_data(BEAT)
        beats.feed_eof()

    hung, after = hung_after(beating)
    assert not hung
    assert after == pytest.approx(100 * (MISSED_BEATS - 1) * BEAT_S)


def test_who_was_suspended_together_with_the_supervisor_does_not_hang() -> None:
    async def beating(beats: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        for _ in range(20):
            await asyncio.sleep(0.5 * BEAT_S)
            loop.block(3600)
            beats.feed_data(BEAT)
        beats.feed_eof()

    assert not hung_after(beating)[0]


# ------------------------------------------------------------------------------------------------ what they are told


@pytest.mark.parametrize(
    "told",
    [
        processes.ControlStart({"host": "::1"}, 3, None, [RemoteWorker("/tmp/link", "ws://[::1]:1")]),
        processes.WorkerStart({}, 1, 4, None, "/tmp/ties"),
        processes.Workers([Slot(), Slot(12, 3, True)]),
        processes.Drain(),
    ],
)
def test_what_a_process_is_told_is_one_line(told: processes.Told) -> None:
    line = processes.encode(told)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=processes.Told) == told


def test_settings_arrive_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        data_dir=tmp_path,
        host="0.0.0.0",
        http=None,
        https=0,
        keys=["a2V5IG9uZQ==", "a2V5IHR3bw=="],
        names=["one.example", "two.example"],
        allow_private=[ip_network("10.0.0.0/8"), ip_network("fd00::/8")],
        incoming=["https://app.example/incoming?code=secret"],
        max_calls=7,
    )
    monkeypatch.setenv("OFFHOOK_MAX_CALLS", "9")  # in its environment, too
    line = processes.encode(processes.WorkerStart(settings.model_dump(mode="json"), 0, 0, None, ""))
    start = msgspec.json.decode(line, type=processes.Told)
    assert isinstance(start, processes.WorkerStart)
    assert Settings(**start.settings) == settings
