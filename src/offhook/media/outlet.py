"""Out of the matrix of a mix: what rows hear, at their own rate, as messages, packets or PCM."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from offhook.audio import g711, pcm
from offhook.audio.resample import Converter
from offhook.media.dominant import Dominant
from offhook.media.writer import Writer
from offhook.wire import websocket

if TYPE_CHECKING:
    from offhook.media.plane import Mix, Row

Samples = npt.NDArray[np.int16]


@dataclass(eq=False, slots=True)
class Feed:
    """What one row is sent: everyone else in one frame, or (`speaker`) one other row's frame as it is."""

    row: Row
    speaker: Row | None
    at: int  # the line of the mix it is taken from: a speaker's own, or a sum
    dominant: Dominant | None = None  # decides whether this speaker is among the loudest; None: always sent

    def is_sent(self) -> bool:
        """Whether what it takes is heard in this tick."""
        return self.dominant is None or self.dominant.sends(id(self.speaker))


class Outlet:
    """Feeds of one rate and kind on their way out of a mix."""

    def __init__(self, feeds: Sequence[Feed], mix_rate: int) -> None:
        rate, codec = feeds[0].row.rate, feeds[0].row.codec
        self.feeds = feeds
        self.rows = [feed.row for feed in feeds]
        self.sends = [row.sink.send for row in self.rows]
        self.chosen = any(feed.dominant is not None for feed in feeds)
        self.index = np.array([f.at for f in feeds])
        self.codec = codec
        self.bytes = pcm.bytes_per_frame(rate) if codec is None else g711.OCTETS_PER_FRAME
        self.converter = Converter(mix_rate, rate, len(feeds)) if rate != mix_rate else None
        self.writer = None if codec is None else Writer(self.rows, self.bytes)
        self.messages: websocket.AudioMessages | None = None
        if feeds[0].row.stream:
            parties = [None if feed.speaker is None else feed.speaker.party for feed in feeds]
            self.messages = websocket.AudioMessages(parties, self.bytes)

    def deliver(self, mix: Mix, stamp: bytes) -> None:
        """Send each feed its frame."""
        frames = mix.frames[self.index]
        if self.converter is not None:
            frames = self.converter(frames)
        if self.messages is not None:
            keys = os.urandom(websocket.KEY * len(self.feeds))
            self._transmit(self.messages.make(frames, stamp, ~mix.audible[self.index], keys))
        elif self.codec is not None and self.writer is not None:
            self.writer.write(self.codec.encode(frames))
        else:
            self._send(frames.tobytes())

    def seat(self, line: int, row: Row) -> None:
        """Let `row` have a line of one that has gone, which nobody else's frame was sent in as it is."""
        self.feeds[line].row = self.rows[line] = row
        self.sends[line] = row.sink.send
        if self.writer is not None:
            self.writer.seat(line, row)
        if self.converter is not None:
            self.converter.history[line] = 0

    def _send(self, data: bytes) -> None:
        for line, (row, send) in enumerate(zip(self.rows, self.sends, strict=True)):
            try:
                send(data[line * self.bytes : (line + 1) * self.bytes])
            except Exception:
                row.faults += 1

    def _transmit(self, messages: Sequence[memoryview]) -> None:
        """Write each message into its row's socket, where that can be done at once."""
        for line, row in enumerate(self.rows):
            if self.chosen and not self.feeds[line].is_sent():
                continue
            message = messages[line]
            if row.transmit is not None:
                try:
                    taken = row.transmit(message)
                except OSError:
                    taken = 0
                if taken == len(message):
                    row.sent += 1
                    continue
                message = message[taken:]
            try:
                self.sends[line](message)
            except Exception:
                row.faults += 1
