"""The small parts that SIP headers are made of (RFC 3261 section 25): tokens, quoted strings, parameters, lists."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9\-._]*[A-Za-z0-9.])?")
_NUMBER = re.compile(r"[0-9]{1,20}")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_OPENERS = re.compile(r'["<]')
_SPACE = " \t"

Params = dict[str, str | None]
"""Parameters by lower-case name; None for one without a value. Values are unquoted."""


class SipSyntaxError(ValueError):
    """The text is not what the grammar has there; `str()` says what was expected, in words that may be sent back."""


def is_token(text: str) -> bool:
    """Whether `text` is one token."""
    return _TOKEN.fullmatch(text) is not None


def token(text: str, what: str) -> str:
    """Return `text`, which must be a token; `what` it is goes into the error."""
    if not is_token(text):
        raise SipSyntaxError(f"{what} is not a token")
    return text


def number(text: str, what: str, most: int = 2**32 - 1) -> int:
    """Return the decimal number that `text` is; a larger one than `most` is an error."""
    if _NUMBER.fullmatch(text) is None or int(text) > most:
        raise SipSyntaxError(f"{what} is not a number up to {most}")
    return int(text)


def host_port(text: str) -> tuple[str, int | None]:
    """Return host and port of `host[:port]`. An IPv6 host keeps no brackets, a name becomes lower case."""
    host, port = text, None
    head, colon, tail = text.rpartition(":")
    if colon and not text.endswith("]"):
        host, port = head.rstrip(_SPACE), number(tail.lstrip(_SPACE), "the port", 65_535)
    if _HOST.fullmatch(host) is None:
        raise SipSyntaxError("the host is not one")
    return host.strip("[]").lower(), port


def join_host_port(host: str, port: int | None) -> str:
    """Return what `host_port` reads."""
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"


def split(text: str, separator: str) -> list[str]:
    """Split at `separator` (one character) where it is neither quoted nor within angle brackets; strip each part.

    Raises `SipSyntaxError` when a quotation or a bracket does not end.
    """
    if _OPENERS.search(text) is None:
        return [part.strip(_SPACE) for part in text.split(separator)]
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] in '"<':
            at = end_of_enclosed(text, at)
            continue
        if text[at] == separator:
            parts.append(text[start:at].strip(_SPACE))
            start = at + 1
        at += 1
    parts.append(text[start:].strip(_SPACE))
    return parts


def end_of_enclosed(text: str, at: int) -> int:
    """Return where the quoted string or bracket that begins at `at` has ended; `SipSyntaxError` if it does not."""
    if text[at] == "<":
        end = text.find(">", at) + 1
    else:
        match = _QUOTED.match(text, at)
        end = match.end() if match else 0
    if not end:
        raise SipSyntaxError("a quotation or an angle bracket does not end")
    return end


def split_head(text: str) -> tuple[str, Params]:
    """Return what is before the first `;` that separates, and the parameters after it."""
    head, *rest = split(text, ";")
    return head, params(rest)


def params(parts: list[str]) -> Params:
    """Return the parameters that `parts` (`name` or `name=value`, the value perhaps quoted) are.

    Raises `SipSyntaxError` for an empty one, or one that is there twice.
    """
    found: Params = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = token(name.rstrip(_SPACE), "the name of a parameter").lower()
        if name in found:
            raise SipSyntaxError(f"parameter {name} is there twice")
        found[name] = unquote(value.lstrip(_SPACE)) if equals else None
    return found


def write_params(given: Params) -> str:
    """Return `;name=value…`, values quoted where they have to be."""
    return "".join(
        f";{name}" if value is None else f";{name}={value if _is_plain(value) else quote(value)}"
        for name, value in given.items()
    )


def _is_plain(value: str) -> bool:
    return is_token(value) or _HOST.fullmatch(value) is not None


def quote(text: str) -> str:
    """Return `text` as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """Return what a quoted string says; text that is not quoted is returned as it is, but may have no quote in it."""
    if not text.startswith('"'):
        if '"' in text:
            raise SipSyntaxError("a quotation mark within a value")
        return text
    match = _QUOTED.fullmatch(text)
    if match is None:
        raise SipSyntaxError("a quoted string does not end, or goes on after its end")
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
