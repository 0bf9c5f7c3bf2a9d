"""Sessions that go on after the process that they were in was killed."""

from __future__ import annotations

from functools import partial

from offhook.legs.sip.flows import Flow, HostPort
from offhook.legs.sip.incoming import IncomingSession
from offhook.legs.sip.memento import Memento, Place, Ringing
from offhook.legs.sip.message import Request, parse
from offhook.legs.sip.outgoing import OutgoingSession, new_cancel
from offhook.legs.sip.registrar import Binding
from offhook.legs.sip.session import Session
from offhook.legs.sip.session_timer import Terms
from offhook.legs.sip.uri import Uri, parse_uri
from offhook.legs.sip.usage import Context, Party, Phase


def resume(context: Context, party: Party, memento: Memento | Ringing) -> Session | None:
    """Return the session that goes on; None for one that cannot, as it rang over a connection. Who called us over it
    knows by its end; who was called is told by a CANCEL, over another connection."""
    if isinstance(memento, Memento):
        return ResumedSession(context, party, memento)
    invite = parse(memento.invite)
    assert isinstance(invite, Request)
    flow = None if memento.source is None else way_to(context, memento.source)
    if flow is None:
        if memento.hop:
            _cancel(context, party, invite, parse_uri(memento.hop))
        return None
    if memento.hop:
        calling = OutgoingSession(context, party, invite, lambda event: None)
        calling.resume(parse_uri(memento.hop), flow)
        return calling
    called = IncomingSession(context, party, context.endpoint.accept(invite, flow), tag=memento.tag)
    called.ring_on()
    return called


def place_of(binding: Binding[Flow | None]) -> Place:
    """Return what another process has to know of where a phone is."""
    source = None if binding.flow is None else binding.flow.address
    return Place(str(binding.contact), source, binding.expires_at, binding.call_id, binding.seq)


def binding_of(context: Context, place: Place) -> Binding[Flow | None]:
    """Return what `place_of` was given. Over TCP and TLS there is no way there but what the phone said, its Contact."""
    flow = None if place.source is None else way_to(context, place.source)
    return Binding(parse_uri(place.contact), flow, place.expires_at, place.call_id, place.seq)


def way_to(context: Context, source: HostPort) -> Flow | None:
    """Return the way for packets to where some came from."""
    host, port = source
    return context.endpoint.packets_to(Uri("", host, port, {"transport": "udp"}))


def _cancel(context: Context, party: Party, invite: Request, hop: Uri) -> None:
    cancel = new_cancel(invite)
    cancel.headers.prepend("Via", invite.vias[0])  # by which it is known what is cancelled (section 9.1)
    otherwise = partial(context.returns.wait, party.phone) if party.phone else None
    context.endpoint.request(cancel, hop, lambda response: None, otherwise=otherwise)


class ResumedSession(Session):
    """An answered call, whoever made it. Its session timer begins anew."""

    def __init__(self, context: Context, party: Party, memento: Memento) -> None:
        """Raises `SipSyntaxError`, which what `Session.memento` made does not lead to."""
        dialog = memento.dialog()
        invite = Request("INVITE", parse_uri(memento.uri))
        for name, value in (("To", memento.to), ("From", memento.from_), ("Call-ID", memento.call_id)):
            invite.headers.add(name, value)
        super().__init__(context, party, invite, memento.contact_user)
        self._dialog = dialog
        self._phase = Phase.CONFIRMED
        self._updates = memento.updates
        self._local_sdp, self._exchange = memento.local_sdp, memento.exchange
        self._remember(dialog.id)
        self._set_terms(Terms(memento.interval, memento.ours) if memento.interval else None)
        # Packets go again where theirs came from, which a NAT may have to be open for.
        self._flow = None if memento.source is None else way_to(context, memento.source)

    def _abandon(self) -> None:
        """There is no INVITE that waits."""

    def _they_allow(self, method: str) -> bool:
        return method == "UPDATE" and self._updates
