"""RTP legs through a whole media worker: on a made-up network and virtual time, and once over real sockets."""

from __future__ import annotations

import asyncio
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.legs.rtp_scene import (
    HEADER,
    HOST,
    PHONE,
    TOLERANCE,
    Media,
    Telephone,
    at_phase,
    level,
    on_virtual_time,
    tone,
)

from offhook.audio import g711, pcm
from offhook.audio.dtmf import DigitSender
from offhook.legs import rtcp, rtp_legs
from offhook.legs.ports import PortRange
from offhook.legs.rtp_legs import COUNTS, GAUGES, REPORT_S, SILENT_S, WATCH_EVERY
from offhook.legs.rtp_receiver import LOOK_EVERY, WATCHED
from offhook.legs.rtp_sender import NO_EVENTS
from offhook.legs.slots import MARGIN_S, TOO_LONG_S, best_slot
from offhook.legs.udp import DRAIN
from offhook.media.clock import TICK_S
from offhook.media.link import (
    AgreeRtp,
    ConnectLeg,
    EndLeg,
    HoldLeg,
    OpenRtp,
    PressDigits,
    ReseatLeg,
    RouteParty,
    SendDigits,
    SrtpKeys,
)
from offhook.media.plane import SLOTS
from offhook.media.tidings import DigitsPressed, DigitsSent, LegDirections, LegFigures, LegGone, LegJoined, RtpOpened
from offhook.testing.clock import run

# ------------------------------------------------------------------------------------------------ who hears whom


@pytest.mark.parametrize("codec", [g711.PCMU, g711.PCMA], ids=lambda codec: codec.name)
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_telephone_and_an_app_hear_each_other(codec: g711.Codec, rate: int) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app(rate=rate)
        telephone = await media.telephone(codec=codec)
        app.say(pcm.tone(1100, rate, 2.0, -26.0).tobytes())
        await telephone.say(tone(500, 1.0, -20.0))
        at_app = pcm.as_samples(app.heard())[rate // 5 :]
        assert abs(level(at_app, 500, rate) + 20) < TOLERANCE
        assert level(at_app, 1100, rate) < -60
        assert abs(level(telephone.heard(), 1100) + 26) < TOLERANCE
        assert level(telephone.heard(), 500) < -60
        assert {len(payload) for *_, payload in telephone.received} == {160}
        media.legs.close()
        await media.worker.close()

    run(main())


@on_virtual_time
async def test_two_telephones_hear_each_other(media: Media) -> None:
    one, two = await media.telephone("one"), await media.telephone("two")
    await asyncio.gather(one.say(tone(500)), two.say(tone(1100, dbfs=-14.0)))
    assert abs(level(one.heard(), 1100) + 14) < TOLERANCE
    assert level(one.heard(), 500) < -60
    assert abs(level(two.heard(), 500) + 20) < TOLERANCE
    assert level(two.heard(), 1100) < -60


@on_virtual_time
async def test_three_telephones_each_hear_the_sum_of_the_others(media: Media) -> None:
    telephones = {hz: await media.telephone(str(hz)) for hz in (500, 1100, 1900)}
    await asyncio.gather(*(telephone.say(tone(hz)) for hz, telephone in telephones.items()))
    for own, telephone in telephones.items():
        for hz in telephones:
            heard = level(telephone.heard(), hz)
            assert heard < -50 if hz == own else abs(heard + 20) < TOLERANCE


@on_virtual_time
async def test_what_a_telephone_says_passes_bit_for_bit_at_the_plane_s_edge(media: Media) -> None:
    telephone = await media.telephone()
    leg = media.leg().receiver
    frames = [bytes([number]) * 160 for number in range(1, 50)]
    said = []
    for number, frame in enumerate(frames):
        telephone.say_frame(frame)
        said.append(leg.poll(number * TICK_S))
    assert said == frames


# ------------------------------------------------------------------------------------------------ its life


@on_virtual_time
async def test_a_leg_is_opened_joined_and_ended(media: Media) -> None:
    telephone = await media.open()
    assert media.tidings == [RtpOpened("leg", telephone.port)]
    assert telephone.port % 2 == 0
    assert set(media.network.sockets) == {telephone.port, telephone.port + 1}
    await media.order(ConnectLeg("leg", "call", "4:+15550100"))
    assert media.tidings[1:] == [LegJoined("leg")]
    await media.order(ConnectLeg("leg", "call", "4:+15550100"), EndLeg("leg", "bye"), EndLeg("leg", "bye"))
    (figures,) = media.tidings[2:]
    assert isinstance(figures, LegFigures)
    assert (figures.leg, figures.codec) == ("leg", "PCMU")
    assert (figures.counts.keys(), figures.gauges.keys()) == (rtp_legs.COUNTS.keys(), rtp_legs.GAUGES.keys())
    assert all(one.closed for one in media.network.sockets.values())
    await asyncio.sleep(100)
    assert media.tidings[3:] == []


@on_virtual_time
async def test_orders_for_legs_of_others_are_not_minded(media: Media) -> None:
    await media.order(ConnectLeg("x", "call", ""), EndLeg("x", ""), HoldLeg("x", True), SendDigits("x", "1"))
    assert media.tidings == []


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (OpenRtp("leg", "G729", 18, HOST), "codec 'G729': there are PCMU, PCMA"),
        (OpenRtp("leg", "PCMU", 0, HOST, srtp=SrtpKeys("inline:AAAA", "inline:AAAA")), "3 bytes instead of 30"),
    ],
)
def test_a_leg_that_cannot_be_is_gone(order: OpenRtp, why: str) -> None:
    async def main() -> None:
        media = Media()
        await media.order(order)
        (gone,) = media.told(LegGone)
        assert why in gone.reason
        assert media.network.sockets == {}

    run(main())


