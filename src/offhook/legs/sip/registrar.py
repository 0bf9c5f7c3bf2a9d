"""Where our phones are: the registrar of RFC 3261 section 10, as a table.

No I/O and no clock. Bounds: 5 places a user; a sixth takes the place of the oldest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from offhook.legs.sip.grammar import SipSyntaxError, number
from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.uri import Address, Uri

MAX_BINDINGS = 5  # of a user
DEFAULT_S = 3_600
SHORTEST_S = 60
LONGEST_S = 3_600

F = TypeVar("F")


@dataclass(frozen=True)
class Binding(Generic[F]):
    """One place where a user is reached: `flow` is the way on which the phone registered, and is called back."""

    contact: Uri
    flow: F
    expires_at: float
    call_id: str
    seq: int


class Registrar(Generic[F]):
    """All bindings, by user. Whoever calls `register` has checked that it is the user."""

    def __init__(self) -> None:
        self._bindings: dict[str, dict[str, Binding[F]]] = {}

    def bindings(self, user: str, now: float) -> list[Binding[F]]:
        """Return where `user` is, the newest last."""
        own = self._bindings.get(user, {})
        for contact in [contact for contact, one in own.items() if one.expires_at <= now]:
            del own[contact]
        return list(own.values())

    def users(self, now: float) -> int:
        """Return how many users are somewhere."""
        return sum(bool(self.bindings(user, now)) for user in self._bindings)

    def restore(self, user: str, bindings: Iterable[Binding[F]]) -> None:
        """Know what another process knew of a user, unless what is known is newer, or that the user is nowhere."""
        restored = {str(one.contact): one for one in bindings}
        known = self._bindings.get(user)
        if known is None or 0 < _until(known) < _until(restored):
            self._bindings[user] = restored

    def forget(self, user: str) -> None:
        """The user is none of ours any more."""
        self._bindings.pop(user, None)

    def register(self, user: str, request: Request, flow: F, now: float) -> Response:
        """Carry out a REGISTER of `user` and return its answer: 200 with all places, 400, 423 or 500."""
        try:
            wanted = self._wanted(request)
        except SipSyntaxError as error:
            return request.response(400, str(error))
        if any(0 < expires < SHORTEST_S for _, expires in wanted):
            response = request.response(423)
            response.headers.add("Min-Expires", SHORTEST_S)
            return response
        kept = {str(one.contact): one for one in self.bindings(user, now)}
        if request.headers.all("Contact") == ["*"]:
            wanted = [(one.contact, 0) for one in kept.values()]
        for contact, expires in wanted:
            before = kept.pop(str(contact), None)
            if before and before.call_id == request.call_id and request.cseq.number <= before.seq:
                return request.response(500, "Out of order")
            if expires:
                expires_at = now + min(expires, LONGEST_S)
                kept[str(contact)] = Binding(contact, flow, expires_at, request.call_id, request.cseq.number)
        self._bindings[user] = dict(list(kept.items())[-MAX_BINDINGS:])
        return self._listing(user, request, now)

    def _wanted(self, request: Request) -> list[tuple[Uri, int]]:
        """Return the contacts and for how many seconds each is asked; raise `SipSyntaxError` for a wrong request."""
        if request.to.uri.scheme not in ("sip", "sips"):
            raise SipSyntaxError("To: a SIP URI is expected")
        default = request.number("Expires")
        if "*" in request.headers.listed("Contact") and (request.headers.all("Contact") != ["*"] or default != 0):
            raise SipSyntaxError("Contact: * stands alone, with Expires: 0")
        wanted = []
        for address in request.contacts:
            if address.uri.scheme not in ("sip", "sips"):
                raise SipSyntaxError("Contact: a SIP URI is expected")
            expires = address.params.get("expires")
            asked = default if expires is None else number(expires, "expires")
            wanted.append((address.uri.without_headers(), DEFAULT_S if asked is None else asked))
        return wanted

    def _listing(self, user: str, request: Request, now: float) -> Response:
        response = request.response(200)
        for one in self.bindings(user, now):
            left = max(int(one.expires_at - now), 1)
            response.headers.add("Contact", Address(one.contact, params={"expires": str(left)}))
        return response


def _until(bindings: Mapping[str, Binding[F]]) -> float:
    """Return when the last one expires; 0 without any."""
    return max((one.expires_at for one in bindings.values()), default=0.0)
