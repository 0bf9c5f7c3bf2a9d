"""What `offhook.bot` raises of its own."""

from __future__ import annotations


class StreamClosed(ConnectionError):
    """The stream has ended: nothing can be said into it any more."""