def test_when_the_ports_are_used_up_a_leg_is_refused_and_an_ended_one_makes_room() -> None:
    async def main() -> None:
        media = Media(PortRange(20_000, 20_003))
        await media.open("one")
        await media.open("two")
        await media.order(OpenRtp("three", "PCMU", 0, HOST))
        assert media.told(LegGone) == [
            LegGone("three", "its RTP port could not be opened: no free RTP port in the range 20000-20003, 2 legs")
        ]
        await media.order(EndLeg("one", ""))
        await media.open("four")
        assert [tiding.leg for tiding in media.told(RtpOpened)] == ["one", "two", "four"]

    run(main())


def test_a_pair_whose_odd_port_is_taken_is_passed_over() -> None:
    async def main() -> None:
        media = Media(PortRange(20_000, 20_003))
        media.network.open(HOST, 20_001)
        assert (await media.open()).port == 20_002
        assert media.network.sockets[20_000].closed if 20_000 in media.network.sockets else True
        assert (await media.open("muxed", rtcp_mux=True)).port == 20_000  # needs no odd one

    run(main())


@on_virtual_time
async def test_what_came_before_the_leg_was_connected_is_not_heard(media: Media) -> None:
    app = await media.app()
    telephone = await media.open()
    for _ in range(40):
        telephone.say_frame(g711.PCMU.encode(tone(500, 0.02)).tobytes())
    await media.order(ConnectLeg("leg", "call", "4:leg"))
    await telephone.say(tone(1100))
    assert level(pcm.as_samples(app.heard()), 500, 16_000) < -60
    assert media.leg().receiver.jitter.delay_ms <= 20


# ------------------------------------------------------------------------------------------------ from where


@on_virtual_time
async def test_it_sends_to_the_address_of_signalling_and_then_to_where_audio_came_from(media: Media) -> None:
    telephone = await media.telephone(remote=("203.0.113.9", 5000))
    await asyncio.sleep(0.1)
    assert {to for *_, to in media.network.sent} == {("203.0.113.9", 5000)}
    before = len(media.network.sent)
    telephone.say_frame(bytes(160))
    await asyncio.sleep(0.1)
    assert {to for *_, to in media.network.sent[before + 1 :]} == {telephone.address}


@on_virtual_time
async def test_nothing_is_sent_before_it_is_known_where_to_and_time_goes_on(media: Media) -> None:
    telephone = await media.telephone()
    await asyncio.sleep(0.1)
    assert media.network.sent == []
    began = media.leg().sender._timestamp
    telephone.say_frame(bytes(160))
    await asyncio.sleep(0.1)
    first = telephone.received[0]
    assert first[3] - began in (0, 160)  # it listens 10 ms before or after it speaks
    assert began != 0


@on_virtual_time
async def test_it_latches_once_and_strangers_are_not_heard(media: Media) -> None:
    app = await media.app()
    telephone = await media.telephone()
    telephone.say_frame(bytes([255]) * 160)
    stranger = Telephone(media.network, telephone.port, ("203.0.113.66", 6666))
    for _ in range(5):  # in the queue before anything is read
        stranger.say_frame(g711.PCMU.encode(tone(1900, 0.02)).tobytes())
    await asyncio.gather(telephone.say(tone(500)), stranger.say(tone(1900)))
    heard = pcm.as_samples(app.heard())
    assert level(heard, 1900, 16_000) < -60
    assert level(heard[1600:], 500, 16_000) > -21
    assert stranger.received == []
    assert media.counts()["strangers"] == 6  # and the first of what it says then
    assert "lost" not in media.counts()


