"""`/metrics` tells of telephones: SIP messages, what the guard did, and how ended legs were heard."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from tests.server.telephone_scene import MOBILE, Scene, hold

from offhook.media.tidings import LegFigures
from offhook.server.accounts import LegAudio
from offhook.server.call_records import RecordFile
from offhook.server.histogram import Histogram
from offhook.server.metrics import Metrics

if TYPE_CHECKING:
    from tests.conftest import InMemory

FIGURES = LegFigures(
    "leg",
    "PCMA",
    {"received": 950, "lost": 50, "late": 5, "discarded": 0, "duplicates": 2, "sent": 1000},
    {"jitter_ms": 3.21, "delay_ms": 40.0, "remote_jitter_ms": 0.0, "round_trip_ms": 80.0},
)


def samples(metrics: Metrics) -> dict[str, float]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {
        name: float(value)
        for name, _, value in pairs
        if name.startswith(("offhook_sip", "offhook_rtp", "offhook_call_r"))
    }


def test_it_tells_of_telephones(in_memory: InMemory, tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        metrics = Metrics()
        metrics.watch_calls(scene.server.control)
        scene.server.control.exchange.accounting.file = RecordFile(tmp_path / "records.jsonl")
        line, _ = await scene.answered()
        told = samples(metrics)
        assert told["offhook_sip_sessions"] == 1
        assert told["offhook_sip_phones"] == 2
        assert told['offhook_sip_requests_total{direction="in",method="INVITE"}'] == 1
        assert told['offhook_sip_requests_total{direction="in",method="REGISTER"}'] == 4  # each challenged once
        assert told['offhook_sip_guard_total{judgement="challenged"}'] == 2
        assert told['offhook_sip_responses_total{class="4xx",direction="out"}'] == 2
        assert told["offhook_rtp_mos_count"] == 0
        await asyncio.sleep(10)
        line.live.hang_up()
        scene.trunk.rejects = 486
        await scene.created(MOBILE)
        told = samples(metrics)
        assert told['offhook_sip_requests_total{direction="in",method="BYE"}'] == 1
        assert told['offhook_sip_requests_total{direction="out",method="INVITE"}'] == 1
        assert told['offhook_sip_requests_total{direction="out",method="ACK"}'] == 1
        assert told['offhook_sip_responses_total{class="4xx",direction="in"}'] == 1
        assert told["offhook_rtp_mos_count"] == told["offhook_rtp_jitter_seconds_count"] == 1  # The other had no audio.
        assert told['offhook_rtp_mos_bucket{le="4.3"}'] == 0
        assert told["offhook_rtp_round_trip_seconds_count"] == 0  # These telephones send no reports.
        assert told['offhook_call_records_total{result="written"}'] == 2

    hold(in_memory, scenario)


def test_a_leg_with_loss_and_delay_is_rated_by_both() -> None:
    audio = LegAudio.of(FIGURES)
    assert (audio.codec, audio.received, audio.lost, audio.late, audio.duplicates) == ("PCMA", 950, 50, 5, 2)
    assert (audio.jitter_ms, audio.delay_ms, audio.round_trip_ms) == (3.2, 40.0, 80.0)
    # R = 93.2 - 0.024 * (40 + 40 + 20) - 95 * 5.5 / (5.5 + 25.1) = 73.7
    assert audio.mos == 3.77


def test_what_was_never_measured_is_none() -> None:
    nothing = LegFigures("leg", "PCMU", dict.fromkeys(FIGURES.counts, 0), dict.fromkeys(FIGURES.gauges, 0.0))
    audio = LegAudio.of(nothing)
    assert (audio.mos, audio.round_trip_ms) == (None, None)


def test_a_histogram_counts_by_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)
    assert (histogram.counts, histogram.total) == ([2, 1, 1], 12.0)
