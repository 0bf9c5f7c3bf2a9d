"""The codecs that telephones speak, as a leg has them: how its row is set up, and what decodes and encodes for it.

G.711 remembers nothing, so the plane decodes and encodes it, a whole slot at a time. The others remember what was said
before: each leg decodes and encodes for itself, and its row carries PCM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offhook.audio import comfort_noise, g711, g722, opus
from offhook.audio.decoding import Decoder

G711 = {codec.name: codec for codec in (g711.PCMU, g711.PCMA)}
NAMES = (*G711, "G722", "opus")  # as SDP writes them


@dataclass(frozen=True, eq=False)
class Coding:
    """One codec at work for one leg."""

    name: str
    rate: int  # of the row, Hz
    decoder: Decoder
    encode: Callable[[bytes], bytes] | None  # PCM of one packet; None: the plane has encoded it
    batched: g711.Codec | None = None  # of a row whose frames are octets
    adapts: bool = False  # its rate can be any that a call is mixed at
    quiet_bytes: int = 0  # a payload so short says that nothing comes for a while
    noise_type: int | None = comfort_noise.PAYLOAD_TYPE  # of comfort noise; None: it has its own way to say so

    def packet_ms(self, wanted: int) -> int:
        """Return the duration of packets to send when the other side wants `wanted` ms, 10 to 60."""
        return opus.packet_ms(wanted) if self.adapts else wanted


def coding(name: str, rate: int, parameters: str = "") -> Coding:
    """Return codec `name`, new and at work; raise ValueError when there is none, or what it needs is not installed.

    `rate`: that of the call's mix, for a codec that can have any. `parameters`: the other side's a=fmtp.
    """
    if name in G711:
        return Coding(name, g711.RATE, G711[name], None, G711[name])
    if reason := missing(name):
        raise ValueError(reason)
    if name == "G722":
        return Coding(name, g722.RATE, g722.G722Decoder(), g722.G722Encoder().encode)
    encode = opus.OpusEncoder(rate, parameters).encode
    return Coding(name, rate, opus.OpusDecoder(rate), encode, None, True, opus.QUIET_BYTES, None)


def missing(name: str) -> str:
    """Return what keeps codec `name` from being spoken here; "" if nothing does."""
    if name not in NAMES:
        return f"codec {name!r}: there are {', '.join(NAMES)}"
    reason = {"G722": g722.missing, "opus": opus.missing}.get(name, str)()
    return f"codec {name}: {reason}" if reason else ""
