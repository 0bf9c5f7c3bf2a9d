"""Streams that are read together are heard, counted and trimmed exactly as if each were polled alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.audio.playout import STANDING_WINDOWS
from offhook.media import batch, reader
from offhook.media.dial import AppSocket
from offhook.media.link import OpenStream
from offhook.media.plane import SLOTS, Plane, Row
from offhook.media.stream import MediaStream
from offhook.media.tidings import Tiding
from offhook.media.websocket import SocketListener, WebSocket
from offhook.testing.clock import run
from offhook.wire import streaming
from offhook.wire.websocket import payload_of

RATES = [16_000, 24_000]


class Connection:
    """A non-blocking socket: `incoming` is there to be read, a part at a time where `at_once` says so."""

    def __init__(self) -> None:
        self.incoming = b""
        self.sent: list[bytes] = []
        self.room = 1 << 30  # bytes that are taken before it is full
        self.closed = False
        self.reads = 0

    def recv_into(self, buffer: memoryview) -> int:
        self.reads += 1
        if self.closed:
            return 0
        if not self.incoming:
            raise BlockingIOError
        size = min(len(buffer), len(self.incoming))
        buffer[:size], self.incoming = self.incoming[:size], self.incoming[size:]
        return size

    def send(self, data: bytes | memoryview) -> int:
        if self.room <= 0:
            raise BlockingIOError
        size = min(self.room, len(data))
        self.room -= size
        self.sent.append(bytes(data[:size]))
        return size

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...


class Phone:
    """A leg: says nothing, keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def poll(self, now: float) -> bytes | None:
        return None

    def send(self, data: bytes | memoryview) -> None:
        self.heard.append(bytes(data))


class Call:
    """A call with one phone and one stream, whose app is a made-up `Connection`."""

    def __init__(self, plane: Plane, name: str, rate: int, together: bool, query: str = "") -> None:
        self.rate = rate
        self.connection = Connection()
        self.phone = Phone()
        self.told: list[Tiding] = []
        url = f"ws://app/{query}"
        order = OpenStream(
            name, name, "c", "c", "s", "8:app", url, "token", rate, unmixed=False, bidirectional=True, dtmf=False
        )
        self.stream = MediaStream(order, plane, self._dial, self.told.append, lambda: None)
        if not together:
            self.stream.row.batched = None
        self.row = self.stream.row
        plane.add(Row(name, "4:phone", rate, self.phone, self.phone))
        self.stream.start()

    async def _dial(self, url: str, headers: object, listener: SocketListener) -> AppSocket:
        return WebSocket(cast(Any, self.connection), listener, b"", asyncio.get_running_loop().time())

    def state(self) -> dict[str, object]:
        """Everything that may make a difference later, but for times."""
        stats = self.stream.stats()
        playout = self.stream.playout
        pace, window = playout._pace, playout._window
        assert pace is not None
        return {
            **stats,
            "queued": b"".join(playout._blocks)[playout._head :],
            "idle": min(playout._idle_ticks, 100),
            "window": {k: v for k, v in vars(window).items() if k != "since" and (k != "lowest" or window.ticks)},
            "credit": round(pace._credit, 4),
        }


def text(payload: bytes) -> bytes:
    """A text of a server as it stands on the wire."""
    return bytes((0x81, 126)) + len(payload).to_bytes(2, "big") + payload


