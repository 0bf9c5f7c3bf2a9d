"""Who gets in, who is asked who he is, and who gets nothing."""

from __future__ import annotations

import pytest

from offhook.legs.sip import digest
from offhook.legs.sip.digest import Credentials, Verifier
from offhook.legs.sip.guard import (
    FREE_FAILURES,
    MAX_SOURCES,
    Admitted,
    Challenged,
    Forbidden,
    Guard,
    Ignored,
    Judgement,
    Phone,
    Trunk,
)
from offhook.legs.sip.message import Request
from offhook.legs.sip.uri import Uri

CARRIER, PBX, ELSEWHERE = "192.0.2.10", "2001:db8::5", "198.51.100.7"
TRUNKS = (
    Trunk("carrier", ("192.0.2.0/24",), rate=100),
    Trunk("pbx", ("2001:db8::/32",), user="pbx", password="key", challenge=True),
)


def guard() -> Guard:
    return Guard(TRUNKS, [Phone("alice", "secret"), Phone("bob", "hidden")], Verifier("offhook", b"secret"), rate=10)


def request(method: str = "INVITE", user: str = "alice", proof: str = "") -> Request:
    made = Request(method, Uri("100", "h"))
    made.headers.add("From", f"<sip:{user}@h>;tag=1")
    made.headers.add("To", f"<sip:{user}@h>")
    if proof:
        made.headers.add("Authorization", proof)
    return made


def proved(
    one: Guard,
    ip: str,
    now: float = 0.0,
    user: str = "alice",
    password: str = "secret",
    method: str = "INVITE",
    as_: str = "",
) -> Judgement:
    """Ask, answer the challenge, and return what comes of it."""
    challenge = digest.parse_challenge(one.verifier.challenges(now)[0])
    proof = digest.authorization(challenge, Credentials(user, password), method, "sip:100@h")
    return one.judge(request(method, as_ or user, proof), ip, now)


def test_a_trunk_is_known_by_its_address() -> None:
    assert guard().judge(request(user="+15550100"), CARRIER, 0.0) == Admitted(trunk="carrier")


def test_who_is_unknown_gets_nothing() -> None:
    for method in ("INVITE", "REGISTER", "OPTIONS", "BYE"):
        assert guard().judge(request(method, "stranger"), ELSEWHERE, 0.0) == Ignored()


@pytest.mark.parametrize("method", ["INVITE", "REGISTER"])
def test_a_phone_is_challenged_and_let_in(method: str) -> None:
    one = guard()
    assert isinstance(one.judge(request(method), ELSEWHERE, 0.0), Challenged)
    assert proved(one, ELSEWHERE, method=method) == Admitted(phone="alice")


def test_a_phone_behind_a_trunk_s_address_registers_by_its_password_all_the_same() -> None:
    assert isinstance(guard().judge(request("REGISTER", "stranger"), CARRIER, 0.0), Challenged)
    assert proved(guard(), CARRIER, method="REGISTER") == Admitted(phone="alice")


@pytest.mark.parametrize("method", ["INVITE", "REGISTER"])
def test_a_phone_speaks_for_itself_only(method: str) -> None:
    assert proved(guard(), ELSEWHERE, method=method, as_="bob") == Forbidden()


def test_a_trunk_that_is_challenged_proves_itself_from_anywhere() -> None:
    one = guard()
    assert isinstance(one.judge(request(user="+15550100"), PBX, 0.0), Challenged)
    assert proved(one, PBX, user="pbx", password="key", as_="+15550100") == Admitted(trunk="pbx")
    assert isinstance(one.judge(request(user="pbx"), ELSEWHERE, 0.0), Challenged)
    assert proved(one, ELSEWHERE, user="pbx", password="key", as_="+15550100") == Admitted(trunk="pbx")


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_a_trunk_without_addresses_is_known_by_its_proof_whoever_calls(method: str) -> None:
    trunks = (*TRUNKS, Trunk("roaming", user="account", password="key", challenge=True))
    one = Guard(trunks, [Phone("alice", "secret")], Verifier("offhook", b"secret"))
    assert isinstance(one.judge(request(method, "+15550100"), ELSEWHERE, 0.0), Challenged)
    proof = {"user": "account", "password": "key", "as_": "+15550100", "method": method}
    assert proved(one, ELSEWHERE, **proof) == Admitted(trunk="roaming")  # type: ignore[arg-type]
    assert one.judge(request("REGISTER", "stranger"), ELSEWHERE, 0.0) == Ignored()
    for _ in range(FREE_FAILURES + 1):
        proved(one, ELSEWHERE, **(proof | {"password": "guess"}))  # type: ignore[arg-type]
    assert one.judge(request(method, "+15550100"), ELSEWHERE, 0.0) == Ignored()
    one.reload(TRUNKS, [])
    assert one.judge(request(method, "+15550100"), "203.0.113.1", 0.0) == Ignored()


