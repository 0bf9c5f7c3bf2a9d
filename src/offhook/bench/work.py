"""What the processes of a run are told, and what they answer: one JSON object each."""

from __future__ import annotations

import msgspec
import pybase64

from offhook.audio import pcm
from offhook.wire import streaming

HOST = "127.0.0.1"
MASKED_HEADER = 8  # bytes of a WebSocket frame of 126 to 65535 bytes from a client; without its mask key 4
HEADER = 4


class Ports(msgspec.Struct, frozen=True):
    """Where the app listens: a WebSocket server, and the plain TCP peer of the floor."""

    pid: int
    websocket: int
    plain: int


class Work(msgspec.Struct, frozen=True):
    """One measurement: `calls` streams of `rate` Hz, measured for `seconds` after `settle_s` of the same load.

    `live_s` is how long the streams of the sticky-delay run go before the app is stalled: a stream counts as live
    after 5 s.
    """

    rate: int
    calls: int
    seconds: float
    settle_s: float = 1.0
    live_s: float = 6.0
    ports: Ports = Ports(0, 0, 0)


class Late(msgspec.Struct, frozen=True):
    """How late slot ticks began, in milliseconds; `max` ends at 1000."""

    p50: float
    p99: float
    max: float


class Trips(msgspec.Struct, frozen=True):
    """From the caller's saying a frame to its hearing it back from the app, in milliseconds."""

    p50: float
    p99: float


class Product(msgspec.Struct, frozen=True):
    """What one run of the media worker gave.

    In the measured time: `frames_expected`, the 20 ms turns × calls; `frames_left_out`, those of them that the clock
    jumped over; `frames_sent`, messages to the app. In the whole run: `frames_lost`, what the callers said and did not
    hear back; `underruns`, times that a stream's playout ran dry.
    """

    cpu_ms_per_call_s: float
    app_cpu_ms_per_call_s: float
    late_ms: Late
    rtt_ms: Trips
    rss_kib_per_call: float
    frames_expected: int
    frames_sent: int
    frames_left_out: int
    frames_lost: int
    underruns: int


class Floor(msgspec.Struct, frozen=True):
    """What one run of the floor gave. `missed`: turns at which the echo was not there, or the socket was full."""

    cpu_ms_per_call_s: float
    app_cpu_ms_per_call_s: float
    late_ms: Late
    missed: int


class Sticky(msgspec.Struct, frozen=True):
    """Round-trip delay 1 s after a 200 ms stall of the app, minus before, in milliseconds."""

    delay_ms: float


def sizes(rate: int) -> tuple[int, int]:
    """Return the bytes that one frame takes on the socket to the app, and on its way back."""
    text = pybase64.b64encode(pcm.silence(rate))
    envelope = streaming.AudioEnvelope(None)
    to_app = b"".join((envelope.head, streaming.timestamp(0), envelope.middle, text, streaming.TAIL[0]))
    return MASKED_HEADER + len(to_app), HEADER + len(streaming.audio_data_out(pcm.silence(rate)))
