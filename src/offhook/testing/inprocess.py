"""A whole Offhook in memory around one app, on virtual time: control, media worker, simulated parties, events.

The app is its handler for the audio socket and how it would answer a call (`App`). There is no REST in between: what an
app does with it (answer, createCall, hang up) is done for it. Everything else is what `offhook serve` runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import aiohttp

from offhook import bot
from offhook.bot import Handler, StreamClosed
from offhook.bot.memory import MemorySocket
from offhook.call import messages as m
from offhook.call.call import Refused
from offhook.call.model import CallData, Connection, MediaStream, Release, Shown, StreamOptions, StreamState
from offhook.legs.simulated import SimulatedLeg
from offhook.legs.simulated_legs import SimulatedLegs
from offhook.media.dial import AppSocket
from offhook.media.keeping import Keeping
from offhook.media.memory_link import memory_pair
from offhook.media.tidings import Welcome
from offhook.media.websocket import SocketListener
from offhook.media.worker import MediaWorker
from offhook.server.control import Control, Ticket
from offhook.server.delivery import Deliverer, Parcel, Reply, Settled
from offhook.server.eventgrid import Endpoints
from offhook.server.placement import Worker
from offhook.server.webhooks import Webhooks
from offhook.testing.caller import Party
from offhook.testing.clock import VirtualTimeLoop
from offhook.testing.tone_studio import ToneStudio
from offhook.testing.weather import Weather
from offhook.wire import websocket
from offhook.wire.ids import IdMint, context_token, parse_address

T = TypeVar("T")

RESOURCE = "11111111-2222-4333-8444-555555555555"
EPOCH = 1_800_000_000.0  # Unix time at which virtual time begins
API_VERSION = "2025-06-15"
GOING_AWAY_S = 10.0  # for the app to end when the test is over

_SOON_S = 0.001  # for control and worker to have told each other


@dataclass(frozen=True)
class App:
    """An app that runs inside the test: the handler of its audio socket, and how it answers calls.

    `rate` (16000 or 24000 Hz), `unmixed`, `bidirectional` and `dtmf` are its media streaming options; `answer_after` is
    how many seconds it lets the call ring. `path` is that of its transport URL, with query. `on_event` gets each
    CloudEvent of its callback as a dict. `hangs_up`: it ends the call when its handler returns.
    """

    handler: Handler
    rate: int = 16_000
    unmixed: bool = False
    bidirectional: bool = True
    dtmf: bool = True
    answer_after: float = 0.0
    path: str = "/"
    hangs_up: bool = False
    on_event: Callable[[dict[str, Any]], None] | None = None


class InProcess:
    """An `Exchange` (see `offhook.testing.call`) with one app, on an event loop of its own that runs during `run`."""

    def __init__(self, app: App, weather: Weather | None = None) -> None:
        self.app_errors: list[Exception] = []
        self._app = app
        self._weather = weather
        self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.run(self._start())

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        """Do something; time passes only meanwhile."""
        return self._runner.run(doing)

    async def call(self, to: str, from_: str, rate: int) -> Party:
        """Let a simulated caller call `to`; return it when it rings."""
        caller, number = parse_address(from_, RESOURCE), parse_address(to, RESOURCE)
        ticket = self._control.place_call(caller, number, rate, weather=self._weather)
        return await self._attach(ticket, caller, rate)

    async def phone(self, id: str, rate: int) -> Party:
        """Let a simulated phone wait at `id`, and the app call it."""
        raw_id = parse_address(id, RESOURCE)
        party = await self._attach(self._control.add_phone(raw_id, rate, self._weather), raw_id, rate)
        await asyncio.sleep(_SOON_S)
        connection = self._connection(f"8:acs:{RESOURCE}_app", (raw_id,), created=True)
        self._control.create_call(self._control.place([raw_id]), connection, [raw_id], "4:+15550199", "")
        return party

    async def timeline(self, party: Party) -> list[dict[str, Any]]:
        """Return what happened in the party's newest call."""
        for record in reversed([*self._control.registry.finished, *self._control.registry.calls.values()]):
            if record.data.id == party.call_id or party.raw_id in {leg.party for leg in record.data.legs.values()}:
                return list(record.timeline)
        return []

    def close(self) -> None:
        """End all calls and the loop. The handler gets some seconds of virtual time to return; then it is cancelled."""
        try:
            self.run(self._stop())
        finally:
            self._runner.close()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        control, worker = memory_pair()
        ids = IdMint(entropy=Random(self._weather.seed if self._weather else 0).randbytes)
        self._ids = ids
        self._deliverer = Deliverer(self._post, lambda: "token")
        endpoints = Endpoints([], self._post, "https://offhook.test", lambda code, url: b"")
        self._webhooks = Webhooks(self._deliverer, endpoints, "/subscriptions/test", self._wall, {})
        place = Worker(0, lambda epoch: ids)
        self._control = Control(
            workers=[place],
            notifier=self,
            socket_token=lambda: "socket-token",
            wall=self._wall,
            studio=ToneStudio(),
        )
        self._control.connect(place, control)
        keeping = Keeping(Welcome(worker=0, boot=0))
        self._worker = MediaWorker(keeping, self._dial, EPOCH - loop.time())
        self._legs = SimulatedLegs(self._worker)
        self._worker.start()
        keeping.connect(worker)

    async def _stop(self) -> None:
        await self._control.close()
        await self._deliverer.close(GOING_AWAY_S)
        await self._legs.close()
        await self._worker.close()

    def _wall(self) -> float:
        return EPOCH + self._runner.get_loop().time()

    async def _attach(self, ticket: Ticket, raw_id: str, rate: int) -> Party:
        await asyncio.sleep(_SOON_S)
        client = _ClientEnd()
        attached = self._legs.attach(ticket.token, _WorkerEnd(client))
        assert attached is not None
        client.leg = attached
        return Party(ticket.leg, ticket.call, raw_id, rate, cast(aiohttp.ClientWebSocketResponse, client))

    # ---------------------------------------------------------------------------------------------------- the app

    def notice(
        self,
        call: CallData,
        connection: Connection,
        event: m.Event,
        callback: str | None,
        release: Release | None = None,
    ) -> Parcel | None:
        """Notifier: make what tells the app of an event."""
        return self._webhooks.notice(call, connection, event, callback, release)

    def offer(
        self, call: CallData, to: str, shown: Shown, context: str, token: str, seconds: float, trunk: str = ""
    ) -> Parcel:
        """Notifier: the app hears of a call, and answers it."""
        asyncio.get_running_loop().call_later(self._app.answer_after, self._answer, shown.caller, to, context)
        return Parcel(token, "", "", "IncomingCall", b"", until=self._wall() + seconds)

    def post(self, parcel: Parcel, settled: Settled) -> None:
        """Notifier: send the app an event; of the call it has heard already."""
        if parcel.until is None:
            self._webhooks.post(parcel, settled)
        else:
            settled()

    def _answer(self, caller: str, to: str, context: str) -> None:
        token = context_token(context)
        assert token is not None
        with suppress(Refused):  # The caller has hung up meanwhile.
            self._control.answer(token, self._connection(to, (to,), source=caller))

    def _connection(
        self, party: str, targets: tuple[str, ...], *, source: str | None = None, created: bool = False
    ) -> Connection:
        app = self._app
        options = StreamOptions(
            f"ws://app.test{app.path}", app.rate, app.unmixed, app.bidirectional, app.dtmf, start=True
        )
        return Connection(
            id=self._ids.guid(),
            party=party,
            callback="https://app.test/callback",
            api_version=API_VERSION,
            stream=MediaStream(self._ids.guid(), options, StreamState.INACTIVE),
            source=source or party,
            targets=targets,
            created=created,
        )

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if self._app.on_event is not None:
            try:
                for event in json.loads(body):
                    self._app.on_event(event)
            except Exception as error:
                self.app_errors.append(error)
        return Reply(200)

    async def _dial(self, url: str, headers: Mapping[str, str], listener: SocketListener) -> AppSocket:
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return _AppEnd(self._watched, path, headers, listener, self._closed_by_app)

    async def _watched(self, stream: bot.MediaStream) -> None:
        try:
            await self._app.handler(stream)
        except StreamClosed:
            raise
        except Exception as error:
            self.app_errors.append(error)
            raise

    def _closed_by_app(self, connection: str) -> None:
        if self._app.hangs_up:
            with suppress(Refused):
                self._control.command(connection, m.HangUp(connection))


