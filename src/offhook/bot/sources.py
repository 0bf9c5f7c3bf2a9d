"""What a speaker can be given to say, as frames of at most 20 ms at the stream's rate."""

from __future__ import annotations

import io
import os
import wave
from array import array
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, nullcontext
from typing import Any, TypeAlias

from offhook.audio.either import frame_resampler
from offhook.audio.frames import FRAMES_PER_SECOND, bytes_per_frame
from offhook.audio.plain import half_width
from offhook.bot.pcm import Pcm, pcm_bytes

Source: TypeAlias = "Pcm | str | os.PathLike[str] | AsyncIterable[Pcm]"

FILE_LIMIT = 64 << 20  # bytes of a WAV file that is read at once: 11 min at 48 kHz


def frames(source: Source, rate: int | None, stream_rate: int) -> AsyncGenerator[bytes, None]:
    """Return the frames of a source: mono s16le at `stream_rate` Hz, 20 ms each but the last.

    A source is PCM (bytes, or an array of int16), a WAV file (its bytes, or its path, which is read at once), or an
    async iterator of PCM in pieces of any size. `rate` is that of PCM in Hz, `stream_rate` by default; a WAV file says
    its own, and several channels become their mean. Another rate is converted frame by frame, with no shift in time and
    the length in proportion. Raises ValueError for a rate without whole samples in 20 ms or outside of 8 to 48 kHz, and
    for a WAV file that is not 16-bit PCM or contradicts `rate`; TypeError for anything else than a source; OSError for
    a file that cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            data = file.read(FILE_LIMIT + 1)
        if len(data) > FILE_LIMIT:
            raise ValueError(f"{source}: more than {FILE_LIMIT >> 20} MiB; say it as an async iterator of PCM")
        if not _is_wav(data):
            raise ValueError(f"{source}: not a WAV file")
        source = data
    if isinstance(source, AsyncIterable):
        pieces = source
    else:
        clip, channels = pcm_bytes(source), 1
        if _is_wav(clip):
            clip, channels, wav_rate = _read_wav(clip)
            if rate not in (None, wav_rate):
                raise ValueError(f"rate: {rate} Hz was given, and the WAV file has {wav_rate} Hz")
            rate = wav_rate
        pieces = _once(clip) if channels == 1 else _mixed_down(clip, channels, rate or stream_rate)
    rate = stream_rate if rate is None else rate
    bytes_per_frame(rate)  # raises ValueError
    return _frames(pieces, rate, stream_rate)


async def _frames(pieces: AsyncIterable[Pcm], rate: int, stream_rate: int) -> AsyncGenerator[bytes, None]:
    size = bytes_per_frame(rate)
    convert = None if rate == stream_rate else _Converter(rate, stream_rate)
    waiting = bytearray()  # of the last piece what made no frame; a piece at most
    closing: Any = aclosing(pieces) if isinstance(pieces, AsyncGenerator) else nullcontext()
    async with closing:
        async for piece in pieces:
            waiting += pcm_bytes(piece)
            while len(waiting) >= size:
                frame = bytes(waiting[:size])
                del waiting[:size]
                yield frame if convert is None else convert.frame(frame)
    rest = bytes(waiting[: len(waiting) & ~1])
    for frame in [rest] if convert is None else convert.rest(rest):
        if frame:
            yield frame


class _Converter:
    """Resamples a source that comes in frames; what the filter delays is cut from the start and added at the end."""

    def __init__(self, rate: int, stream_rate: int) -> None:
        self._size_in, self._size_out = bytes_per_frame(rate), bytes_per_frame(stream_rate)
        self._resample = frame_resampler(rate, stream_rate)
        self._ratio = stream_rate / rate
        self._skip = 2 * round(half_width(rate, stream_rate) * self._ratio)  # bytes of the result
        self._taken = 0  # bytes of the source
        self._given = 0  # bytes of the result

    def frame(self, pcm: bytes) -> bytes:
        """Take a whole frame; the first gives a little less than one."""
        self._taken += len(pcm)
        made = self._resample(pcm)
        cut = min(self._skip, len(made))
        self._skip -= cut
        self._given += len(made) - cut
        return made[cut:]

    def rest(self, pcm: bytes) -> list[bytes]:
        """Take what is left at the end, less than a frame; return all that is still to be said, in frames."""
        wanted = 2 * round((self._taken + len(pcm)) // 2 * self._ratio) - self._given
        data = (self.frame(pcm.ljust(self._size_in, b"\0")) + self.frame(bytes(self._size_in)))[:wanted]
        return [data[at : at + self._size_out] for at in range(0, len(data), self._size_out)]


async def _once(clip: bytes) -> AsyncGenerator[bytes, None]:
    yield clip


async def _mixed_down(pcm: bytes, channels: int, rate: int) -> AsyncGenerator[bytes, None]:
    """The mean of some channels, 20 ms at a time: a long recording does not hold the event loop."""
    size = 2 * channels * (rate // FRAMES_PER_SECOND)
    for at in range(0, len(pcm), size):
        samples = memoryview(pcm)[at : at + size].cast("h").tolist()
        together = zip(*(samples[channel::channels] for channel in range(channels)), strict=True)
        yield array("h", [round(sum(values) / channels) for values in together]).tobytes()


def _is_wav(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def _read_wav(data: bytes) -> tuple[bytes, int, int]:
    """Return the PCM, the number of channels and the rate of a 16-bit WAV file."""
    try:
        with wave.open(io.BytesIO(data)) as wav:
            width, channels, rate = wav.getsampwidth(), wav.getnchannels(), wav.getframerate()
            pcm = wav.readframes(wav.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"the WAV file cannot be read: {error}") from None
    if width != 2:
        raise ValueError(f"the WAV file has {8 * width} bits a sample: 16 is what is said")
    return pcm[: len(pcm) // (2 * channels) * 2 * channels], channels, rate
