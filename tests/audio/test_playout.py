"""What an app sends is what is played, in order; and delay does not stick."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.audio.pcm import tone
from offhook.audio.playout import SKIP_AMONG, Playout

RATE = 24_000
FRAME = 960


def counted(frames: int, start: int = 1) -> bytes:
    """PCM whose samples count up and are never zero, so that any loss, doubling or reordering shows."""
    samples = np.arange(start, start + frames * FRAME // 2) % 32_000 + 1
    return samples.astype("<i2").tobytes()


def play(playout: Playout, arrivals: Iterable[tuple[float, bytes]], seconds: float) -> list[bytes | None]:
    """Pull every 20 ms while `arrivals` (time, PCM) come in; return what each tick got."""
    waiting = deque(sorted(arrivals, key=lambda arrival: arrival[0]))
    pulled = []
    for tick in range(round(seconds * 50)):
        now = tick * 0.020
        while waiting and waiting[0][0] <= now:
            at, pcm = waiting.popleft()
            playout.push(pcm, at)
        pulled.append(playout.pull(now))
    return pulled


def played(pulled: list[bytes | None]) -> bytes:
    return b"".join(frame for frame in pulled if frame is not None)


def test_gives_nothing_before_anything_came() -> None:
    assert Playout(RATE).pull(0.0) is None


@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=40),
    gaps=st.lists(st.floats(0, 0.03), min_size=1, max_size=40),
)
def test_pushes_of_any_size_come_out_whole_and_in_order(sizes: list[int], gaps: list[float]) -> None:
    data = counted(-(-sum(sizes) // FRAME) + 1)[: sum(sizes)]
    arrivals, at, start = [], 0.0, 0
    for number, size in enumerate(sizes):
        arrivals.append((at, data[start : start + size]))
        start += size
        at += gaps[number % len(gaps)]
    playout = Playout(RATE)
    heard = np.frombuffer(played(play(playout, arrivals, at + len(data) / 48_000 + 1)), np.int16)
    assert heard[heard != 0].tobytes() == data[: len(data) & ~1]
    assert playout.skipped_frames == 0
    assert playout.queued_bytes == 0


def test_an_odd_byte_waits_for_its_other_half() -> None:
    playout, data = Playout(RATE), counted(2)
    playout.push(data[:961], 0.0)
    assert playout.pull(0.0) == data[:960]
    playout.push(data[961:], 0.01)
    assert playout.pull(0.02) == data[960:]


def test_a_last_partial_frame_is_padded_after_40_ms() -> None:
    playout = Playout(RATE)
    playout.push(counted(1)[:500], 0.0)
    assert [playout.pull(0.0), playout.pull(0.02)] == [None, None]
    assert playout.pull(0.04) == counted(1)[:500] + bytes(460)
    assert playout.padded_frames == 1
    assert playout.pull(0.06) is None


def test_what_comes_in_time_joins_the_partial_frame() -> None:
    playout, data = Playout(RATE), counted(1)
    playout.push(data[:500], 0.0)
    assert playout.pull(0.0) is None
    playout.push(data[500:], 0.01)
    assert playout.pull(0.02) == data


def test_flush_leaves_nothing_behind() -> None:
    playout = Playout(RATE)
    playout.push(counted(100)[:-1], 0.0)
    playout.pull(0.0)
    assert playout.flush() == 99 * FRAME - 1
    assert playout.queued_bytes == 0
    assert playout.queued_ms == 0
    assert playout.pull(0.02) is None
    assert playout.odd_bytes_dropped == 1
    playout.push(counted(1), 0.03)
    assert playout.pull(0.04) == counted(1)


def test_full_means_the_newest_is_refused_and_counted() -> None:
    playout, data = Playout(RATE, limit_ms=100), counted(7)
    assert playout.push(data, 0.0) == 5 * FRAME
    assert playout.refused_bytes == 2 * FRAME
    assert playout.push(b"ab", 0.0) == 0
    assert played([playout.pull(i * 0.02) for i in range(9)]) == data[: 5 * FRAME]


def test_memory_is_bounded_by_samples_not_by_messages() -> None:
    playout = Playout(RATE, limit_ms=1000)
    for number in range(30_000):
        playout.push(b"\1\2", number * 1e-5)
    assert playout.queued_bytes == 48_000
    assert len(playout._blocks) == 1


def test_ten_minutes_at_once_are_taken() -> None:
    playout = Playout(RATE)
    piece = bytes(1 << 20)
    total = 0
    while total < 28_800_000:
        total += playout.push(piece[: min(len(piece), 28_800_000 - total)], 0.0)
    assert playout.queued_ms == 600_000
    assert playout.push(b"ab", 0.0) == 0


# ------------------------------------------------------------------------------------------------ delay must not stick


def live(seconds: float, stall_at: float = 0.0, stall: float = 0.0) -> list[tuple[float, bytes]]:
    """A frame every 20 ms; those of the stall come at its end, at once."""
    arrivals = []
    for number in range(round(seconds * 50)):
        at = number * 0.020 - 0.005
        held = stall_at <= at < stall_at + stall
        arrivals.append((stall_at + stall if held else at, counted(1, number * 480)))
    return arrivals


@pytest.mark.parametrize("stall", [0.2, 0.5, 1.0, 2.0])
def test_a_live_stream_is_back_in_time_a_second_after_a_stall(stall: float) -> None:
    playout = Playout(RATE)
    before = after = 0.0
    arrivals = deque(live(20, stall_at=10, stall=stall))
    for tick in range(20 * 50):
        now = tick * 0.020
        while arrivals and arrivals[0][0] <= now:
            at, pcm = arrivals.popleft()
            playout.push(pcm, at)
        playout.pull(now)
        if now < 10:
            before = playout.queued_ms
        if now >= 10 + stall + 1:
            after = max(after, playout.queued_ms)
    assert after == before
    assert playout.skipped_frames == round(stall * 50) - 1  # one was being played


def test_silent_frames_are_skipped_first() -> None:
    playout = Playout(RATE)
    arrivals = live(20, stall_at=10, stall=0.6)
    held = [i for i, (at, _) in enumerate(arrivals) if at == 10.6]
    for i in held[-15:]:
        arrivals[i] = (10.6, bytes(FRAME))
    heard = np.frombuffer(played(play(playout, arrivals, 21)), np.int16)
    assert playout.skipped_frames == 29
    assert np.count_nonzero(heard) == (1000 - 15 - (29 - 15)) * 480


def depths(playout: Playout, arrivals: list[tuple[float, bytes]], *at: float) -> list[float]:
    """Milliseconds that wait after the ticks at these times, in the order of time."""
    found, passed = [], 0.0
    waiting = deque(arrivals)
    for end in at:
        for tick in range(round(passed * 50), round(end * 50) + 1):
            now = tick * 0.020
            while waiting and waiting[0][0] <= now:
                moment, pcm = waiting.popleft()
                playout.push(pcm, moment)
            playout.pull(now)
        passed = end + 0.020
        found.append(playout.queued_ms)
    return found


@pytest.mark.parametrize("late_at", [0.1, 1.0, 5.0, 10.0])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_what_a_late_frame_costs_does_not_stay(late_at: float, frames: int) -> None:
    playout = Playout(RATE)
    arrivals = live(20, stall_at=late_at - 0.005, stall=frames * 0.020)
    before, after, late = depths(playout, arrivals, late_at - 0.020, late_at + 1.0, 14.5)
    assert [before, after, late] == [0, 20 * frames, 0]
    assert playout.skipped_frames == frames


def test_a_silent_frame_goes_before_one_that_is_heard() -> None:
    playout = Playout(RATE)
    arrivals = [(at, bytes(FRAME) if at > 12.6 else pcm) for at, pcm in live(20, stall_at=9.995, stall=0.020)]
    heard = played(play(playout, arrivals, 20.1)).rstrip(b"\0")
    assert playout.skipped_frames == 1
    assert heard == b"".join(pcm for _, pcm in arrivals).rstrip(b"\0")


def test_a_frame_that_is_heard_fades_into_the_next() -> None:
    playout = Playout(RATE)
    samples = tone(275, RATE, 20, -6, np.pi / 2)  # five periods and a half in a frame: cut, it would leap at a peak
    sent = samples.tobytes()
    arrivals = [(at, sent[i * FRAME : (i + 1) * FRAME]) for i, (at, _) in enumerate(live(20, 9.995, 0.020))]
    heard = np.frombuffer(played(play(playout, arrivals, 20.1)), np.int16)
    assert playout.skipped_frames == 1
    assert len(heard) == len(samples) - FRAME // 2
    assert np.abs(np.diff(heard.astype(int))).max() <= np.abs(np.diff(samples.astype(int))).max() + 1


@given(
    phase=st.floats(0, 0.02),
    jitter_ms=st.sampled_from([1, 5, 15, 30]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25)
def test_jitter_never_costs_more_than_the_silence_it_has_put_in(phase: float, jitter_ms: int, seed: int) -> None:
    playout = Playout(RATE)
    delays = np.random.default_rng(seed).uniform(0, jitter_ms / 1000, 1500)
    times = np.maximum.accumulate(np.arange(1500) * 0.020 + phase + delays)
    arrivals = [(float(at), counted(1, index * 480)) for index, at in enumerate(times)]
    pulled = play(playout, arrivals, 30)
    first = next(tick for tick, frame in enumerate(pulled) if frame is not None)
    silent = sum(frame is None for frame in pulled[first : 29 * 50])
    assert playout.skipped_frames <= silent
    assert silent <= 1 + 30 / 2 + jitter_ms / 10  # In 2 s it is waited for what was needed in the last 2 s.


@pytest.mark.parametrize("lead", [0.04, 0.06])
def test_a_lead_that_is_used_now_and_then_is_kept(lead: float) -> None:
    """Every 7 s the app stops until what it has sent ahead is played almost, and no later."""
    playout = Playout(RATE)
    times = [max(0.0, n * 0.020 - lead) for n in range(1500)]
    times = [at + lead - 0.01 if 0 < at % 7 < 0.020 else at for at in times]
    arrivals = [(at, counted(1, n * 480)) for n, at in enumerate(np.maximum.accumulate(times).tolist())]
    heard = played(play(playout, arrivals, 31))
    assert playout.skipped_frames == playout.underruns - 1 == 0
    assert heard == b"".join(pcm for _, pcm in arrivals)


@pytest.mark.parametrize("pause", [0.0, 1.0])
def test_a_lead_after_a_late_frame_is_no_lateness(pause: float) -> None:
    """An app that relays at first, a frame of it late, and then speaks with a lead."""
    playout = Playout(RATE)
    relayed = live(12, stall_at=3.995, stall=0.020)
    spoken = [(12.0 + pause + max(0.0, n * 0.020 - 0.04), counted(1, n * 480)) for n in range(500)]
    play(playout, relayed + spoken, 23)
    assert playout.skipped_frames == 1


def test_a_surplus_that_is_needed_after_all_stays() -> None:
    playout = Playout(RATE)
    times = [at + 0.02 * (n % 250 == 249) for n, (at, _) in enumerate(live(120))]  # every 5 s
    arrivals = [(at, counted(1, n * 480)) for n, at in enumerate(np.maximum.accumulate(times).tolist())]
    pulled = play(playout, arrivals, 120)
    assert sum(frame is None for frame in pulled) == 2
    assert playout.skipped_frames == 1


def test_a_surplus_that_is_needed_seldom_goes_each_time() -> None:
    """Within 48 s at the most; and after a pause, within 3 s again."""
    playout = Playout(RATE)
    times = [at + 0.02 * (n % 2600 == 2599) + 3 * (n >= 18_300) for n, (at, _) in enumerate(live(430))]  # every 52 s
    arrivals = [(at, counted(1, n * 480)) for n, at in enumerate(np.maximum.accumulate(times).tolist())]
    assert depths(playout, arrivals, 359, 363, 420, 423) == [20, 0, 20, 0]
    assert playout.skipped_frames == 7


def test_a_surplus_that_was_needed_a_moment_ago_stays() -> None:
    playout = Playout(RATE)
    times = [at + 0.02 * (10.0 <= at < 10.02) + 0.04 * (11.9 <= at < 11.92) for at, _ in live(20)]
    arrivals = [(at, counted(1, n * 480)) for n, at in enumerate(np.maximum.accumulate(times).tolist())]
    assert depths(playout, arrivals, 11.5, 12.5, 14.5, 19) == [20, 40, 40, 0]


def test_skipping_in_a_long_queue_keeps_the_rest_in_order() -> None:
    playout = Playout(RATE)
    playout.push(counted(3000), 0.0)
    first = playout.pull(0.0)
    playout._skip(30)
    assert playout.skipped_frames == 30
    assert playout.queued_bytes == (3000 - 1 - 30) * FRAME
    rest = [playout.pull(0.02 * tick) for tick in range(3000 - 1 - 30)]
    assert (first or b"") + counted(30, 481) + played(rest) == counted(3000)


def test_only_the_next_frames_are_looked_through_for_silence() -> None:
    playout = Playout(RATE)
    playout.push(counted(SKIP_AMONG) + bytes(FRAME), 0.0)
    playout._skip(1)
    assert played([playout.pull(0.0) for _ in range(SKIP_AMONG)]) == counted(SKIP_AMONG - 1, 481) + bytes(FRAME)


def test_ten_minutes_sent_at_once_are_played_to_the_last_sample() -> None:
    playout, minute = Playout(RATE), counted(50 * 60)
    for _ in range(10):
        assert playout.push(minute, 0.0) == len(minute)
    for _ in range(10):
        assert b"".join(playout.pull(0.0) or b"" for _ in range(50 * 60)) == minute
    assert playout.pull(0.0) is None
    assert (playout.played_frames, playout.skipped_frames, playout.refused_bytes) == (30_000, 0, 0)


@pytest.mark.parametrize("reply", [1.0, 5.0, 5.2, 60.0])
@pytest.mark.parametrize("pause", [0.3, 1.0, 1.5, 2.4, 3.0, 6.0])
def test_replies_sent_at_once_lose_nothing(reply: float, pause: float) -> None:
    playout = Playout(RATE)
    arrivals = [(number * (reply + pause), counted(round(reply * 50))) for number in range(3)]
    assert played(play(playout, arrivals, 3 * (reply + pause) + 1)) == counted(round(reply * 50)) * 3
    assert playout.skipped_frames == 0


@pytest.mark.parametrize("chunk", [0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("lead", [0.0, 0.1, 0.3, 1.0])
def test_an_app_that_paces_itself_with_a_lead_loses_nothing(chunk: float, lead: float) -> None:
    playout, frames = Playout(RATE), round(chunk * 50)
    arrivals = [(max(0.0, n * chunk - lead), counted(frames, n * frames * 480)) for n in range(round(30 / chunk))]
    assert played(play(playout, arrivals, 32)) == b"".join(pcm for _, pcm in arrivals)
    assert playout.skipped_frames == 0


@pytest.mark.parametrize("every", [0.005, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("delta", [0.2, 0.4, 1.0])
def test_a_reply_that_comes_in_pieces_faster_than_it_plays_loses_nothing(delta: float, every: float) -> None:
    playout, frames = Playout(RATE), round(delta * 50)
    arrivals = [(0.11 + n * every, counted(frames, n * frames * 480)) for n in range(round(12 / delta))]
    assert played(play(playout, arrivals, 14 + every * len(arrivals))) == b"".join(pcm for _, pcm in arrivals)
    assert playout.skipped_frames == 0


@pytest.mark.parametrize("lead", [0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("gap", [0.3, 0.8, 1.8, 2.4])
def test_the_next_utterance_of_an_app_with_a_lead_loses_nothing(lead: float, gap: float) -> None:
    """A greeting, a pause for the caller's question, then an answer with silence in it: all of it is heard."""
    playout = Playout(RATE)
    answer = counted(40) + bytes(25 * FRAME) + counted(40, 9)
    arrivals, at = [], 0.0
    for utterance in (counted(150), answer, answer):
        frames = [utterance[i : i + FRAME] for i in range(0, len(utterance), FRAME)]
        arrivals += [(at + max(0.0, n * 0.020 - lead), frame) for n, frame in enumerate(frames)]
        at += len(frames) * 0.020 + gap
    heard = played(play(playout, arrivals, at + 2))
    assert playout.skipped_frames == 0
    assert heard == counted(150) + answer + answer


def test_two_greetings_at_once_play_one_after_the_other() -> None:
    playout = Playout(RATE)
    first, second = counted(50), counted(50, 7)
    assert played(play(playout, [(0.0, first), (0.0, second)], 3)) == first + second


def test_a_callers_file_is_never_skipped() -> None:
    playout = Playout(RATE, live_trim=False)
    play(playout, live(20, stall_at=10, stall=1.0), 21)
    assert playout.skipped_frames == 0
