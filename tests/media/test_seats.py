"""Who gets a line of somebody who has gone hears and says exactly what he would in a slot that is laid out anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain, repeat
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.media.test_plane import Party, join, level, run, sine

from offhook.audio import g711, pcm
from offhook.media.hearing import FREE, Kept, Prompt
from offhook.media.plane import SLOTS, Mix, Plane, Row, Slot
from offhook.media.seats import CALM, NOBODY
from offhook.wire import streaming, websocket

RATE = 16_000  # of the mix of a call with a stream or without: so nothing has to be brought to another one
CALLS = 6
KINDS = ("octets", "pcm", "stream", "unmixed", "prompt")


class Speaker:
    """Says noise of its own for ever, and keeps what it hears, with when."""

    def __init__(self, seed: int, size: int) -> None:
        self._noise = random.Random(seed)
        self._size = size
        self.now = 0.0
        self.heard: list[tuple[float, bytes]] = []

    def poll(self, now: float) -> bytes | None:
        self.now = now
        return self._noise.randbytes(self._size) if self._noise.random() < 0.8 else None

    def send(self, data: bytes | memoryview) -> None:
        self.heard.append((self.now, websocket.payload_of(data) if isinstance(data, memoryview) else bytes(data)))


def row_of(kind: str, call: str, number: int) -> Row:
    octets = kind == "octets"
    speaker = Speaker(number, 160 if octets else pcm.bytes_per_frame(RATE))
    return Row(
        call,
        f"4:{kind}",
        8000 if octets else RATE,
        speaker,
        speaker,
        stream=kind in ("stream", "unmixed"),
        unmixed=kind == "unmixed",
        codec=g711.PCMU if octets else None,
        prompt=Prompt("8:app") if kind == "prompt" else None,
    )


def happens(script: Sequence[tuple[int, int, str]], anew: bool) -> list[list[tuple[float, bytes]]]:
    """Return what everybody heard who came: ticks to wait, call and what happens to it in turn."""
    plane, tick, came = Plane(0.0), 0, list[Row]()
    there: dict[tuple[str, str], Row] = {}
    muted: set[str] = set()
    for ticks, number, what in script:
        call = f"call {number}"
        if what in KINDS:
            row = there.pop((call, what), None)
            if row is None:
                there[call, what] = row = row_of(what, call, len(came))
                came.append(row)
                plane.add(row)
            else:
                plane.remove(row)
        elif any(key[0] == call for key in there):
            if what == "mute":
                muted ^= {call}
                plane.route(call, "4:octets", Kept(muted=True) if call in muted else FREE)
            else:
                plane.move(call, int(what))
        if anew:
            for slot in plane.slots:
                slot.stale = True
        run(plane, ticks, tick)
        tick += ticks
    return [row.sink.heard for row in came if isinstance(row.sink, Speaker)]


def assert_alike(some: list[list[tuple[float, bytes]]], others: list[list[tuple[float, bytes]]]) -> None:
    """The same frames at the same times: but for the last bit of samples that were resampled, as a matrix product of
    another shape is rounded in another way."""
    assert [[at for at, _ in one] for one in some] == [[at for at, _ in other] for other in others]
    for (_, one), (_, other) in zip(chain(*some), chain(*others), strict=True):
        if one != other:
            difference = np.abs(values(one) - values(other))
            assert difference.max() <= 1


def values(heard: bytes) -> npt.NDArray[np.int64]:
    """Samples, or the steps of the codec: neighbours are 1 apart."""
    if heard.startswith(b"{"):
        message = streaming.parse_from_server(heard)
        assert isinstance(message, streaming.AudioData)
        heard = message.pcm
    if len(heard) > 160:
        return np.frombuffer(heard, np.int16).astype(np.int64)
    octets = np.frombuffer(heard, np.uint8).astype(np.int64)
    return np.where(octets & 0x80, ~octets & 0x7F, -1 - (~octets & 0x7F))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 4),
            st.integers(0, CALLS - 1),
            st.sampled_from([*KINDS, "octets", "stream", "stream", "mute", *map(str, range(SLOTS))]),
        ),
        max_size=60,
    )
)
def test_a_line_of_somebody_who_has_gone_is_as_good_as_a_new_one(script: list[tuple[int, int, str]]) -> None:
    assert_alike(happens(script, anew=False), happens(script, anew=True))


def test_the_seats_of_calls_that_ended_are_taken_by_others() -> None:
    """Nearly always: as much as the above is about."""
    script = [(1, call, kind) for call in range(CALLS) for kind in ("octets", "stream")]
    for _ in range(20):
        script += [(1, call, kind) for call in range(CALLS) for kind in ("octets", "stream") * 2]
    with mock.patch.object(Slot, "_lay_out", autospec=True, side_effect=Slot._lay_out) as laid_out:
        heard = happens(script, anew=False)
    assert len(heard) == 2 * CALLS * 21
    assert laid_out.call_count <= 2 * CALLS  # while there were more and more calls
    assert_alike(heard, happens(script, anew=True))


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_who_comes_hears_the_app_from_the_first_frame_on(rate: int) -> None:
    plane = Plane(0.0)
    for number in range(3):
        leg, app = sine(500 + 200 * number, 8000), sine(1100, rate, dbfs=-26.0)
        rows = [join(plane, leg, 8000, call="call"), join(plane, app, rate, call="call", stream=True)]
        run(plane, 50, 100 * number)
        assert level(app.pcm(), 500 + 200 * number, rate) == pytest.approx(-20.0, abs=0.3)
        assert level(b"".join(leg.heard), 1100, 8000) == pytest.approx(-26.0, abs=0.3)
        assert len(leg.heard) == len(app.heard) == 50
        join(plane, Party(), 8000, call="another")
        for row in rows:
            plane.remove(row)
        run(plane, 50, 100 * number + 50)
        assert len(leg.heard) == len(app.heard) == 50


def test_a_leg_takes_the_rate_of_the_seat_that_it_gets() -> None:
    plane, told = Plane(0.0), list[int]()
    first = [join(plane, Party(), 24_000, call="first"), join(plane, Party(), 24_000, call="first", stream=True)]
    join(plane, Party(), 24_000, call="second", stream=True)
    run(plane, 1)
    for row in first:
        plane.remove(row)
    leg = Party(chain([bytes(pcm.bytes_per_frame(24_000))], repeat(None)))
    row = Row("third", "4:leg", 16_000, leg, leg, retune=told.append)
    plane.add(row)
    run(plane, 2, 1)
    assert (row.rate, told, row.faults) == (24_000, [24_000], 0)
    assert [len(frame) for frame in leg.heard] == 2 * [pcm.bytes_per_frame(24_000)]


def mixes(plane: Plane) -> list[Mix]:
    return [mix for slot in plane.slots for mix in slot.mixes]


def test_seats_that_nobody_takes_are_given_up() -> None:
    plane = Plane(0.0)
    for call in range(20):
        for stream in (False, True):
            join(plane, Party(), RATE, call=str(call), stream=stream)
        run(plane, 1, call)
    (mix,) = mixes(plane)
    assert 40 < len(mix.rows) <= 40 * (1 + 1 / 8) + 2
    run(plane, CALM // 2, 20)
    (mix,) = mixes(plane)
    assert len(mix.rows) == 40


def test_a_slot_does_not_become_a_house_of_empty_seats() -> None:
    plane = Plane(0.0)
    rows = [join(plane, Party(), RATE, call=str(at // 2), stream=bool(at % 2)) for at in range(100)]
    for at, row in enumerate(rows[:-2]):
        plane.remove(row)
        run(plane, 1, at)
        (mix,) = mixes(plane)
        free = sum(row.source is NOBODY for row in mix.rows)
        assert free <= 2 * (1 + max(8, 50 - at // 2))
    assert len(plane.slots[0].seats) <= 9
