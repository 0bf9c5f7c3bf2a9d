"""SIP text to values and back: messages, URIs, addresses; their limits; and what is broken in any way at all."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from offhook.legs.sip import grammar
from offhook.legs.sip.framing import PING, PONG, Framer, StreamError
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.headers import MAX_LISTED, Headers, Via, parse_cseq, parse_via
from offhook.legs.sip.message import MAX_LINE, MAX_LINES, MAX_MESSAGE, Malformed, Request, Response, parse
from offhook.legs.sip.uri import Address, Uri, parse_address, parse_uri

MINIMAL = (
    "OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n"
    "Call-ID: c\r\nCSeq: 1 OPTIONS\r\n"
)

# ------------------------------------------------------------------------------------------------ URIs and addresses

hosts = st.sampled_from(["example.com", "192.0.2.1", "2001:db8::1", "h"])
words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
values = st.text(min_size=1, max_size=8).filter(lambda text: text < "\ud800")
uris = st.builds(
    Uri,
    st.text(max_size=12),
    hosts,
    st.none() | st.integers(0, 65_535),
    st.dictionaries(words.map(str.lower), st.none() | values, max_size=3),
    st.sampled_from(["sip", "sips"]),
)


@given(uris)
def test_a_uri_is_read_as_it_was_written(uri: Uri) -> None:
    assert parse_uri(str(uri)) == uri


@given(uris, st.text(max_size=12), st.dictionaries(words.map(str.lower), st.none() | words, max_size=3))
def test_an_address_is_read_as_it_was_written(uri: Uri, display: str, params: dict[str, str | None]) -> None:
    address = Address(uri, display, params)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "sip:alice:pw@h:5070;transport=TCP?Subject=x",
            Uri("alice", "h", 5070, {"transport": "TCP"}, "sip", "pw", "Subject=x"),
        ),
        ("SIP:%61@H.Example", Uri("a", "h.example")),
        ("sip:[2001:db8::1]:5060", Uri("", "2001:db8::1", 5060)),
        ("tel:+1-555-0100;phone-context=x", Uri("+1-555-0100", params={"phone-context": "x"}, scheme="tel")),
        ("sip:h;transport=udp;transport=udp", Uri("", "h", params={"transport": "udp"})),  # as baresip has it
        ("urn:service:sos", Uri("service:sos", scheme="urn")),
    ],
)
def test_uris(text: str, wanted: Uri) -> None:
    assert parse_uri(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip",
        "sip:",
        "sip:@h",
        "sip:a@",
        "sip:a@b@c",
        "sip:a b@h",
        "sip:a%zz@h",
        "sip:h:99999",
        "sip:h;",
        "sip:h;a=1;a=2",
        "sip:h;=x",
        "sip:h?",
        "sip:h? x",
        "tel:",
        "tel:xyz",
        "sip:a@h ",
        " sip:a@h",
        "sip:h_!",
        "x:",
        "x:a b",
        "1:2",
    ],
)
def test_no_uris(text: str) -> None:
    with pytest.raises(SipSyntaxError):
        parse_uri(text)


@pytest.mark.parametrize(
    ("text", "transport"),
    [
        ("sip:h", ""),
        ("sip:h;transport=TLS", "tls"),
        ("sips:h", "tls"),
        ("sips:h;transport=tcp", "tls"),
        ("sip:h;transport", ""),
    ],
)
def test_the_transport_that_a_uri_asks_for(text: str, transport: str) -> None:
    assert parse_uri(text).transport == transport


def test_headers_of_a_uri() -> None:
    uri = parse_uri("sip:b@h?Replaces=c%40h%3Bto-tag%3D1&Subject=x")
    assert (uri.header("replaces"), uri.header("x")) == ("c@h;to-tag=1", "")
    assert str(uri.without_headers()) == str(uri.bare()) == "sip:b@h"


@pytest.mark.parametrize(
    "text",
    [
        '"a <sip:h>',
        "<sip:h",
        "sip:h>",
        '"a" b <sip:h>',
        "a;b <sip:h>",
        "sip:h?x=y",
        "sip:h,sip:i",
        '"a"',
        "<sip:h>;",
        "<sip:h>;a;a",
        "<sip:h> x",
        "é <sip:h>",
    ],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(SipSyntaxError):
        parse_address(text)


def test_parameters_without_brackets_are_the_header_s() -> None:
    address = parse_address("sip:a@h;tag=1")
    assert (address.uri, address.tag) == (Uri("a", "h"), "1")
    assert (address.tagged("2").tag, address.tagged("").tag) == ("2", "")


# ------------------------------------------------------------------------------------------------ headers


@pytest.mark.parametrize(
    "text", ["SIP/2.0/UDP", "SIP/3.0/UDP h", "SIP/2.0/ h", "HTTP/2.0/TCP h", "SIP/2.0/UDP h:x", ""]
)
def test_no_via(text: str) -> None:
    with pytest.raises(SipSyntaxError):
        parse_via(text)


def test_via() -> None:
    via = parse_via("SIP / 2.0 / tcp [2001:db8::1] : 5070 ; branch = z9 ; rport")
    assert via == Via("TCP", "2001:db8::1", 5070, {"branch": "z9", "rport": None})
    assert str(via) == "SIP/2.0/TCP [2001:db8::1]:5070;branch=z9;rport"


@pytest.mark.parametrize("text", ["", "1", "x INVITE", "1 a b", "2147483648 INVITE", "-1 INVITE", "1 IN(ITE"])
def test_no_cseq(text: str) -> None:
    with pytest.raises(SipSyntaxError):
        parse_cseq(text)


def test_headers_are_the_same_whatever_their_case_and_form() -> None:
    headers = Headers()
    headers.add("i", "1")
    headers.add("x-Mine", "2")
    headers.add("X-MINE", "3, 4")
    assert (headers.get("CALL-ID"), headers.all("X-mine"), headers.listed("x-mine")) == (
        "1",
        ["2", "3, 4"],
        ["2", "3", "4"],
    )
    assert list(headers) == [("Call-ID", "1"), ("x-Mine", "2"), ("x-Mine", "3, 4")]
    copied = headers.copy()
    copied.prepend("x-mine", "0")
    copied.remove("call-id")
    assert list(copied) == [("x-Mine", "0"), ("x-Mine", "2"), ("x-Mine", "3, 4")]
    assert "Call-ID" in headers


def test_listed_values_are_bounded() -> None:
    headers = Headers()
    headers.add("Route", ",".join(["<sip:h>"] * (MAX_LISTED + 1)))
    with pytest.raises(SipSyntaxError, match="64"):
        headers.listed("Route")


@pytest.mark.parametrize(
    ("name", "value"), [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\0"), ("X:", "a"), ("", "a"), ("X Y", "a")]
)
def test_headers_that_would_break_a_message(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        Headers().add(name, value)


@given(st.text(max_size=40))
def test_quoting(text: str) -> None:
    assert grammar.unquote(grammar.quote(text)) == text


@given(st.lists(st.text("abc", max_size=3) | st.text(max_size=5).map(grammar.quote), min_size=1, max_size=5))
def test_what_is_quoted_does_not_separate(parts: list[str]) -> None:
    assert grammar.split(",".join(parts), ",") == parts


# ------------------------------------------------------------------------------------------------ messages


def test_limits() -> None:
    assert isinstance(parse((MINIMAL + "\r\n").encode()), Request)
    for text in (
        MINIMAL + "X: " + "a" * MAX_LINE + "\r\n\r\n",
        MINIMAL + "X: a\r\n" + " a\r\n" * (MAX_LINE // 2) + "\r\n",
        MINIMAL + "X: a\r\n" * MAX_LINES + "\r\n",
        MINIMAL + "\r\n" + "a" * MAX_MESSAGE,
        MINIMAL,
        "OPTIONS sip:" + "a" * MAX_LINE + " SIP/2.0\r\n\r\n",
        MINIMAL + "no header\r\n\r\n",
        MINIMAL.replace("Call-ID: c", "Call-ID: " + "c" * 257) + "\r\n",
        MINIMAL.replace("Call-ID: c", "Call-ID: ") + "\r\n",
    ):
        with pytest.raises(Malformed):
            parse(text.encode())


def test_a_message_is_read_as_it_was_written() -> None:
    request = parse((MINIMAL + "Subject: \xff\u4e2d\r\nContent-Length: 3\r\n\r\nabcdef").encode("utf-8"))
    assert request.body == b"abc"
    again = parse(bytes(request))
    assert list(again.headers) == list(request.headers)
    latin = parse(MINIMAL.encode() + b"Subject: \xff\r\n\r\n")
    assert b"Subject: \xff\r\n" in bytes(latin)


def test_a_response_has_what_it_needs_of_its_request() -> None:
    request = parse((MINIMAL + "Via: SIP/2.0/TCP p\r\nX-Mine: 1\r\n\r\n").encode())
    assert isinstance(request, Request)
    response = request.response(486, to_tag="t")
    assert [name for name, _ in response.headers] == ["Via", "Via", "From", "To", "Call-ID", "CSeq"]
    assert (response.reason, response.to.tag) == ("Busy Here", "t")
    assert isinstance(parse(bytes(response)), Response)


def test_an_ack_is_never_answered() -> None:
    with pytest.raises(Malformed) as raised:
        parse(MINIMAL.replace("OPTIONS", "ACK").replace("From: <", "From: <<").encode() + b"\r\n")
    assert raised.value.answer is None


@settings(max_examples=500)
@given(st.binary(max_size=400))
@example(b"\r\n\r\n")
@example(b"SIP/2.0 \r\n\r\n")
def test_any_bytes_at_all_are_a_message_or_malformed(data: bytes) -> None:
    for text in (data, MINIMAL.encode() + data + b"\r\n\r\n", MINIMAL.replace("1 OPTIONS", "").encode() + data):
        try:
            parse(text)
        except Malformed as malformed:
            if malformed.answer is not None:
                bytes(malformed.answer)


# ------------------------------------------------------------------------------------------------ streams


def stream(*bodies: bytes) -> bytes:
    return b"".join(
        MINIMAL.encode() + b"%s: %d\r\n\r\n" % (name, len(body)) + body
        for name, body in zip([b"Content-Length", b"l  ", b"CONTENT-LENGTH"], bodies, strict=False)
    )


@given(st.lists(st.integers(1, 300), max_size=12))
def test_a_stream_is_cut_the_same_whatever_its_pieces(cuts: list[int]) -> None:
    data = PING + stream(b"", b"\r\n\r\nabc", b"x" * 100) + PING
    framer, found, at = Framer(), [], 0
    for cut in [*cuts, len(data)]:
        found += framer.feed(data[at : at + cut])
        at += cut
    assert found[0] == found[-1] == PING
    assert [parse(one).body for one in found[1:-1]] == [b"", b"\r\n\r\nabc", b"x" * 100]


def test_the_answer_to_a_keep_alive_is_no_message() -> None:
    framer = Framer()
    assert framer.feed(PONG) == []
    assert framer.feed(stream(b"a")) == [PONG, stream(b"a")]


@pytest.mark.parametrize(
    "data",
    [
        (MINIMAL + "\r\n").encode(),
        (MINIMAL + "Content-Length: 1\r\nl: 1\r\n\r\n").encode(),
        (MINIMAL + "Content-Length: 9999999\r\n\r\n").encode(),
        (MINIMAL + "Content-Length: -1\r\n\r\n").encode(),
        b"a" * (MAX_MESSAGE + 1),
    ],
    ids=["none", "two", "too long", "negative", "no end"],
)
def test_a_stream_that_cannot_be_read_on(data: bytes) -> None:
    with pytest.raises(StreamError):
        Framer().feed(data)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_stream_at_all_is_borne(pieces: list[bytes]) -> None:
    framer = Framer()
    try:
        for piece in pieces:
            framer.feed(piece)
    except StreamError:
        pass
    assert len(framer._buffer) <= MAX_MESSAGE + 200


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with some bytes changed, taken out, put in or repeated."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(changed) + 1)
        size = chance.choice((1, 1, 2, 5, 50))
        match chance.randrange(4):
            case 0:
                changed[at : at + size] = chance.randbytes(size)
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at:at] = chance.choice((b"\r\n", b";", b",", b'"', b"<", b"\0", b"%", b" ", b"\xff", b"9" * 30))
            case _:
                changed[at:at] = changed[at : at + size]
    return bytes(changed)


def test_ten_thousand_mutated_messages_do_no_harm(scene: Any) -> None:
    """They come from a trunk while a call is up: some are calls, most are nothing; the call goes on."""

    async def play(one: Any) -> None:
        one.b.answers = one.b.answers_offers = False
        caller = one.a.call()
        await _pause()
        called = one.b.legs[0]
        called.pick_up()
        caller.reoffer()
        caller.session.info_digits("1")
        await _pause()
        called.session.refuse()
        called.events.clear()
        sent = [bytes(message) for _, source, _, message in one.network.log if source == one.A]
        sent += [(MINIMAL + "\r\n").encode(), (MINIMAL.replace("OPTIONS", "REGISTER") + "Contact: *\r\n\r\n").encode()]
        one.network.send = lambda *_: None
        chance = random.Random(4475)
        one.b.stack._guard.paces = lambda ip, now: True
        one.b.stack._endpoint.paces = lambda ip: True
        for _ in range(10_000):
            one.b.stack._transports._udp[0]._take(mutated(chance.choice(sent), chance), (one.A, 5060))
        assert one.b.stack.counts["malformed"] > 1_000
        del one.network.send
        called.reoffer()
        await _pause()

    scene(play)


async def _pause() -> None:
    await asyncio.sleep(2)
