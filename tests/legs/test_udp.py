"""UDP sockets as the kernel has them."""

from __future__ import annotations

import errno
import select
import socket
import sys
import time

import pytest

from offhook.legs.udp import DRAIN, PACKET, Address, age, drain, open_udp

pytestmark = pytest.mark.sockets

PATIENCE_S = 20  # for what the kernel does at once, unless it has other work

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps arrivals and bounds the queue like this")


def wait(one: socket.socket) -> bool:
    """Wait for a packet, or for word that one was undeliverable; False if none comes."""
    return bool(select.select([one], [], [], PATIENCE_S)[0])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_packets_and_where_they_are_from(host: str) -> None:
    try:
        one, two = open_udp(host, 0), open_udp(host, 0)
    except OSError:
        pytest.skip(f"{host} is not there")
    taken: list[tuple[bytes, Address]] = []
    with one, two:
        for data in (b"first", b"second"):
            two.sendto(data, one.getsockname())
        while len(taken) < 2 and wait(one):
            assert drain(one, lambda packet, age, address: taken.append((packet, address)))
        assert taken == [(b"first", two.getsockname()), (b"second", two.getsockname())]
        assert drain(one, lambda packet, age, address: pytest.fail("nothing was sent"))


def test_a_port_that_is_taken_is_refused_and_leaves_no_socket_behind() -> None:
    with open_udp("127.0.0.1", 0) as one, pytest.raises(OSError, match="in use") as refused:
        open_udp("127.0.0.1", one.getsockname()[1])
    assert refused.value.errno == errno.EADDRINUSE


def test_nobody_at_the_other_port_is_told_and_not_raised() -> None:
    with open_udp("127.0.0.1", 0) as one, open_udp("127.0.0.1", 0) as other:
        other.connect(("127.0.0.1", 9))  # It takes nothing from us, and nobody else gets its port meanwhile.
        one.connect(other.getsockname())
        one.send(b"anybody there?")
        if sys.platform == "linux":
            assert wait(one)
            assert not drain(one, lambda packet, age, address: None)
        assert drain(one, lambda packet, age, address: None)


@LINUX
def test_the_kernel_says_when_a_packet_arrived() -> None:
    """But not of the very first ones: it begins to note that a moment after some socket has asked for it."""
    ages = [0.0]
    with open_udp("127.0.0.1", 0) as one, open_udp("127.0.0.1", 0) as two:
        while ages[-1] < 0.02 and len(ages) < 100:
            two.sendto(b"packet", one.getsockname())
            time.sleep(0.02)
            drain(one, lambda packet, age, address: ages.append(age))
    assert ages[-1] >= 0.02


@LINUX
def test_all_that_the_kernel_holds_is_drained_at_once() -> None:
    taken: list[bytes] = []
    with open_udp("127.0.0.1", 0) as one, open_udp("127.0.0.1", 0) as two, open_udp("127.0.0.1", 0) as last:
        for _ in range(5 * DRAIN):
            two.sendto(bytes(172), one.getsockname())
        two.sendto(b"the last one", last.getsockname())
        assert wait(last)  # By then the others have come, too, or were dropped.
        drain(one, lambda packet, age, address: taken.append(packet))
        assert 40 < len(taken) <= DRAIN
        with pytest.raises(BlockingIOError):
            one.recv(PACKET)


def test_a_packet_without_a_stamp_has_just_come() -> None:
    assert age([]) == 0.0
    assert age([(socket.SOL_SOCKET, 35, b"short")]) == 0.0
    assert (
        age([(socket.SOL_SOCKET, 35, (2**40).to_bytes(8, sys.byteorder) + bytes(8))]) == 0.0
    )  # the clock was set back
