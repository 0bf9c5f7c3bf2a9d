"""Whatever a network does to packets, one frame comes out per tick, and no delay stays for ever.

Ticks are 20 ms apart. The sender's packet `i` is sent `i` packet durations after the first tick's packets are read, so
a network that takes no time gives delay 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from offhook.audio import jitter, pcm
from offhook.audio.g711 import PCMA, PCMU, Codec
from offhook.audio.jitter import CAPACITY, LARGEST, PACKETS, TOLERANCE, JitterBuffer
from offhook.audio.stand_in import SEAM
from offhook.audio.transits import MOST_LAG, REMEMBERED, REVIEW

FRAME = 160
TICK = 0.02
READ = 1e-6  # after a tick's nominal time, its packets are read: no rounding decides what is in time

Packets = Iterable[tuple[float, int]]  # arrival in seconds, index


def voice(seconds: float) -> bytes:
    """Octets of a vowel of 125 Hz with some breath: it has periods, and no two frames are the same."""
    at = np.arange(round(8000 * seconds)) / 8000
    sound = sum(np.sin(2 * np.pi * 125 * n * at + n * n) / n for n in range(1, 12))
    breath = np.random.default_rng(5).normal(0, 0.05, len(at))
    return PCMU.encode(np.rint(3000 * (sound + breath)).astype(np.int16)).tobytes()


VOICE = voice(70)


class Listener:
    """A buffer that is fed packets of `VOICE` and pulled once a tick; keeps what came out."""

    def __init__(self, ptime: int = FRAME, sequence: int = 0, timestamp: int = 0) -> None:
        self.buffer = JitterBuffer(PCMU)
        self.ptime, self.sequence, self.timestamp = ptime, sequence, timestamp
        self.frames: list[bytes | None] = []
        self.delays: list[float] = []

    def put(self, index: int, now: float) -> None:
        start = index * self.ptime % (len(VOICE) - self.ptime)
        self.buffer.put(
            self.sequence + index & 0xFFFF,
            self.timestamp + index * self.ptime & 0xFFFF_FFFF,
            VOICE[start : start + self.ptime],
            now,
        )

    def run(self, packets: Packets, ticks: int) -> Listener:
        waiting = sorted(packets, reverse=True)
        for tick in range(ticks):
            now = tick * TICK + READ
            while waiting and waiting[-1][0] <= now:
                self.put(waiting.pop()[1], now)
            self.frames.append(self.buffer.pull())
            self.delays.append(self.buffer.delay_ms)
        return self

    def behind_ms(self, tick: int) -> float:
        """How far behind the sender the frame of `tick` is, which must be one that nothing was done to."""
        frame = self.frames[tick]
        assert frame is not None
        place = VOICE.find(frame)
        assert place >= 0, "not a frame of the voice"
        return (tick * FRAME - place) / 8


def regular(count: int, ptime: int = FRAME) -> list[tuple[float, int]]:
    return [(index * ptime / 8000, index) for index in range(count)]


def in_order(packets: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """A network that delays, but does not overtake."""
    arrivals = np.maximum.accumulate([at for at, _ in packets])
    return [(float(at), index) for at, (_, index) in zip(arrivals, packets, strict=True)]


# ------------------------------------------------------------------------------------------------ nothing is wrong


@pytest.mark.parametrize(("sequence", "timestamp"), [(0, 0), (65_500, 0xFFFF_F000), (12_345, 0x7FFF_F000)])
def test_regular_packets_pass_bit_for_bit_at_once(sequence: int, timestamp: int) -> None:
    heard = Listener(sequence=sequence, timestamp=timestamp).run(regular(200), 200)
    assert b"".join(frame or b"" for frame in heard.frames) == VOICE[: 200 * FRAME]
    assert set(heard.delays) == {0.0}
    assert heard.buffer.jitter_ms < 0.001
    counts = heard.buffer.counts
    assert counts.received == 200
    assert counts.concealed_ms == counts.shortened_ms == counts.lengthened_ms == counts.lost == 0


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 50, 60, 120])
def test_any_packet_duration_gives_a_frame_a_tick(ptime_ms: int) -> None:
    ptime = 8 * ptime_ms
    heard = Listener(ptime).run(regular(10_000 // ptime_ms, ptime), 490)
    assert all(frame is not None and len(frame) == FRAME for frame in heard.frames)
    assert heard.buffer.counts.concealed_ms <= 20  # once, until the phase of the packets is known
    assert heard.behind_ms(480) <= 10
    assert heard.buffer.counts.shortened_ms == 0


def test_nothing_before_the_first_packet() -> None:
    buffer = JitterBuffer(PCMU)
    assert [buffer.pull(), buffer.pull()] == [None, None]
    buffer.put(1, 0, b"", 0.0)
    assert buffer.pull() is None
    assert buffer.counts.silent_ms == 0


@pytest.mark.parametrize("codec", [PCMU, PCMA], ids=lambda codec: codec.name)
def test_both_laws_conceal_in_their_own_octets(codec: Codec) -> None:
    tone = pcm.tone(200, 8000, 0.2, -6)
    octets = codec.encode(tone).tobytes()
    buffer = JitterBuffer(codec)
    for index in range(5):
        buffer.put(index, index * FRAME, octets[index * FRAME : (index + 1) * FRAME], index * TICK)
        buffer.pull()
    made = buffer.pull()
    assert made is not None
    assert pcm.tone_level(codec.decode(np.frombuffer(made, np.uint8)), 200, 8000) > -10
    for _ in range(4):
        made = buffer.pull()
    assert made is not None
    assert abs(int(codec.decode(np.frombuffer(made, np.uint8))[-1])) <= 24  # faded to nothing


# ------------------------------------------------------------------------------------------------ loss


def lost_at_random(share: float, count: int) -> list[bool]:
    return list(np.random.default_rng(round(1000 * share)).random(count) < share)


def lost_in_bursts(share: float, count: int) -> list[bool]:
    """Bursts of 60 to 200 ms."""
    random = np.random.default_rng(round(1000 * share))
    lost = [False] * count
    at = 0
    while at < count:
        at += 1 + int(random.exponential(6.5 / share))
        length = int(random.integers(3, 11))
        lost[at : at + length] = [True] * len(lost[at : at + length])
        at += length
    return lost


@pytest.mark.parametrize("pattern", [lost_at_random, lost_in_bursts])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_loss_leaves_no_hole_and_no_delay(pattern: Callable[[float, int], list[bool]], share: float) -> None:
    count = 3000
    lost = pattern(share, count)
    lost[0] = False
    lost[-REMEMBERED:] = [False] * REMEMBERED
    heard = Listener().run([packet for packet in regular(count) if not lost[packet[1]]], count)
    counts = heard.buffer.counts
    assert counts.lost == sum(lost)
    assert counts.concealed_ms + counts.silent_ms == 20 * sum(lost)
    assert set(heard.delays) == {0.0}
    for index, frame in enumerate(heard.frames):
        if lost[index]:
            assert frame is None or len(frame) == FRAME
            # Made up for 100 ms, silence after that.
            assert (frame is None) == (index >= 5 and all(lost[index - 5 : index]))
        else:
            assert frame is not None
            seam = SEAM if lost[index - 1] else 0
            assert frame[seam:] == VOICE[index * FRAME : (index + 1) * FRAME][seam:]


def test_the_seam_after_a_loss_has_no_click() -> None:
    octets = PCMU.encode(pcm.tone(230, 8000, 1.0, -6)).tobytes()
    buffer = JitterBuffer(PCMU)
    heard = b""
    for index in range(50):
        if index % 4 != 3:
            buffer.put(index, index * FRAME, octets[index * FRAME : (index + 1) * FRAME], index * TICK)
        heard += buffer.pull() or b""
    assert len(heard) == len(octets)

    def steps(line: bytes) -> int:
        return int(np.abs(np.diff(PCMU.decode(np.frombuffer(line, np.uint8)).astype(int))).max())

    assert steps(heard) < 1.5 * steps(octets)


def test_what_comes_after_a_loss_is_faded_in() -> None:
    """Even if it has nothing to do with what was made up."""
    before, after = (PCMU.encode(np.full(FRAME, value, np.int16)).tobytes() for value in (8000, -8000))
    buffer = JitterBuffer(PCMU)
    heard = b""
    for index, payload in enumerate([before, before, before, b"", after]):
        if payload:
            buffer.put(index, index * FRAME, payload, index * TICK)
        heard += buffer.pull() or b""
    steps = np.abs(np.diff(PCMU.decode(np.frombuffer(heard, np.uint8)).astype(int)))
    assert len(heard) == 5 * FRAME
    assert steps.max() < 16_000 / (SEAM - 4)
    assert heard[4 * FRAME + SEAM :] == after[SEAM:]


# ------------------------------------------------------------------------------------------------ order


@pytest.mark.parametrize(
    ("packets", "counted"),
    [
        ([(0, 0), (0, 1), (0, 1), (1, 2)], {"duplicates": 1}),
        ([(0, 0), (1, 2), (1, 1), (1, 3)], {"reordered": 1}),  # within one tick
        ([(0, 0), (2, 2), (3, 1), (3, 3)], {"reordered": 1, "late": 1}),
        ([(0, 0), (1, 1), (2, 1), (2, 2)], {"duplicates": 1}),  # not late
        ([(0, 0), (1, 20_000), (1, 1)], {"discarded": 1}),
    ],
)
def test_what_the_network_mixes_up_is_sorted_and_counted(
    packets: list[tuple[int, int]], counted: dict[str, int]
) -> None:
    buffer = Listener()
    for tick in range(4):
        for _, index in (packet for packet in packets if packet[0] == tick):
            buffer.put(index, tick * TICK)
        buffer.frames.append(buffer.buffer.pull())
    counts = buffer.buffer.counts
    names = ("duplicates", "reordered", "late", "discarded")
    assert {name: getattr(counts, name) for name in names if getattr(counts, name)} == counted
    assert VOICE.startswith(buffer.frames[0] or b"?")


@pytest.mark.parametrize(("share", "late_by", "still_late"), [(0.02, 0.025, 20), (0.05, 0.045, 20)])
def test_packets_that_are_overtaken_often_are_waited_for(share: float, late_by: float, still_late: int) -> None:
    random = np.random.default_rng(3)
    count = 3000
    heard = Listener().run([(at + late_by * (random.random() < share), i) for at, i in regular(count)], count)
    counts = heard.buffer.counts
    assert counts.reordered >= 0.8 * share * count
    assert counts.late <= still_late
    assert counts.lost == counts.duplicates == 0
    assert max(heard.delays) <= 1000 * late_by + 20


def test_doubled_packets_change_nothing() -> None:
    packets = regular(300)
    heard = Listener().run(packets + [(at + 0.005, index) for at, index in packets[::7]], 300)
    assert b"".join(frame or b"" for frame in heard.frames) == VOICE[: 300 * FRAME]
    assert heard.buffer.counts.duplicates == len(packets[::7])


# ------------------------------------------------------------------------------------------------ delay


def jitters(random: np.random.Generator) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Delays of 3000 packets, 95 % of them below 30 ms."""
    return {
        "exponential": random.exponential(0.010, 3000),
        "half normal": np.abs(random.normal(0, 0.0153, 3000)),
        "uniform": random.uniform(0, 0.0316, 3000),
    }


