"""`/metrics` tells what happened, to those who may read it; and a worker that is full takes no call."""

from __future__ import annotations

import asyncio
import os
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from starlette.applications import Starlette
from starlette.types import ASGIApp

from offhook.media.vitals import VitalSigns
from offhook.server.config import Settings
from offhook.server.delivery import Deliverer, Reply
from offhook.server.eventgrid import Endpoints
from offhook.server.histogram import Histogram
from offhook.server.metrics import PATH, Metrics
from offhook.server.placement import Busy, Worker, place
from offhook.testing.clock import run
from offhook.wire.ids import IdMint

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer

STREAM = {
    "transportUrl": "wss://app.example/audio",
    "transportType": "websocket",
    "audioChannelType": "mixed",
    "startMediaStreaming": True,
    "enableBidirectional": True,
}


def watch(server: MemoryServer, limit: int = 10) -> Metrics:
    """Have the worker tell its vitals, of a core that is idle, and `/metrics` tell of everything."""
    metrics = Metrics()
    metrics.watch_calls(server.control)
    metrics.watch_events(server.deliverer, server.endpoints)
    app: Any = metrics.counted(server.asgi)
    server.asgi = app
    worker = server.media.worker
    worker.vitals = VitalSigns(worker.plane, worker.clock, worker._streams, worker.tell, cpu=lambda: 0.0)
    worker.vitals.start(limit)
    return metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Return what the text has: `offhook_calls`, `offhook_worker_up{worker="0"}` … and their values."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


# ------------------------------------------------------------------------------------------------ what it tells


def test_it_tells_of_a_call_from_end_to_end(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server)
        caller = await server.call()
        app = await server.answer(mediaStreamingOptions=STREAM)
        server.audio.say(bytes(640) * 20)
        server.audio.send(b"nonsense")
        await asyncio.sleep(3)
        told = samples(metrics)
        assert told["offhook_calls"] == told['offhook_worker_calls{worker="0"}'] == 1
        assert told['offhook_worker_rows{worker="0"}'] == 2
        assert told['offhook_streams_up{worker="0"}'] == 1
        assert told['offhook_stream_messages_sent_total{worker="0"}'] >= 50
        assert told['offhook_stream_frames_played_total{worker="0"}'] == 20
        assert told['offhook_stream_oddities_total{cause="not json",worker="0"}'] == 1
        assert told['offhook_tick_lateness_seconds_count{worker="0"}'] >= 2 * 50
        assert told['offhook_tick_lateness_seconds_bucket{le="0.0005",worker="0"}'] >= 2 * 50
        assert told['offhook_events_total{channel="callback",result="delivered"}'] == len(server.events(app))
        assert told['offhook_events_total{channel="eventgrid",result="delivered"}'] == 1
        assert told['offhook_eventgrid_endpoints{state="valid"}'] == 1
        assert told['offhook_rest_requests_total{operation="answerCall",status="200"}'] == 1
        assert told['offhook_rest_requests_total{operation="POST /offhook/calls",status="201"}'] == 1
        assert told["offhook_rest_request_seconds_count"] == 2
        caller.tell("hangUp")
        await asyncio.sleep(2)
        told = samples(metrics)
        assert told["offhook_calls"] == told['offhook_streams{worker="0"}'] == 0
        assert told["offhook_calls_placed_total"] == 1
        assert told['offhook_stream_frames_played_total{worker="0"}'] == 20

    in_memory(scenario)


def test_what_is_no_operation_or_not_signed_is_counted_as_other(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server)
        await server.send("GET", "/calling/callConnections/x?api-version=2025-06-15", {"Host": "x"}, b"")
        await server.rest("GET", "/../../etc/passwd")
        told = samples(metrics)
        assert told['offhook_rest_requests_total{operation="other",status="401"}'] == 1
        assert told['offhook_rest_requests_total{operation="other",status="404"}'] == 1
        assert told["offhook_rest_request_seconds_count"] == 0

    in_memory(scenario)


def test_labels_have_no_ids_in_them(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server)
        await server.call()
        app = await server.answer(mediaStreamingOptions=STREAM)
        await asyncio.sleep(2)
        await server.hang_up(app)
        text = generate_latest(metrics.registry).decode()
        assert app not in text
        assert "1555" not in text
        assert "example" not in text

    in_memory(scenario)


