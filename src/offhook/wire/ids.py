"""Ids, tokens and addresses: their forms on the wire (recorded 5).

Ids that commands come back with are version 4 GUIDs whose first 32 bits say where they were made (node 12 bits,
worker 8, boot epoch 12), so that any node can route a command without a look-up. The other 90 bits are random.
"""

from __future__ import annotations

import os
import re
import uuid
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import NamedTuple

import msgspec

MAX_CONTEXT = 64 * 1024  # characters of an incomingCallContext that we look at; ours have about 150, real ones 8 Ki
MAX_RAW_ID = 512  # characters
MAX_NAME = 64  # characters of a bare name

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_NAME}}}")
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_RAW_ID = re.compile(rf"(?:8|4|28):[!-~]{{1,{MAX_RAW_ID - 3}}}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes


class Place(NamedTuple):
    """Where an id was made: node 0..4095, worker 0..255, boot epoch 0..4095."""

    node: int
    worker: int
    epoch: int


class IdMint:
    """Makes the ids of one worker of one node since one boot. `entropy(n)` gives n unguessable bytes."""

    def __init__(
        self, node: int = 0, worker: int = 0, epoch: int = 0, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Raise ValueError when a number does not fit its bits (see `Place`)."""
        for name, value, bits in (("node", node, 12), ("worker", worker, 8), ("epoch", epoch, 12)):
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{name} is {value}, which does not fit into {bits} bits")
        self._place = (node << 20 | worker << 12 | epoch).to_bytes(4, "big")
        self._entropy = entropy

    def guid(self) -> str:
        """Return a new lower-case GUID that `locate` understands."""
        return str(uuid.UUID(bytes=self._place + self._entropy(12), version=4))

    def server_call_id(self, conversation: str | None = None) -> str:
        """Return a serverCallId: padded standard base64 of an https URL (recorded 5).

        `conversation` is the GUID of the call (default: a new one); the same GUID gives the same id. Raise ValueError
        if it is no GUID.
        """
        call = uuid.UUID(conversation or self.guid())
        path = urlsafe_b64encode(call.bytes).rstrip(b"=").decode()
        expiry = call.int % 10**18
        url = f"https://offhook.invalid/api/v2/cp/conv-local-00.offhook.invalid/conv/{path}?i=127-0-0-1&e={expiry:018}"
        return b64encode(url.encode()).decode()

    def incoming_call_context(self) -> tuple[str, str]:
        """Return (incomingCallContext, token): a JWT without signature (recorded 5), and what `context_token` finds
        in it: 256 random bits, by which to look the invitation up."""
        token = urlsafe_b64encode(self._entropy(32)).rstrip(b"=").decode()
        payload = msgspec.json.encode({"cc": self.guid(), "shrToken": token})
        return f"{_CONTEXT_HEADER}{urlsafe_b64encode(payload).rstrip(b'=').decode()}.", token

    def user(self, resource: str) -> str:
        """Return the raw id of a new communication user of `resource` (a GUID)."""
        return f"8:acs:{resource}_{uuid.UUID(bytes=self._entropy(16), version=4)}"


_CONTEXT_HEADER = urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode() + "."


class _ContextPayload(msgspec.Struct):
    shr_token: str = msgspec.field(name="shrToken")


def context_token(context: str) -> str | None:
    """Return the token in an incomingCallContext that an app sent back, or None when it is not of our making."""
    if len(context) > MAX_CONTEXT or not context.startswith(_CONTEXT_HEADER) or not context.endswith("."):
        return None
    payload = context[len(_CONTEXT_HEADER) : -1]
    try:
        decoded = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_ContextPayload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return decoded.shr_token if _TOKEN.fullmatch(decoded.shr_token) else None


def locate(guid: str) -> Place:
    """Return where `guid` was made; raise ValueError when it cannot have come from an `IdMint`."""
    if not _GUID.fullmatch(guid):
        raise ValueError("not a lower-case version 4 GUID")
    bits = int(guid[:8], 16)
    return Place(bits >> 20, bits >> 12 & 0xFF, bits & 0xFFF)


def stable_user(resource: str, name: str) -> str:
    """Return the raw id of the communication user that `name` always means within `resource` (a GUID)."""
    return f"8:acs:{resource}_{uuid.uuid5(uuid.UUID(resource), name)}"


def parse_address(text: str, resource: str) -> str:
    """Return the raw id of an address as people write it.

    An E.164 number becomes `4:+…`, a raw id stays as it is, a bare name becomes its `stable_user`. Raise ValueError
    for anything else, with a message fit to be shown.
    """
    if _E164.fullmatch(text):
        return f"4:{text}"
    if _RAW_ID.fullmatch(text):
        return text
    if _NAME.fullmatch(text):
        return stable_user(resource, text)
    raise ValueError(
        f"{text[:80]!r} is no address: give an E.164 number (+15550100), a raw id (8:acs:…, 4:…, 28:…), "
        f"or a name of at most {MAX_NAME} letters, digits, '.', '_' and '-'"
    )