class _AppEnd:
    """The worker's socket to the app's handler. An `AppSocket`."""

    receive = transmit = None  # There is no socket.

    def __init__(
        self,
        handler: Handler,
        path: str,
        headers: Mapping[str, str],
        listener: SocketListener,
        closed_by_app: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._closed_by_app = closed_by_app
        self._closing: asyncio.Task[None] | None = None
        self._connection = {name.lower(): value for name, value in headers.items()}.get("x-ms-call-connection-id", "")
        self._app = MemorySocket(
            handler, path=path, headers=headers, on_message=self._from_app, on_close=self._close_from_app
        )

    def poll(self, now: float, received: memoryview | None = None) -> None:
        """What the app sends is there at once."""

    def send(self, message: bytes | memoryview) -> None:
        self._app.receive(websocket.payload_of(message))

    def close(self, code: int = 1000) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._app.hang_up())

    def abort(self, detail: str) -> None:
        if self._closing is None:
            self.close()
            self._listener.on_closed(False, detail)

    async def wait_closed(self) -> None:
        if self._closing is not None:
            await self._closing

    def _from_app(self, message: bytes) -> None:
        self._loop.call_soon(self._receive, message)

    def _receive(self, message: bytes) -> None:
        if self._closing is None:
            self._listener.on_message(memoryview(message))

    def _close_from_app(self, code: int) -> None:
        self._loop.call_soon(self._lose, code)

    def _lose(self, code: int) -> None:
        if self._closing is None:
            self.close()
            self._listener.on_closed(code in (1000, 1001), f"the app closed the socket with {code}")
            if code == 1000:
                self._closed_by_app(self._connection)


