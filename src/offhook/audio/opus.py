"""Opus (RFC 6716), by the system's libopus: mono, at the rate that the call is mixed at.

The RTP clock of Opus is 48 kHz whatever it is encoded from (RFC 7587), and each side chooses bandwidth, bit rate and
packet duration by itself. libopus knows best how to go on when a packet is lost, and what the silence of a sender
sounds like that sends nothing while nobody speaks.

The states of libopus lie in memory that is ours, so nothing has to be freed. What comes from the network is only ever
read by libopus, with its length.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

from offhook.audio.decoding import UNITS_PER_S, Filling
from offhook.audio.pcm import Samples, as_samples

CLOCK = 48_000
RATES = (16_000, 24_000)  # Hz, of PCM on our side
PACKET_MS = (10, 20, 40, 60)  # that we encode
QUIET_BYTES = 2  # a packet so short says that nothing comes for a while (DTX)
# A call costs the time of its encoder above all, and few bits are saved where G.711 takes 64 kbit/s.
COMPLEXITY = 1  # of 0 to 10; 10 takes six times as long
BIT_RATE = 40_000
LEAST_BIT_RATE = 6000  # of Opus
EXPECTED_LOSS = 10  # %, for a side that wants packets to say the one before again; libopus does not from 5 % down

_LIBRARY = {"darwin": "libopus.0.dylib", "win32": "opus.dll"}.get(sys.platform, "libopus.so.0")
_LONGEST = 120  # ms of a packet
_LARGEST = 1275  # bytes of a packet
_STEP = UNITS_PER_S // 400  # units: what is made up is a multiple of 2.5 ms
_FRAME = UNITS_PER_S // 50  # units that are made up at a time
_VOIP, _VOICE = 2048, 3001
_SET_BITRATE, _SET_COMPLEXITY, _SET_INBAND_FEC, _SET_PACKET_LOSS, _SET_SIGNAL = 4002, 4010, 4012, 4014, 4024


@lru_cache(maxsize=1)
def _libopus() -> ctypes.CDLL:
    """Return the library; raise OSError when there is none."""
    library = ctypes.CDLL(_LIBRARY)
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_int32
    library.opus_packet_get_nb_samples.argtypes = [ctypes.c_char_p, size, size]
    library.opus_decoder_get_size.argtypes = library.opus_encoder_get_size.argtypes = [number]
    library.opus_decoder_init.argtypes = [pointer, size, number]
    library.opus_decode.argtypes = [pointer, ctypes.c_char_p, size, pointer, number, number]
    library.opus_encoder_init.argtypes = [pointer, size, number, number]
    library.opus_encode.argtypes = [pointer, ctypes.c_char_p, number, pointer, size]
    library.opus_encoder_ctl.argtypes = [pointer, number]  # and what is set
    return library


def missing() -> str:
    """Return what keeps Opus from being spoken here; "" if nothing does."""
    try:
        _libopus()
    except OSError:
        return f"{_LIBRARY} is not installed: the package is libopus0 on Debian and Ubuntu, opus elsewhere"
    return ""


def packet_ms(wanted: int) -> int:
    """Return the duration of the packets that we encode when the other side wants `wanted` ms."""
    return max((ms for ms in PACKET_MS if ms <= wanted), default=PACKET_MS[0])


def carries_the_one_before(payload: bytes) -> bool:
    """Whether a packet of one frame says the packet before it again (in-band FEC, LBRR in RFC 6716, 4.2.3).

    The flag is behind those that say in which of the 20 ms somebody speaks. CELT has none.
    """
    if len(payload) <= QUIET_BYTES or payload[0] & 0x83:
        return False  # CELT, or several frames
    frames = (1, 1, 2, 3)[payload[0] >> 3 & 3] if payload[0] < 0x60 else 1
    mono = payload[1] >> 7 - frames & 1
    side = payload[0] >> 2 & 1 and payload[1] >> 6 - 2 * frames & 1
    return bool(mono or side)


class OpusDecoder:
    """What one telephone sends, as PCM at `rate`: see `decoding.Decoder`. Raises OSError when there is no libopus, and
    ValueError for a rate that is not in `RATES`."""

    clock = CLOCK
    stateful = True

    def __init__(self, rate: int) -> None:
        _check(rate)
        self.wide = rate // UNITS_PER_S
        self.unit_bytes = 2 * self.wide
        library = _libopus()
        self._decode = library.opus_decode
        self._samples_of = library.opus_packet_get_nb_samples
        self._state = ctypes.create_string_buffer(library.opus_decoder_get_size(1))
        library.opus_decoder_init(self._state, rate, 1)
        self._most = rate * _LONGEST // 1000
        self._pcm = ctypes.create_string_buffer(2 * self._most)
        self._view = memoryview(self._pcm)

    def duration(self, payload: bytes) -> int:
        units: int = self._samples_of(payload, len(payload), UNITS_PER_S)
        return max(units, 0)

    def open(self, payload: bytes) -> bytes:
        count = self._decode(self._state, payload, len(payload), self._pcm, self._most, 0)
        return self._said(count) if count > 0 else self.go_on(self.duration(payload))

    def recover(self, payload: bytes, units: int) -> bytes | None:
        if units != self.duration(payload) or not carries_the_one_before(payload):
            return None
        count = self._decode(self._state, payload, len(payload), self._pcm, units * self.wide, 1)
        return self._said(count) if count > 0 else None

    def go_on(self, units: int) -> bytes:
        """Return `units`, a multiple of 2.5 ms and 120 ms at most, that nothing is known of."""
        return self._said(self._decode(self._state, None, 0, self._pcm, units * self.wide, 0))

    def samples(self, line: bytes) -> Samples:
        return as_samples(line)

    def line(self, samples: Samples) -> bytes:
        return samples.tobytes()

    def filling(self, past: Samples, noise: int | None) -> Filling:
        return _GoingOn(self)

    def _said(self, samples: int) -> bytes:
        return self._view[: 2 * samples].tobytes()


class _GoingOn:
    """What libopus makes up: see `decoding.Filling`."""

    def __init__(self, decoder: OpusDecoder) -> None:
        self._decoder = decoder
        self._line = b""

    def take(self, units: int) -> Samples:
        wanted = units * self._decoder.unit_bytes
        while len(self._line) < wanted:
            missing = units - len(self._line) // self._decoder.unit_bytes
            self._line += self._decoder.go_on(min(-(-missing // _STEP) * _STEP, _FRAME))
        piece, self._line = self._line[:wanted], self._line[wanted:]
        return as_samples(piece)


class OpusEncoder:
    """What one telephone is sent, from PCM at `rate`. Raises as `OpusDecoder`.

    `parameters` are those of the other side's a=fmtp, of which `useinbandfec` and `maxaveragebitrate` are heeded.
    """

    def __init__(self, rate: int, parameters: str = "") -> None:
        _check(rate)
        library = _libopus()
        self._encode = library.opus_encode
        self._state = ctypes.create_string_buffer(library.opus_encoder_get_size(1))
        library.opus_encoder_init(self._state, rate, 1, _VOIP)
        self._packet = ctypes.create_string_buffer(_LARGEST)
        self._view = memoryview(self._packet)
        said = dict(part.strip().lower().partition("=")[::2] for part in parameters.split(";"))
        most = said.get("maxaveragebitrate", "")
        bit_rate = BIT_RATE
        if most.isdecimal() and len(most) < 8:
            bit_rate = max(min(bit_rate, int(most)), LEAST_BIT_RATE)
        fec = said.get("useinbandfec") == "1"
        for setting, value in (
            (_SET_BITRATE, bit_rate),
            (_SET_COMPLEXITY, COMPLEXITY),
            (_SET_SIGNAL, _VOICE),
            (_SET_INBAND_FEC, int(fec)),
            (_SET_PACKET_LOSS, EXPECTED_LOSS if fec else 0),
        ):
            library.opus_encoder_ctl(self._state, setting, ctypes.c_int32(value))

    def encode(self, pcm: bytes) -> bytes:
        """Return the packet of PCM whose duration is one of `PACKET_MS`; raise ValueError for another one."""
        size: int = self._encode(self._state, pcm, len(pcm) // 2, self._packet, _LARGEST)
        if size < 0:
            raise ValueError(f"Opus: {len(pcm)} bytes cannot be encoded")
        return self._view[:size].tobytes()


def _check(rate: int) -> None:
    if rate not in RATES:
        raise ValueError(f"Opus: {rate} Hz is not one of {', '.join(map(str, RATES))}")
