"""When a process that died is started again. What processes do together: tests/server/test_worker_processes.py."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.server import processes
from offhook.server.config import Settings
from offhook.server.processes import RemoteWorker, Slot
from offhook.server.supervisor import RESTARTS, WITHIN_S, Restarts


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
