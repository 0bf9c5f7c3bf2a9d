"""What a media worker remembers for control, so that a control process that is killed can be replaced by another.

The worker understands nothing of it. It stores values under keys (what they are: `server.adoption`), and the tidings
that no control process has handled yet. Whoever connects next is told all of it, and goes on from there:

* `Commit` is one step of control, all or nothing. A step that control did not live to send was never taken: no order of
  it was carried out, and its tiding is told again.
* A tiding is forgotten when a `Commit` says that it was handled, and not before.

Nothing here runs in a tick: storing is a dictionary entry a step, and a call takes some ten steps in its life.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import structs

from offhook.media.link import Act, Commit, Link, Order
from offhook.media.tidings import UNCOUNTED, Kept, KeptAll, SpeechEnded, StreamOddity, Tiding, Welcome

UNHANDLED = 10_000  # tidings; at some ten a call, a control process may be away for a thousand calls' lives
SPEECH_LIMIT = 8 << 20  # bytes of what callers said, in tidings not handled yet: half of what the link holds


class Keeping:
    """The worker's end of the links to control, which come and go; the worker sends and receives here all the while.

    Bounds: `UNHANDLED` tidings. When there are more, the oldest `StreamOddity` goes, else the oldest tiding, and `lost`
    counts. `SPEECH_LIMIT`: what more is said is told without its audio. How many values there are is up to control,
    which holds all of them itself: each of its calls and phones, and each event on its way.
    """

    def __init__(self, welcome: Welcome) -> None:
        self.lost = 0
        self._welcome = welcome
        self._link: Link | None = None
        self._next: Link | None = None
        self._receive: Callable[[Any], None] | None = None
        self._kept: dict[str, bytes] = {}
        self._told = 0  # tidings over this link
        self._unhandled: deque[tuple[int, Tiding]] = deque()  # each with its number on this link

    # ------------------------------------------------------------------------------------------ the worker's side

    def send(self, tiding: Tiding) -> None:
        """Tell control, or whoever comes after it."""
        if isinstance(tiding, SpeechEnded) and self._speech() + len(tiding.pcm) > SPEECH_LIMIT:
            tiding = structs.replace(tiding, pcm=b"")
        if not isinstance(tiding, UNCOUNTED):
            self._remember(tiding)
        if self._link is not None:
            self._link.send(tiding)

    def on_receive(self, receive: Callable[[Any], None]) -> None:
        """Set who gets the orders."""
        self._receive = receive

    # ------------------------------------------------------------------------------------------ the link's side

    def connect(self, link: Link) -> None:
        """Control is there, for the first time or again: tell it everything, and take its orders from now on.

        Not before the link that was there is lost: a control process that was killed may have taken a step whose
        `Commit` is still to be read.
        """
        if self._link is not None:
            self._next = link
            return
        self._link, self._next = link, None
        link.send(self._welcome)
        for key, value in self._kept.items():
            link.send(Kept(key, value))
        link.send(KeptAll())
        self._unhandled = deque((number, tiding) for number, (_, tiding) in enumerate(self._unhandled, 1))
        self._told = len(self._unhandled)
        for _, tiding in self._unhandled:
            link.send(tiding)
        link.on_lost(self._on_lost)
        link.on_receive(self._on_order)

    def _on_lost(self) -> None:
        self._link = None
        if self._next is not None:
            self.connect(self._next)

    def _on_order(self, order: Order) -> None:
        if not isinstance(order, Commit):
            self._carry_out((order,))
            return
        self._kept.update(order.put)
        for key in order.delete:
            self._kept.pop(key, None)
        while self._unhandled and self._unhandled[0][0] <= order.seen:
            self._unhandled.popleft()
        self._carry_out(order.orders)

    def _carry_out(self, orders: tuple[Act | Order, ...]) -> None:
        """Hand the orders over. One that fails costs the others nothing; the errors are raised after the last."""
        assert self._receive is not None
        errors = []
        for order in orders:
            try:
                self._receive(order)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("orders that could not be carried out", errors)

    def _speech(self) -> int:
        """Return how many bytes of speech control has not handled."""
        return sum(len(tiding.pcm) for _, tiding in self._unhandled if isinstance(tiding, SpeechEnded))

    def _remember(self, tiding: Tiding) -> None:
        if len(self._unhandled) >= UNHANDLED:
            odd = next((entry for entry in self._unhandled if isinstance(entry[1], StreamOddity)), self._unhandled[0])
            self._unhandled.remove(odd)
            self.lost += 1
        self._told += 1
        self._unhandled.append((self._told, tiding))
