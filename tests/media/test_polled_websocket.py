"""What a poll takes in, and what it leaves for the next one: a socket that is made up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from offhook.media.websocket import FRAMES, READ, READS, UNSENT_LIMIT, WebSocket
from offhook.testing.clock import run


class Connection:
    """A socket with `incoming` to be read, which takes what it is sent as far as there is `room`."""

    def __init__(self, incoming: bytes = b"", room: int = 1 << 30) -> None:
        self.incoming, self.room = incoming, room
        self.sent = b""
        self.reads = 0
        self.closed = False

    def recv_into(self, buffer: memoryview) -> int:
        self.reads += 1
        if not self.incoming:
            raise BlockingIOError
        size = min(len(buffer), len(self.incoming))
        buffer[:size], self.incoming = self.incoming[:size], self.incoming[size:]
        return size

    def send(self, data: bytes) -> int:
        if self.room <= 0:
            raise BlockingIOError
        size = min(self.room, len(data))
        self.room -= size
        self.sent += bytes(data[:size])
        return size

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None:
        self.closed = True


class Listener:
    def __init__(self, on_message: Callable[[], None] = lambda: None) -> None:
        self.messages = 0
        self.writable: list[bool] = []
        self.ended: list[tuple[bool, str]] = []
        self._on_message = on_message

    def on_message(self, message: memoryview) -> None:
        self.messages += 1
        self._on_message()

    def on_too_large(self, size: int) -> None: ...

    def on_writable(self, writable: bool) -> None:
        self.writable.append(writable)

    def on_closed(self, clean: bool, detail: str) -> None:
        self.ended.append((clean, detail))


def socket(connection: Connection, listener: Listener) -> WebSocket:
    return WebSocket(cast(Any, connection), listener, b"", 0.0)


def test_a_flood_of_small_frames_is_taken_bit_by_bit_and_completely() -> None:
    listener = Listener()
    connection = Connection(b"\x81\x01x" * (10 * FRAMES))
    polled = socket(connection, listener)
    for poll in range(1, 11):
        polled.poll(0.02 * poll)
        assert listener.messages == FRAMES * poll
        assert connection.reads == 1
    polled.poll(0.3)
    assert connection.reads == 2


def test_a_flood_of_bytes_is_read_in_bounded_pieces() -> None:
    connection = Connection(b"\x82\x7f" + (3 * READ * READS).to_bytes(8, "big") + bytes(3 * READ * READS))
    polled = socket(connection, Listener())
    polled.poll(0.0)
    assert connection.reads == READS


def test_a_socket_closed_from_within_a_message_hears_no_more() -> None:
    async def main() -> None:
        listener = Listener(lambda: polled.close())
        polled = socket(Connection(b"\x81\x01x" * 3), listener)
        polled.poll(0.0)
        assert listener.messages == 1
        await polled.wait_closed()
        assert listener.messages == 1
        assert listener.ended == []

    run(main())


def test_what_is_not_taken_is_kept_within_a_bound() -> None:
    listener = Listener()
    connection = Connection(room=10)
    polled = socket(connection, listener)
    polled.send(b"first message")
    polled.send(b", second")
    assert listener.writable == [False]
    connection.room = 1000
    polled.poll(0.0)
    assert connection.sent == b"first message, second"
    assert listener.writable == [False, True]
    connection.room = 0
    for _ in range(3):
        polled.send(bytes(UNSENT_LIMIT // 2))
    assert listener.ended == [(False, "the app does not read")]
    assert connection.closed


@pytest.mark.parametrize("head", [b"\x81", b"\x81\x7e", b"\x81\x7e\x00", b"\x81\x7e\x00\x80" + bytes(127)])
def test_half_a_frame_waits_for_the_other_half(head: bytes) -> None:
    whole = b"\x81\x7e\x00\x80" + bytes(128)
    listener = Listener()
    connection = Connection(head)
    polled = socket(connection, listener)
    polled.poll(0.0)
    assert listener.messages == 0
    connection.incoming = whole[len(head) :]
    polled.poll(0.02)
    assert listener.messages == 1


def test_polling_needs_no_event_loop() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    polled = socket(Connection(), Listener())
    polled.poll(0.0)
