"""The `caller` of a test: places calls, waits for calls, and keeps them for the report."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from offhook.bot import Handler
from offhook.server.config import DEVELOPMENT_KEY
from offhook.testing import speech
from offhook.testing.call import Call, Exchange
from offhook.testing.caller import Party
from offhook.testing.inprocess import App, InProcess
from offhook.testing.live import Live
from offhook.testing.weather import Weather

RING_S = 190.0  # longer than any ring time-out of the server
RATE = 16_000  # Hz of what a caller says and hears
NUMBER = "+15550199"


class TestCaller:
    """What the fixture `caller` is; outside of pytest use it as a context.

    The other side of a call is an app in this process, given as its handler or as an `App` with options: then all runs
    in memory on virtual time. Or it is whatever answers at a running Offhook, given as its URL, in real time.

    `speak` and `recognize` are replaceable: see `offhook.testing.speech` for their forms.
    """

    __test__ = False  # its name is no test's

    def __init__(self) -> None:
        self.speak: speech.Speak = speech.speak
        self.recognize: speech.Recognize = speech.recognize
        self.calls: list[Call] = []
        self._exchanges = ExitStack()

    def call(
        self,
        app: Handler | App | str,
        *,
        to: str = NUMBER,
        from_: str = "+15550100",
        rate: int = RATE,
        weather: Weather | None = None,
        key: str = DEVELOPMENT_KEY,
        ca: Path | None = None,
    ) -> Call:
        """Call `to`; return when it was answered, or not (`Call.answered`, `Call.outcome`).

        `rate`: 8000, 16000, 24000 or 48000 Hz. `weather` is over the call. `key` and `ca` (a file of certificates to
        trust) are for running servers. Raises `CallerError` when a server refuses.
        """
        exchange = self._exchange(app, weather, key, ca)
        party = exchange.run(_until_answered(exchange, to, from_, rate))
        return self._keep(exchange, party)

    def phone(
        self,
        app: Handler | App | str,
        *,
        id: str = "+15550123",
        rate: int = RATE,
        weather: Weather | None = None,
        key: str = DEVELOPMENT_KEY,
        ca: Path | None = None,
    ) -> Phone:
        """Wait at `id` for a call: that of an app in this process comes at once, on a running server the test has to
        make its app call. Everything else as in `call`."""
        exchange = self._exchange(app, weather, key, ca)
        return Phone(self, exchange, exchange.run(exchange.phone(id, rate)))

    def close(self) -> None:
        """Hang up everywhere."""
        self._exchanges.close()

    def __enter__(self) -> TestCaller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(self, app: Handler | App | str, weather: Weather | None, key: str, ca: Path | None) -> Exchange:
        exchange: Exchange
        if isinstance(app, str):
            exchange = Live(app, key, ca, weather)
        else:
            exchange = InProcess(app if isinstance(app, App) else App(app), weather)
        self._exchanges.callback(exchange.close)
        return exchange

    def _keep(self, exchange: Exchange, party: Party) -> Call:
        call = Call(exchange, party, self.speak, self.recognize)
        self.calls.append(call)
        return call


class Phone:
    """A phone that an app calls. Each of its methods waits for the call, `within` seconds; TimeoutError without one."""

    def __init__(self, caller: TestCaller, exchange: Exchange, party: Party) -> None:
        self._caller = caller
        self._exchange = exchange
        self._party = party

    def answer(self, within: float = 10.0) -> Call:
        """Pick up; return the call."""
        return self._do_within("answer", within)

    def busy(self, within: float = 10.0) -> Call:
        """Be busy; return the call that did not come about, for its `events`."""
        return self._do_within("busy", within)

    def decline(self, within: float = 10.0) -> Call:
        """Decline; as `busy`."""
        return self._do_within("declined", within)

    def no_answer(self, within: float = 10.0) -> Call:
        """Let the app find that nobody answers, without the wait; as `busy`."""
        return self._do_within("no-answer", within)

    def _do_within(self, what: str, within: float) -> Call:
        self._exchange.run(self._act(what, within))
        return self._caller._keep(self._exchange, self._party)

    async def _act(self, what: str, within: float) -> None:
        await self._party.wait_for("ringing", timeout=within)
        if what == "answer":
            await self._party.answer()
            await self._party.wait_for("connected", "waiting", timeout=within)
        else:
            await self._party.decline(what)
            await self._party.wait_for("waiting", timeout=within)


async def _until_answered(exchange: Exchange, to: str, from_: str, rate: int) -> Party:
    party = await exchange.call(to, from_, rate)
    await party.wait_for("connected", "ended", timeout=RING_S)
    return party
