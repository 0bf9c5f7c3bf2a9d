"""The port that the sockets of simulated parties come to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from offhook.legs.simulated_legs import PATH, SimulatedLegs
from offhook.media.link import ConnectLeg, EndLeg, ExpectLeg
from offhook.media.memory_link import LinkEnd, memory_pair
from offhook.media.tidings import LegAttached, LegGone, LegJoined, Tiding
from offhook.media.worker import MediaWorker
from offhook.testing.memory import MemoryApp


class Port:
    """A media worker whose audio port is open."""

    def __init__(self, control: LinkEnd, legs: SimulatedLegs, url: str, session: aiohttp.ClientSession) -> None:
        self.control = control
        self.legs = legs
        self.url = url
        self.session = session
        self.tidings: asyncio.Queue[Tiding] = asyncio.Queue()
        control.on_receive(self.tidings.put_nowait)

    async def call(self) -> aiohttp.ClientWebSocketResponse:
        """Place a call and connect it."""
        self.control.send(ExpectLeg("leg", "token", 16_000, "call"))
        await asyncio.sleep(0)
        socket = await self.session.ws_connect(self.url + PATH + "token")
        assert await self.tidings.get() == LegAttached("leg")
        self.control.send(ConnectLeg("leg", "call", "caller"))
        assert await self.tidings.get() == LegJoined("leg")
        return socket


@asynccontextmanager
async def port() -> AsyncIterator[Port]:
    control, end = memory_pair()
    worker = MediaWorker(end, MemoryApp(), 0.0)
    legs = SimulatedLegs(worker)
    worker.start()
    listening = socket.create_server(("127.0.0.1", 0))
    number = listening.getsockname()[1]
    await legs.listen(listening)
    async with aiohttp.ClientSession() as session:
        yield Port(control, legs, f"ws://127.0.0.1:{number}", session)
        await legs.close()
        await worker.close()


async def texts(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """Read until the socket is closed; return the text messages."""
    return [msgspec.json.decode(message.data) async for message in socket if message.type is aiohttp.WSMsgType.TEXT]


@pytest.mark.sockets
def test_a_call_over_a_real_socket() -> None:
    async def main() -> None:
        async with port() as server:
            socket = await server.call()
            await socket.send_str('{"kind":"mark","name":"first"}')
            frames = 0
            while frames < 10:
                message = await socket.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    assert len(message.data) == 640
                    frames += 1
            server.control.send(EndLeg("leg", "the app hung up"))
            told = await texts(socket)
            assert told[-1] == {"kind": "ended", "reason": "the app hung up"}
            assert socket.close_code == 1000
            assert server.tidings.empty()

    asyncio.run(main())


@pytest.mark.sockets
@pytest.mark.parametrize("path", ["/", "/legs/", "/legs/wrong", "/other/token", "/legs/token/more"])
def test_without_the_token_there_is_nothing(path: str) -> None:
    async def main() -> None:
        async with port() as server:
            server.control.send(ExpectLeg("leg", "token", 16_000, "call"))
            await asyncio.sleep(0)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await server.session.ws_connect(server.url + path)
            assert refused.value.status == 404
            assert server.tidings.empty()

    asyncio.run(main())


@pytest.mark.sockets
def test_an_upgrade_that_fails_leaves_the_leg_to_whoever_comes_rightly_and_only_once() -> None:
    async def main() -> None:
        async with port() as server:
            server.control.send(ExpectLeg("leg", "token", 16_000, "call"))
            await asyncio.sleep(0)
            async with server.session.get(server.url.replace("ws:", "http:") + PATH + "token") as refused:
                assert refused.status == 400
            assert server.tidings.empty()
            socket = await server.session.ws_connect(server.url + PATH + "token")
            assert await server.tidings.get() == LegAttached("leg")
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await server.session.ws_connect(server.url + PATH + "token")
            await socket.close()
            assert await server.tidings.get() == LegGone("leg", "hung up")

    asyncio.run(main())


@pytest.mark.sockets
def test_the_upgrade_of_firefox_is_taken() -> None:
    async def main() -> None:
        async with port() as server:
            server.control.send(ExpectLeg("leg", "token", 16_000, "call"))
            await asyncio.sleep(0)
            host, _, number = server.url.removeprefix("ws://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(number))
            writer.write(
                f"GET {PATH}token HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
            assert await server.tidings.get() == LegAttached("leg")
            writer.close()
            assert await server.tidings.get() == LegGone("leg", "hung up")

    asyncio.run(main())


@pytest.mark.sockets
def test_the_reason_arrives_although_the_client_is_still_sending() -> None:
    async def main() -> None:
        async with port() as server:
            socket = await server.call()

            async def talk() -> None:
                while not socket.closed:
                    await socket.send_bytes(bytes(100_000))

            talking = asyncio.create_task(talk())
            await asyncio.sleep(0.05)
            server.control.send(EndLeg("leg", "the app hung up"))
            told = await texts(socket)
            assert told[-1]["kind"] == "ended"
            assert socket.close_code == 1000
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    asyncio.run(main())


@pytest.mark.sockets
def test_a_client_that_goes_away_has_hung_up_once() -> None:
    async def main() -> None:
        async with port() as server:
            socket = await server.call()
            await socket.close()
            assert await server.tidings.get() == LegGone("leg", "hung up")
            server.control.send(EndLeg("leg", "over"))
            await asyncio.sleep(0.05)
            assert server.tidings.empty()

    asyncio.run(main())


@pytest.mark.sockets
def test_audio_may_come_in_fragments_and_a_fragmented_text_is_not_audio() -> None:
    async def main() -> None:
        async with port() as server:
            socket = await server.call()
            leg = server.legs._legs["leg"]
            assert socket._writer is not None
            transport = socket._writer.transport  # aiohttp itself sends no fragments
            transport.write(fragment(0x01, b'{"kind":', fin=False) + fragment(0x00, b'"hangUp"}', fin=True))
            transport.write(fragment(0x02, b"\1\0" * 3200, fin=False) + fragment(0x00, b"\2\0" * 3200, fin=True))
            transport.write(fragment(0x01, b'{"kind":"mark","name":"end"}', fin=True))
            told: list[str] = []
            while "mark" not in told:
                message = await socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    told.append(msgspec.json.decode(message.data)["kind"])
            assert "error" in told
            assert leg.playout.played_frames == 20
            await socket.close()

    asyncio.run(main())


def fragment(opcode: int, data: bytes, *, fin: bool) -> bytes:
    """A WebSocket frame from a client, masked with zeros."""
    size = len(data).to_bytes(2, "big") if len(data) >= 126 else b""
    first = opcode | (0x80 if fin else 0)
    return bytes([first, 0x80 | (126 if size else len(data))]) + size + bytes(4) + data


@pytest.mark.sockets
def test_closing_the_port_ends_every_party() -> None:
    async def main() -> None:
        async with port() as server:
            caller = await server.call()
            server.control.send(ExpectLeg("phone", "phone-token", 16_000))
            await asyncio.sleep(0)
            waiting = await server.session.ws_connect(server.url + PATH + "phone-token")
            closing = asyncio.create_task(server.legs.close())
            # Both at once: who does not answer the close frame in time is cut off.
            both = await asyncio.gather(texts(caller), texts(waiting))
            for socket, told in zip((caller, waiting), both, strict=True):
                assert told[-1] == {"kind": "ended", "reason": "the server stops"}
                assert socket.close_code == 1000
            await closing
            with pytest.raises(aiohttp.ClientConnectionError):
                await server.session.ws_connect(server.url + PATH + "x")

    asyncio.run(main())
