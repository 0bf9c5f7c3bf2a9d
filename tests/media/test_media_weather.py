"""Weather as values: its bounds, what is drawn from a seed, and that it survives the link."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.media.link import ExpectLeg, OpenStream, Order
from offhook.media.weather import BOUNDS, LATE_S, Fate, Weather, fate, weather


def only(name: str, value: float) -> Weather:
    """Weather with one field set."""
    fields: dict[str, Any] = {name: value}
    return Weather(**fields)


@pytest.mark.parametrize("name", BOUNDS)
def test_each_field_has_its_bounds(name: str) -> None:
    least, most = BOUNDS[name]
    for value in (least, most):
        only(name, value)
    for value in (least - 1, most + 1, float("nan")):
        with pytest.raises(ValueError, match=f"{name}: .* is not between {least} and {most}"):
            only(name, value)


def test_every_field_is_bounded() -> None:
    assert list(BOUNDS) == list(Weather.__struct_fields__)


def test_by_default_the_weather_is_fine() -> None:
    fine = Weather(seed=7)
    assert not fine.has_bad_line
    assert all(fate(fine, "CallConnected", number) is None for number in range(100))


@pytest.mark.parametrize("name", ["packet_loss", "packet_jitter_ms", "packet_reordered", "packet_doubled"])
def test_a_line_is_bad_when_anything_happens_to_its_packets(name: str) -> None:
    assert only(name, 0.5).has_bad_line


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_mix_of_any_seed_is_the_same_twice_and_travels(seed: int) -> None:
    mixed = weather(seed)
    assert mixed == weather(seed)
    orders = msgspec.msgpack.Decoder(ExpectLeg | OpenStream)
    order: Order = ExpectLeg("leg", "token", 8000, weather=mixed)
    assert orders.decode(msgspec.msgpack.encode(order)) == order


def test_seeds_differ() -> None:
    assert len({weather(seed) for seed in range(100)}) == 100


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="drop"):
        msgspec.json.decode(b'{"drop": 100}', type=Weather)


def test_the_fate_of_an_event_depends_on_the_seed_its_kind_and_its_number_only() -> None:
    mixed = weather(7)
    drawn = {(kind, n): fate(mixed, kind, n) for kind in ("CallConnected", "ParticipantsUpdated") for n in range(50)}
    again = {(kind, n): fate(mixed, kind, n) for kind, n in reversed(drawn)}
    assert drawn == again
    assert [drawn["CallConnected", n] for n in range(50)] != [drawn["ParticipantsUpdated", n] for n in range(50)]


def test_fates_are_as_frequent_as_they_should_be() -> None:
    bad = Weather(seed=1, late=0.5, doubled=0.25, failing=0.1)
    fates = [fate(bad, "CallConnected", number) or Fate() for number in range(4000)]
    assert Counter(len(each.late_s) for each in fates)[2] == pytest.approx(1000, abs=150)
    assert sum(each.failing for each in fates) == pytest.approx(400, abs=80)
    late = [late_s for each in fates for late_s in each.late_s if late_s]
    assert len(late) == pytest.approx(2500, abs=200)
    assert LATE_S[0] <= min(late)
    assert max(late) <= LATE_S[1]
