"""A configuration that was read anew: what a running server takes of it, in lines for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from offhook.server.config import RELOADED, Settings
from offhook.server.delivery import without_query


class ReadAnew(msgspec.Struct, frozen=True):
    """How that went, each a line: what has changed, what has and `waiting` is for the next start, and the `problems`
    for which nothing was taken."""

    changed: list[str] = []
    waiting: list[str] = []
    problems: list[str] = []

    def lines(self) -> list[str]:
        """All of it."""
        if self.problems:
            return ["the configuration is not read anew, nothing has changed", *self.problems]
        return ["read anew", *self.changed, *self.waiting] if self.changed or self.waiting else ["nothing has changed"]


def compare(before: Settings, anew: Settings) -> ReadAnew:
    """Return what would change for a server that runs with `before`; no secrets are in it."""
    changed = [line for setting, name in _NAMES.items() for line in _differences(setting, before, anew, name)]
    late = [name for name in type(before).model_fields if name not in RELOADED]
    differing = [name for name in late if getattr(before, name) != getattr(anew, name)]
    return ReadAnew(changed, [f"{name}: has changed, which waits for the next start" for name in differing])


def _differences(setting: str, before: Settings, anew: Settings, name: Callable[[Any], str]) -> list[str]:
    old, new = ({name(each): each for each in getattr(settings, setting)} for settings in (before, anew))
    return [
        *(f"{setting} {key}: new" for key in new if key not in old),
        *(f"{setting} {key}: changed" for key in new if key in old and new[key] != old[key]),
        *(f"{setting} {key}: gone" for key in old if key not in new),
    ]


_NAMES: Mapping[str, Callable[[Any], str]] = {  # how people tell the entries of a setting apart
    "incoming": without_query,
    "inbound": lambda table: table.numbers[0] + (f" by trunk {table.trunk}" if table.trunk else ""),
    "trunk": lambda trunk: trunk.name,
    "phone": lambda phone: phone.user,
    "route": lambda route: f"{route.prefix} by {route.trunk}",
}
