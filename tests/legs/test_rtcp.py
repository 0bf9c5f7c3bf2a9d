"""RTCP: reports as RFC 3550 lays them out, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.legs import rtcp
from offhook.legs.rtcp import MIDDLE, Block, Received, Report, Reporter, Sent

words = st.integers(0, 2**32 - 1)
blocks = st.builds(Block, words, st.integers(0, 255), st.integers(-(2**23), 2**23 - 1), words, words, words, words)
sents = st.builds(Sent, st.integers(0, 2**64 - 1), words, words, words)


def test_a_receiver_s_report_is_laid_out_as_the_rfc_has_it() -> None:
    packet = rtcp.compose(0x01020304, "abc", None, Block(0xAABBCCDD, 26, 99, 0x00010203, 80, 5, 6))
    assert packet.hex(" ", 4) == (
        "81c90007 01020304 aabbccdd 1a000063 00010203 00000050 00000005 00000006 81ca0003 01020304 01036162 63000000"
    )


def test_a_sender_s_report_is_laid_out_as_the_rfc_has_it() -> None:
    packet = rtcp.compose(1, "abcd", Sent(0x1122334455667788, 160, 2, 320), None)
    assert packet.hex(" ", 4) == (
        "80c80006 00000001 11223344 55667788 000000a0 00000002 00000140 81ca0003 00000001 01046162 63640000"
    )


def test_goodbye() -> None:
    assert rtcp.goodbye(7).hex(" ", 4) == "81cb0001 00000007"


@given(words, st.text(st.characters(codec="ascii"), max_size=40), st.none() | sents, st.none() | blocks)
def test_what_is_composed_is_read(source: int, name: str, sent: Sent | None, block: Block | None) -> None:
    packet = rtcp.compose(source, name, sent, block)
    assert len(packet) % 4 == 0
    assert list(rtcp.parse(packet + rtcp.goodbye(source))) == [Report(source, sent, [block] if block else [])]


@pytest.mark.parametrize("most", [3, 4, 7, 27, 30, 31, 51])
def test_a_packet_that_is_cut_short_ends_there(most: int) -> None:
    packet = rtcp.compose(1, "", Sent(1, 2, 3, 4), Block(1, 2, 3, 4, 5, 6, 7))
    assert list(rtcp.parse(packet[:most])) == []


def test_a_report_that_claims_more_blocks_than_it_has_is_read_as_far_as_it_goes() -> None:
    packet = bytearray(rtcp.compose(1, "", None, Block(1, 2, 3, 4, 5, 6, 7)))
    packet[0] |= 31
    (report,) = rtcp.parse(bytes(packet))
    assert len(report.blocks) == 1


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_borne(packet: bytes) -> None:
    Reporter(1, "x").take(packet, 0.0)
    Reporter(1, "x").take(b"\x81\xc9" + packet, 0.0)


# ------------------------------------------------------------------------------------------------ a leg's side


def told(reporter: Reporter, unix: float, received: int, lost: int) -> Block:
    packet = reporter.report(unix, None, Received(9, 65_000, received, lost, 16))
    ((block,),) = (report.blocks for report in rtcp.parse(packet))
    return block


def test_fraction_lost_is_of_the_time_since_the_last_report() -> None:
    reporter = Reporter(1, "x")
    assert told(reporter, 0.0, 90, 10).fraction == 25
    assert told(reporter, 5.0, 140, 60).fraction == 128
    assert told(reporter, 10.0, 240, 60).fraction == 0
    assert told(reporter, 15.0, 240, 60).fraction == 0  # nothing was expected
    assert told(reporter, 20.0, 240, 90).fraction == 255  # all of it
    block = told(reporter, 25.0, 240, 50)  # fewer: what was lost came after all
    assert (block.fraction, block.lost, block.highest, block.jitter) == (0, 50, 65_000 + 289, 16)


def test_a_round_trip_is_what_was_not_spent_at_the_other_side() -> None:
    here, there = Reporter(1, "here"), Reporter(2, "there")
    here.take(there.report(100.0, Sent(rtcp.ntp(100.0), 0, 0, 0), None), 1000.0)  # their clock is another one
    there.take(here.report(1003.0, None, Received(2, 0, 1, 0, 0)), 103.25)
    assert there.round_trip_ms == 250
    assert there.reports == 1
    assert here.round_trip_ms == 0


def test_a_round_trip_of_more_than_a_minute_is_not_believed() -> None:
    reporter = Reporter(1, "x")
    reporter.take(rtcp.compose(2, "y", None, Block(1, 0, 5, 0, 8, rtcp.middle(rtcp.ntp(500.0)), 0)), 561.0)
    assert (reporter.round_trip_ms, reporter.remote_lost, reporter.remote_jitter) == (0, 5, 8)


def test_what_is_said_of_another_source_is_not_about_us() -> None:
    reporter = Reporter(1, "x")
    reporter.take(rtcp.compose(2, "y", None, Block(3, 9, 9, 9, 9, 9, 9)), 0.0)
    assert (reporter.reports, reporter.remote_lost) == (1, 0)


def test_ntp_time() -> None:
    assert rtcp.ntp(0.0) == 2_208_988_800 << 32  # RFC 868: 1970 as seconds since 1900
    assert rtcp.middle(rtcp.ntp(0.5)) == (2_208_988_800 << 16 | 0x8000) & MIDDLE
