"""Telephones in calls, on loopback: another SIP stack with RTP sockets calls, is called, holds, moves and hangs up."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from offhook.audio import g711, pcm
from offhook.legs.sip import events
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.negotiation import MediaPolicy, Negotiation
from offhook.legs.sip.session import Session
from offhook.legs.sip.stack import Settings as StackSettings
from offhook.legs.sip.stack import SipStack
from offhook.legs.sip.transport import Listen
from offhook.server.app import Server
from offhook.server.config import Settings
from offhook.testing.caller import Caller
from offhook.wire import streaming

pytestmark = pytest.mark.sockets

HOST = "127.0.0.1"
RATE = 16_000
PATIENCE_S = 30


class Telephone:
    """A telephone's own stack and RTP socket. It says a tone of `hz`, and keeps what it hears."""

    def __init__(self, hz: float = 500, codec: str = "PCMU", srtp: str = "off") -> None:
        self.stack = SipStack(
            StackSettings((Listen("udp", HOST),), trunks=(Trunk("offhook", ("127.0.0.0/8",)),)), self._invited
        )
        self.codec = {"PCMU": g711.PCMU, "PCMA": g711.PCMA}[codec]
        self.hz = hz
        self.events: list[events.Event] = []
        self.session: Session | None = None
        self.reject = 0
        self.digits: list[int] = []
        self.heard: list[bytes] = []
        self._negotiation = Negotiation(MediaPolicy((codec,), srtp=srtp), HOST)  # type: ignore[arg-type]
        self._open()
        self._types = (0, 101)
        self._talking: asyncio.Task[None] | None = None

    def _open(self) -> None:
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind((HOST, 0))
        self._rtp.setblocking(False)

    async def __aenter__(self) -> Telephone:
        await self.stack.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._talking is not None:
            self._talking.cancel()
        await self.stack.close()
        self._rtp.close()

    @property
    def port(self) -> int:
        return self.stack.ports["udp"]

    def call(self, port: int, to: str, **more: Any) -> None:
        offer = self._negotiation.offer(self._rtp.getsockname()[1])
        self.stack.reload([Trunk("offhook", ("127.0.0.0/8",), server=f"sip:{HOST}:{port}")], [])
        self.session = self.stack.invite(to, "+15550100", offer, self._on_event, trunk="offhook", **more)

    def move(self) -> None:
        """Send and hear at another port from now on."""
        self._rtp.close()
        self._open()
        assert self.session is not None
        self.session.reoffer(self._negotiation.offer(self._rtp.getsockname()[1]))

    def hold(self, held: bool = True) -> None:
        assert self.session is not None
        self.session.reoffer(self._negotiation.offer(self._rtp.getsockname()[1], hold=held))

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def hears(self, hz: float) -> bool:
        """Whether the tone is in what came in the last 0.4 s."""
        octets = np.frombuffer(b"".join(self.heard[-20:]), np.uint8)
        return bool(len(octets)) and pcm.tone_level(self.codec.decode(octets), hz, 8000) > -45

    def _invited(self, session: IncomingSession) -> None:
        self.session = session
        session.on_event = self._on_event
        session.ring()
        if self.reject:
            session.reject(self.reject)
            return
        assert session.offer is not None
        description, agreed = self._negotiation.answer(session.offer, self._rtp.getsockname()[1])
        session.answer(description)
        self._talk(agreed.remote)

    def _on_event(self, event: events.Event) -> None:
        self.events.append(event)
        if isinstance(event, events.Answered) and event.sdp is not None:
            self._talk(self._negotiation.accept(event.sdp).remote)
        elif isinstance(event, events.Ended) and self._talking is not None:
            self._talking.cancel()

    def _talk(self, remote: tuple[str, int] | None) -> None:
        if self._talking is not None:
            self._talking.cancel()
        self._talking = asyncio.create_task(self._say(remote))

    async def _say(self, remote: tuple[str, int] | None) -> None:
        octets = self.codec.encode(pcm.tone(self.hz, 8000, 2, -15)).tobytes()
        kind = 0 if self.codec is g711.PCMU else 8
        loop = asyncio.get_running_loop()
        at = loop.time()
        for number in range(100_000):
            piece = octets[number * 160 % len(octets) :][:160]
            header = struct.pack("!BBHII", 0x80, kind, number & 0xFFFF, number * 160, 1)
            if remote is not None:
                self._rtp.sendto(header + piece, remote)
            self._read()
            at += 0.02
            await asyncio.sleep(at - loop.time())

    def _read(self) -> None:
        while True:
            try:
                packet = self._rtp.recv(2000)
            except BlockingIOError:
                return
            if packet[1] & 0x7F == 101:
                self.digits.append(packet[12])
            else:
                self.heard.append(packet[12:])


