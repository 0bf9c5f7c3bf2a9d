"""The headers of a SIP message, and the values of those that every message has: Via and CSeq (RFC 3261 section 20)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from offhook.legs.sip import grammar
from offhook.legs.sip.grammar import Params, SipSyntaxError

VERSION = "SIP/2.0"
MAX_LISTED = 64  # values of one kind: Via, Route, Contact …

_COMPACT = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}


@dataclass(frozen=True)
class Via:
    """One hop that the request took."""

    transport: str  # in upper case
    host: str
    port: int | None = None
    params: Params = field(default_factory=dict)

    def __str__(self) -> str:
        where = grammar.join_host_port(self.host, self.port)
        return f"{VERSION}/{self.transport} {where}{grammar.write_params(self.params)}"

    @property
    def branch(self) -> str:
        return self.params.get("branch") or ""


def parse_via(text: str) -> Via:
    """Return the hop that one Via value tells of."""
    head, params = grammar.split_head(text)
    protocol, _, rest = head.partition("/")
    version, _, rest = rest.partition("/")
    words = rest.split()
    if protocol.strip().upper() != "SIP" or version.strip() != "2.0" or len(words) < 2:
        raise SipSyntaxError("Via: SIP/2.0/transport and a host are expected")
    host, port = grammar.host_port("".join(words[1:]))
    return Via(grammar.token(words[0], "the transport of Via").upper(), host, port, params)


@dataclass(frozen=True)
class CSeq:
    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@lru_cache(maxsize=512)  # there are few
def parse_cseq(text: str) -> CSeq:
    words = text.split()
    if len(words) != 2:
        raise SipSyntaxError("CSeq: a number and a method are expected")
    return CSeq(grammar.number(words[0], "CSeq", 2**31 - 1), grammar.token(words[1], "the method of CSeq"))


@lru_cache(maxsize=512)  # there are few
def _names(name: str) -> tuple[str, str]:
    """Return by what a header is found, and how it is written out. Raises ValueError for what is no token."""
    if not grammar.is_token(name):
        raise ValueError(f"header {name!r}: its name is no token")
    written = _COMPACT.get(name.lower(), name)
    return written.lower(), written


def _value(name: str, value: object) -> str:
    """Return the text of a header's value. Raises ValueError for what would break the message."""
    text = str(value)
    if "\r" in text or "\n" in text or "\0" in text:
        raise ValueError(f"header {name!r}: its value has a line's end")
    return text


class Headers:
    """The headers of a message, in order; names are the same whatever their case, and compact forms are written out."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}  # as they are written

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for key, values in self._values.items():
            for value in values:
                yield self._names[key], value

    def add(self, name: str, value: object) -> None:
        """Append a header. Raises ValueError for what would break the message: no token, or a line's end."""
        (key, written), text = _names(name), _value(name, value)
        if key in self._values:
            self._values[key].append(text)
        else:
            self._values[key] = [text]
            self._names.setdefault(key, written)

    def take(self, other: Headers, *names: str) -> None:
        """Append the headers of these names that `other` has."""
        for name in names:
            key = name.lower()
            if key in other._values:
                self._values.setdefault(key, []).extend(other._values[key])
                self._names.setdefault(key, other._names[key])

    def prepend(self, name: str, value: object) -> None:
        """Put a header before all others, those of its name included."""
        rest = self._values
        self._values = {}
        self.add(name, value)
        self._values[name.lower()] += rest.pop(name.lower(), [])
        self._values |= rest

    def remove(self, name: str) -> None:
        self._values.pop(name.lower(), None)

    def copy(self) -> Headers:
        copied = Headers()
        copied._values = {key: list(values) for key, values in self._values.items()}
        copied._names = dict(self._names)
        return copied

    def replace(self, name: str, value: object) -> None:
        """Put one header in the place of all of that name."""
        (key, written), text = _names(name), _value(name, value)
        self._values[key] = [text]
        self._names.setdefault(key, written)

    def get(self, name: str) -> str | None:
        """Return the first value, None when there is none."""
        values = self._values.get(name.lower())
        return values[0] if values else None

    def repeated(self, names: Collection[str]) -> str | None:
        """Return which of these headers (in lower case) is there more than once, None when none is."""
        return next((key for key, values in self._values.items() if len(values) > 1 and key in names), None)

    def all(self, name: str) -> list[str]:
        """Return the values as they were written, a line each."""
        return list(self._values.get(name.lower(), ()))

    def listed(self, name: str) -> list[str]:
        """Return the values of a header that may have several in a line, split at commas; at most `MAX_LISTED`."""
        found = [part for value in self._values.get(name.lower(), ()) if value for part in grammar.split(value, ",")]
        if len(found) > MAX_LISTED:
            raise SipSyntaxError(f"more than {MAX_LISTED} values of {name}")
        return found

    def tokens(self, name: str) -> set[str]:
        """Return the words of Supported, Require, Allow … in lower case."""
        return {word.lower() for word in self.listed(name)}
