"""Where the server listens, how client verbs find it, and how it reads its configuration anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import structs

from offhook.server import files, tls
from offhook.server.config import ConfigError, Settings
from offhook.server.identity import secret
from offhook.server.reloading import ReadAnew, compare

log = logging.getLogger(__name__)

SERVER_FILE = "server.json"  # in the data directory: where the running server is, for the client verbs
BACKLOG = 2048  # connections that wait to be taken; the kernel may hold fewer
QUIET_PORTS = range(10_000, 12_000)  # kernels hand out none of them: one that is free stays so, also over a restart


class Listening:
    """Whoever listens on the server's two ports: the `Server` in one process, or the `Supervisor` of several.

    Raises `ConfigError` when the settings do not allow a start. `ended` is set when it cannot go on by itself.
    """

    def __init__(
        self, settings: Settings, http_socket: socket.socket | None = None, https_socket: socket.socket | None = None
    ) -> None:
        settings.check()
        self.settings = settings
        self.http_socket = http_socket
        self.https_socket = https_socket
        self.keys = settings.access_keys()
        self.tls = tls.ensure(settings.data_dir, settings.names)
        self.ended = asyncio.Event()
        self._identity_bytes = self._read_identity()
        self._reloads = 0
        self._last_reload = ReadAnew()

    @property
    def http(self) -> int | None:
        """The port for http; None: it is off."""
        return _port(self.http_socket)

    @property
    def https(self) -> int | None:
        """The port for https; None: it is off."""
        return _port(self.https_socket)

    @property
    def url(self) -> str:
        """Base URL under which this server can be reached: https where it is on."""
        url = self._base("https", self.https) or self._base("http", self.http)
        assert url is not None
        return url

    @property
    def plain_url(self) -> str | None:
        """Base URL over plain http, which a browser opens without asking; None where http is off."""
        return self._base("http", self.http)

    def ready(self) -> dict[str, Any]:
        """Return what `offhook serve` says when it listens: the ports, None for what is off; those for telephones only
        where some are served."""
        sip = self.settings.sip
        telephones = {"sip": sip.port, "sips": sip.tls_port} if sip.on else {}
        return {"ready": True, "http": self.http, "https": self.https, **telephones}

    @property
    def sip_uris(self) -> dict[str, str | None]:
        """Where telephones reach this server: `sip` by UDP and TCP, `sips` by TLS. None: it is off."""
        sip = self.settings.sip
        host = bracketed(sip.advertised or sip.host or self.settings.host)
        return {
            "sip": None if sip.port is None else f"sip:{host}:{sip.port}",
            "sips": None if sip.tls_port is None else f"sip:{host}:{sip.tls_port};transport=tls",
        }

    def reload(self, settings: Settings) -> ReadAnew:
        """Take of settings that were read anew what a running server takes: who is told of calls, trunks, phones,
        routes, and the certificate. No call is dropped. Raises ConfigError, and changes nothing, for what cannot be
        used."""
        settings.check()
        anew = _with_sip_ports(settings, self.settings.sip.port, self.settings.sip.tls_port)
        read, taken = compare(self.settings, anew), self.settings.reloaded(anew)
        try:
            taken.check()
        except ConfigError as error:  # It does not go with what waits.
            raise ConfigError([*error.problems, *read.waiting]) from None
        identity = self._read_identity()
        if identity != self._identity_bytes:
            read.changed.append("certificate: new")
        self.settings, self._identity_bytes = taken, identity
        return read

    def tell_of_reload(self, read: ReadAnew) -> None:
        """Let the log and `offhook reload` know how that went."""
        log.log(logging.ERROR if read.problems else logging.INFO, "%s", "; ".join(read.lines()))
        self._reloads += 1
        self._last_reload = read
        self._write_server_file()

    def bind(self) -> Callable[[], None]:
        """Open both ports and choose those for SIP; return what closes them. Raises OSError when one cannot be had."""
        with contextlib.ExitStack() as opened:
            self.http_socket = self._bound(self.settings.http, opened)
            self.https_socket = self._bound(self.settings.https, opened)
            self._choose_sip_ports()
            return opened.pop_all().close

    def _choose_sip_ports(self) -> None:
        """Choose those that are 0. They are bound later, so the two must not be the same."""
        sip = self.settings.sip
        host, port, tls_port = sip.host or self.settings.host, sip.port, sip.tls_port
        if port == 0:
            port = free_port(host, socket.SOCK_DGRAM, socket.SOCK_STREAM, other=tls_port)
        if tls_port == 0:
            tls_port = free_port(host, socket.SOCK_STREAM, other=port)
        self.settings = _with_sip_ports(self.settings, port, tls_port)

    def tell_client_verbs(self) -> Callable[[], None]:
        """Write where we are and with which key, so that only the owner may read it; return what undoes it."""
        self._write_server_file()
        path = self.settings.data_dir / SERVER_FILE
        return lambda: _forget(path)

    def _write_server_file(self) -> None:
        told = {
            "http": self._base("http", self.http),
            "https": self._base("https", self.https),
            **self.sip_uris,
            "key": self.keys[0],
            "ca": str(self.tls.ca),
            "identityHeader": secret(self.settings.data_dir) if self.settings.managed_identity else None,
            "pid": os.getpid(),
            "reloads": self._reloads,  # how often it was told to read its configuration anew, and how that went
            "reload": structs.asdict(self._last_reload),
        }
        files.replace(self.settings.data_dir / SERVER_FILE, json.dumps(told).encode())

    def certificate(self) -> tuple[Path, Path]:
        """Return the certificate and the key that we show."""
        return self.settings.tls_cert or self.tls.cert, self.settings.tls_key or self.tls.key

    def _read_identity(self) -> bytes:
        """Return what is in both files. Raises ConfigError when they cannot be used."""
        cert, key = self.certificate()
        try:
            tls.server_context(cert, key)
            return cert.read_bytes() + key.read_bytes()
        except (OSError, ValueError) as error:
            raise ConfigError([f"tls_cert, tls_key: {error}"]) from None

    def _bound(self, port: int | None, opened: contextlib.ExitStack) -> socket.socket | None:
        if port is None:
            return None
        bound = listen(self.settings.host, port)
        opened.callback(bound.close)
        return bound

    def _base(self, scheme: str, port: int | None) -> str | None:
        """Base URL of one of the two ports: under the first name we have when we listen on every address."""
        host = self.settings.host
        if host in ("0.0.0.0", "::") and self.settings.names:
            host = self.settings.names[0]
        return None if port is None else f"{scheme}://{bracketed(host)}:{port}"


def listen(host: str, port: int = 0) -> socket.socket:
    """Return a socket that listens there: it takes connections from now on, whoever will serve them."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    return bound


