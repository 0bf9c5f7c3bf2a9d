"""Bodies: the session description in a message, be it alone or one part of several (RFC 5621)."""

from __future__ import annotations

import re

from offhook.legs.sip import grammar
from offhook.legs.sip.message import Message

SDP = "application/sdp"
MAX_PARTS = 16


class UnsupportedBody(ValueError):
    """There is a body, and we do not know what it says (415)."""


def content_type(value: str) -> tuple[str, grammar.Params]:
    """Return type and parameters of a Content-Type. Raises `SipSyntaxError`."""
    kind, params = grammar.split_head(value)
    return re.sub(r"\s*/\s*", "/", kind).lower(), params


def sdp_of(message: Message) -> str | None:
    """Return the session description in `message`; None without a body. Raises `UnsupportedBody`, `SipSyntaxError`."""
    if not message.body:
        return None
    if message.headers.get("Content-Encoding") not in (None, "identity"):
        raise UnsupportedBody("the body is encoded")
    kind, params = content_type(message.headers.get("Content-Type") or "")
    if kind == SDP:
        return message.body.decode(errors="replace")
    if kind.startswith("multipart/") and params.get("boundary"):
        for part_kind, part in _parts(message.body, params["boundary"] or ""):
            if part_kind == SDP:
                return part.decode(errors="replace")
    raise UnsupportedBody(f"no {SDP} in the body")


def put(message: Message, kind: str, text: str) -> None:
    """Give `message` a body."""
    message.headers.replace("Content-Type", kind)
    message.body = text.encode()


def _parts(body: bytes, boundary: str) -> list[tuple[str, bytes]]:
    parts = []
    for part in body.split(b"--" + boundary.encode(errors="surrogateescape"))[1 : MAX_PARTS + 1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        match = re.search(rb"^content-type[ \t]*:(.*)$", head, re.IGNORECASE | re.MULTILINE)
        if blank and match:
            parts.append((content_type(match[1].decode(errors="replace").strip())[0], content.removesuffix(b"\r\n")))
    return parts
