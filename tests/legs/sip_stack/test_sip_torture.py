"""The 49 torture messages of RFC 4475, written anew from its descriptions, and what a telephone makes of them.

Where the RFC leaves a choice, or we decide otherwise than it suggests, `note` says what we do and why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from offhook.legs.sip.dialog import called
from offhook.legs.sip.message import Malformed, Request, Response, parse
from offhook.legs.sip.registrar import Registrar

if TYPE_CHECKING:
    from tests.legs.sip_stack.conftest import Scene

SDP = "v=0\r\no=u 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 49217 RTP/AVP 0 12\r\n"
PLAIN = {
    "Via": "SIP/2.0/UDP host.example.com;branch=z9hG4bKtorture",
    "Max-Forwards": "70",
    "From": "<sip:caller@example.net>;tag=torture1",
    "To": "<sip:user@example.com>",
    "Call-ID": "torture@example.net",
    "Contact": "<sip:caller@host.example.com>",
}


@dataclass(frozen=True)
class Case:
    """A message; `answer`: the final status that it gets, 0 for none, 1 for a call that reaches our user."""

    name: str
    section: str
    data: bytes
    answer: int
    note: str = ""


def message(start: str, *extra: str, body: str = "", without: str = "", **changed: str) -> bytes:
    """Return a message of the plain headers; `changed` with _ for -, "" to leave one out; `extra` lines."""
    given = {name.replace("_", "-"): value for name, value in changed.items()}
    method = start.split(" ")[0]
    headers = PLAIN | {"CSeq": f"1 {method}"} | given
    lines = [start] + [f"{name}: {value}" for name, value in headers.items() if value]
    lines += extra
    if body and "Content-Type" not in given:
        lines.append("Content-Type: application/sdp")
    if "Content-Length" not in given and not any(line.lower().startswith("content-length") for line in extra):
        lines.append(f"Content-Length: {len(body.encode(errors='surrogateescape'))}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode(errors="surrogateescape")


INVITE = "INVITE sip:user@example.com SIP/2.0"
OPTIONS = "OPTIONS sip:user@example.com SIP/2.0"
REGISTER = "REGISTER sip:example.com SIP/2.0"

TORTUOUS = "\r\n".join(
    [
        "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0",
        "TO :",
        " sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n",
        'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>',
        "  ;",
        "  tag = 98asjd8",
        "MaX-fOrWaRdS: 0068",
        "Call-ID: wsinv.ndaksdj@192.0.2.1",
        "Content-Length   : " + str(len(SDP)),
        "cseq: 0009",
        "  INVITE",
        "Via  : SIP  /   2.0",
        " /UDP",
        "    192.0.2.2;branch=390skdjuw",
        "s :",
        "NewFangledHeader:   newfangled value",
        " continued newfangled value",
        "UnknownHeaderWithUnusualValue: ;;,,;;,;",
        "Content-Type: application/sdp",
        "Route:",
        " <sip:services.example.com;lr;unknownwith=value;unknown-no-value>",
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;",
        "  branch  =   z9hG4bK9ikj8  ,",
        " SIP  /    2.0   / UDP  192.168.255.111   ; branch=",
        " z9hG4bK30239",
        'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =',
        "      newvalue ;",
        "  secondparam ; q = 0.33",
        "",
        SDP,
    ]
).encode()
STRANGE = "!interesting-Method0123456789_*+`.%indeed'~"
LONG = "a" * 2_000

CASES = [
    # 3.1.1 valid messages
    Case("wsinv", "3.1.1.1", TORTUOUS, 481, "read as it should be; its To has the tag of a call that we do not have"),
    Case(
        "intmeth",
        "3.1.1.2",
        message(
            f"{STRANGE} sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too."
            "(doesn't-it)@example.com SIP/2.0",
            "extensionHeader-!.%*+_`'~: \ufeff大停電",
            Via="SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~",
            To='"BEL:\\\x07 NUL:\\\x1f DEL:\\\x7f" <sip:1_unusual.URI~(to-be!sure)&isn\'t+it$/crazy?,/;;*@example.com>',
            Call_ID="intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
        ),
        501,
    ),
    Case(
        "esc01",
        "3.1.1.3",
        message(
            "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0",
            To="sip:%75se%72@example.com",
            From="<sip:I%20have%20spaces@example.net>;tag=938",
            Contact="<sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>",
            body=SDP,
        ),
        1,
    ),
    Case(
        "escnull",
        "3.1.1.4",
        message(
            REGISTER,
            "Contact: <sip:%00%00@host5.example.com>",
            To="sip:null-%00-null@example.com",
            From="sip:null-%00-null@example.com;tag=839923423",
            Contact="<sip:%00@host5.example.com>",
        ),
        401,
    ),
    Case(
        "esc02",
        "3.1.1.5",
        message("RE%47IST%45R sip:registrar.example.com SIP/2.0", To='"%Z%45" <sip:resource@example.com>'),
        501,
    ),
    Case("lwsdisp", "3.1.1.6", message(OPTIONS, From="caller<sip:caller@example.com>;tag=323"), 200),
    Case(
        "longreq",
        "3.1.1.7",
        message(
            INVITE,
            f"Unknown{LONG}: {LONG}",
            *(f"Via: SIP/2.0/UDP sip{number}.example.com;branch=z9hG4bK{number}" for number in range(30)),
            To=f'"I have a user name of {LONG}" <sip:user@example.com>;unknownparam{LONG}={LONG}',
            From=f"<sip:amazinglylong{LONG}@example.net>;tag=12{LONG}424",
            Call_ID="longreq." + "really" * 20 + "longcallid",
            body=SDP,
        ),
        1,
        "a Call-ID of more than 256 characters would be refused; the RFC's has some 150",
    ),
    Case("dblreq", "3.1.1.8", message(REGISTER) + message(INVITE, body=SDP), 401, "what follows the body is ignored"),
    Case("semiuri", "3.1.1.9", message("OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0"), 200),
    Case(
        "transports",
        "3.1.1.10",
        message(
            OPTIONS,
            *(f"Via: SIP/2.0/{name} t.example.com;branch=z9hG4bK{name}" for name in ("SCTP", "TLS", "UNKNOWN", "TCP")),
        ),
        200,
    ),
    Case(
        "mpart01",
        "3.1.1.11",
        message(
            "MESSAGE sip:user@example.com SIP/2.0",
            Content_Type="multipart/mixed;boundary=7a9cbec02ceef655",
            body="--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655\r\n"
            "Content-Type: application/octet-stream\r\n\r\n\x00\x01\udcff\udcfe\r\n--7a9cbec02ceef655--\r\n",
        ),
        405,
        "read, but text messages are not taken here",
    ),
    Case("unreason", "3.1.1.12", message("SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять", CSeq="35 INVITE"), 0),
    Case("noreason", "3.1.1.13", message("SIP/2.0 100 ", CSeq="35 INVITE"), 0),
    # 3.1.2 invalid messages
    Case(
        "badinv01",
        "3.1.2.1",
        message(
            INVITE,
            Via="SIP/2.0/UDP 192.0.2.15;;,;,,",
            Contact='"Joe" <sip:joe@example.org>;;;;',
            body=SDP,
        ),
        0,
        "400 is to be sent where Via says; a Via that cannot be read says nothing",
    ),
    Case("clerr", "3.1.2.2", message(INVITE, body=SDP, Content_Length="9999"), 400),
    Case("ncl", "3.1.2.3", message(INVITE, body=SDP, Content_Length="-999"), 400),
    Case(
        "scalar02",
        "3.1.2.4",
        message(
            REGISTER,
            "Expires: 1000000000000000000000000000000000000000",
            CSeq="36893488147419103232 REGISTER",
            Max_Forwards="300",
            Contact="<sip:user@host129.example.com>;expires=280297596632815",
        ),
        400,
    ),
    Case("scalarlg", "3.1.2.5", message("SIP/2.0 503 Service Unavailable", CSeq="9292394834772304023312 OPTIONS"), 0),
    Case("quotbal", "3.1.2.6", message(INVITE, To='"Mr. J. User <sip:j.user@example.com>', body=SDP), 400),
    Case("ltgtruri", "3.1.2.7", message("INVITE <sip:user@example.com> SIP/2.0", body=SDP), 400),
    Case("lwsruri", "3.1.2.8", message("INVITE sip:user@example.com; lr SIP/2.0", body=SDP), 400),
    Case("lwsstart", "3.1.2.9", message("INVITE  sip:user@example.com  SIP/2.0", body=SDP, CSeq="1 INVITE"), 400),
    Case("trws", "3.1.2.10", message("OPTIONS sip:remote-target@example.com SIP/2.0  "), 400),
    Case(
        "escruri", "3.1.2.11", message("INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0", body=SDP), 400
    ),
    Case(
        "baddate",
        "3.1.2.12",
        message(INVITE, "Date: Fri, 01 Jan 2010 16:00:00 EST", body=SDP),
        1,
        "the call is taken: Date is not used for anything, so its wrong time zone is not looked at",
    ),
    Case(
        "regbadct", "3.1.2.13", message(REGISTER, Contact="sip:user@example.com?Route=%3Csip:sip.example.com%3E"), 400
    ),
    Case("badaspec", "3.1.2.14", message(OPTIONS, To='"Watson, Thomas" < sip:t.watson@example.org >'), 400),
    Case("baddn", "3.1.2.15", message(OPTIONS, From="Bell, Alexander <sip:a.g.bell@example.com>;tag=43"), 400),
    Case("badvers", "3.1.2.16", message("OPTIONS sip:t.watson@example.org SIP/7.0"), 505),
    Case("mismatch01", "3.1.2.17", message(OPTIONS, CSeq="8 INVITE"), 400),
    Case("mismatch02", "3.1.2.18", message("NEWMETHOD sip:user@example.com SIP/2.0", CSeq="8 INVITE"), 400),
    Case("bigcode", "3.1.2.19", message("SIP/2.0 4294967301 better not break the receiver", CSeq="8 INVITE"), 0),
    # 3.2 transaction layer
    Case("badbranch", "3.2.1", message(OPTIONS, Via="SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"), 200),
    # 3.3 application layer
    Case("insuf", "3.3.1", message(INVITE, Call_ID="", From="", To="", Max_Forwards=""), 400),
    Case("unkscm", "3.3.2", message("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0"), 416),
    Case("novelsc", "3.3.3", message("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0"), 416),
    Case(
        "unksm2",
        "3.3.4",
        message(
            REGISTER,
            To="isbn:2983792873",
            From="<http://www.example.com>;tag=3234233",
            Contact="<name:John_Smith>",
        ),
        401,
    ),
    Case(
        "bext01",
        "3.3.5",
        message(
            OPTIONS,
            "Require: nothingSupportsThis, nothingSupportsThisEither",
            "Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis",
        ),
        420,
    ),
    Case("invut", "3.3.6", message(INVITE, Content_Type="application/unknownformat", body="<audio/>"), 415),
    Case("regaut01", "3.3.7", message(REGISTER, "Authorization: NoOneKnowsThisScheme opaque-data=here"), 401),
    Case(
        "multi01",
        "3.3.8",
        message(
            INVITE, "CSeq: 59 INVITE", "From: <sip:other@example.com>;tag=1", "To: <sip:else@example.com>", body=SDP
        ),
        400,
    ),
    Case("mcl01", "3.3.9", message(OPTIONS, "Content-Length: 13", "Content-Length: 5"), 400),
    Case(
        "bcast",
        "3.3.10",
        message("SIP/2.0 200 OK", "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKbcast", CSeq="8 INVITE"),
        0,
    ),
    Case("zeromf", "3.3.11", message(OPTIONS, Max_Forwards="0"), 200),
    Case("cparam01", "3.3.12", message(REGISTER, Contact="sip:+19725552222@gw1.example.net;unknownparam"), 401),
    Case("cparam02", "3.3.13", message(REGISTER, Contact="<sip:+19725552222@gw1.example.net;unknownparam>"), 401),
    Case(
        "regescrt", "3.3.14", message(REGISTER, Contact="<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"), 401
    ),
    Case("sdp01", "3.3.15", message(INVITE, "Accept: text/nobodyKnowsThis", body=SDP), 406),
    # 3.4 backward compatibility
    Case(
        "inv2543",
        "3.4.1",
        message(
            "INVITE sip:UserB@example.com SIP/2.0",
            "Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>",
            Via="SIP/2.0/UDP iftgw.example.com",
            From="<sip:+13035551111@ift.client.example.net;user=phone>",
            To="sip:+16505552222@ss1.example.net;user=phone",
            Max_Forwards="",
            body=SDP,
        ),
        1,
    ),
]
BY_NAME = {case.name: case for case in CASES}


def test_there_are_all_49() -> None:
    assert len(BY_NAME) == 49


def request(name: str) -> Request:
    parsed = parse(BY_NAME[name].data)
    assert isinstance(parsed, Request)
    return parsed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_telephone_makes_of_it(scene: Callable[..., None], case: Case) -> None:
    async def play(one: Scene) -> None:
        codes: list[int] = []
        one.network.send = lambda data, *_: codes.append(int(data[8:11]))  # type: ignore[method-assign]
        one.a.answers = False
        one.a.stack._transports._udp[0]._take(case.data, (one.B, 5060))  # type: ignore[attr-defined]
        assert [code for code in codes if code > 100] == ([case.answer] if case.answer > 1 else [])
        assert len(one.a.legs) == (case.answer == 1)
        assert len(one.a.stack._endpoint) < 2

    scene(play)


def test_wsinv_is_read_right() -> None:
    one = request("wsinv")
    assert (one.from_.display, one.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert (one.to.uri.user, one.to.tag) == ("vivekg", "1918181833n")
    assert (one.number("Max-Forwards"), one.cseq.number, one.headers.get("Subject")) == (68, 9, "")
    assert [via.host for via in one.vias] == ["192.0.2.2", "spindle.example.com", "192.168.255.111"]
    assert [via.transport for via in one.vias] == ["UDP", "TCP", "UDP"]
    assert one.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    (contact,) = one.contacts
    assert contact.display == 'Quoted string ""'
    assert contact.params == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
    assert one.body.decode() == SDP
    assert called(one, "x").target == contact.uri


def test_escapes_are_undone_once_and_written_again() -> None:
    one = request("esc01")
    assert one.uri.user == "sips:user@example.com"
    assert str(one.uri) == "sip:sips%3Auser%40example.com@example.net"
    assert (one.to.uri.user, one.from_.uri.user) == ("user", "I have spaces")
    (contact,) = one.contacts
    assert contact.uri.params == {"lr": None, "name": "value%41"}
    assert str(parse(bytes(one)).contacts) == str(one.contacts)


def test_the_user_part_may_have_what_separates_elsewhere() -> None:
    assert request("semiuri").uri.user == "user;par=u@example.net"
    assert request("intmeth").uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert request("intmeth").uri.host == "example.com"


def test_a_name_in_quotes_may_have_percent_signs() -> None:
    assert request("esc02").to.display == "%Z%45"


def test_responses_are_read_with_any_reason_or_none() -> None:
    unreason, noreason = parse(BY_NAME["unreason"].data), parse(BY_NAME["noreason"].data)
    assert isinstance(unreason, Response)
    assert isinstance(noreason, Response)
    assert (unreason.code, unreason.reason.startswith("= 2**3"), noreason.reason) == (200, True, "")


def test_a_binary_body_is_kept_as_it_is() -> None:
    assert b"\x00\x01\xff\xfe" in request("mpart01").body


@pytest.mark.parametrize("name", ["scalarlg", "bigcode", "badinv01"])
def test_what_nobody_is_told_is_malformed_all_the_same(name: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse(BY_NAME[name].data)
    assert raised.value.answer is None


def test_unsupported_names_what_is_required(scene: Callable[..., None]) -> None:
    async def play(one: Scene) -> None:
        one.a.stack._transports._udp[0]._take(BY_NAME["bext01"].data, (one.B, 5060))  # type: ignore[attr-defined]
        (_, _, _, sent) = one.network.log[-1]
        assert sent.headers.tokens("Unsupported") == {"nothingsupportsthis", "nothingsupportsthiseither"}

    scene(play)


# What the registrar says once the REGISTER is authenticated.


@pytest.mark.parametrize(
    ("name", "contacts"),
    [
        ("escnull", ["sip:%00@host5.example.com", "sip:%00%00@host5.example.com"]),
        ("cparam01", ["sip:+19725552222@gw1.example.net"]),  # a parameter of the header: unknown, and dropped
        ("cparam02", ["sip:+19725552222@gw1.example.net;unknownparam"]),  # of the URI: kept
        # The RFC has the header kept in the binding. We drop it: no request of ours is ever made of a URI's headers.
        ("regescrt", ["sip:user@example.com"]),
    ],
)
def test_contacts_are_registered(name: str, contacts: list[str]) -> None:
    registrar: Registrar[str] = Registrar()
    response = registrar.register("user", request(name), "flow", 0.0)
    assert response.code == 200
    assert [str(contact.uri) for contact in response.contacts] == contacts
    assert [str(binding.contact) for binding in registrar.bindings("user", 1.0)] == contacts


def test_an_address_of_record_is_a_sip_uri() -> None:
    registrar: Registrar[str] = Registrar()
    assert registrar.register("user", request("unksm2"), "flow", 0.0).code == 400
