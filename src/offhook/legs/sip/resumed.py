"""A session that goes on after the process that it was in was killed."""

from __future__ import annotations

from offhook.legs.sip.memento import Memento
from offhook.legs.sip.message import Request
from offhook.legs.sip.session import Session
from offhook.legs.sip.session_timer import Terms
from offhook.legs.sip.uri import Uri, parse_uri
from offhook.legs.sip.usage import Context, Party, Phase


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
        self._came_from = memento.source
        self._local_sdp, self._exchange = memento.local_sdp, memento.exchange
        self._remember(dialog.id)
        self._set_terms(Terms(memento.interval, memento.ours) if memento.interval else None)

    def find_way(self) -> None:
        """The sockets are open: packets go again where theirs came from, which a NAT may have to be open for."""
        if self._flow is None and self._came_from is not None:
            host, port = self._came_from
            self._flow = self._context.endpoint.packets_to(Uri("", host, port, {"transport": "udp"}))

    def _abandon(self) -> None:
        """There is no INVITE that waits."""

    def _they_allow(self, method: str) -> bool:
        return method == "UPDATE" and self._updates
