"""The link over a Unix socket: what arrives, in which order, and what breaks it."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.media import socket_link
from offhook.media.link import CloseStream, ExpectLeg, Order
from offhook.media.socket_link import BUFFER_LIMIT, HEADER, MESSAGE_LIMIT, SocketLink
from offhook.media.tidings import LegAttached, LegGone, StreamEnded, Tiding

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has the media in one process"),
]


class Pair:
    """Both ends of a link, what each has received, and the bare socket that the other one may be."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        self.listening = listening
        self.path = path
        self.control: SocketLink
        self.worker: SocketLink
        self.orders: list[Any] = []
        self.tidings: list[Any] = []
        self.lost: list[str] = []

    def open_worker(self, link: SocketLink) -> None:
        self.worker = link
        link.on_lost(lambda: self.lost.append("worker"))
        link.on_receive(self.orders.append)

    def open_control(self, link: SocketLink) -> None:
        self.control = link
        link.on_lost(lambda: self.lost.append("control"))
        link.on_receive(self.tidings.append)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110  what it waits for has no event
                await asyncio.sleep(0.001)


@asynccontextmanager
async def pair(path: Path) -> AsyncIterator[Pair]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        made = Pair(listening, str(path))
        server = await socket_link.serve(listening.dup(), Order, made.open_worker)
        await socket_link.connect(str(path), Tiding, made.open_control)
        await made.until(lambda: hasattr(made, "worker"))
        yield made
        made.control.close()
        made.worker.close()
        server.close()
        await asyncio.gather(made.control.gone.wait(), made.worker.gone.wait())


def hold(tmp_path: Path, scenario: Callable[[Pair], Awaitable[None]]) -> None:
    async def main() -> None:
        async with pair(tmp_path / "link") as made:
            await scenario(made)

    asyncio.run(main())


def test_messages_of_both_directions_arrive_in_order(tmp_path: Path) -> None:
    async def scenario(made: Pair) -> None:
        orders = [ExpectLeg(str(number), "token", 16_000, None if number % 2 else "call") for number in range(500)]
        tidings = [LegGone(str(number), "hung up") for number in range(500)]
        for order, tiding in zip(orders, tidings, strict=True):
            made.control.send(order)
            made.worker.send(tiding)
        assert made.orders == made.tidings == [], "never within send"
        await made.until(lambda: len(made.orders) == len(made.tidings) == 500)
        assert made.orders == orders
        assert made.tidings == tidings

    hold(tmp_path, scenario)


def test_a_message_as_large_as_may_be(tmp_path: Path) -> None:
    async def scenario(made: Pair) -> None:
        overhead = len(msgspec.msgpack.encode(CloseStream("")))
        made.control.send(CloseStream("x" * (MESSAGE_LIMIT - overhead - 4)))  # a long text says its length in 5 bytes
        await made.until(lambda: bool(made.orders))
        assert len(made.orders[0].stream) == MESSAGE_LIMIT - overhead - 4
        made.control.send(CloseStream("x" * (MESSAGE_LIMIT - overhead - 3)))
        await made.until(lambda: len(made.lost) == 2)
        assert sorted(made.lost) == ["control", "worker"]
        made.control.send(CloseStream("nobody"))
        assert len(made.orders) == 1

    hold(tmp_path, scenario)


