"""A simulated party on a running server: what `offhook call`, `offhook phone` and tests place calls with."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np

from offhook.audio import pcm
from offhook.media.weather import Weather
from offhook.wire import auth

DIGITS = 1000  # that a party keeps of what it was sent
HEARD_S = 3600  # seconds of what a party hears that are kept; older audio goes first
SEND_AHEAD_BYTES = 1 << 18  # one message of audio; the server takes 1 MiB


class CallerError(Exception):
    """The server refused what was asked, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """`at`: seconds since the party was made; `state`: ringing, waiting, connected, ended."""

    at: float
    state: str
    reason: str = ""
    caller: str = ""


@dataclass(eq=False)
class Party:
    """One simulated party with an open audio socket; made by `Caller.call` and `Caller.phone`.

    PCM in and out is s16le mono at `rate` Hz. `frames` are what it hears, 20 ms each, from `connected` on.
    """

    id: str
    call_id: str
    raw_id: str
    rate: int
    socket: aiohttp.ClientWebSocketResponse
    began: float = field(default_factory=time.monotonic)
    states: list[StateChange] = field(default_factory=list)
    frames: deque[bytes] = field(default_factory=lambda: deque(maxlen=HEARD_S * pcm.FRAMES_PER_SECOND))
    frames_heard: int = 0
    first_audio_frame: int | None = None  # index of the first frame that was not digital silence
    connected_at: float | None = None
    on_frame: Callable[[bytes], None] | None = None
    digits: str = ""  # that the call has sent
    missed_frames: int = 0  # of those that the server had sent when the last mark came
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=100))  # what the server refused
    reopen: Callable[[str], Awaitable[aiohttp.ClientWebSocketResponse]] | None = None  # where a phone is to move to

    def __post_init__(self) -> None:
        self._changed = asyncio.Condition()
        self._marks: dict[str, int] = {}
        self._mark_number = 0
        self._reader = asyncio.create_task(self._read())

    # ------------------------------------------------------------------------------------------ acting

    async def say(self, audio: bytes | np.ndarray[Any, np.dtype[np.int16]], text: str = "") -> None:
        """Send audio ahead: the server plays it at its own pace, after what was sent before.

        `text` are the words in it (1000 characters): a server that recognises speech then takes them for what it heard.
        """
        if text:
            await self._tell(kind="said", text=text)
        data = audio if isinstance(audio, bytes) else audio.astype("<i2").tobytes()
        for start in range(0, len(data), SEND_AHEAD_BYTES):
            await self._send(self.socket.send_bytes(data[start : start + SEND_AHEAD_BYTES]))

    async def played(self, timeout: float | None = None) -> int:
        """Wait until all that was said so far has been played; return the frame in which that was."""
        self._mark_number += 1
        name = f"m{self._mark_number}"
        await self._tell(kind="mark", name=name)
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: name in self._marks or self._left)
        return self._marks.pop(name, self.frames_heard)

    async def press(self, tones: str) -> None:
        """Press keys: any of 0-9 * # A-D."""
        await self._tell(kind="dtmf", tones=tones)

    async def flush(self) -> None:
        """Take back what was said and not played yet."""
        await self._tell(kind="flush")

    async def answer(self) -> None:
        await self._tell(kind="answer")

    async def decline(self, reason: str = "declined") -> None:
        """`reason`: busy, declined or no-answer."""
        await self._tell(kind="decline", reason=reason)

    async def hang_up(self) -> None:
        """Leave the call; a phone goes on waiting."""
        await self._tell(kind="hangUp")

    async def close(self) -> None:
        """Close the socket; whoever is in a call thereby hangs up."""
        await self.socket.close()
        await self._reader

    # ------------------------------------------------------------------------------------------ observing

    @property
    def state(self) -> str:
        return self.states[-1].state if self.states else "opening"

    @property
    def connected(self) -> bool:
        return self.state == "connected"

    @property
    def ended(self) -> bool:
        """The call is over for this party, or its socket is gone."""
        return self.state == "ended" or self.socket.closed

    @property
    def _left(self) -> bool:
        """No call any more: as `ended`, or a phone that waits for the next one."""
        return self.ended or self.state == "waiting"

    @property
    def heard(self) -> bytes:
        """What the party heard since it was connected (the last `HEARD_S` seconds of it)."""
        return b"".join(self.frames)

    @property
    def first_audio_ms(self) -> float | None:
        """From connected to the first frame that was not digital silence, in milliseconds of audio."""
        return None if self.first_audio_frame is None else float(self.first_audio_frame * pcm.FRAME_MS)

    async def wait_for(self, *states: str, timeout: float | None = None) -> str:
        """Wait for one of `states` (or the end of the socket); return the state then."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: self.state in states or self.socket.closed)
        return self.state

    async def wait_for_frames(self, count: int, timeout: float | None = None) -> None:
        """Wait until the party has heard `count` frames since it was connected, or the call ended."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: self.frames_heard >= count or self._left)

    # ------------------------------------------------------------------------------------------ the socket

    async def _tell(self, **fields: str) -> None:
        await self._send(self.socket.send_str(msgspec.json.encode(fields).decode()))

    async def _send(self, sending: Any) -> None:
        with suppress(ConnectionError):  # It has just ended: `ended` says so.
            await sending

    async def _read(self) -> None:
        while (url := await self._read_socket()) is not None and self.reopen is not None:
            try:
                before, self.socket = self.socket, await self.reopen(url)
            except (aiohttp.ClientError, TimeoutError, OSError):
                await self.socket.close()
                break
            await before.close()
        if self.state not in ("ended", "waiting"):
            self.states.append(StateChange(self._now(), "ended", "the socket was closed"))
        async with self._changed:
            self._changed.notify_all()

    async def _read_socket(self) -> str | None:
        """Read until the socket is closed, or the party shall move: then return where to."""
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                self._hear(message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                told = msgspec.json.decode(message.data)
                if told["kind"] == "moved":
                    return str(told["url"])
                self._told(told)
            async with self._changed:
                self._changed.notify_all()
            if message.type is aiohttp.WSMsgType.TEXT:  # Who waits for it sees it, though more may have come.
                await asyncio.sleep(0)
        return None

    def _hear(self, frame: bytes) -> None:
        if self.first_audio_frame is None and any(frame):
            self.first_audio_frame = self.frames_heard
        self.frames.append(frame)
        self.frames_heard += 1
        if self.on_frame is not None:
            self.on_frame(frame)

    def _told(self, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "mark":
                self._marks[message["name"]] = message["frame"]
                self.missed_frames = message["frame"] - self.frames_heard
            case "dtmf":
                self.digits = (self.digits + message["tones"])[-DIGITS:]
            case "error":
                self.errors.append(message["reason"])
            case state:
                if state == "connected":
                    self.connected_at = time.monotonic()
                    self.frames.clear()
                    self.frames_heard, self.first_audio_frame = 0, None
                change = StateChange(self._now(), state, message.get("reason", ""), message.get("from", ""))
                self.states.append(change)

    def _now(self) -> float:
        return time.monotonic() - self.began


class Caller:
    """A client of the caller API of the server at `url`, signing with `key`.

    `tls` is what an https server is trusted by. Use it as `async with Caller(url, key) as caller`.
    """

    def __init__(self, url: str, key: str, tls: ssl.SSLContext | None = None) -> None:
        self._url = url.rstrip("/")
        self._host = urlsplit(self._url).netloc
        self._key = key
        self._tls = tls if tls is not None else True
        self._session: aiohttp.ClientSession | None = None
        self._parties: list[Party] = []

    async def __aenter__(self) -> Caller:
        # Every party keeps a connection; aiohttp's bound of 100 would have the next request wait for one to hang up.
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        for party in self._parties:
            await party.close()
        await self._session.close()

    async def call(
        self, to: str, from_: str = "+15550100", rate: int = 24_000, name: str = "", weather: Weather | None = None
    ) -> Party:
        """Call `to`; return as soon as it rings. Addresses: E.164 number, raw id or bare name."""
        wanted = {"to": to, "from": from_, "rate": rate, "displayName": name, "weather": weather}
        return await self._attach(await self.request("POST", "/offhook/calls", wanted), rate)

    async def phone(self, id: str, rate: int = 24_000, weather: Weather | None = None) -> Party:
        """Wait for calls to `id`: `wait_for("ringing")`, then `answer` or `decline`."""
        placed = await self.request("POST", "/offhook/phones", {"id": id, "rate": rate, "weather": weather})
        party = await self._attach(placed, rate)
        await party.wait_for("waiting", timeout=10)
        return party

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make a signed request; return the JSON answer ({} if there is none). Raises `CallerError`."""
        assert self._session is not None
        data = b"" if body is None else msgspec.json.encode(body)
        headers = auth.sign(method, path, self._host, data, self._key, formatdate(usegmt=True))
        headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method, self._url + path, data=data, headers=headers, ssl=self._tls
            ) as response:
                content = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CallerError(f"no answer from {self._url}: {error}") from error
        if status >= 400:
            raise CallerError(_reason(status, content))
        answer: dict[str, Any] = msgspec.json.decode(content) if content else {}
        return answer

    async def _attach(self, placed: dict[str, Any], rate: int) -> Party:
        assert self._session is not None
        opening = partial(self._session.ws_connect, max_msg_size=1 << 20, compress=0)
        socket = await opening(placed["audioUrl"])
        party = Party(placed["id"], placed.get("callId", ""), placed["rawId"], rate, socket, reopen=opening)
        self._parties.append(party)
        return party


def _reason(status: int, content: bytes) -> str:
    try:
        error = msgspec.json.decode(content)["error"]
        return f"{status}: {error['message']} (code {error['code']})"
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"{status}: {content[:200].decode(errors='replace')}"
