"""The reference apps, driven through a MediaStream whose socket is the test."""

import asyncio
import json
import wave
from base64 import b64decode
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offhook.bot import Handler, MediaStream
from offhook.bot.apps import RECORD_FILES, TONE_HZ, echo, record, tone
from offhook.wire.streaming import AudioData, AudioMetadata

RATE = 16_000
METADATA = AudioMetadata(subscription_id="s", encoding="PCM", sample_rate=RATE, channels=1, length=640)


class Sent:
    """The transport of a stream: all that an app sends, as PCM."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.frames.append(b64decode(json.loads(message)["AudioData"]["Data"]))

    def unsent(self) -> int:
        return 0

    def close(self, code: int, reason: str) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


def frame(pcm: bytes, who: str | None = None) -> AudioData:
    return AudioData(timestamp="", participant_raw_id=who, pcm=pcm, silent=not pcm)


def with_app(
    app: Handler, test: Callable[[MediaStream, Sent], Coroutine[Any, Any, None]], call: str = "c-1"
) -> MediaStream:
    async def run() -> MediaStream:
        sent = Sent()
        stream = MediaStream(sent, METADATA, {"x-ms-call-connection-id": call}, "/")
        handling = asyncio.ensure_future(app(stream))
        await asyncio.sleep(0)
        await test(stream, sent)
        stream.end()
        await handling
        return stream

    return asyncio.run(run())


def test_echo_answers_within_the_receive_callback() -> None:
    async def test(stream: MediaStream, sent: Sent) -> None:
        stream.feed(METADATA)
        stream.feed(frame(b"ab"))
        stream.feed(frame(b"cd"))
        assert sent.frames == [b"ab", b"cd"]

    with_app(echo, test)


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def test_tone_is_a_clean_sine_in_real_time_that_skips_a_stall() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        sent = Sent()
        stream = MediaStream(sent, METADATA, {}, "/")
        playing = asyncio.create_task(tone(stream))
        await asyncio.sleep(2.01)
        assert len(sent.frames) == 101  # one at once, then fifty a second
        loop._now += 30.0
        await asyncio.sleep(1.0)
        assert len(sent.frames) <= 101 + 53  # the thirty seconds are not made up for
        stream.end()
        await playing
        pcm = np.frombuffer(b"".join(sent.frames[: 2 * 50]), "<i2").astype(float)
        spectrum = np.abs(np.fft.rfft(pcm)) / len(pcm)
        assert spectrum.argmax() == TONE_HZ * 2
        spectrum[TONE_HZ * 2] = 0
        assert spectrum.max() < 1  # no click where the frames meet or the second repeats

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(run())


def read(path: Path) -> bytes:
    with wave.open(str(path), "rb") as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (1, 2, RATE)
        return wav.readframes(wav.getnframes())


def test_record_writes_each_participant_to_its_own_file(tmp_path: Path) -> None:
    async def test(stream: MediaStream, _: Sent) -> None:
        stream.feed(frame(b"ab", "4:+15550100"))
        stream.feed(frame(b"cd", "8:acs:x_y"))
        stream.feed(frame(b"ef", "4:+15550100"))

    with_app(record(tmp_path / "new"), test)
    assert read(tmp_path / "new" / "c-1-4_+15550100.wav") == b"abef"
    assert read(tmp_path / "new" / "c-1-8_acs_x_y.wav") == b"cd"


def test_record_keeps_the_time_of_silence_sent_without_samples(tmp_path: Path) -> None:
    async def test(stream: MediaStream, _: Sent) -> None:
        for pcm in (b"ab", b"", b"cd"):
            stream.feed(frame(pcm))

    with_app(record(tmp_path), test)
    assert read(tmp_path / "c-1.wav") == b"ab" + bytes(640) + b"cd"


def test_a_recording_is_whole_after_each_second_should_the_recorder_be_killed(tmp_path: Path) -> None:
    second = bytes(range(250)) * (RATE * 2 // 250)

    async def test(stream: MediaStream, _: Sent) -> None:
        stream.feed(frame(second))
        stream.feed(frame(second))
        path = tmp_path / "c-1.wav"
        for _i in range(30_000):
            await asyncio.sleep(0.001)
            if path.exists() and path.stat().st_size > 44 and len(read(path)) == 2 * len(second):  # 44: the header
                return
        pytest.fail("nothing was written while the call lasted")

    with_app(record(tmp_path), test)


def test_a_recording_never_replaces_another_and_stays_in_its_directory(tmp_path: Path) -> None:
    async def test(stream: MediaStream, _: Sent) -> None:
        stream.feed(frame(b"ab"))

    for _i in range(2):
        with_app(record(tmp_path / "out"), test, call="../../etc/x")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_etc_x-2.wav", "_etc_x.wav"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_record_opens_a_bounded_number_of_files(tmp_path: Path) -> None:
    async def test(stream: MediaStream, _: Sent) -> None:
        for number in range(RECORD_FILES + 5):
            stream.feed(frame(b"ab", f"8:acs:{number}"))

    with_app(record(tmp_path), test)
    assert len(list(tmp_path.iterdir())) == RECORD_FILES
