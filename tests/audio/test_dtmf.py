"""Telephone events: each press counted once whatever the network does, and sent so that any receiver counts it once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import dtmf
from offhook.audio.dtmf import END_PACKETS, QUEUE, TICK, TONE_TICKS, TONES, DigitReceiver, DigitSender, Event

Heard = tuple[int, bytes]  # RTP timestamp and payload of a packet


def payload(tone: str, duration: int, end: bool = False) -> bytes:
    return bytes([TONES.index(tone), 0x8A if end else 0x0A]) + duration.to_bytes(2, "big")


def press(tone: str, at: int, ticks: int = TONE_TICKS) -> list[Heard]:
    """The packets of one press, its end three times."""
    packets = [(at % 2**32, payload(tone, TICK * tick)) for tick in range(1, ticks)]
    return packets + [(at % 2**32, payload(tone, TICK * ticks, end=True))] * END_PACKETS


def received(packets: list[Heard]) -> str:
    receiver = DigitReceiver()
    tones = ""
    for timestamp, data in packets:
        event = dtmf.parse(data)
        assert event is not None
        tones += receiver.take(timestamp, event)
    return tones


# ------------------------------------------------------------------------------------------------ received


def test_an_event_is_read() -> None:
    assert dtmf.parse(bytes([11, 0x80 | 10, 0x03, 0x20])) == Event(11, True, 10, 800)
    assert dtmf.parse(bytes([1, 0x7F, 0, 160])) == Event(1, False, 63, 160)  # the reserved bit is not looked at
    assert dtmf.parse(bytes([1, 0, 0])) is None


def test_each_press_counts_once_and_at_its_first_packet() -> None:
    receiver = DigitReceiver()
    first, *rest = press("5", 1000)
    events = [(timestamp, dtmf.parse(data)) for timestamp, data in (first, *rest)]
    assert [receiver.take(timestamp, event) for timestamp, event in events if event] == ["5"] + [""] * len(rest)


def test_the_same_digit_twice_counts_twice() -> None:
    assert received(press("1", 0) + press("1", 1600) + press("2", 3200)) == "112"


@pytest.mark.parametrize("kept", range(TONE_TICKS + END_PACKETS - 1))
def test_one_packet_of_a_press_is_enough(kept: int) -> None:
    assert received([press("1", 0)[kept], press("1", 1600)[kept], press("#", 3200)[kept]]) == "11#"


def test_lost_ends_do_not_join_two_presses() -> None:
    assert received(press("7", 0)[: TONE_TICKS - 1] + press("7", 1600)) == "77"


def test_late_and_doubled_packets_are_not_presses() -> None:
    one, two = press("1", 0), press("2", 1600)
    assert received([*one, *two[:3], *one[-2:], *two[2:], *two]) == "12"


def test_timestamps_wrap() -> None:
    assert received(press("1", 2**32 - 800) + press("2", 800)) == "12"


def test_an_event_that_is_too_long_for_its_duration_goes_on_under_a_new_timestamp() -> None:
    packets = [(0, payload("9", duration)) for duration in range(TICK, 0xFFFF, TICK)] + [(0, payload("9", 0xFFFF))]
    packets += [(0xFFFF, payload("9", duration)) for duration in range(TICK, 1600, TICK)]
    assert received(packets) == "9"


def test_a_timestamp_that_moves_along_within_a_press_is_borne() -> None:
    assert received([(TICK * tick, payload("3", TICK * (tick + 1))) for tick in range(10)]) == "3"


def test_another_digit_under_the_same_timestamp_is_another_press() -> None:
    assert received(press("1", 0) + press("2", 0)) == "12"


def test_events_that_are_no_tones_are_not_told() -> None:
    receiver = DigitReceiver()
    assert receiver.take(0, Event(16, False, 10, 160)) == ""  # a hook flash
    assert receiver.take(1600, Event(255, True, 10, 160)) == ""
    assert receiver.take(3200, Event(15, True, 10, 160)) == "D"


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=8)), max_size=50))
def test_any_packets_at_all_are_borne(packets: list[Heard]) -> None:
    receiver = DigitReceiver()
    for timestamp, data in packets:
        event = dtmf.parse(data)
        if event is not None:
            assert receiver.take(timestamp, event) in ("", *TONES)


# ------------------------------------------------------------------------------------------------ sent


def sent(tones: str, ticks: int, start: int = 0) -> list[dtmf.Packet | None]:
    sender = DigitSender()
    sender.press(tones)
    return [sender.next((start + TICK * tick) % 2**32) for tick in range(ticks)]


def test_a_digit_is_sent_as_the_rfc_has_it() -> None:
    packets = sent("#", 11, start=8000)
    events = [packet for packet in packets if packet is not None]
    assert packets == events + [None] * 4  # the pause, and then audio again
    assert [packet.timestamp for packet in events] == [8000] * 7
    assert [packet.marker for packet in events] == [True] + [False] * 6
    parsed = [dtmf.parse(packet.payload) for packet in events]
    assert [event.duration for event in parsed if event] == [160, 320, 480, 640, 800, 800, 800]
    assert [event.end for event in parsed if event] == [False] * 4 + [True] * 3
    assert {(event.code, event.volume) for event in parsed if event} == {(11, 10)}


def test_nothing_is_sent_when_nothing_is_pressed() -> None:
    assert sent("", 3) == [None] * 3


def test_what_is_no_tone_is_refused_as_a_whole() -> None:
    sender = DigitSender()
    with pytest.raises(ValueError, match="tones are"):
        sender.press("12x")
    assert sender.next(0) is None


def test_the_queue_is_bounded() -> None:
    sender = DigitSender()
    sender.press("1" * QUEUE)
    with pytest.raises(ValueError, match="100"):
        sender.press("1")


@given(st.text("0123456789*#abcdABCD", max_size=10), st.integers(0, 2**32 - 1), st.integers(0, 2**16))
def test_what_is_sent_is_received_also_with_half_of_it_lost(tones: str, start: int, seed: int) -> None:
    ticks = 10 * len(tones)
    packets = [packet for packet in sent(tones, ticks, start) if packet is not None]
    lossy = random.Random(seed)
    # Of each event at least one packet comes.
    kept = [
        packet
        for at in range(0, len(packets), 7)
        for packet in sorted(lossy.sample(packets[at : at + 7], lossy.randint(1, 7)), key=packets.index)
    ]
    assert received([(packet.timestamp, packet.payload) for packet in kept]) == tones.upper()
