"""sipp as a carrier of a house."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.legs.sip_peers.programs import LOOPBACK, run_sipp
from tests.server.sip_peers.house import CARRIER, AppCall, House, listens, until

NUMBER = "+15550199"  # that is called
SCENARIOS = [Path(__file__).parent / "scenarios", Path(__file__).parents[2] / "legs" / "sip_peers" / "scenarios"]

Sipp = Callable[..., Coroutine[Any, Any, str]]


def traffic(house: House, path: str, folder: Path) -> Sipp:
    """Return `sipp(scenario, *options)`, which calls `target` (the server), or with `called=True` waits for calls; by
    default one of them."""

    def sipp(
        scenario: Path | str,
        *options: str,
        transport: str = "udp",
        host: str = CARRIER,
        target: str = "",
        called: bool = False,
    ) -> Coroutine[Any, Any, str]:
        files = [folder / f"{scenario}.xml" for folder in SCENARIOS]
        found = next((file for file in files if file.exists()), scenario)
        whom = "" if called else target or f"{LOOPBACK}:{house.ports[transport]}"
        port = ("-p", str(house.carrier_port)) if called else ()
        once = ("-m", "1", "-key", "to", NUMBER, "-t", {"udp": "u1", "tcp": "t1"}[transport])
        return run_sipp(path, folder, found, whom, *once, *port, *options, host=host)

    return sipp


async def waiting(
    house: House, sipp: Sipp, scenario: str, *, host: str = CARRIER, transport: str = "udp"
) -> asyncio.Task[str]:
    """Have sipp wait for a call; return its run when it does."""
    run = asyncio.create_task(sipp(scenario, called=True, host=host, transport=transport))
    await until(lambda: listens(host, house.carrier_port, transport) or run.done())
    return run


async def called(house: House, sipp: Sipp, scenario: str, number: str = NUMBER, **more: str) -> AppCall:
    """Let the app call sipp, which hangs up or is hung up on when it has answered; return what the app was told."""
    run = await waiting(house, sipp, scenario, **more)
    call = await house.call(number)
    await until(lambda: {"CallConnected", "CreateCallFailed"} & {*call.kinds})
    if "CallConnected" in call.kinds:
        await call.connection.hang_up(is_for_everyone=True)
    await call.over()
    await run
    return call
