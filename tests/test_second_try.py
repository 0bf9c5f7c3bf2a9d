"""Which tests may be tried twice: those in real time, as `conftest` says."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("kind", [pytest.param(mark, marks=mark) for mark in (pytest.mark.sockets, pytest.mark.sdk)])
def test_one_in_real_time_has_a_second_try(kind: object, request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("flaky").kwargs == {"reruns": 1}


def test_one_on_virtual_time_has_none(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("flaky") is None
