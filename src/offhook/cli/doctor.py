"""`offhook doctor`: what `server.doctor` finds, printed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from offhook.server.doctor import examine


def doctor(
    config: Annotated[Path | None, typer.Option(help="TOML file; see docs/configuration.md.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Data directory of the server.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")] = False,
) -> None:
    """Say what would keep a server with this configuration from working; exit with 1 if something does."""
    raise typer.Exit(asyncio.run(_doctor(config, data_dir, json_)))


async def _doctor(config: Path | None, data_dir: Path | None, as_json: bool) -> int:
    failed = False
    async for finding in examine(config, data_dir):
        failed = failed or finding.level == "FAIL"
        text = f"{finding.level:<4}  {finding.subject}: {finding.text}"
        print(json.dumps(finding._asdict()) if as_json else text, flush=True)
    return int(failed)
