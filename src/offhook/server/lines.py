"""A line: one telephone in one call, and what its media worker is told and keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

from offhook.call.model import Shown
from offhook.legs.sip.negotiation import Agreed, Negotiation
from offhook.legs.sip.session import Session
from offhook.media import link
from offhook.server.adoption import LineCopy
from offhook.server.placement import Worker


@dataclass(eq=False)
class Line:
    """Its SIP session lives here in the control process, its RTP leg (`leg`) in the call's media worker."""

    leg: str
    worker: Worker
    negotiation: Negotiation
    session: Session | None = None  # None: the RTP port is being opened, then it is called
    port: int = 0
    agreed: Agreed | None = None
    answered: bool = False
    to: str = ""  # whom we call, a raw id
    shown: Shown | None = None  # what it sees of who calls
    heard: bool = True  # audio comes from it
    reached: bool = True  # its host takes ours

    def keep(self) -> None:
        """Let the worker keep what a control process after this one has to know."""
        memento = None if self.session is None else self.session.memento()
        copy = LineCopy(self.leg, self.port, self.agreed, self.negotiation.said, memento, self.to)
        self.worker.step.put(self._key, copy)

    def forget(self) -> None:
        """Let the worker forget that."""
        self.worker.step.delete(self._key)

    @property
    def _key(self) -> str:
        return f"line {self.leg}"  # The leg's own may be a phone's.

    def agree(self, agreed: Agreed) -> None:
        """Tell the worker what was agreed on, from now on."""
        self.agreed = agreed
        keys = link.SrtpKeys(agreed.send_key, agreed.receive_key) if agreed.send_key else None
        self.worker.send(
            link.AgreeRtp(
                self.leg,
                agreed.codec,
                agreed.payload_type,
                agreed.dtmf_type,
                agreed.remote,
                agreed.rtcp_mux,
                keys,
                held=agreed.held,
                receive_type=agreed.receive_type,
                receive_dtmf_type=agreed.receive_dtmf_type,
                dtmf_rate=agreed.dtmf_rate,
                ptime_ms=agreed.ptime_ms,
                parameters=agreed.parameters,
            )
        )
