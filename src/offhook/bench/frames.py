"""What callers say, and how many bytes that is on each socket."""

from __future__ import annotations

import numpy as np
import pybase64

from offhook.audio import pcm
from offhook.wire import streaming

HOST = "127.0.0.1"  # everything is on loopback
NUMBERS = 255  # frames are numbered 1 to 255 in their first byte; digital silence has a 0 there
TONE_HZ = 440  # a whole number of periods in the 5.1 s of 255 frames
MASKED_HEADER = 8  # bytes of a WebSocket frame of 126 to 65535 bytes from a client; without its mask key 4
HEADER = 4


def numbered_frames(rate: int) -> list[bytes]:
    """Return `NUMBERS` frames of a tone, each with its number in its first byte."""
    samples = pcm.tone(TONE_HZ, rate, NUMBERS * pcm.FRAME_MS / 1000)
    frames = [frame.tobytes() for frame in np.split(samples.astype("<i2"), NUMBERS)]
    return [bytes([number]) + frame[1:] for number, frame in enumerate(frames, 1)]


def sizes(rate: int) -> tuple[int, int]:
    """Return the bytes that one frame takes on the socket to the app, and on its way back."""
    text = pybase64.b64encode(pcm.silence(rate))
    envelope = streaming.AudioEnvelope(None)
    to_app = b"".join((envelope.head, streaming.timestamp(0), envelope.middle, text, streaming.TAIL[0]))
    return MASKED_HEADER + len(to_app), HEADER + len(streaming.audio_data_out(pcm.silence(rate)))
