"""A request of ours until it is answered: finding a way, transactions, proving who we are, cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from offhook.legs.sip import digest
from offhook.legs.sip.digest import Credentials
from offhook.legs.sip.exchange import ClientTransaction, new_via
from offhook.legs.sip.flows import Flow
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.headers import CSeq
from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.transaction import PATIENCE
from offhook.legs.sip.ways import Ways

if TYPE_CHECKING:
    from offhook.legs.sip.endpoint import Endpoint

NEXT_S = 4.0  # for the first word, while there is another way
ATTEMPTS = 3  # of one request by one way: as it is, with a proof, and with one for a fresh nonce


class ClientRequest:
    """One request and the transactions that it takes. Its user always gets a final response: 408 when none came, 503
    when there was no way, 487 for a cancelled INVITE that nobody answers; those are made here. It comes once, but for
    the 2xx to INVITE, which several phones may send, each more than once. Of several ways, the next is tried when one
    says 503, or nothing for `NEXT_S`: RFC 3263 would have 32 s, which nobody who calls waits for.

    `request` is what was sent last.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        request: Request,
        ways: Ways,
        on_response: Callable[[Response], None],
        credentials: Credentials | None,
        next_seq: Callable[[], int] | None,
        contact_user: str | None,
    ) -> None:
        """`ways` are where it can go."""
        self._endpoint = endpoint
        self._ways = ways
        self._loop = asyncio.get_running_loop()
        self._on_response = on_response
        self._credentials = credentials
        self._next_seq = next_seq
        self._contact_user = contact_user
        self._transaction: ClientTransaction | None = None
        self._patience: asyncio.TimerHandle | None = None  # with this way, while there is another one
        self._attempts = 0
        self._cancel: Callable[[Request], Request] | None = (
            None  # to be sent when the other side has said that it is there
        )
        self._cancelled = False
        self._there = False
        self._over = False
        self.request = request

    @property
    def flow(self) -> Flow | None:
        """The way it went; None while there is none."""
        return self._transaction.flow if self._transaction else None

    def start(self, flow: Flow | None) -> None:
        """Send it over `flow`; None: there is no way."""
        if self._over:
            return  # cancelled before a way was found
        if flow is None or flow.closed:
            self._answer_soon(503)
            return
        if "Via" not in self.request.headers:  # else it goes on under its branch, as a repetition
            self.request.headers.prepend("Via", new_via(flow))
        if self._contact_user is not None and "Contact" not in self.request.headers:
            self.request.headers.add("Contact", flow.contact(self._contact_user))
        self._attempts += 1
        self._transaction = self._endpoint.begin(self.request, flow, self._received)
        if self._transaction is None:
            self._answer_soon(503)
        elif self._ways.more:
            self._patience = self._loop.call_later(NEXT_S, self._too_slow)

    def cancel(self, make: Callable[[Request], Request]) -> None:
        """Cancel an INVITE, once the other side has said that it is there (section 9.1), by the CANCEL that `make`
        makes of it. The final response comes as ever, 64 × T1 later at the latest."""
        if self._over or self._cancelled:
            return
        self._cancelled = True
        self._stop_waiting()
        if self._transaction is None:
            self._answer_soon(487)
        elif self._there:
            self._send_cancel(make)
        else:
            self._cancel = make

    def _received(self, response: Response) -> None:
        self._stop_waiting()
        if response.final:
            if response.code == 503 and self._ways.more and not self._cancelled:
                self._go_elsewhere()
            elif not self._proved(response):
                self._over = True
                self._on_response(response)
            return
        self._there = True
        if self._cancel is not None:
            make, self._cancel = self._cancel, None
            self._send_cancel(make)
        self._on_response(response)

    def _too_slow(self) -> None:
        assert self._transaction is not None
        if self._endpoint.remove_client(self._transaction):  # else the endpoint is closed
            self._go_elsewhere()

    def _go_elsewhere(self) -> None:
        """Send it by the next way, as a transaction of its own (RFC 3263 section 4.3)."""
        assert self._transaction is not None
        self._ways.failed(self._transaction.flow)
        self._renew()
        if self._contact_user is not None:
            self.request.headers.remove("Contact")
        self._transaction, self._attempts = None, 0
        self._ways.take(self.start)

    def _renew(self) -> None:
        """Make the request one that can be sent once more; who has the last one keeps it as it was."""
        last = self.request
        self.request = Request(last.method, last.uri, headers=last.headers.copy(), body=last.body)
        self.request.headers.remove("Via")
        self._there = False

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _send_cancel(self, make: Callable[[Request], Request]) -> None:
        assert self._transaction is not None
        cancel = make(self.request)
        cancel.headers.prepend("Via", self.request.vias[0])
        self._endpoint.begin(cancel, self._transaction.flow, lambda response: None)
        self._loop.call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        """The INVITE was cancelled, and nobody answered it for all that."""
        if not self._over:
            assert self._transaction is not None
            self._endpoint.remove_client(self._transaction)
            self._answer(487)

    def _proved(self, response: Response) -> bool:
        """Whether it was sent again, with a proof of who we are."""
        if response.code not in (401, 407) or self._credentials is None or self._next_seq is None:
            return False
        proof = _proof(self.request, response, self._credentials)
        if proof is None or self._attempts >= ATTEMPTS or self._cancelled:
            return False
        self._renew()
        self.request.headers.replace("CSeq", CSeq(self._next_seq(), self.request.method))
        self.request.headers.replace(*proof)
        self.start(self.flow)
        return True

    def _answer_soon(self, code: int) -> None:
        self._over = True
        self._loop.call_soon(self._answer, code)

    def _answer(self, code: int) -> None:
        self._over = True
        self._on_response(self.request.response(code))


def _proof(request: Request, response: Response, credentials: Credentials) -> tuple[str, str] | None:
    """Return the header that answers a challenge; None if it cannot be answered, or was and not because it was old."""
    proxy = response.code == 407
    asked, answer = ("Proxy-Authenticate", "Proxy-Authorization") if proxy else ("WWW-Authenticate", "Authorization")
    for value in response.headers.all(asked):
        try:
            challenge = digest.parse_challenge(value)
        except SipSyntaxError:
            continue
        if answer in request.headers and not challenge.stale:
            return None
        return answer, digest.authorization(challenge, credentials, request.method, str(request.uri))
    return None
