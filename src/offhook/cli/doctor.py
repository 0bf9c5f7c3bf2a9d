"""`offhook doctor`: what `server.doctor` and `testing.checkup` find, printed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from offhook.cli.where import NoServer, find
from offhook.server.config import ConfigError, Settings
from offhook.server.doctor import Finding
from offhook.server.doctor import examine as examine_settings
from offhook.testing.checkup import Running
from offhook.testing.checkup import examine as examine_running

STUN_PORT = 3478
STYLES = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}


def doctor(
    config: Annotated[Path | None, typer.Option(help="TOML file; see docs/configuration.md.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Data directory of the server.")] = None,
    call: Annotated[str | None, typer.Option(help="Number to try a call to; its app has to answer.")] = None,
    stun: Annotated[str | None, typer.Option(help="HOST[:PORT] of a STUN server: what is our address?")] = None,
    server: Annotated[str | None, typer.Option(help="URL of a server elsewhere; only that is looked at.")] = None,
    key: Annotated[str | None, typer.Option(help="Access key, base64; default: the running server's.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")] = False,
) -> None:
    """Say what keeps this configuration, or a server that runs, from working; exit with 1 if something does."""
    try:
        stun_server = None if stun is None else _host_port(stun)
        findings = _all(config, data_dir, stun_server, server, key, call)
        raise typer.Exit(asyncio.run(_print(findings, json_)))
    except (NoServer, ConfigError, ValueError) as error:
        typer.echo(f"offhook: {error}", err=True)
        raise typer.Exit(2) from None


async def _print(findings: AsyncIterator[Finding], as_json: bool) -> int:
    """Print findings as they come; return the exit code."""
    console, failed = Console(highlight=False, soft_wrap=True), False
    async for level, subject, text in findings:
        failed = failed or level == "FAIL"
        if as_json:
            print(json.dumps({"level": level, "subject": subject, "text": text}), flush=True)
        else:
            console.print(f"[{STYLES[level]}]{level:<4}[/]  {escape(f'{subject}: {text}')}")
    return int(failed)


async def _all(
    config: Path | None,
    data_dir: Path | None,
    stun: tuple[str, int] | None,
    server: str | None,
    key: str | None,
    call: str | None,
) -> AsyncIterator[Finding]:
    if server is None:
        async for finding in examine_settings(config, data_dir, stun):
            yield finding
    try:
        settings = Settings.load(config, **({"data_dir": data_dir} if data_dir else {}))
    except ConfigError:
        if server is None:
            return  # that was told
        raise
    try:
        where = find(server, key, settings.data_dir)
    except NoServer:
        yield Finding("ok", "server", "none runs with this data directory; registrations and calls are not looked at")
        return
    async for finding in examine_running(Running(where.url, where.key, where.trust()), settings.phone, call):
        yield finding


def _host_port(text: str) -> tuple[str, int]:
    """Raise ValueError for what is no HOST or HOST:PORT."""
    host, colon, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "")
    if not host or (colon and not port.isdigit()):
        raise ValueError(f"--stun {text}: HOST or HOST:PORT")
    return host.strip("[]"), int(port) if colon else STUN_PORT
