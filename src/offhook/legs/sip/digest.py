"""Digest authentication, both sides (RFC 2617, 7616 and 8760): MD5 and SHA-256, qop=auth.

The server's nonces are signed and carry their time, so that nothing is kept for a challenge that nobody answers; what
is kept, to refuse a replay, is the highest count of the nonces that were used, of 4,096 at most, the oldest forgotten.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from offhook.legs.sip import grammar
from offhook.legs.sip.grammar import SipSyntaxError

NONCE_S = 300  # seconds that a nonce is good for
MAX_NONCES = 4_096

_HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}
_PAIR = re.compile(r'\s*([A-Za-z0-9\-_*]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]+)\s*(?:,|$)')
_QUOTED = frozenset({"username", "realm", "nonce", "uri", "response", "cnonce", "opaque"})


@dataclass(frozen=True)
class Credentials:
    user: str
    password: str


@dataclass(frozen=True)
class Challenge:
    """What a server wants proved. `qop`: whether it takes qop=auth (an RFC 2069 server does not)."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qop: bool = True
    opaque: str = ""
    stale: bool = False


def parse_pairs(value: str) -> dict[str, str]:
    """Return scheme (as "") and parameters of an (Proxy-/WWW-)Authenticate or (Proxy-)Authorization header, names in
    lower case. Raises `SipSyntaxError`."""
    scheme, _, rest = value.strip().partition(" ")
    found, at = {"": scheme.lower()}, 0
    while at < len(rest):
        match = _PAIR.match(rest, at)
        if match is None or match[1].lower() in found:
            raise SipSyntaxError("digest: name=value pairs are expected, each once")
        found[match[1].lower()] = grammar.unquote(match[2])
        at = match.end()
    return found


def _write_pairs(pairs: dict[str, str], quoted: frozenset[str] = _QUOTED) -> str:
    return "Digest " + ", ".join(
        f"{name}={grammar.quote(value) if name in quoted else value}" for name, value in pairs.items()
    )


def response(
    credentials: Credentials,
    challenge: Challenge,
    method: str,
    uri: str,
    count: str = "",
    cnonce: str = "",
) -> str:
    """Return the proof (RFC 7616 section 3.4.1); `count` and `cnonce` of qop=auth, "" without it."""
    digest = _HASHES[challenge.algorithm]
    a1 = digest(_bytes(f"{credentials.user}:{challenge.realm}:{credentials.password}"))
    a2 = digest(_bytes(f"{method}:{uri}"))
    middle = f"{challenge.nonce}:{count}:{cnonce}:auth" if cnonce else challenge.nonce
    return digest(_bytes(f"{a1}:{middle}:{a2}"))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")  # as it was received


# ------------------------------------------------------------------------------------------------ client


def parse_challenge(value: str) -> Challenge:
    """Return one WWW-Authenticate or Proxy-Authenticate. Raises `SipSyntaxError` for one that we cannot answer."""
    pairs = parse_pairs(value)
    algorithm = pairs.get("algorithm", "MD5").upper()
    if pairs[""] != "digest" or "realm" not in pairs or not pairs.get("nonce") or algorithm not in _HASHES:
        raise SipSyntaxError("a Digest challenge with realm, nonce and MD5 or SHA-256 is expected")
    qops = [word.strip().lower() for word in pairs.get("qop", "").split(",")]
    if "qop" in pairs and "auth" not in qops:
        raise SipSyntaxError("digest: qop=auth is expected")
    stale = pairs.get("stale", "").lower() == "true"
    return Challenge(pairs["realm"], pairs["nonce"], algorithm, "qop" in pairs, pairs.get("opaque", ""), stale)


def authorization(challenge: Challenge, credentials: Credentials, method: str, uri: str, cnonce: str = "") -> str:
    """Return the Authorization header that answers `challenge`, for the first use of its nonce."""
    cnonce = (cnonce or secrets.token_hex(8)) if challenge.qop else ""
    count = "00000001" if challenge.qop else ""
    pairs = {
        "username": credentials.user,
        "realm": challenge.realm,
        "nonce": challenge.nonce,
        "uri": uri,
        "response": response(credentials, challenge, method, uri, count, cnonce),
        "algorithm": challenge.algorithm,
    }
    if challenge.opaque:
        pairs["opaque"] = challenge.opaque
    if challenge.qop:
        pairs |= {"cnonce": cnonce, "qop": "auth", "nc": count}
    return _write_pairs(pairs)


