"""A running Offhook as the other side of a test, in real time: an `Exchange` over the caller API."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from offhook.server import tls
from offhook.server.config import DEVELOPMENT_KEY
from offhook.testing.caller import Caller, Party
from offhook.testing.weather import Weather

T = TypeVar("T")

STOP_S = 10.0


class Live:
    """The server at `url`, signing with `key` (the development profile's by default), trusting the CA of `ca` too.
    `weather` is over its calls.

    Its event loop has a thread of its own: what the caller hears comes in while the test does something else.
    """

    def __init__(
        self, url: str, key: str = DEVELOPMENT_KEY, ca: Path | None = None, weather: Weather | None = None
    ) -> None:
        trust: ssl.SSLContext | None = tls.client_context([ca]) if ca is not None else None
        self._weather = weather
        self.app_errors: list[Exception] = []  # the app is elsewhere: its errors are not ours to see
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="offhook caller", daemon=True)
        self._thread.start()
        self._caller = Caller(url, key, trust)
        self.run(self._caller.__aenter__())

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        """Do something and wait for it."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result()

    async def call(self, to: str, from_: str, rate: int) -> Party:
        """Let a simulated caller call `to`; return it when it rings. Raises `CallerError`."""
        return await self._caller.call(to, from_, rate, weather=self._weather)

    async def phone(self, id: str, rate: int) -> Party:
        """Let a simulated phone wait at `id`. Raises `CallerError`."""
        return await self._caller.phone(id, rate, self._weather)

    async def timeline(self, party: Party) -> list[dict[str, Any]]:
        """Return what happened in the party's newest call. Raises `CallerError`."""
        id = party.call_id or await self._call_of(party.raw_id)
        if not id:
            return []
        shown = await self._caller.request("GET", f"/offhook/calls/{id}")
        timeline: list[dict[str, Any]] = shown["timeline"]
        return timeline

    def close(self) -> None:
        """Close the sockets, which hangs up, and end the thread."""
        try:
            self.run(self._caller.__aexit__(None, None, None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_S)
            self._loop.close()

    async def _call_of(self, raw_id: str) -> str:
        listed = await self._caller.request("GET", "/offhook/calls")
        calls = [call for call in listed["calls"] if raw_id in {leg["rawId"] for leg in call["legs"]}]
        return str(calls[-1]["callId"]) if calls else ""
