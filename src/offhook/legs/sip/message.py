"""SIP messages: bytes to requests and responses, and back (RFC 3261 sections 7, 8.1.1, 18.3).

Reading is strict, because what is refused here can confuse nothing behind it; and it is forgiving about white space
and folded lines, as the RFC wants. Bounds: a message has 64 KiB, a header line 8 KiB, and there are 200 lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from offhook.legs.sip import grammar
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.headers import VERSION, CSeq, Headers, Via, parse_cseq, parse_via
from offhook.legs.sip.uri import Address, Uri, parse_address, parse_uri

MAX_MESSAGE = 65_536  # bytes
MAX_LINE = 8_192  # characters of one header, its folded lines together
MAX_LINES = 200
MAX_CALL_ID = 256  # characters

_OTHER_VERSION = re.compile(r"SIP/[0-9]+\.[0-9]+", re.IGNORECASE)
_FOLD = re.compile(r"(?:\r\n[ \t]+)+")
_ONCE = frozenset({"from", "to", "call-id", "cseq", "max-forwards", "content-length", "content-type"})

REASONS = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    606: "Not Acceptable",
}


class Malformed(ValueError):
    """What came is no message. `str()` says why; `answer` is what to send back, None when there is nobody to answer."""

    def __init__(self, reason: str, answer: Response | None = None) -> None:
        super().__init__(reason)
        self.answer = answer


@dataclass
class Message:
    """What requests and responses have in common. Typed headers raise `SipSyntaxError` when they are read and are not
    what they should be; in a message that `parse` returned, those that every message needs never do."""

    headers: Headers = field(default_factory=Headers, kw_only=True)
    body: bytes = field(default=b"", kw_only=True)

    @cached_property
    def vias(self) -> list[Via]:
        return [parse_via(value) for value in self.headers.listed("Via")]

    @cached_property
    def from_(self) -> Address:
        return parse_address(self._needed("From"))

    @cached_property
    def to(self) -> Address:
        return parse_address(self._needed("To"))

    @cached_property
    def cseq(self) -> CSeq:
        return parse_cseq(self._needed("CSeq"))

    @cached_property
    def call_id(self) -> str:
        value = self._needed("Call-ID")
        if not value or " " in value or len(value) > MAX_CALL_ID:
            raise SipSyntaxError(f"Call-ID is empty, has a space, or more than {MAX_CALL_ID} characters")
        return value

    @cached_property
    def contacts(self) -> list[Address]:
        """Those of Contact; `*` (of REGISTER) is none of them."""
        return self._addresses("Contact")

    @cached_property
    def record_route(self) -> list[Address]:
        return self._addresses("Record-Route")

    def number(self, name: str, most: int = 2**32 - 1) -> int | None:
        """Return the number that a header begins with (before its parameters), None without the header."""
        value = self.headers.get(name)
        return None if value is None else grammar.number(value.partition(";")[0].strip(), name, most)

    def _addresses(self, name: str) -> list[Address]:
        return [parse_address(value) for value in self.headers.listed(name) if value != "*"]

    def _needed(self, name: str) -> str:
        value = self.headers.get(name)
        if value is None:
            raise SipSyntaxError(f"{name} is missing")
        return value

    def _serialise(self, start: str) -> bytes:
        lines = [start, *[f"{name}: {value}" for name, value in self.headers if name != "Content-Length"]]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode(errors="surrogateescape") + self.body


@dataclass
class Request(Message):
    method: str
    uri: Uri

    def __bytes__(self) -> bytes:
        return self._serialise(f"{self.method} {self.uri} {VERSION}")

    def response(self, code: int, reason: str = "", to_tag: str = "") -> Response:
        """Return a response to this request (section 8.2.6.2); `to_tag` is put on a To that has no tag."""
        response = _response(self.headers, code, reason)
        if to_tag and not self.to.tag:
            response.headers.replace("To", self.to.tagged(to_tag))
        return response


@dataclass
class Response(Message):
    code: int
    reason: str

    def __bytes__(self) -> bytes:
        return self._serialise(f"{VERSION} {self.code} {self.reason}")

    @property
    def final(self) -> bool:
        return self.code >= 200

    @property
    def success(self) -> bool:
        return 200 <= self.code < 300


def parse(data: bytes) -> Request | Response:
    """Return the message in `data`, a datagram or what `framing` cut out of a stream. Raises `Malformed`.

    What follows the body is ignored (section 18.3).
    """
    if len(data) > MAX_MESSAGE:
        raise Malformed(f"longer than {MAX_MESSAGE} bytes")
    head, blank, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not blank:
        raise Malformed("no empty line after the headers")
    start, headers = _lines(head)
    try:
        message: Request | Response
        message = _response_line(start) if start.upper().startswith("SIP/") else _request_line(start)
        message.headers = headers
        message.body = _cut(body, message)
        _check(message)
    except SipSyntaxError as error:
        code = 505 if isinstance(error, _VersionError) else 400
        raise Malformed(str(error), _answer(start, headers, code, str(error))) from None
    return message


class _VersionError(SipSyntaxError):
    pass


def _lines(head: bytes) -> tuple[str, Headers]:
    """Return the start line and the headers, folded lines put together (section 7.3.1)."""
    start, end, rest = head.decode(errors="surrogateescape").partition("\r\n")
    lines = _FOLD.sub(" ", rest).split("\r\n") if end else []
    if len(lines) > MAX_LINES or max(map(len, (start, *lines))) > MAX_LINE:
        raise Malformed(f"more than {MAX_LINES} headers, or one of more than {MAX_LINE} characters")
    headers = Headers()
    for line in lines:
        name, _, value = line.partition(":")
        try:
            headers.add(name.rstrip(" \t"), value.strip(" \t"))
        except ValueError as error:
            raise Malformed(str(error)) from None
    return start, headers


def _request_line(start: str) -> Request:
    method, _, rest = start.partition(" ")
    uri, _, version = rest.rpartition(" ")
    if version.upper() != VERSION:
        error = _VersionError if _OTHER_VERSION.fullmatch(version) else SipSyntaxError
        raise error(f"the request line ends with {VERSION}")
    return Request(grammar.token(method, "the method"), parse_uri(uri))


def _response_line(start: str) -> Response:
    version, _, rest = start.partition(" ")
    code, _, reason = rest.partition(" ")
    if version.upper() != VERSION or len(code) != 3 or not 100 <= grammar.number(code, "the status code") <= 699:
        raise SipSyntaxError("a status line has SIP/2.0 and a code from 100 to 699")
    return Response(int(code), reason)


def _cut(body: bytes, message: Message) -> bytes:
    length = message.number("Content-Length", MAX_MESSAGE)
    if length is None:
        return body
    if length > len(body):
        raise SipSyntaxError("the body is shorter than Content-Length says")
    return body[:length]


def _check(message: Request | Response) -> None:
    """Read every header that each message needs."""
    twice = message.headers.repeated(_ONCE)
    if twice is not None:
        raise SipSyntaxError(f"{twice} is there twice")
    if not message.vias:
        raise SipSyntaxError("Via is missing")
    for each in (message.from_, message.to, message.call_id, message.cseq, message.contacts, message.record_route):
        assert each is not None  # reading them is what checks them
    if isinstance(message, Request):
        if message.cseq.method != message.method:
            raise SipSyntaxError("CSeq has another method than the request")
        message.number("Max-Forwards", 255)
        if message.uri.headers:
            raise SipSyntaxError("the Request-URI has headers")


def _answer(start: str, headers: Headers, code: int, reason: str) -> Response | None:
    """Return what tells the sender of a malformed request so: not if it is a response or ACK, or has no Via."""
    try:
        vias = headers.listed("Via")
        parse_via(vias[0])
    except (SipSyntaxError, IndexError):
        return None
    if start.upper().startswith("SIP/") or start.startswith("ACK "):
        return None
    return _response(headers, code, reason)


def _response(headers: Headers, code: int, reason: str) -> Response:
    response = Response(code, reason or REASONS.get(code, "Unspecified"))
    response.headers.take(headers, "Via", "From", "To", "Call-ID", "CSeq")
    return response
