"""The stack as a whole: phones that register and are called, providers, strangers, proxies, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from offhook.legs.sip.client import ClientRequest
from offhook.legs.sip.events import Answered, Ended
from offhook.legs.sip.guard import Phone, Trunk
from offhook.legs.sip.message import Request, Response, parse
from offhook.legs.sip.stack import Settings, SipStack
from offhook.legs.sip.transport import Listen
from offhook.legs.sip.uri import Uri
from offhook.legs.sip.ways import Ways

if TYPE_CHECKING:
    from tests.legs.sip_stack.conftest import Scene, Telephone

Scenes = Callable[..., None]
ALICE = (Phone("alice", "secret"),)


def with_phone(one: Scene) -> Telephone:
    """Make A a server with the phone alice, and B that phone: A is its provider."""
    one.a.stack.reload([], ALICE)
    provider = Trunk("server", (), f"sip:{one.A}", user="alice", password="secret", register=f"sip:{one.A}")
    one.b.stack.reload([provider], [])
    return one.b


def test_a_phone_registers_calls_and_is_called(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        phone = with_phone(one)
        await asyncio.sleep(1)
        registration = phone.stack.registrations["server"]
        assert (registration.registered, registration.detail) == (True, "200 OK")
        assert one.network.sent() == ["REGISTER", "401 REGISTER", "REGISTER", "200 REGISTER"]
        (binding,) = one.a.stack.contacts("alice")
        assert str(binding.contact) == f"sip:alice@{one.B}:5060"

        to_phone = one.a.call("alice", trunk="")
        await asyncio.sleep(1)
        assert to_phone.told(Answered)
        assert (to_phone.session.phone, phone.legs[0].session.trunk) == ("alice", "server")

        from_phone = phone.stack.invite(
            "100", "alice", phone.legs[0].negotiation.offer(7000), lambda event: None, trunk="server"
        )
        await asyncio.sleep(1)
        arrived = one.a.legs[-1].session
        assert (arrived.phone, arrived.trunk, arrived.to.uri.user) == ("alice", "", "100")
        from_phone.hang_up()

    scene(play)


def test_a_registration_is_kept_and_signed_off(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        phone = with_phone(one)
        for _ in range(40):
            await asyncio.sleep(100)
            assert one.a.stack.contacts("alice")
        phone.stack.reload([], [])
        await asyncio.sleep(1)
        assert one.a.stack.contacts("alice") == []
        assert phone.stack.registrations == {}

    scene(play)


def test_a_registration_that_fails_is_tried_again_later(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.network.drop = lambda message: True
        phone = with_phone(one)
        await asyncio.sleep(40)
        assert phone.stack.registrations["server"].detail == "408 Request Timeout"
        one.network.drop = lambda message: False
        await asyncio.sleep(40)
        assert phone.stack.registrations["server"].registered

    scene(play)


def test_it_is_known_since_when_one_is_registered(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        phone = with_phone(one)
        await asyncio.sleep(1)
        since = phone.stack.registrations["server"].since
        await asyncio.sleep(1000)
        assert phone.stack.registrations["server"].since == since  # It was renewed meanwhile.
        one.network.drop = lambda message: True
        await asyncio.sleep(700)
        assert not phone.stack.registrations["server"].registered
        assert phone.stack.registrations["server"].since > since + 1000

    scene(play)


def test_a_wrong_password_is_not_tried_again_at_once(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.a.stack.reload([], [Phone("alice", "another")])
        server = f"sip:{one.A}"
        one.b.stack.reload([Trunk("server", (), server, user="alice", password="secret", register=server)], [])
        await asyncio.sleep(10)
        assert one.network.sent(one.B) == ["REGISTER", "REGISTER"]
        assert one.b.stack.registrations["server"].detail == "401 Unauthorized"
        one.b.stack.reload([], [])

    scene(play)


def test_a_registrar_that_wants_longer_gets_it(scene: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.legs.sip.registration.EXPIRES_S", 30)

    async def play(one: Scene) -> None:
        with_phone(one)
        await asyncio.sleep(1)
        (binding,) = one.a.stack.contacts("alice")
        assert binding.expires_at == pytest.approx(60, abs=1)

    scene(play)


def test_strangers_get_no_answer_at_all(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.a.stack.reload([], ALICE)
        udp: Any = one.a.stack._transports._udp[0]
        for method in ("INVITE", "OPTIONS", "REGISTER", "BYE", "CANCEL", "ACK", "FOO"):
            udp._take(_request(method), (one.B, 5060))
        udp._take(_request("INVITE").replace(b"CSeq", b"XSeq"), (one.B, 5060))  # nor those that are malformed
        udp._take(b"SIP/2.0 200 OK\r\n\r\n", (one.B, 5060))
        await asyncio.sleep(1)
        assert one.network.log == []
        assert len(one.a.stack._endpoint) == 0
        assert one.a.stack.counts["ignored"] == 5

    scene(play)


def _request(method: str, user: str = "stranger", *extra: str, branch: str = "") -> bytes:
    lines = [
        f"{method} sip:100@h SIP/2.0",
        f"Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK{branch or method}",
        f"From: <sip:{user}@h>;tag=1",
        f"To: <sip:{user}@h>",
        f"Call-ID: {method}",
        f"CSeq: 1 {method}",
        "Contact: <sip:x@192.0.2.2>",
        *extra,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_who_sends_too_much_is_not_read(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.a.stack.reload([], ALICE)
        udp: Any = one.a.stack._transports._udp[0]
        for number in range(1_000):
            udp._take(_request("INVITE", "alice", branch=str(number)), (one.B, 5060))
        assert one.network.sent(one.A) == ["401 INVITE"] * 40
        assert one.a.stack.counts["too_fast"] == 960

    scene(play)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (_request("BYE"), 481),
        (_request("NOTIFY"), 481),
        (_request("REFER"), 481),
        (_request("SUBSCRIBE"), 405),
        (_request("PUBLISH"), 405),
        (_request("FOO"), 501),
        (_request("OPTIONS"), 200),
        (_request("REGISTER"), 401),
        (_request("INVITE", "x", "Require: foo, timer"), 420),
        (_request("INVITE", "x", "Content-Encoding: gzip", "Content-Type: application/sdp") + b"x", 415),
        (_request("INVITE", "x", "Session-Expires: 10"), 422),
        (_request("INVITE", "x", "Replaces: nothing"), 400),
        (_request("INVITE", "x", "Replaces: c;to-tag=a;from-tag=b"), 481),
        (_request("INVITE", "x", "Contact: <mailto:x@h>").replace(b"Contact: <sip:x@192.0.2.2>\r\n", b""), 400),
        (_request("OPTIONS").replace(b"sip:100@h", b"tel:+1555"), 200),
        (_request("OPTIONS").replace(b"sip:100@h", b"mailto:a@h"), 416),
        (_request("INVITE").replace(b"To: <sip:stranger@h>", b"To: <sip:stranger@h>;tag=x"), 481),
    ],
)
def test_what_a_trunk_is_answered(scene: Scenes, message: bytes, code: int) -> None:
    async def play(one: Scene) -> None:
        one.a.stack._transports._udp[0]._take(message, (one.B, 5060))  # type: ignore[attr-defined]
        codes = [sent.code for _, _, _, sent in one.network.log if isinstance(sent, Response)]
        assert codes[-1] == code
        assert one.a.legs == []

    scene(play)


def test_an_invite_that_comes_by_two_ways_is_one_call(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.a.answers = False
        udp: Any = one.a.stack._transports._udp[0]
        for branch in ("one", "two", "one"):
            udp._take(_request("INVITE", branch=branch), (one.B, 5060))
        await asyncio.sleep(1)
        assert one.network.sent(one.A)[:3] == ["100 INVITE", "100 INVITE", "482 INVITE"]
        assert len(one.a.legs) == 1

    scene(play)


def test_calls_are_bounded(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        legs = [one.a.call() for _ in range(3)]
        with pytest.raises(ValueError, match="too many"):
            one.a.call()
        await asyncio.sleep(1)
        one.b.stack.reload([], [])
        assert all(leg.told(Answered) for leg in legs)
        for leg in legs:
            leg.session.hang_up()
        await asyncio.sleep(1)
        one.b.stack._settings = Settings((), max_sessions=0)
        one.b.stack.reload([Trunk("other", (f"{one.A}/32",))], [])
        refused = one.a.call()
        await asyncio.sleep(1)
        assert refused.ended.code == 503

    scene(play, max_sessions=3)


def test_transactions_are_bounded(scene: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.legs.sip.endpoint.MAX_TRANSACTIONS", 2)

    async def play(one: Scene) -> None:
        one.b.answers = False
        legs = [one.a.call() for _ in range(3)]
        await asyncio.sleep(1)
        assert legs[2].ended.code == 503
        assert len(one.b.legs) == 2
        udp: Any = one.b.stack._transports._udp[0]
        udp._take(_request("OPTIONS"), (one.A, 5060))
        assert one.b.stack.counts["too_many_transactions"] == 1

    scene(play)


def test_a_call_goes_through_a_proxy_and_stays_there(scene: Scenes) -> None:
    """The network is the proxy: it puts Record-Route into the INVITE, and sees what each side sends it after that."""

    async def play(one: Scene) -> None:
        proxy = "192.0.2.100"
        to_proxy: list[Request] = []

        def forward(data: bytes, source: tuple[str, int]) -> None:
            message = parse(data)
            assert isinstance(message, Request)
            to_proxy.append(message)
            target = (message.uri.host, 5060)
            one.network._deliver(data.replace(b"\r\nRoute: <sip:" + proxy.encode() + b";lr>", b""), source, target)

        one.network.attach((proxy, 5060), forward)
        send = one.network.send

        def recorded(data: bytes, source: Any, target: Any) -> None:
            if data.startswith(b"INVITE") and b"Record-Route" not in data:
                data = data.replace(b"\r\n", b"\r\nRecord-Route: <sip:" + proxy.encode() + b";lr>\r\n", 1)
            send(data, source, target)

        one.network.send = recorded  # type: ignore[method-assign]
        caller, called = await one.call()
        called.reoffer()
        await asyncio.sleep(1)
        caller.session.hang_up()
        await asyncio.sleep(1)
        assert [request.method for request in to_proxy] == ["ACK", "INVITE", "ACK", "BYE"]
        assert called.ended.code == 200

    scene(play)


def test_a_call_that_rings_at_several_phones_is_answered_by_one(scene: Scenes) -> None:
    """The network forks the INVITE to B and C, as a proxy does; both answer, C first."""

    async def play(one: Scene) -> None:
        third = one.telephone("192.0.2.3", one.A)
        await third.stack.start()
        send = one.network.send

        def forked(data: bytes, source: Any, target: Any) -> None:
            send(data, source, target)
            if data.startswith((b"INVITE", b"CANCEL")):
                send(data, source, ("192.0.2.3", 5060))

        one.network.send = forked  # type: ignore[method-assign]
        one.b.answers = third.answers = False
        caller = one.a.call()
        await asyncio.sleep(1)
        (first,), (second,) = third.legs, one.b.legs
        first.incoming.ring()
        second.incoming.ring()
        await asyncio.sleep(1)
        first.pick_up()
        second.pick_up()
        await asyncio.sleep(2)
        assert len(caller.told(Answered)) == 1
        assert not first.told(Ended)
        assert second.ended.code == 200
        assert caller.agreed is not None
        assert caller.agreed.remote == ("192.0.2.3", 7000)
        caller.session.hang_up()
        await asyncio.sleep(1)
        assert first.ended.code == 200
        await third.stack.close()

    scene(play)


def test_closing_hangs_up(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        caller, called = await one.call()
        one.b.answers = False
        ringing = one.a.call()
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        then = loop.time()
        await one.a.stack.close()
        assert loop.time() - then < 2.1
        await asyncio.sleep(1)
        assert (caller.ended.by_us, ringing.ended.by_us) == (True, True)
        assert called.ended.code == 200
        assert one.b.legs[-1].ended.code == 487

    scene(play)


def test_nothing_is_sent_after_closing(scene: Scenes) -> None:
    async def play(one: Scene) -> None:
        one.network.drop = lambda message: isinstance(message, Request) and message.method == "ACK"
        await one.call()
        await one.b.stack.close()
        sent = len(one.network.sent(one.B))
        await asyncio.sleep(100)
        assert len(one.network.sent(one.B)) == sent
        assert not one.b.stack._context.sessions

    scene(play)


@pytest.mark.parametrize(("to", "trunk"), [("100", "nowhere"), ("alice", ""), ("sip:x y", "other"), ("http:", "other")])
def test_calls_that_cannot_be_made(scene: Scenes, to: str, trunk: str) -> None:
    async def play(one: Scene) -> None:
        with pytest.raises(ValueError, match=r"\w"):
            one.a.call(to, trunk=trunk)
        with pytest.raises(ValueError, match="too often"):
            one.a.call(max_forwards=0)

    scene(play)


def test_a_request_to_nowhere_is_answered_later() -> None:
    """Never within the call that sends it: its sender has not even got it back yet."""

    class NoEndpoint:
        def begin(self, *_: Any) -> None:
            return None

    async def main() -> None:
        codes: list[int] = []
        endpoint: Any = NoEndpoint()
        for flow in (None, _NoFlow()):
            request, ways = Request("OPTIONS", Uri("", "h")), Ways(endpoint, Uri("", "h"))
            asked = ClientRequest(endpoint, request, ways, lambda r: codes.append(r.code), None, None, None)
            asked.start(flow)  # type: ignore[arg-type]
        assert codes == []
        await asyncio.sleep(0)
        assert codes == [503, 503]

    asyncio.run(main())


class _NoFlow:
    transport, sent_by, closed = "udp", ("192.0.2.1", 5060), False


def test_tls_needs_a_certificate() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="certificate"):
            SipStack(Settings((Listen("tls", "127.0.0.1"),)), lambda session: None)

    asyncio.run(main())