def free_port(host: str, *kinds: socket.SocketKind, other: int | None = None) -> int:
    """Return one of QUIET_PORTS that is free now for all `kinds` of sockets, and is not `other`. Raises OSError when
    there is none."""
    for port in random.sample(QUIET_PORTS, len(QUIET_PORTS)):
        if port == other:
            continue
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            for kind in kinds:
                family, _, _, _, address = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)[0]
                opened.enter_context(socket.socket(family, kind)).bind(address)
            return port
    raise OSError(f"there is no free port on {host} from {QUIET_PORTS.start} to {QUIET_PORTS.stop - 1}")


def audio_base(host: str, listening: socket.socket) -> str:
    """Return the base URL of the audio sockets of simulated parties behind `listening`."""
    return f"ws://{bracketed(host)}:{listening.getsockname()[1]}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _with_sip_ports(settings: Settings, port: int | None, tls_port: int | None) -> Settings:
    """Return settings with these ports, as far as they are there, instead of 0."""
    chosen = {
        name: given
        for name, given in (("port", port), ("tls_port", tls_port))
        if given is not None and getattr(settings.sip, name) == 0
    }
    return settings.model_copy(update={"sip": settings.sip.model_copy(update=chosen)})


def _port(listening: socket.socket | None) -> int | None:
    return None if listening is None else int(listening.getsockname()[1])


def _forget(path: Path) -> None:
    """Remove the server file, unless another server has written its own since."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_bytes())["pid"] == os.getpid():
            path.unlink()
