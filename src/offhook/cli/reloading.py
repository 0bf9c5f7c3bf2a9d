"""`offhook reload`: the server that runs here reads its configuration anew, and says what has changed."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from msgspec import structs

from offhook.cli.where import NoServer, told
from offhook.server.reloading import ReadAnew

ANSWER_S = 30.0  # for the server to read it
LOOK_S = 0.05
CONNECT_S = 2.0


def reload(
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Data directory of the server.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")] = False,
) -> None:
    """Have the server that runs here read its configuration anew; exit with 2 if it cannot use it."""
    try:
        read = _reload(data_dir)
    except (NoServer, OSError) as error:
        typer.echo(f"offhook: {error}", err=True)
        raise typer.Exit(2) from None
    if json_:
        typer.echo(json.dumps(structs.asdict(read)))
    else:
        typer.echo("\n  ".join(read.lines()), err=bool(read.problems))
    raise typer.Exit(2 if read.problems else 0)


def _reload(data_dir: Path | None) -> ReadAnew:
    if not hasattr(signal, "SIGHUP"):
        raise OSError("on this system a running server cannot be told to read its configuration anew: start it again")
    server = told(data_dir)
    _check_that_it_listens(server)
    os.kill(server["pid"], signal.SIGHUP)
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
        now = told(data_dir)
        if now["reloads"] != server["reloads"]:
            return ReadAnew(**now["reload"])
    raise TimeoutError(f"process {server['pid']} has not answered within {ANSWER_S:g} s: its log may say why")


def _check_that_it_listens(server: dict[str, Any]) -> None:
    """Raise `NoServer` if nobody does: the process with its number is another one by now, whom SIGHUP would end."""
    url = urlsplit(server["http"] or server["https"])
    try:
        socket.create_connection((url.hostname, url.port), CONNECT_S).close()
    except OSError as error:
        raise NoServer(f"the server that ran here is gone: nobody listens at {url.netloc} ({error.strerror})") from None