class App:
    """An app by hand: answers what comes, echoes nothing, says a tone of 1700 Hz into its stream."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.incoming: list[dict[str, Any]] = []
        self.heard = b""
        self.digits = ""
        self.server: Server | None = None
        self.answers = True
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/incoming", self._on_incoming)
        app.router.add_post("/callback", self._on_callback)
        app.router.add_get("/audio", self._on_audio)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.host = f"{HOST}:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        await self._runner.cleanup()

    def kinds(self) -> list[str]:
        return [event["type"].rpartition(".")[2] for event in self.events]

    @property
    def options(self) -> dict[str, Any]:
        return {
            "transportType": "websocket",
            "audioChannelType": "mixed",
            "transportUrl": f"ws://{self.host}/audio",
            "startMediaStreaming": True,
            "enableBidirectional": True,
            "enableDtmfTones": True,
        }

    async def rest(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert self.server is not None
        async with Caller(self.server.plain_url or "", self.server.keys[0]) as caller:
            return 200, await caller.request("POST", f"/calling/callConnections{path}?api-version=2026-03-12", body)

    async def _on_incoming(self, request: web.Request) -> web.Response:
        [event] = await request.json()
        if code := event["data"].get("validationCode"):
            return web.json_response({"validationResponse": code})
        self.incoming.append(event["data"])
        if self.answers:
            body = {
                "incomingCallContext": event["data"]["incomingCallContext"],
                "callbackUri": f"http://{self.host}/callback",
                "mediaStreamingOptions": self.options,
            }
            task = asyncio.create_task(self.rest(":answer", body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return web.Response()

    async def _on_callback(self, request: web.Request) -> web.Response:
        self.events += await request.json()
        return web.Response()

    async def _on_audio(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(streaming.audio_data_out(pcm.tone(1700, RATE, 20, -15).tobytes()).decode())
        async for message in socket:
            parsed = streaming.parse_from_server(message.data.encode())
            if isinstance(parsed, streaming.AudioData):
                self.heard += parsed.pcm
            elif isinstance(parsed, streaming.DtmfData):
                self.digits += parsed.tone
        return socket

    def hears(self, hz: float) -> bool:
        return pcm.tone_level(pcm.as_samples(self.heard[-12_800:]), hz, RATE) > -45


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


def hold(
    tmp_path: Path,
    scenario: Callable[[Server, App, Telephone], Awaitable[None]],
    make: Callable[[], Telephone] = Telephone,
    **sip: Any,
) -> None:
    """Run `scenario` with a server whose trunk is the telephone; nothing may be left of its calls."""

    async def main() -> None:
        app = App()
        await app.start()
        async with make() as phone:
            settings = Settings(
                data_dir=tmp_path / "data",
                http=0,
                https=None,
                workers=0,
                incoming=[f"http://{app.host}/incoming"],
                sip={"port": 0, "rtp_ports": (40_000, 49_999), **sip},  # type: ignore[arg-type]
                trunk=[{"name": "t", "allow": ["127.0.0.0/8"], "server": f"sip:{HOST}:{phone.port}"}],  # type: ignore[list-item]
                route=[{"prefix": "+1", "trunk": "t"}],  # type: ignore[list-item]
            )
            settings.check()
            async with Server(settings) as server:
                app.server = server
                try:
                    await scenario(server, app, phone)
                    await until(lambda: not server.control.registry.calls)
                    assert server.sip is not None
                    await until(lambda: server.sip is not None and not server.sip.sessions)
                    telephones = server.control.exchange.telephones
                    assert telephones is not None
                    assert not telephones._lines
                finally:
                    await app.close()

    asyncio.run(main())


def sip_port(server: Server) -> int:
    assert server.sip is not None
    return server.sip.ports["udp"]


async def connected(server: Server, app: App, phone: Telephone, to: str = "+15550199", **more: Any) -> None:
    phone.call(sip_port(server), to, **more)
    await until(lambda: "MediaStreamingStarted" in app.kinds())
    await until(lambda: app.hears(500) and phone.hears(1700))


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_a_telephone_calls_an_app_and_hangs_up(tmp_path: Path, codec: str) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        await connected(server, app, phone, headers=(("X-Campaign", "spring"),))
        [incoming] = app.incoming
        assert (incoming["from"]["rawId"], incoming["to"]["rawId"]) == ("4:+15550100", "4:+15550199")
        assert incoming["customContext"]["sipHeaders"] == {"X-Campaign": "spring"}
        assert phone.session is not None
        phone.session.info_digits("15#")
        await until(lambda: app.digits == "15#")
        phone.session.hang_up()
        await until(lambda: app.kinds()[-1:] == ["CallDisconnected"])
        assert app.events[-1]["data"]["resultInformation"]["subCode"] == 5002

    hold(tmp_path, scenario, partial(Telephone, codec=codec))


def test_an_app_hangs_up_and_the_telephone_gets_its_bye(tmp_path: Path) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        await connected(server, app, phone)
        id = app.events[0]["data"]["callConnectionId"]
        await app.rest(f"/{id}:terminate", {})
        await until(lambda: phone.told(events.Ended))
        assert phone.told(events.Ended)[0].code == 200

    hold(tmp_path, scenario)


def test_a_telephone_that_holds_resumes_and_moves_is_heard_again(tmp_path: Path) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        await connected(server, app, phone)
        phone.hold()
        await until(lambda: len(phone.told(events.Answered)) == 2)
        phone.hold(False)
        await until(lambda: len(phone.told(events.Answered)) == 3)
        phone.move()
        await until(lambda: len(phone.told(events.Answered)) == 4)
        app.heard, phone.heard = b"", []
        await until(lambda: app.hears(500) and phone.hears(1700))
        assert phone.session is not None
        phone.session.hang_up()

    hold(tmp_path, scenario)


def test_an_app_calls_a_telephone(tmp_path: Path) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        body = {
            "targets": [{"rawId": "4:+15550123"}],
            "callbackUri": f"http://{app.host}/callback",
            "sourceCallerIdNumber": {"value": "+15550188"},
            "mediaStreamingOptions": app.options,
        }
        _, properties = await app.rest("", body)
        await until(lambda: app.hears(500) and phone.hears(1700))
        assert phone.session is not None
        assert (phone.session.request_uri.user, phone.session.from_.uri.user) == ("+15550123", "+15550188")
        tones = {"tones": ["one", "pound"], "targetParticipant": {"rawId": "4:+15550123"}}
        await app.rest(f"/{properties['callConnectionId']}:sendDtmfTones", tones)
        await until(lambda: "SendDtmfTonesCompleted" in app.kinds())
        await until(lambda: set(phone.digits) == {1, 11})
        phone.session.hang_up()

    hold(tmp_path, scenario)


@pytest.mark.parametrize(("code", "sub_code"), [(486, 8539), (603, 8538), (404, 8541), (480, 8587)])
def test_a_telephone_that_does_not_answer(tmp_path: Path, code: int, sub_code: int) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        phone.reject = code
        targets = {"targets": [{"rawId": "4:+15550123"}], "callbackUri": f"http://{app.host}/callback"}
        await app.rest("", targets)
        await until(lambda: app.kinds() == ["CreateCallFailed", "CallDisconnected"])
        assert app.events[0]["data"]["resultInformation"]["subCode"] == sub_code

    hold(tmp_path, scenario)


def test_what_no_route_names_cannot_be_called(tmp_path: Path) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        targets = {"targets": [{"rawId": "4:+4930123456"}], "callbackUri": f"http://{app.host}/callback"}
        await app.rest("", targets)
        await until(lambda: app.kinds() == ["CreateCallFailed", "CallDisconnected"])
        assert phone.session is None

    hold(tmp_path, scenario)


def test_a_call_from_outside_never_goes_out_again(tmp_path: Path) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        app.answers = False
        phone.call(sip_port(server), "+15550123")
        await until(lambda: app.incoming)
        assert phone.session is not None
        assert not isinstance(phone.session, IncomingSession)
        phone.session.hang_up()

    hold(tmp_path, scenario)


def test_srtp_is_spoken_with_who_offers_it(tmp_path: Path) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        phone.call(sip_port(server), "+15550199")
        await until(lambda: phone.told(events.Answered) or phone.told(events.Ended))
        [answered] = phone.told(events.Answered)
        assert "RTP/SAVP" in answered.sdp
        assert "a=crypto:1 " in answered.sdp
        assert phone.session is not None
        phone.session.hang_up()

    hold(tmp_path, scenario, partial(Telephone, srtp="required"))


def test_a_codec_that_is_not_spoken_is_refused(tmp_path: Path) -> None:
    async def scenario(server: Server, app: App, phone: Telephone) -> None:
        phone.call(sip_port(server), "+15550199")
        await until(lambda: phone.told(events.Ended))
        assert phone.told(events.Ended)[0].code == 488

    hold(tmp_path, scenario, partial(Telephone, codec="PCMA"), codecs=["PCMU"])
