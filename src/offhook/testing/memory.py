"""In-memory ends of the two kinds of socket, so that a whole call runs without a network and on virtual time.

`MemoryMedia` puts them around a media worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from offhook.legs.simulated import SimulatedLeg, Told
from offhook.legs.simulated_legs import SimulatedLegs
from offhook.media.dial import AppSocket, DialError
from offhook.media.keeping import Keeping
from offhook.media.link import CloseStream, ConnectLeg, ExpectLeg, OpenStream, Order
from offhook.media.memory_link import memory_pair
from offhook.media.tidings import UNCOUNTED, StreamEnded, Tiding, Welcome
from offhook.media.websocket import SocketListener
from offhook.media.worker import MediaWorker
from offhook.wire import streaming, websocket

T = TypeVar("T", bound=Tiding)


class MemoryApp:
    """An app's WebSocket server in memory; the instance is the `Dial` to it.

    `opened` and `messages` are what reached it; `refusals` is eaten from the front, one try each (None: accept);
    `on_message`, when set, is called with every message and may answer with `send`.
    """

    def __init__(self, on_message: Callable[[bytes], None] | None = None) -> None:
        self.on_message = on_message
        self.messages: list[tuple[float, bytes]] = []
        self.opened: list[tuple[float, str, Mapping[str, str]]] = []
        self.closed: list[tuple[float, int]] = []
        self.refusals: list[DialError | None] = []
        self.open_after_s = 0.0
        self._listener: SocketListener | None = None

    async def __call__(self, url: str, headers: Mapping[str, str], listener: SocketListener) -> AppSocket:
        await asyncio.sleep(self.open_after_s)
        refusal = self.refusals.pop(0) if self.refusals else None
        self.opened.append((self._now(), url, dict(headers)))
        if refusal is not None:
            raise refusal
        self._listener = listener
        return _MemorySocket(self)

    @property
    def audio(self) -> list[streaming.AudioData]:
        """The AudioData messages that arrived, in order."""
        parsed = (streaming.parse_from_server(message) for _, message in self.messages)
        return [message for message in parsed if isinstance(message, streaming.AudioData)]

    def heard(self, party: str | None = None) -> bytes:
        """The PCM that arrived; of one participant in unmixed mode."""
        return b"".join(message.pcm for message in self.audio if message.participant_raw_id == party)

    def send(self, message: bytes) -> None:
        """Send a message to Offhook; it is lost when no socket is open."""
        if self._listener is not None:
            self._listener.on_message(memoryview(message))

    def say(self, pcm: bytes) -> None:
        """Send audio to Offhook in one message."""
        self.send(streaming.audio_data_out(pcm))

    def stop(self) -> None:
        """Send StopAudio."""
        self.send(streaming.stop_audio_out())

    def too_large(self, size: int) -> None:
        """Send a message of `size` bytes, more than is read."""
        assert self._listener is not None
        self._listener.on_too_large(size)

    def drop(self, clean: bool = False) -> None:
        """Lose the connection, or (`clean`) close it as an app does that wants no more audio."""
        assert self._listener is not None
        listener, self._listener = self._listener, None
        listener.on_closed(clean, "closed by the test" if clean else "the connection was lost")

    def stall(self) -> None:
        """Stop reading: Offhook's socket is full from now on."""
        assert self._listener is not None
        self._listener.on_writable(False)

    def resume(self) -> None:
        """Read again: what waits at Offhook is sent."""
        assert self._listener is not None
        self._listener.on_writable(True)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _receive(self, message: bytes) -> None:
        self.messages.append((self._now(), message))
        if self.on_message is not None:
            self.on_message(message)


class _MemorySocket:
    receive = transmit = None  # one by one only

    def __init__(self, app: MemoryApp) -> None:
        self._app = app

    def poll(self, now: float, received: memoryview | None = None) -> None:
        """What the app sends is there at once."""

    def send(self, message: bytes | memoryview) -> None:
        self._app._receive(websocket.payload_of(message))

    def close(self, code: int = 1000) -> None:
        self._app._listener = None
        self._app.closed.append((self._app._now(), code))

    def abort(self, detail: str) -> None:
        listener, self._app._listener = self._app._listener, None
        self._app.closed.append((self._app._now(), 1006))
        if listener is not None:
            listener.on_closed(False, detail)

    async def wait_closed(self) -> None:
        """It is closed at once."""


