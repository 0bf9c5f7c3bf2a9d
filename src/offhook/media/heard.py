"""Heard truth: what of the app's audio has left towards the caller. Our extension, told only to apps that ask for it.

An app asks by `streaming.HEARD_QUERY` in the query of its transport URL; without it no byte on the wire changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from offhook.audio.pcm import FRAME_MS
from offhook.audio.playout import Playout
from offhook.wire import streaming

MARKS = 1000  # that wait to be reached; one more is cancelled at once


def is_asked(url: str) -> bool:
    """Whether the app at this transport URL wants to be told."""
    return streaming.HEARD_QUERY in urlsplit(url).query.split("&")


class Heard:
    """Follows one stream's playout, to the sample, and answers marks and StopAudio by `send`."""

    def __init__(self, playout: Playout, send: Callable[[bytes], None]) -> None:
        self._playout = playout
        self._send = send
        self._marks: deque[tuple[int, str]] = deque()  # (bytes that are gone when it is reached, id)
        self._before = 0  # bytes played before this socket was opened

    def opened(self) -> None:
        """A socket was opened: what was heard is counted from here."""
        self._before = self._playout.played_bytes
        self._marks.clear()

    def mark(self, id: str) -> None:
        """The app marks the end of what it has sent so far."""
        if len(self._marks) < MARKS:
            self._marks.append((self._gone() + self._playout.queued_bytes, id))
        else:
            self._send(streaming.mark_data(id, "Cancelled"))

    def pulled(self) -> None:
        """A frame was taken: tell of the marks that it reached."""
        while self._marks and self._marks[0][0] <= self._gone():
            self._send(streaming.mark_data(self._marks.popleft()[1], "Completed"))

    def stopped(self, flushed: int) -> None:
        """StopAudio has discarded `flushed` bytes, and with them the marks among them."""
        while self._marks:
            self._send(streaming.mark_data(self._marks.popleft()[1], "Cancelled"))
        heard = self._playout.played_bytes - self._before
        self._send(streaming.heard_data(self._ms(heard), self._ms(flushed)))

    def _gone(self) -> int:
        """Bytes that left the queue to be played, or were skipped."""
        return self._playout.played_bytes + self._playout.skipped_frames * self._playout.frame_bytes

    def _ms(self, size: int) -> float:
        return size * FRAME_MS / self._playout.frame_bytes
