"""What an RTP packet carries, however it is built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.wire.rtp import payload_of


@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        ("80 00" + "00" * 10 + "aa bb", "aa bb"),
        ("82 00" + "00" * 10 + "11" * 8 + "aa bb", "aa bb"),  # two CSRCs
        ("90 00" + "00" * 10 + "be de 00 01 11 11 11 11 aa", "aa"),  # an extension of one word
        ("90 00" + "00" * 10 + "be de 00 00 aa", "aa"),
        ("a0 00" + "00" * 10 + "aa bb 00 02", "aa bb"),  # two bytes of padding
        ("b1 00" + "00" * 10 + "11" * 4 + "be de 00 01" + "11" * 4 + "aa 01", "aa"),
        ("80 00" + "00" * 10, ""),
        ("40 00" + "00" * 10 + "aa", ""),  # version 1
        ("8f 00" + "00" * 10 + "aa", ""),  # more CSRCs than bytes
        ("90 00" + "00" * 10 + "be de 00 09 aa", ""),  # an extension longer than the packet
        ("90 00" + "00" * 10 + "be", ""),
        ("a0 00" + "00" * 10 + "aa bb 00 00", ""),  # no bytes of padding, but it counts itself
        ("a0 00" + "00" * 10 + "aa bb 00 09", ""),  # more padding than payload
    ],
)
def test_what_a_packet_carries(packet: str, payload: str) -> None:
    assert payload_of(bytes.fromhex(packet)) == bytes.fromhex(payload)


@given(st.binary(min_size=12, max_size=100))
def test_any_packet_can_be_looked_into(packet: bytes) -> None:
    assert payload_of(packet) in packet
