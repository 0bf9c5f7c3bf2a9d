from __future__ import annotations

import asyncio
import socket
import string
import sys
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.media.egress import AddressPolicy, Refused, check, connect, resolve

STRICT = AddressPolicy(allow_private=False)
OPEN = AddressPolicy(allow_private=True)

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.10",
    "100.64.0.1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::192.168.1.1",
    "2002:7f00:1::1",
    "2002:a00:1::",
]
NEVER = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "239.255.255.250",
    "ff02::1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "240.0.0.1",
    "255.255.255.255",
    "2001::1",  # Teredo
    "2001:db8::1",
    "::7f00:1",  # IPv4-compatible: ::127.0.0.1
    "::ffff:0:7f00:1",  # IPv4-translated
    "64:ff9b:1::a00:1",  # NAT64 of local use
    "100::1",
    "4000::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_in_production_and_open_in_development(address: str) -> None:
    assert STRICT.refusal(address)
    assert OPEN.refusal(address) is None


@pytest.mark.parametrize("address", NEVER)
def test_special_addresses_are_refused_in_either_profile(address: str) -> None:
    assert STRICT.refusal(address)
    assert OPEN.refusal(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert STRICT.refusal(address) is None


@given(st.ip_addresses(v=4, network="169.254.0.0/16") | st.ip_addresses(v=6, network="fe80::/10"))
def test_link_local_is_never_open_by_default(address: object) -> None:
    assert OPEN.refusal(str(address)) == "a link-local address"


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_changes_nothing(address: Any) -> None:
    value = int(address)
    wrapped = [f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{value >> 16:x}:{value & 0xFFFF:x}::1"]
    for policy in (STRICT, OPEN):
        assert {policy.refusal(each) for each in wrapped} == {policy.refusal(str(address))}


@given(st.text(string.ascii_letters + "%._-", max_size=20))
def test_what_is_no_address_is_refused(text: str) -> None:
    assert STRICT.refusal(text) == "not an IP address"


def test_allowed_networks_are_opened_and_no_more() -> None:
    policy = AddressPolicy(allow_private=False, allowed=[ip_network("10.1.0.0/16"), ip_network("169.254.1.1/32")])
    assert policy.refusal("10.1.2.3") is None
    assert policy.refusal("::ffff:10.1.2.3") is None
    assert policy.refusal("169.254.1.1") is None
    assert policy.refusal("10.2.0.1") == "a private address"
    assert policy.refusal("169.254.169.254") == "a link-local address"


def test_check_names_the_address() -> None:
    check("8.8.8.8", STRICT)
    with pytest.raises(Refused, match=r"192\.168\.1\.1 is a private address"):
        check("192.168.1.1", STRICT)


class Names(asyncio.SelectorEventLoop):
    """A loop that resolves from a list (the last answer stays) and notes what is connected to, without a network."""

    def __init__(self, *answers: list[str], unreachable: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.answers = list(answers)
        self.unreachable = unreachable
        self.dialled: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in answer
        ]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self.dialled.append(address[0])
        if address[0] in self.unreachable:
            raise ConnectionRefusedError(111, "Connection refused")


def run(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(coroutine)


def test_a_name_that_leads_to_loopback_is_refused() -> None:
    with pytest.raises(Refused, match=r"app\.example is refused: 127\.0\.0\.1 is a loopback address"):
        run(Names(["127.0.0.1"]), resolve("app.example", 443, STRICT))


def test_refused_answers_are_dropped_and_allowed_ones_kept_in_order() -> None:
    answer = ["10.0.0.1", "2606:4700::1111", "8.8.8.8", "169.254.169.254", "8.8.8.8"]
    found = run(Names(answer), resolve("app.example", 443, STRICT))
    assert found == [
        (socket.AF_INET6, ("2606:4700::1111", 443, 0, 0)),
        (socket.AF_INET, ("8.8.8.8", 443)),
    ]


def test_every_refused_answer_is_named() -> None:
    with pytest.raises(Refused, match=r"10\.0\.0\.1 is a private address, ::1 is a loopback address"):
        run(Names(["10.0.0.1", "::1"]), resolve("app.example", 443, STRICT))


def test_the_address_that_was_checked_is_dialled_although_the_name_has_changed() -> None:
    loop = Names(["8.8.8.8"], ["127.0.0.1"])
    run(loop, connect("rebinding.example", 80, STRICT)).close()
    assert loop.dialled == ["8.8.8.8"]


def test_addresses_are_tried_in_turn() -> None:
    loop = Names(["8.8.8.8", "127.0.0.1", "1.1.1.1"], unreachable=("8.8.8.8",))
    run(loop, connect("app.example", 80, STRICT)).close()
    assert loop.dialled == ["8.8.8.8", "1.1.1.1"]


def test_the_error_names_host_and_every_cause_and_keeps_its_kind() -> None:
    loop = Names(["8.8.8.8", "1.1.1.1"], unreachable=("8.8.8.8", "1.1.1.1"))
    with pytest.raises(ConnectionRefusedError, match=r"app\.example port 80: 8\.8\.8\.8: .*; 1\.1\.1\.1: .*refused"):
        run(loop, connect("app.example", 80, STRICT))


def test_an_address_that_does_not_answer_leaves_time_for_the_next() -> None:
    class BlackHole(Names):
        async def sock_connect(self, sock: socket.socket, address: Any) -> None:
            await super().sock_connect(sock, address)
            if address[0] == "8.8.8.8":
                await asyncio.Event().wait()

    loop = BlackHole(["8.8.8.8", "1.1.1.1"])
    run(loop, connect("app.example", 80, STRICT, timeout=0.02)).close()
    assert loop.dialled == ["8.8.8.8", "1.1.1.1"]
    with pytest.raises(TimeoutError, match="no answer"):
        run(BlackHole(["8.8.8.8"]), connect("app.example", 80, STRICT, timeout=0.01))


def test_a_name_server_that_does_not_answer_times_out() -> None:
    class Silent(Names):
        async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"app\.example: the name did not resolve"):
        run(Silent([]), connect("app.example", 80, STRICT, timeout=0.01))


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "nul\0.example", ""])
def test_a_bad_host_name_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError, match=r"not a host name|is refused|:"):
        asyncio.run(resolve(host, 80, STRICT))


@pytest.mark.sockets
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connect_gives_a_socket_ready_for_use(host: str) -> None:
    async def dial(port: int) -> None:
        with await connect(host, port, OPEN, send_buffer=16384) as sock:
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if sys.platform == "linux":  # which reports twice of what was asked for
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 32768
            await asyncio.get_running_loop().sock_sendall(sock, b"hello")
            peer, _ = listener.accept()
            with peer:
                assert peer.recv(5) == b"hello"
        for literal in (host, "127.0.0.1", "2130706433", "127.1", "0x7f.0.0.1"):
            with pytest.raises(Refused, match="loopback"):
                await connect(literal, port, STRICT)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(dial(listener.getsockname()[1]))
