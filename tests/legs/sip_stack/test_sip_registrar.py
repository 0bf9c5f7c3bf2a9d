"""The registrar: where phones are, for how long, and who may say so."""

from __future__ import annotations

import pytest

from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.registrar import LONGEST_S, MAX_BINDINGS, Binding, Registrar
from offhook.legs.sip.uri import Uri, parse_uri


def register(
    one: Registrar[str], *contacts: str, expires: int | None = None, now: float = 0.0, seq: int = 1, call_id: str = "c"
) -> Response:
    request = Request("REGISTER", Uri("", "h"))
    request.headers.add("To", "<sip:alice@h>")
    request.headers.add("From", "<sip:alice@h>;tag=1")
    request.headers.add("Call-ID", call_id)
    request.headers.add("CSeq", f"{seq} REGISTER")
    for contact in contacts:
        request.headers.add("Contact", contact)
    if expires is not None:
        request.headers.add("Expires", expires)
    return one.register("alice", request, f"flow {seq}", now)


def places(one: Registrar[str], now: float = 0.0) -> list[str]:
    return [str(binding.contact) for binding in one.bindings("alice", now)]


def test_a_phone_is_where_it_says_until_it_expires() -> None:
    one: Registrar[str] = Registrar()
    response = register(one, "<sip:a@p1>", expires=120)
    assert (response.code, response.contacts[0].params["expires"]) == (200, "120")
    assert places(one, 119) == ["sip:a@p1"]
    assert places(one, 121) == []


def test_a_refresh_moves_it_to_the_end() -> None:
    one: Registrar[str] = Registrar()
    register(one, "<sip:a@p1>", seq=1)
    register(one, "<sip:a@p2>", seq=1, call_id="d")
    register(one, "<sip:a@p1>", seq=2)
    assert places(one) == ["sip:a@p2", "sip:a@p1"]
    assert one.bindings("alice", 0.0)[-1].flow == "flow 2"


def test_expires_of_the_contact_counts_before_that_of_the_header() -> None:
    one: Registrar[str] = Registrar()
    response = register(one, "<sip:a@p1>;expires=300", "<sip:a@p2>", expires=600)
    assert [contact.params["expires"] for contact in response.contacts] == ["300", "600"]
    assert register(one, "<sip:a@p3>", seq=2).contacts[-1].params["expires"] == str(LONGEST_S)
    assert register(one, "<sip:a@p3>;expires=99999", seq=3).contacts[-1].params["expires"] == str(LONGEST_S)


def test_signing_off_one_place_or_all() -> None:
    one: Registrar[str] = Registrar()
    register(one, "<sip:a@p1>", "<sip:a@p2>")
    register(one, "<sip:a@p1>", expires=0, seq=2)
    assert places(one) == ["sip:a@p2"]
    assert register(one, "*", expires=0, seq=3).code == 200
    assert places(one) == []


def test_asking_changes_nothing() -> None:
    one: Registrar[str] = Registrar()
    register(one, "<sip:a@p1>")
    assert len(register(one, seq=2).contacts) == 1
    assert places(one) == ["sip:a@p1"]


@pytest.mark.parametrize("contacts", [["*"], ["*", "<sip:a@p1>"], ["<tel:+1555>"], ["<sip:a@p1>;expires=soon"]])
def test_what_is_wrong(contacts: list[str]) -> None:
    assert register(Registrar(), *contacts).code == 400


def test_too_short() -> None:
    response = register(Registrar(), "<sip:a@p1>", expires=10)
    assert (response.code, response.headers.get("Min-Expires")) == (423, "60")


def test_an_older_request_changes_nothing() -> None:
    one: Registrar[str] = Registrar()
    register(one, "<sip:a@p1>", seq=5)
    assert register(one, "<sip:a@p1>", expires=0, seq=4).code == 500
    assert places(one) == ["sip:a@p1"]


def test_places_are_bounded_and_the_oldest_goes() -> None:
    one: Registrar[str] = Registrar()
    for number in range(MAX_BINDINGS + 2):
        register(one, f"<sip:a@p{number}>", seq=number + 1)
    assert places(one) == [f"sip:a@p{number}" for number in range(2, MAX_BINDINGS + 2)]


def test_a_user_who_is_no_more() -> None:
    one: Registrar[str] = Registrar()
    register(one, "<sip:a@p1>")
    one.forget("alice")
    assert places(one) == []


def test_what_another_process_knew_counts_unless_it_is_older() -> None:
    one: Registrar[str] = Registrar()
    one.restore("alice", [binding("sip:a@old", 60)])
    assert places(one) == ["sip:a@old"]
    one.restore("alice", [binding("sip:a@newer", 90)])
    one.restore("alice", [binding("sip:a@old", 60)])
    assert places(one) == ["sip:a@newer"]
    register(one, "<sip:a@here>", expires=120)
    one.restore("alice", [binding("sip:a@newer", 90)])
    assert places(one) == ["sip:a@newer", "sip:a@here"]
    register(one, "*", expires=0, seq=2)
    one.restore("alice", [binding("sip:a@newer", 90)])
    assert places(one) == []


def binding(contact: str, expires_at: float) -> Binding[str]:
    return Binding(parse_uri(contact), "flow", expires_at, "before", 1)