@pytest.mark.parametrize("shape", jitters(np.random.default_rng()).keys())
@pytest.mark.parametrize("ordered", [False, True])
def test_30_ms_of_jitter_costs_little_delay_and_next_to_no_packet(shape: str, ordered: bool) -> None:
    delays = jitters(np.random.default_rng(1))[shape]
    packets = [(at + float(delays[index]), index) for at, index in regular(3000)]
    heard = Listener().run(in_order(packets) if ordered else packets, 3000)
    counts = heard.buffer.counts
    assert counts.late <= 0.01 * 3000
    assert counts.lost <= 2  # the first packet may come second
    assert None not in heard.frames[10:]
    assert max(heard.delays[-1000:]) <= 60
    assert counts.concealed_ms <= 0.015 * 60_000
    assert heard.buffer.jitter_ms > 2


def test_packets_that_come_just_around_the_tick_cost_one_tick_of_delay() -> None:
    random = np.random.default_rng(1)
    packets = [(at + float(random.uniform(-0.001, 0.001)), index) for at, index in regular(1000)]
    heard = Listener().run(packets, 1000)
    assert heard.buffer.counts.concealed_ms <= 40
    assert heard.behind_ms(990) == 20


@pytest.mark.parametrize("stall_ms", [60, 100, 200, 400, 2000])
def test_after_a_stall_the_delay_is_back_within_two_seconds(stall_ms: int) -> None:
    over = 10 + stall_ms / 1000
    heard = Listener().run([(over if 10 <= at < over else at, index) for at, index in regular(1000)], 1000)
    after = round(over / TICK)
    assert heard.behind_ms(400) == 0
    assert heard.delays[after] >= min(stall_ms, 360)
    assert heard.behind_ms(after + 100) <= TOLERANCE / 8
    assert heard.delays[after + 100] <= TOLERANCE / 8
    counts = heard.buffer.counts
    assert counts.dropped_ms == max(0, stall_ms - CAPACITY / 8 + 20)  # 20: the packet that comes with the burst
    assert counts.shortened_ms + counts.dropped_ms >= stall_ms - TOLERANCE / 8
    assert counts.late == counts.lost == 0