@on_virtual_time
async def test_only_valid_audio_decides_where_the_telephone_is(media: Media) -> None:
    telephone = await media.telephone()
    nobody = Telephone(media.network, telephone.port, ("203.0.113.66", 6666))
    for junk in (b"", b"\x80", bytes(200), nobody.packet(b""), nobody.packet(b"x" * 160, kind=34)):
        nobody.send(junk)
    telephone.say_frame(bytes(160))
    await asyncio.sleep(0.1)
    assert len(telephone.received) > 3
    assert nobody.received == []
    assert {name: media.counts()[name] for name in ("malformed", "other_types")} == {"malformed": 4, "other_types": 1}


@on_virtual_time
async def test_a_port_that_nobody_listens_at_costs_a_count(media: Media) -> None:
    telephone = await media.telephone()
    telephone.say_frame(bytes(160))
    await asyncio.sleep(0.05)
    media.network.sockets[telephone.port].refuses = True
    await asyncio.sleep(0.1)
    assert media.counts()["unreachable"] == media.counts()["unsent"] == 5
    media.network.sockets[telephone.port].refuses = False
    await telephone.say(tone(500, 0.2))
    assert media.counts()["unsent"] == 5
    assert media.faults() == [0]


# ------------------------------------------------------------------------------------------------ what is sent


@on_virtual_time
async def test_packets_are_numbered_in_a_row_and_the_first_is_marked(media: Media) -> None:
    telephone = await media.telephone(remote=PHONE)
    telephone.address = PHONE
    await asyncio.sleep(1.0)
    packets = telephone.received
    assert len(packets) in (49, 50, 51)
    assert [marker for _, marker, *_ in packets] == [True] + [False] * (len(packets) - 1)
    assert {(kind, ssrc) for kind, _, _, _, ssrc, _ in packets} == {(0, packets[0][4])}
    for before, after in itertools.pairwise(packets):
        assert (after[2] - before[2]) & 0xFFFF == 1
        assert (after[3] - before[3]) & 0xFFFFFFFF == 160


def test_no_two_legs_begin_alike() -> None:
    async def main() -> None:
        media = Media()
        telephones = [await media.telephone(str(n), remote=(PHONE[0], 4000 + 10 * (n + 1))) for n in range(20)]
        await asyncio.sleep(0.05)
        for field in (2, 3, 4):
            assert len({telephone.received[0][field] for telephone in telephones}) >= 19
        assert [telephone.port for telephone in telephones] != sorted(telephone.port for telephone in telephones)

    run(main())


# ------------------------------------------------------------------------------------------------ how it reads


@on_virtual_time
async def test_a_steady_stream_is_read_once_a_tick(media: Media) -> None:
    telephone = await media.telephone()
    await telephone.say(tone(500, 0.5))
    one = media.network.sockets[telephone.port]
    before = one.reads
    await telephone.say(tone(500, LOOK_EVERY * TICK_S * 2))
    assert one.reads - before <= 2 * LOOK_EVERY + 4  # and a look now and then
    assert "lost" not in media.counts()


@pytest.mark.parametrize("size", [80, 160, 240, 320, 480])
def test_packets_of_any_length_are_read_in_time(size: int) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app()
        telephone = await media.telephone()
        octets = g711.PCMU.encode(tone(500, 3.0)).tobytes()
        for at in range(0, len(octets), size):
            telephone.say_frame(octets[at : at + size])
            await asyncio.sleep(size / 8000)
        heard = pcm.as_samples(app.heard())[16_000:]
        assert abs(level(heard, 500, 16_000) + 20) < TOLERANCE
        assert abs(pcm.level(heard) + 20) < TOLERANCE  # without holes
        assert media.leg().receiver.jitter.delay_ms <= size / 8 + 20
        media.legs.close()
        await media.worker.close()

    run(main())


@on_virtual_time
async def test_a_burst_is_taken_as_soon_as_it_comes(media: Media) -> None:
    telephone = await media.telephone()
    await telephone.say(tone(500, 0.5))
    for _ in range(5):
        telephone.say_frame(bytes(160))
    await asyncio.sleep((LOOK_EVERY + 1) * TICK_S)
    assert not media.network.sockets[telephone.port]._queue


@on_virtual_time
async def test_a_flood_does_not_hold_a_tick(media: Media) -> None:
    telephone = await media.telephone()
    for _ in range(3 * DRAIN):
        telephone.send(b"flood")
    one = media.network.sockets[telephone.port]
    before = one.reads
    media.leg().receiver.poll(0.0)
    assert one.reads - before == DRAIN


