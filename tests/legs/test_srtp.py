"""SRTP: keys as SDP writes them, packets that only the right side can open, and a leg that speaks it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.legs.ports import PortRange
from offhook.legs.rtp_legs import RtpLegs
from offhook.legs.srtp import KEY_BYTES, Srtp, new_key, parse_key
from offhook.legs.udp import open_udp
from offhook.media.link import ConnectLeg, OpenRtp, SrtpKeys
from offhook.media.memory_link import memory_pair
from offhook.media.tidings import RtpOpened, Tiding
from offhook.media.worker import MediaWorker
from offhook.testing.memory import MemoryApp

EXAMPLE = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"  # of RFC 4568's own example
HOST = "127.0.0.1"


def packet(sequence: int, payload: bytes = b"payload") -> bytes:
    return struct.pack("!BBHII", 0x80, 0, sequence, 160 * sequence, 7) + payload


def pair() -> tuple[Srtp, Srtp]:
    """Both sides of a leg."""
    one, two = new_key(), new_key()
    return Srtp(one, two), Srtp(two, one)


# ------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize("rest", ["", "|2^20", "|1048576"])
def test_a_key_is_read_whatever_lifetime_it_has(rest: str) -> None:
    assert parse_key(EXAMPLE + rest) == b"YS___semctl () {\t220;}\n}\nunles"
    assert len(parse_key(EXAMPLE)) == KEY_BYTES


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        (EXAMPLE + "|2^20|1:4", "MKI"),
        (EXAMPLE + "|1:4", "MKI"),
        (EXAMPLE[:-4], "27 bytes instead of 30"),
        ("inline:", "0 bytes"),
        ("inline:!" + EXAMPLE[8:], "not base64"),
        ("inline:ä" + EXAMPLE[8:], "not base64"),
        (EXAMPLE.removeprefix("inline:"), "begin with inline:"),
        ("", "begin with inline:"),
    ],
)
def test_a_key_of_another_form_is_refused(parameters: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        parse_key(parameters)
    assert EXAMPLE[8:20] not in str(refused.value)  # What is secret is not said.


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parameters in (text, "inline:" + text):
        with contextlib.suppress(ValueError):
            assert len(parse_key(parameters)) == KEY_BYTES


def test_new_keys_are_valid_and_new() -> None:
    assert len({parse_key(new_key()) for _ in range(10)}) == 10


# ------------------------------------------------------------------------------------------------ packets


def test_what_one_side_protects_the_other_opens_and_nobody_reads() -> None:
    here, there = pair()
    for sequence in range(65_500, 65_600):  # also when the sequence number wraps
        sealed = here.protect(packet(sequence & 0xFFFF))
        assert b"payload" not in sealed
        assert len(sealed) == 12 + 7 + 10  # an 80-bit tag
        assert there.unprotect(sealed) == packet(sequence & 0xFFFF)


def test_reports_are_protected_as_well() -> None:
    here, there = pair()
    report = bytes.fromhex("80c90001 00000007")
    sealed = here.protect_rtcp(report)
    assert there.unprotect_rtcp(sealed) == report
    assert there.unprotect_rtcp(sealed) is None


def test_a_changed_a_repeated_and_a_foreign_packet_are_not_opened() -> None:
    here, there = pair()
    sealed = here.protect(packet(1))
    for at in range(len(sealed)):
        assert there.unprotect(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]) is None
    assert there.unprotect(packet(1)) is None
    assert pair()[1].unprotect(sealed) is None
    assert there.unprotect(sealed) == packet(1)
    assert there.unprotect(sealed) is None


@given(st.binary(max_size=1500))
def test_any_bytes_at_all_are_borne(data: bytes) -> None:
    _, there = pair()
    assert there.unprotect(data) is None
    assert there.unprotect_rtcp(data) is None


def test_the_longest_packet_that_is_read_is_borne() -> None:
    _, there = pair()
    assert there.unprotect(packet(1, random.Random(1).randbytes(1488))) is None


@pytest.mark.parametrize("module", ["offhook.legs.rtp_legs", "offhook.cli.verbs", "offhook.server.app"])
def test_libsrtp_is_loaded_only_for_a_leg_with_keys(module: str) -> None:
    code = f"import sys, {module}; sys.exit('pylibsrtp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# ------------------------------------------------------------------------------------------------ a leg, real sockets


@pytest.mark.sockets
@pytest.mark.parametrize("secure", [False, True])
def test_a_leg_over_real_sockets(secure: bool) -> None:
    """The app hears the telephone and the telephone the app; forged packets and strangers are only counted."""

    async def main() -> None:
        control, end = memory_pair()
        app, tidings = MemoryApp(), list[Tiding]()
        control.on_receive(tidings.append)
        worker = MediaWorker(end, app, epoch=0.0)
        legs = RtpLegs(worker, PortRange(30_000, 39_999))
        worker.start()
        keys = SrtpKeys(new_key(), new_key()) if secure else None
        theirs = None if keys is None else Srtp(keys.receive, keys.send)
        telephone = open_udp(HOST, 0)
        control.send(OpenRtp("leg", "PCMU", 0, HOST, remote=telephone.getsockname(), srtp=keys))
        control.send(ConnectLeg("leg", "call", "4:leg"))
        heard: list[bytes] = []
        for sequence in range(50):
            await asyncio.sleep(0.02)
            (opened,) = (tiding for tiding in tidings if isinstance(tiding, RtpOpened))
            plain = packet(sequence, bytes([0x80 + sequence]) * 160)
            telephone.sendto(plain if theirs is None else theirs.protect(plain), (HOST, opened.port))
            if secure:
                telephone.sendto(plain, (HOST, opened.port))  # not authentic
            while True:
                try:
                    data = telephone.recv(1500)
                except BlockingIOError:
                    break
                clear = data if theirs is None else theirs.unprotect(data)
                assert clear is not None
                heard.append(clear)
        for leg, _ in legs._legs.values():
            leg.leave()  # What is read together is counted every few seconds.
        counts, gauges = legs.figures()
        assert counts["rtp_received"] > 10
        assert (counts["rtp_forged"] > 10) is secure
        assert counts["rtp_malformed"] == counts["rtp_other_types"] == 0
        assert gauges["rtp_jitter_ms_max"] >= 0
        assert len(heard) > 10
        assert {len(data) for data in heard} == {172}
        legs.close()
        await worker.close()
        telephone.close()

    asyncio.run(main())
