"""Where a SIP URI leads, asked of a name server on loopback; and what is done when a target fails."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from dns.exception import DNSException
from tests.legs.sip_stack.names import Named, name_server

from offhook.legs.sip.events import Answered
from offhook.legs.sip.flows import Flow, UdpFlow
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.locate import AVOIDED_S, MAX_AVOIDED, MAX_TARGETS, Locator, Target
from offhook.legs.sip.message import Request, Response, parse
from offhook.legs.sip.uri import Uri, parse_uri
from offhook.legs.sip.ways import LOOK_UP_S, Use
from offhook.testing.clock import run

if TYPE_CHECKING:
    from tests.legs.sip_stack.conftest import Scene

ZONE = """
    p.example. 60 IN A 192.0.2.1
    a.p.example. 60 IN A 192.0.2.10
    a.p.example. 60 IN AAAA 2001:db8::10
    b.p.example. 60 IN A 192.0.2.20
    _sip._udp.p.example. 60 IN SRV 20 0 5062 b.p.example.
    _sip._udp.p.example. 60 IN SRV 10 0 5061 a.p.example.
    _sip._tcp.p.example. 60 IN SRV 10 0 5070 b.p.example.
    _sips._tcp.p.example. 60 IN SRV 10 0 5071 b.p.example.
"""
NAPTR = """
    p.example. 60 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.p.example.
    p.example. 60 IN NAPTR 10 20 "s" "SIP+D2T" "" _sip._tcp.p.example.
    p.example. 60 IN NAPTR 10 10 "s" "SIPS+D2T" "" _sips._tcp.p.example.
    p.example. 60 IN NAPTR 5 10 "a" "SIP+D2U" "" _sip._udp.p.example.
    p.example. 60 IN NAPTR 5 10 "u" "E2U+sip" "!^.*$!sip:no@p.example!" .
