"""What a telephone is sent: the row's frames as packets, and digits in between."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from offhook.audio import dtmf
from offhook.audio.decoding import UNITS_PER_S
from offhook.audio.g711 import OCTETS_PER_FRAME
from offhook.audio.pcm import FRAME_MS, FRAMES_PER_SECOND
from offhook.legs import rtcp
from offhook.legs.codecs import Coding
from offhook.legs.rtp_path import Path
from offhook.media.batch import Header, Leave, Steady, alone
from offhook.wire.rtp import HEADER, MARKER, PLAIN, WORD

NO_EVENTS = "the telephone takes no telephone events"


class Packer:
    """Cuts frames of 20 ms into the packets that the other side wants. It keeps less than a packet, 60 ms, back."""

    def __init__(self, coding: Coding, packet_ms: int) -> None:
        unit = coding.decoder.unit_bytes
        self._size = packet_ms * UNITS_PER_S // 1000 * unit
        self._clock_per_byte = coding.decoder.clock / UNITS_PER_S / unit
        self._encode = coding.encode
        self._line = b""

    def packets(self, frame: bytes | memoryview) -> list[tuple[int, bytes]]:
        """Return what is complete with this frame: time stamps from the frame's beginning on, and payloads."""
        begin, size, line = len(self._line), self._size, self._line + frame
        complete = len(line) // size * size
        self._line = line[complete:]
        pieces = [(at, line[at : at + size]) for at in range(0, complete, size)]
        encode = self._encode
        return [
            (round((at - begin) * self._clock_per_byte), piece if encode is None else encode(piece))
            for at, piece in pieces
        ]

    def forget(self) -> None:
        """What is kept back is not sent any more."""
        self._line = b""


class Sender:
    """Sink of a leg's row: `offhook.media.plane.Sink`."""

    def __init__(self, path: Path, told: Callable[[str, str], None]) -> None:
        """`told` learns that the digits of an operation are out, or why they never will be."""
        self._path = path
        self._told = told
        self.ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(16)
        self._timestamp = secrets.randbits(32)
        self._step = 0  # of the time stamp, a frame
        self._packer: Packer | None = None  # None: each frame is a packet
        self._marker = MARKER  # on the first packet after none
        self._audio_type = 0
        self._dtmf_type: int | None = None
        self._digits = dtmf.DigitSender()
        self._operations: list[str] = []  # whose digits are on their way
        self._octets = 0
        self.sent = 0
        self.leave: Leave = alone  # to be called before anything changes that `steady` has said

    def encode_by(self, coding: Coding, ptime_ms: int) -> None:
        """Send audio of this codec, in packets of `ptime_ms` or what comes nearest to it."""
        packet_ms = coding.packet_ms(ptime_ms)
        self._step = coding.decoder.clock // FRAMES_PER_SECOND
        whole = packet_ms == FRAME_MS and coding.encode is None
        self._packer = None if whole else Packer(coding, packet_ms)

    def say(self, audio_type: int, dtmf_type: int | None, dtmf_rate: int = UNITS_PER_S) -> None:
        """Set the payload types of audio and telephone events, None for none, and the clock of the latter, Hz."""
        self._audio_type, self._dtmf_type = audio_type, dtmf_type
        if dtmf_type is None:
            self._digits = dtmf.DigitSender()
            self._digits_over(NO_EVENTS)
        self._digits.tick = dtmf_rate // FRAMES_PER_SECOND

    def send(self, data: bytes | memoryview) -> None:
        """Send 20 ms of what the party hears, or in its place a packet of the digit that is being sent."""
        timestamp = self._timestamp
        self._timestamp = timestamp + self._step & WORD  # also when nothing is sent
        if self._path.remote is None:
            return
        if (digit := self._digits.next(timestamp)) is not None:
            assert self._dtmf_type is not None
            self._transmit(self._dtmf_type | (MARKER if digit.marker else 0), digit.timestamp, digit.payload)
            self._marker = MARKER
            if self._packer is not None:
                self._packer.forget()
            return
        if self._operations and self._digits.done:
            self._digits_over()
        if self._packer is None:
            self._transmit(self._audio_type | self._marker, timestamp, data)
            self._marker = 0
            return
        for ahead, payload in self._packer.packets(data):
            self._transmit(self._audio_type | self._marker, timestamp + ahead & WORD, payload)
            self._marker = 0

    def steady(self, leave: Leave) -> Steady | None:
        """Say how the next packets can be sent without `send`: see `offhook.media.batch`."""
        path = self._path
        if self._packer is not None or self._marker or not self._digits.done or self._operations:
            return None
        if path.latched is None or path.srtp is not None:
            return None
        self.leave = leave
        header = HEADER.pack(PLAIN, self._audio_type, self._sequence + 1 & 0xFFFF, self._timestamp, self.ssrc)
        return Steady(path.socket.send, Header(header), self._settle)

    def close(self) -> None:
        """As `Receiver.close`."""
        self.leave()
        self._told = _unheard

    def _settle(self, due: int, sent: int) -> None:
        self._sequence = self._sequence + due & 0xFFFF
        self._timestamp = self._timestamp + due * self._step & WORD
        self._path.unsent += due - sent
        self.sent += sent
        self._octets += sent * OCTETS_PER_FRAME

    def _transmit(self, kind: int, timestamp: int, payload: bytes | memoryview) -> None:
        self._sequence = self._sequence + 1 & 0xFFFF
        if self._path.send(HEADER.pack(PLAIN, kind, self._sequence, timestamp, self.ssrc) + payload):
            self.sent += 1
            self._octets += len(payload)

    def press(self, tones: str, operation: str) -> None:
        """Send tones, and tell when they are out, or why they never will be."""
        self.leave()
        failure = ""
        if self._dtmf_type is None:
            failure = NO_EVENTS
        elif not self._digits.has_room(len(tones)):
            failure = "too many digits wait to be sent"
        if failure:
            self._told(operation, failure)
            return
        self._digits.press(tones)
        self._operations.append(operation)

    def _digits_over(self, failure: str = "") -> None:
        for operation in self._operations:
            self._told(operation, failure)
        self._operations.clear()

    def so_far(self, unix: float) -> rtcp.Sent | None:
        """Return what has been sent until now (Unix time), None when that is nothing."""
        return rtcp.Sent(rtcp.ntp(unix), self._timestamp, self.sent, self._octets) if self.sent else None


def _unheard(operation: str, failure: str) -> None:
    """What is left to be told when the leg is over."""
