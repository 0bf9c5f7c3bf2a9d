"""Which UDP ports legs get."""

from __future__ import annotations

import errno

import pytest

from offhook.legs.ports import TRIES, NoPortError, PortRange


def nothing(port: int) -> None:
    """Open no socket."""


def in_use(port: int) -> None:
    raise OSError(errno.EADDRINUSE, "in use")


@pytest.mark.parametrize(
    ("first", "last", "ports"),
    [(20_000, 20_003, {20_000, 20_002}), (19_999, 20_004, {20_000, 20_002}), (20_001, 20_003, {20_002})],
)
def test_even_ports_with_the_odd_one_above(first: int, last: int, ports: set[int]) -> None:
    one = PortRange(first, last)
    assert {one.take(nothing)[0] for _ in ports} == ports
    with pytest.raises(NoPortError, match=f"{first}-{last}, {len(ports)} legs"):
        one.take(nothing)


@pytest.mark.parametrize(
    ("first", "last"), [(20_000, 20_000), (20_001, 20_002), (20_002, 20_000), (80, 90), (65_000, 65_536)]
)
def test_a_range_without_a_pair_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="RTP ports"):
        PortRange(first, last)


def test_the_order_is_not_to_be_foreseen() -> None:
    def order() -> list[int]:
        ports = PortRange(20_000, 20_999)
        return [ports.take(nothing)[0] for _ in range(500)]

    assert order() != order()


def test_what_was_given_back_last_comes_last() -> None:
    ports = PortRange(20_000, 20_099)
    port, _ = ports.take(nothing)
    ports.give_back(port)
    assert [ports.take(nothing)[0] for _ in range(50)][-1] == port


def test_a_port_of_another_program_is_passed_over_and_tried_again_another_time() -> None:
    ports = PortRange(20_000, 20_003)
    tried: list[int] = []

    def only_the_second(port: int) -> str:
        tried.append(port)
        if len(tried) == 1:
            in_use(port)
        return "socket"

    assert ports.take(only_the_second) == (tried[1], "socket")
    assert ports.take(nothing)[0] == tried[0]


def test_tries_are_bounded() -> None:
    tried: list[int] = []

    def never(port: int) -> None:
        tried.append(port)
        in_use(port)

    with pytest.raises(NoPortError):
        PortRange(20_000, 29_999).take(never)
    assert len(tried) == len(set(tried)) == TRIES


def test_another_error_is_not_hidden_and_costs_no_port() -> None:
    ports = PortRange(20_000, 20_001)

    def no_such_address(port: int) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "no such address")

    with pytest.raises(OSError, match="no such address"):
        ports.take(no_such_address)
    assert ports.take(nothing)[0] == 20_000