"""
UDP = [Target("udp", "192.0.2.10", 5061), Target("udp", "2001:db8::10", 5061), Target("udp", "192.0.2.20", 5062)]
TCP, TLS = [Target("tcp", "192.0.2.20", 5070)], [Target("tls", "192.0.2.20", 5071)]
OURS = ("udp", "tcp", "tls")


def ask(zone: str, *uris: str, ours: Sequence[str] = OURS) -> tuple[list[list[Target]], Counter[tuple[str, str]]]:
    """Return where URIs lead, and what was asked."""

    async def main() -> tuple[list[list[Target]], Counter[tuple[str, str]]]:
        async with name_server(zone) as (server, locator):
            return [await locator.locate(parse_uri(uri), ours) for uri in uris], server.asked

    return asyncio.run(main())


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("zone", "uri", "ours", "targets"),
    [
        (ZONE, "sip:p.example;transport=udp", OURS, UDP),
        (ZONE, "sip:p.example;transport=tcp", OURS, TCP),
        (ZONE, "sips:p.example", ("tls",), TLS),
        (ZONE, "sip:p.example", OURS, UDP + TCP + TLS),
        (ZONE, "sip:p.example", ("tcp",), TCP),
        (ZONE + NAPTR, "sip:p.example", OURS, TLS + TCP + UDP),
        (ZONE + NAPTR, "sip:p.example", ("udp", "tcp"), TCP + UDP),
        (ZONE + NAPTR, "sip:p.example;transport=udp", OURS, UDP),
    ],
)
def test_records_say_where(zone: str, uri: str, ours: Sequence[str], targets: list[Target]) -> None:
    assert ask(zone, uri, ours=ours)[0] == [targets]


@pytest.mark.sockets
def test_weights_are_shares() -> None:
    zone = """
        _sip._udp.p.example. 60 IN SRV 10 90 5060 a.p.example.
        _sip._udp.p.example. 60 IN SRV 10 10 5060 b.p.example.
        a.p.example. 60 IN A 192.0.2.10
        b.p.example. 60 IN A 192.0.2.20
    """
    found, _ = ask(zone, *["sip:p.example;transport=udp"] * 300)
    firsts = Counter(targets[0].host for targets in found)
    assert 220 < firsts["192.0.2.10"] < 300  # 270, and the other one comes first, too
    assert {len(targets) for targets in found} == {2}


@pytest.mark.sockets
def test_answers_are_kept_for_their_ttl() -> None:
    _, asked = ask(ZONE, *["sip:p.example;transport=udp"] * 5)
    assert set(asked.values()) == {1}
    _, asked = ask(ZONE.replace(" 60 ", " 0 "), *["sip:p.example;transport=udp"] * 5)
    assert asked["_sip._udp.p.example.", "SRV"] == 5


@pytest.mark.sockets
def test_so_many_targets_at_most() -> None:
    records = "".join(f"_sip._udp.p.example. 60 IN SRV {n} 0 5060 h{n}.example.\n" for n in range(20))
    hosts = "".join(f"h{n}.example. 60 IN A 192.0.2.{n}\n" for n in range(20))
    ((*targets,),), asked = ask(records + hosts, "sip:p.example;transport=udp")
    assert [target.host for target in targets] == [f"192.0.2.{n}" for n in range(MAX_TARGETS)]
    assert ("h19.example.", "A") not in asked


@pytest.mark.sockets
def test_a_service_that_there_is_not_leads_nowhere() -> None:
    found, asked = ask("_sip._udp.p.example. 60 IN SRV 0 0 0 .", "sip:p.example;transport=udp")
    assert found == [[]]
    assert (".", "A") not in asked


@pytest.mark.sockets
def test_a_port_and_a_name_of_this_network_need_no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _know(monkeypatch)
    found, asked = ask(ZONE, "sip:p.example:5080", "sip:pbx;transport=tcp", "sip:a.localhost", "sips:pbx")
    assert not asked
    assert plain == ["p.example", "pbx", "a.localhost", "pbx"]
    assert found == [
        [Target("udp", "192.0.2.99", 5080)],
        [Target("tcp", "192.0.2.99", 5060)],
        [Target("udp", "192.0.2.99", 5060)],
        [Target("tls", "192.0.2.99", 5061)],
    ]


@pytest.mark.sockets
def test_without_records_its_addresses_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _know(monkeypatch)
    assert ask(ZONE, "sip:a.p.example", "sip:unknown.example;transport=tls")[0] == [
        [Target("udp", "192.0.2.99", 5060)],
        [Target("tls", "192.0.2.99", 5061)],
    ]


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("silent", "targets"),
    [
        ({"NAPTR", "SRV", "A", "AAAA"}, [Target("udp", "192.0.2.99", 5060)]),
        ({"NAPTR"}, UDP + TCP + TLS),
        ({"AAAA"}, [TLS[0], TCP[0], UDP[0], UDP[2]]),
    ],
)
def test_what_name_servers_do_not_answer_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch, silent: set[str], targets: list[Target]
) -> None:
    _know(monkeypatch)

    async def main() -> None:
        async with name_server(ZONE + NAPTR) as (server, locator):
            server.silent.update(silent)
            assert await locator.locate(parse_uri("sip:p.example"), OURS) == targets

    asyncio.run(main())


def test_a_machine_without_name_servers_looks_up_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    _know(monkeypatch)

    def none() -> Any:
        raise DNSException

    async def main() -> None:
        assert await Locator(none).locate(parse_uri("sip:p.example"), OURS) == [Target("udp", "192.0.2.99", 5060)]

    run(main())


def test_a_name_that_is_none_is_an_error() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="not a host name"):
            await Locator().locate(parse_uri(f"sip:{'x' * 64}.example:5060"), OURS)

    run(main())


def test_what_is_avoided_is_bounded_and_forgotten() -> None:
    async def main() -> None:
        locator = Named(a := Target("udp", "192.0.2.1", 1), b := Target("udp", "192.0.2.1", 2))
        for port in range(MAX_AVOIDED + 10):
            locator.avoid(Target("udp", "192.0.2.9", port))
        assert len(locator._avoided) == MAX_AVOIDED
        locator.avoid(a)
        assert await locator.locate(parse_uri("sip:p.example"), OURS) == [b, a]
        await asyncio.sleep(AVOIDED_S + 1)
        assert await locator.locate(parse_uri("sip:p.example"), OURS) == [a, b]

    run(main())


def _know(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every plain look-up find one address; return the names that are looked up."""
    names: list[str] = []

    def look_up(host: str, port: int, type: int) -> Any:
        names.append(host)
        return [(2, type, 0, "", ("192.0.2.99", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


# ------------------------------------------------------------------------------------------------ when one fails

DEAD, B = Target("udp", "192.0.2.77", 5060), Target("udp", "192.0.2.2", 5060)
Play = Callable[["Scene"], Coroutine[Any, Any, None]]
Scenes = Callable[[Play], None]


def _name_b(one: Scene, *targets: Target, **more: Any) -> None:
    """Let the trunk of A be a name that leads to `targets`."""
    one.a.stack._transports.locator = Named(*targets)
    one.a.stack.reload([Trunk("other", (f"{one.B}/32",), "sip:p.example", **more)], [])


def test_a_call_goes_to_the_next_target_when_the_first_says_nothing(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, B)
        leg = one.a.call()
        await asyncio.sleep(5)
        assert leg.told(Answered)
        first = next(message for _, _, to, message in one.network.log if to == DEAD.host)
        taken = next(message for _, _, to, message in one.network.log if to == B.host)
        assert isinstance(first, Request)
        assert isinstance(taken, Request)
        assert (first.call_id, first.cseq) == (taken.call_id, taken.cseq)
        assert first.vias[0].branch != taken.vias[0].branch
        again = one.a.call("101")  # and knows by now
        await asyncio.sleep(0.5)
        assert again.told(Answered)

    scene(play)


def _answer(one: Scene, target: Target, answer: Callable[[Request], Response | None]) -> None:
    """Let `target` answer INVITE and REGISTER so."""

    def take(data: bytes, source: tuple[str, int]) -> None:
        request = parse(data)
        if isinstance(request, Request) and request.method in ("INVITE", "REGISTER"):
            response = answer(request)
            if response is not None:
                asyncio.get_running_loop().call_soon(one.network.send, bytes(response), target[1:], source)

    one.network.attach(target[1:], take)


def test_a_call_goes_to_the_next_target_when_the_first_says_503(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, B)
        _answer(one, DEAD, lambda request: request.response(503, to_tag="x"))
        leg = one.a.call()
        await asyncio.sleep(1)
        assert leg.told(Answered)
        assert any(to == DEAD.host and message.method == "ACK" for _, _, to, message in requests(one))

    scene(play)


def test_a_cancelled_call_that_is_answered_503_goes_nowhere_else(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, B)
        loop = asyncio.get_running_loop()

        def ring(request: Request) -> Response:
            late = bytes(request.response(503, to_tag="x"))
            loop.call_later(2, one.network.send, late, DEAD[1:], (one.A, B.port))
            return request.response(180, to_tag="x")

        _answer(one, DEAD, ring)
        leg = one.a.call()
        await asyncio.sleep(1)
        leg.session.hang_up()
        await asyncio.sleep(60)
        assert B.host not in {to for _, _, to, _ in one.network.log}

    scene(play)


def test_each_target_may_ask_who_we_are(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        lame = [DEAD._replace(host=f"192.0.2.7{n}") for n in range(3)]
        _name_b(one, *lame, DEAD, user="a", password="p", register="sip:p.example")
        for target in lame:
            _answer(one, target, lambda request: request.response(503, to_tag="x"))

        def challenge(request: Request) -> Response:
            response = request.response(200 if "Authorization" in request.headers else 401, to_tag="x")
            response.headers.add("WWW-Authenticate", 'Digest realm="p", nonce="n"')
            return response

        _answer(one, DEAD, challenge)
        await asyncio.sleep(2)
        assert one.a.stack.registrations["other"].registered

    scene(play)


def test_a_target_that_no_connection_can_be_opened_to_is_passed_over(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD._replace(transport="tcp"), B)
        transports = one.a.stack._transports
        opens = transports.open

        def open(target: Target, name: str, use: Use) -> None:
            if target.transport == "tcp":
                use(None)
            else:
                opens(target, name, use)

        transports.open = open  # type: ignore[method-assign]
        leg = one.a.call()
        await asyncio.sleep(1)
        assert leg.told(Answered)

    scene(play)


def test_a_target_of_a_family_that_we_have_no_socket_for_is_none(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, Target("udp", "2001:db8::1", 5060))
        leg = one.a.call()
        await asyncio.sleep(40)
        assert leg.ended.code == 408  # DEAD had all the time: there was no other one

    scene(play)


def test_a_look_up_ends(scene: Scenes) -> None:
    class Slow(Named):
        async def _by_records(self, uri: Uri, transports: Sequence[str]) -> list[Target]:
            await asyncio.sleep(3600)
            return []

    async def play(one: Scene) -> None:
        _name_b(one)
        one.a.stack._transports.locator = Slow()
        leg = one.a.call()
        await asyncio.sleep(LOOK_UP_S + 1)
        assert leg.ended.code == 503

    scene(play)


def test_each_transport_has_its_contact(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, B._replace(transport="tcp"))
        transports = one.a.stack._transports
        over_udp = transports.open

        def open(target: Target, name: str, use: Use) -> None:
            def opened(flow: Flow | None) -> None:
                assert isinstance(flow, UdpFlow)
                use(replace(flow, transport=target.transport))

            over_udp(target._replace(transport="udp"), name, opened)

        transports.open = open  # type: ignore[method-assign]
        one.a.call()
        await asyncio.sleep(5)
        invites = {to: message for _, _, to, message in requests(one) if message.method == "INVITE"}
        assert invites[DEAD.host].contacts[0].uri.transport == ""
        assert invites[B.host].contacts[0].uri.transport == "tcp"

    scene(play)


def test_who_rings_is_not_left(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, B, DEAD)
        one.b.answers = False
        one.a.call()
        await asyncio.sleep(1)
        one.b.legs[0].incoming.ring()
        await asyncio.sleep(20)
        assert DEAD.host not in {to for _, _, to, _ in one.network.log}

    scene(play)


def test_a_call_that_was_cancelled_goes_nowhere_else(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, B)
        leg = one.a.call()
        await asyncio.sleep(1)
        leg.session.hang_up()
        await asyncio.sleep(60)
        assert B.host not in {to for _, _, to, _ in one.network.log}

    scene(play)


def test_a_call_ends_when_no_target_is_left(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, DEAD._replace(host="192.0.2.78"))
        leg = one.a.call()
        await asyncio.sleep(40)
        assert leg.ended.code == 408

    scene(play)


def test_a_registration_goes_to_the_next_target(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, B, user="a", password="p", register="sip:p.example")
        await asyncio.sleep(5)
        sent = [(to, message.method) for _, _, to, message in requests(one)]
        assert (DEAD.host, "REGISTER") in sent
        assert (B.host, "REGISTER") in sent

    scene(play)


def test_nothing_is_sent_once_the_stack_is_closed(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        _name_b(one, DEAD, B, user="a", password="p", register="sip:p.example")
        await asyncio.sleep(1)
        await one.a.stack.close()
        await asyncio.sleep(10)
        assert one.a.stack.transactions == 0

    scene(play)


def requests(one: Scene) -> list[tuple[float, str, str, Request]]:
    return [entry for entry in one.network.log if not isinstance(entry[3], Response)]  # type: ignore[misc]