def test_a_stall_of_a_tone_ends_without_a_click() -> None:
    """The delay goes by periods, not by cuts."""
    octets = PCMU.encode(pcm.tone(210, 8000, 6.0, -6)).tobytes()
    buffer = JitterBuffer(PCMU)
    heard = b""
    for tick in range(300):
        for index in (tick,) if tick < 100 else range(100, 111) if tick == 110 else (tick,) if tick > 110 else ():
            buffer.put(index, index * FRAME, octets[index * FRAME : (index + 1) * FRAME], tick * TICK)
        frame = buffer.pull()
        heard += frame or bytes([PCMU.silence]) * FRAME
    steps = np.abs(np.diff(PCMU.decode(np.frombuffer(heard, np.uint8)).astype(int)))
    assert buffer.delay_ms <= TOLERANCE / 8
    assert steps.max() <= 1.5 * steps[: 90 * FRAME].max()


def test_the_delay_goes_even_where_nothing_is_alike() -> None:
    noise = PCMU.encode(np.random.default_rng(1).normal(0, 6000, 40_000).astype(np.int16)).tobytes()
    buffer = JitterBuffer(PCMU)
    for tick in range(250):
        for index in () if 50 <= tick < 53 else range(50, 54) if tick == 53 else (tick,):
            buffer.put(index, index * FRAME, noise[index * FRAME : (index + 1) * FRAME], tick * TICK)
        buffer.pull()
        assert tick != 53 or buffer.delay_ms == 60
    assert buffer.delay_ms <= TOLERANCE / 8


