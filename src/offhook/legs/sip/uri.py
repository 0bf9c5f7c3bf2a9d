"""SIP and tel URIs, and the addresses that carry them: From, To, Contact, Route (RFC 3261 sections 19.1, 20.10)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from urllib.parse import quote, unquote

from offhook.legs.sip import grammar
from offhook.legs.sip.grammar import Params, SipSyntaxError

_USER = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]|%[0-9A-Fa-f]{2})+")
_PASSWORD = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()&=+$,]|%[0-9A-Fa-f]{2})*")
_PARAM = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$]|%[0-9A-Fa-f]{2})+")
_HEADERS = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()\[\]/?:+$=&]|%[0-9A-Fa-f]{2})*")
_TEL = re.compile(r"\+?[0-9A-Fa-f*#\-.()]+")
_OPAQUE = re.compile(r"[!-~]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*")
_USER_SAFE = "-_.!~*'()&=+$,;?/"
_DISPLAY = re.compile(r"[A-Za-z0-9\-.!%*_+`'~ \t]*")


@dataclass(frozen=True)
class Uri:
    """A URI, with its escapes undone. Several messages may share one: change nothing in it.

    A tel URI has its number as `user` and no host; a URI of a scheme that is not known here has all that follows its
    colon as `user`. `headers` is what follows the `?`, as written: nothing of it is ever acted on, but for REFER
    (`Uri.header`).
    """

    user: str = ""
    host: str = ""
    port: int | None = None
    params: Params = field(default_factory=dict)
    scheme: str = "sip"
    password: str = ""
    headers: str = ""

    def __str__(self) -> str:
        if not self.dialable:
            return f"{self.scheme}:{self.user}"
        if self.scheme == "tel":
            return f"tel:{self.user}{_write_params(self.params)}"
        user = quote(self.user, safe=_USER_SAFE)
        if self.password:
            user += ":" + quote(self.password, safe=_USER_SAFE)
        query = f"?{self.headers}" if self.headers else ""
        at = "@" if user else ""
        return (
            f"{self.scheme}:{user}{at}{grammar.join_host_port(self.host, self.port)}{_write_params(self.params)}{query}"
        )

    @property
    def dialable(self) -> bool:
        """Whether its scheme is one that a telephone can be reached at."""
        return self.scheme in ("sip", "sips", "tel")

    @property
    def secure(self) -> bool:
        return self.scheme == "sips"

    @property
    def transport(self) -> str:
        """The transport that it asks for, in lower case: udp, tcp, tls …; "" when it leaves that open."""
        asked = (self.params.get("transport") or "").lower()
        if self.secure and asked in ("", "tcp"):
            return "tls"
        return asked

    def header(self, name: str) -> str:
        """Return a header that a request to this URI is to have (RFC 3261 section 19.1.1); "" for none."""
        for pair in self.headers.split("&"):
            key, _, value = pair.partition("=")
            if unquote(key).lower() == name:
                return unquote(value)
        return ""

    def bare(self) -> Uri:
        """Return it without parameters and headers: who is meant, not how he is reached."""
        return replace(self, params={}, headers="")

    def without_headers(self) -> Uri:
        return replace(self, headers="") if self.headers else self


@lru_cache(maxsize=512)  # as `parse_address`
def parse_uri(text: str) -> Uri:
    """Return the URI that `text` is. Raises `SipSyntaxError`."""
    scheme, colon, rest = text.partition(":")
    if not colon or _SCHEME.fullmatch(scheme) is None:
        raise SipSyntaxError("a URI begins with its scheme")
    scheme = scheme.lower()
    if scheme == "tel":
        return _parse_tel(rest)
    if scheme not in ("sip", "sips"):
        if _OPAQUE.fullmatch(rest) is None:
            raise SipSyntaxError("a URI has no spaces")
        return Uri(rest, scheme=scheme)
    userinfo, at, rest = rest.rpartition("@")
    if at and (not userinfo or "@" in userinfo):
        raise SipSyntaxError("the user part of a URI is empty, or has an @")
    user, colon, password = userinfo.partition(":")
    if at and (_USER.fullmatch(user) is None or _PASSWORD.fullmatch(password) is None):
        raise SipSyntaxError("the user part of a URI has a character that must be escaped")
    rest, query, headers = rest.partition("?")
    if query and (not headers or _HEADERS.fullmatch(headers) is None):
        raise SipSyntaxError("the headers of a URI are not name=value pairs")
    place, *params = rest.split(";")
    host, port = grammar.host_port(place)
    return Uri(unquote(user), host, port, _parse_params(params), scheme, unquote(password), headers)


def _parse_tel(rest: str) -> Uri:
    number, *params = rest.split(";")
    if _TEL.fullmatch(number) is None:
        raise SipSyntaxError("a tel URI has a telephone number")
    return Uri(number, params=_parse_params(params), scheme="tel")


def _parse_params(parts: list[str]) -> Params:
    found: Params = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if _PARAM.fullmatch(name) is None or (equals and _PARAM.fullmatch(value) is None):
            raise SipSyntaxError("a URI's parameter has a character that must be escaped, or is empty")
        name, undone = unquote(name).lower(), unquote(value) if equals else None
        if found.get(name, undone) != undone:  # twice the same is borne: baresip appends its transport once more
            raise SipSyntaxError("a URI has a parameter twice")
        found[name] = undone
    return found


def _write_params(params: Params) -> str:
    safe = "-_.!~*'()[]/:&+$"
    return "".join(
        f";{quote(name, safe=safe)}" + ("" if value is None else f"={quote(value, safe=safe)}")
        for name, value in params.items()
    )


@dataclass(frozen=True)
class Address:
    """A name-addr: whom a header is about. `params` are the header's (tag, expires, q), not the URI's. Several messages
    may share one: change nothing in it."""

    uri: Uri
    display: str = ""
    params: Params = field(default_factory=dict)

    def __str__(self) -> str:
        display = f"{grammar.quote(self.display)} " if self.display else ""
        return f"{display}<{self.uri}>{grammar.write_params(self.params)}"

    @property
    def tag(self) -> str:
        """The tag, "" when there is none."""
        return self.params.get("tag") or ""

    def tagged(self, tag: str) -> Address:
        """Return it with another tag; "" takes it away."""
        params = {name: value for name, value in self.params.items() if name != "tag"}
        return replace(self, params=params | ({"tag": tag} if tag else {}))


@lru_cache(maxsize=512)  # From, To and Contact of a call come again with each of its messages
def parse_address(text: str) -> Address:
    """Return the address in `text`: `"name" <uri>;params`, `name <uri>`, `<uri>` or `uri;params`.

    Without brackets, what follows a `;` belongs to the header (section 20), and the URI can have neither `,` nor `?`.
    """
    head, params = grammar.split_head(text)
    if head.endswith(">"):
        display, bracket, uri = head.partition("<") if not head.startswith('"') else _after_quoted(head)
        if not bracket:
            raise SipSyntaxError("an address has a > without <")
        return Address(parse_uri(uri[:-1]), _display(display.strip()), params)
    if "?" in head or "," in head or "<" in head:
        raise SipSyntaxError("a URI with ? or , stands in angle brackets")
    return Address(parse_uri(head), params=params)


def _after_quoted(head: str) -> tuple[str, str, str]:
    end = grammar.end_of_enclosed(head, 0)
    between, bracket, uri = head[end:].partition("<")
    if between.strip():
        raise SipSyntaxError("text between an address's name and its URI")
    return head[:end], bracket, uri


def _display(text: str) -> str:
    if text.startswith('"'):
        return grammar.unquote(text)
    if _DISPLAY.fullmatch(text) is None:
        raise SipSyntaxError("a name with characters that must be quoted")
    return text
