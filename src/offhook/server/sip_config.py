"""What of the configuration concerns telephones: `[sip]`, `[[trunk]]`, `[[phone]]` and `[[route]]`.

Closed by default: without `port` or `tls_port` nothing listens, without a trunk or a phone nobody may call, and without
a route no number can be called.
"""

from __future__ import annotations

import re
from collections import Counter
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from offhook.legs import codecs
from offhook.server.dialplan import Route, e164


def _port(value: object) -> object:
    return None if value == "off" else value


def _number(text: str) -> str:
    return e164(text) if text else ""


def _prefix(text: str) -> str:
    if not re.fullmatch(r"\+[0-9]{0,15}", text):
        raise ValueError("a prefix is + and digits, as the numbers in E.164 begin that it is for")
    return text


def _sip_uri(uri: str) -> str:
    if uri and not re.match(r"(?i)sips?:[^\s@]+$", uri):
        raise ValueError('a SIP URI without user, such as "sip:sbc.example:5060;transport=tls"')
    return uri


Port = Annotated[Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_port)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
Number = Annotated[str, AfterValidator(_number)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(ip_network)]
SipUri = Annotated[str, AfterValidator(_sip_uri)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class Sip(_Section):
    """`[sip]`: where telephones reach us, and how their audio travels."""

    host: str = Field(default="", description="Address to listen on for SIP and RTP; host of the server unless given.")
    port: Port = Field(default=None, description="Port for SIP over UDP and TCP; 0 picks a free one.")
    tls_port: Port = Field(default=None, description="Port for SIP over TLS, with the certificate of https.")
    advertised: str = Field(default="", description="Address by which others reach host: behind NAT the public one.")
    realm: str = Field(default="offhook", min_length=1, max_length=64, description="Realm of our digest challenges.")
    region: str = Field(
        default="", pattern=r"^([A-Za-z]{2})?$", description="Country (ISO 3166) whose national numbers are understood."
    )
    rtp_ports: tuple[int, int] = Field(
        default=(20_000, 29_999), description="First and last port for audio; each call takes a pair."
    )
    rtp_timeout_s: float = Field(
        default=60,
        ge=5,
        le=3600,
        description="Without audio, of a telephone that is not on hold, until it counts as lost, s.",
    )
    codecs: list[Literal["PCMU", "PCMA", "G722", "opus"]] = Field(
        default=["PCMU", "PCMA"], min_length=1, description="Codecs, the preferred one first."
    )
    srtp: Literal["off", "allowed", "required"] = Field(
        default="allowed", description="Encrypted audio (SDES): never, when the other side has it too, or always."
    )

    @model_validator(mode="after")
    def _ports(self) -> Sip:
        first, last = self.rtp_ports
        if not 1024 <= first < last <= 65535:
            raise ValueError("rtp_ports: the first and the last port, from 1024 to 65535")
        return self

    @property
    def on(self) -> bool:
        return self.port is not None or self.tls_port is not None

    @property
    def encryption(self) -> Literal["off", "allowed", "required"]:
        """What `srtp` comes to: where libsrtp is not installed, none is allowed."""
        return "off" if self.srtp == "allowed" and not _has_libsrtp() else self.srtp


class Trunk(_Section):
    """`[[trunk]]`: a provider or a PBX. Its calls are taken from `allow`, or with `user` and `password`."""

    name: Name
    allow: list[Network] = Field(default=[], max_length=1000, description="Networks (CIDR) its calls come from.")
    server: SipUri = Field(
        default="", description="SIP URI that calls are sent to; without it the trunk only calls us."
    )
    user: str = Field(default="", max_length=256, description="Answers its challenges.")
    password: str = Field(default="", max_length=256, repr=False, description="Goes with user.")
    register_: SipUri = Field(
        default="", alias="register", description="SIP URI of the registrar that is told where we are, again and again."
    )
    challenge: bool = Field(default=False, description="Its calls have to prove user and password too.")
    transfer: Literal["bridge", "refer"] = Field(
        default="bridge",
        description="Whether its calls are transferred to its numbers here, or by asking it to (REFER).",
    )
    allow_transfer: bool = Field(
        default=False, description="Whether it may transfer calls (REFER, Replaces), as phones may."
    )


class SipPhone(_Section):
    """`[[phone]]`: a softphone or desk phone that logs in here."""

    user: Name
    password: str = Field(min_length=1, max_length=256, repr=False, description="What it logs in with.")
    number: Number = Field(default="", description="Its number (E.164): it is called by it, and shown with it.")


class RouteTo(_Section):
    """`[[route]]`: which numbers may be called, and by which trunk."""

    prefix: Annotated[str, AfterValidator(_prefix)] = Field(description='Beginning of the numbers; "+" is all of them.')
    trunk: Name
    strip: int = Field(default=0, ge=0, le=16, description="Characters to leave out at the beginning, the + included.")
    prepend: str = Field(default="", pattern=r"^[0-9+*#]{0,16}$", description="What to dial before the rest.")
    caller_id: Number = Field(default="", description="Number to show instead of the caller's own.")
    caller_ids: list[Number] = Field(
        default=[], max_length=10_000, description="Numbers that may be shown; without any, all may."
    )

    def route(self) -> Route:
        return Route(self.prefix, self.trunk, self.strip, self.prepend, self.caller_id, tuple(self.caller_ids))


def _has_libsrtp() -> bool:
    return find_spec("pylibsrtp") is not None


def contradictions(sip: Sip, trunks: list[Trunk], phones: list[SipPhone], routes: list[RouteTo]) -> list[str]:
    """Return a line for everything that does not fit together."""
    problems = [f"sip.codecs: {reason}" for reason in map(codecs.missing, sip.codecs) if reason]
    if sip.srtp == "required" and not _has_libsrtp():
        problems.append('sip.srtp: "required" needs pylibsrtp: pip install "offhook[srtp]"')
    names = {trunk.name for trunk in trunks}
    users = [*(trunk.user for trunk in trunks if trunk.challenge), *(phone.user for phone in phones)]
    for kind, keys in (("trunk", [trunk.name for trunk in trunks]), ("user", users)):
        problems += [f"{kind}: there are several {key!r}" for key, count in Counter(keys).items() if count > 1]
    for route in routes:
        if route.trunk not in names:
            problems.append(f"route: for {route.prefix!r} there is no trunk {route.trunk!r}")
        elif not next(trunk for trunk in trunks if trunk.name == route.trunk).server:
            problems.append(f"route: trunk {route.trunk!r} has no server to send calls to")
    for trunk in trunks:
        if not (trunk.allow or trunk.challenge or trunk.register_ or trunk.server):
            problems.append(f"trunk {trunk.name!r}: nobody may call by it, and no call can be sent to it")
        if (trunk.challenge or trunk.register_) and not (trunk.user and trunk.password):
            problems.append(f"trunk {trunk.name!r}: challenge and register need user and password")
    if (trunks or phones) and not sip.on:
        problems.append("sip: there are trunks or phones, but neither port nor tls_port")
    return problems
