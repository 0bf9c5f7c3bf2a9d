"""sipp, the traffic generator, against our stack: its own scenarios and ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from offhook.legs.sip.events import (
    Q850,
    Answered,
    Digits,
    Ended,
    Progress,
    ReferProgress,
    Referred,
)
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.session import Session

if TYPE_CHECKING:
    from tests.legs.sip_peers.conftest import Server, Sipp

    Servers = Callable[..., Server]

pytestmark = pytest.mark.sockets

PEER = ("127.0.0.0/8",)


def calls(
    servers: Servers, sipp: Sipp, scenario: str, *options: str, transport: str = "udp", **settings: Any
) -> Server:
    """Let sipp call, once or as `options` have it; return the server when all is over."""

    async def main() -> Server:
        server = servers(**settings)
        await server.stack.start()
        try:
            await sipp(scenario, "-m", "1", *options, port=server.stack.ports[transport])
            await server.all_over()
        finally:
            await server.stack.close()
        return server

    return asyncio.run(main())


def called(
    servers: Servers, sipp: Sipp, scenario: str, use: Callable[[Server, Session], Any] | None = None, **trunk: Any
) -> Server:
    """Call sipp, and return the server when all is over."""

    async def main() -> Server:
        port = _free_port()
        more = {"user": "peer", "password": "secret"} | trunk
        server = servers(trunks=(Trunk("peer", PEER, f"sip:127.0.0.1:{port}", **more),))
        await server.stack.start()
        try:
            waiting = asyncio.create_task(sipp(scenario, "-m", "1", "-p", str(port)))
            await asyncio.sleep(0.3)  # until it listens; a packet that is too early is sent again
            session = server.call("100", trunk="peer")
            if use is not None:
                await use(server, session)
            await waiting
            await server.all_over()
        finally:
            await server.stack.close()
        return server

    return asyncio.run(main())


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def kinds(server: Server) -> list[str]:
    return [type(event).__name__ for event in server.events]


# ------------------------------------------------------------------------------------------------ it calls


@pytest.mark.parametrize("options", [(), ("-t", "t1")], ids=["udp", "tcp"])
def test_calls_of_sipp_itself(server: Servers, sipp: Sipp, options: tuple[str, ...]) -> None:
    transport = "tcp" if options else "udp"
    done = calls(server, sipp, "uac", *options, "-m", "10", "-r", "20", "-d", "100", transport=transport)
    assert kinds(done) == ["Answered"] * 10 + ["Ended"] * 10 or kinds(done).count("Ended") == 10
    assert {agreed.codec for agreed in done.agreed} == {"PCMU"}


def test_options(server: Servers, sipp: Sipp) -> None:
    assert calls(server, sipp, "options", "-m", "20", "-r", "100").events == []


def test_cancel(server: Servers, sipp: Sipp) -> None:
    async def main() -> Server:
        one: Server = server()
        one.answers = False
        await one.stack.start()
        await sipp("cancel", "-m", "1", port=one.stack.ports["udp"])
        await one.all_over()
        await one.stack.close()
        return one

    assert asyncio.run(main()).events == [Ended(487, "Request Terminated", Q850(16))]


@pytest.mark.parametrize("options", [(), ("-t", "t1")], ids=["udp", "tcp"])
def test_late_offer(server: Servers, sipp: Sipp, options: tuple[str, ...]) -> None:
    done = calls(server, sipp, "late_offer", *options, transport="tcp" if options else "udp")
    assert kinds(done) == ["Answered", "Ended"]
    assert done.agreed[0].codec == "PCMU"


def test_hold_in_every_dialect(server: Servers, sipp: Sipp) -> None:
    done = calls(server, sipp, "hold")
    assert [(agreed.sends, agreed.receives) for agreed in done.agreed] == [
        (True, True),
        (False, True),
        (True, True),
        (False, False),
        (False, True),
        (True, True),
    ]
    assert [agreed.remote is None for agreed in done.agreed] == [False, False, False, False, True, False]


def test_another_codec_during_the_call(server: Servers, sipp: Sipp) -> None:
    assert [agreed.codec for agreed in calls(server, sipp, "codec").agreed] == ["PCMU", "PCMA"]


def test_no_codec_in_common(server: Servers, sipp: Sipp) -> None:
    assert kinds(calls(server, sipp, "not_acceptable")) == ["Ended"]


def test_digest(server: Servers, sipp: Sipp) -> None:
    trunk = Trunk("peer", PEER, user="peer", password="secret", challenge=True)
    done = calls(server, sipp, "digest", trunks=(trunk,))
    assert kinds(done) == ["Answered", "Ended"]
    assert done.sessions[0].trunk == "peer"


@pytest.mark.parametrize("who", ["ours", "theirs"])
def test_session_timer(server: Servers, sipp: Sipp, who: str) -> None:
    done = calls(server, sipp, f"session_timer_{who}", min_se=2, session_expires=8)
    assert kinds(done) == ["Answered", "Ended"]
    assert done.events[-1] == Ended(200, "OK")


def test_a_session_timer_that_is_too_short(server: Servers, sipp: Sipp) -> None:
    assert calls(server, sipp, "session_timer_small").sessions == []


def test_digits_by_info(server: Servers, sipp: Sipp) -> None:
    assert [event for event in calls(server, sipp, "info").events if isinstance(event, Digits)] == [
        Digits("5"),
        Digits("#"),
    ]


def test_we_are_asked_to_transfer(server: Servers, sipp: Sipp) -> None:
    async def main() -> Server:
        one: Server = server()
        one.on_event = lambda session, event: session.refer_progress(200) if isinstance(event, Referred) else None
        await one.stack.start()
        await sipp("refer", "-m", "1", port=one.stack.ports["udp"])
        await one.all_over()
        await one.stack.close()
        return one

    (referred,) = [event for event in asyncio.run(main()).events if isinstance(event, Referred)]
    assert str(referred.to) == "sip:300@192.0.2.9"


def test_media_before_the_answer_is_acknowledged(server: Servers, sipp: Sipp) -> None:
    async def main() -> Server:
        one: Server = server()
        one.early = True
        await one.stack.start()
        await sipp("early", "-m", "1", port=one.stack.ports["udp"])
        await one.all_over()
        await one.stack.close()
        return one

    assert kinds(asyncio.run(main())) == ["Answered", "Ended"]


def test_fifty_calls(server: Servers, sipp: Sipp) -> None:
    done = calls(server, sipp, "uac", "-m", "50", "-l", "50", "-r", "50", "-d", "2000")
    assert [event for event in done.events if isinstance(event, Ended)] == [Ended(200, "OK")] * 50


# ------------------------------------------------------------------------------------------------ it is called


async def until_answered_then_hang_up(server: Server, session: Session) -> None:
    await server.until(lambda: any(isinstance(event, Answered) for event in server.events))
    session.hang_up(16)


def test_sipp_is_called(server: Servers, sipp: Sipp) -> None:
    done = called(server, sipp, "uas", until_answered_then_hang_up)
    assert kinds(done) == ["Progress", "Answered", "Ended"]


def test_we_prove_who_we_are(server: Servers, sipp: Sipp) -> None:
    done = called(server, sipp, "called_digest", until_answered_then_hang_up)
    assert kinds(done) == ["Progress", "Answered", "Ended"]


def test_sipp_is_busy(server: Servers, sipp: Sipp) -> None:
    assert called(server, sipp, "called_busy").events == [Ended(486, "Busy Here", Q850(17, "busy"))]


def test_we_change_our_mind(server: Servers, sipp: Sipp) -> None:
    async def change(server: Server, session: Session) -> None:
        await server.until(lambda: server.events)
        session.hang_up()

    done = called(server, sipp, "called_cancelled", change)
    assert done.events == [Progress(180, "Ringing"), Ended(487, "Request Terminated", by_us=True)]


def test_we_transfer(server: Servers, sipp: Sipp) -> None:
    async def transfer(server: Server, session: Session) -> None:
        await server.until(lambda: server.events)
        session.refer("sip:300@192.0.2.9")
        await server.until(lambda: any(isinstance(event, ReferProgress) and event.final for event in server.events))
        session.hang_up()

    done = called(server, sipp, "called_refer", transfer)
    assert ReferProgress(200, "OK", True) in done.events


def test_we_register_and_sign_off(server: Servers, sipp: Sipp) -> None:
    async def main() -> None:
        port = _free_port()
        uri = f"sip:127.0.0.1:{port}"
        trunk = Trunk("provider", (), uri, user="peer", password="secret", register=uri)
        one: Server = server(trunks=(trunk,))
        waiting = asyncio.create_task(sipp("registrar", "-m", "1", "-p", str(port)))
        await asyncio.sleep(0.3)
        await one.stack.start()
        registration = one.stack.registrations["provider"]
        await one.until(lambda: registration.registered)
        assert registration.detail == "200 OK"
        await one.stack.close()
        await waiting

    asyncio.run(main())
