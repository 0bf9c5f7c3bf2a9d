"""A handler without a socket."""

import asyncio

import pytest

from offhook.bot import AudioData, DtmfData, MediaStream, Message, apps
from offhook.bot.memory import MemorySocket
from offhook.testing import clock
from offhook.wire import streaming

TONE = bytes(range(256)) * 10  # four frames at 16 kHz


def test_what_the_caller_says_comes_back_from_an_echo() -> None:
    async def main() -> None:
        async with MemorySocket(apps.echo, rate=16_000) as service:
            await asyncio.sleep(0)
            service.audio(TONE)
            assert service.heard == TONE
            assert service.messages[0] == streaming.audio_data_out(TONE[:640])

    clock.run(main())


def test_the_handler_sees_what_a_socket_would_give_it() -> None:
    seen: list[Message | str] = []

    async def handler(stream: MediaStream) -> None:
        seen.extend((stream.call_connection_id, stream.path))
        seen.extend([message async for message in stream])
        seen.append("ended")

    async def main() -> None:
        headers = {"X-Ms-Call-Connection-Id": "c-1"}
        async with MemorySocket(handler, rate=24_000, path="/a?b", headers=headers) as service:
            service.dtmf("7")
            service.audio(bytes(960) + b"\1", participant="8:acs:x")
            service.receive("nonsense")

    clock.run(main())
    assert seen[:2] == ["c-1", "/a?b"]
    assert seen[3] == DtmfData("7")
    silence, sound = seen[4:6]
    assert isinstance(silence, AudioData)
    assert isinstance(sound, AudioData)
    assert (silence.silent, len(silence.pcm), silence.participant_raw_id) == (True, 960, "8:acs:x")
    assert (sound.silent, len(sound.pcm)) == (False, 960)
    assert seen[6:] == ["ended"]


@pytest.mark.parametrize(("fails", "code"), [(False, 1000), (True, 1011)])
def test_the_app_closes_when_its_handler_ends(fails: bool, code: int, caplog: pytest.LogCaptureFixture) -> None:
    closed: list[int] = []

    async def handler(stream: MediaStream) -> None:
        stream.stop_audio()
        if fails:
            raise RuntimeError("a fault in the app")

    async def main() -> None:
        async with MemorySocket(handler, rate=16_000, on_close=closed.append) as service:
            await service.wait_closed()
            service.audio(TONE)  # nobody is there any more
            assert (service.close_code, service.stops) == (code, 1)

    clock.run(main())
    assert closed == [code]
    assert ("a fault in the app" in caplog.text) is fails


def test_a_handler_that_does_not_return_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def handler(stream: MediaStream) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def main() -> None:
        async with MemorySocket(handler, rate=16_000):
            await asyncio.sleep(0)
        assert cancelled.is_set()
        assert asyncio.get_running_loop().time() == pytest.approx(5.0)

    clock.run(main())


def test_audio_that_cannot_be_is_refused() -> None:
    async def main() -> None:
        async with MemorySocket(apps.echo) as service:
            service.receive(streaming.audio_metadata("s", 16_000).replace(b"16000", b"1000000"))
            assert service.close_code == 1003
            assert service.stream is None

    clock.run(main())


def test_a_transcription_socket_reaches_the_handler() -> None:
    texts: list[str] = []

    async def handler(stream: MediaStream) -> None:
        async for message in stream:
            texts.append(type(message).__name__)

    async def main() -> None:
        async with MemorySocket(handler) as service:
            service.receive('{"kind":"TranscriptionMetadata","transcriptionMetadata":{"subscriptionId":"s"}}')
            service.receive('{"kind":"TranscriptionData","transcriptionData":{"text":"hello."}}')
            assert service.stream is not None
            assert service.stream.metadata.sample_rate == 0

    clock.run(main())
    assert texts == ["TranscriptionMetadata", "TranscriptionData"]


def test_marks_of_the_app_come_back_to_it_and_what_was_heard_does_not() -> None:
    got: list[Message] = []

    async def handler(stream: MediaStream) -> None:
        stream.send_mark("mine")
        got.extend([message async for message in stream])

    async def main() -> None:
        async with MemorySocket(handler, rate=16_000) as service:
            await asyncio.sleep(0)
            assert service.messages == [streaming.mark_data_out("mine")]
            service.receive(streaming.mark_data("mine", "Completed"))
            service.receive(streaming.heard_data(0, 0))

    clock.run(main())
    assert got[1:] == [streaming.MarkData("mine", "Completed")]
