"""What `offhook doctor` asks of a server that runs: registrations, which ways audio goes, and a call to try it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from offhook.legs.sip.flows import ip_of
from offhook.legs.sip.uri import Uri
from offhook.server.doctor import Finding
from offhook.server.sip_config import SipPhone
from offhook.server.telephone_report import PATH, Registered, Talking, Telephones
from offhook.testing import probe_call
from offhook.testing.caller import Caller, CallerError
from offhook.testing.probe_call import Outcome

FIRST_S = 10.0  # that a registration may take at first

NOT_REGISTERED = {
    "401": "user or password is wrong",
    "403": "user or password is wrong, or the account may not register from here",
    "404": "the registrar has no such user",
    "407": "user or password is wrong",
    "408": "nobody answers there: is the name right, does a firewall keep SIP from going out?",
    "503": "there is no way there: is the name right, is its transport on here?",
}
NOT_CALLED = {
    "401": "the password of the first [[phone]] is not the one that the server knows",
    "404": "no telephone has that number, and no app is told of it (incoming, [[inbound]])",
    "408": "does a firewall keep SIP from the server?",
    "480": "does the app answer?",
    "488": "no codec or encryption in common: this call has G.711, without SRTP",
    "503": "the server has no room: look at max_calls",
}


@dataclass(frozen=True)
class Running:
    """A server that runs: its base URL, an access key, and what its certificate is trusted by."""

    url: str
    key: str
    trust: ssl.SSLContext


async def examine(server: Running, phones: Sequence[SipPhone], to: str | None = None) -> AsyncIterator[Finding]:
    """Look at everything. A call is tried as the first of `phones`, to `to`, which has to answer it; without that to a
    simulated phone, where the server has such."""
    async with Caller(server.url, server.key, server.trust) as caller:
        try:
            health = await caller.request("GET", "/health")
            told = msgspec.convert(await caller.request("GET", PATH), Telephones)
        except CallerError as error:
            yield Finding("FAIL", "server", f"{error}: is it up, is the key one of its keys?")
            return
        status = health["status"]
        text = f"{server.url} is {status}, with {health['calls']} calls"
        yield Finding("ok" if status == "ok" else "warn", "server", text)
        for registration in told.registrations:
            yield _registration(registration)
        if told.sip is not None or told.sips is not None:
            for finding in _talking(told.talking):
                yield finding
            yield await _audio(server, caller, told, phones, to)


def _registration(one: Registered) -> Finding:
    subject, since = f"registration of {one.trunk}", f"for {one.seconds:.0f} s"
    if one.registered:
        return Finding("ok", subject, f"registered {since}, the last answer was {one.detail}")
    if one.detail == "not tried yet" and one.seconds < FIRST_S:
        return Finding("warn", subject, "is being tried: ask again in a few seconds")
    why = NOT_REGISTERED.get(one.detail[:3], "ask the provider what that means")
    return Finding("FAIL", subject, f"not registered {since}, the last answer was {one.detail}: {why}")


def _talking(legs: Sequence[Talking]) -> Iterator[Finding]:
    if all(leg.heard and leg.reached for leg in legs):
        text = f"goes both ways at {len(legs)} of {len(legs)} telephones" if legs else "no telephone is in a call"
        yield Finding("ok", "audio of calls", text)
    for leg in legs:
        subject = f"audio of {leg.party} in call {leg.call_id}"
        if not leg.heard:
            yield Finding("warn", subject, f"nothing comes from it: {_why_unheard(leg.address)}")
        if not leg.reached:
            yield Finding("warn", subject, f"{leg.address or 'it'} takes none: its host says that nobody listens there")


def _why_unheard(address: str) -> str:
    host = ip_of(address.partition(" ")[0])
    if host is not None and host.is_private and not host.is_loopback:
        return f"it is muted, or its NAT ({host} is a private address) or a firewall here keeps its packets out"
    return "it is muted, or it sends to another address: look at sip.advertised, and open sip.rtp_ports (UDP)"


async def _audio(
    server: Running, caller: Caller, told: Telephones, phones: Sequence[SipPhone], to: str | None
) -> Finding:
    """Try a call, and say which way is missing."""
    subject = "audio of a call"
    if not phones:
        return Finding("warn", subject, "not tried: that needs a [[phone]] in the configuration, to call as")
    try:
        async with _answering(caller, to) as dialled:
            phone = phones[0]
            outcome = await probe_call.call(_sip_uri(server, told), dialled, phone.user, phone.password, server.trust)
    except CallerError:
        return Finding("warn", subject, "not tried: in production an app has to answer, name its number with --call")
    except OSError as error:
        return Finding("FAIL", subject, f"could not be tried: {error}")
    return _judged(subject, outcome)


@contextlib.asynccontextmanager
async def _answering(caller: Caller, to: str | None) -> AsyncIterator[str]:
    """Give whom to call: `to`, or a simulated phone that answers. Raises CallerError where there are none."""
    if to is not None:
        yield to
        return
    name = f"doctor-{secrets.token_hex(4)}"
    phone = await caller.phone(name)

    async def answer() -> None:
        await phone.wait_for("ringing")
        await phone.answer()

    task = asyncio.create_task(answer())
    try:
        yield name
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)  # a phone that has gone is told by the call


def _sip_uri(server: Running, told: Telephones) -> Uri:
    """Return where its telephones reach it, seen from here."""
    bound = ip_of(told.host)
    host = urlsplit(server.url).hostname or "" if bound is not None and bound.is_unspecified else told.host
    transport, port = ("udp", told.sip) if told.sip is not None else ("tls", told.sips)
    return Uri("", host, port, {"transport": transport})


def _judged(subject: str, outcome: Outcome) -> Finding:
    if outcome.refusal:
        why = NOT_CALLED.get(outcome.refusal[:3], "is the SIP port open, does the app answer?")
        return Finding("FAIL", subject, f"the call was not answered, {outcome.refusal}: {why}")
    arrived = f"of {outcome.sent} packets {outcome.taken} arrived at {outcome.remote}, {outcome.arrived} came back"
    if outcome.taken and outcome.arrived:
        return Finding("ok", subject, f"goes both ways: {arrived}")
    missing = "is missing both ways" if not outcome.taken | outcome.arrived else ""
    missing = missing or ("from the telephone is missing" if not outcome.taken else "to the telephone is missing")
    todo = "is sip.advertised right, are sip.rtp_ports (UDP) open and forwarded?"
    return Finding("FAIL", subject, f"{missing}: {arrived}: {todo}")