def test_a_packet_that_would_cost_too_much_delay_is_not_waited_for() -> None:
    """Every tenth takes 300 ms longer."""
    heard = Listener().run([(at + 0.3 * (index % 10 == 5), index) for at, index in regular(1000)], 1000)
    assert 190 <= max(heard.delays) <= MOST_LAG / 8
    assert heard.buffer.counts.late >= 80


@pytest.mark.parametrize("left_out", [5, 10, 50])
def test_ticks_we_leave_out_leave_no_delay(left_out: int) -> None:
    """The clock jumps: what has piled up is dropped, which takes no time, and the delay is as before."""
    heard = Listener().run(regular(500), 500)
    for index in range(500, 500 + left_out):
        heard.put(index, (500 + left_out) * TICK)
    for tick in range(500 + left_out, 600 + left_out):
        heard.put(tick, tick * TICK)
        heard.frames.append(heard.buffer.pull())
    assert heard.buffer.delay_ms <= TOLERANCE / 8
    counts = heard.buffer.counts
    assert counts.concealed_ms == counts.shortened_ms == counts.late == counts.lost == 0
    assert counts.dropped_ms == 20 * left_out


@pytest.mark.parametrize("jumps", [[10], [5, 5]])
@pytest.mark.parametrize("found", [1, 7, 15])
def test_what_waits_for_ticks_we_left_out_is_dropped_when_it_is_found(found: int, jumps: list[int]) -> None:
    """A leg reads a packet a tick, and only now and then looks for more. Meanwhile the network is not to blame."""
    heard = Listener().run(regular(500), 500)
    tick, waiting = 500, list(range(500, 700))
    for number in range(50):
        tick += jumps[number] if number < len(jumps) else 0
        come = sum(index <= tick for index in waiting)
        for index in waiting[: 1 if number < found else come]:
            heard.put(index, tick * TICK)
            waiting.remove(index)
        frame = heard.buffer.pull()
        assert frame is not None
        if number == found:  # It goes on in real time, with a seam.
            assert frame[SEAM:] == VOICE[tick * FRAME : (tick + 1) * FRAME][SEAM:]
            assert frame[:SEAM] != VOICE[tick * FRAME : (tick + 1) * FRAME][:SEAM]
        tick += 1
    assert heard.buffer.delay_ms == 0
    counts = heard.buffer.counts
    assert (counts.dropped_ms, counts.shortened_ms, counts.concealed_ms) == (200, 0, 0)


