"""What `/metrics` says of telephones, and of call records; a part of `metrics`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

from offhook.legs.sip.guard import JUDGEMENTS
from offhook.server.accounting import Accounting
from offhook.server.metric_families import counter, gauge, histogram

if TYPE_CHECKING:
    from offhook.legs.sip.stack import SipStack
    from offhook.server.exchange import Exchange


def telephones(exchange: Exchange) -> Iterator[Metric]:
    """What signalling has counted, and how the audio was of legs that have ended. Without SIP the tables are empty."""
    stack = None if exchange.telephones is None else exchange.telephones.stack
    yield from _signalling(stack)
    accounting = exchange.accounting
    quality = {} if stack is None else {"": accounting.mos}
    yield histogram("offhook_rtp_mos", "Estimated opinion score of telephones' legs that have ended.", quality)
    jitter = {} if stack is None else {"": accounting.jitter_s}
    yield histogram("offhook_rtp_jitter_seconds", "Jitter at the end of telephones' legs.", jitter)
    trips = {} if stack is None else {"": accounting.round_trip_s}
    yield histogram("offhook_rtp_round_trip_seconds", "Round trip by RTCP at the end of telephones' legs.", trips)


def _signalling(stack: SipStack | None) -> Iterator[Metric]:
    sessions = {} if stack is None else {"": stack.sessions}
    yield gauge("offhook_sip_sessions", "SIP sessions, those that ring included.", sessions)
    phones = {} if stack is None else {"": stack.phones}
    yield gauge("offhook_sip_phones", "Phones that are registered here.", phones)
    registered = Counter[str]()
    if stack is not None:
        registered.update({"registered": 0, "not_registered": 0})
        registered.update(
            "registered" if each.registered else "not_registered" for each in stack.registrations.values()
        )
    yield gauge("offhook_sip_registrations", "Registrars of trunks, by whether we are registered.", registered, "state")
    requests = {} if stack is None else stack.requests
    yield counter("offhook_sip_requests", "Requests, repetitions included.", requests, "direction", "method")
    responses = {} if stack is None else stack.responses
    yield counter("offhook_sip_responses", "Responses, repetitions included.", responses, "direction", "class")
    counts = Counter[str]() if stack is None else stack.counts
    judged = {} if stack is None else {judgement: counts[judgement] for judgement in JUDGEMENTS}
    yield counter("offhook_sip_guard", "What was judged of requests that came.", judged, "judgement")
    faults = {cause: count for cause, count in counts.items() if cause not in JUDGEMENTS}
    yield counter("offhook_sip_faults", "What went wrong with messages and connections.", faults, "cause")


def records(accounting: Accounting) -> Iterator[Metric]:
    """What became of call records; nothing while none are written."""
    file = accounting.file
    results = {} if file is None else {"written": file.written, "given_up": file.given_up}
    yield counter("offhook_call_records", "Call records, by what became of them.", results, "result")