def frame(rate: int, number: int) -> bytes:
    return np.full(rate // 50, 1 + number % 20_000, np.int16).tobytes()


def incoming(what: str, rate: int, number: int) -> bytes:
    """What an app does in one tick."""
    audio = frame(rate, number)
    match what:
        case "speaks":
            return text(streaming.audio_data_out(audio))
        case "speaks otherwise":
            return text(streaming.audio_data_out(audio, "js"))
        case "speaks twice":
            return text(streaming.audio_data_out(audio)) + text(streaming.audio_data_out(audio[::-1]))
        case "speaks by halves":
            return text(streaming.audio_data_out(audio[: len(audio) // 2]))
        case "is a byte short":
            return text(streaming.audio_data_out(audio[:-1]))
        case "stops":
            return text(b'{"Kind":"StopAudio","AudioData":null,"StopAudio":{}}' + b" " * 80)
        case "pings":
            return b"\x89\x00"
        case "sends no base64":
            return text(streaming.audio_data_out(audio).replace(b"A", b"!"))
        case "sends half a frame of the protocol":
            return text(streaming.audio_data_out(audio))[:700]
        case _:
            return b""


DOINGS = [
    "speaks",
    "speaks otherwise",
    "speaks twice",
    "speaks by halves",
    "is a byte short",
    "stops",
    "pings",
    "sends no base64",
    "nothing",
]
Doing = list[tuple[str, int]]  # what an app does, and for how many ticks
# Mostly long stretches of the usual, with something else in between.
usual = st.tuples(st.sampled_from(["speaks", "nothing"]), st.integers(1, 70))
odd = st.tuples(st.sampled_from(DOINGS), st.integers(1, 3))
doings = st.lists(st.one_of(usual, odd), min_size=1, max_size=6)


def said(message: bytes) -> tuple[object, ...]:
    """What a message to the app says, but for its time."""
    payload = payload_of(message)
    match streaming.parse_from_server(payload):
        case streaming.AudioData(pcm=audio, silent=silent):
            return audio, silent
        case _:
            return message[0], payload


async def play(rate: int, apps: Sequence[Doing], together: bool) -> tuple[list[Call], int]:
    """Let each app do its part; return the calls, and how many ticks that took."""
    plane = Plane(0.0)
    calls = [Call(plane, f"call {number}", rate, together) for number in range(len(apps))]
    loop = asyncio.get_running_loop()
    todo = [[what for what, ticks in doing for _ in range(ticks)] for doing in apps]
    length = max(map(len, todo))
    for tick in range(length):
        await asyncio.sleep(0.02)
        for call, does in zip(calls, todo, strict=True):
            what = does[tick] if tick < len(does) else "nothing"
            call.connection.incoming += incoming(what, rate, tick)
        for slot in range(SLOTS):
            plane.tick(slot, loop.time())
    return calls, length


@settings(max_examples=60)
@given(rate=st.sampled_from(RATES), apps=st.lists(doings, min_size=1, max_size=4))
def test_who_is_read_together_is_heard_as_if_alone(rate: int, apps: list[Doing]) -> None:
    alone, _ = run(play(rate, apps, together=False))
    together, _ = run(play(rate, apps, together=True))
    for one, other in zip(alone, together, strict=True):
        assert other.phone.heard == one.phone.heard
        assert other.state() == one.state()
        assert [said(message) for message in other.connection.sent] == [said(m) for m in one.connection.sent]


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When streams were polled."""
    times: list[float] = []
    poll = MediaStream.poll

    def counted(self: MediaStream, now: float, received: memoryview | None = None) -> bytes | None:
        times.append(now)
        return poll(self, now, received)

    monkeypatch.setattr(MediaStream, "poll", counted)
    return times


def test_who_speaks_regularly_costs_one_read_a_tick_and_no_way_through_its_stream(polls: list[float]) -> None:
    async def main() -> None:
        calls, ticks = await play(24_000, [[("speaks", 500)]] * 3, together=True)
        assert len(polls) < 3 * 10
        for call in calls:
            assert call.connection.reads <= ticks + 10
            assert call.stream.stats()["played"] == call.stream.stats()["received"] == ticks
            assert call.phone.heard == [frame(24_000, number) for number in range(ticks)]

    run(main())


@pytest.mark.parametrize("depth", range(1, batch.DEEPEST + 2))
def test_frames_that_wait_are_played_as_many_ticks_later(depth: int) -> None:
    async def main() -> None:
        doing = [("speaks", 1), ("speaks twice", depth), ("speaks", 120)]
        [alone], _ = await play(16_000, [doing], together=False)
        [together], _ = await play(16_000, [doing], together=True)
        assert together.phone.heard == alone.phone.heard
        assert together.stream.playout.queued_bytes == depth * pcm.bytes_per_frame(16_000)

    run(main())


def test_what_a_full_socket_did_not_take_goes_out_before_anything_else() -> None:
    async def main() -> None:
        plane = Plane(0.0)
        call = Call(plane, "call", 16_000, together=True)
        loop = asyncio.get_running_loop()

        async def ticks(count: int) -> None:
            for _ in range(count):
                await asyncio.sleep(0.02)
                for slot in range(SLOTS):
                    plane.tick(slot, loop.time())

        await ticks(10)
        assert call.row.transmit is not None
        call.connection.room = 1500  # one message and a part of the next one
        await ticks(5)
        assert call.row.transmit is None
        call.connection.room = 1 << 30
        await ticks(5)
        assert call.row.transmit is not None
        stream = b"".join(call.connection.sent)
        kinds, sent = [], call.stream.sent
        while stream:
            size = int.from_bytes(stream[2:4], "big") if stream[1] & 0x7F == 126 else stream[1] & 0x7F
            end = size + (8 if stream[1] & 0x7F == 126 else 6)
            kinds.append(type(streaming.parse_from_server(payload_of(stream[:end]))))
            stream = stream[end:]
        assert kinds == [streaming.AudioMetadata] + [streaming.AudioData] * sent

    run(main())


def test_a_lost_socket_is_noticed_though_nobody_polls_it() -> None:
    async def main() -> None:
        plane = Plane(0.0)
        call = Call(plane, "call", 16_000, together=True)
        for number in range(60):
            await asyncio.sleep(0.02)
            call.connection.incoming += incoming("speaks", 16_000, number)
            if number == 40:
                call.connection.closed = True
            for slot in range(SLOTS):
                plane.tick(slot, asyncio.get_running_loop().time())
            if number == 40:
                assert call.row.transmit is None
                break
        assert call.stream.stats()["received"] == 40

    run(main())


def test_an_app_with_another_envelope_is_heard_beside_the_others() -> None:
    async def main() -> None:
        apps: list[Doing] = [[("speaks", 100)], [("speaks otherwise", 100)], [("speaks", 100)]]
        calls, ticks = await play(24_000, apps, together=True)
        for call in calls:
            assert call.phone.heard == [frame(24_000, number) for number in range(ticks)]

    run(main())


def test_a_stream_that_asks_for_heard_truth_is_polled() -> None:
    async def main() -> None:
        plane = Plane(0.0)
        call = Call(plane, "call", 16_000, together=True, query=f"?{streaming.HEARD_QUERY}")
        await asyncio.sleep(0.02)
        assert call.stream.poll(0.02) is None
        assert call.stream.regular(lambda: None) is None

    run(main())


def test_what_lateness_or_another_slot_has_left_is_taken_out_though_it_comes_regularly() -> None:
    frame_bytes = pcm.bytes_per_frame(16_000)

    async def main() -> None:
        plane = Plane(0.0)
        late, moved, both = (Call(plane, f"call {n}", 16_000, together=True) for n in range(3))
        for tick in range(900):
            await asyncio.sleep(0.02)
            speaks = incoming("speaks", 16_000, tick)
            late.connection.incoming += b"" if tick == 400 else speaks * (1 + (tick == 401))
            both.connection.incoming += speaks
            moved.connection.incoming += speaks * (1 + (tick == 400))
            if tick == 400:
                moved.stream.retimed()  # One tick later, two messages have come: one of them would wait for ever.
            for slot in range(SLOTS):
                plane.tick(slot, asyncio.get_running_loop().time())
            if tick == 450:
                waiting = [call.stream.playout.queued_bytes for call in (late, moved, both)]
                assert waiting == [frame_bytes, frame_bytes, 0]
        assert [call.stream.playout.queued_bytes for call in (late, moved, both)] == [0, 0, 0]
        assert [call.stream.stats()["skipped"] for call in (late, moved, both)] == [1, 1, 0]

    run(main())


def test_what_lateness_has_left_is_taken_out_in_the_same_tick_as_if_alone(polls: list[float]) -> None:
    doing = [("speaks", 400), ("nothing", 1), ("speaks twice", 1), ("speaks", 400)]

    async def main() -> None:
        [alone], ticks = await play(16_000, [doing], together=False)
        polls.clear()
        [together], _ = await play(16_000, [doing], together=True)
        assert together.stream.stats()["skipped"] == 1
        assert together.phone.heard == alone.phone.heard
        # While it is looked for a place to take it out, only where there may be one.
        assert len(polls) < 10 + ticks // reader.LOOK_EVERY + STANDING_WINDOWS

    run(main())


def test_who_is_regular_stays_so_while_others_come_and_go() -> None:
    async def main() -> None:
        plane = Plane(0.0)
        call = Call(plane, "call", 16_000, together=True)
        others: list[Row] = []
        polls = 0
        poll = call.stream.poll

        def counted(now: float, received: memoryview | None = None) -> bytes | None:
            nonlocal polls
            polls += 1
            return poll(now, received)

        call.stream.poll = counted  # type: ignore[method-assign]
        for tick in range(200):
            await asyncio.sleep(0.02)
            if tick % 3 == 0:
                phone = Phone()
                others.append(Row(f"another call {tick % 5}", "4:phone", 16_000, phone, phone))
                plane.add(others[-1])
            elif len(others) > 4:
                plane.remove(others.pop(tick % len(others)))
            call.connection.incoming += incoming("speaks", 16_000, tick)
            for slot in range(SLOTS):
                plane.tick(slot, asyncio.get_running_loop().time())
        assert polls < 10
        assert call.phone.heard == [frame(16_000, number) for number in range(200)]
        assert call.stream.received < 200
        assert call.stream.stats()["received"] == 200

    run(main())


def test_a_call_in_another_slot_is_polled_first() -> None:
    """It may be so much earlier or later that two messages have come, or none."""

    async def main() -> None:
        plane = Plane(0.0)
        call = Call(plane, "call", 16_000, together=True)
        for tick in range(120):
            await asyncio.sleep(0.02)
            if tick % 40 == 20:
                plane.move("call", tick // 40 + 1)
                assert call.stream.received == tick
            call.connection.incoming += incoming("speaks", 16_000, tick)
            for slot in range(SLOTS):
                plane.tick(slot, asyncio.get_running_loop().time())
        assert call.phone.heard == [frame(16_000, number) for number in range(120)]

    run(main())
