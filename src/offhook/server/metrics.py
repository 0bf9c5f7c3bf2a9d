"""`/metrics`: what the server counts, for Prometheus and whatever else reads its formats.

It is read off the objects that count anyway, when somebody asks: control, the deliverer, and what each worker told last
(`media.vitals`). The names are documented in docs/metrics.md. Labels have few values, all of them ours: no id, no
number, no URL.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address, ip_address

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offhook import __version__
from offhook.media.egress import IPNetwork
from offhook.media.tidings import Vitals
from offhook.media.vitals import LATENESS_BOUNDS_S
from offhook.server.control import Control
from offhook.server.delivery import Deliverer
from offhook.server.eventgrid import Endpoints
from offhook.server.histogram import Histogram
from offhook.server.metric_families import counter, gauge, histogram
from offhook.server.placement import REASONS, Worker
from offhook.server.sip_metrics import records, telephones
from offhook.wire.auth import TOKEN_REASONS

PATH = "/metrics"
OPERATION = "offhook.operation"
"""Key of the ASGI scope under which a route leaves the name of the operation that was asked for, once it knows it."""

UNAUTHORIZED = "offhook.unauthorized"
"""Key of the ASGI scope under which a route leaves why a request is not authentic: `hmac`, or one of TOKEN_REASONS."""

REQUEST_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
EVENT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics(Collector):
    """Everything that `/metrics` says; the `watch_…` methods are given what counts for itself, once it is there."""

    def __init__(self) -> None:
        self.callback_s = Histogram(EVENT_BOUNDS_S)  # from the event to its acknowledgement
        self.notification_s = Histogram(EVENT_BOUNDS_S)
        self._request_s = Histogram(REQUEST_BOUNDS_S)
        self._requests: Counter[tuple[str, str]] = Counter()  # by operation and status
        self._unauthorized = Counter(dict.fromkeys(("hmac", *TOKEN_REASONS), 0))
        self._sources: list[Callable[[], Iterable[Metric]]] = [self._ours]
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def watch_calls(self, control: Control) -> None:
        """Tell of the calls, and of the workers that carry them."""
        self._sources += [
            lambda: _calls(control),
            lambda: _workers(control.workers),
            lambda: telephones(control.exchange),
            lambda: records(control.exchange.accounting),
            lambda: _processes(control.workers),
        ]

    def watch_events(self, deliverer: Deliverer, endpoints: Endpoints) -> None:
        """Tell of the events on their way to apps."""
        self._sources.append(lambda: _events(deliverer, endpoints))

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            yield from source()

    def counted(self, app: ASGIApp) -> ASGIApp:
        """Return `app` with its requests counted."""

        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            status, began = 500, time.perf_counter()

            async def noting(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, noting)
            finally:
                operation = scope.get(OPERATION)
                self._requests[operation or "other", str(status)] += 1
                if (reason := scope.get(UNAUTHORIZED)) is not None:
                    self._unauthorized[reason] += 1
                if operation is not None:
                    self._request_s.add(time.perf_counter() - began)

        return counting

    def route(self, allowed: Sequence[IPNetwork]) -> Route:
        """Return the route of `PATH`, for peers in the networks `allowed`; others get 403."""

        async def endpoint(request: Request) -> Response:
            if request.client is None or not _is_in(request.client.host, allowed):
                return PlainTextResponse("Your address is not in metrics_allow; see docs/metrics.md.\n", 403)
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
            return Response(encode(self.registry), headers={"Content-Type": content_type})

        return Route(PATH, endpoint)

    def _ours(self) -> Iterator[Metric]:
        yield gauge("offhook_build_info", "1, with the version.", {__version__: 1}, "version")
        yield counter(
            "offhook_rest_requests",
            "Requests by operation and status; operation is `other` for what is none, and for what was not signed.",
            self._requests,
            "operation",
            "status",
        )
        yield counter(
            "offhook_rest_unauthorized", "Requests answered with 401, by reason.", self._unauthorized, "reason"
        )
        yield histogram(
            "offhook_rest_request_seconds",
            "From the head of a signed request for an operation to the end of its answer.",
            {"": self._request_s},
        )
        yield histogram(
            "offhook_event_delivery_seconds",
            "From an event to its acknowledgement, by the channel: callback or eventgrid.",
            {"callback": self.callback_s, "eventgrid": self.notification_s},
            "channel",
        )


# ------------------------------------------------------------------------------------------------ the control process


def _calls(control: Control) -> Iterator[Metric]:
    yield gauge("offhook_calls", "Calls that are not over.", {"": len(control.registry.calls)})
    yield gauge("offhook_phones", "Simulated phones that wait or talk.", {"": len(control.registry.phones)})
    yield counter("offhook_calls_placed", "Calls that began.", {"": control.placed})
    refused = {reason: control.refused[reason] for reason in REASONS}
    yield counter("offhook_calls_refused", "Calls that were refused, by reason.", refused, "reason")


def _events(deliverer: Deliverer, endpoints: Endpoints) -> Iterator[Metric]:
    channels: dict[str, Deliverer | Endpoints] = {"callback": deliverer, "eventgrid": endpoints}
    results = {
        (name, result): count
        for name, channel in channels.items()
        for result, count in (("delivered", channel.sent), ("failed", channel.failed), ("dropped", channel.dropped))
    }
    yield counter("offhook_events", "Events that are settled.", results, "channel", "result")
    retried = {name: channel.retried for name, channel in channels.items()}
    yield counter("offhook_event_retries", "Tries that failed and were followed by another.", retried, "channel")
    pending = {name: channel.pending for name, channel in channels.items()}
    yield gauge("offhook_events_pending", "Events queued or on their way.", pending, "channel")
    proven = Counter("valid" if each.valid else "not_valid" for each in endpoints.status())
    states = {state: proven[state] for state in ("valid", "not_valid")}
    yield gauge("offhook_eventgrid_endpoints", "Event Grid endpoints, by their handshake.", states, "state")


# ------------------------------------------------------------------------------------------------ the workers

Read = Callable[[Vitals], float]


def _count(name: str) -> Read:
    return lambda vitals: vitals.counts.get(name, 0)


GAUGES: Sequence[tuple[str, str, Read]] = (
    ("offhook_worker_rows", "Legs and streams in the media plane.", lambda v: v.rows),
    (
        "offhook_worker_core_share",
        "Share of one core that the process used in the last second.",
        lambda v: v.core_share,
    ),
    ("offhook_worker_call_limit", "Calls that the worker takes.", lambda v: v.limit),
    ("offhook_worker_gate_open", "1 while lateness and CPU allow another call.", lambda v: v.gate_open),
    ("offhook_streams", "Audio WebSockets to apps, open or being opened.", lambda v: v.streams),
    ("offhook_streams_up", "Audio WebSockets to apps that are open.", lambda v: v.streams_up),
    ("offhook_send_queue_messages", "Messages that wait for apps' sockets, together.", lambda v: v.send_queue),
    ("offhook_send_queue_max_messages", "Messages that wait for the slowest app's socket.", lambda v: v.send_queue_max),
    ("offhook_playout_seconds", "Audio from apps that waits to be played, together.", lambda v: v.playout_s),
    ("offhook_playout_max_seconds", "Audio that waits to be played in the fullest stream.", lambda v: v.playout_max_s),
)
COUNTERS: Sequence[tuple[str, str, Read]] = (
    ("offhook_worker_cpu_seconds", "CPU time of the worker's process.", lambda v: v.cpu_s),
    ("offhook_ticks_jumped", "Ticks of 20 ms left out after a stop of more than five.", lambda v: v.ticks_jumped),
    ("offhook_stream_messages_sent", "Messages sent to apps; nearly all are audio frames.", _count("sent")),
    ("offhook_stream_messages_received", "Messages received from apps.", _count("received")),
    ("offhook_stream_frames_played", "Frames of 20 ms from apps that were played.", _count("played")),
    ("offhook_stream_stops", "StopAudio messages from apps.", _count("stops")),
    ("offhook_stream_underruns", "Times that an app's audio ran dry.", _count("underruns")),
    ("offhook_stream_faults", "Ticks in which a stream raised.", _count("faults")),
    ("offhook_stream_reconnects", "Audio WebSockets that were lost and opened again.", _count("reopened")),
)
DROPPED_FRAMES = {"send_queue": "dropped", "late": "skipped"}  # cause: its count
REFUSED_BYTES = {"playout_full": "refused_bytes", "not_bidirectional": "ignored_bytes"}


def _workers(workers: Iterable[Worker]) -> Iterator[Metric]:
    now = asyncio.get_running_loop().time()
    names = {str(worker.number): worker for worker in workers}
    up = {name: worker.up for name, worker in names.items()}
    yield gauge("offhook_worker_up", "1 while the worker is there.", up, "worker")
    parked = {name: worker.slot is not None and worker.slot.parked for name, worker in names.items()}
    yield gauge("offhook_worker_parked", "1 when it died too often, and is not started again.", parked, "worker")
    starts = {name: worker.starts for name, worker in names.items()}
    yield counter("offhook_worker_starts", "Times that the worker has come, each in another process.", starts, "worker")
    held = {name: len(worker.calls) for name, worker in names.items()}
    yield gauge("offhook_worker_calls", "Calls placed on the worker that are not over.", held, "worker")
    told = {name: worker.vitals for name, worker in names.items() if worker.vitals is not None}
    takes = {name: names[name].refusal(now) is None for name in told}
    yield gauge("offhook_worker_takes_calls", "1 while the worker takes another call.", takes, "worker")
    age = {name: now - names[name].vitals_at for name in told}
    yield gauge("offhook_worker_report_age_seconds", "Since the worker's last report, one a second.", age, "worker")
    for name, help, read in GAUGES:
        yield gauge(name, help, {worker: read(vitals) for worker, vitals in told.items()}, "worker")
    for name, help, read in COUNTERS:
        yield counter(name, help, {worker: read(vitals) for worker, vitals in told.items()}, "worker")
    yield from _causes(told)
    yield from _rtp(told)
    late = {worker: _lateness(vitals) for worker, vitals in told.items()}
    yield histogram("offhook_tick_lateness_seconds", "How late ticks begin.", late, "worker")


def _causes(told: Mapping[str, Vitals]) -> Iterator[Metric]:
    """What is counted by cause."""
    dropped = _by(told, lambda v: {cause: v.counts.get(name, 0) for cause, name in DROPPED_FRAMES.items()})
    yield counter("offhook_stream_frames_dropped", "Frames of 20 ms that were left out.", dropped, "worker", "cause")
    refused = _by(told, lambda v: {cause: v.counts.get(name, 0) for cause, name in REFUSED_BYTES.items()})
    yield counter("offhook_stream_refused_bytes", "PCM from apps that was not taken.", refused, "worker", "cause")
    odd = _by(told, lambda v: _between("odd: ", v.counts, ""))
    yield counter("offhook_stream_oddities", "Odd things that apps did, by cause.", odd, "worker", "cause")


def _rtp(told: Mapping[str, Vitals]) -> Iterator[Metric]:
    """What RTP legs count and measure, if there are any: in milliseconds where the name says so, else packets."""
    counts = _by(told, lambda v: _between("rtp_", v.counts, ""))
    packets = {of: count for of, count in counts.items() if not of[1].endswith("_ms")}
    yield counter("offhook_rtp_packets", "Packets of RTP legs, by what became of them.", packets, "worker", "kind")
    audio = _by(told, lambda v: {kind: ms / 1000 for kind, ms in _between("rtp_", v.counts, "_ms").items()})
    yield counter("offhook_rtp_audio_seconds", "What was done to the audio of RTP legs.", audio, "worker", "kind")
    worst = _by(told, lambda v: {kind: ms / 1000 for kind, ms in _between("rtp_", v.gauges, "_ms_max").items()})
    yield gauge("offhook_rtp_max_seconds", "The worst of all RTP legs.", worst, "worker", "of")


def _by(
    told: Mapping[str, Vitals], figures: Callable[[Vitals], Mapping[str, float]]
) -> Mapping[tuple[str, str], float]:
    """Return the figures by worker and name."""
    return {(worker, name): value for worker, vitals in told.items() for name, value in figures(vitals).items()}


def _between(prefix: str, figures: Mapping[str, float], suffix: str) -> dict[str, float]:
    """Return the figures whose names begin and end so, by what stands in between."""
    return {
        name.removeprefix(prefix).removesuffix(suffix): value
        for name, value in figures.items()
        if name.startswith(prefix) and name.endswith(suffix)
    }


def _lateness(vitals: Vitals) -> Histogram:
    durations = Histogram(LATENESS_BOUNDS_S)
    durations.counts, durations.total = list(vitals.ticks_late), vitals.late_s
    return durations


# ------------------------------------------------------------------------------------------------ processes


def _processes(workers: Iterable[Worker]) -> Iterator[Metric]:
    """The standard `process_…` metrics of control and of each worker that is a process of its own (Linux only)."""
    pids = {f"worker-{worker.number}": worker.vitals.pid for worker in workers if worker.vitals is not None}
    pids = {"control": os.getpid(), **{name: pid for name, pid in pids.items() if pid != os.getpid()}}
    families: dict[str, Metric] = {}
    for name, pid in pids.items():
        for found in _process(pid):
            family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
            for sample in found.samples:
                family.add_sample(sample.name, {"process": name}, sample.value)
    yield from families.values()


def _process(pid: int) -> Iterable[Metric]:
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


def _is_in(host: str, networks: Sequence[IPNetwork]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
