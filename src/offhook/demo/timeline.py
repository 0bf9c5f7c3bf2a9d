"""What happens in the demo, as it happens: lines for people, and times to measure by."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.status import Status

from offhook.demo.picture import Side

KEPT = 1000  # entries
_STYLE = {"caller": "bold blue", "bot": "bold dark_orange", "call": "dim"}


class Timeline(AbstractContextManager["Timeline"]):
    """Prints entries to `console` under a line that says what is going on; use it as a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = Status("", console=console) if console.is_terminal else None
        self._begun = time.time()
        self._seen: dict[str, float] = {}  # the first time of each thing that happened
        self._changed = asyncio.Event()
        self.marks: deque[tuple[float, Side, str]] = deque(maxlen=KEPT)  # (Unix time, whose, what), for the picture

    def __enter__(self) -> Timeline:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def busy(self, what: str) -> None:
        """Say what is being done right now."""
        if self._status is not None:
            self._status.update(f"[dim]{what} …[/]")

    def add(self, side: Side, text: str, *, at: float | None = None, mark: str | None = None) -> None:
        """Print an entry; `mark` is its label in the picture."""
        at = time.time() if at is None else at
        self._console.print(
            f"[dim]{at - self._begun:6.2f} s[/]  [{_STYLE[side]}]{side:<6}[/]  {text}", highlight=False, soft_wrap=True
        )
        if mark is not None:
            self.marks.append((at, side, mark))

    def from_app(self, line: str) -> None:
        """Take one line of the app's stdout."""
        told: dict[str, Any] = json.loads(line)
        what, at = told["what"], told["at"]
        self._saw(what, at)
        match what:
            case "event":
                kind = told["event"]["type"].rpartition(".")[2]
                self.add("call", f"callback: {kind}", at=at, mark=kind)
            case "bot speaks":
                said = f"“{told['text']}”  [dim]({told['seconds']} s of speech, sent at once)[/]"
                self.add("bot", said, at=at, mark="bot speaks")
            case "bot interrupted":
                self.add("bot", "hears the caller and sends StopAudio", at=at, mark="StopAudio")
            case "bot heard speech":
                self.add("bot", "hears the caller", at=at)
            case "call comes in":
                self.add("bot", "IncomingCall arrives; answer_call()", at=at)
            case "call answered":
                self.add("bot", "answered, by the official SDK over https", at=at)
            case "stream opened":
                self.add("bot", f"audio WebSocket open, {told['rate']} Hz", at=at, mark="socket open")
            case "stream closed":
                self.add("bot", "audio WebSocket closed", at=at)
            case other:
                self.add("bot", f"{other} {told.get('error', '')}", at=at)

    def first(self, what: str) -> float | None:
        """Return the Unix time at which `what` first happened in the app."""
        return self._seen.get(what)

    async def until(self, what: str, timeout: float) -> None:
        """Wait until `what` has happened in the app, but no longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while what not in self._seen and (left := deadline - time.monotonic()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return

    def _saw(self, what: str, at: float) -> None:
        self._seen.setdefault(what, at)
        self._changed.set()