def test_where_we_are_registered_calls_come_from() -> None:
    one = guard()
    one.trust(ELSEWHERE, "carrier")
    assert one.judge(request(), ELSEWHERE, 0.0) == Admitted(trunk="carrier")
    one.reload([], [])
    assert one.judge(request(), ELSEWHERE, 0.0) == Ignored()
    assert not one.welcomes(ELSEWHERE)


def test_wrong_passwords_are_waited_for_ever_longer() -> None:
    one = guard()
    for _ in range(FREE_FAILURES + 1):
        assert isinstance(proved(one, ELSEWHERE, password="guess"), Challenged)
    assert proved(one, ELSEWHERE, 1.0) == Ignored()  # even the right one
    assert proved(one, CARRIER, 1.0) == Admitted(phone="alice")  # from elsewhere
    assert isinstance(proved(one, ELSEWHERE, 2.1, password="guess"), Challenged)
    assert proved(one, ELSEWHERE, 5.0) == Ignored()
    assert proved(one, ELSEWHERE, 6.2) == Admitted(phone="alice")
    assert isinstance(proved(one, ELSEWHERE, 6.2, password="guess"), Challenged)
    assert one.counts["wrong_password"] == FREE_FAILURES + 3


def test_who_has_not_seen_a_challenge_cannot_have_somebody_else_kept_out() -> None:
    one = guard()
    challenge = digest.parse_challenge(Verifier("offhook", b"another secret").challenges(0.0)[0])
    for _ in range(20):
        proof = digest.authorization(challenge, Credentials("alice", "guess"), "INVITE", "sip:100@h")
        one.judge(request(proof=proof), ELSEWHERE, 0.0)
    assert proved(one, ELSEWHERE) == Admitted(phone="alice")


def test_wrong_passwords_do_not_keep_a_trunk_out() -> None:
    one = guard()
    for _ in range(20):
        proved(one, CARRIER, password="guess")
    assert one.judge(request(), CARRIER, 0.0) == Admitted(trunk="carrier")


@pytest.mark.parametrize(("ip", "rate"), [(ELSEWHERE, 10), (CARRIER, 100)])
def test_each_source_has_its_rate(ip: str, rate: int) -> None:
    one = guard()
    assert sum(one.paces(ip, 0.0) for _ in range(1_000)) == 2 * rate
    assert sum(one.paces(ip, 1.0) for _ in range(1_000)) == rate
    assert one.paces("203.0.113.1", 1.0)
    assert one.counts["too_fast"] == 2_000 - 3 * rate


def test_a_source_where_a_phone_has_proved_itself_may_send_more() -> None:
    one = guard()
    assert proved(one, ELSEWHERE) == Admitted(phone="alice")
    assert sum(one.paces(ELSEWHERE, 0.0) for _ in range(1_000)) == 200


def test_the_tables_are_bounded() -> None:
    one = guard()
    for number in range(MAX_SOURCES + 100):
        ip = f"10.0.{number // 256}.{number % 256}"
        one.paces(ip, 0.0)
        one._fail(ip, 0.0)
    assert len(one._buckets._table) == len(one._failures._table) == MAX_SOURCES


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Trunk("t", ("192.0.2.0/33",)),
        lambda: Trunk("t", challenge=True),
        lambda: Guard([Trunk("t"), Trunk("t")], [], Verifier("r", b"s")),
        lambda: Guard([], [Phone("a", "1"), Phone("a", "2")], Verifier("r", b"s")),
        lambda: Guard([Trunk("t", user="a", password="x", challenge=True)], [Phone("a", "1")], Verifier("r", b"s")),
        lambda: Guard([Trunk(name, user="a", password="x", challenge=True) for name in "tu"], [], Verifier("r", b"s")),
    ],
)
def test_settings_that_contradict_each_other(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"name|challenge|network"):
        wrong()  # type: ignore[operator]


def test_a_reload_that_fails_changes_nothing() -> None:
    one = guard()
    with pytest.raises(ValueError, match="same name"):
        one.reload([Trunk("t"), Trunk("t")], [])
    assert one.judge(request(), CARRIER, 0.0) == Admitted(trunk="carrier")


def test_passwords_are_not_shown() -> None:
    assert "key" not in repr(TRUNKS[1])
    assert "secret" not in repr(Phone("alice", "secret"))
