"""Virtual time passes when nothing else happens, and no faster."""

from __future__ import annotations

import asyncio

import pytest

from offhook.testing.clock import StuckError, VirtualTimeLoop, run


def test_a_day_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(86_400)


def test_timers_run_in_the_order_of_their_times() -> None:
    seen: list[tuple[str, float]] = []

    async def note(name: str, after: float) -> None:
        await asyncio.sleep(after)
        seen.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(note("c", 3), note("a", 1), note("b", 2))

    run(main())
    assert seen == [("a", 1), ("b", 2), ("c", 3)]


def test_a_time_out_takes_its_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(12.5):
                await asyncio.get_running_loop().create_future()
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(12.5)


def test_waiting_for_what_cannot_happen_is_an_error() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(StuckError):
        run(main())


def test_code_that_blocks_makes_timers_late() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        came = loop.create_future()
        loop.call_later(1.0, lambda: came.set_result(loop.time()))
        loop.block(5.0)
        assert await came == 5.0

    run(main())
