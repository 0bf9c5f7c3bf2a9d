from __future__ import annotations

import msgspec
import pytest

from offhook.audio import pcm
from offhook.bench import product
from offhook.bench.work import HEADER, MASKED_HEADER, sizes
from offhook.media.link import StreamDown, StreamOddity, StreamUp
from offhook.wire import streaming


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_frames_are_numbered_and_no_frame_has_the_number_of_silence(rate: int) -> None:
    frames = product.numbered_frames(rate)
    assert [frame[0] for frame in frames] == list(range(1, 256))
    assert {len(frame) for frame in frames} == {pcm.bytes_per_frame(rate)}
    assert len(set(frames)) == len(frames)
    assert pcm.silence(rate)[0] == 0


def test_a_caller_says_nothing_before_it_is_asked_to_and_counts_what_comes_back() -> None:
    caller = product.Caller(product.numbered_frames(16_000))
    assert caller.poll(0.0) is None
    caller.speaks = True
    first, second = caller.poll(0.02), caller.poll(0.04)
    assert first is not None
    assert second is not None
    assert second[0] == first[0] + 1
    caller.send(first)
    caller.send(pcm.silence(16_000))
    assert (caller.said, caller.heard) == (2, 1)


def test_a_probe_times_each_frame_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    probe = product.Probe(product.numbered_frames(16_000))
    probe.speaks = True
    one = probe.poll(0.0)
    now[0] += 0.020
    other = probe.poll(0.0)
    now[0] += 0.005
    assert one is not None
    assert other is not None
    probe.send(one)
    probe.send(other)
    assert product.trips_ms([probe], 100, 101) == pytest.approx([25, 5])
    assert product.trips_ms([probe], 100, 100.01) == []


def test_the_floor_moves_as_many_bytes_as_the_product() -> None:
    """A mixed message at 24 kHz: what the header of the WebSocket frame adds is the 16-bit length, and the mask."""
    to_app, from_app = sizes(24_000)
    frame = product.numbered_frames(24_000)[0]
    assert from_app - HEADER == len(streaming.audio_data_out(frame))
    example = {
        "kind": "AudioData",
        "audioData": {"timestamp": "2026-01-01T00:00:00.000Z", "data": "A" * 1280, "silent": False},
    }
    assert to_app - MASKED_HEADER == len(msgspec.json.encode(example))


@pytest.mark.parametrize(
    "tiding", [StreamDown("s", "unreachable", "refused"), StreamUp("s", again=True), StreamOddity("s", "x", "y")]
)
def test_a_stream_that_is_not_simply_there_ends_the_run(tiding: StreamDown | StreamUp | StreamOddity) -> None:
    with pytest.raises(product.NoStream):
        product._check(tiding)


def test_no_echo_at_all_is_an_error_and_not_a_figure() -> None:
    with pytest.raises(product.NoStream, match="no frame"):
        product.percentiles([], 50, 99)
