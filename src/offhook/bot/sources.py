"""What a speaker can be given to say, as frames of at most 20 ms at the stream's rate."""

from __future__ import annotations

import io
import os
import wave
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offhook.audio.pcm import Samples, as_samples, samples_per_frame
from offhook.audio.resample import resampler

Clip = bytes | bytearray | memoryview | NDArray[np.int16]
Source = Clip | str | os.PathLike[str] | AsyncIterable[Clip]

FILE_LIMIT = 64 << 20  # bytes of a WAV file that is read at once: 11 min at 48 kHz


def frames(source: Source, rate: int | None, stream_rate: int) -> AsyncGenerator[bytes, None]:
    """Return the frames of a source: mono s16le at `stream_rate` Hz, 20 ms each but the last.

    A source is PCM (bytes, or an int16 array), a WAV file (its bytes, or its path, which is read at once), or an async
    iterator of PCM in pieces of any size. `rate` is that of PCM in Hz, `stream_rate` by default; a WAV file says its
    own. Another rate is converted frame by frame, with no shift in time and the length in proportion. Raises
    ValueError for a rate without whole samples in 20 ms or outside of 8 to 48 kHz, and for a WAV file that is not
    16-bit PCM or contradicts `rate`; TypeError for anything else than a source; OSError for a file that cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            data = file.read(FILE_LIMIT + 1)
        if len(data) > FILE_LIMIT:
            raise ValueError(f"{source}: more than {FILE_LIMIT >> 20} MiB; say it as an async iterator of PCM")
        if not _is_wav(data):
            raise ValueError(f"{source}: not a WAV file")
        source = data
    pieces: AsyncIterable[Clip]
    if isinstance(source, AsyncIterable):
        pieces = source
    elif isinstance(source, bytes | bytearray | memoryview | np.ndarray):
        clip = _bytes(source)
        if _is_wav(clip):
            clip, wav_rate = _read_wav(clip)
            if rate not in (None, wav_rate):
                raise ValueError(f"rate: {rate} Hz was given, and the WAV file has {wav_rate} Hz")
            rate = wav_rate
        pieces = _once(clip)
    else:
        raise TypeError(f"{type(source).__name__}: not PCM, a WAV file, a path or an async iterator of PCM")
    rate = stream_rate if rate is None else rate
    samples_per_frame(rate)  # raises ValueError
    return _frames(pieces, rate, stream_rate)


async def _frames(pieces: AsyncIterable[Clip], rate: int, stream_rate: int) -> AsyncGenerator[bytes, None]:
    size = 2 * samples_per_frame(rate)
    convert = None if rate == stream_rate else _Converter(rate, stream_rate)
    waiting = bytearray()  # of the last piece what made no frame; a piece at most
    closing: Any = aclosing(pieces) if isinstance(pieces, AsyncGenerator) else nullcontext()
    async with closing:
        async for piece in pieces:
            waiting += _bytes(piece)
            while len(waiting) >= size:
                frame = bytes(waiting[:size])
                del waiting[:size]
                yield frame if convert is None else convert.frame(as_samples(frame))
    rest = bytes(waiting[: len(waiting) & ~1])
    for frame in [rest] if convert is None else convert.rest(as_samples(rest)):
        if frame:
            yield frame


class _Converter:
    """Resamples a source that comes in frames; what the filter delays is cut from the start and added at the end."""

    def __init__(self, rate: int, stream_rate: int) -> None:
        self._resampler = resampler(rate, stream_rate)
        self._history = self._resampler.history(1)
        self._ratio = stream_rate / rate
        self._skip = round(self._resampler.delay_ms * stream_rate / 1000)
        self._taken = 0  # samples of the source
        self._given = 0  # samples of the result

    def frame(self, samples: Samples) -> bytes:
        """Take a whole frame; the first gives a little less than one."""
        self._taken += len(samples)
        return self._process(samples)

    def rest(self, samples: Samples) -> list[bytes]:
        """Take what is left at the end, less than a frame; return all that is still to be said, in frames."""
        self._taken += len(samples)
        padding = self._resampler.samples_in - len(samples)
        silence = np.zeros(self._resampler.samples_in, np.int16)
        wanted = round(self._taken * self._ratio) - self._given
        data = self._process(np.concatenate([samples, silence[:padding]])) + self._process(silence)
        data = data[: 2 * wanted]
        size = 2 * self._resampler.samples_out
        return [data[at : at + size] for at in range(0, len(data), size)]

    def _process(self, samples: Samples) -> bytes:
        made = self._resampler.process(samples[np.newaxis], self._history)[0]
        cut = min(self._skip, len(made))
        self._skip -= cut
        self._given += len(made) - cut
        data: bytes = made[cut:].astype("<i2").tobytes()
        return data


async def _once(clip: Clip) -> AsyncGenerator[Clip, None]:
    yield clip


def _bytes(clip: Clip) -> bytes:
    if isinstance(clip, np.ndarray):
        if clip.dtype != np.int16:
            raise TypeError(f"samples of type {clip.dtype}: int16 is what is said")
        return clip.astype("<i2").tobytes()
    return bytes(clip)


def _is_wav(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def _read_wav(data: bytes) -> tuple[bytes, int]:
    """Return the PCM and the rate of a 16-bit WAV file; several channels become their mean."""
    try:
        with wave.open(io.BytesIO(data)) as wav:
            width, channels, rate = wav.getsampwidth(), wav.getnchannels(), wav.getframerate()
            pcm = wav.readframes(wav.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"the WAV file cannot be read: {error}") from None
    if width != 2:
        raise ValueError(f"the WAV file has {8 * width} bits a sample: 16 is what is said")
    if channels > 1:
        samples = as_samples(pcm[: len(pcm) // (2 * channels) * 2 * channels]).reshape(-1, channels)
        pcm = np.rint(samples.mean(axis=1)).astype("<i2").tobytes()
    return pcm, rate
