"""What a worker remembers for control: values, and the tidings that nobody has handled yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.media import keeping, link, socket_link
from offhook.media.keeping import Keeping
from offhook.media.link import CloseStream, Commit
from offhook.media.tidings import (
    UNCOUNTED,
    DigitsPressed,
    Kept,
    KeptAll,
    LegJoined,
    SpeechEnded,
    StreamOddity,
    Welcome,
)

WELCOME = Welcome(1, 2)


class Control:
    """The other end of a link, in the hands of the test."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.order: Callable[[Any], None] = lambda order: None
        self.lose: Callable[[], None] = lambda: None

    def send(self, message: Any) -> None:
        self.got.append(message)

    def on_receive(self, receive: Callable[[Any], None]) -> None:
        self.order = receive

    def on_lost(self, lost: Callable[[], None]) -> None:
        self.lose = lost

    def close(self) -> None:
        """Only control closes a link."""


def connected(worker: Keeping) -> Control:
    control = Control()
    worker.connect(control)
    return control


def keeping_worker() -> tuple[Keeping, list[Any]]:
    """A worker, and the orders that it gets."""
    orders: list[Any] = []
    worker = Keeping(WELCOME)
    worker.on_receive(orders.append)
    return worker, orders


def test_a_control_is_told_everything_in_this_order() -> None:
    worker, orders = keeping_worker()
    worker.send(LegJoined("before anybody was there"))
    first = connected(worker)
    assert first.got == [WELCOME, KeptAll(), LegJoined("before anybody was there")]
    first.order(Commit(seen=1, put={"b": b"1", "a": b"2"}, orders=(CloseStream("x"),)))
    first.order(Commit(seen=1, put={"b": b"3"}))
    worker.send(LegJoined("not handled"))
    assert orders == [CloseStream("x")]

    first.lose()
    worker.send(LegJoined("while nobody was there"))
    second = connected(worker)
    later = [LegJoined("not handled"), LegJoined("while nobody was there")]
    assert second.got == [WELCOME, Kept("b", b"3"), Kept("a", b"2"), KeptAll(), *later]
    worker.send(LegJoined("live"))
    assert second.got[-1] == LegJoined("live")
    second.order(Commit(seen=3, delete=("a", "never put")))
    second.lose()
    assert connected(worker).got == [WELCOME, Kept("b", b"3"), KeptAll()]


def test_the_last_step_of_a_killed_control_is_read_before_the_next_one_is_told_anything() -> None:
    worker, _ = keeping_worker()
    first, second = connected(worker), connected(worker)
    assert second.got == []
    first.order(Commit(seen=0, put={"a": b"1"}))
    first.lose()
    assert second.got == [WELCOME, Kept("a", b"1"), KeptAll()]


def test_an_order_that_fails_costs_only_itself() -> None:
    done = []

    def carry_out(order: CloseStream) -> None:
        if order.stream == "bad":
            raise RuntimeError("broken")
        done.append(order.stream)

    worker = Keeping(WELCOME)
    worker.on_receive(carry_out)
    control = connected(worker)
    worker.send(LegJoined("a"))
    with pytest.raises(ExceptionGroup) as raised:
        control.order(Commit(seen=1, put={"k": b"v"}, orders=tuple(map(CloseStream, ("a", "bad", "b")))))
    assert done == ["a", "b"]
    assert [str(error) for error in raised.value.exceptions] == ["broken"]
    control.lose()
    assert connected(worker).got == [WELCOME, Kept("k", b"v"), KeptAll()]


def test_when_nobody_comes_what_matters_least_is_lost_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "UNHANDLED", 3)
    worker, _ = keeping_worker()
    for tiding in (LegJoined("1"), StreamOddity("s", "mark", ""), LegJoined("2"), LegJoined("3"), LegJoined("4")):
        worker.send(tiding)
    assert worker.lost == 2
    assert connected(worker).got[2:] == [LegJoined("2"), LegJoined("3"), LegJoined("4")]


def test_a_control_that_hangs_costs_what_matters_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of what is left stay those of the link."""
    monkeypatch.setattr(keeping, "UNHANDLED", 3)
    worker, _ = keeping_worker()
    control = connected(worker)
    for tiding in (LegJoined("1"), StreamOddity("s", "mark", ""), LegJoined("3"), LegJoined("4")):
        worker.send(tiding)
    control.order(Commit(seen=3))
    control.lose()
    assert connected(worker).got[2:] == [LegJoined("4")]


def test_speech_waits_within_a_limit_that_the_link_holds() -> None:
    worker, _ = keeping_worker()
    longest = bytes(960_000)
    fit = keeping.SPEECH_LIMIT // len(longest)
    for number in range(fit + 1):
        worker.send(SpeechEnded(str(number), longest, "Tuesday"))
    worker.send(SpeechEnded("short", b"12", ""))
    control = connected(worker)
    told = [tiding for tiding in control.got if isinstance(tiding, SpeechEnded)]
    assert [len(tiding.pcm) for tiding in told] == [960_000] * fit + [0, 2]
    assert told[fit] == SpeechEnded(str(fit), b"", "Tuesday")
    assert sum(len(msgspec.msgpack.encode(tiding)) for tiding in control.got) < socket_link.BUFFER_LIMIT
    control.order(Commit(seen=len(told)))
    worker.send(SpeechEnded("later", longest, ""))
    assert control.got[-1] == SpeechEnded("later", longest, ""), "what was handled does not count"


@given(st.lists(st.sampled_from(["tell", "handle", "step", "die"]), max_size=60))
def test_every_tiding_is_handled_once_and_in_order(acts: list[str]) -> None:
    """`handled` is what the steps that arrived have made of the tidings; it travels with the worker's copy."""
    worker, _ = keeping_worker()
    control, told, read, handled = connected(worker), 0, 2, ""

    def committed() -> str:
        return next((message.value.decode() for message in control.got if isinstance(message, Kept)), "")

    for act in acts:
        match act:
            case "tell":
                worker.send(DigitsPressed("leg", f"{told},"))
                told += 1
            case "handle" if read < len(control.got):
                handled += control.got[read].tones
                read += 1
            case "step":
                tidings = sum(not isinstance(message, UNCOUNTED) for message in control.got[:read])
                control.order(Commit(seen=tidings, put={"handled": handled.encode()}))
            case "die":
                control.lose()
                control = connected(worker)
                handled = committed()
                read = 1 + control.got.index(KeptAll())
    handled += "".join(message.tones for message in control.got[read:])
    assert handled == "".join(f"{number}," for number in range(told))


def test_every_order_but_commit_can_be_part_of_one() -> None:
    assert set(get_args(link.Act)) == set(link.Order.__subclasses__()) - {Commit}, "add it to `Act`"
