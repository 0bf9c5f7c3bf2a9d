"""All transactions over some sockets, found by what comes for them (RFC 3261 sections 17.1.3, 17.2.3 and 18).

Bounds: 20,000 transactions; with that many, new requests that come get no answer, and none is sent.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from functools import partial

from offhook.legs.sip.client import ClientRequest
from offhook.legs.sip.digest import Credentials
from offhook.legs.sip.exchange import COOKIE, ClientTransaction, ServerTransaction, new_via, send
from offhook.legs.sip.flows import Flow, UdpFlow
from offhook.legs.sip.message import Malformed, Request, Response, parse
from offhook.legs.sip.transaction import Input, State
from offhook.legs.sip.transport import Transports
from offhook.legs.sip.uri import Uri

MAX_TRANSACTIONS = 20_000
METHODS = frozenset(  # those that are counted by their name
    (
        *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "UPDATE", "PRACK"),
        *("INFO", "REFER", "NOTIFY", "REGISTER", "SUBSCRIBE", "MESSAGE", "PUBLISH"),
    )
)

Key = tuple[str, ...]


class Endpoint:
    """Make it before the transports start, and set the callbacks, too."""

    def __init__(self, transports: Transports, product: str) -> None:
        """`product` goes into User-Agent and Server."""
        self.product = product
        self.counts: Counter[str] = Counter()
        self.requests: Counter[tuple[str, str]] = Counter()  # messages, by direction (in, out) and method
        self.responses: Counter[tuple[str, str]] = Counter()  # by direction and class: 1xx to 6xx
        self.paces: Callable[[str], bool] = lambda ip: True  # whether a message from there may be read
        self.on_request: Callable[[Request, Flow], None] = lambda request, flow: None  # a new one: `accept` it, or not
        self.on_ack: Callable[[Request], None] = lambda request: None  # of a 2xx
        self.on_malformed: Callable[[Response, Flow], None] = lambda answer, flow: None
        self._transports = transports
        self._servers: dict[Key, ServerTransaction] = {}
        self._clients: dict[Key, ClientTransaction] = {}
        transports.receive = self._receive
        transports.lost = self._lost

    def close(self) -> None:
        """Forget all transactions."""
        for one in (*self._servers.values(), *self._clients.values()):
            one.close()
        self._servers.clear()
        self._clients.clear()

    @property
    def unanswered(self) -> int:
        """Requests of ours that may still be answered."""
        open_states = (State.CALLING, State.TRYING, State.PROCEEDING)
        return sum(client.state in open_states for client in self._clients.values())

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    def note(self, direction: str, message: Request | Response) -> None:
        """Count a message. Methods that nobody knows are one, however many there are."""
        if isinstance(message, Response):
            self.responses[direction, f"{message.code // 100}xx"] += 1
        else:
            self.requests[direction, message.method if message.method in METHODS else "other"] += 1

    # ------------------------------------------------------------------------------------------ what is sent

    def request(
        self,
        request: Request,
        hop: Uri,
        on_response: Callable[[Response], None],
        *,
        near: Flow | None = None,
        pinned: bool = False,
        credentials: Credentials | None = None,
        next_seq: Callable[[], int] | None = None,
        contact_user: str | None = None,
        otherwise: Callable[[Callable[[Flow | None], None]], None] | None = None,
    ) -> ClientRequest:
        """Send a request to `hop`, over `near` where that fits (or, `pinned`, at all costs). Its responses are handed
        to `on_response`, never before this returns.

        With `credentials` and `next_seq` (which gives the number of the next attempt), a challenge is answered. With
        `contact_user`, the request gets a Contact. `otherwise` is asked for a way when there is none.
        """
        ways = self._transports.ways(hop, near, pinned)
        asked = ClientRequest(self, request, ways, on_response, credentials, next_seq, contact_user)

        def start(flow: Flow | None) -> None:
            if flow is None and otherwise is not None:
                otherwise(asked.start)
            else:
                asked.start(flow)

        ways.take(start)
        return asked

    def packets_to(self, uri: Uri) -> Flow | None:
        """Return the way to an IP address over UDP, before the sockets are open, too; None when there is none."""
        found: list[Flow | None] = [None]
        self._transports.ways(uri).take(found.append)
        return found[-1]

    def send_ack(self, ack: Request, hop: Uri, near: Flow | None, pinned: bool) -> None:
        """Send the ACK of a 2xx, which is no transaction."""
        self._transports.ways(hop, near, pinned).take(partial(self._send_ack, ack))

    def _send_ack(self, ack: Request, flow: Flow | None) -> None:
        if flow is not None:
            ack.headers.remove("Via")
            ack.headers.prepend("Via", new_via(flow))
            self.note("out", ack)
            send(ack, flow, self.product)

    def begin(self, request: Request, flow: Flow, on_response: Callable[[Response], None]) -> ClientTransaction | None:
        """Send a request that has its Via; None when there are too many transactions."""
        if len(self) >= MAX_TRANSACTIONS:
            self.counts["too_many_transactions"] += 1
            return None
        client = ClientTransaction(self, request, flow, on_response)
        self._clients[_client_key(request)] = client
        client.handle(Input.START)
        return client

    def remove_client(self, client: ClientTransaction) -> bool:
        """Forget it; False if it was forgotten before."""
        client.close()
        return self._clients.pop(_client_key(client.request), None) is not None

    def remove_server(self, server: ServerTransaction) -> None:
        self._servers.pop(_server_key(server.request), None)

    # ------------------------------------------------------------------------------------------ what comes

    def accept(self, request: Request, flow: Flow) -> ServerTransaction:
        """Make the transaction of a request that came; an INVITE is answered 100 at once."""
        flow.admit()
        transaction = ServerTransaction(self, request, _way_back(request, flow))
        self._servers[_server_key(request)] = transaction
        if request.method == "INVITE":
            transaction.respond(request.response(100))
        return transaction

    def answer_statelessly(self, request: Request, response: Response, flow: Flow) -> None:
        """Send a response to a request, and keep nothing of either."""
        self.note("out", response)
        send(response, _way_back(request, flow), self.product)

    def _receive(self, data: bytes, flow: Flow) -> None:
        if not self.paces(flow.remote[0]):
            return
        try:
            message = parse(data)
        except Malformed as error:
            self.counts["malformed"] += 1
            if error.answer is not None:
                self.on_malformed(error.answer, flow)
            return
        self.note("in", message)
        if isinstance(message, Response):
            client = self._clients.get((message.vias[0].branch, message.cseq.method))
            if client is not None:
                client.handle(message)
        else:
            _mark_source(message, flow)
            self._take(message, flow)

    def _take(self, request: Request, flow: Flow) -> None:
        known = self._servers.get(_server_key(request))
        if request.method == "ACK":
            if known is not None and known.state in (State.COMPLETED, State.CONFIRMED):
                known.handle(Input.ACK)
            else:
                self.on_ack(request)
        elif known is not None:
            known.handle(Input.AGAIN)
        elif len(self) >= MAX_TRANSACTIONS:
            self.counts["too_many_transactions"] += 1
        elif request.method == "CANCEL":
            self._cancel(request, flow)
        else:
            self.on_request(request, flow)

    def _cancel(self, request: Request, flow: Flow) -> None:
        cancelled = self._servers.get((*_server_key(request)[:-1], "INVITE"))
        if cancelled is None:
            return  # of nothing that we know: perhaps from somebody who gets no answer
        self.accept(request, flow).respond(request.response(200, to_tag=secrets.token_hex(8)))
        if not cancelled.answered:
            cancelled.on_cancelled(request)

    def _lost(self, flow: Flow) -> None:
        for one in (*self._servers.values(), *self._clients.values()):
            if one.flow is flow:
                one.handle(Input.LOST)


def _mark_source(request: Request, flow: Flow) -> None:
    """Note in the top Via where the request came from (section 18.2.1, RFC 3581)."""
    via = request.vias[0]
    host, port = flow.remote
    if "rport" in via.params:
        via.params["rport"] = str(port)
    if "rport" in via.params or via.host != host:
        via.params["received"] = host
        request.headers.replace("Via", ", ".join(str(each) for each in request.vias))


def _way_back(request: Request, flow: Flow) -> Flow:
    """Return where responses go (section 18.2.2): over UDP, without rport, to the port that the sender says is its."""
    via = request.vias[0]
    if isinstance(flow, UdpFlow) and "rport" not in via.params:
        return UdpFlow(flow.listener, (flow.remote[0], via.port or 5060))
    return flow


def _server_key(request: Request) -> Key:
    """Return by what the repetitions of a request are known; those of its ACK too, and of its CANCEL but for the
    method, which comes last."""
    via = request.vias[0]
    method = "INVITE" if request.method == "ACK" else request.method
    if via.branch.startswith(COOKIE) and len(via.branch) > len(COOKIE):
        return via.branch, via.host, str(via.port), method
    # A client of RFC 2543, or one that only says that it is none.
    return str(request.uri), request.from_.tag, request.call_id, str(request.cseq.number), str(via), method


def _client_key(request: Request) -> Key:
    return request.vias[0].branch, request.method
