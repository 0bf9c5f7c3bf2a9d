"""Session descriptions: text to typed values, and back (RFC 8866; RFC 3264 for what is said with them).

Only what an audio call needs is read; all else is skipped. Bounds: 64 KiB (a message's), 16 media lines, 64 formats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

MAX_MEDIA = 16
MAX_FORMATS = 64
SUITE = "AES_CM_128_HMAC_SHA1_80"  # the only one that `legs.srtp` speaks

SENDRECV, SENDONLY, RECVONLY, INACTIVE = "sendrecv", "sendonly", "recvonly", "inactive"
DIRECTIONS = (SENDRECV, SENDONLY, RECVONLY, INACTIVE)

# RFC 3551; G.722's clock is 8000 by mistake. CN is comfort noise.
_STATIC = {0: ("PCMU", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000), 13: ("CN", 8000)}
_MEDIA = re.compile(r"([a-z0-9]+) ([0-9]{1,5})(?:/[0-9]+)? ([A-Z0-9/]+) ([\x21-\x7e ]+)", re.IGNORECASE)
_RTPMAP = re.compile(r"([0-9]{1,3}) +([^ /]+)/([0-9]{1,6})(?:/([0-9]{1,2}))?")
_CRYPTO = re.compile(r"([0-9]{1,9}) +([A-Za-z0-9_]+) +(inline:[^ |]+(?:\|[0-9^]+)?)")
_HOST = re.compile(r"IN IP[46] ([0-9A-Za-z.:\-]+)(?:/[0-9/]+)?")


class SdpError(ValueError):
    """The text is no session description."""


@dataclass(frozen=True)
class Format:
    """One way of coding, and the payload type that its packets have."""

    payload_type: int
    name: str  # as in RFC 4855, in its usual spelling or another
    rate: int  # of its RTP clock, Hz
    channels: int = 1
    parameters: str = ""  # of a=fmtp

    def is_called(self, name: str) -> bool:
        return self.name.lower() == name.lower()


@dataclass(frozen=True)
class Crypto:
    """One a=crypto line (RFC 4568). One with session parameters, an MKI or several keys is not read: they change what
    the packets look like."""

    tag: int
    suite: str
    key: str  # "inline:…"


@dataclass(frozen=True)
class Media:
    """One m= line and what belongs to it, the session's values filled in."""

    kind: str  # "audio", "video", …
    port: int  # 0: rejected, or not wanted any more
    profile: str  # "RTP/AVP", "RTP/SAVP", …
    formats: tuple[Format, ...]
    host: str = ""
    direction: str = SENDRECV
    ptime: int | None = None  # ms
    maxptime: int | None = None
    rtcp_mux: bool = False
    crypto: tuple[Crypto, ...] = ()
    raw_formats: str = ""  # as written: what a rejected line has to repeat

    @property
    def secure(self) -> bool:
        return self.profile.upper() in ("RTP/SAVP", "RTP/SAVPF")

    @property
    def usable(self) -> bool:
        """Whether it is audio over RTP that is wanted."""
        return (
            self.kind == "audio" and self.port > 0 and (self.secure or self.profile.upper() in ("RTP/AVP", "RTP/AVPF"))
        )


@dataclass(frozen=True)
class Description:
    """A whole session description. `id` and `version` are those of its o= line."""

    media: tuple[Media, ...]
    host: str
    id: int = 1
    version: int = 1
    user: str = "-"

    def __str__(self) -> str:
        kind = "IP6" if ":" in self.host else "IP4"
        lines = [
            "v=0",
            f"o={self.user} {self.id} {self.version} IN {kind} {self.host}",
            "s=-",
            f"c=IN {kind} {self.host}",
            "t=0 0",
        ]
        for media in self.media:
            lines += _write(media)
        return "\r\n".join(lines) + "\r\n"


