"""The stack on real sockets of loopback: TCP, TLS and IPv6, and what is done about those who abuse connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from offhook.legs.sip import flows, transport
from offhook.legs.sip.events import Answered, Ended, Event
from offhook.legs.sip.framing import PING, PONG
from offhook.legs.sip.guard import Phone, Trunk
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.memento import Memento, Place, Ringing
from offhook.legs.sip.message import Request, parse
from offhook.legs.sip.negotiation import MediaPolicy, Negotiation
from offhook.legs.sip.outgoing import new_invite
from offhook.legs.sip.stack import Settings, SipStack
from offhook.legs.sip.transport import Listen
from offhook.legs.sip.uri import parse_address, parse_uri
from offhook.server.tls import client_context, ensure, server_context

pytestmark = pytest.mark.sockets


class Party:
    def __init__(self, listen: Listen, certificate: Any = None, client: Any = None, **settings: Any) -> None:
        self.host = listen.host
        self.events: list[Event] = []
        self.sessions: list[IncomingSession] = []
        self.stack = SipStack(Settings((listen,), **settings), self._invited, certificate, client)

    def _invited(self, session: IncomingSession) -> None:
        session.on_event = self.events.append
        self.sessions.append(session)
        assert session.offer is not None
        session.answer(Negotiation(MediaPolicy(), self.host).answer(session.offer, 7000)[0])


@asynccontextmanager
async def running(*parties: Party) -> Any:
    for party in parties:
        await party.stack.start()
    try:
        yield
    finally:
        for party in parties:
            await party.stack.close()


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def go(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@pytest.mark.parametrize("kind", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_call(kind: Any, host: str, certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Both ways over one connection: the called side hangs up over it, too."""

    async def main() -> None:
        server, client = certificates if kind == "tls" else (None, None)
        here = Trunk("here", (host,))
        called = Party(Listen(kind, host), server, client, trunks=(here,))
        async with running(called):
            at = f"[{host}]" if ":" in host else host
            there = Trunk("there", (host,), f"sip:{at}:{called.stack.ports[kind]};transport={kind}")
            caller = Party(Listen(kind, host), server, client, trunks=(there,))
            async with running(caller):
                offer = Negotiation(MediaPolicy(), host).offer(7000)
                session = caller.stack.invite("100", "200", offer, caller.events.append, trunk="there")
                await until(lambda: called.events)
                assert isinstance(caller.events[0], Answered)
                assert session.source == (host, called.stack.ports[kind])
                contact = called.sessions[0]._dialog.target  # type: ignore[union-attr]
                assert contact.transport == ("" if kind == "udp" else kind)
                assert contact.port == caller.stack.ports[kind]
                called.sessions[0].hang_up()
                await until(lambda: len(caller.events) == 2)
                assert caller.events[1] == Ended(200, "OK")
                if kind != "udp":
                    assert len(called.stack._transports._connections) == 1

    go(main())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server, and of who trusts it."""
    files = ensure(tmp_path_factory.mktemp("tls"))
    return server_context(files.cert, files.key), client_context([files.ca])


def test_a_certificate_that_is_not_trusted_makes_no_call(certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def main() -> None:
        called = Party(Listen("tls", "127.0.0.1"), certificates[0], trunks=(Trunk("here", ("127.0.0.1",)),))
        async with running(called):
            server = f"sip:127.0.0.1:{called.stack.ports['tls']};transport=tls"
            caller = Party(Listen("udp", "127.0.0.1"), trunks=(Trunk("there", (), server),))
            async with running(caller):
                caller.stack.invite("100", "200", "v=0", caller.events.append, trunk="there")
                await until(lambda: caller.events)
                assert caller.events == [Ended(503, "Service Unavailable")]
                assert called.sessions == []

    go(main())


def test_a_phone_behind_a_nat_is_called_over_its_connection() -> None:
    """Its Contact is an address at which nobody listens; the connection over which it registered is what counts."""

    async def main() -> None:
        server = Party(Listen("tcp", "127.0.0.1"), phones=(Phone("alice", "secret"),))
        async with running(server):
            uri = f"sip:127.0.0.1:{server.stack.ports['tcp']};transport=tcp"
            trunk = Trunk("server", (), uri, user="alice", password="secret", register=uri)
            phone = Party(Listen("tcp", "127.0.0.1"), advertised="192.0.2.77", trunks=(trunk,))
            async with running(phone):
                await until(lambda: server.stack.contacts("alice"))
                assert server.stack.contacts("alice")[0].contact.host == "192.0.2.77"
                offer = Negotiation(MediaPolicy(), "127.0.0.1").offer(7000)
                session = server.stack.invite("alice", "100", offer, server.events.append)
                await until(lambda: phone.events)
                session.hang_up()
                await until(lambda: len(phone.events) == 2)
                assert phone.events[1] == Ended(200, "OK")

    go(main())


@pytest.mark.parametrize("rings", [False, True])
def test_a_phone_behind_a_nat_that_comes_back_is_told_what_has_waited(rings: bool) -> None:
    """Another process has its call; there is no way to its Contact, so what is for it waits until it registers."""

    async def main() -> None:
        alice = (Phone("alice", "secret"),)
        before = Party(Listen("tcp", "127.0.0.1"), phones=alice)
        places: list[Place] = []
        before.stack.on_places = lambda user, told: places.extend(told)
        await before.stack.start()
        port = before.stack.ports["tcp"]
        uri = f"sip:127.0.0.1:{port};transport=tcp"
        trunk = Trunk("server", (), uri, user="alice", password="secret", register=uri)
        phone = Party(Listen("tcp", "127.0.0.1"), advertised="127.0.0.77", trunks=(trunk,))
        async with running(phone):
            await until(lambda: places)
            offer = Negotiation(MediaPolicy(), "127.0.0.1").offer(7000)
            session = before.stack.invite("alice", "100", offer, before.events.append)
            await until(lambda: phone.events)
            memento = session.memento()
            assert isinstance(memento, Memento)
            await before.stack._transports.close()

            after = Party(Listen("tcp", "127.0.0.1", port), phones=alice)
            resumed = after.stack.resume(memento)
            after.stack.restore("alice", places)
            assert resumed is not None
            async with running(after):
                if rings:
                    after.stack.invite("alice", "100", offer, after.events.append)
                else:
                    resumed.hang_up()
                await until(lambda: after.stack.counts["connections_failed"])
                assert len(phone.events) == 1
                phone.stack.registrations["server"].start()
                await until(lambda: len(phone.events) == 2)
                assert isinstance(phone.events[1], Answered if rings else Ended)
                session._end(Ended(408, "killed"))

    go(main())


def test_a_connection_that_breaks_ends_what_waits_on_it() -> None:
    async def main() -> None:
        connections: list[asyncio.StreamWriter] = []
        taken = await asyncio.start_server(lambda reader, writer: connections.append(writer), "127.0.0.1", 0)
        port = taken.sockets[0].getsockname()[1]
        trunk = Trunk("there", (), f"sip:127.0.0.1:{port};transport=tcp")
        caller = Party(Listen("tcp", "127.0.0.1"), trunks=(trunk,))
        async with running(caller):
            caller.stack.invite("100", "200", "v=0", caller.events.append, trunk="there")
            await until(lambda: connections)
            await asyncio.sleep(0.05)
            connections[0].transport.abort()
            await until(lambda: caller.events)
            assert caller.events == [Ended(503, "Service Unavailable")]
        taken.close()

    go(main())


def test_who_was_called_over_a_connection_of_another_process_is_told_that_it_is_over() -> None:
    """It cannot answer any more, as its connection has ended with the process. It knows its INVITE by the branch."""

    async def main() -> None:
        told: asyncio.Queue[Any] = asyncio.Queue()

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            told.put_nowait(parse(await reader.readuntil(b"\r\n\r\n")))
            writer.close()

        phone = await asyncio.start_server(read, "127.0.0.1", 0)
        uri = f"sip:127.0.0.1:{phone.sockets[0].getsockname()[1]};transport=tcp"
        invite = new_invite(parse_uri(uri), parse_address("<sip:100@example.org>"), "v=0", 70, ())
        invite.headers.prepend("Via", "SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bKbefore")
        party = Party(Listen("tcp", "127.0.0.1"))
        async with running(party):
            assert party.stack.resume(Ringing(bytes(invite), None, "", "alice", hop=uri)) is None
            cancel = await told.get()
            assert isinstance(cancel, Request)
            assert (cancel.method, cancel.vias[0].branch) == ("CANCEL", "z9hG4bKbefore")
            assert cancel.call_id == invite.call_id
        phone.close()

    go(main())


async def connected(party: Party) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", party.stack.ports["tcp"])


def test_strangers_are_not_let_in_when_there_is_nobody_to_prove_to_be() -> None:
    async def main() -> None:
        party = Party(Listen("tcp", "127.0.0.1"), trunks=(Trunk("t", ("192.0.2.0/24",)),))
        async with running(party):
            reader, writer = await connected(party)
            assert await _closed(reader)
            writer.close()
            assert party.stack.counts["connections_refused"] == 1

    go(main())


async def _closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 20) == b""
    except ConnectionError:  # reset, or broken while we were writing
        return True


@pytest.mark.parametrize(
    ("data", "count"), [(b"x" * 70_000, "bad_streams"), (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "bad_streams")]
)
def test_a_stream_that_is_not_sip_is_closed(data: bytes, count: str) -> None:
    async def main() -> None:
        party = Party(Listen("tcp", "127.0.0.1"), trunks=(Trunk("t", ("127.0.0.1",)),))
        async with running(party):
            reader, writer = await connected(party)
            writer.write(data)
            assert await _closed(reader)
            writer.close()
            assert party.stack.counts[count] == 1

    go(main())


def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "STRANGER_S", 0.05)

    async def main() -> None:
        party = Party(Listen("tcp", "127.0.0.1"), phones=(Phone("alice", "secret"),))
        async with running(party):
            reader, writer = await connected(party)
            assert await _closed(reader)
            writer.close()

    go(main())


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_CONNECTIONS", 1)

    async def main() -> None:
        party = Party(Listen("tcp", "127.0.0.1"), trunks=(Trunk("t", ("127.0.0.1",)),))
        async with running(party):
            _, first = await connected(party)
            first.write(PING)
            await until(lambda: party.stack._transports._connections)
            reader, second = await connected(party)
            assert await _closed(reader)
            first.close()
            second.close()

    go(main())


def test_a_keep_alive_is_answered() -> None:
    async def main() -> None:
        party = Party(Listen("tcp", "127.0.0.1"), trunks=(Trunk("t", ("127.0.0.1",)),))
        async with running(party):
            reader, writer = await connected(party)
            writer.write(PING)
            assert await asyncio.wait_for(reader.readexactly(2), 20) == PONG
            writer.close()

    go(main())


class FullSocket(asyncio.Transport):
    """Takes what it is given and sends nothing of it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4), "sockname": ("127.0.0.1", 5)})
        self.size = 0
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.size += len(data)

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted = True


