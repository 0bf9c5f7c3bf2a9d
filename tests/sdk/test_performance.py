"""How a performance finds what is not as written."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sdk.performance import differences, plain

BOB, CAROL = "8:acs:r_bob", "8:acs:r_carol"


@pytest.mark.parametrize(
    ("wanted", "found", "wrong"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {"a": 2}, [".a: 2 instead of 1"]),
        ({"a": 1}, {}, [".a: None instead of 1"]),
        ({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}, [".a.b: 2 instead of 1"]),
        ({"a": {"b": 1}}, {"a": None}, [".a: None instead of {'b': 1}"]),
        ({"a": ["one", "two"]}, {"a": ["one"]}, [".a: ['one'] instead of ['one', 'two']"]),
        ({"participants": {BOB: {}}}, {"participants": {BOB: {"isMuted": False}}}, []),
        ({"participants": {BOB: {}}}, {"participants": {BOB: {}, CAROL: {}}}, [f".participants.{CAROL} is there"]),
        ({"participants": {BOB: {}}}, {"participants": {}}, [f".participants.{BOB}: None instead of {{}}"]),
    ],
)
def test_more_than_was_wanted_is_right_except_of_participants(
    wanted: dict[str, Any], found: dict[str, Any], wrong: list[str]
) -> None:
    assert differences(wanted, found) == wrong


def test_participants_are_found_by_their_raw_ids_whoever_wrote_them() -> None:
    states = {"isMuted": False, "isOnHold": True}
    identifier = {"rawId": BOB, "kind": "communicationUser", "communicationUser": {"id": BOB}}
    expected = {"participants": {BOB: states}, "participant": BOB}
    event = {"participants": [{"identifier": identifier, **states}], "participant": identifier}
    result = {"participants": [{"identifier": BOB, **states}], "participant": BOB}
    assert plain(event) == plain(result) == expected
