"""What a session needs to go on in another process, when the one that it was in was killed."""

from __future__ import annotations

import msgspec

from offhook.legs.sip.dialog import Dialog
from offhook.legs.sip.uri import parse_address, parse_uri

SKIPPED = 1_000
"""Sequence numbers that a resumed dialog leaves out. Requests that need no other memento (a refresh of the session
timer, INFO) have taken some since it was made; RFC 3261 section 12.2.2 has the other side take any that is higher."""


class Place(msgspec.Struct, frozen=True):
    """Where a phone has registered: a `registrar.Binding`. `expires_at`: by the machine's monotonic clock, which all
    processes share, as the loop's time. `source`: None over TCP and TLS."""

    contact: str
    source: tuple[str, int] | None
    expires_at: float
    call_id: str
    seq: int


class Ringing(msgspec.Struct, frozen=True, tag="ringing"):
    """A session that is not answered yet: its INVITE as it came, or as it was sent last, of 64 KiB at most.

    `source` is where the other side's packets come from, None over TCP and TLS, whose connections have ended with the
    process. `tag`: ours, in the answers to their INVITE. `hop`: the URI that our INVITE was sent to. One of the two is
    "".
    """

    invite: bytes
    source: tuple[str, int] | None
    trunk: str
    phone: str
    tag: str = ""
    hop: str = ""


class Memento(msgspec.Struct, frozen=True, tag="answered"):
    """An answered session, as text. Some 1 to 2 KiB; what is in it came in messages, whose size has its bounds.

    `local`, `remote`, `target`, `routes`, `local_seq`, `remote_seq`, `caller` are the dialog's; `uri`, `to`, `from_`
    the INVITE's. `source` is where the other side's packets come from, None over TCP and TLS, whose connections have
    ended with the process. `exchange`: their last offer and our answer. `interval`: seconds, 0 without session timer.
    """

    call_id: str
    local: str
    remote: str
    target: str
    routes: tuple[str, ...]
    local_seq: int
    remote_seq: int | None
    caller: bool
    uri: str
    to: str
    from_: str
    contact_user: str
    trunk: str
    phone: str
    source: tuple[str, int] | None
    updates: bool  # whether they take UPDATE
    local_sdp: str
    exchange: tuple[str, str] | None
    interval: int
    ours: bool  # whether we are the one who refreshes

    def dialog(self) -> Dialog:
        """Return the dialog, as it goes on. Raises `SipSyntaxError`."""
        return Dialog(
            self.call_id,
            parse_address(self.local),
            parse_address(self.remote),
            parse_uri(self.target),
            tuple(map(parse_address, self.routes)),
            self.local_seq + SKIPPED,
            self.remote_seq,
            self.caller,
        )