def test_a_sender_that_stood_still_with_us_is_not_late() -> None:
    """The whole machine did: nothing waits for the ticks that we left out."""
    heard = Listener().run(regular(500), 500)
    for tick in range(510, 510 + jitter.SEARCH + REMEMBERED + REVIEW):
        heard.put(tick - 10, tick * TICK)
        assert heard.buffer.pull() == VOICE[(tick - 10) * FRAME : (tick - 9) * FRAME]
    assert heard.buffer.delay_ms == 0
    assert heard.buffer.counts.dropped_ms == 0


def test_a_stall_of_the_network_after_ticks_were_left_out_drops_nothing() -> None:
    heard = Listener().run(regular(500), 500)
    for tick in range(510, 800):  # The sender has paused, too: what is missing never comes.
        now = tick * TICK
        if not 600 <= tick < 605:
            for index in range(600, 606) if tick == 605 else (tick,):
                heard.put(index, now)
        heard.buffer.pull()
    assert heard.buffer.delay_ms <= TOLERANCE / 8
    assert heard.buffer.counts.shortened_ms >= 100 - TOLERANCE / 8
    assert heard.buffer.counts.dropped_ms == 0


def test_ticks_that_catch_up_are_not_ticks_left_out() -> None:
    heard = Listener().run(regular(100), 100)
    for index in range(100, 105):
        heard.put(index, 100 * TICK)
    frames = [heard.buffer.pull() for _ in range(5)]
    assert b"".join(frame or b"" for frame in frames) == VOICE[100 * FRAME : 105 * FRAME]
    heard.put(105, 105 * TICK)
    assert heard.buffer.pull() == VOICE[105 * FRAME : 106 * FRAME]


@pytest.mark.parametrize("ppm", [200, -200])
def test_an_hour_of_drift(ppm: int) -> None:
    ticks = 180_000
    count = ticks + ticks * ppm // 1_000_000
    payload = VOICE[:FRAME]
    buffer = JitterBuffer(PCMU)
    due, missing, deepest = 0, 0, 0.0
    for tick in range(ticks):
        while due < count and due * (1 - ppm * 1e-6) <= tick:
            buffer.put(due & 0xFFFF, due * FRAME, payload, tick * TICK)
            due += 1
        frame = buffer.pull()
        missing += frame is None or len(frame) != FRAME
        deepest = max(deepest, buffer.delay_ms)
    counts = buffer.counts
    drifted = 3_600_000 * abs(ppm) / 1_000_000
    assert missing == 0
    assert counts.lost == counts.late == counts.dropped_ms == counts.silent_ms == 0
    assert deepest <= 25
    if ppm > 0:  # The sender is faster: its surplus goes by periods.
        assert counts.shortened_ms == pytest.approx(drifted, abs=25)
        assert counts.concealed_ms == 0
    else:  # It is slower: every 100 s there is a frame to be made of periods.
        assert counts.concealed_ms == pytest.approx(drifted, abs=25)


# ------------------------------------------------------------------------------------------------ pauses, other senders


