"""What `offhook demo` prints around the call."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from offhook.demo.run import DemoError, Result, as_json, run
from offhook.demo.script import Unheard
from offhook.demo.timeline import Timeline

PLAYERS = (("afplay",), ("paplay",), ("aplay", "-q"), ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"))


async def demo(out: Path, json_: bool, play: bool) -> int:
    """Run the demo; return 0 only if the caller heard the bot."""
    console = Console(stderr=json_)
    try:
        with Timeline(console) as timeline:
            result = await run(out, timeline)
    except (DemoError, Unheard) as error:
        console.print(f"[bold red]the demo failed:[/] {error}", highlight=False)
        if json_:
            answered = isinstance(error, Unheard) and error.answered
            print(json.dumps({"answered": answered, "heard_the_bot": False, "error": str(error)}))
        return 1
    _summarise(console, result)
    if play:
        await _play(Path(result.files[0]), console)
    if json_:
        print(as_json(result))
    return 0 if result.heard_the_bot else 1


def _summarise(console: Console, result: Result) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("audio to the app", f"{result.frames_to_app} frames, {result.lost_frames} lost on the way")
    table.add_row("audio from the app", f"{result.frames_from_app} frames played, {result.heard_ms / 1000:.1f} s heard")
    first, stop = result.first_audio_ms, result.stop_to_silence_ms
    table.add_row("first audio", f"{first:.0f} ms after connecting" if first is not None else "none")
    table.add_row("StopAudio to silence", f"{stop:.0f} ms at the caller's ear" if stop is not None else "not reached")
    table.add_row("recordings", "  ".join(result.files))
    console.print()
    console.print(table)
    if not result.heard_the_bot:
        console.print("[bold red]the caller did not hear the bot[/]")


async def _play(path: Path, console: Console) -> None:
    player = next((p for p in PLAYERS if shutil.which(p[0])), None)
    if player is None:
        console.print(f"no player found ({', '.join(p[0] for p in PLAYERS)}); open {path}", highlight=False)
        return
    process = await asyncio.create_subprocess_exec(*player, str(path))
    await process.wait()