@on_virtual_time
async def test_another_ssrc_is_another_stream(media: Media) -> None:
    app = await media.app()
    telephone = await media.telephone()
    await telephone.say(tone(500, 0.5))
    telephone.ssrc, telephone.sequence, telephone.timestamp = 0x9876, 17, 1_000_000
    await telephone.say(tone(1100, 1.0))
    assert abs(level(pcm.as_samples(app.heard())[-12_800:], 1100, 16_000) + 20) < TOLERANCE
    assert {"lost", "discarded", "late"}.isdisjoint(media.counts())


def test_ten_thousand_mutated_packets_hurt_nobody() -> None:
    async def main() -> None:
        media = Media()
        victim, other = await media.telephone(rtcp_mux=True), await media.telephone("other", "other call")
        victim.say_frame(bytes(160))
        await asyncio.sleep(TICK_S)
        leg, chance = media.leg().receiver, random.Random(4)
        report = rtcp.compose(victim.ssrc, "name", rtcp.Sent(1, 2, 3, 4), rtcp.Block(1, 2, 3, 4, 5, 6, 7))
        for number in range(10_000):
            kind = chance.choice([0, 0, 0x80, 101, 13])
            packet = bytearray(
                chance.choice([victim.packet(bytes(160), kind), victim.packet(b"\1\2\3\4", 101), report])
            )
            for _ in range(chance.randint(1, 4)):
                packet[chance.randrange(len(packet))] = chance.randrange(256)
            victim.send(bytes(packet[: chance.choice([len(packet), chance.randint(0, len(packet))])]))
            if number % 3 == 0:
                frame = leg.poll(number / 150)
                assert frame is None or len(frame) == 160
        await other.say(tone(500, 0.3))
        assert other.network.sockets[victim.port].closed is False
        assert sum(media.counts().values()) > 10_000
        assert [row.faults for slot in media.worker.plane.slots for rows in slot.calls.values() for row in rows] == [
            0,
            0,
        ]
        media.legs.close()
        await media.worker.close()

    run(main())


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=60), max_size=30))
def test_any_packets_at_all_are_borne(packets: list[bytes]) -> None:
    async def main() -> None:
        media = Media()
        telephone = await media.telephone(rtcp_mux=True)
        for packet in packets:
            telephone.send(packet)
        frame = media.leg().receiver.poll(0.0)
        assert frame is None or len(frame) == 160
        media.leg().report()
        await media.worker.close()

    run(main())


# ------------------------------------------------------------------------------------------------ digits


@on_virtual_time
async def test_digits_are_told_once_to_control_and_to_the_app(media: Media) -> None:
    app = await media.app()
    telephone = await media.telephone()
    await telephone.say(tone(500, 0.2))
    digits = DigitSender()
    digits.press("15#")
    for _ in range(30):
        packet = digits.next(telephone.timestamp)
        if packet is None:
            telephone.say_frame(bytes(160))
        else:
            telephone.send(telephone.packet(packet.payload, 101 | (0x80 if packet.marker else 0), packet.timestamp))
            telephone.timestamp += 160
        await asyncio.sleep(TICK_S)
    assert media.told(DigitsPressed) == [DigitsPressed("leg", tone) for tone in "15#"]
    assert sum(b"DtmfData" in message for _, message in app.messages) == 3
    await telephone.say(tone(500, 2.0))
    assert "lost" not in media.counts()  # The packets of the events were not missing.


