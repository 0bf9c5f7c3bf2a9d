"""`kill -9` of the control process while a telephone is in a call: the call goes on, either side can end it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from tests.server.test_control_killed import App, kill_control, until

from offhook.audio import g711
from offhook.legs.sip import events
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.negotiation import MediaPolicy, Negotiation
from offhook.legs.sip.session import Session
from offhook.legs.sip.stack import Settings as StackSettings
from offhook.legs.sip.stack import SipStack
from offhook.legs.sip.transport import Listen
from offhook.server.config import Settings
from offhook.server.supervisor import Supervisor
from offhook.wire import rtp, streaming

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has everything in one process"),
]

HOST = "127.0.0.1"
LEVELS = 100  # packets of as many levels, one after the other, again and again
LOUDEST = 0x80  # octet of the first level
LATE = 5  # frames that a jitter buffer may leave out at once on a busy machine; control is away for some 15


def free_port() -> int:
    """Return a port that is free now for UDP and TCP."""
    with socket.create_server((HOST, 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        port = int(tcp.getsockname()[1])
        udp.bind((HOST, port))
        return port


class LevelApp(App):
    """Keeps the level of each frame in the middle, as the octet that was sent."""

    async def _audio(self, request: web.Request) -> web.WebSocketResponse:
        heard = self.heard.setdefault(request.headers["x-ms-call-connection-id"], [])
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        async for message in opened:
            parsed = streaming.parse_from_server(message.data.encode())
            if isinstance(parsed, streaming.AudioData) and not parsed.silent:
                pcm = np.frombuffer(parsed.pcm, np.int16)
                heard.append(int(g711.PCMU.encode(pcm[len(pcm) // 2 :][:1])[0]))
        return opened


class Telephone:
    """A telephone behind a trunk: calls over a SIP stack of ours, and says a packet of the next level every 20 ms."""

    def __init__(self, server_port: int) -> None:
        self.told: list[events.Event] = []
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind((HOST, 0))
        self._rtp.setblocking(False)
        self._negotiation = Negotiation(MediaPolicy(("PCMU",)), HOST)
        trunk = Trunk("server", (f"{HOST}/32",), f"sip:{HOST}:{server_port}")
        self.stack = SipStack(StackSettings((Listen("udp", HOST),), trunks=(trunk,)), lambda session: None)
        self.session: Session
        self._talking: asyncio.Task[None] | None = None

    def call(self, number: str) -> None:
        offer = self._negotiation.offer(self._rtp.getsockname()[1])
        self.session = self.stack.invite(number, "sip:+15550100@trunk.example", offer, self._on_event, trunk="server")

    def _on_event(self, event: events.Event) -> None:
        self.told.append(event)
        if isinstance(event, events.Answered) and self._talking is None:
            assert event.sdp is not None
            remote = self._negotiation.accept(event.sdp).remote
            assert remote is not None
            self._talking = asyncio.create_task(self._talk(remote))

    async def _talk(self, remote: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        began, n = loop.time(), 0
        while True:
            header = rtp.HEADER.pack(rtp.PLAIN, 0, n & 0xFFFF, n * 160, 4711)
            self._rtp.sendto(header + bytes([LOUDEST + n % LEVELS]) * 160, remote)
            n += 1
            await asyncio.sleep(began + n * 0.02 - loop.time())

    @property
    def ends(self) -> list[events.Ended]:
        return [event for event in self.told if isinstance(event, events.Ended)]

    async def close(self) -> None:
        if self._talking is not None:
            self._talking.cancel()
        await self.stack.close()
        self._rtp.close()


def hold(data_dir: Path, scenario: Callable[[App, Telephone, str], Any]) -> None:
    """Kill control during a telephone's call, then play `scenario` with the call's connection."""

    async def main() -> None:
        sip = {"port": free_port(), "rtp_ports": (21_000, 21_999)}
        trunk = {"name": "carrier", "allow": [f"{HOST}/32"]}
        async with LevelApp().running() as app:
            settings = Settings.model_validate(
                {
                    "data_dir": data_dir,
                    "http": 0,
                    "https": None,
                    "workers": 2,
                    "incoming": [f"{app.url}/incoming"],
                    "sip": sip,
                    "trunk": [trunk],
                }
            )
            async with Supervisor(settings) as app.server:
                telephone = Telephone(int(str(sip["port"])))
                await telephone.stack.start()
                telephone.call("+15550199")
                await until(lambda: [len(heard) > 50 for heard in app.heard.values()] == [True])
                (connection,) = app.heard
                await kill_control(app)
                await asyncio.sleep(1)
                levels = [level for level, _ in groupby(app.heard[connection][5:])]
                gaps = [(after - before) % LEVELS - 1 for before, after in pairwise(levels)]
                assert max(gaps) <= LATE, "no hole while control is away, and nothing out of order"
                await scenario(app, telephone, connection)
                await until(lambda: app.kinds(connection)[-1] == "CallDisconnected")
                await asyncio.sleep(0.3)
                assert app.kinds(connection).count("CallDisconnected") == 1
                assert len(telephone.ends) == 1
                await telephone.close()

    asyncio.run(main())


def test_who_hangs_up_is_answered_by_the_next_control_process(tmp_path: Path) -> None:
    async def scenario(app: App, telephone: Telephone, connection: str) -> None:
        telephone.session.hang_up()
        await until(lambda: telephone.stack.responses["in", "2xx"] == 2)  # to INVITE and BYE

    hold(tmp_path, scenario)


def test_a_lost_worker_is_told_to_its_telephone(tmp_path: Path) -> None:
    async def scenario(app: App, telephone: Telephone, connection: str) -> None:
        async with app.session.get(f"{app.server.url}/health") as response:
            told = await response.json()
        (busy,) = [worker for worker in told["workers"] if worker["calls"]]
        os.kill(busy["pid"], signal.SIGKILL)
        await until(lambda: telephone.ends)
        (end,) = telephone.ends
        assert not end.by_us
        assert end.q850 is not None
        assert end.q850.cause == 41, "temporary failure"

    hold(tmp_path, scenario)


def test_the_next_control_process_hangs_up(tmp_path: Path) -> None:
    async def scenario(app: App, telephone: Telephone, connection: str) -> None:
        await app.rest("DELETE", f"/calling/callConnections/{connection}")
        await until(lambda: telephone.ends)
        assert not telephone.ends[0].by_us

    hold(tmp_path, scenario)