def test_a_pause_of_the_sender_is_silence_and_no_loss() -> None:
    """Discontinuous transmission: the sequence goes on, the time stamps tell of the pause."""
    listener = Listener()
    for tick in range(150):
        if tick < 50 or tick >= 100:
            index = tick if tick < 50 else tick - 50
            payload = VOICE[tick * FRAME : (tick + 1) * FRAME]
            listener.buffer.put(index, tick * FRAME, payload, tick * TICK)
        listener.frames.append(listener.buffer.pull())
    assert [tick for tick, frame in enumerate(listener.frames) if frame is None] == list(range(55, 100))
    assert all(listener.behind_ms(tick) == 0 for tick in (49, 101, 149))
    counts = listener.buffer.counts
    assert (counts.lost, counts.concealed_ms, counts.silent_ms) == (0, 100, 900)


def test_numbers_without_audio_are_not_lost() -> None:
    buffer = JitterBuffer(PCMU)
    for number in range(200):
        payload = b"" if 50 <= number < 60 else VOICE[:FRAME]
        buffer.put(number, number * FRAME, payload, number * TICK)
        buffer.pull()
    assert (buffer.counts.lost, buffer.counts.received) == (0, 200)


def test_another_sender_is_heard_at_once() -> None:
    heard = Listener().run(regular(100), 100)
    heard.buffer.reset()
    assert heard.buffer.pull() is None
    heard.sequence, heard.timestamp = 40_000, 0x9000_0000
    for index in range(100):
        heard.put(index, 3 + index * TICK)
        assert heard.buffer.pull() == VOICE[index * FRAME : (index + 1) * FRAME]
    assert heard.buffer.counts.received == 200


@pytest.mark.parametrize("leap", [0x4000_0000, -0x4000_0000, 2 * CAPACITY, -2 * CAPACITY])
def test_time_stamps_that_leap_are_followed(leap: int) -> None:
    heard = Listener().run(regular(100), 100)
    for index in range(100, 200):
        payload = VOICE[index * FRAME : (index + 1) * FRAME]
        heard.buffer.put(index, index * FRAME + leap & 0xFFFF_FFFF, payload, index * TICK)
        frame = heard.buffer.pull()
        assert frame is not None
        assert frame[SEAM:] == payload[SEAM:]
    assert heard.buffer.counts.dropped_ms == 0


def test_an_old_packet_with_an_odd_time_stamp_is_discarded() -> None:
    heard = Listener().run([packet for packet in regular(100) if packet[1] != 95], 100)
    heard.buffer.put(95, 0x7000_0000, VOICE[:FRAME], 100 * TICK)
    heard.put(100, 100 * TICK)
    assert heard.buffer.pull() == VOICE[100 * FRAME : 101 * FRAME]
    assert heard.buffer.counts.discarded == 1


def test_a_sender_that_begins_again_is_followed_from_its_second_packet() -> None:
    heard = Listener().run(regular(100), 100)
    heard.sequence, heard.timestamp = 33_333, 0x8888_8888
    for index in range(100):
        heard.put(index, 2 + index * TICK)
        frame = heard.buffer.pull()
        assert frame is not None
        if index > 1:
            assert frame == VOICE[index * FRAME : (index + 1) * FRAME]
    assert heard.buffer.counts.discarded == 1


# ------------------------------------------------------------------------------------------------ bounds


def test_a_packet_that_is_too_large_is_discarded() -> None:
    buffer = JitterBuffer(PCMU)
    buffer.put(0, 0, bytes(LARGEST + 1), 0.0)
    assert buffer.pull() is None
    assert buffer.counts.discarded == 1
    buffer.put(1, 0, bytes(LARGEST), 0.0)
    assert buffer.pull() is not None


def test_small_packets_are_bounded_by_number_and_large_ones_by_time() -> None:
    for size in (1, 10, FRAME, LARGEST):
        buffer = JitterBuffer(PCMU)
        for number in range(1000):
            buffer.put(number, number * size, bytes(size), 0.0)
        assert len(buffer._queue) <= PACKETS
        assert sum(size for _, size, _ in buffer._queue) <= CAPACITY
        assert buffer.counts.dropped_ms > 0
        frame = buffer.pull()
        assert frame is not None


