"""Which server a client verb talks to: `--server` and `--key`, or what a running `offhook serve` has written down."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offhook.server import tls
from offhook.server.config import DEVELOPMENT_KEY, Settings
from offhook.server.identity import ENDPOINT_PATH
from offhook.server.listening import SERVER_FILE
from offhook.testing.caller import Caller


class NoServer(Exception):
    """No running server was found."""


@dataclass(frozen=True)
class Where:
    """A server: its base URLs (one may be off), an access key, and the CA that its certificate is trusted by."""

    https: str | None
    http: str | None
    key: str
    ca: Path
    identity_header: str | None = None  # secret of its managed identity endpoint, where it has one

    @property
    def url(self) -> str:
        """The one to use from this machine."""
        url = self.http or self.https
        assert url is not None
        return url

    def caller(self) -> Caller:
        """Return a client of its caller API."""
        return Caller(self.url, self.key, self.trust())

    def trust(self) -> ssl.SSLContext:
        return tls.client_context([self.ca] if self.ca.is_file() else [])

    def connection_strings(self) -> dict[str, str]:
        """Return the connection string for each SDK; docs/wire.md says why they differ."""
        strings = {}
        if self.https is not None:
            strings["https"] = f"endpoint={self.https}/;accesskey={self.key}"
        if self.http is not None:
            strings["python-http"] = f"endpoint=http://{self.http};accesskey={self.key}"  # its parser drops one scheme
            strings["dotnet-http"] = strings["js-http"] = f"endpoint={self.http}/;accesskey={self.key}"
        return strings

    def identity(self) -> dict[str, str]:
        """Return the variables by which `DefaultAzureCredential` gets a token of this server; see docs/identity.md."""
        if self.identity_header is None:
            return {}
        return {"IDENTITY_ENDPOINT": self.url + ENDPOINT_PATH, "IDENTITY_HEADER": self.identity_header}


def find(server: str | None, key: str | None, data_dir: Path | None) -> Where:
    """Return the server that is meant; raise `NoServer` when none is named and none is running."""
    directory = data_dir or Settings.load().data_dir
    ca = directory / "ca.pem"
    if server is not None:
        url = server.rstrip("/")
        https, http = (url, None) if url.startswith("https:") else (None, url)
        return Where(https, http, key or DEVELOPMENT_KEY, ca)
    here = told(directory)
    return Where(here["https"], here["http"], key or here["key"], Path(here["ca"]), here.get("identityHeader"))


def told(data_dir: Path | None) -> dict[str, Any]:
    """Return what the server that runs with this data directory has written down; raise `NoServer` without one."""
    directory = data_dir or Settings.load().data_dir
    try:
        written: dict[str, Any] = json.loads((directory / SERVER_FILE).read_bytes())
    except FileNotFoundError:
        raise NoServer(_nobody(directory)) from None
    if not _runs(written["pid"]):
        raise NoServer(_nobody(directory))
    return written


def _nobody(directory: Path) -> str:
    return (
        f"no server is running with the data directory {directory}: start one with `offhook serve`, "
        "or name one with --server URL --key BASE64"
    )


def _runs(pid: int) -> bool:
    """Whether a process of this number exists: a server that was killed leaves its file behind."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