class _Message(NamedTuple):
    type: aiohttp.WSMsgType
    data: Any


class _WorkerEnd:
    """A party's socket as its leg sees it. A `PartySocket`."""

    def __init__(self, client: _ClientEnd) -> None:
        self._client = client

    def send_text(self, data: bytes) -> None:
        self._client.arrived.put_nowait(_Message(aiohttp.WSMsgType.TEXT, data))

    def send_binary(self, data: bytes) -> None:
        self._client.arrived.put_nowait(_Message(aiohttp.WSMsgType.BINARY, data))

    def close(self) -> None:
        self._client.arrived.put_nowait(None)


class _ClientEnd:
    """The same as its client sees it: what `Party` uses of aiohttp's socket."""

    def __init__(self) -> None:
        self.leg: SimulatedLeg
        self.closed = False
        self.arrived: asyncio.Queue[_Message | None] = asyncio.Queue()

    async def send_bytes(self, data: bytes) -> None:
        self._check()
        self.leg.on_audio(memoryview(data))

    async def send_str(self, text: str) -> None:
        self._check()
        self.leg.on_text(memoryview(text.encode()))

    async def close(self) -> None:
        self.arrived.put_nowait(None)

    def __aiter__(self) -> _ClientEnd:
        return self

    async def __anext__(self) -> _Message:
        message = await self.arrived.get()
        if message is None:
            self.closed = True
            self.leg.on_closed()
            raise StopAsyncIteration
        return message

    def _check(self) -> None:
        if self.closed:
            raise ConnectionResetError("the socket is closed")
