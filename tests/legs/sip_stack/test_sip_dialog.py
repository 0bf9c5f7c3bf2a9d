"""Dialogs: identifiers, routes, targets and the order of requests."""

from __future__ import annotations

import pytest

from offhook.legs.sip.dialog import MAX_ROUTES, Dialog, called, calling
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.uri import Uri


def invite(*routes: str, contact: str = "<sip:a@phone-a>") -> Request:
    request = Request("INVITE", Uri("b", "h"))
    for name, value in {
        "Via": "SIP/2.0/UDP h;branch=z9hG4bKx",
        "From": "<sip:a@h>;tag=a1",
        "To": "<sip:b@h>",
        "Call-ID": "c",
        "CSeq": "7 INVITE",
    }.items():
        request.headers.add(name, value)
    for route in routes:
        request.headers.add("Record-Route", route)
    if contact:
        request.headers.add("Contact", contact)
    return request


def answer(request: Request, *routes: str, contact: str = "<sip:b@phone-b>") -> Response:
    response = request.response(200, to_tag="b1")
    for route in routes:
        response.headers.add("Record-Route", route)
    response.headers.add("Contact", contact)
    return response


def test_both_sides_have_the_same_dialog() -> None:
    request = invite("<sip:p2;lr>, <sip:p1;lr>")
    uas = called(request, "b1")
    uac = calling(invite(), answer(invite(), "<sip:p2;lr>", "<sip:p1;lr>"))
    assert uas.id == ("c", "b1", "a1")
    assert uac.id == ("c", "a1", "b1")
    assert [str(route.uri) for route in uas.routes] == ["sip:p2;lr", "sip:p1;lr"]
    assert [str(route.uri) for route in uac.routes] == ["sip:p1;lr", "sip:p2;lr"]
    assert (uas.caller, uac.caller) == (False, True)
    assert (str(uas.target), str(uac.target)) == ("sip:a@phone-a", "sip:b@phone-b")


def test_requests_count_and_name_both_sides() -> None:
    dialog = calling(invite(), answer(invite()))
    bye = dialog.request("BYE")
    assert (bye.method, str(bye.uri), str(bye.cseq)) == ("BYE", "sip:b@phone-b", "8 BYE")
    assert (bye.from_.tag, bye.to.tag, bye.call_id) == ("a1", "b1", "c")
    assert str(dialog.request("INFO").cseq) == "9 INFO"
    assert str(dialog.ack(7).cseq) == "7 ACK"
    assert dialog.local_seq == 9


def test_a_route_is_followed() -> None:
    dialog = called(invite("<sip:p1;lr>", "<sip:p2;lr>"), "b1")
    request = dialog.request("BYE")
    assert str(dialog.next_hop) == "sip:p1;lr"
    assert str(request.uri) == "sip:a@phone-a"
    assert request.headers.all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]


def test_a_strict_router_gets_what_it_wants() -> None:
    """RFC 3261 section 12.2.1.1: it is the Request-URI, and the target comes last of the routes."""
    dialog = called(invite("<sip:p1>", "<sip:p2;lr>"), "b1")
    request = dialog.request("BYE")
    assert str(dialog.next_hop) == str(request.uri) == "sip:p1"
    assert request.headers.all("Route") == ["<sip:p2;lr>", "<sip:a@phone-a>"]


def test_requests_that_come_are_in_order_or_not_taken() -> None:
    dialog = called(invite(), "b1")
    wanted = {6: False, 7: False, 8: True, 20: True, 19: False, 21: True}
    for number, taken in wanted.items():
        request = Request("INFO", Uri("b", "h"))
        request.headers.add("CSeq", f"{number} INFO")
        assert dialog.in_order(request) is taken
    first = calling(invite(), answer(invite()))
    request = Request("INFO", Uri("b", "h"))
    request.headers.add("CSeq", "0 INFO")
    assert first.in_order(request)


def test_the_target_moves() -> None:
    dialog = called(invite(), "b1")
    dialog.refresh(invite(contact="<sip:a@elsewhere>"))
    assert str(dialog.target) == "sip:a@elsewhere"
    dialog.refresh(invite(contact=""))
    dialog.refresh(invite(contact="<mailto:a@h>"))
    assert str(dialog.target) == "sip:a@elsewhere"


@pytest.mark.parametrize("contact", ["", "<mailto:a@h>", "<tel:+1555>", "sip:a@[h"])
def test_there_is_no_dialog_without_a_target(contact: str) -> None:
    with pytest.raises(SipSyntaxError):
        called(invite(contact=contact), "b1")


def test_routes_are_bounded_and_lose_what_is_not_asked_for() -> None:
    with pytest.raises(SipSyntaxError, match=str(MAX_ROUTES)):
        called(invite(*["<sip:p;lr>"] * (MAX_ROUTES + 1)), "b1")
    dialog: Dialog = called(invite('"P" <sip:p;lr>'), "b1")
    assert dialog.request("BYE").headers.all("Route") == ["<sip:p;lr>"]
