"""The messages that are read together: how those look that come as expected."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from offhook.media.batch import Envelope, Header
from offhook.wire import rtp
from offhook.wire.websocket import AudioTexts

Octets = npt.NDArray[np.uint8]
Frames = npt.NDArray[Any]  # samples (int16), or octets of a codec
Lines = npt.NDArray[np.intp]


class Form(Protocol):
    """How the lines of one matrix look that come as expected."""

    size: int  # octets

    def fits(self, line: int, first: Envelope | Header) -> bool:
        """Whether what comes in that line will look so; if so, that is expected from now on."""

    def next(self, line: int) -> Envelope | Header:
        """Return what is expected in that line now."""

    def alike(self, messages: Octets, lines: Lines) -> npt.NDArray[np.bool_]:
        """Return which of `messages`, of the right size, are those that are expected in `lines`."""

    def take(self, messages: Octets, lines: Lines) -> Frames:
        """Return the frames in such messages, and go on to the next ones; raise `ValueError` if one makes no sense."""


class Texts:
    """Texts with PCM in base64 in one envelope."""

    def __init__(self, envelope: Envelope, frame_bytes: int) -> None:
        self._envelope = envelope
        self._texts = AudioTexts(*envelope, frame_bytes)
        self.size = self._texts.size

    def fits(self, line: int, first: Envelope | Header) -> bool:
        return first == self._envelope

    def next(self, line: int) -> Envelope:
        return self._envelope

    def alike(self, messages: Octets, lines: Lines) -> npt.NDArray[np.bool_]:
        return self._texts.alike(messages)

    def take(self, messages: Octets, lines: Lines) -> Frames:
        return self._texts.audio(messages)


class Packets:
    """RTP packets of one codec with an octet a sample: each line has its own numbers."""

    def __init__(self, count: int, frame_bytes: int) -> None:
        self._headers = rtp.Headers(count, step=frame_bytes)
        self.size = rtp.HEADER.size + frame_bytes

    def fits(self, line: int, first: Envelope | Header) -> bool:
        if not isinstance(first, Header):
            return False
        self._headers.set(line, first.octets)
        return True

    def next(self, line: int) -> Header:
        return Header(self._headers.next(line))

    def alike(self, messages: Octets, lines: Lines) -> npt.NDArray[np.bool_]:
        return self._headers.are_on(messages, lines)

    def take(self, messages: Octets, lines: Lines) -> Frames:
        self._headers.advance(lines)
        return messages[:, rtp.HEADER.size :]
