"""Reference apps: what the other end of a call's audio does in tests, in benchmarks and behind `offhook bot`.

Each is a handler for `serve`: `echo` and `tone` as they are, `record(directory)` makes one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import wave
from array import array
from contextlib import ExitStack
from functools import lru_cache
from math import pi, sin
from pathlib import Path
from typing import IO

from offhook.bot.connection import Handler
from offhook.bot.messages import Message
from offhook.bot.stream import MediaStream
from offhook.wire.streaming import AudioData

TONE_HZ = 440
TONE_PEAK = 8_192  # 12 dB below full scale
FRAMES_PER_S = 50
STALL_S = 1.0  # when the tone is later than this it goes on from now: catching up would only pile up delay

RECORD_FILES = 64  # per connection: more participants than that are not recorded
_WAV_BYTES = (4 << 30) - 4096  # what the 32-bit sizes of a WAV header can say: a day of 24 kHz

_log = logging.getLogger(__name__)


async def echo(stream: MediaStream) -> None:
    """Send each frame back as it comes, from within the receive callback: a silent frame too, so that counts agree."""

    def back(message: Message) -> None:
        if isinstance(message, AudioData):
            stream.send_audio_nowait(message.pcm)

    await stream.deliver(back)


async def tone(stream: MediaStream) -> None:
    """Play a 440 Hz sine in real time, one frame every 20 ms by absolute deadlines, and ignore what is heard."""
    pacing = asyncio.create_task(_play_tone(stream))
    try:
        await stream.deliver(lambda _: None)
    finally:
        pacing.cancel()


async def _play_tone(stream: MediaStream) -> None:
    frames = _tone(stream.metadata.sample_rate)
    clock = asyncio.get_running_loop().time
    deadline, at = clock(), 0
    while stream.send_audio_nowait(frames[at]) or not stream.closed:
        at = (at + 1) % FRAMES_PER_S
        deadline += 1 / FRAMES_PER_S
        if clock() > deadline + STALL_S:
            deadline = clock()
        await asyncio.sleep(deadline - clock())


@lru_cache(maxsize=8)
def _tone(rate: int) -> list[bytes]:
    """A second in frames. It holds a whole number of periods, so they can be repeated for ever."""
    second = array("h", [round(TONE_PEAK * sin(2 * pi * TONE_HZ * at / rate)) for at in range(rate)]).tobytes()
    size = len(second) // FRAMES_PER_S
    return [second[at : at + size] for at in range(0, len(second), size)]


def record(directory: Path) -> Handler:
    """A handler that writes what it hears to `directory`, made if missing: one mono WAV per connection and participant.

    Files are `<call connection id>.wav` for a mixed stream, `<call connection id>-<participant>.wav` for an unmixed
    one, with a number where that name is taken. About a second is written at a time, off the event loop, and the header
    is right after each, so a killed recorder loses no more. Only the disk bounds how much is written in all; one file
    ends at 4 GiB, about a day, and 64 participants of a connection are recorded.
    """
    directory.mkdir(parents=True, exist_ok=True)

    async def recorder(stream: MediaStream) -> None:
        recording = _Recording(directory, stream)
        try:
            async for message in stream:
                if isinstance(message, AudioData) and recording.hear(message):
                    await asyncio.to_thread(recording.write)
        finally:
            await asyncio.to_thread(recording.close)

    return recorder


class _Recording:
    """The files of one connection, and what is not yet in them: at most a second of each participant."""

    def __init__(self, directory: Path, stream: MediaStream) -> None:
        self._directory = directory
        self._call = _file_name(stream.call_connection_id or "call")
        self._rate = stream.metadata.sample_rate
        self._frame = bytes(self._rate // FRAMES_PER_S * 2)
        self._heard: dict[str | None, bytearray] = {}
        self._files: dict[str | None, tuple[wave.Wave_write, IO[bytes]]] = {}
        self._open_files = ExitStack()

    def hear(self, frame: AudioData) -> bool:
        """Keep a frame; True when it is time to `write`."""
        who = frame.participant_raw_id
        if who not in self._heard:
            if len(self._heard) == RECORD_FILES:
                return False
            self._heard[who] = bytearray()
        # A frame of silence may come without samples (contract 4.2): its time still passes.
        self._heard[who] += frame.pcm or self._frame
        return len(self._heard[who]) >= self._rate * 2

    def write(self) -> None:
        """Append what was heard, and make the files whole as they stand."""
        for who, heard in self._heard.items():
            if heard:
                wav, file = self._files.get(who) or self._open(who)
                room = _WAV_BYTES - wav.tell() * 2
                wav.writeframes(bytes(heard[: max(0, room)]))
                file.flush()
                heard.clear()

    def close(self) -> None:
        """Write the rest; the files are closed even when the disk is full."""
        with self._open_files:
            self.write()

    def _open(self, who: str | None) -> tuple[wave.Wave_write, IO[bytes]]:
        name = self._call if who is None else f"{self._call}-{_file_name(who)}"
        file = self._open_files.enter_context(_create(self._directory, name))
        _log.info("recording to %s", file.name)
        wav = self._open_files.enter_context(wave.Wave_write(file))
        wav.setparams((1, 2, self._rate, 0, "NONE", "not compressed"))
        self._files[who] = wav, file
        return wav, file


def _create(directory: Path, name: str) -> IO[bytes]:
    """A new file of that name, or of that name and a number: a recording never replaces another."""
    number = 1
    while True:
        try:
            return (directory / (f"{name}.wav" if number == 1 else f"{name}-{number}.wav")).open("xb")
        except FileExistsError:
            number += 1


def _file_name(text: str) -> str:
    """An id from the network as part of a file name: no separators, no leading dot, of bounded length."""
    return re.sub(r"[^A-Za-z0-9+_-]+", "_", text)[:100]
