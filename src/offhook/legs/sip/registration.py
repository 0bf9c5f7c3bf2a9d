"""Our name at a provider's registrar, kept there (RFC 3261 section 10.2)."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable

from offhook.legs.sip.digest import Credentials
from offhook.legs.sip.endpoint import Endpoint
from offhook.legs.sip.flows import Flow
from offhook.legs.sip.framing import PING
from offhook.legs.sip.grammar import SipSyntaxError, number
from offhook.legs.sip.guard import Trunk
from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.uri import Address, Uri, parse_uri

EXPIRES_S = 600
LONGEST_S = 86_400
RETRY_S = 30.0  # after a failure; twice as long after each further one
LONGEST_RETRY_S = 600.0
KEEP_ALIVE_S = 25.0  # between packets that keep a NAT's way in open


class Registration:
    """One trunk's. `registered` and `detail` tell how it is: `detail` is the last answer, in words; `since` is the loop
    time from which on it has been registered, or has not."""

    def __init__(self, endpoint: Endpoint, trunk: Trunk, trust: Callable[[str], None]) -> None:
        """`trust` is told the address at which we are registered. Raises ValueError for a URI that is none."""
        self._endpoint = endpoint
        self._registrar = parse_uri(trunk.register)
        self._server = parse_uri(trunk.server) if trunk.server else self._registrar
        self._user = trunk.user
        self._credentials = Credentials(trunk.user, trunk.password)
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._call_id = secrets.token_hex(16)
        self._tag = secrets.token_hex(8)
        self._seq = 0
        self._expires = EXPIRES_S
        self._failures = 0
        self._flow: Flow | None = None
        self._next: asyncio.TimerHandle | None = None
        self._alive: asyncio.TimerHandle | None = None
        self._stopped = False
        self.registered = False
        self.detail = "not tried yet"
        self.since = self._loop.time()

    def start(self) -> None:
        self._register(self._expires)

    def stop(self) -> None:
        """Sign off, if we are registered."""
        self._stopped = True
        for timer in (self._next, self._alive):
            if timer is not None:
                timer.cancel()
        if self.registered:
            self._note(False)
            self._register(0)

    def _register(self, expires: int) -> None:
        address = Address(Uri(self._user, self._registrar.host, scheme=self._registrar.scheme))
        request = Request("REGISTER", Uri("", self._registrar.host, self._registrar.port, scheme=address.uri.scheme))
        request.headers.add("Max-Forwards", 70)
        request.headers.add("From", address.tagged(self._tag))
        request.headers.add("To", address)
        request.headers.add("Call-ID", self._call_id)
        request.headers.add("CSeq", f"{self._next_seq()} REGISTER")
        request.headers.add("Expires", expires)
        asked = self._endpoint.request(
            request,
            self._server,
            lambda response: self._answered(asked.flow, response),
            near=self._flow,
            credentials=self._credentials,
            next_seq=self._next_seq,
            contact_user=self._user,
        )

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _answered(self, flow: Flow | None, response: Response) -> None:
        if not response.final or self._stopped:
            return
        self.detail = f"{response.code} {response.reason}"
        if response.success and flow is not None:
            self._taken(flow, response)
            return
        self._note(False)
        self._flow = None
        least = _number(response, "Min-Expires") if response.code == 423 else None
        if least is not None and self._expires < least <= LONGEST_S:
            self._expires = least
            self._register(self._expires)
            return
        after = min(RETRY_S * 2**self._failures, LONGEST_RETRY_S)
        self._failures = min(self._failures + 1, 10)
        self._again_in(after * random.uniform(0.5, 1.0))

    def _taken(self, flow: Flow, response: Response) -> None:
        self._note(True)
        self._failures, self._flow = 0, flow
        self._trust(flow.remote[0])
        expires = _granted(response, flow.contact(self._user).uri)
        self._again_in((expires or self._expires) * random.uniform(0.6, 0.8))
        self._keep_alive()

    def _note(self, registered: bool) -> None:
        if registered != self.registered:
            self.registered, self.since = registered, self._loop.time()

    def _again_in(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_later(seconds, self._register, self._expires)

    def _keep_alive(self) -> None:
        if self._alive is not None:
            self._alive.cancel()
        if self._flow is not None and self._flow.closed:
            self._flow = None
            self._again_in(0.0)
        elif self._flow is not None:
            self._flow.send(PING)
            self._alive = self._loop.call_later(KEEP_ALIVE_S, self._keep_alive)


def _granted(response: Response, ours: Uri) -> int | None:
    """Return for how many seconds we are registered, None if the response does not say."""
    for contact in response.contacts:
        expires = contact.params.get("expires")
        if expires and (contact.uri.user, contact.uri.host, contact.uri.port) == (ours.user, ours.host, ours.port):
            try:
                return number(expires, "expires", LONGEST_S)
            except SipSyntaxError:
                return None
    return _number(response, "Expires")


def _number(response: Response, name: str) -> int | None:
    try:
        return response.number(name, LONGEST_S)
    except SipSyntaxError:
        return None
