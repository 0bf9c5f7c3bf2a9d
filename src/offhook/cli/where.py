"""Which server a client verb talks to: `--server` and `--key`, or what a running `offhook serve` has written down."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from pathlib import Path

from offhook.server import tls
from offhook.server.app import SERVER_FILE
from offhook.server.config import DEVELOPMENT_KEY, Settings
from offhook.testing.caller import Caller


class NoServer(Exception):
    """No running server was found."""


@dataclass(frozen=True)
class Where:
    """A server: base URL, access key, and the CA that its certificate is trusted by."""

    url: str
    key: str
    ca: Path | None = None

    def caller(self) -> Caller:
        """Return a client of its caller API."""
        return Caller(self.url, self.key, self.trust())

    def trust(self) -> ssl.SSLContext:
        return tls.client_context([self.ca] if self.ca is not None and self.ca.is_file() else [])


def find(server: str | None, key: str | None, data_dir: Path | None) -> Where:
    """Return the server that is meant; raise `NoServer` when none is named and none is running."""
    directory = data_dir or Settings.load().data_dir
    ca = directory / "ca.pem"
    if server is not None:
        return Where(server, key or DEVELOPMENT_KEY, ca)
    path = directory / SERVER_FILE
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NoServer(
            f"no server is running with the data directory {directory}: start one with `offhook serve`, "
            "or name one with --server URL --key BASE64"
        ) from None
    url = f"http://127.0.0.1:{told['http']}" if told["http"] is not None else told["url"]
    return Where(url, key or told["key"], Path(told["ca"]))
