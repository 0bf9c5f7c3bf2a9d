"""Events in bad weather: late, doubled, not taken at first; each on its own way past the others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from offhook.media.weather import Fate
from offhook.server import bad_post
from offhook.server.delivery import BACKOFF_S, Deliverer, Parcel, Reply
from offhook.testing.clock import run

URL = "https://app.example/callback"


class App:
    """Where events go: when, and which."""

    def __init__(self) -> None:
        self.posted: list[tuple[float, str]] = []
        self.settled: list[tuple[float, str]] = []
        self.deliverer = Deliverer(self._post, lambda: "token")

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.posted.append((_now(), body.decode()))
        return Reply(200)

    def send(self, name: str, fate: Fate | None = None, last: bool = False) -> None:
        parcel = Parcel(name, "connection", URL, name, name.encode(), last)
        bad_post.deliver(self.deliverer, parcel, fate or Fate(), lambda: self.settled.append((_now(), name)))


def _now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


def test_a_late_event_is_overtaken_and_settled_when_it_came() -> None:
    async def main() -> None:
        app = App()
        app.send("one", Fate((0.5,)))
        app.send("two")
        await asyncio.sleep(1)
        assert app.posted == [(0, "two"), (0.5, "one")]
        assert app.settled == [(0, "two"), (0.5, "one")]
        assert app.deliverer.pending == 0

    run(main())


def test_a_doubled_event_comes_twice_and_is_settled_once() -> None:
    async def main() -> None:
        app = App()
        app.send("one", Fate((0.0, 0.7)))
        app.send("two", Fate((0.0, 0.0)))
        await asyncio.sleep(1)
        assert sorted(app.posted) == [(0, "one"), (0, "two"), (0, "two"), (0.7, "one")]
        assert app.settled == [(0, "one"), (0, "two")]

    run(main())


def test_an_event_that_fails_at_first_holds_up_those_behind_it() -> None:
    async def main() -> None:
        app = App()
        app.send("one", Fate(failing=True))
        app.send("two")
        await asyncio.sleep(1)
        assert app.posted == [(BACKOFF_S[0], "one"), (BACKOFF_S[0], "two")]
        assert app.deliverer.retried == 1

    run(main())


def test_a_late_and_failing_event_is_late_once() -> None:
    async def main() -> None:
        app = App()
        app.send("one", Fate((1.5, 0.0), failing=True))
        await asyncio.sleep(5)
        assert app.posted == [(0, "one"), (1.5 + BACKOFF_S[0], "one")]

    run(main())


def test_a_late_last_event_does_not_close_the_lane_to_what_is_on_its_way() -> None:
    async def main() -> None:
        app = App()
        app.send("one", Fate(failing=True))
        app.send("last", Fate((0.3,)), last=True)
        app.send("two")
        await app.deliverer.close(5)
        assert app.posted == [(0.3, "last"), (0.5, "one"), (0.5, "two")]
        assert app.deliverer.dropped == 0

    run(main())
