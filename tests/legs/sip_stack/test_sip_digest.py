"""Digest: the RFCs' own examples, and a server that is lied to."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.legs.sip import digest
from offhook.legs.sip.digest import MAX_NONCES, NONCE_S, Challenge, Credentials, Verdict, Verifier
from offhook.legs.sip.grammar import SipSyntaxError

PASSWORDS = {"alice": "secret", "böb": 'a"b\\c'}
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("password", "challenge", "count", "cnonce", "wanted"),
    [
        (  # RFC 2617 section 3.5
            "Circle Of Life",
            Challenge("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093"),
            "00000001",
            "0a4f113b",
            "6629fae49393a05397450978507c4ef1",
        ),
        (  # RFC 2069 section 2.4, as corrected: without qop
            "CircleOfLife",
            Challenge("testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", qop=False),
            "",
            "",
            "1949323746fe6a43ef61f9606e7febea",
        ),
        (  # RFC 7616 section 3.9.1
            "Circle of Life",
            Challenge("http-auth@example.org", NONCE),
            "00000001",
            CNONCE,
            "8ca523f5e9506fed4657c9700eebdbec",
        ),
        (
            "Circle of Life",
            Challenge("http-auth@example.org", NONCE, "SHA-256"),
            "00000001",
            CNONCE,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ],
)
def test_the_examples_of_the_rfcs(password: str, challenge: Challenge, count: str, cnonce: str, wanted: str) -> None:
    credentials = Credentials("Mufasa", password)
    assert digest.response(credentials, challenge, "GET", "/dir/index.html", count, cnonce) == wanted


def verifier() -> Verifier:
    return Verifier("offhook", b"secret")


def proof(
    server: Verifier, user: str = "alice", password: str = "secret", at: float = 0.0, method: str = "INVITE"
) -> str:
    challenge = digest.parse_challenge(server.challenges(at)[0])
    return digest.authorization(challenge, Credentials(user, password), method, "sip:100@h")


@pytest.mark.parametrize("user", PASSWORDS)
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_both_sides_understand_each_other(user: str, algorithm: str) -> None:
    server = Verifier("offhook", b"secret", [algorithm])
    (challenge,) = map(digest.parse_challenge, server.challenges(0.0))
    assert challenge.algorithm == algorithm
    header = digest.authorization(challenge, Credentials(user, PASSWORDS[user]), "INVITE", "sip:100@h")
    assert server.verify(header, "INVITE", PASSWORDS.get, 1.0) == (Verdict.GOOD, user)


def test_an_algorithm_that_was_not_asked_for_proves_nothing() -> None:
    stronger = Verifier("offhook", b"secret", ["SHA-256", "MD5"])
    first, second = map(digest.parse_challenge, stronger.challenges(0.0))
    assert (first.algorithm, second.algorithm) == ("SHA-256", "MD5")
    header = digest.authorization(second, Credentials("alice", "secret"), "INVITE", "sip:100@h")
    assert stronger.verify(header, "INVITE", PASSWORDS.get, 1.0)[0] is Verdict.GOOD
    only = Verifier("offhook", b"secret", ["SHA-256"])
    assert only.verify(header, "INVITE", PASSWORDS.get, 1.0)[0] is Verdict.NONE
    with pytest.raises(ValueError, match="SHA-256"):
        Verifier("offhook", b"secret", ["SHA-512"])


@pytest.mark.parametrize(
    ("user", "password", "method"),
    [
        ("alice", "wrong", "INVITE"),
        ("nobody", "", "INVITE"),
        ("nobody", "secret", "INVITE"),
        ("alice", "secret", "BYE"),
    ],
)
def test_a_wrong_proof_is_bad(user: str, password: str, method: str) -> None:
    server = verifier()
    assert server.verify(proof(server, user, password), method, PASSWORDS.get, 1.0) == (Verdict.BAD, user)


def test_a_proof_is_good_once() -> None:
    server = verifier()
    header = proof(server)
    assert server.verify(header, "INVITE", PASSWORDS.get, 1.0)[0] is Verdict.GOOD
    assert server.verify(header, "INVITE", PASSWORDS.get, 1.0)[0] is Verdict.STALE


def test_a_nonce_grows_old() -> None:
    server = verifier()
    assert server.verify(proof(server), "INVITE", PASSWORDS.get, NONCE_S + 1)[0] is Verdict.STALE
    stale = digest.parse_challenge(server.challenges(0.0, stale=True)[0])
    assert stale.stale


def test_a_nonce_of_somebody_else_is_none() -> None:
    other = Verifier("offhook", b"another secret")
    assert verifier().verify(proof(other), "INVITE", PASSWORDS.get, 1.0)[0] is Verdict.NONE


def test_the_table_of_used_nonces_is_bounded() -> None:
    server = verifier()
    for _ in range(MAX_NONCES + 10):
        assert server.verify(proof(server), "INVITE", PASSWORDS.get, 1.0)[0] is Verdict.GOOD
    assert len(server._counts) == MAX_NONCES


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic YWxpY2U6c2VjcmV0",
        "Digest",
        'Digest username="alice"',
        'Digest username="alice", username="bob"',
        'Digest username="alice',
        'Digest nonce="\udcff", username="\udcff", response="x", qop=auth, cnonce="x", nc=00000001',
    ],
)
def test_no_proof_at_all(header: str) -> None:
    assert verifier().verify(header, "INVITE", PASSWORDS.get, 1.0)[0] is Verdict.NONE


@given(st.text(max_size=300))
def test_any_text_is_borne(text: str) -> None:
    for header in (text, f"Digest {text}"):
        assert verifier().verify(header, "INVITE", PASSWORDS.get, 1.0)[0] is Verdict.NONE
        with contextlib.suppress(SipSyntaxError):
            digest.parse_challenge(header)


@pytest.mark.parametrize("qop", ["auth", "auth-int,auth", "auth, auth-int", "AUTH"])
def test_a_challenge_with_several_protections_is_answered(qop: str) -> None:
    challenge = digest.parse_challenge(f'Digest realm="a, b", nonce="n", qop="{qop}", opaque="o=,"')
    assert (challenge.realm, challenge.qop) == ("a, b", True)
    header = digest.parse_pairs(digest.authorization(challenge, Credentials("u", "p"), "REGISTER", "sip:h", "c"))
    assert (header["opaque"], header["qop"], header["nc"]) == ("o=,", "auth", "00000001")


@pytest.mark.parametrize(
    "value",
    [
        'Digest realm="r"',
        'Digest nonce="n"',
        'Digest realm="r", nonce="n", algorithm=SHA-512',
        "Bearer x",
        'Digest realm="r", nonce="n", qop="auth-int"',
    ],
)
def test_a_challenge_that_we_cannot_answer(value: str) -> None:
    with pytest.raises(SipSyntaxError):
        digest.parse_challenge(value)
