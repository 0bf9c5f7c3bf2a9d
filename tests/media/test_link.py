"""The in-memory link hands everything over, in order, and never within `send`."""

from __future__ import annotations

import asyncio
from typing import Any

from offhook.media.link import CloseStream
from offhook.media.memory_link import memory_pair
from offhook.media.tidings import LegAttached, LegJoined, Tiding
from offhook.testing.clock import run


def test_messages_come_in_order_and_not_within_send() -> None:
    async def main() -> None:
        control, worker = memory_pair()
        got: list[CloseStream] = []
        worker.on_receive(got.append)
        sent = [CloseStream(str(number)) for number in range(100)]
        for order in sent:
            control.send(order)
        assert got == []
        await asyncio.sleep(0.001)
        assert got == sent

    run(main())


def test_what_was_sent_before_there_was_a_receiver_is_not_lost() -> None:
    async def main() -> None:
        control, worker = memory_pair()
        for number in range(3):
            control.send(CloseStream(str(number)))
        await asyncio.sleep(1)
        got: list[CloseStream] = []
        worker.on_receive(got.append)
        control.send(CloseStream("3"))
        await asyncio.sleep(0.001)
        assert [order.stream for order in got] == ["0", "1", "2", "3"]

    run(main())


def test_an_answer_sent_while_receiving_comes_later_and_in_order() -> None:
    async def main() -> None:
        control, worker = memory_pair()
        got: list[Tiding] = []
        control.on_receive(got.append)

        def receive(order: CloseStream) -> None:
            worker.send(LegAttached(order.stream))
            worker.send(LegJoined(order.stream))
            assert got == [] or isinstance(got[-1], LegJoined | LegAttached)

        worker.on_receive(receive)
        control.send(CloseStream("a"))
        control.send(CloseStream("b"))
        await asyncio.sleep(0.001)
        assert got == [LegAttached("a"), LegJoined("a"), LegAttached("b"), LegJoined("b")]

    run(main())


def test_a_receiver_that_raises_costs_that_message_only() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        control, worker = memory_pair()
        got: list[str] = []

        def receive(order: CloseStream) -> None:
            if order.stream == "bad":
                raise RuntimeError("broken receiver")
            got.append(order.stream)

        worker.on_receive(receive)
        for stream in ("a", "bad", "b"):
            control.send(CloseStream(stream))
        await asyncio.sleep(0.001)
        assert got == ["a", "b"]
        assert [str(context["exception"]) for context in reported] == ["broken receiver"]

    run(main())
