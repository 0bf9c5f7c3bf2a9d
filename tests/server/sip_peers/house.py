"""A whole Offhook with telephones, `offhook serve` as it is started from a shell, and an app on the official SDK.

Everything is on loopback, and every peer has an address of its own there: by it a trunk is known.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from azure.communication.callautomation import (
    AudioFormat,
    MediaStreamingAudioChannelType,
    MediaStreamingContentType,
    MediaStreamingOptions,
    PhoneNumberIdentifier,
    StreamingTransportType,
)
from azure.communication.callautomation.aio import CallAutomationClient, CallConnectionClient
from tests.legs.sip_peers.programs import LOOPBACK, PATIENCE_S
from tests.sdk.stage import without_proxies

from offhook.audio import pcm
from offhook.server import listening
from offhook.server.config import DEVELOPMENT_KEY
from offhook.wire import streaming

OFFHOOK = Path(sys.executable).with_name("offhook")
RATE = 16_000  # of the app's streams, in Hz
CARRIER, CHALLENGED, PROXY, PHONE = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
PASSWORD = "secret"
NUMBER = "+15550101"  # of the phone "alice"
SHOWN, OURS = "+15550188", "+15550177"  # the app's number; and the only one that may be shown to +43…
CODECS = ["PCMU", "PCMA", "G722", "opus"]

T = TypeVar("T")


async def until(probe: Callable[[], T | None]) -> T:
    """Return what `probe` returns once that is not false; raise TimeoutError after PATIENCE_S.

    It polls, because what is waited for lies with programs, sockets and endpoints that have no event in common.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not (found := probe()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


def configuration(carrier_port: int, proxy_port: int) -> str:
    """The server's: +1… and +43… are reached by a carrier, +44… by one that wants to know who calls, +49… and +33… by a
    proxy. It takes as many calls as come, also when the machine is busy with something else."""
    return f"""\
max_calls_per_worker = 1000

[sip]
host = "127.0.0.1"
port = 0
tls_port = 0
region = "US"
codecs = {json.dumps(CODECS)}

[[trunk]]
name = "carrier"
allow = ["{CARRIER}/32"]
server = "sip:{CARRIER}:{carrier_port}"
allow_transfer = true

[[trunk]]
name = "challenged"
allow = ["{CHALLENGED}/32"]
server = "sip:{CHALLENGED}:{carrier_port}"
user = "peer"
password = "{PASSWORD}"
challenge = true

[[trunk]]
name = "proxy"
allow = ["{PROXY}/32"]
server = "sip:{PROXY}:{proxy_port}"

[[trunk]]
name = "proxy-tcp"
server = "sip:{PROXY}:{proxy_port};transport=tcp"

[[phone]]
user = "alice"
password = "{PASSWORD}"
number = "{NUMBER}"

[[phone]]
user = "bob"
password = "{PASSWORD}"

[[route]]
prefix = "+1"
trunk = "carrier"

[[route]]
prefix = "+43"
trunk = "carrier"
caller_ids = ["{OURS}"]

[[route]]
prefix = "+44"
trunk = "challenged"

[[route]]
prefix = "+49"
trunk = "proxy"

[[route]]
prefix = "+33"
trunk = "proxy-tcp"
"""


@dataclass
class AppCall:
    """One call as the app has it: the events it was sent, and what its audio socket brought."""

    connection: CallConnectionClient
    offer: dict[str, Any] = field(default_factory=dict)  # data of the IncomingCall, unless the app has called
    events: list[dict[str, Any]] = field(default_factory=list)
    audio: list[bytes] = field(default_factory=list)  # frames of 20 ms, at RATE
    digits: str = ""

    @property
    def kinds(self) -> list[str]:
        return [event["type"].rpartition(".")[2] for event in self.events]

    def data(self, kind: str) -> dict[str, Any]:
        """The newest event of that kind."""
        found: dict[str, Any] = [event for event in self.events if event["type"].endswith(f".{kind}")][-1]["data"]
        return found

    def level(self, hz: float, seconds: float = 0.5) -> float:
        """Level of a tone in the newest audio, in dBFS; that of silence as long as there is less."""
        frames = round(seconds * 50)
        if len(self.audio) < frames:
            return -120.0
        return pcm.tone_level(pcm.as_samples(b"".join(self.audio[-frames:])), hz, RATE)

    async def over(self) -> dict[str, Any]:
        """Wait for the end of the call; return the resultInformation of CallDisconnected."""
        await until(lambda: "CallDisconnected" in self.kinds)
        result: dict[str, Any] = self.data("CallDisconnected")["resultInformation"]
        return result


class House:
    """`async with House(folder)`: the server and the app. The app answers each call, and says what it hears."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}  # of SIP, by transport
        self.carrier_port, self.proxy_port = free_port(CARRIER), free_port(PROXY)
        self.answers = True
        self.offers: list[dict[str, Any]] = []  # data of every IncomingCall
        self._calls: dict[str, AppCall] = {}
        self._untaken: asyncio.Queue[AppCall] = asyncio.Queue()  # calls that came and were answered
        self._answering: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> House:
        try:
            await self._open()
            await self._serve()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        assert "Traceback" not in (log := self.log()), log[-3000:]

    def log(self) -> str:
        """What the server has logged."""
        return self.folder.joinpath("serve.log").read_text("utf-8", errors="replace")

    # ------------------------------------------------------------------------------------------ what the app does

    async def next_call(self) -> AppCall:
        """Return the next call that has come and been answered."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._untaken.get()

    def forget(self) -> None:
        """Begin anew: what calls a test before has left untaken is nobody's."""
        self.answers = True
        while not self._untaken.empty():
            self._untaken.get_nowait()

    async def call(self, number: str, shown: str = SHOWN) -> AppCall:
        """Call a number with createCall."""
        created = await self.client.create_call(
            PhoneNumberIdentifier(number),
            f"{self._url}/callbacks",
            source_caller_id_number=PhoneNumberIdentifier(shown),
            media_streaming=self._streaming,
        )
        return self._have(created.call_connection_id)

    def _have(self, connection: str | None) -> AppCall:
        assert connection
        if connection not in self._calls:
            self._calls[connection] = AppCall(self.client.get_call_connection(connection))
        return self._calls[connection]

    async def _answer(self, offer: dict[str, Any]) -> None:
        answered = await self.client.answer_call(
            offer["incomingCallContext"], f"{self._url}/callbacks", media_streaming=self._streaming
        )
        call = self._have(answered.call_connection_id)
        call.offer = offer
        self._untaken.put_nowait(call)

    @property
    def _streaming(self) -> MediaStreamingOptions:
        return MediaStreamingOptions(
            transport_url=self._url.replace("http", "ws") + "/audio",
            transport_type=StreamingTransportType.WEBSOCKET,
            content_type=MediaStreamingContentType.AUDIO,
            audio_channel_type=MediaStreamingAudioChannelType.MIXED,
            start_media_streaming=True,
            enable_bidirectional=True,
            enable_dtmf_tones=True,
            audio_format=AudioFormat.PCM16_K_MONO,
        )

    # ------------------------------------------------------------------------------------------ the app's endpoints

    async def _open(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.post("/incoming", self._on_incoming),
                web.post("/callbacks", self._on_callback),
                web.get("/audio", self._on_audio),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, LOOPBACK, 0).start()
        self._url = f"http://{LOOPBACK}:{runner.addresses[0][1]}"

    async def _on_incoming(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        if code := event["data"].get("validationCode"):
            return web.json_response({"validationResponse": code})
        self.offers.append(event["data"])
        if self.answers:
            task = asyncio.create_task(self._answer(event["data"]))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        return web.Response()

    async def _on_callback(self, request: web.Request) -> web.Response:
        (event,) = await request.json()
        self._have(event["data"]["callConnectionId"]).events.append(event)
        return web.Response()

    async def _on_audio(self, request: web.Request) -> web.WebSocketResponse:
        call = self._have(request.headers["x-ms-call-connection-id"])
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            parsed = streaming.parse_from_server(message.data.encode())
            if isinstance(parsed, streaming.AudioData):
                call.audio.append(parsed.pcm)
                await socket.send_str(streaming.audio_data_out(parsed.pcm).decode())
            elif isinstance(parsed, streaming.DtmfData):
                call.digits += parsed.tone
        return socket

    # ------------------------------------------------------------------------------------------ the server

    async def _serve(self) -> None:
        config = self.folder / "offhook.toml"
        config.write_text(configuration(self.carrier_port, self.proxy_port))
        log = self._stack.enter_context(self.folder.joinpath("serve.log").open("wb"))
        data_dir = self.folder / "data"
        options = ("--config", config, "--http", "0", "--https", "0", "--incoming", f"{self._url}/incoming")
        one_clock = ("--workers", "1")  # for all calls, so that their frames can be compared
        server = await asyncio.create_subprocess_exec(
            OFFHOOK,
            "serve",
            *options,
            *one_clock,
            *("--data-dir", data_dir),
            stdout=subprocess.PIPE,
            stderr=log,
            env=without_proxies(),
        )
        self._stack.push_async_callback(self._stop, server)
        assert server.stdout is not None
        async with asyncio.timeout(60):
            line = await server.stdout.readline()
        assert line, self.log()
        ready = json.loads(line)
        self.ports = {"udp": ready["sip"], "tcp": ready["sip"], "tls": ready["sips"]}
        self.http = ready["http"]
        self.ca = data_dir / "ca.pem"
        self.client = CallAutomationClient.from_connection_string(
            f"endpoint=https://localhost:{ready['https']}/;accesskey={DEVELOPMENT_KEY}",
            connection_verify=str(self.ca),
            use_env_settings=False,  # no proxies
        )
        await self._stack.enter_async_context(self.client)

    async def _stop(self, server: asyncio.subprocess.Process) -> None:
        if server.returncode is None:
            server.send_signal(signal.SIGINT)  # SIGTERM would let calls that a failed test has left go on.
        await server.wait()


def free_port(host: str) -> int:
    """Return a port that is free now for UDP and TCP, and stays so: none that kernels hand out."""
    return listening.free_port(host, socket.SOCK_DGRAM, socket.SOCK_STREAM)


def listens(host: str, port: int, transport: str) -> bool:
    """Whether some program waits at a port, as the kernel says."""
    address = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    state = {"udp": "07", "tcp": "0A"}[transport]
    return f" {address}:{port:04X} 00000000:0000 {state} " in Path("/proc/net", transport).read_text("ascii")