def _write(media: Media) -> list[str]:
    if not media.port:
        return [f"m={media.kind} 0 {media.profile} {media.raw_formats}"]
    types = " ".join(str(one.payload_type) for one in media.formats)
    lines = [f"m={media.kind} {media.port} {media.profile} {types}"]
    for one in media.formats:
        channels = f"/{one.channels}" if one.channels > 1 else ""
        lines.append(f"a=rtpmap:{one.payload_type} {one.name}/{one.rate}{channels}")
        if one.parameters:
            lines.append(f"a=fmtp:{one.payload_type} {one.parameters}")
    lines += [f"a=crypto:{one.tag} {one.suite} {one.key}" for one in media.crypto]
    if media.ptime is not None:
        lines.append(f"a=ptime:{media.ptime}")
    if media.rtcp_mux:
        lines.append("a=rtcp-mux")
    return [*lines, f"a={media.direction}"]


@lru_cache(maxsize=64)  # an offer is considered first, and answered when somebody picks up
def parse(text: str) -> Description:
    """Return the description that `text` is. Raises `SdpError`."""
    session, *parts = re.split(r"(?:\A|\r?\n)m=", text.strip("\r\n"))
    if not session.startswith("v=0"):
        raise SdpError("a session description begins with v=0")
    if len(parts) > MAX_MEDIA:
        raise SdpError(f"more than {MAX_MEDIA} media lines")
    lines = session.splitlines()
    origin = next((line[2:].split() for line in lines if line.startswith("o=")), [])
    if len(origin) != 6 or not (origin[1].isdecimal() and origin[2].isdecimal()):
        raise SdpError("o= has user, id, version and an address")
    host, direction = _host(lines), _direction(lines)
    media = tuple(_media(part.splitlines(), host, direction or SENDRECV) for part in parts)
    return Description(media, host, int(origin[1]), int(origin[2]), origin[0])


def _media(lines: list[str], host: str, direction: str) -> Media:
    match = _MEDIA.fullmatch(lines[0].strip())
    if match is None or int(match[2]) > 65_535:
        raise SdpError("m= has a kind, a port, a profile and formats")
    types = [int(word) for word in match[4].split() if word.isdecimal() and int(word) < 128]
    if len(types) > MAX_FORMATS:
        raise SdpError(f"more than {MAX_FORMATS} formats")
    return Media(
        match[1].lower(),
        int(match[2]),
        match[3],
        _formats(types, lines),
        _host(lines) or host,
        _direction(lines) or direction,
        _number(lines, "ptime"),
        _number(lines, "maxptime"),
        "a=rtcp-mux" in lines,
        _crypto(lines),
        match[4],
    )


def _values(lines: list[str], name: str) -> list[str]:
    prefix = f"a={name}:"
    return [line[len(prefix) :].strip() for line in lines if line.startswith(prefix)]


def _formats(types: list[int], lines: list[str]) -> tuple[Format, ...]:
    known = {type: Format(type, *_STATIC[type]) for type in types if type in _STATIC}
    for value in _values(lines, "rtpmap"):
        if match := _RTPMAP.fullmatch(value):
            known[int(match[1])] = Format(int(match[1]), match[2], int(match[3]), int(match[4] or 1))
    for value in _values(lines, "fmtp"):
        type, _, parameters = value.partition(" ")
        if type.isdecimal() and int(type) in known:
            known[int(type)] = replace(known[int(type)], parameters=parameters.strip())
    return tuple(known[type] for type in dict.fromkeys(types) if type in known)


def _crypto(lines: list[str]) -> tuple[Crypto, ...]:
    matches = map(_CRYPTO.fullmatch, _values(lines, "crypto"))
    return tuple(Crypto(int(match[1]), match[2], match[3]) for match in matches if match)


def _host(lines: list[str]) -> str:
    for line in lines:
        if line.startswith("c="):
            match = _HOST.fullmatch(line[2:].strip())
            if match is None:
                raise SdpError("c= has an IPv4 or IPv6 address")
            return match[1]
    return ""


def _direction(lines: list[str]) -> str:
    return next((line[2:] for line in lines if line[:2] == "a=" and line[2:] in DIRECTIONS), "")


def _number(lines: list[str], name: str) -> int | None:
    values = _values(lines, name)
    return int(values[0]) if values and values[0].isdecimal() and len(values[0]) < 6 else None
