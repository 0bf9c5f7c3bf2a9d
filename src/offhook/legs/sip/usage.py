"""What a session is made of: its dialogs, the requests in them, its phase and its end (RFC 3261 section 12.2)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from types import MappingProxyType

from offhook.legs.sip import body, session_timer
from offhook.legs.sip.body import UnsupportedBody
from offhook.legs.sip.client import ClientRequest
from offhook.legs.sip.dialog import Dialog, DialogId
from offhook.legs.sip.digest import Credentials
from offhook.legs.sip.endpoint import Endpoint
from offhook.legs.sip.events import Q850, Event, Replaces
from offhook.legs.sip.exchange import ServerTransaction
from offhook.legs.sip.flows import Flow, HostPort
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.returns import Returns, Use
from offhook.legs.sip.session_timer import Terms
from offhook.legs.sip.uri import Address, Uri

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, INFO, REFER, NOTIFY"
SUPPORTED = "100rel, timer, replaces"

Handler = Callable[[ServerTransaction], object]


class Phase(Enum):
    EARLY = auto()  # it rings
    ANSWERED = auto()  # we said 200, they have not acknowledged it
    CONFIRMED = auto()
    ENDED = auto()


@dataclass
class Context:
    """What all sessions of a stack share. `live` are those that have not ended; `sessions` is by dialog: one that
    rings at several phones has several, and one that has ended may still wait for an ACK."""

    endpoint: Endpoint
    live: set[DialogUsage] = field(default_factory=set)
    sessions: dict[DialogId, DialogUsage] = field(default_factory=dict)
    returns: Returns = field(default_factory=Returns)
    session_expires: int = session_timer.DEFAULT_S
    min_se: int = session_timer.SHORTEST_S


@dataclass(frozen=True)
class Party:
    """Who is at the other end: a trunk or a phone, by name; `credentials` answer its challenges."""

    trunk: str = ""
    phone: str = ""
    credentials: Credentials | None = None

    @property
    def pinned(self) -> bool:
        """Whether it is reached where its messages come from, whatever it says: phones are behind NATs."""
        return bool(self.phone)


class DialogUsage(ABC):
    """`on_event` may be set at any time before the loop runs on."""

    def __init__(self, context: Context, party: Party, invite: Request, contact_user: str) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._contact_user = contact_user
        self._invite = invite
        self._party = party
        self._flow: Flow | None = None
        self._dialog: Dialog | None = None
        self._ids: list[DialogId] = []
        self._phase = Phase.EARLY
        self._terms: Terms | None = None  # of the session timer
        self._goodbye: Q850 | None = None
        self.id = invite.call_id
        self.trunk, self.phone = party.trunk, party.phone
        self.on_event: Callable[[Event], None] = lambda event: None
        self.on_change: Callable[[], None] = lambda: None  # `memento` gives another one, and no event says so
        context.live.add(self)

    @property
    def to(self) -> Address:
        return self._invite.to

    @property
    def from_(self) -> Address:
        return self._invite.from_

    @property
    def local(self) -> Address:
        """Who we are in the dialog."""
        assert self._dialog is not None
        return self._dialog.local

    @property
    def request_uri(self) -> Uri:
        return self._invite.uri

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """All headers of the INVITE, names as they were written."""
        return tuple(self._invite.headers)

    @property
    def source(self) -> HostPort | None:
        """Where the other side's signalling comes from; None before we know."""
        return None if self._flow is None else self._flow.remote

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def replaces_me(self) -> Replaces | None:
        """What a third party has to ask for to take this session over, at its other end; None while there is none."""
        dialog = self._dialog
        return None if dialog is None else Replaces(dialog.call_id, dialog.remote.tag, dialog.local.tag)

    def take(self, transaction: ServerTransaction) -> None:
        """Take a request in one of the session's dialogs."""
        request = transaction.request
        if self._phase is Phase.ENDED:
            self.reply(transaction, 481)
            return
        if self._party.pinned:
            self._flow = transaction.flow
        handle = self._handlers().get(request.method)
        try:
            if not self._dialog_of(request).in_order(request):
                self.reply(transaction, 500, "Out of Order")
            elif handle is None:
                self.reply(transaction, 501 if request.method not in ALLOW else 405)
            else:
                handle(transaction)
        except UnsupportedBody as error:
            self.reply(transaction, 415, str(error))
        except SipSyntaxError as error:
            self.reply(transaction, 400, str(error))

    @abstractmethod
    def _handlers(self) -> dict[str, Handler]:
        """Return what to do with each method, in a dialog. A handler may raise `SipSyntaxError`, `UnsupportedBody`."""

    @abstractmethod
    def hang_up(self) -> None:
        """End the session."""

    @abstractmethod
    def drop(self) -> None:
        """Forget it: the stack closes."""

    @abstractmethod
    def acknowledged(self, ack: Request) -> None:
        """Take the ACK of a 2xx of ours."""

    def reply(
        self,
        transaction: ServerTransaction,
        code: int,
        reason: str = "",
        sdp: str | None = None,
        headers: Mapping[str, object] = MappingProxyType({}),
    ) -> Response:
        """Send a response in the dialog, and return it."""
        request = transaction.request
        response = request.response(code, reason, self._dialog.local.tag if self._dialog and code > 100 else "")
        if code < 300 and request.method in ("INVITE", "UPDATE"):
            response.headers.take(request.headers, "Record-Route")
            response.headers.add("Contact", transaction.flow.contact(self._contact_user))
            response.headers.add("Supported", SUPPORTED)
        response.headers.add("Allow", ALLOW)
        for name, value in headers.items():
            response.headers.add(name, value)
        if sdp is not None:
            body.put(response, body.SDP, sdp)
        if response.success and self._terms is not None and request.method in ("INVITE", "UPDATE"):
            session_timer.confirm(response, self._terms)
        transaction.respond(response)
        return response

    def request(self, request: Request, on_response: Callable[[Response], None]) -> ClientRequest:
        """Send a request in the dialog."""
        dialog = self._dialog
        assert dialog is not None
        return self._context.endpoint.request(
            request,
            dialog.next_hop,
            on_response,
            near=self._flow,
            pinned=self._party.pinned,
            credentials=self._party.credentials,
            next_seq=dialog.next_seq,
            contact_user=None if request.method == "BYE" else self._contact_user,
            otherwise=self._otherwise(self._flow),
        )

    def reached(self, flow: Flow) -> None:
        """The phone, whose connection has ended with another process, has connected again."""
        if self._flow is None:
            self._flow = flow

    def _otherwise(self, near: Flow | None) -> Callable[[Use], None] | None:
        """Return how to wait for a phone that was connected to another process."""
        return partial(self._context.returns.wait, self.phone) if self.phone and near is None else None

    def next_request(self, method: str) -> Request | None:
        """Return the next request in the dialog; None without one, or when the session has ended."""
        return None if self._dialog is None or self._phase is Phase.ENDED else self._dialog.request(method)

    def _send_bye(self) -> None:
        assert self._dialog is not None
        bye = self._dialog.request("BYE")
        if self._goodbye is not None:
            bye.headers.add("Reason", self._goodbye)
        self.request(bye, lambda response: None)

    def _send_ack(self, dialog: Dialog, seq: int, proofs: Request | None = None) -> None:
        ack = dialog.ack(seq)
        if proofs is not None:
            ack.headers.take(proofs.headers, "Authorization", "Proxy-Authorization")
        self._context.endpoint.send_ack(ack, dialog.next_hop, self._flow, self._party.pinned)

    def _dialog_of(self, request: Request) -> Dialog:
        """Return the dialog that a request is in."""
        assert self._dialog is not None
        return self._dialog

    def _remember(self, id: DialogId) -> None:
        self._context.sessions[id] = self
        self._ids.append(id)

    def _forget(self) -> None:
        for id in self._ids:
            self._context.sessions.pop(id, None)
        self._ids.clear()