def test_a_worker_that_is_lost_is_told_as_down(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server)
        await asyncio.sleep(2)
        assert samples(metrics)['offhook_worker_takes_calls{worker="0"}'] == 1
        server.control.workers[0].lose()
        told = samples(metrics)
        assert told['offhook_worker_up{worker="0"}'] == 0
        assert 'offhook_worker_takes_calls{worker="0"}' not in told

    in_memory(scenario)


def test_rtp_legs_are_told_in_packets_and_seconds(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server)
        counts = {"rtp_received": 7, "rtp_lost": 1, "rtp_concealed_ms": 20}
        server.media.worker.vitals.add_legs(lambda: (counts, {"rtp_jitter_ms_max": 4.0}))
        await asyncio.sleep(2)
        told = samples(metrics)
        assert told['offhook_rtp_packets_total{kind="lost",worker="0"}'] == 1
        assert told['offhook_rtp_audio_seconds_total{kind="concealed",worker="0"}'] == 0.02
        assert told['offhook_rtp_max_seconds{of="jitter",worker="0"}'] == 0.004
        assert not [name for name in told if "packets" in name and "ms" in name]

    in_memory(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_processes_have_their_standard_metrics(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server)
        await asyncio.sleep(2)
        assert samples(metrics)['process_resident_memory_bytes{process="control"}'] > 1e6
        worker = server.control.workers[0]
        assert worker.vitals is not None
        assert worker.vitals.pid == os.getpid(), "so it is told once"
        assert 'process_open_fds{process="worker-0"}' not in samples(metrics)

    in_memory(scenario)


def test_events_are_timed_and_counted_by_what_became_of_them() -> None:
    async def main() -> None:
        metrics = Metrics()
        replies = [Reply(503), Reply(200), Reply(400)]

        async def post(url: str, headers: object, body: bytes) -> Reply:
            await asyncio.sleep(0.02)
            return replies.pop(0)

        deliverer = Deliverer(post, lambda: "token", took=metrics.callback_s.add)
        metrics.watch_events(deliverer, Endpoints([], post, "https://server.example", lambda code, url: b""))
        for _ in range(2):
            deliverer.send("lane", "https://app.example", b"{}", "Event")
        assert samples(metrics)['offhook_events_pending{channel="callback"}'] == 2
        await asyncio.sleep(2)
        told = samples(metrics)
        assert told['offhook_events_pending{channel="callback"}'] == 0
        assert told['offhook_events_total{channel="callback",result="delivered"}'] == 1
        assert told['offhook_events_total{channel="callback",result="failed"}'] == 1
        assert told['offhook_event_retries_total{channel="callback"}'] == 1
        assert told['offhook_event_delivery_seconds_sum{channel="callback"}'] == pytest.approx(0.54)
        assert told['offhook_event_delivery_seconds_bucket{channel="callback",le="0.5"}'] == 0
        assert told['offhook_event_delivery_seconds_bucket{channel="callback",le="1.0"}'] == 1
        await deliverer.close(1)

    run(main())


def test_a_duration_falls_into_the_bucket_that_it_does_not_exceed() -> None:
    durations = Histogram((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.11, 1.0, 60.0):
        durations.add(seconds)
    assert durations.counts == [2, 2, 1]
    assert durations.total == pytest.approx(61.21)


# ------------------------------------------------------------------------------------------------ who may read it


async def get(app: ASGIApp, peer: str | None, accept: str = "*/*") -> tuple[int, str, str]:
    """GET `/metrics` as `peer`, which claims to be this machine; return status, content type and body."""
    headers = [(b"accept", accept.encode()), (b"x-forwarded-for", b"127.0.0.1")]
    client = None if peer is None else (peer, 4711)
    scope = {"type": "http", "method": "GET", "path": PATH, "query_string": b"", "headers": headers, "client": client}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    told = dict(sent[0]["headers"])
    return sent[0]["status"], told[b"content-type"].decode(), sent[1]["body"].decode()


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        ("10.1.2.3", 200),
        ("::ffff:10.1.2.3", 200),
        ("2001:db8::7", 200),
        ("10.2.0.1", 403),
        ("127.0.0.1", 403),
        ("2001:db9::7", 403),
        ("a socket without an address", 403),
        (None, 403),
    ],
)
def test_only_peers_in_the_networks_may_read_it(peer: str | None, status: int) -> None:
    route = Metrics().route([ip_network("10.1.0.0/16"), ip_network("2001:db8::/32")])
    told, _, body = asyncio.run(get(Starlette(routes=[route]), peer))
    assert told == status
    assert ("offhook_build_info" in body) == (status == 200)