class MemoryParty:
    """A simulated party's client in memory: the other end of a `SimulatedLeg`."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []  # what it heard, 20 ms each
        self.times: list[float] = []  # when, in loop time
        self.told: list[Told] = []
        self.closed = False
        self._leg: SimulatedLeg | None = None

    def open(self, legs: SimulatedLegs, token: str) -> bool:
        """Open the audio socket with a one-time token; False when it is not taken."""
        self._leg = legs.attach(token, self)
        return self._leg is not None

    def drop(self) -> None:
        """Lose the connection."""
        assert self._leg is not None
        self._leg.on_closed()

    @property
    def heard(self) -> bytes:
        return b"".join(self.frames)

    def say(self, pcm: bytes) -> None:
        """Send PCM ahead, at the leg's rate."""
        assert self._leg is not None
        self._leg.on_audio(memoryview(pcm))

    def tell(self, kind: str, **fields: str) -> None:
        """Send a text message, e.g. `tell("dtmf", tones="12")`."""
        self.tell_raw(msgspec.json.encode({"kind": kind, **fields}))

    def tell_raw(self, text: bytes) -> None:
        """Send a text message as it is."""
        assert self._leg is not None
        self._leg.on_text(memoryview(text))

    def send_text(self, data: bytes) -> None:
        self.told.append(msgspec.json.decode(data, type=Told))

    def send_binary(self, data: bytes) -> None:
        self.frames.append(data)
        self.times.append(asyncio.get_running_loop().time())

    def close(self) -> None:
        self.closed = True


class MemoryMedia:
    """A media worker with its simulated legs, as control sees it: orders down, tidings up, all in memory.

    Make it on a running loop, best on virtual time (`offhook.testing.clock`).
    """

    def __init__(self, epoch: float = 0.0) -> None:
        self.control, end = memory_pair()
        self.tidings: list[Tiding] = []
        self.control.on_receive(self._take)
        self.apps: dict[str, MemoryApp] = {}
        self.keeping = Keeping(Welcome(worker=0, boot=0))
        self.worker = MediaWorker(self.keeping, self._dial, epoch)
        self.legs = SimulatedLegs(self.worker)
        self.worker.start()
        self.keeping.connect(end)

    async def party(self, name: str, rate: int = 16_000, call: str = "call") -> MemoryParty:
        """Let a simulated caller with the raw id `name` join `call`."""
        party = MemoryParty()
        await self.order(ExpectLeg(name, name, rate, call))
        party.open(self.legs, name)
        await self.order(ConnectLeg(name, call, name))
        return party

    async def app(
        self,
        name: str,
        rate: int = 16_000,
        call: str = "call",
        *,
        app: MemoryApp | None = None,
        unmixed: bool = False,
        bidirectional: bool = True,
        dtmf: bool = False,
        query: str = "",
    ) -> MemoryApp:
        """Open the stream `name` of `call` to an app, which others hear under the raw id `name`; `query` of its URL."""
        self.apps[name] = app or MemoryApp()
        await self.order(
            OpenStream(
                stream=name,
                call=call,
                connection=f"connection of {name}",
                correlation=f"correlation of {call}",
                subscription=f"subscription of {name}",
                party=name,
                url=f"{name}?{query}" if query else name,
                token=f"token of {name}",
                rate=rate,
                unmixed=unmixed,
                bidirectional=bidirectional,
                dtmf=dtmf,
            )
        )
        return self.apps[name]

    async def order(self, order: Order) -> None:
        """Give an order and let it be carried out."""
        self.control.send(order)
        for _ in range(5):
            await asyncio.sleep(0)

    def told(self, kind: type[T]) -> list[T]:
        """The tidings of one kind so far."""
        return [tiding for tiding in self.tidings if isinstance(tiding, kind)]

    async def stats(self, name: str) -> dict[str, int]:
        """Close the stream `name`, if it is still open, and return what it counted."""
        await self.order(CloseStream(name))
        return next(tiding.stats for tiding in self.told(StreamEnded) if tiding.stream == name)

    def _take(self, tiding: Tiding) -> None:
        if not isinstance(tiding, UNCOUNTED):
            self.tidings.append(tiding)

    async def _dial(self, url: str, headers: Mapping[str, str], listener: SocketListener) -> AppSocket:
        return await self.apps[url.partition("?")[0]](url, headers, listener)
