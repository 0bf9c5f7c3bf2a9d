"""What a worker counts and tells, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import msgspec
import pytest

from offhook.audio import pcm
from offhook.media.clock import TICK_S
from offhook.media.plane import SLOTS
from offhook.media.tidings import Tiding, Vitals
from offhook.media.vitals import CALM, LATENESS_BOUNDS_S, STREAM_COUNTS, WINDOW, VitalSigns
from offhook.testing.clock import VirtualTimeLoop, run
from offhook.testing.memory import MemoryMedia

SILENCE = bytes(pcm.bytes_per_frame(16_000))


class Measured(MemoryMedia):
    """A worker whose CPU time is what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu_s = 0.0
        self.reports: list[tuple[float, Vitals]] = []  # and when they came
        self._told = asyncio.Event()
        worker = self.worker
        worker.vitals = VitalSigns(worker.plane, worker.clock, worker._streams, self._note, cpu=lambda: self.cpu_s)

    async def vitals(self) -> Vitals:
        """Wait for the next report."""
        self._told = asyncio.Event()
        await self._told.wait()
        return self.reports[-1][1]

    def _note(self, tiding: Tiding) -> None:
        assert isinstance(tiding, Vitals)
        self.reports.append((loop().time(), tiding))
        self._told.set()


def loop() -> VirtualTimeLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualTimeLoop)
    return running


def test_it_tells_at_once_and_then_every_second_between_two_ticks() -> None:
    async def main() -> None:
        media = Measured()
        media.worker.vitals.start(7)
        await asyncio.sleep(10.5)
        media.worker.vitals.stop()
        await asyncio.sleep(10)
        told = [at for at, _ in media.reports]
        assert len(told) == 11
        assert told[0] < 0.001
        for at in told[1:]:
            assert at / TICK_S * SLOTS % 1 == pytest.approx(0.75, abs=1e-6)
        assert told[10] - told[0] == pytest.approx(10, abs=0.1)

    run(main())


def test_it_counts_calls_rows_streams_and_frames_both_ways() -> None:
    async def main() -> None:
        media = Measured()
        media.worker.vitals.start(7)
        await media.party("caller")
        app = await media.app("app")
        await media.party("other", call="another call")
        app.say(SILENCE * 10)
        await asyncio.sleep(1)
        vitals = await media.vitals()
        assert (vitals.calls, vitals.rows, vitals.streams, vitals.streams_up) == (2, 3, 1, 1)
        assert vitals.counts["received"] == 1
        assert vitals.counts["played"] == 10
        assert vitals.counts["sent"] >= 50
        assert (vitals.limit, vitals.gate_open) == (7, True)
        await media.worker.close()

    run(main())


def test_no_count_falls_when_a_stream_ends() -> None:
    async def main() -> None:
        media = Measured()
        media.worker.vitals.start(7)
        await media.party("caller")
        for name in ("first", "second"):
            app = await media.app(name)
            app.say(SILENCE * 5)
            app.send(b"nonsense")
        before = await media.vitals()
        stats = await media.stats("first")
        after = await media.vitals()
        assert stats["played"] == 5
        assert after.streams == 1
        assert after.counts["odd: not json"] == before.counts["odd: not json"] == 2
        assert all(after.counts[name] >= count for name, count in before.counts.items())
        await media.worker.close()

    run(main())


def test_every_count_of_a_stream_is_told() -> None:
    async def main() -> None:
        media = Measured()
        await media.party("caller")
        await media.app("app")
        assert (await media.stats("app")).keys() == STREAM_COUNTS.keys()
        await media.worker.close()

    run(main())


def test_queues_are_told_as_a_sum_and_the_worst() -> None:
    async def main() -> None:
        media = Measured()
        media.worker.vitals.start(7)
        await media.party("caller")
        for name, frames in (("short", 100), ("long", 400)):
            app = await media.app(name)
            app.say(SILENCE * frames)
            app.stall()
        vitals = await media.vitals()
        assert vitals.playout_s == pytest.approx(10 - 2, abs=0.5)
        assert vitals.playout_max_s == pytest.approx(8 - 1, abs=0.5)
        assert vitals.send_queue_max == pytest.approx(48, abs=4)
        assert vitals.send_queue == pytest.approx(2 * vitals.send_queue_max, abs=4)
        await asyncio.sleep(1)
        assert (await media.vitals()).counts["dropped"] > 0
        await media.worker.close()

    run(main())