def test_in_development_this_machine_may_and_in_production_whom_it_is_told(tmp_path: Path) -> None:
    allowed = ip_network("10.0.0.0/8")
    development = Settings(data_dir=tmp_path, metrics_allow=[allowed])
    production = Settings(data_dir=tmp_path, host="0.0.0.0", metrics_allow=[allowed])
    assert development.metrics_readers() == [ip_network("127.0.0.0/8"), ip_network("::1/128"), allowed]
    assert production.metrics_readers() == [allowed]


def test_it_speaks_openmetrics_to_those_who_ask_for_it(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server)
        await server.call()
        await asyncio.sleep(2)
        app = Starlette(routes=[metrics.route([ip_network("10.0.0.0/8")])])
        _, kind, text = await get(app, "10.0.0.1")
        assert kind == "text/plain; version=0.0.4; charset=utf-8"
        assert "# TYPE offhook_calls gauge" in text
        _, kind, text = await get(app, "10.0.0.1", "application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text; version=1.0.0")
        families = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
        assert {"offhook_calls", "offhook_tick_lateness_seconds", "offhook_calls_placed"} <= families

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ admission


def test_call_n_plus_1_is_refused_and_those_that_ring_are_answered(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server, limit=2)
        await server.settle()
        first, second = await server.call(), await server.call()
        create = {"targets": [{"rawId": "4:+15550177"}], "callbackUri": "https://app.example/callback"}
        refused = [
            await server.rest("POST", "/offhook/calls", {"to": "+15550199", "from": "+15550100", "rate": 16_000}),
            await server.rest("POST", "/calling/callConnections", create),
        ]
        for answer in refused:
            assert answer.status == 503
            assert answer.body["error"]["code"] == "8506"
            assert int(answer.headers["retry-after"]) > 0
        app = await server.answer()
        assert server.kinds(app) == ["CallConnected", "ParticipantsUpdated"]
        told = samples(metrics)
        assert told['offhook_calls_refused_total{reason="limit"}'] == 2
        assert told['offhook_worker_takes_calls{worker="0"}'] == 0
        first.tell("hangUp")
        await server.settle()
        third = await server.call()
        for party in (second, third):
            party.tell("hangUp")
        await server.settle()

    in_memory(scenario)


def test_a_burst_is_held_back_before_the_worker_tells_of_it(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        watch(server, limit=5)
        await server.settle()
        new = {"to": "+15550199", "from": "+15550100", "rate": 16_000}
        answers = [await server.rest("POST", "/offhook/calls", new) for _ in range(8)]
        assert [answer.status for answer in answers] == [201] * 5 + [503] * 3
        assert server.control.workers[0].vitals is not None
        assert server.control.workers[0].vitals.calls == 0
        await asyncio.sleep(15)  # Nobody opens their audio sockets: the calls end.

    in_memory(scenario)


def test_a_worker_that_does_not_report_takes_no_call(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        metrics = watch(server)
        await server.settle()
        server.media.worker.vitals.stop()
        await asyncio.sleep(6)
        new = {"to": "+15550199", "from": "+15550100", "rate": 16_000}
        assert (await server.rest("POST", "/offhook/calls", new)).status == 503
        assert samples(metrics)['offhook_calls_refused_total{reason="silent"}'] == 1

    in_memory(scenario)


def test_calls_go_to_the_worker_that_has_fewest_unless_another_is_preferred_and_not_full(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        watch(server, limit=2)
        await server.settle()
        told = server.control.workers[0].vitals
        workers = [Worker(number, lambda epoch: IdMint(), vitals=told) for number in range(3)]
        for worker, calls in zip(workers, ("a", "", "bc"), strict=True):
            worker.keeps()
            worker.calls.update(calls)
        assert place(workers, now=0) is workers[1]
        assert place(workers, now=0, preferred=workers[0]) is workers[0]
        assert place(workers, now=0, preferred=workers[2]) is workers[1]
        workers[1].lose()
        workers[0].calls.add("d")
        with pytest.raises(Busy) as busy:
            place(workers, now=0)
        assert busy.value.reason == "limit"

    in_memory(scenario)
