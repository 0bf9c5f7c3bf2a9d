"""What `offhook doctor` looks at: whether a server with this configuration could start, and telephones reach it.

Nothing of a running server is changed, and nothing leaves the machine but what the configuration names: the names of
trunks are looked up, and each machine that they lead to is sent one OPTIONS. A STUN server is asked if one is named.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography import x509

from offhook.legs.sip.flows import family_of
from offhook.legs.sip.locate import PORTS, Locator, Target
from offhook.legs.sip.uri import Uri, parse_uri
from offhook.legs.sip.ways import LOOK_UP_S
from offhook.server import options_probe, stun, tls
from offhook.server.config import ConfigError, Settings
from offhook.server.listening import SERVER_FILE, listen

DAYS_LEFT = 14  # of a certificate, below which it is told
SOCKETS_PER_CALL = 4  # the app's WebSocket, RTP, RTCP, and one that is being opened or closed
SPARE_SOCKETS = 100  # of a process, for everything else
TICKS, TICK_S = 25, 0.02  # of the look at the clock
LATE_S = 0.02  # a whole frame


class Finding(NamedTuple):
    """One thing that was looked at. `text` says how it is, and what to do where it is not well."""

    level: Literal["ok", "warn", "FAIL"]
    subject: str
    text: str


async def examine(
    config: Path | None = None,
    data_dir: Path | None = None,
    stun_server: tuple[str, int] | None = None,
    locator: Locator | None = None,
) -> AsyncIterator[Finding]:
    """Look at everything, in order; what cannot be looked at for want of something before it is left out.

    `stun_server` (host and port) is asked which address it sees; `locator` finds trunks, its own one if None.
    """
    try:
        settings = Settings.load(config, **({"data_dir": data_dir} if data_dir else {}))
        settings.check()
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("FAIL", "configuration", problem)
        return
    yield Finding("ok", "configuration", f"{settings.profile} profile, bound to {settings.host}")
    for finding in (*_certificate(settings), *_ports(settings), *_limits(settings), *_advertised(settings)):
        yield finding
    if stun_server is not None:
        yield await _seen_by(stun_server, settings)
    for trunk in settings.trunk:
        for uri in dict.fromkeys(filter(None, (trunk.server, trunk.register_))):
            yield await _trunk(f"trunk {trunk.name}", uri, settings, locator or Locator())
    yield await _clock()


# ---------------------------------------------------------------------------------------------- this machine


def _certificate(settings: Settings) -> Iterator[Finding]:
    if settings.https is None and settings.sip.tls_port is None:
        return
    try:
        made = tls.ensure(settings.data_dir, settings.names)
        path, key = settings.tls_cert or made.cert, settings.tls_key or made.key
        tls.server_context(path, key)
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        yield Finding("FAIL", "certificate", str(error))
        return
    now = datetime.now(UTC)
    days = (certificate.not_valid_after_utc - now).days
    if certificate.not_valid_before_utc > now:
        yield Finding("FAIL", "certificate", f"{path} is not valid yet: is the clock of this machine right?")
    elif certificate.not_valid_after_utc <= now:
        yield Finding("FAIL", "certificate", f"{path} has expired: renew it")
    else:
        text = f"{_names(certificate)}; {days} days left"
        soon = days < DAYS_LEFT
        yield Finding("warn" if soon else "ok", "certificate", f"{text}: renew {path}" if soon else text)


def _names(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "for no name (it has no subjectAltName, and clients refuse it)"
    hosts = names.get_values_for_type(x509.DNSName)
    return "for " + ", ".join([*hosts, *map(str, names.get_values_for_type(x509.IPAddress))])


def _ports(settings: Settings) -> Iterator[Finding]:
    sip, running = settings.sip, _running(settings.data_dir)
    sip_host = sip.host or settings.host
    wanted = [
        ("http", settings.host, settings.http, socket.SOCK_STREAM),
        ("https", settings.host, settings.https, socket.SOCK_STREAM),
        ("SIP over UDP", sip_host, sip.port, socket.SOCK_DGRAM),
        ("SIP over TCP", sip_host, sip.port, socket.SOCK_STREAM),
        ("SIP over TLS", sip_host, sip.tls_port, socket.SOCK_STREAM),
    ]
    for name, host, port, kind in wanted:
        if port is None:
            continue
        subject = f"port {port} ({name})" if port else name
        try:
            _try_port(host, port, kind)
        except OSError as error:
            if running is not None and error.errno == errno.EADDRINUSE and port in running.ports:
                yield Finding("ok", subject, f"the server that runs here has it (process {running.pid})")
            else:
                yield Finding("FAIL", subject, f"{error.strerror or error}: stop what has it, or take another")
        else:
            yield Finding("ok", subject, f"is free on {host}" if port else f"takes a free port on {host}")


def _try_port(host: str, port: int, kind: socket.SocketKind) -> None:
    """Raise OSError when the port cannot be had."""
    if kind == socket.SOCK_STREAM:
        listen(host, port).close()
        return
    family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, kind) as probe:
        probe.bind(address)


class _Running(NamedTuple):
    """The server that runs with this data directory, as far as it says."""

    pid: int
    ports: set[int]


def _running(data_dir: Path) -> _Running | None:
    """Return who wrote the server file, if it is there still."""
    try:
        told = json.loads((data_dir / SERVER_FILE).read_bytes())
        ends = [str(told.get(name)).rpartition(":")[2] for name in ("http", "https", "sip", "sips")]
        server = _Running(int(told["pid"]), {int(end) for end in ends if end.isdigit()})
        if os.name == "posix":
            os.kill(server.pid, 0)
    except PermissionError:
        return server  # somebody else's, but there
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return server


def _limits(settings: Settings) -> Iterator[Finding]:
    if os.name == "posix":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        calls = min(settings.max_calls_per_worker or settings.max_calls, settings.max_calls)
        needed = calls * SOCKETS_PER_CALL + SPARE_SOCKETS
        text = f"{soft} for a process; {calls} calls in one need up to {needed}"
        if soft in (resource.RLIM_INFINITY, -1) or soft >= needed:
            yield Finding("ok", "open files", text)
        else:
            yield Finding("warn", "open files", f"{text}: raise it (ulimit -n, LimitNOFILE=), or lower max_calls")
    if settings.sip.on:
        first, last = settings.sip.rtp_ports
        pairs = len(range(first + first % 2, last, 2))
        text = f"{pairs} pairs; max_calls is {settings.max_calls}"
        enough = pairs >= settings.max_calls
        yield Finding("ok" if enough else "warn", "RTP ports", text if enough else f"{text}: widen sip.rtp_ports")
        yield from _rtp_ends(settings)


def _rtp_ends(settings: Settings) -> Iterator[Finding]:
    """Try the first and the last port for audio."""
    host, (first, last) = settings.sip.host or settings.host, settings.sip.rtp_ports
    for port in (first, last):
        try:
            _try_port(host, port, socket.SOCK_DGRAM)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and _running(settings.data_dir) is not None:
                continue  # a call of the server that runs here, most likely
            text = f"{error.strerror or error}: leave out what another program has, or stop it (sip.rtp_ports)"
            yield Finding("FAIL", f"RTP port {port}", text)


def _advertised(settings: Settings) -> Iterator[Finding]:
    sip = settings.sip
    if not sip.on:
        return
    subject, host = "advertised address", sip.advertised or sip.host or settings.host
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError as error:
        yield Finding("FAIL", subject, f"{host} does not resolve ({error.strerror or error}): set sip.advertised")
        return
    family, _, _, _, address = found[0]
    if ip_address(str(address[0]).partition("%")[0]).is_loopback:
        level: Literal["ok", "warn"] = "warn" if settings.trunk else "ok"
        yield Finding(level, subject, f"{host} is reached from this machine only; for others set sip.host")
        return
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        first, last = sip.rtp_ports
        text = f"{host} is not this machine's: behind NAT, the SIP ports and UDP {first}-{last} have to be forwarded"
        yield Finding("warn", subject, text)
    else:
        yield Finding("ok", subject, f"{host} is this machine's")


async def _clock() -> Finding:
    """See how late this machine wakes who sleeps: audio goes by a clock of 20 ms."""
    loop = asyncio.get_running_loop()
    start, worst = loop.time(), 0.0
    for tick in range(1, TICKS + 1):
        await asyncio.sleep(max(0.0, start + tick * TICK_S - loop.time()))
        worst = max(worst, loop.time() - start - tick * TICK_S)
    text = f"late by {worst * 1000:.1f} ms at most in {TICKS} ticks of 20 ms"
    if worst < LATE_S:
        return Finding("ok", "clock", text)
    return Finding("warn", "clock", f"{text}: this machine has too little CPU time for audio now")


# ---------------------------------------------------------------------------------------------- trunks


async def _trunk(subject: str, text: str, settings: Settings, locator: Locator) -> Finding:
    try:
        uri = parse_uri(text)
        targets = await _targets(uri, settings, locator)
    except socket.gaierror as error:
        return Finding("FAIL", subject, f"the name in {text} does not resolve ({error.strerror}): is its name right?")
    except (OSError, ValueError) as error:
        return Finding("FAIL", subject, f"{text} leads nowhere: {error}")
    if not targets:
        return Finding("FAIL", subject, f"{text} leads nowhere: DNS has no server for a transport that is on here")
    trust = tls.client_context([settings.ca] if settings.ca else [])
    answers = await asyncio.gather(*(_options(uri, target, trust) for target in targets))
    if family_of(uri.host) is not None:
        return Finding(answers[0].level, subject, f"{text} {answers[0].text}")
    there = [f"{target.host} port {target.port} by {target.transport}" for target in targets]
    told = "; ".join(f"{place} {answer.text}" for place, answer in zip(there, answers, strict=True))
    levels = {answer.level for answer in answers}
    level = answers[0].level if len(levels) == 1 else "warn"  # Some are there: calls go by those.
    return Finding(level, subject, f"{text}: {told}")


async def _targets(uri: Uri, settings: Settings, locator: Locator) -> list[Target]:
    transport = uri.transport or "udp"
    if transport not in PORTS:
        raise ValueError(f"there is no transport {transport}")
    if family_of(uri.host) is not None:
        return [Target(transport, uri.host, uri.port or PORTS[transport])]
    ours = [*(("udp", "tcp") if settings.sip.port is not None else ()), *(("tls",) if settings.sip.tls_port else ())]
    try:
        async with asyncio.timeout(LOOK_UP_S):
            targets = await locator.locate(uri, ours or ["udp"])
    except TimeoutError:
        raise OSError(f"no name server has answered within {LOOK_UP_S:g} s") from None
    family = family_of(settings.sip.host or settings.host) or socket.AF_INET  # our only UDP socket's
    return [target for target in targets if target.transport != "udp" or family_of(target.host) == family]


class _Answer(NamedTuple):
    level: Literal["ok", "warn", "FAIL"]
    text: str


async def _options(uri: Uri, target: Target, trust: ssl.SSLContext) -> _Answer:
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        status = await options_probe.ask(uri, target, trust)
    except TimeoutError:
        return _Answer("warn", "does not answer OPTIONS (is it up, does it know this address, is a firewall between?)")
    except (OSError, ValueError) as error:
        return _Answer("FAIL", f"cannot be reached ({error})")
    return _Answer("ok", f"answers OPTIONS with {status}, after {(loop.time() - start) * 1000:.0f} ms")


async def _seen_by(server: tuple[str, int], settings: Settings) -> Finding:
    """Compare the address that the outside sees with the one that we tell it."""
    subject, host = "public address", settings.sip.advertised or settings.sip.host or settings.host
    try:
        ours = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        ours = []  # that was told
    try:
        seen = await stun.mapped_address(*server, family=ours[0][0] if ours else socket.AF_UNSPEC)
    except OSError as error:
        return Finding(
            "warn", subject, f"{error.strerror or error}: is {server[0]} a STUN server, may UDP leave this machine?"
        )
    if not settings.sip.on:
        return Finding("ok", subject, seen)
    if seen in {str(address[0]) for *_, address in ours}:
        return Finding("ok", subject, f"{seen}, which is what telephones are told")
    text = f"{seen}, but telephones are told {host}: set sip.advertised for those outside of this network"
    return Finding("warn", subject, text)