@on_virtual_time
async def test_events_of_a_source_of_their_own_do_not_disturb_the_audio(media: Media) -> None:
    app = await media.app()
    telephone = await media.telephone()
    for number, frame in enumerate(np.split(g711.PCMU.encode(tone(500, 1.0)), 50)):
        telephone.say_frame(frame.tobytes())
        if number % 10 == 0:
            # … and then another one, whose time begins anew.
            header = HEADER.pack(
                0x80, 101, number, 77_000 + 1600 * number if number < 30 else number, 0x5555 + number // 30
            )
            telephone.send(header + bytes([number // 10, 0x8A, 3, 32]))
        await asyncio.sleep(TICK_S)
    assert [tiding.tones for tiding in media.told(DigitsPressed)] == ["0", "1", "2", "3", "4"]
    heard = pcm.as_samples(app.heard())[3200:-3200]
    assert abs(pcm.level(heard) + 20) < TOLERANCE


@on_virtual_time
async def test_digits_are_sent_in_the_place_of_audio(media: Media) -> None:
    telephone = await media.telephone(remote=PHONE)
    telephone.address = PHONE
    await asyncio.sleep(0.1)
    await media.order(SendDigits("leg", "7"))
    await asyncio.sleep(0.5)
    packets = telephone.received
    events = [packet for packet in packets if packet[0] == 101]
    assert [payload for *_, payload in events] == [
        bytes([7, 0x8A if tick >= 5 else 0x0A]) + (160 * min(tick, 5)).to_bytes(2, "big") for tick in range(1, 8)
    ]
    assert len({timestamp for _, _, _, timestamp, _, _ in events}) == 1
    at = packets.index(events[0])
    assert (events[0][3] - packets[at - 1][3]) & 0xFFFFFFFF == 160
    after = packets[at + 7]
    assert (after[0], after[1]) == (0, True)  # a talk spurt begins
    assert (after[3] - events[0][3]) & 0xFFFFFFFF == 7 * 160
    sequences = [packet[2] for packet in packets]
    assert all((b - a) & 0xFFFF == 1 for a, b in itertools.pairwise(sequences))


@on_virtual_time
async def test_that_digits_are_sent_is_told_when_the_last_packet_is_out(media: Media) -> None:
    telephone = await media.telephone(remote=PHONE)
    telephone.address = PHONE
    await media.order(SendDigits("leg", "12", "one"), SendDigits("leg", "3", "two"))
    while not media.told(DigitsSent):
        codes = [packet[5][0] for packet in telephone.received if packet[0] == 101]
        await asyncio.sleep(0.01)
    assert [code for code, _ in itertools.groupby(codes)] == [1, 2, 3]
    assert media.told(DigitsSent) == [DigitsSent("leg", "one"), DigitsSent("leg", "two")]


@on_virtual_time
async def test_digits_for_a_telephone_that_takes_none_are_dropped(media: Media) -> None:
    telephone = await media.telephone(remote=PHONE, dtmf_type=None)
    telephone.address = PHONE
    await media.order(SendDigits("leg", "7", "operation"))
    await asyncio.sleep(0.5)
    assert {packet[0] for packet in telephone.received} == {0}
    assert media.told(DigitsSent) == [DigitsSent("leg", "operation", NO_EVENTS)]


@on_virtual_time
async def test_more_digits_than_the_queue_holds_are_dropped(media: Media) -> None:
    telephone = await media.telephone(remote=PHONE)
    telephone.address = PHONE
    await media.order(SendDigits("leg", "7" * 101, "too many"), SendDigits("leg", "8", "few"))
    await asyncio.sleep(0.5)
    assert {packet[5][0] for packet in telephone.received if packet[0] == 101} == {8}
    assert [(sent.operation, bool(sent.failure)) for sent in media.told(DigitsSent)] == [
        ("too many", True), ("few", False),
    ]  # fmt: skip


@on_virtual_time
async def test_digits_that_signalling_tells_are_digits(media: Media) -> None:
    await media.telephone()
    await media.order(PressDigits("leg", "5#"))
    assert media.told(DigitsPressed) == [DigitsPressed("leg", "5#")]


# ------------------------------------------------------------------------------------------------ agreed on anew


@on_virtual_time
async def test_a_telephone_goes_over_into_another_call(media: Media) -> None:
    one, two, three = [await media.telephone(name) for name in ("one", "two", "three")]
    app = await media.app(call="there")
    await asyncio.gather(one.say(tone(500)), two.say(tone(1100)), three.say(tone(1900)))
    marks = {telephone.port: len(telephone.received) + 2 for telephone in (one, two, three)}
    await media.order(ReseatLeg("two", "there"))
    await asyncio.gather(one.say(tone(500)), two.say(tone(1100)), three.say(tone(1900)))
    assert level(one.heard(marks[one.port]), 1900) > -21
    assert level(one.heard(marks[one.port]), 1100) < -60
    assert not two.heard(marks[two.port]).any()
    assert abs(pcm.tone_level(pcm.as_samples(app.heard())[-12_000:], 1100, 16_000) + 20) < TOLERANCE


@on_virtual_time
async def test_another_codec_is_agreed_on_within_a_call(media: Media) -> None:
    one, two = await media.telephone("one"), await media.telephone("two")
    await asyncio.gather(one.say(tone(500)), two.say(tone(1100)))
    before = media.counts()
    mark = len(one.received)
    await media.order(AgreeRtp("one", "PCMA", 8, 101))
    one.codec = g711.PCMA
    await asyncio.gather(one.say(tone(500)), two.say(tone(1100)))
    assert {packet[0] for packet in one.received[mark + 2 :]} == {8}
    assert abs(level(one.heard(10), 1100) + 20) < TOLERANCE
    assert abs(level(two.heard(len(two.received) // 2 + 10), 500) + 20) < TOLERANCE
    await asyncio.sleep(0.04)  # A packet that is ahead of its tick waits in the kernel.
    after = media.counts()
    assert all(after[name] >= count for name, count in before.items())
    assert after["received"] == 200


@on_virtual_time
async def test_who_is_muted_stays_so_when_a_codec_is_agreed_on_while_nobody_else_is_there(media: Media) -> None:
    one = await media.telephone("one")
    await media.order(RouteParty("call", "4:one", muted=True))
    await media.order(AgreeRtp("one", "PCMA", 8, 101))
    one.codec = g711.PCMA
    two = await media.telephone("two")
    await asyncio.gather(one.say(tone(500)), two.say(tone(1100)))
    assert not two.heard().any()
    assert level(one.heard(), 1100) > -21


@on_virtual_time
async def test_a_telephone_may_send_from_elsewhere_when_that_was_agreed_on(media: Media) -> None:
    one, two = await media.telephone("one"), await media.telephone("two")
    await asyncio.gather(one.say(tone(500)), two.say(tone(1100)))
    elsewhere = ("203.0.113.9", 5000)
    await media.order(AgreeRtp("one", "PCMU", 0, 101, remote=elsewhere))
    one.address = elsewhere
    await asyncio.gather(one.say(tone(900)), two.say(tone(1100)))
    assert level(one.heard(), 1100) > -21
    assert level(two.heard(len(two.received) // 2 + 10), 900) > -21


@on_virtual_time
async def test_digits_end_when_it_was_agreed_on_that_there_are_none(media: Media) -> None:
    telephone = await media.telephone(remote=PHONE)
    telephone.address = PHONE
    await media.order(SendDigits("leg", "123", "operation"))
    await asyncio.sleep(0.1)
    await media.order(AgreeRtp("leg", "PCMU", 0, None))
    await asyncio.sleep(0.5)
    assert media.told(DigitsSent) == [DigitsSent("leg", "operation", NO_EVENTS)]
    assert media.faults() == [0]
    assert {packet[0] for packet in telephone.received[-20:]} == {0}


# ------------------------------------------------------------------------------------------------ RTCP, time-out


def reports(telephone: Telephone, port: int) -> list[rtcp.Report]:
    return [
        report
        for _, at, data, _ in telephone.network.sent
        if at == port and 192 <= data[1] < 224
        for report in rtcp.parse(data)
    ]


@pytest.mark.parametrize("mux", [False, True])
def test_reports_go_both_ways(mux: bool) -> None:
    async def main() -> None:
        media = Media()
        telephone = await media.telephone(rtcp_mux=mux)
        port = telephone.port if mux else telephone.port + 1
        frames = np.split(g711.PCMU.encode(tone(500, 20.0)), 1000)
        for number, frame in enumerate(frames):
            if number % 10:
                telephone.say_frame(frame.tobytes())
            else:  # lost
                telephone.sequence += 1
                telephone.timestamp += 160
            await asyncio.sleep(TICK_S)
            if number == 200:
                theirs = rtcp.Sent(rtcp.ntp(1_800_000_000.0), 0, 1, 1)
                packet = rtcp.compose(telephone.ssrc, "phone", theirs, None)
                media.network.sockets[port].arrive(packet, (telephone.address[0], telephone.address[1] + (not mux)))
            if number == 700:
                last = reports(telephone, port)[-1]
                assert last.sent is not None
                held = (
                    rtcp.ntp(1_800_000_000.0 + asyncio.get_running_loop().time() - 0.1) - last.sent.ntp >> 16
                    & rtcp.MIDDLE
                )
                block = rtcp.Block(last.source, 64, 7, 0, 80, rtcp.middle(last.sent.ntp), held)
                packet = rtcp.compose(telephone.ssrc, "phone", None, block)
                media.network.sockets[port].arrive(packet, (telephone.address[0], telephone.address[1] + (not mux)))
        await asyncio.sleep(2 * REPORT_S)
        _, second, *_, last = reports(telephone, port)
        ssrc = telephone.received[0][4]
        assert {one.source for one in reports(telephone, port)} == {ssrc}
        assert last.sent is not None
        assert 900 < last.sent.packets < 2000
        assert abs(last.sent.octets / 160 - last.sent.packets) < 1
        (block,) = last.blocks
        assert block.source == telephone.ssrc
        assert 92 <= block.lost <= 99  # the latest may still come
        assert 18 < second.blocks[0].fraction < 34  # of 256: 10 %
        assert block.last_report == rtcp.middle(rtcp.ntp(1_800_000_000.0))
        assert block.since_report > 6 * 65_536
        leg = media.leg()
        assert (leg.rtcp.remote_lost, leg.remote_jitter_ms) == (7, 10.0)
        assert abs(leg.rtcp.round_trip_ms - 100) <= 25
        assert media.counts()["reports"] == 2
        await media.order(EndLeg("leg", ""))
        assert [data[1] for _, at, data, _ in media.network.sent if at == port][-1] == rtcp.BYE

    run(main())


@on_virtual_time
async def test_reports_from_elsewhere_are_not_taken(media: Media) -> None:
    telephone = await media.telephone()
    telephone.say_frame(bytes(160))
    await asyncio.sleep(0.1)
    packet = rtcp.compose(1, "x", rtcp.Sent(1, 1, 1, 1), None)
    media.network.sockets[telephone.port + 1].arrive(packet, ("203.0.113.66", 6666))
    await asyncio.sleep(2 * REPORT_S)
    assert media.counts()["strangers"] == 1
    assert "reports" not in media.counts()


@on_virtual_time
async def test_reports_are_not_taken_before_it_is_known_where_the_telephone_is(media: Media) -> None:
    telephone = await media.telephone(rtcp_mux=True)
    telephone.send(rtcp.compose(1, "x", rtcp.Sent(1, 1, 1, 1), None), ("203.0.113.66", 6666))
    await asyncio.sleep(0.1)
    telephone.say_frame(bytes(160))
    telephone.send(rtcp.compose(1, "x", rtcp.Sent(1, 1, 1, 1), None))
    await asyncio.sleep(0.1)
    assert media.counts()["reports"] == 1


def test_a_telephone_that_falls_silent_is_gone_but_not_on_hold() -> None:
    async def main() -> None:
        media = Media(timeout_s=10.0)
        await media.open("waits")  # not in a call yet: may take its time
        silent, held = await media.telephone("silent"), await media.telephone("held")
        await asyncio.gather(silent.say(tone(500, 8.0)), held.say(tone(500, 8.0)))
        await media.order(HoldLeg("held", True))
        assert media.told(LegGone) == []
        await asyncio.sleep(10.0 + 3 * REPORT_S)
        assert media.told(LegGone) == [LegGone("silent", "no RTP came for 10 s")]
        assert media.network.sockets[silent.port].closed
        await asyncio.sleep(20.0)
        await media.order(HoldLeg("held", False))
        assert len(media.told(LegGone)) == 1
        await asyncio.sleep(10.0 + 3 * REPORT_S)
        assert [gone.leg for gone in media.told(LegGone)] == ["silent", "held"]
        media.legs.close()

    run(main())


@on_virtual_time
async def test_it_is_told_which_ways_audio_goes(media: Media) -> None:
    phone, held = await media.telephone("one"), await media.telephone("two")
    await asyncio.gather(phone.say(tone(500, 10.0)), held.say(tone(500, 10.0)))
    await media.order(HoldLeg("two", True))
    assert media.told(LegDirections) == []
    await asyncio.sleep(SILENT_S + 5 * REPORT_S)
    silent = media.told(LegDirections)
    assert set(silent) == {LegDirections("one", False, True)}
    assert len(silent) > 1, "a control process that has come meanwhile has to know, too"
    await phone.say(tone(500, 3 * REPORT_S))
    assert media.told(LegDirections)[len(silent) :] == [LegDirections("one", True, True)]


@on_virtual_time
async def test_it_is_told_that_nobody_takes_audio(media: Media) -> None:
    phone = await media.telephone("one")
    phone.say_frame(bytes(160))
    await media.order(HoldLeg("one", True))  # whether it is heard is another matter
    media.network.sockets[phone.port].refuses = True
    await asyncio.sleep(2 * REPORT_S)
    assert set(media.told(LegDirections)) == {LegDirections("one", True, False)}
    media.network.sockets[phone.port].refuses = False
    await asyncio.sleep(4 * REPORT_S)
    assert media.told(LegDirections)[-1] == LegDirections("one", True, True)


@on_virtual_time
async def test_a_telephone_without_rtcp_takes_audio(media: Media) -> None:
    phone = await media.telephone("one")
    phone.say_frame(bytes(160))
    await media.order(HoldLeg("one", True))
    media.network.sockets[phone.port + 1].refuses = True
    await asyncio.sleep(4 * REPORT_S)
    assert media.counts()["unreachable"] > 1
    assert media.told(LegDirections) == []


def test_a_telephone_that_never_says_anything_is_gone() -> None:
    async def main() -> None:
        media = Media(timeout_s=10.0)
        await asyncio.sleep(1000)  # The machine was not started this moment.
        await media.telephone()
        await asyncio.sleep(9.9)
        assert not media.told(LegGone)
        await asyncio.sleep(3 * REPORT_S)
        assert len(media.told(LegGone)) == 1

    run(main())


@on_virtual_time
async def test_figures_add_up_over_legs_and_never_fall(media: Media) -> None:
    one, two = await media.telephone("one"), await media.telephone("two", "another call")
    await asyncio.gather(one.say(tone(500, 0.5)), two.say(tone(500, 0.5)))
    await asyncio.sleep(1)
    counts, gauges = media.figures()
    assert set(counts) == {f"rtp_{name}" for name in COUNTS}
    assert set(gauges) == {f"rtp_{name}_max" for name in GAUGES}
    assert counts["rtp_received"] == 50
    assert 80 <= counts["rtp_concealed_ms"] <= 200
    await media.order(EndLeg("one", ""))
    assert media.figures()[0] == {**counts}
    await media.order(EndLeg("two", ""))
    assert media.figures() == (counts, {})


# ------------------------------------------------------------------------------------------------ slots


@pytest.mark.parametrize("phase_ms", [0.5, 3.2, 7.7, 11.0, 15.1, 19.9])
def test_a_call_is_ticked_right_after_its_packets_arrive(phase_ms: float) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app()
        telephone = await media.telephone()
        await at_phase(phase_ms / 1000)
        await telephone.say(tone(500, 2.0))
        wait = (media.slot() * TICK_S / SLOTS - phase_ms / 1000) % TICK_S
        assert MARGIN_S <= wait <= MARGIN_S + TICK_S / SLOTS + 1e-9
        heard = pcm.as_samples(app.heard())[8000:]
        assert abs(pcm.level(heard) + 20) < TOLERANCE
        media.legs.close()
        await media.worker.close()

    run(main())


@on_virtual_time
async def test_a_call_stays_in_a_slot_that_is_still_good(media: Media) -> None:
    telephone = await media.telephone()
    await at_phase(0.0005)
    await telephone.say(tone(500, 1.0))
    slot = best_slot(0.0005, None)
    assert media.slot() == slot
    later = slot * TICK_S / SLOTS - TOO_LONG_S + 0.001
    assert best_slot(later, None) != slot
    await at_phase(later)
    await telephone.say(tone(500, 10.0))
    assert media.slot() == slot


def test_a_call_follows_packets_that_drift_and_the_audio_has_no_holes() -> None:
    async def main() -> None:
        media = Media()
        app = await media.app()
        telephone = await media.telephone()
        await asyncio.sleep(0.0115)
        await telephone.say(tone(500, 1.0))
        first = media.slot()
        await telephone.say(tone(500, 20.0), every=TICK_S * 1.0006)  # 12 ms
        assert media.slot() != first
        wait = (media.slot() * TICK_S / SLOTS - asyncio.get_running_loop().time()) % TICK_S
        assert wait < 0.012
        heard = pcm.as_samples(app.heard())[8000:]
        assert abs(pcm.level(heard) + 20) < TOLERANCE
        media.legs.close()
        await media.worker.close()

    run(main())


@on_virtual_time
async def test_of_two_telephones_in_a_call_the_first_decides(media: Media) -> None:
    one, two = await media.telephone("one"), await media.telephone("two")
    await at_phase(0.0013)
    slots: list[int] = []

    async def later() -> None:
        await at_phase(0.0113)
        await two.say(tone(500, 12.0))

    async def look() -> None:
        for _ in range(12):
            await asyncio.sleep(1.0)
            slots.append(media.slot())

    await asyncio.gather(one.say(tone(500, 12.0)), later(), look())
    assert set(slots) == {best_slot(0.0013, None)}
    await media.order(EndLeg("one", ""))
    await at_phase(0.0113)
    await two.say(tone(500, WATCH_EVERY * 1.5 * REPORT_S + 1))  # at the latest then it is looked again
    assert media.slot() == best_slot(0.0113, None) != slots[0]  # It is the other's turn.


@on_virtual_time
async def test_a_slot_does_not_take_every_call(media: Media) -> None:
    slots = media.worker.plane.slots
    slots[0].rows += 1000
    telephones = [await media.telephone(str(number), f"call {number}") for number in range(5)]
    before = [slot.rows for slot in slots]
    await at_phase(0.0155)  # to be in slot 0, if that were not so full
    assert best_slot(0.0155, None) == 0
    await asyncio.gather(*(telephone.say(tone(500, 0.3)) for telephone in telephones))
    assert [slot.rows for slot in slots] == before
    slots[0].rows -= 1000


@on_virtual_time
async def test_packets_without_a_phase_move_nothing(media: Media) -> None:
    telephone = await media.telephone()
    before = media.slot()
    await asyncio.sleep(0.011)
    for _ in range(10 * WATCHED):
        telephone.say_frame(bytes(240))
        await asyncio.sleep(0.030)
    assert media.slot() == before
