"""`kill -9` of the control process while a telephone is in a call: the call goes on, either side can end it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import dropwhile, groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from tests.server.test_control_killed import NOBODY, PATIENT, App, all_there, kill_control, until

from offhook.audio import g711
from offhook.legs.sip import events
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.negotiation import Agreed, MediaPolicy, Negotiation
from offhook.legs.sip.session import Session
from offhook.legs.sip.stack import Settings as StackSettings
from offhook.legs.sip.stack import SipStack
from offhook.legs.sip.transport import Listen
from offhook.server import listening
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
WORDS = 500  # frames that the app says: sent at once, so that each of them has to be played
ENOUGH = 150  # of them heard, 3 s: control has been killed, and is back
LATE = 5  # levels, 100 ms: less than control is away
PLAIN = 40  # samples at 8 kHz of one level, 5 ms, that do not belong to a change of levels
RATE = 16_000
MOBILE = "+15550123"


def free_ports(count: int) -> list[int]:
    """Return ports that are free now for UDP and TCP, and that kernels hand out to nobody while control is away."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(listening.free_port(HOST, socket.SOCK_DGRAM, socket.SOCK_STREAM))
    return list(ports)


def assert_whole(octets: np.ndarray[Any, Any], late: int = 0) -> None:
    """In µ-law sound, which may begin with silence, each level follows the one before it: no frame is missing.

    But packets may come late on a busy machine: a jitter buffer repeats what was heard last, is silent in the end, and
    leaves out some of what comes then, up to `late` levels."""
    edges = np.flatnonzero(np.diff(octets, prepend=-1, append=-1))
    levels = [int(octets[start]) - LOUDEST for start, end in pairwise(edges) if end - start >= PLAIN]
    heard = list(dropwhile(lambda level: level >= LEVELS, (level for level, _ in groupby(levels))))
    assert len(heard) > LEVELS // 2
    newest = heard[0]
    for level in heard[1:]:
        if late > 0 and level >= LEVELS:
            continue
        ahead = (level - newest + LEVELS // 2) % LEVELS - LEVELS // 2
        assert ahead == 1 or ahead <= late > 0, (newest, level)
        newest = level if ahead > 0 else newest


class LevelApp(App):
    """Says a frame of each level, `WORDS` of them, and keeps what it hears."""

    speaks = True

    def __init__(self) -> None:
        super().__init__()
        self.sound: list[bytes] = []  # PCM

    async def _audio(self, request: web.Request) -> web.WebSocketResponse:
        self.heard.setdefault(request.headers["x-ms-call-connection-id"], [])
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        said = np.repeat((LOUDEST + np.arange(WORDS) % LEVELS).astype(np.uint8), RATE // 50)
        await opened.send_str(streaming.audio_data_out(g711.PCMU.decode(said).tobytes()).decode())
        async for message in opened:
            parsed = streaming.parse_from_server(message.data.encode())
            if isinstance(parsed, streaming.AudioData):
                self.sound.append(parsed.pcm)
        return opened

    def check(self) -> None:
        """The telephone's words have come whole."""
        assert_whole(g711.PCMU.encode(np.frombuffer(b"".join(self.sound), np.int16)), LATE)


class Telephone:
    """A telephone behind a trunk, or one that logs in: calls, and rings until `pick_up`. From then on it says a packet
    of the next level every 20 ms. A thread talks and listens, in time whatever the loop does."""

    def __init__(self, port: int, server_port: int, transport: str = "udp", user: str = "") -> None:
        self.told: list[events.Event] = []
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind((HOST, 0))
        self._rtp.setblocking(False)
        self._negotiation = Negotiation(MediaPolicy(("PCMU",)), HOST)
        server = f"sip:{HOST}:{server_port};transport={transport}"
        login: Any = {"user": user, "password": "secret", "register": server} if user else {}
        trunk = Trunk("server", (f"{HOST}/32",), server, **login)
        self.port = port
        listen = Listen("tcp" if transport == "tcp" else "udp", HOST, self.port)
        self.stack = SipStack(StackSettings((listen,), trunks=(trunk,)), self._on_invite)
        self.session: Session | None = None
        self.heard: list[tuple[int, bytes]] = []  # number and payload of packets
        self._talking: threading.Thread | None = None
        self._closed = threading.Event()

    def call(self, number: str, caller: str = "+15550100") -> None:
        offer = self._negotiation.offer(self._rtp.getsockname()[1])
        self.session = self.stack.invite(number, f"sip:{caller}@trunk.example", offer, self._on_event, trunk="server")

    def _on_invite(self, session: IncomingSession) -> None:
        self.session = session
        session.on_event = self._on_event
        session.ring()

    def pick_up(self) -> None:
        assert isinstance(self.session, IncomingSession)
        assert self.session.offer is not None
        answer, agreed = self._negotiation.answer(self.session.offer, self._rtp.getsockname()[1])
        self.session.answer(answer)
        self._talk(agreed)

    def hang_up(self) -> None:
        assert self.session is not None
        self.session.hang_up()

    def _on_event(self, event: events.Event) -> None:
        self.told.append(event)
        if isinstance(event, events.Answered) and event.sdp is not None and self._talking is None:
            self._talk(self._negotiation.accept(event.sdp))

    def _talk(self, agreed: Agreed) -> None:
        self._talking = threading.Thread(target=self._talk_to, args=(agreed.remote,), daemon=True)
        self._talking.start()

    def _talk_to(self, remote: tuple[str, int]) -> None:
        began = time.monotonic()
        for n in itertools.count():
            header = rtp.HEADER.pack(rtp.PLAIN, 0, n & 0xFFFF, n * 160, 4711)
            self._rtp.sendto(header + bytes([LOUDEST + n % LEVELS]) * 160, remote)
            with suppress(BlockingIOError):
                while True:
                    packet = self._rtp.recv(2000)
                    if packet[1] & 0x7F == 0:
                        self.heard.append((int.from_bytes(packet[2:4]), packet[rtp.HEADER.size :]))
            if self._closed.wait(max(began + (n + 1) * 0.02 - time.monotonic(), 0)):
                break

    def check(self, late: int = 0, newest: int = 0) -> None:
        """The words of the app, or of another telephone, have come whole, or the `newest` packets of them."""
        numbers, payloads = zip(*self.heard[-newest:], strict=True)
        assert {after - before & 0xFFFF for before, after in pairwise(numbers)} == {1}
        assert_whole(np.frombuffer(b"".join(payloads), np.uint8), late)

    @property
    def registered(self) -> bool:
        return self.stack.registrations["server"].registered

    @property
    def ends(self) -> list[events.Ended]:
        return [event for event in self.told if isinstance(event, events.Ended)]

    async def close(self) -> None:
        self._closed.set()
        if self._talking is not None:
            self._talking.join()
        await self.stack.close()
        self._rtp.close()


Scenario = Callable[..., Coroutine[Any, Any, None]]


def hold(data_dir: Path, scenario: Scenario, transport: str = "udp", user: str = "", telephones: int = 1) -> None:
    """Play `scenario` with the app and so many telephones of a trunk, the first of which is who is called there; or
    with one that logs in as `user`. All are told of the end of each call once."""

    async def main() -> None:
        app, (port, *others) = LevelApp(), free_ports(1 + telephones)
        all_of_them = [Telephone(other, port, transport, user) for other in others]
        reached = f"sip:{HOST}:{all_of_them[0].port};transport={transport}"
        trunk = {"name": "carrier", "allow": [f"{HOST}/32"], "server": reached}
        async with app.running():
            settings = Settings.model_validate(
                {
                    "data_dir": data_dir,
                    "http": 0,
                    "https": None,
                    "workers": 2,
                    "incoming": [f"{app.url}/incoming"],
                    "sip": {"port": port, "rtp_ports": (21_000, 21_999)},
                    "trunk": [] if user else [trunk],
                    "route": [] if user else [{"prefix": "+1", "trunk": "carrier"}],
                    "phone": [{"user": user, "password": "secret", "number": MOBILE}] if user else [],
                }
            )
            async with Supervisor(settings) as app.server:
                await all_there(app)
                for telephone in all_of_them:
                    await telephone.stack.start()
                await until(lambda: not user or all_of_them[0].registered)
                await scenario(app, *all_of_them)
                await until(lambda: all(telephone.ends for telephone in all_of_them))
                await until(lambda: all(app.kinds(each)[-1] == "CallDisconnected" for each in app.told))
                await asyncio.sleep(0.3)
                assert [app.kinds(each).count("CallDisconnected") for each in app.told] == [1] * len(app.told)
                assert [len(telephone.ends) for telephone in all_of_them] == [1] * telephones
                for telephone in all_of_them:
                    await telephone.close()

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ answered calls


async def talk_over_a_kill(app: LevelApp, telephone: Telephone) -> str:
    """Kill control while a telephone and the app talk to each other: neither misses a frame. Return the connection."""
    telephone.call("+15550199")
    await until(lambda: len(app.sound) > 50)
    await kill_control(app)
    await until(lambda: len(telephone.heard) > ENOUGH)
    app.check()
    telephone.check()
    (connection,) = app.heard
    return connection


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_who_hangs_up_is_answered_by_the_next_control_process(tmp_path: Path, transport: str) -> None:
    async def scenario(app: LevelApp, telephone: Telephone) -> None:
        await talk_over_a_kill(app, telephone)
        before = telephone.stack.responses["in", "2xx"]  # to INVITE, once or more
        telephone.hang_up()
        await until(lambda: telephone.stack.responses["in", "2xx"] > before)

    hold(tmp_path, scenario, transport)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_next_control_process_hangs_up(tmp_path: Path, transport: str) -> None:
    async def scenario(app: LevelApp, telephone: Telephone) -> None:
        connection = await talk_over_a_kill(app, telephone)
        await app.rest("DELETE", f"/calling/callConnections/{connection}")
        await until(lambda: telephone.ends)
        assert not telephone.ends[0].by_us

    hold(tmp_path, scenario, transport)


def test_a_lost_worker_is_told_to_its_telephone(tmp_path: Path) -> None:
    async def scenario(app: LevelApp, telephone: Telephone) -> None:
        await talk_over_a_kill(app, telephone)
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


def test_a_telephone_that_is_lent_to_a_call_of_another_worker(tmp_path: Path) -> None:
    """Moved by moveParticipants; the two telephones hear each other before control is killed, and after."""

    def whole(telephone: Telephone) -> bool:
        with suppress(AssertionError):
            assert len(telephone.heard) > LEVELS
            telephone.check(LATE, LEVELS)
            return True
        return False

    async def hears(telephone: Telephone) -> None:
        """Wait for two seconds of the other one that are whole: a worker that is held up for long leaves frames out."""
        telephone.heard.clear()
        await until(lambda: whole(telephone))

    async def scenario(app: LevelApp, one: Telephone, other: Telephone) -> None:
        app.speaks = False
        one.call("+15550199")
        await until(lambda: len(app.heard) == 1)
        other.call("+15550199", "+15550101")
        await until(lambda: len(app.heard) == 2)
        async with app.session.get(f"{app.server.url}/health") as response:
            assert [worker["calls"] for worker in (await response.json())["workers"]] == [1, 1]
        here, there = app.heard
        body = {"targetParticipants": [{"rawId": "4:+15550101"}], "fromCall": there}
        await app.rest("POST", f"/calling/callConnections/{here}/participants:moveHere", body, "2026-03-12")
        await until(lambda: len(one.heard) > 100)
        await hears(one)
        await hears(other)
        await kill_control(app)
        await hears(one)
        await hears(other)
        before = other.stack.responses["in", "2xx"]
        other.hang_up()
        await until(lambda: other.stack.responses["in", "2xx"] > before)
        await app.rest("DELETE", f"/calling/callConnections/{here}")

    hold(tmp_path, scenario, telephones=2)


# ------------------------------------------------------------------------------------------------ calls that ring


async def ring_over_a_kill(app: LevelApp, called: Telephone, *callers: Telephone) -> None:
    """The app calls one telephone, the others call the app; control is killed before anybody answers."""
    await app.create(MOBILE)
    for number, caller in zip((PATIENT, NOBODY), callers, strict=True):
        caller.call(number)
    await until(lambda: called.session and {PATIENT, NOBODY} <= app.offers.keys())
    await until(lambda: all(caller.told for caller in callers))
    await asyncio.sleep(0.2)  # for what the one that is called has said
    await kill_control(app)


def test_whoever_rings_goes_on_ringing_at_the_next_control_process(tmp_path: Path) -> None:
    async def scenario(app: LevelApp, called: Telephone, patient: Telephone, impatient: Telephone) -> None:
        await ring_over_a_kill(app, called, patient, impatient)
        called.pick_up()
        await until(lambda: len(called.heard) > 50)
        called.hang_up()
        await app.answer(app.offers[PATIENT])
        await until(lambda: len(patient.heard) > 50)
        patient.hang_up()
        impatient.hang_up()
        await until(lambda: impatient.stack.responses["in", "4xx"])
        with pytest.raises(AssertionError, match="8522"):
            await app.answer(app.offers[NOBODY])
        assert [connected for kinds in map(app.kinds, app.told) for connected in kinds[:1]] == ["CallConnected"] * 2

    hold(tmp_path, scenario, telephones=3)


def test_whoever_rings_over_a_connection_is_gone_with_that(tmp_path: Path) -> None:
    async def scenario(app: LevelApp, *telephones: Telephone) -> None:
        await ring_over_a_kill(app, *telephones)
        await until(lambda: all(telephone.ends for telephone in telephones))
        for number in (PATIENT, NOBODY):
            with pytest.raises(AssertionError, match="8522"):
                await app.answer(app.offers[number])

    hold(tmp_path, scenario, "tcp", telephones=3)


# ------------------------------------------------------------------------------------------------ registrations


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_need_not_log_in_again_to_be_called(tmp_path: Path, transport: str) -> None:
    async def scenario(app: LevelApp, telephone: Telephone) -> None:
        before = telephone.stack.requests["out", "REGISTER"]
        await kill_control(app)
        await app.create(MOBILE)
        await until(lambda: telephone.session)
        assert telephone.stack.requests["out", "REGISTER"] == before
        telephone.pick_up()
        await until(lambda: len(telephone.heard) > 50)
        telephone.hang_up()

    hold(tmp_path, scenario, transport, user="desk")
