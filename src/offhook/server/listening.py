"""Where the server listens, and how client verbs find it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

from offhook.server import files, tls
from offhook.server.config import Settings
from offhook.server.identity import secret

SERVER_FILE = "server.json"  # in the data directory: where the running server is, for the client verbs
BACKLOG = 2048  # connections that wait to be taken; the kernel may hold fewer


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

    def bind(self) -> Callable[[], None]:
        """Open both ports; return what closes them. Raises OSError when a port cannot be bound."""
        with contextlib.ExitStack() as opened:
            self.http_socket = self._bound(self.settings.http, opened)
            self.https_socket = self._bound(self.settings.https, opened)
            return opened.pop_all().close

    def tell_client_verbs(self) -> Callable[[], None]:
        """Write where we are and with which key, so that only the owner may read it; return what undoes it."""
        path = self.settings.data_dir / SERVER_FILE
        told = {
            "http": self._base("http", self.http),
            "https": self._base("https", self.https),
            "key": self.keys[0],
            "ca": str(self.tls.ca),
            "identityHeader": secret(self.settings.data_dir) if self.settings.managed_identity else None,
            "pid": os.getpid(),
        }
        files.replace(path, json.dumps(told).encode())
        return lambda: _forget(path)

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


def audio_base(host: str, listening: socket.socket) -> str:
    """Return the base URL of the audio sockets of simulated parties behind `listening`."""
    return f"ws://{bracketed(host)}:{listening.getsockname()[1]}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _port(listening: socket.socket | None) -> int | None:
    return None if listening is None else int(listening.getsockname()[1])


def _forget(path: Path) -> None:
    """Remove the server file, unless another server has written its own since."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_bytes())["pid"] == os.getpid():
            path.unlink()