def test_a_socket_that_comes_again_is_counted() -> None:
    async def main() -> None:
        media = Measured()
        media.worker.vitals.start(7)
        await media.party("caller")
        app = await media.app("app")
        app.drop()
        await asyncio.sleep(1)
        assert (await media.vitals()).counts["reopened"] == 1
        await media.worker.close()

    run(main())


def test_lateness_falls_between_its_bounds() -> None:
    async def main() -> None:
        media = Measured()
        await media.party("caller")
        media.worker.vitals.start(7)
        await media.vitals()
        await asyncio.sleep(0.5)
        loop().block(0.0301)
        vitals = await media.vitals()
        assert len(vitals.ticks_late) == len(LATENESS_BOUNDS_S) + 1
        late = dict(zip((*LATENESS_BOUNDS_S, None), vitals.ticks_late, strict=True))
        held_up = sum(late[bound] for bound in (0.01, 0.02, 0.05))
        assert 0 < held_up <= 8, "of 30 ms"
        assert late[0.0005] >= 2 * 50 - 2
        assert late[0.1] == late[None] == 0
        assert 0.005 * held_up < vitals.late_s < 0.0301 * held_up + 0.05
        assert vitals.ticks_jumped == 0
        loop().block(0.3)
        assert (await media.vitals()).ticks_jumped > 0
        await media.worker.close()

    run(main())


def test_the_share_of_the_core_is_that_of_the_last_second() -> None:
    async def main() -> None:
        media = Measured()
        media.worker.vitals.start(7)
        await media.vitals()
        media.cpu_s += 0.5
        vitals = await media.vitals()
        assert vitals.core_share == pytest.approx(0.5, rel=0.01)
        assert (await media.vitals()).core_share == 0
        assert vitals.cpu_s == 0.5
        await media.worker.close()

    run(main())


def test_the_gate_closes_after_busy_seconds_and_opens_after_quiet_ones() -> None:
    async def main() -> None:
        media = Measured()
        media.worker.vitals.start(7)
        states = [(await media.vitals()).gate_open]
        for second in range(3 * WINDOW):
            media.cpu_s += 0.95 if second < WINDOW else 0.3
            states.append((await media.vitals()).gate_open)
        assert False in states[: WINDOW + 1], states
        assert states[-1]
        assert sum(before != after for before, after in pairwise(states)) == 2, states
        await media.worker.close()

    run(main())


def test_the_gate_closes_when_ticks_are_late() -> None:
    async def main() -> None:
        media = Measured()
        await media.party("caller")
        media.worker.vitals.start(7)
        await media.vitals()
        for _ in range(45):  # 4 s
            loop().block(0.04)
            await asyncio.sleep(0.05)
        assert not (await media.vitals()).gate_open
        await asyncio.sleep(CALM)
        assert (await media.vitals()).gate_open
        await media.worker.close()

    run(main())


def test_the_gate_stays_open_when_something_holds_everything_up_for_a_moment() -> None:
    async def main() -> None:
        media = Measured()
        await media.party("caller")
        media.worker.vitals.start(7)
        await media.vitals()
        await media.vitals()
        await asyncio.sleep(0.3)
        loop().block(0.09)
        await asyncio.sleep(1.0)
        loop().block(0.09)
        states = [(await media.vitals()).gate_open for _ in range(WINDOW)]
        assert media.worker.clock.lateness.percentile(0.99) > 10, "late enough to close it, if it went on"
        assert all(states), states
        await media.worker.close()

    run(main())


def test_what_legs_count_and_measure_is_told_too() -> None:
    def figures() -> tuple[Mapping[str, int], Mapping[str, float]]:
        return {"rtp_received": 3}, {"rtp_jitter_ms_max": 1.5}

    async def main() -> None:
        media = Measured()
        media.worker.vitals.add_legs(figures)
        media.worker.vitals.start(7)
        vitals = await media.vitals()
        assert vitals.counts["rtp_received"] == 3
        assert vitals.gauges == {"rtp_jitter_ms_max": 1.5}
        await media.worker.close()

    run(main())


def test_it_passes_over_the_link() -> None:
    async def main() -> None:
        media = Measured()
        media.worker.vitals.start(7)
        vitals = await media.vitals()
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(vitals), type=Vitals) == vitals
        await media.worker.close()

    run(main())
