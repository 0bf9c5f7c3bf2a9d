"""In-memory ends of the two kinds of socket, so that a whole call runs without a network and on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from offhook.legs.simulated import SimulatedLeg, Told
from offhook.media.dial import AppSocket, DialError, SocketListener
from offhook.wire import streaming


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
        self.reads = True
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
        """Send a message to Offhook."""
        assert self._listener is not None
        self._listener.on_message(memoryview(message))

    def say(self, pcm: bytes) -> None:
        """Send audio to Offhook in one message."""
        self.send(streaming.audio_data_out(pcm))

    def stop(self) -> None:
        self.send(streaming.stop_audio_out())

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
        assert self._listener is not None
        self._listener.on_writable(True)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _receive(self, message: bytes) -> None:
        self.messages.append((self._now(), message))
        if self.on_message is not None:
            self.on_message(message)


class _MemorySocket:
    def __init__(self, app: MemoryApp) -> None:
        self._app = app

    def send(self, message: bytes) -> None:
        self._app._receive(message)

    def close(self, code: int = 1000) -> None:
        self._app.closed.append((self._app._now(), code))


class MemoryParty:
    """A simulated party's client in memory: the other end of a `SimulatedLeg`."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []  # what it heard, 20 ms each
        self.told: list[Told] = []
        self.closed = False
        self._leg: SimulatedLeg | None = None

    def on(self, leg: SimulatedLeg) -> MemoryParty:
        """Attach to `leg` and return self."""
        self._leg = leg
        leg.attach(self)
        return self

    @property
    def heard(self) -> bytes:
        return b"".join(self.frames)

    def say(self, pcm: bytes) -> None:
        assert self._leg is not None
        self._leg.on_audio(memoryview(pcm))

    def tell(self, kind: str, **fields: str) -> None:
        """Send a text message, e.g. `tell("dtmf", tones="12")`."""
        assert self._leg is not None
        self._leg.on_text(memoryview(msgspec.json.encode({"kind": kind, **fields})))

    def send_text(self, data: bytes) -> None:
        self.told.append(msgspec.json.decode(data, type=Told))

    def send_binary(self, data: bytes) -> None:
        self.frames.append(data)

    def close(self) -> None:
        self.closed = True
