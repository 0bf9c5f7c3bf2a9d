"""Metrics as `prometheus_client` has them, from plain tables."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from offhook.server.histogram import Histogram

Values = Mapping[str, float] | Mapping[tuple[str, str], float]
"""By the value of the one label, or the values of both; without labels, under any text."""


def gauge(name: str, help: str, values: Values, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(name, help, labels=labels), values, len(labels))


def counter(name: str, help: str, values: Values, *labels: str) -> Metric:
    """`name` is without the `_total` that its samples end in."""
    return _filled(CounterMetricFamily(name, help, labels=labels), values, len(labels))


def histogram(name: str, help: str, values: Mapping[str, Histogram], *labels: str) -> Metric:
    family = HistogramMetricFamily(name, help, labels=labels)
    for of, told in values.items():
        bounds = [*map(str, told.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(told.counts), strict=True))
        family.add_metric([of][: len(labels)], buckets, told.total)
    return family


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Values, labels: int) -> Metric:
    for of, value in values.items():
        family.add_metric(((of,) if isinstance(of, str) else of)[:labels], value)
    return family
