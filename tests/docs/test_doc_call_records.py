"""The example in docs/call-records.md has the form of a record that a call leaves, and the page explains every key."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.server.telephone_scene import Scene, hold

from offhook.call.model import EndCause
from offhook.server.call_records import RecordFile

if TYPE_CHECKING:
    from tests.conftest import InMemory

PAGE = (Path(__file__).parents[2] / "docs/call-records.md").read_text("utf-8")
VARYING = {"id", "serverCallId", "correlationId", "callConnectionId"}  # by chance; and all that is a time or a figure


def form(value: Any, key: str = "") -> Any:
    """What of a record is the same every time: its keys, in their order, and all texts but ids and times."""
    match value:
        case dict():
            return [(key, form(each, key)) for key, each in value.items()]
        case list():
            return [form(each) for each in value]
        case str() if key in VARYING or re.fullmatch(r"8:acs:.*|\d{4}-\d\d-\d\dT[\d:.]+Z", value):
            return "…"
        case str() | None:
            return value
        case _:
            return int if key == "code" else float


def test_the_example_is_what_a_call_leaves(in_memory: InMemory, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"

    async def scenario(scene: Scene) -> None:
        scene.server.control.exchange.accounting.file = RecordFile(path)
        line, _ = await scene.answered()
        await asyncio.sleep(20)
        line.live.hang_up(q850=16)
        await asyncio.sleep(1)

    hold(in_memory, scenario)
    (example,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert form(json.loads(path.read_text("utf-8"))) == form(json.loads(example))


def test_every_key_and_every_cause_is_explained() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    explained = PAGE.replace(example, "")
    record = json.loads(example)
    assert all(f"`{key}`" in explained for key in record)
    assert all(f"`{cause.name.lower()}`" in explained for cause in EndCause)
