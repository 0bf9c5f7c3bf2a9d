"""The SIP stack, as the server uses it: give it settings, get calls, make calls.

Everything runs on one event loop; no method blocks, and no callback is called within a method, but for `Ended` in
`Session.hang_up` and `reject`. Bounds: `max_sessions` calls (503 beyond), and those of the parts it is made of.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from offhook.legs.sip import body
from offhook.legs.sip.body import UnsupportedBody
from offhook.legs.sip.dialog import MAX_FORWARDS, DialogId
from offhook.legs.sip.digest import Credentials, Verifier
from offhook.legs.sip.endpoint import Endpoint
from offhook.legs.sip.events import Event, Replaces, parse_replaces
from offhook.legs.sip.exchange import ServerTransaction
from offhook.legs.sip.flows import Flow
from offhook.legs.sip.grammar import SipSyntaxError
from offhook.legs.sip.guard import Admitted, Challenged, Forbidden, Guard, Phone, Trunk
from offhook.legs.sip.incoming import IncomingSession, merged_id
from offhook.legs.sip.memento import Memento, Place, Ringing
from offhook.legs.sip.message import Request, Response
from offhook.legs.sip.outgoing import OutgoingSession, new_invite
from offhook.legs.sip.registrar import Binding, Registrar
from offhook.legs.sip.registration import Registration
from offhook.legs.sip.resumed import binding_of, place_of, resume
from offhook.legs.sip.session import Session
from offhook.legs.sip.session_timer import IntervalTooSmall
from offhook.legs.sip.transport import Listen, Transports
from offhook.legs.sip.uri import Address, Uri, parse_uri
from offhook.legs.sip.usage import ALLOW, SUPPORTED, Context, Party

CLOSE_S = 2.0  # that BYEs have, when the stack closes

_UNDERSTOOD = frozenset({"100rel", "timer", "replaces"})  # of Require


@dataclass(frozen=True)
class Settings:
    """What a stack is made with.

    `advertised`: the address that others reach us at, when it is not the socket's own. `realm` is what phones log in
    to, by `algorithms` (MD5, SHA-256: see `digest.Verifier`). `session_expires`: seconds after which both sides make
    sure of each other; who asks for less than `min_se` is told so.
    """

    listen: tuple[Listen, ...]
    advertised: str = ""
    realm: str = "offhook"
    algorithms: tuple[str, ...] = ("MD5",)
    trunks: tuple[Trunk, ...] = ()
    phones: tuple[Phone, ...] = ()
    product: str = "Offhook"
    max_sessions: int = 10_000
    session_expires: int = 1_800
    min_se: int = 90


class SipStack:
    """Make it on the loop that it shall live on; `start` it, and `close` it once."""

    def __init__(
        self,
        settings: Settings,
        on_invite: Callable[[IncomingSession], None],
        tls_server: ssl.SSLContext | None = None,
        tls_client: ssl.SSLContext | None = None,
        transports: Callable[..., Transports] = Transports,
    ) -> None:
        """`on_invite` gets every call that may come in, and answers or rejects it then or later. A certificate is
        renewed by loading the new one into `tls_server`. Raises ValueError for settings that contradict each other."""
        self._settings = settings
        self._on_invite = on_invite
        self._loop = asyncio.get_running_loop()
        verifier = Verifier(settings.realm, secrets.token_bytes(32), settings.algorithms)
        self._guard = Guard(settings.trunks, settings.phones, verifier)
        self._transports = transports(
            settings.listen, settings.advertised, tls_server, tls_client, self._guard.welcomes
        )
        self._endpoint = Endpoint(self._transports, settings.product)
        self._endpoint.paces = lambda ip: self._guard.paces(ip, self._loop.time())
        self._endpoint.on_request = self._take
        self._endpoint.on_ack = self._take_ack
        self._endpoint.on_malformed = self._take_malformed
        self._context = Context(self._endpoint, session_expires=settings.session_expires, min_se=settings.min_se)
        self._registrar: Registrar[Flow | None] = Registrar()
        self._tag = secrets.token_hex(8)  # of answers that nothing is kept of
        self.registrations: dict[str, Registration] = {}  # by trunk
        self.on_places: Callable[[str, list[Place]], None] = lambda user, places: None  # a phone is there now

    async def start(self) -> None:
        """Listen, and register where we have to. Raises OSError when a socket cannot be opened."""
        await self._transports.start()
        for trunk in self._guard.trunks.values():
            self._register(trunk)

    def resume(self, memento: Memento | Ringing) -> Session | None:
        """Let a call go on that another process had; None if it cannot, since it rang over a connection. Best before
        `start`: what comes for a call that is not known yet is answered with 481, which ends it. Set `on_event` at
        once. Raises `SipSyntaxError`."""
        return resume(self._context, self._party(memento.trunk, memento.phone), memento)

    async def close(self) -> None:
        """Hang up, sign off, and close the sockets, within `CLOSE_S`."""
        for session in list(self._context.live):
            session.hang_up()
        for registration in self.registrations.values():
            registration.stop()
        deadline = self._loop.time() + CLOSE_S
        while self._endpoint.unanswered and self._loop.time() < deadline:  # noqa: ASYNC110 - once, and soon over
            await asyncio.sleep(0.02)
        for session in set(self._context.sessions.values()):
            session.drop()
        self._context.returns.close()
        self._endpoint.close()
        await self._transports.close()

    def reload(self, trunks: Iterable[Trunk], phones: Iterable[Phone]) -> None:
        """Replace trunks and phones; no call is touched. Raises ValueError when two have one name: nothing changes."""
        before, known = self._guard.trunks, self._guard.phones
        self._guard.reload(trunks, phones)
        for user in known.keys() - self._guard.phones.keys():
            self._registrar.forget(user)
            self.on_places(user, [])
        for name, trunk in before.items():
            if self._guard.trunks.get(name) != trunk and name in self.registrations:
                self.registrations.pop(name).stop()
        for name, trunk in self._guard.trunks.items():
            if before.get(name) != trunk:
                self._register(trunk)

    @property
    def ports(self) -> dict[str, int]:
        """The port of each transport."""
        return dict(self._transports.ports)

    @property
    def sessions(self) -> int:
        """How many calls there are."""
        return len(self._context.live)

    @property
    def transactions(self) -> int:
        """How many transactions there are; they stay for half a minute after the last message, for repetitions."""
        return len(self._endpoint)

    @property
    def counts(self) -> Counter[str]:
        """What was counted since the start."""
        return self._guard.counts + self._endpoint.counts + self._transports.counts

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """Requests since the start, by direction (in, out) and method."""
        return self._endpoint.requests

    @property
    def responses(self) -> Counter[tuple[str, str]]:
        """Responses since the start, by direction and class (1xx to 6xx)."""
        return self._endpoint.responses

    @property
    def phones(self) -> int:
        """How many phones are registered."""
        return self._registrar.users(self._loop.time())

    def contacts(self, user: str) -> list[Binding[Flow | None]]:
        """Return where a phone is registered, the newest last; without a flow if that has ended with its process."""
        return self._registrar.bindings(user, self._loop.time())

    def find(self, replaces: Replaces) -> Session | None:
        """Return the session that an INVITE or REFER means."""
        id = DialogId((replaces.call_id, replaces.to_tag, replaces.from_tag))
        session = self._context.sessions.get(id)
        return session if isinstance(session, Session) else None

    # ------------------------------------------------------------------------------------------ calls that we make

    def invite(
        self,
        to: str,
        from_: str,
        offer: str,
        on_event: Callable[[Event], None],
        *,
        trunk: str = "",
        display: str = "",
        headers: Sequence[tuple[str, str]] = (),
        max_forwards: int = MAX_FORWARDS,
        replaces: Replaces | None = None,
    ) -> OutgoingSession:
        """Call `to`: a SIP URI or number by `trunk`, or without one the phone of that user, where it registered last.

        `from_` is a SIP URI, number or user; `offer` a session description; `max_forwards` that of the call which this
        one goes on, less one. Raises ValueError: no such trunk, the phone is not registered, text that is no URI or
        header, or too many calls.
        """
        if self.sessions >= self._settings.max_sessions:
            raise ValueError("too many calls")
        if max_forwards <= 0:
            raise ValueError("the call was forwarded too often")
        uri, hop, near, party, domain = self._trunk_way(trunk, to) if trunk else self._phone_way(to)
        caller = Address(_uri(from_, domain), display)
        invite = new_invite(uri, caller, offer, max_forwards, headers)
        if replaces is not None:
            invite.headers.add("Replaces", replaces)
        session = OutgoingSession(self._context, party, invite, on_event)
        session.start(hop, near)
        return session

    def _trunk_way(self, name: str, to: str) -> tuple[Uri, Uri, Flow | None, Party, Uri]:
        trunk = self._guard.trunks.get(name)
        if trunk is None or not trunk.server:
            raise ValueError(f"SIP: there is no trunk {name} that calls can be sent to")
        server = parse_uri(trunk.server)
        credentials = Credentials(trunk.user, trunk.password) if trunk.user else None
        return _uri(to, server.bare()), server, None, Party(trunk=name, credentials=credentials), Uri("", server.host)

    def _phone_way(self, to: str) -> tuple[Uri, Uri, Flow | None, Party, Uri]:
        user = parse_uri(to).user if to.lower().startswith(("sip:", "sips:")) else to
        bindings = self.contacts(user)
        if not bindings:
            raise ValueError(f"SIP: the phone {user} is not registered")
        newest = bindings[-1]
        return newest.contact, newest.contact, newest.flow, Party(phone=user), Uri("", self._settings.realm)

    # ------------------------------------------------------------------------------------------ requests that come

    def _take(self, request: Request, flow: Flow) -> None:
        if request.to.tag:
            session = self._context.sessions.get(DialogId((request.call_id, request.to.tag, request.from_.tag)))
            if session is not None:
                session.take(self._endpoint.accept(request, flow))
                return
        judgement = self._guard.judge(request, flow.remote[0], self._loop.time())
        match judgement:
            case Admitted():
                self._admit(self._endpoint.accept(request, flow), judgement)
            case Challenged(headers):
                response = request.response(401, to_tag=self._tag)
                for header in headers:
                    response.headers.add("WWW-Authenticate", header)
                self._endpoint.answer_statelessly(request, response, flow)
            case Forbidden():
                self._endpoint.answer_statelessly(request, request.response(403, to_tag=self._tag), flow)

    def _take_ack(self, ack: Request) -> None:
        session = self._context.sessions.get(DialogId((ack.call_id, ack.to.tag, ack.from_.tag)))
        if session is not None:
            session.acknowledged(ack)

    def _take_malformed(self, answer: Response, flow: Flow) -> None:
        if self._guard.trunk_at(flow.remote[0]) is not None:
            flow.send(bytes(answer))

    def _admit(self, transaction: ServerTransaction, who: Admitted) -> None:
        request = transaction.request
        unknown = request.headers.tokens("Require") - _UNDERSTOOD
        if request.to.tag:
            self._reply(transaction, 481)
        elif not request.uri.dialable:
            self._reply(transaction, 416)
        elif unknown:
            self._reply(transaction, 420, ("Unsupported", ", ".join(sorted(unknown))))
        elif request.method == "INVITE":
            self._invited(transaction, who)
        elif request.method == "OPTIONS":
            self._reply(transaction, 200, ("Accept", body.SDP), ("Supported", SUPPORTED))
        elif request.method == "REGISTER" and who.phone:
            self._take_register(transaction, who.phone)
        elif request.method in ("BYE", "UPDATE", "PRACK", "INFO", "NOTIFY", "REFER"):
            self._reply(transaction, 481)
        else:
            self._reply(transaction, 405 if request.method in ("REGISTER", "SUBSCRIBE", "MESSAGE", "PUBLISH") else 501)

    def _invited(self, transaction: ServerTransaction, who: Admitted) -> None:
        request = transaction.request
        accepts = {kind.partition(";")[0].strip().lower() for kind in request.headers.listed("Accept")}
        try:
            if merged_id(request) in self._context.sessions:
                self._reply(transaction, 482)
            elif accepts and not accepts & {body.SDP, "application/*", "*/*"}:
                self._reply(transaction, 406)
            elif self.sessions >= self._settings.max_sessions:
                self._reply(transaction, 503, ("Retry-After", 10))
            elif (replaced := request.headers.get("Replaces")) and self.find(parse_replaces(replaced)) is None:
                self._reply(transaction, 481)
            else:
                taken = self.find(parse_replaces(replaced)) if replaced else None
                self._on_invite(IncomingSession(self._context, self._party(who.trunk, who.phone), transaction, taken))
        except UnsupportedBody:
            self._reply(transaction, 415, ("Accept", body.SDP))
        except IntervalTooSmall:
            self._reply(transaction, 422, ("Min-SE", self._context.min_se))
        except SipSyntaxError as error:
            transaction.respond(request.response(400, str(error), self._tag))

    def _party(self, name: str, phone: str) -> Party:
        trunk = self._guard.trunks.get(name)
        credentials = Credentials(trunk.user, trunk.password) if trunk and trunk.user else None
        return Party(name, phone, credentials)

    def _reply(self, transaction: ServerTransaction, code: int, *headers: tuple[str, object]) -> None:
        response = transaction.request.response(code, to_tag=self._tag)
        for name, value in (("Allow", ALLOW), *headers):
            response.headers.add(name, value)
        transaction.respond(response)

    # ------------------------------------------------------------------------------------------ registering

    def restore(self, user: str, places: Sequence[Place]) -> None:
        """Know where a phone was when another process was told."""
        if user in self._guard.phones:
            self._registrar.restore(user, [binding_of(self._context, place) for place in places])

    def _take_register(self, transaction: ServerTransaction, user: str) -> None:
        response = self._registrar.register(user, transaction.request, transaction.flow, self._loop.time())
        transaction.respond(response)
        if response.success:
            self.on_places(user, [place_of(binding) for binding in self.contacts(user)])
            if transaction.flow.reliable:
                self._back(user, transaction.flow)

    def _back(self, user: str, flow: Flow) -> None:
        """A phone has a connection: whatever of another process waits for one has it."""
        for session in self._context.live:
            if session.phone == user:
                session.reached(flow)
        self._context.returns.came(user, flow)

    def _register(self, trunk: Trunk) -> None:
        if trunk.register:
            registration = Registration(self._endpoint, trunk, lambda ip: self._guard.trust(ip, trunk.name))
            self.registrations[trunk.name] = registration
            registration.start()


def _uri(text: str, domain: Uri) -> Uri:
    """Return the URI that `text` is, or the one of a user or number of `domain`."""
    return parse_uri(text) if ":" in text else replace(domain, user=text)