def test_an_end_that_does_not_read_is_given_up_when_the_buffer_is_full(tmp_path: Path) -> None:
    async def scenario(made: Pair) -> None:
        made.control._transport.pause_reading()
        half = {"x" * (MESSAGE_LIMIT // 2): 1}
        for _ in range(2 * BUFFER_LIMIT // MESSAGE_LIMIT - 1):
            made.worker.send(StreamEnded("s", half))
        assert not made.worker._transport.is_closing()
        for _ in range(4):  # the kernel takes some, too
            made.worker.send(StreamEnded("s", half))
        await made.until(lambda: made.lost == ["worker"])
        made.control._transport.resume_reading()
        await made.until(lambda: made.lost == ["worker", "control"])

    hold(tmp_path, scenario)


def test_closing_is_heard_by_the_other_end_only_and_after_what_was_sent(tmp_path: Path) -> None:
    async def scenario(made: Pair) -> None:
        made.worker.send(LegAttached("leg"))
        made.worker.close()
        await made.until(lambda: bool(made.lost))
        assert made.tidings == [LegAttached("leg")]
        assert made.lost == ["control"]

    hold(tmp_path, scenario)


def test_what_the_other_end_said_last_is_heard_although_its_death_is_noticed_by_writing(tmp_path: Path) -> None:
    """A control process that is killed right after a step: a tiding that is sent just then must not cost the step."""

    async def scenario(made: Pair) -> None:
        before = made.worker
        with socket.socket(socket.AF_UNIX) as dying:
            dying.connect(made.path)
            await made.until(lambda: made.worker is not before)
            body = msgspec.msgpack.encode(CloseStream("last"))
            dying.sendall(len(body).to_bytes(HEADER, "big") + body)
        made.worker.send(LegAttached("a"))
        await made.until(lambda: made.lost == ["worker"])
        assert made.orders == [CloseStream("last")]

    hold(tmp_path, scenario)


def test_a_receiver_that_raises_costs_that_message_only(tmp_path: Path) -> None:
    async def scenario(made: Pair) -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

        def receive(order: CloseStream) -> None:
            if order.stream == "bad":
                raise RuntimeError("broken receiver")
            made.orders.append(order.stream)

        made.worker.on_receive(receive)
        for stream in ("a", "bad", "b"):
            made.control.send(CloseStream(stream))
        await made.until(lambda: made.orders == ["a", "b"])
        assert [str(context["exception"]) for context in reported] == ["broken receiver"]

    hold(tmp_path, scenario)


def test_who_connects_before_the_other_end_serves_waits_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "link"))
            listening.listen()
            made = Pair(listening, str(tmp_path / "link"))
            await socket_link.connect(made.path, Tiding, made.open_control)
            made.control.send(CloseStream("early"))
            server = await socket_link.serve(listening.dup(), Order, made.open_worker)
            await made.until(lambda: bool(made.orders))
            made.control.close()
            await made.until(lambda: made.lost == ["worker"])
            server.close()
            assert (tmp_path / "link").exists(), "it is there for the next one who serves"

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ bytes


class Transport(asyncio.Transport):
    """Takes note of what a link does with its connection."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def link() -> tuple[SocketLink, Transport, list[Any]]:
    got: list[Any] = []
    transport = Transport()
    made = SocketLink(Order, lambda link: link.on_receive(got.append))
    made.connection_made(transport)
    return made, transport, got


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(HEADER, "big") + body


@given(st.lists(st.text(max_size=300), max_size=30), st.randoms(use_true_random=False))
def test_however_the_bytes_are_cut(streams: list[str], random: random.Random) -> None:
    made, transport, got = link()
    sent = b"".join(framed(msgspec.msgpack.encode(CloseStream(stream))) for stream in streams)
    while sent:
        cut = random.randint(1, max(1, min(len(sent), 400)))
        made.data_received(sent[:cut])
        sent = sent[cut:]
    assert [order.stream for order in got] == streams
    assert not transport.aborted
    assert not made._received


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_break_the_link_and_nothing_else(body: bytes) -> None:
    made, transport, got = link()
    made.data_received(framed(body) + framed(msgspec.msgpack.encode(CloseStream("after"))))
    assert transport.aborted
    assert got == []


def test_a_length_that_is_too_large_breaks_the_link_before_anything_is_kept() -> None:
    made, transport, _ = link()
    made.data_received((MESSAGE_LIMIT + 1).to_bytes(HEADER, "big"))
    assert transport.aborted


def test_a_message_of_the_wrong_direction_breaks_the_link() -> None:
    made, transport, got = link()
    made.data_received(framed(msgspec.msgpack.encode(LegAttached("leg"))))
    assert transport.aborted
    assert got == []
