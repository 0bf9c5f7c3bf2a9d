"""serve() over real sockets: upgrade, messages both ways, bounds and endings."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable

import picows
import pytest
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from offhook.bot import AudioData, AudioMetadata, Handler, MediaStream, Server, serve
from offhook.bot.server import MESSAGE_LIMIT

pytestmark = pytest.mark.sockets

METADATA = (
    b'{"kind":"AudioMetadata","audioMetadata":'
    b'{"subscriptionId":"s","encoding":"PCM","sampleRate":24000,"channels":1,"length":960}}'
)


def audio(pcm: bytes) -> bytes:
    data = {"timestamp": "2024-11-15T19:16:12.925Z", "data": b64encode(pcm).decode(), "silent": False}
    return json.dumps({"kind": "AudioData", "audioData": data}).encode()


class Service(WSListener):
    """The server that dials us, as far as a test needs one."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            self.received.put_nowait(json.loads(frame.get_payload_as_bytes()))

    def send(self, message: bytes, kind: WSMsgType = WSMsgType.TEXT, fin: bool = True) -> None:
        assert self.transport is not None
        self.transport.send(kind, message, fin)

    async def close_code(self) -> int:
        """What the other side closed with."""
        assert self.transport is not None
        await self.transport.wait_disconnected()
        assert self.transport.close_handshake.recv is not None
        code: WSCloseCode = self.transport.close_handshake.recv.code
        return code.value


async def dial(url: str) -> Service:
    headers = {"X-Ms-Call-Connection-Id": "c-1", "x-ms-call-correlation-id": "r-1", "Authorization": "Bearer t"}
    _, listener = await picows.ws_connect(Service, url, extra_headers=headers, max_redirects=0)
    assert isinstance(listener, Service)
    return listener


def with_server(handler: Handler, test: Callable[[Server], Awaitable[None]], path: str | None = None) -> None:
    async def run() -> None:
        async with await serve(handler, path=path) as server, asyncio.timeout(60):
            await test(server)

    asyncio.run(run())


async def echo(stream: MediaStream) -> None:
    async for message in stream:
        if isinstance(message, AudioData):
            await stream.send_audio(message.pcm)


def test_a_handler_hears_speaks_and_knows_the_call() -> None:
    seen: list[str | int] = []

    async def handler(stream: MediaStream) -> None:
        seen.extend((stream.call_connection_id, stream.correlation_id, stream.headers["authorization"], stream.path))
        seen.append(stream.metadata.sample_rate)
        await echo(stream)

    async def test(server: Server) -> None:
        service = await dial(server.url + "any/path?key=1")
        service.send(METADATA)
        service.send(audio(b"abcd"))
        answer = await service.received.get()
        assert answer["Kind"] == "AudioData"
        assert seen == ["c-1", "r-1", "Bearer t", "/any/path?key=1", 24_000]
        assert len(server.streams) == 1

    with_server(handler, test)


def test_fragments_and_binary_messages_are_read() -> None:
    async def test(server: Server) -> None:
        service = await dial(server.url)
        service.send(METADATA, WSMsgType.BINARY)
        message = audio(b"abcd")
        service.send(message[:10], WSMsgType.TEXT, fin=False)
        service.send(message[10:20], WSMsgType.CONTINUATION, fin=False)
        service.send(message[20:], WSMsgType.CONTINUATION)
        assert (await service.received.get())["Kind"] == "AudioData"

    with_server(echo, test)


@pytest.mark.parametrize("fragments", [1, 3])
def test_a_message_over_the_limit_closes_its_connection_only(fragments: int) -> None:
    async def test(server: Server) -> None:
        hostile, other = await dial(server.url), await dial(server.url)
        size = MESSAGE_LIMIT // fragments + 1
        for number in range(fragments):
            kind = WSMsgType.CONTINUATION if number else WSMsgType.TEXT
            hostile.send(b"x" * size, kind, fin=number == fragments - 1)
        assert await hostile.close_code() == WSCloseCode.MESSAGE_TOO_BIG.value
        other.send(METADATA)
        other.send(audio(b"ab"))
        await other.received.get()

    with_server(echo, test)