@st.composite
def networks(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Steps of (ticks before it, sequence, time stamp, size), more or less like RTP."""
    steps = []
    sequence, timestamp = draw(st.integers(0, 0xFFFF)), draw(st.integers(0, 0xFFFF_FFFF))
    size = draw(st.sampled_from([1, 80, 160, 240, 480, 960]))
    for _ in range(draw(st.integers(0, 80))):
        step = draw(st.sampled_from([1, 1, 1, 1, 0, 2, -1, 30, -70, 5000]))
        sequence, timestamp = sequence + step & 0xFFFF, timestamp + step * size & 0xFFFF_FFFF
        if draw(st.integers(0, 20)) == 0:
            timestamp = draw(st.integers(0, 0xFFFF_FFFF))
        odd_size = draw(st.sampled_from([size, size, size, 0, 1, 159, 2000]))
        steps.append((draw(st.sampled_from([0, 1, 1, 1, 2, 12])), sequence, timestamp, odd_size))
    return steps


@given(networks())
@settings(max_examples=100, deadline=None)
def test_whatever_comes_there_is_a_frame_or_none(steps: list[tuple[int, int, int, int]]) -> None:
    buffer = JitterBuffer(PCMU)
    now, ticks = 0.0, 0
    for pause, sequence, timestamp, size in steps:
        for _ in range(pause):
            now, ticks = now + TICK, ticks + 1
            frame = buffer.pull()
            assert frame is None or len(frame) == FRAME
        buffer.put(sequence, timestamp, VOICE[:size], now)
        assert len(buffer._queue) <= PACKETS
        assert sum(size for _, size, _ in buffer._queue) <= CAPACITY + PACKETS * LARGEST
        assert np.isfinite(buffer.delay_ms)
        assert np.isfinite(buffer.jitter_ms)
    counts = buffer.counts
    assert counts.silent_ms + counts.concealed_ms <= 20 * ticks
    # What is left is played, and then it is over.
    frames = [buffer.pull() for tick in range(1, 201)]
    assert frames[-1] is None


# ------------------------------------------------------------------------------------------------ in step


def state(buffer: JitterBuffer) -> dict[str, object]:
    """All that a buffer remembers; floats as near as they can be."""
    known = vars(buffer).copy()
    for part in ("_sequence", "_stand_in", "_transits"):
        known.update(vars(known.pop(part)))
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in known.items()}


@settings(max_examples=30)
@given(late=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), max_size=2), ticks=st.integers(1, 60))
def test_what_is_in_step_can_be_had_without_it(late: list[tuple[int, int]], ticks: int) -> None:
    """Also where packets do not begin with frames, as pieces of some length or other have been left out."""
    delays = dict(late)
    one, other = (Listener().run([((i + delays.get(i, 0)) * TICK, i) for i in range(150)], 150) for _ in range(2))
    step = one.buffer.in_step(most=3)
    assume(step is not None)
    assert step is not None
    assert len(step.recent) == 2 * FRAME + step.waiting
    assert (step.sequence, step.timestamp) == (150, 150 * FRAME)
    line, goal = step.recent, one.buffer._transits.goal
    for tick in range(150, 150 + ticks):
        now = tick * TICK + READ
        one.put(tick, now)
        line += VOICE[tick * FRAME : (tick + 1) * FRAME]
        frame = one.buffer.pull()
        assume(one.buffer._transits.goal == goal)  # else its delay begins to change; the other one's is to do so later
        assert frame == line[-step.waiting - FRAME :][:FRAME]
    other.buffer.stepped(ticks, now, line[-len(step.recent) :])
    assert state(other.buffer) == state(one.buffer)


def test_after_ticks_we_left_out_nothing_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls do so at once, and they are late already."""
    listener = Listener().run([(i * TICK, i) for i in range(50)], 50)
    monkeypatch.setattr(PCMU, "filling", None)
    now = 60 * TICK + READ
    for index in range(50, 61):
        listener.put(index, now)
    frame = listener.buffer.pull()
    assert frame is not None
    assert frame[SEAM:] == VOICE[60 * FRAME + SEAM : 61 * FRAME]
    assert listener.buffer.counts.dropped_ms == 200
    assert listener.buffer.counts.concealed_ms == 0
