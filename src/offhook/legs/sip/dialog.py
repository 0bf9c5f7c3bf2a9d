"""Dialogs: what two telephones know of each other for the length of a call (RFC 3261 section 12)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.headers import CSeq
from offhook.legs.sip.message import Message, Request, Response
from offhook.legs.sip.uri import Address, Uri

MAX_FORWARDS = 70
MAX_ROUTES = 16


class DialogId(tuple[str, str, str]):
    """Call-ID, our tag, their tag."""

    __slots__ = ()


@dataclass
class Dialog:
    """One dialog, from our side. Sequence numbers are those used last; `remote_seq` is None before their first."""

    call_id: str
    local: Address  # with our tag
    remote: Address  # with theirs
    target: Uri  # where their Contact says that they are reached
    routes: tuple[Address, ...]
    local_seq: int
    remote_seq: int | None
    caller: bool  # whether we sent the INVITE

    @property
    def id(self) -> DialogId:
        return DialogId((self.call_id, self.local.tag, self.remote.tag))

    @property
    def next_hop(self) -> Uri:
        """Where its requests are sent: the first proxy that wants to see them, or the other side itself."""
        return self.routes[0].uri if self.routes else self.target

    def next_seq(self) -> int:
        self.local_seq += 1
        return self.local_seq

    def request(self, method: str) -> Request:
        """Return the next request in this dialog, without Via and Contact."""
        return self._request(CSeq(self.next_seq(), method))

    def ack(self, seq: int) -> Request:
        """Return the ACK of a 2xx to the INVITE with that sequence number (section 13.2.2.4)."""
        return self._request(CSeq(seq, "ACK"))

    def in_order(self, request: Request) -> bool:
        """Whether a request of theirs is a new one; takes its sequence number if it is (section 12.2.2)."""
        number = request.cseq.number
        if self.remote_seq is not None and number <= self.remote_seq:
            return False
        self.remote_seq = number
        return True

    def refresh(self, message: Message) -> None:
        """Take the new target that a re-INVITE or UPDATE, or the 2xx to one, brings."""
        if message.contacts and message.contacts[0].uri.dialable:
            self.target = message.contacts[0].uri

    def _request(self, cseq: CSeq) -> Request:
        uri, routes = self.target, list(self.routes)
        if routes and "lr" not in routes[0].uri.params:  # a strict router: section 12.2.1.1
            uri = routes.pop(0).uri.without_headers()
            routes.append(Address(self.target))
        request = Request(cseq.method, uri)
        for route in routes:
            request.headers.add("Route", route)
        request.headers.add("Max-Forwards", MAX_FORWARDS)
        request.headers.add("From", self.local)
        request.headers.add("To", self.remote)
        request.headers.add("Call-ID", self.call_id)
        request.headers.add("CSeq", cseq)
        return request


def called(request: Request, local_tag: str) -> Dialog:
    """Return the dialog that our answer with `local_tag` to an INVITE makes. Raises `SipSyntaxError`."""
    return Dialog(
        request.call_id,
        request.to.tagged(local_tag),
        request.from_,
        _target(request),
        _routes(request.record_route),
        0,
        request.cseq.number,
        caller=False,
    )


def calling(request: Request, response: Response) -> Dialog:
    """Return the dialog that a response with a tag to our INVITE makes. Raises `SipSyntaxError`."""
    return Dialog(
        request.call_id,
        request.from_,
        response.to,
        _target(response),
        _routes(list(reversed(response.record_route))),
        request.cseq.number,
        None,
        caller=True,
    )


def _target(message: Message) -> Uri:
    if not message.contacts or message.contacts[0].uri.scheme not in ("sip", "sips"):
        raise SipSyntaxError("Contact: a SIP URI is expected")
    return message.contacts[0].uri.without_headers()


def _routes(addresses: list[Address]) -> tuple[Address, ...]:
    if len(addresses) > MAX_ROUTES:
        raise SipSyntaxError(f"more than {MAX_ROUTES} proxies on the way")
    return tuple(replace(address, display="") for address in addresses)