def test_who_does_not_read_is_let_go() -> None:
    async def main() -> None:
        transports = transport.Transports(())
        connection, full = flows.Connection(transports, "tcp", outbound=True), FullSocket()
        connection.connection_made(full)
        connection.send(b"x" * flows.MAX_UNSENT)
        assert not full.aborted
        connection.send(b"x")
        assert full.aborted
        assert transports.counts["connections_too_slow"] == 1

    go(main())


def test_a_port_that_is_taken() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            stack = SipStack(
                Settings((Listen("tcp", "127.0.0.1"), Listen("udp", "127.0.0.1", taken.getsockname()[1]))),
                lambda session: None,
            )
            with pytest.raises(OSError, match="in use"):
                await stack.start()

    go(main())


@pytest.mark.parametrize(
    ("bound", "advertised", "remote", "wanted"),
    [
        ("127.0.0.1", "", "192.0.2.1", "127.0.0.1"),
        ("0.0.0.0", "", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "203.0.113.5", "192.0.2.1", "203.0.113.5"),
        ("::1", "203.0.113.5", "::1", "::1"),  # of the other family
        ("::", "sip.example", "::1", "sip.example"),
    ],
)
def test_the_address_that_others_are_told(bound: str, advertised: str, remote: str, wanted: str) -> None:
    assert transport.Transports((), advertised).host_for(bound, remote) == wanted
