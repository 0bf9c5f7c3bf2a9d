"""The Grafana dashboard, docs/metrics.md and `/metrics` speak of the same metrics."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.metrics_core import Metric

from offhook.server.metrics import Metrics
from offhook.server.placement import REASONS

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "examples/grafana/offhook.json").read_text("utf-8"))
PAGE = (ROOT / "docs/metrics.md").read_text("utf-8")
STREAM = {
    "transportUrl": "wss://app.example/audio",
    "transportType": "websocket",
    "audioChannelType": "mixed",
    "startMediaStreaming": True,
}
NAME = re.compile(r"\b(?:offhook|process)_[a-z_]+")


@pytest.fixture(scope="module")
def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def names(family: Metric) -> set[str]:
    """The names under which a metric is asked for."""
    match family.type:
        case "counter":
            return {f"{family.name}_total"}
        case "histogram":
            return {f"{family.name}_bucket", f"{family.name}_sum", f"{family.name}_count"}
        case _:
            return {family.name}


def documented(family: Metric) -> str:
    """The name under which it stands in the page."""
    return f"{family.name}_total" if family.type == "counter" else family.name


@pytest.fixture
def families(in_memory: InMemory) -> list[Metric]:
    """What a server tells that had a call."""

    async def scenario(server: MemoryServer) -> list[Metric]:
        metrics = Metrics()
        metrics.watch_calls(server.control)
        metrics.watch_events(server.deliverer, server.endpoints)
        server.media.worker.vitals.start(10)
        caller = await server.call()
        await server.answer(mediaStreamingOptions=STREAM)
        await asyncio.sleep(2)
        caller.tell("hangUp")
        await server.settle()
        return list(metrics.collect())

    told: list[Metric] = in_memory(scenario)
    return told


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="process metrics are read from /proc")


@needs_proc
def test_the_dashboard_shows_every_metric_and_no_other(families: list[Metric], expressions: list[str]) -> None:
    used = {name for expression in expressions for name in NAME.findall(expression)}
    told = {name for family in families for name in names(family)}
    assert used <= told
    assert [family.name for family in families if not names(family) & used] == []


@needs_proc
def test_the_page_describes_every_metric_and_no_other(families: list[Metric]) -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith(("| `offhook_", "| `process_"))]
    table = {row[0].strip(" `"): (row[1].strip(), row[2].replace("`", "").strip()) for row in rows if len(row) == 4}
    assert sorted(table) == sorted(documented(family) for family in families)
    for family in families:
        kind, labels = table[documented(family)]
        assert kind == family.type
        told = {label for sample in family.samples for label in sample.labels if label != "le"}
        assert told <= set(filter(None, labels.split(", "))), family.name


@needs_proc
def test_alerts_are_about_metrics_that_exist(families: list[Metric]) -> None:
    alerts = PAGE.partition("## Worth an alert")[2]
    told = {name for family in families for name in names(family)}
    assert NAME.findall(alerts)
    assert set(NAME.findall(alerts)) <= told


def test_the_page_explains_every_reason() -> None:
    section = PAGE.partition("## When calls are refused")[2]
    explained = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(explained) == sorted(["reason", *REASONS])


def test_the_dashboard_can_be_imported_anywhere() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    sources = {json.dumps(panel["datasource"]) for panel in panels()}
    sources |= {json.dumps(target["datasource"]) for panel in panels() for target in panel["targets"]}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    assert {panel["type"] for panel in DASHBOARD["panels"]} <= {"row", "timeseries", "stat", "heatmap"}, "core panels"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["title"] and panel["description"] for panel in panels())


def test_no_two_panels_overlap(expressions: list[str]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all('instance=~"$instance"' in expression for expression in expressions)
