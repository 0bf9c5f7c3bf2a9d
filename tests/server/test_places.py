"""Where phones are registered, kept by every media worker: what each is told, and what the next control takes over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from offhook.legs.sip.memento import Place
from offhook.media.link import Commit
from offhook.server.adoption import PlacesCopy, decode
from offhook.server.placement import Worker
from offhook.server.places import Places
from offhook.server.steps import Steps
from offhook.wire.ids import IdMint


class Kept:
    """A link whose other end keeps what it is told."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def send(self, message: Any) -> None:
        assert isinstance(message, Commit)
        self.values.update(message.put)
        for key in message.delete:
            self.values.pop(key, None)

    def on_receive(self, receive: Callable[[Any], None]) -> None: ...
    def on_lost(self, lost: Callable[[], None]) -> None: ...
    def close(self) -> None: ...

    @property
    def places(self) -> dict[str, tuple[str, ...]]:
        copies = [copy for copy in map(decode, self.values.values()) if isinstance(copy, PlacesCopy)]
        return {copy.user: tuple(place.contact for place in copy.places) for copy in copies}


class Scene:
    """A control process, and two workers of which so many are there."""

    def __init__(self, there: int = 2) -> None:
        self.workers = [Worker(number, partial(IdMint, 7, number)) for number in range(2)]
        self.kept = [Kept(), Kept()]
        self.steps = Steps(self.workers, lambda record: None, lambda parcel, settled: None)
        self.places = Places(self.workers, self.steps)
        self.restored: dict[str, tuple[str, ...]] = {}
        for number in range(there):
            self.come(number)

    def come(self, number: int, *copies: PlacesCopy) -> None:
        worker = self.workers[number]
        worker.link = self.kept[number]
        with self.steps.step():
            worker.keeps()
            self.places.meet(worker, copies)

    def restore(self, user: str, places: Sequence[Place]) -> None:
        self.restored[user] = tuple(place.contact for place in places)


def place(contact: str, expires_at: float = 60.0) -> Place:
    return Place(contact, ("192.0.2.11", 5060), expires_at, "call", 1)


def test_every_worker_keeps_where_a_phone_is_until_it_logs_out() -> None:
    scene = Scene()
    scene.places.note("desk", [place("sip:a"), place("sip:b")])
    assert [kept.places for kept in scene.kept] == [{"desk": ("sip:a", "sip:b")}] * 2
    scene.places.note("desk", [place("sip:b")])
    assert [kept.places for kept in scene.kept] == [{"desk": ("sip:b",)}] * 2
    scene.places.note("desk", [])
    assert [kept.values for kept in scene.kept] == [{}, {}]


def test_a_worker_that_comes_later_is_told_of_all() -> None:
    scene = Scene(there=1)
    scene.places.note("desk", [place("sip:a")])
    assert scene.kept[1].values == {}
    scene.come(1)
    assert scene.kept[1].places == {"desk": ("sip:a",)}


def test_the_next_control_takes_over_whether_it_has_telephones_before_or_after() -> None:
    before, after = Scene(there=0), Scene(there=0)
    before.places.use(before.restore)
    for scene in (before, after):
        scene.come(0, PlacesCopy("desk", (place("sip:a"),)))
    after.places.use(after.restore)
    assert before.restored == after.restored == {"desk": ("sip:a",)}


def test_the_newest_counts_when_control_was_killed_before_all_workers_were_told() -> None:
    scene = Scene(there=0)
    scene.places.use(scene.restore)
    scene.come(0, PlacesCopy("desk", (place("sip:old", 60.0),)))
    scene.come(1, PlacesCopy("desk", (place("sip:new", 90.0),)))
    assert scene.restored == {"desk": ("sip:new",)}
    again = Scene(there=0)
    again.places.use(again.restore)
    again.come(0, PlacesCopy("desk", (place("sip:new", 90.0),)))
    again.come(1, PlacesCopy("desk", (place("sip:old", 60.0),)))
    assert again.restored == {"desk": ("sip:new",)}
    assert again.kept[1].places == {"desk": ("sip:new",)}