def test_what_cannot_be_read_is_ignored_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: Server) -> None:
        service = await dial(server.url)
        for message in (b"{", b"[]", METADATA, b"not json", audio(b"ab")):
            service.send(message)
        await service.received.get()

    with_server(echo, test)
    assert sum("cannot be read" in record.message for record in caplog.records) == 1


def test_audio_before_any_metadata_tells_the_rate_by_its_length() -> None:
    found: asyncio.Queue[AudioMetadata] = asyncio.Queue()

    async def handler(stream: MediaStream) -> None:
        found.put_nowait(stream.metadata)

    async def test(server: Server) -> None:
        service = await dial(server.url)
        service.send(b'{"kind":"DtmfData","dtmfData":{"data":"3"}}')
        service.send(audio(bytes(640)))
        metadata = await found.get()
        assert (metadata.sample_rate, metadata.length) == (16_000, 640)

    with_server(handler, test)


@pytest.mark.parametrize(
    ("old", "new"), [(b"24000", b"0"), (b"24000", b"1000000000"), (b'"channels":1', b'"channels":2')]
)
def test_a_stream_of_impossible_audio_is_refused(old: bytes, new: bytes) -> None:
    async def test(server: Server) -> None:
        service = await dial(server.url)
        service.send(METADATA.replace(old, new))
        assert await service.close_code() == WSCloseCode.UNSUPPORTED_DATA.value
        assert not server.streams

    with_server(echo, test)


def test_only_the_given_path_is_served() -> None:
    async def test(server: Server) -> None:
        assert server.url.endswith("/audio")
        await dial(server.url + "?key=1")
        with pytest.raises(picows.WSHandshakeError) as refused:
            await dial(server.url + "/other")
        assert refused.value.response is not None
        assert refused.value.response.status == 404

    with_server(echo, test, path="/audio")


@pytest.mark.parametrize(("fails", "code"), [(False, 1000), (True, 1011)])
def test_the_stream_is_closed_when_its_handler_ends(fails: bool, code: int, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(stream: MediaStream) -> None:
        if fails:
            raise RuntimeError("a fault in the app")

    async def test(server: Server) -> None:
        service = await dial(server.url)
        service.send(METADATA)
        assert await service.close_code() == code

    with_server(handler, test)
    assert ("a fault in the app" in caplog.text) is fails


def test_a_speaker_whose_call_has_ended_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def handler(stream: MediaStream) -> None:
        try:
            while True:
                await stream.send_audio(bytes(960))
                await asyncio.sleep(0)
        finally:
            ended.set()

    async def test(server: Server) -> None:
        service = await dial(server.url)
        service.send(METADATA)
        await service.received.get()
        assert service.transport is not None
        service.transport.send_close(WSCloseCode.OK)
        await ended.wait()
        await service.transport.wait_disconnected()

    with_server(handler, test)
    assert "failed" not in caplog.text


def test_close_ends_streams_with_1001_and_cancels_handlers_that_do_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.bot.server.HANDLER_TIMEOUT_S", 0.0)
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def handler(stream: MediaStream) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def run() -> None:
        server = await serve(handler)
        talking, mute = await dial(server.url), await dial(server.url)
        talking.send(METADATA)
        await started.wait()
        await server.close()
        assert cancelled.is_set()
        assert await talking.close_code() == 1001
        assert await mute.close_code() == 1001
        with pytest.raises(ConnectionRefusedError):
            await dial(server.url)

    asyncio.run(run())


def test_a_socket_whose_other_side_does_not_answer_a_close_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.bot.server.CLOSE_TIMEOUT_S", 0.0)

    class Deaf(Service):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            pass

    async def test(server: Server) -> None:
        transport, listener = await picows.ws_connect(Deaf, server.url, max_redirects=0)
        assert isinstance(listener, Deaf)
        listener.send(METADATA)
        await transport.wait_disconnected()  # the handler has ended; we never said goodbye

    async def handler(stream: MediaStream) -> None:
        pass

    with_server(handler, test)


def test_a_close_without_a_code_is_answered_with_one() -> None:
    async def test(server: Server) -> None:
        service = await dial(server.url)
        service.send(METADATA)
        service.send(b"", WSMsgType.CLOSE)
        assert await service.close_code() == 1000

    with_server(echo, test)
