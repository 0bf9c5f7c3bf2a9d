from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.bench import bot_load, calls, figures, product, stall
from offhook.bench.figures import Late, NoStream, Trips
from offhook.bench.frames import HEADER, MASKED_HEADER, numbered_frames, sizes
from offhook.media.tidings import LegGone, StreamDown, StreamEnded, StreamOddity, StreamUp, Tiding
from offhook.wire import streaming


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_frames_are_numbered_and_no_frame_has_the_number_of_silence(rate: int) -> None:
    frames = numbered_frames(rate)
    assert [frame[0] for frame in frames] == list(range(1, 256))
    assert {len(frame) for frame in frames} == {pcm.bytes_per_frame(rate)}
    assert len(set(frames)) == len(frames)
    assert pcm.silence(rate)[0] == 0


def test_the_floor_moves_as_many_bytes_as_the_product() -> None:
    """A mixed message at 24 kHz: what the header of the WebSocket frame adds is the 16-bit length, and the mask."""
    to_app, from_app = sizes(24_000)
    frame = numbered_frames(24_000)[0]
    assert from_app - HEADER == len(streaming.audio_data_out(frame))
    example = {
        "kind": "AudioData",
        "audioData": {"timestamp": "2026-01-01T00:00:00.000Z", "data": "A" * 1280, "silent": False},
    }
    assert to_app - MASKED_HEADER == len(msgspec.json.encode(example))


def test_the_bots_load_sends_what_the_server_would() -> None:
    messages = bot_load.messages(24_000)
    assert [len(message) + MASKED_HEADER for message in messages] == [sizes(24_000)[0]] * 255
    read = streaming.parse_from_server(memoryview(messages[6]))
    assert isinstance(read, streaming.AudioData)
    assert read.pcm == numbered_frames(24_000)[6]


def test_a_caller_says_nothing_before_it_is_asked_to_and_counts_what_comes_back() -> None:
    caller = calls.Caller(numbered_frames(16_000))
    assert caller.poll(0.0) is None
    caller.speaks = True
    first, second = caller.poll(0.02), caller.poll(0.04)
    assert first is not None
    assert second is not None
    assert second[0] == first[0] + 1
    caller.send(first)
    caller.send(memoryview(pcm.silence(16_000)))
    assert (caller.said, caller.heard) == (2, 1)


def test_a_probe_times_each_frame_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    probe = calls.Probe(numbered_frames(16_000))
    probe.speaks = True
    one = probe.poll(0.0)
    now[0] += 0.020
    other = probe.poll(0.0)
    now[0] += 0.005
    assert one is not None
    assert other is not None
    probe.send(one)
    probe.send(other)
    assert calls.trips_ms([probe], 100, 101) == pytest.approx([25, 5])
    assert calls.trips_ms([probe], 100, 100.01) == []


@pytest.mark.parametrize(
    "tiding",
    [
        StreamDown("s", "unreachable", "refused"),
        StreamUp("s", again=True),
        StreamOddity("s", "x", "y"),
        LegGone("l", "no RTP came"),
    ],
)
def test_what_goes_wrong_with_a_stream_or_leg_ends_the_run(tiding: Tiding) -> None:
    with pytest.raises(NoStream):
        calls.check(tiding)


def test_a_stream_that_comes_up_or_was_closed_is_as_it_should_be() -> None:
    calls.check(StreamUp("s"))
    calls.check(StreamEnded("s", {}))


def test_no_echo_at_all_is_an_error_and_not_a_figure() -> None:
    with pytest.raises(NoStream, match="no frame"):
        figures.trips([])


@given(st.sets(st.integers(1, 50)))
def test_what_is_missing_of_a_reply_is_what_was_not_heard(heard: set[int]) -> None:
    assert stall.missing(sorted(heard), 50) == 50 - len(heard)


def test_a_frame_that_comes_after_a_later_one_is_missing_and_one_that_comes_twice_is_not() -> None:
    assert stall.missing([1, 3, 2, 4], 4) == 1
    assert stall.missing([1, 2, 2, 3], 3) == 0


def test_workers_together_have_the_mean_cost_and_the_worst_delay() -> None:
    one = product.Product(1.0, 0.5, 0, Late(1, 2, 3), Trips(20, 25), 40, 100, 100, 0, 0, 1)
    other = product.Product(3.0, 0.7, 0, Late(2, 1, 9), Trips(21, 22), 60, 100, 90, 5, 5, 0)
    assert product.together([one, other]) == product.Product(
        2.0, 0.6, 0, Late(2, 2, 9), Trips(21, 25), 50, 200, 190, 5, 5, 1
    )
