from __future__ import annotations

from itertools import count

import pytest

from offhook.server import repeats
from offhook.server.repeats import KEEP_S, RepeatMismatch, Repeats

REQUEST = ("POST", "/calls", b"{}")


def once(kept: Repeats[int], numbers: count[int], id: str | None = "id", now: float = 0.0) -> int:
    return kept.once(id, REQUEST, lambda: next(numbers), now)


def test_the_same_id_gives_the_same_answer() -> None:
    kept, numbers = Repeats[int](), count()
    assert [once(kept, numbers, now=now) for now in (0, 1, KEEP_S)] == [0, 0, 0]
    assert once(kept, numbers, "another") == 1


def test_without_an_id_nothing_is_remembered() -> None:
    kept, numbers = Repeats[int](), count()
    assert [once(kept, numbers, None) for _ in range(3)] == [0, 1, 2]


def test_an_answer_is_forgotten_in_the_end() -> None:
    kept, numbers = Repeats[int](), count()
    assert [once(kept, numbers, now=now) for now in (0, KEEP_S + 1)] == [0, 1]


def test_the_oldest_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "KEEP", 3)
    kept, numbers = Repeats[int](), count()
    assert [once(kept, numbers, id) for id in "abcd"] == [0, 1, 2, 3]
    assert once(kept, numbers, "a") == 4
    assert once(kept, numbers, "d") == 3


@pytest.mark.parametrize("request_", [("PUT", "/calls", b"{}"), ("POST", "/other", b"{}"), ("POST", "/calls", b"[]")])
def test_the_same_id_for_another_request_is_a_mistake(request_: tuple[str, str, bytes]) -> None:
    kept, numbers = Repeats[int](), count()
    once(kept, numbers)
    with pytest.raises(RepeatMismatch, match="id was used for another request"):
        kept.once("id", request_, lambda: 1, 0)


def test_the_parts_of_a_request_are_told_apart() -> None:
    kept = Repeats[int]()
    kept.once("id", ("POST", "/a", b"b"), lambda: 1, 0)
    with pytest.raises(RepeatMismatch):
        kept.once("id", ("POST", "/", b"ab"), lambda: 2, 0)


def test_a_failure_is_not_remembered() -> None:
    kept, numbers = Repeats[int](), count()
    with pytest.raises(ZeroDivisionError):
        kept.once("id", REQUEST, lambda: 1 // 0, 0)
    assert once(kept, numbers) == 0
