"""baresip, a softphone, against our stack: it calls, is called, registers; over UDP, TCP and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.legs.sip_peers.programs import Baresip, baresip

from offhook.legs.sip.events import Answered, Ended
from offhook.legs.sip.guard import Phone
from offhook.server.tls import ensure, server_context

if TYPE_CHECKING:
    from tests.legs.sip_peers.conftest import Server

    Servers = Callable[..., Server]

pytestmark = pytest.mark.sockets


def play(
    make: Servers,
    path: str,
    folder: Path,
    transport: str,
    part: Callable[[Server, Baresip], Any],
    user: str = "",
    media: str = "",
) -> Server:
    """Run a part with our stack and a baresip on `transport`; with `user`, that is registered with us."""
    files = ensure(folder / "tls")

    async def main() -> Server:
        settings = {"phones": (Phone("alice", "secret"),), "trunks": ()} if user else {}
        server = make(server_context(files.cert, files.key), **settings)
        await server.stack.start()
        here = f"127.0.0.1:{server.stack.ports[transport]};transport={transport}"
        account = f"<sip:{user or 'x'}@{here}>;auth_pass=secret;regint={60 if user else 0};answermode=auto{media}"
        try:
            async with baresip(path, folder, account, more=f"sip_verify_server no\nsip_cafile {files.ca}") as phone:
                await part(server, phone)
                await server.all_over()
                await server.until(lambda: "CALL_CLOSED" in phone.kinds or not server.sessions)
        finally:
            await server.stack.close()
        return server

    return asyncio.run(main())


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_it_calls_and_hangs_up(server: Servers, baresip_path: str, tmp_path: Path, transport: str) -> None:
    async def part(one: Server, phone: Baresip) -> None:
        phone.do("dial", f"sip:100@127.0.0.1:{one.stack.ports[transport]};transport={transport}")
        await one.until(lambda: one.events)
        await one.until(lambda: "CALL_ESTABLISHED" in phone.kinds)
        phone.do("hangup")

    done = play(server, baresip_path, tmp_path, transport, part)
    assert done.events == [Answered(), Ended(200, "OK")]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_it_calls_and_is_hung_up_on(server: Servers, baresip_path: str, tmp_path: Path, transport: str) -> None:
    async def part(one: Server, phone: Baresip) -> None:
        phone.do("dial", f"sip:100@127.0.0.1:{one.stack.ports[transport]};transport={transport}")
        await one.until(lambda: one.events)
        one.sessions[0].hang_up(16)

    done = play(server, baresip_path, tmp_path, transport, part)
    assert done.events[-1].by_us  # type: ignore[union-attr]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_it_registers_calls_and_is_called(server: Servers, baresip_path: str, tmp_path: Path, transport: str) -> None:
    async def part(one: Server, phone: Baresip) -> None:
        await one.until(lambda: one.stack.contacts("alice"))
        phone.do("dial", "100")
        await one.until(lambda: one.events)
        assert (one.sessions[0].phone, one.sessions[0].to.uri.user) == ("alice", "100")
        one.sessions[0].hang_up()
        await one.until(lambda: "CALL_CLOSED" in phone.kinds)
        session = one.call("alice")
        await one.until(lambda: any(isinstance(event, Answered) for event in one.events[2:]))
        session.hang_up()

    done = play(server, baresip_path, tmp_path, transport, part, user="alice")
    assert [event.code for event in done.events if isinstance(event, Ended)] == [200, 200]
    assert done.stack.counts["wrong_password"] == 0


def test_hold_and_resume(server: Servers, baresip_path: str, tmp_path: Path) -> None:
    async def part(one: Server, phone: Baresip) -> None:
        phone.do("dial", f"sip:100@127.0.0.1:{one.stack.ports['udp']}")
        await one.until(lambda: one.events)
        phone.do("hold")
        await one.until(lambda: len(one.agreed) == 2)
        phone.do("resume")
        await one.until(lambda: len(one.agreed) == 3)
        phone.do("hangup")

    done = play(server, baresip_path, tmp_path, "udp", part)
    assert [agreed.sends for agreed in done.agreed] == [True, False, True]


def test_srtp_is_negotiated(server: Servers, baresip_path: str, tmp_path: Path) -> None:
    from offhook.legs.sip.negotiation import MediaPolicy

    async def part(one: Server, phone: Baresip) -> None:
        one.policy = MediaPolicy(("PCMU",), srtp="required")
        phone.do("dial", f"sip:100@127.0.0.1:{one.stack.ports['udp']}")
        await one.until(lambda: one.events)
        phone.do("hangup")

    done = play(server, baresip_path, tmp_path, "udp", part, media=";mediaenc=srtp-mand")
    assert done.agreed[0].send_key.startswith("inline:")
    assert done.agreed[0].receive_key.startswith("inline:")


def test_it_transfers_blindly(server: Servers, baresip_path: str, tmp_path: Path) -> None:
    async def part(one: Server, phone: Baresip) -> None:
        from offhook.legs.sip.events import Referred

        phone.do("dial", f"sip:100@127.0.0.1:{one.stack.ports['udp']}")
        await one.until(lambda: one.events)
        phone.do("transfer", "sip:300@127.0.0.1")
        await one.until(lambda: any(isinstance(event, Referred) for event in one.events))
        one.sessions[0].refer_progress(200)

    done = play(server, baresip_path, tmp_path, "udp", part)
    assert done.events[-1] == Ended(200, "OK")