# ------------------------------------------------------------------------------------------------ server


class Verdict(Enum):
    GOOD = auto()
    STALE = auto()  # the proof is right, the nonce is not any more: challenge again with stale=true
    BAD = auto()  # an answer to a challenge of ours, and wrong
    NONE = auto()  # no answer to a challenge of ours: whoever sent it need not even have seen one


class Verifier:
    """Challenges, and checks the answers. `secret` signs nonces; a fresh one for each process will do.

    `algorithms` are what it challenges with, the best first. Only MD5 as a rule: telephones of before 2020 stop at a
    second challenge that they do not know (baresip 1.0.0 does). With TLS that is no loss.
    """

    def __init__(self, realm: str, secret: bytes, algorithms: Sequence[str] = ("MD5",)) -> None:
        """Raises ValueError for an algorithm that is neither MD5 nor SHA-256."""
        if not algorithms or not set(algorithms) <= _HASHES.keys():
            raise ValueError(f"digest: {' or '.join(_HASHES)} is expected, not {', '.join(algorithms)}")
        self.realm = realm
        self._algorithms = tuple(algorithms)
        self._secret = secret
        self._counts: OrderedDict[str, int] = OrderedDict()  # highest count by nonce

    def challenges(self, now: float, stale: bool = False) -> list[str]:
        """Return the WWW-Authenticate headers of a challenge, one for each algorithm."""
        nonce = self._nonce(now)
        return [
            _write_pairs(
                {"realm": self.realm, "nonce": nonce, "algorithm": algorithm, "qop": "auth"}
                | ({"stale": "true"} if stale else {}),
                _QUOTED | {"qop"},
            )
            for algorithm in self._algorithms
        ]

    def verify(
        self, header: str, method: str, password_of: Callable[[str], str | None], now: float
    ) -> tuple[Verdict, str]:
        """Check an Authorization header, and return the verdict and the user who it says it is from.

        `password_of` returns a user's password, None for nobody we know; that takes as long as a wrong password does.
        The URI in the header is what is proved; behind a proxy it need not be the request's.
        """
        try:
            pairs = parse_pairs(header)
        except SipSyntaxError:
            return Verdict.NONE, ""
        user, nonce, count, cnonce = (pairs.get(name, "") for name in ("username", "nonce", "nc", "cnonce"))
        algorithm = pairs.get("algorithm", "MD5").upper()
        age = self._age(nonce, now)
        complete = pairs.get("qop", "").lower() == "auth" and cnonce and re.fullmatch("[0-9a-fA-F]{8}", count)
        if pairs[""] != "digest" or algorithm not in self._algorithms or age is None or not complete:
            return Verdict.NONE, user
        password = password_of(user)
        challenge = Challenge(self.realm, nonce, algorithm)
        credentials = Credentials(user, password or "")
        wanted = response(credentials, challenge, method, pairs.get("uri", ""), count, cnonce)
        if not hmac.compare_digest(wanted.encode(), _bytes(pairs.get("response", "").lower())) or password is None:
            return Verdict.BAD, user
        if age > NONCE_S or not self._fresh(nonce, int(count, 16)):
            return Verdict.STALE, user
        return Verdict.GOOD, user

    def _nonce(self, now: float) -> str:
        stamp = struct.pack("!d", now) + secrets.token_bytes(8)
        return base64.urlsafe_b64encode(stamp + self._sign(stamp)).decode()

    def _age(self, nonce: str, now: float) -> float | None:
        """Return how old a nonce is, None if it is none of ours."""
        try:
            raw = base64.b64decode(nonce, altchars=b"-_", validate=True)
        except ValueError:
            return None
        stamp, signature = raw[:16], raw[16:]
        if len(raw) != 32 or not hmac.compare_digest(signature, self._sign(stamp)):
            return None
        then: float = struct.unpack("!d", stamp[:8])[0]
        return now - then

    def _sign(self, stamp: bytes) -> bytes:
        return hmac.digest(self._secret, stamp + self.realm.encode(), "sha256")[:16]

    def _fresh(self, nonce: str, count: int) -> bool:
        """Whether this count of the nonce is a new one; a nonce that was forgotten may be used again while it lasts."""
        if count <= self._counts.get(nonce, 0):
            return False
        self._counts[nonce] = count
        self._counts.move_to_end(nonce)
        if len(self._counts) > MAX_NONCES:
            self._counts.popitem(last=False)
        return True
