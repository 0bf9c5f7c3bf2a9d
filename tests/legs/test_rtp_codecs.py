"""RTP legs of every codec, packet duration and clock, with silences in between."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.audio.libopus import EVERY_CODEC, needs_opus
from tests.legs.rtp_scene import HOST, PHONE, Media, Telephone, on_virtual_time

from offhook.audio import opus, pcm
from offhook.legs import codecs, rtcp
from offhook.legs.codecs import Coding
from offhook.media.clock import TICK_S
from offhook.media.link import AgreeRtp, ConnectLeg, OpenRtp, SendDigits
from offhook.media.tidings import DigitsPressed, LegGone, LegJoined, RtpOpened
from offhook.testing.clock import run

TYPES = {"PCMU": 0, "PCMA": 8, "G722": 9, "opus": 107}
NOISE = 13
TOLERANCE = 1.0  # dB
LEVEL = -10.5  # dBFS: 0.3 of full scale


@dataclass
class Coded:
    """A telephone that speaks any codec, at 16 kHz where the codec leaves the choice."""

    telephone: Telephone
    name: str
    type: int = -1
    coding: Coding = field(init=False)

    def __post_init__(self) -> None:
        self.coding = codecs.coding(self.name, 16_000, "useinbandfec=1")
        self.type = TYPES[self.name] if self.type < 0 else self.type
        self.heard_from = 0

    @property
    def rate(self) -> int:
        return self.coding.rate

    def payload(self, samples: pcm.Samples) -> bytes:
        encode = self.coding.encode
        return self.coding.decoder.line(samples) if encode is None else encode(samples.tobytes())

    def skip(self, ms: int) -> None:
        """Say nothing for a while: its clock goes on."""
        self.telephone.timestamp += self.coding.decoder.clock * ms // 1000

    def say_packet(self, payload: bytes, ms: int, type: int = -1, lost: bool = False) -> None:
        packet = self.telephone.packet(payload, self.type if type < 0 else type)
        if not lost:
            self.telephone.send(packet)
        self.skip(ms)

    async def say(self, samples: pcm.Samples, ms: int = 20) -> None:
        for piece in self.pieces(samples, ms):
            self.say_packet(self.payload(piece), ms)
            await asyncio.sleep(ms / 1000)

    def pieces(self, samples: pcm.Samples, ms: int = 20) -> list[pcm.Samples]:
        size = self.rate * ms // 1000
        return [samples[at : at + size] for at in range(0, len(samples), size)]

    def tone(self, hz: float, seconds: float = 1.0) -> pcm.Samples:
        return pcm.tone(hz, self.rate, seconds, LEVEL)

    def packets(self) -> list[tuple[int, bool, int, int, int, bytes]]:
        return self.telephone.received[self.heard_from :]

    def heard(self, type: int = -1) -> pcm.Samples:
        """All that it was sent since `heard_from`."""
        wanted = self.type if type < 0 else type
        payloads = [payload for kind, *_, payload in self.packets() if kind == wanted]
        return self.coding.decoder.samples(b"".join(map(self.coding.decoder.open, payloads)))

    def hears(self, hz: float) -> float:
        """The level of a tone in the last half second."""
        return pcm.tone_level(self.heard()[-self.rate // 2 :], hz, self.rate)


async def coded(media: Media, name: str, leg: str = "leg", **agreed: object) -> Coded:
    telephone = await media.telephone(leg, remote=PHONE)
    telephone.address = PHONE
    one = Coded(telephone, name)
    await media.order(AgreeRtp(leg, name, one.type, 101, **agreed))  # type: ignore[arg-type]
    one.heard_from = len(telephone.received) + 2
    return one


def app_hears(samples: pcm.Samples, hz: float, rate: int) -> float:
    return pcm.tone_level(samples[-rate // 2 :], hz, rate)


# ------------------------------------------------------------------------------------------------ levels


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("name", EVERY_CODEC)
def test_440_hz_is_440_hz_at_the_same_level_both_ways(name: str, rate: int) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app(rate=rate)
        phone = await coded(media, name)
        app.say(pcm.tone(440, rate, 2.0, LEVEL).tobytes())
        await phone.say(phone.tone(440))
        assert abs(phone.hears(440) - LEVEL) < TOLERANCE
        at_app = pcm.as_samples(app.heard())
        assert abs(app_hears(at_app, 440, rate) - LEVEL) < TOLERANCE
        assert len(at_app) >= 0.98 * rate  # 50 frames a second
        assert media.faults() == [0, 0]
        assert {"lost", "discarded", "late", "malformed"}.isdisjoint(media.counts())
        media.legs.close()
        await media.worker.close()

    run(main())


@needs_opus
@on_virtual_time
async def test_telephones_of_different_codecs_hear_each_other(media: Media) -> None:
    phones = []
    for number, name in enumerate(codecs.NAMES):
        telephone = await media.telephone(name, remote=(PHONE[0], 5000 + number))
        telephone.address = (PHONE[0], 5000 + number)
        phones.append(Coded(telephone, name))
        await media.order(AgreeRtp(name, name, TYPES[name], 101))
    for phone in phones:
        phone.heard_from = len(phone.telephone.received) + 2
    own = dict(zip(codecs.NAMES, (500, 900, 1300, 1700), strict=True))
    await asyncio.gather(*(phone.say(pcm.tone(own[phone.name], phone.rate, 1.0, -20)) for phone in phones))
    for phone in phones:
        for name, hz in own.items():
            assert phone.hears(hz) < -45 if name == phone.name else abs(phone.hears(hz) + 20) < TOLERANCE


@needs_opus
@on_virtual_time
async def test_opus_takes_the_rate_that_the_call_is_mixed_at(media: Media) -> None:
    phone = await coded(media, "opus")
    await phone.say(phone.tone(440, 0.5))
    leg = media.leg()
    assert leg.row is not None
    assert leg.row.rate == 16_000
    app = await media.app(rate=24_000)
    await phone.say(phone.tone(440))
    assert leg.row.rate == 24_000
    assert abs(app_hears(pcm.as_samples(app.heard()), 440, 24_000) - LEVEL) < TOLERANCE
    assert media.faults() == [0, 0]


# ------------------------------------------------------------------------------------------------ packet durations


@pytest.mark.parametrize(
    ("name", "ms"),
    [
        *itertools.product(("PCMU", "PCMA", "G722"), (10, 20, 30, 40, 50, 60)),
        *(pytest.param("opus", ms, marks=needs_opus) for ms in (10, 20, 40, 60)),
    ],
)
def test_packets_of_any_duration_are_heard(name: str, ms: int) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app()
        phone = await coded(media, name)
        await phone.say(phone.tone(440, 3.0), ms)
        heard = pcm.as_samples(app.heard())
        assert abs(pcm.level(heard[-16_000:]) - LEVEL) < TOLERANCE  # without holes
        assert abs(app_hears(heard, 440, 16_000) - LEVEL) < TOLERANCE
        assert media.leg().receiver.jitter.delay_ms <= ms + 20
        media.legs.close()
        await media.worker.close()

    run(main())


@pytest.mark.parametrize("ms", [10, 20, 30, 40, 50, 60])
@pytest.mark.parametrize("name", EVERY_CODEC)
def test_packets_are_sent_as_long_as_they_are_wanted(name: str, ms: int) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app()
        phone = await coded(media, name, ptime_ms=ms)
        app.say(pcm.tone(440, 16_000, 3.0, LEVEL).tobytes())
        await asyncio.sleep(2.0)
        packets = phone.packets()
        got = phone.coding.packet_ms(ms)
        assert {phone.coding.decoder.duration(packet[5]) for packet in packets} == {8 * got}
        assert len(packets) == pytest.approx(1960 / got, abs=2)
        for before, after in itertools.pairwise(packets):
            assert (after[2] - before[2]) & 0xFFFF == 1
            assert (after[3] - before[3]) & 0xFFFFFFFF == phone.coding.decoder.clock * got // 1000
        assert abs(phone.hears(440) - LEVEL) < TOLERANCE
        media.legs.close()
        await media.worker.close()

    run(main())


# ------------------------------------------------------------------------------------------------ digits


@needs_opus
@pytest.mark.parametrize(("clock", "tick"), [(48_000, 960), (8000, 160)])
def test_digits_are_sent_with_the_clock_of_their_own_payload(clock: int, tick: int) -> None:
    async def main() -> None:
        media = Media()
        phone = await coded(media, "opus", dtmf_rate=clock, ptime_ms=40)
        phone.heard_from = 0
        await media.order(SendDigits("leg", "7"))
        await asyncio.sleep(0.5)
        events = [packet for packet in phone.packets() if packet[0] == 101]
        durations = [int.from_bytes(payload[2:4], "big") for *_, payload in events]
        assert durations == [tick * min(number, 5) for number in range(1, 8)]
        assert len({timestamp for _, _, _, timestamp, _, _ in events}) == 1
        after = phone.packets()[phone.packets().index(events[-1]) + 1]
        assert after[1]  # a talk spurt begins …
        assert (after[3] - events[0][3]) & 0xFFFFFFFF == 7 * 960  # … with nothing of what was before
        media.legs.close()
        await media.worker.close()

    run(main())


@needs_opus
@on_virtual_time
async def test_types_of_the_two_directions_may_differ(media: Media) -> None:
    app = await media.app()
    phone = await coded(media, "opus", receive_type=111, receive_dtmf_type=96)
    phone.heard_from = 0
    phone.type = 111
    await phone.say(phone.tone(440))
    phone.say_packet(bytes([5, 0x8A, 3, 32]), 20, type=96)
    await asyncio.sleep(0.1)
    assert abs(app_hears(pcm.as_samples(app.heard())[:-1600], 440, 16_000) - LEVEL) < TOLERANCE
    assert media.told(DigitsPressed) == [DigitsPressed("leg", "5")]
    assert {packet[0] for packet in phone.packets()} <= {0, 107}


# ------------------------------------------------------------------------------------------------ silences


@pytest.mark.parametrize("name", ["PCMU", "PCMA", "G722"])
def test_in_the_gaps_of_a_silence_there_is_noise_at_the_told_level(name: str) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app()
        phone = await coded(media, name)
        await phone.say(phone.tone(440))
        phone.say_packet(bytes([50]), 20, type=NOISE)
        await asyncio.sleep(3.0)
        phone.skip(2980)
        silence = pcm.as_samples(app.heard())[-32_000:]
        frames = silence.reshape(-1, 320)
        levels = [pcm.level(frame) for frame in frames]
        # What is above 4 kHz is missing where the codec has none.
        assert -50.5 < min(levels) <= max(levels) < -44
        await phone.say(phone.tone(440))
        counts = media.counts()
        assert {"lost", "late", "discarded", "other_types"}.isdisjoint(counts)
        ms, _ = media.figures()
        assert ms["rtp_silent_ms"] == 0
        assert ms["rtp_concealed_ms"] <= 20
        assert 2900 <= ms["rtp_noise_ms"] <= 3100
        heard = pcm.as_samples(app.heard())
        assert len(heard) >= 16_000 * 4.9
        assert abs(app_hears(heard, 440, 16_000) - LEVEL) < TOLERANCE
        assert media.leg().receiver.jitter.delay_ms <= 40
        media.legs.close()
        await media.worker.close()

    run(main())


@needs_opus
@on_virtual_time
async def test_opus_that_falls_silent_is_not_lost(media: Media) -> None:
    app = await media.app()
    phone = await coded(media, "opus")
    chance = np.random.default_rng(2)
    room = np.rint(chance.normal(0, 60, 16_000)).astype(np.int16)  # what the microphone hears then
    await phone.say(phone.tone(440) + room)
    await phone.say(room)
    last = phone.payload(room[:320])
    for _ in range(7):  # DTX: only the first octet of a packet every 400 ms
        phone.say_packet(last[:1], 20)
        await asyncio.sleep(0.4)
        phone.skip(380)
    heard = pcm.as_samples(app.heard())
    assert len(heard) >= 16_000 * 4.7
    assert -75 < pcm.level(heard[-16_000:]) < -40
    ms, _ = media.figures()
    assert ms["rtp_silent_ms"] == 0
    assert ms["rtp_concealed_ms"] <= 20
    assert ms["rtp_noise_ms"] > 2000
    await phone.say(phone.tone(440))
    assert abs(app_hears(pcm.as_samples(app.heard()), 440, 16_000) - LEVEL) < TOLERANCE
    assert {"lost", "late", "discarded"}.isdisjoint(media.counts())


@pytest.mark.parametrize("name", EVERY_CODEC)
def test_a_telephone_that_just_stops_for_a_while_has_lost_nothing(name: str) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app()
        phone = await coded(media, name)
        await phone.say(phone.tone(440))
        await asyncio.sleep(1.0)
        phone.skip(1000)
        assert pcm.level(pcm.as_samples(app.heard())[-8000:]) < -60
        await phone.say(phone.tone(440))
        heard = pcm.as_samples(app.heard())
        assert len(heard) >= 16_000 * 2.9
        assert abs(app_hears(heard, 440, 16_000) - LEVEL) < TOLERANCE
        assert {"lost", "late", "discarded"}.isdisjoint(media.counts())
        media.legs.close()
        await media.worker.close()

    run(main())


def test_a_silent_telephone_is_there_as_long_as_it_reports() -> None:
    async def main() -> None:
        media = Media(timeout_s=10.0)
        phone = await coded(media, "PCMU", rtcp_mux=True)
        await phone.say(phone.tone(440, 0.5))
        phone.say_packet(bytes([60]), 20, type=NOISE)
        for _ in range(10):
            phone.telephone.send(rtcp.compose(phone.telephone.ssrc, "phone", None, None))
            await asyncio.sleep(5)
        assert media.told(LegGone) == []
        await asyncio.sleep(30)
        assert media.told(LegGone) == [LegGone("leg", "no RTP came for 10 s")]

    run(main())


# ------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("name", EVERY_CODEC)
def test_losses_are_made_up(name: str) -> None:
    async def main() -> None:
        media = Media()
        app = await media.app()
        phone = await coded(media, name)
        for number, piece in enumerate(phone.pieces(phone.tone(400, 3.0))):
            phone.say_packet(phone.payload(piece), 20, lost=number % 20 == 19)
            await asyncio.sleep(TICK_S)
        heard = pcm.as_samples(app.heard())
        assert len(heard) >= 2.9 * 16_000
        frames = heard[16_000:][: 16_000 * 19 // 10].reshape(-1, 320)
        assert min(map(pcm.level, frames)) > LEVEL - 10  # no holes
        ms, _ = media.figures()
        assert 100 <= ms["rtp_concealed_ms"] <= 200
        media.legs.close()
        await media.worker.close()

    run(main())


@needs_opus
@on_virtual_time
async def test_a_packet_that_the_next_one_says_again_is_not_made_up(media: Media) -> None:
    phone = await coded(media, "opus")
    leg = media.leg().receiver
    at = np.arange(32_000) / 16_000
    vowel = sum(np.sin(2 * np.pi * 125 * n * at + n * n) / n for n in range(1, 12))
    sound = np.rint(3000 * vowel * (1 + 0.5 * np.sin(2 * np.pi * 3 * at))).astype(np.int16)
    waiting: list[tuple[bytes, bool]] = []
    for number, piece in enumerate(phone.pieces(sound)):
        waiting.append((phone.payload(piece), number % 10 == 9))
        if number % 3 == 2:  # three packets at a time: the network has jitter, so there is a delay
            for payload, lost in waiting:
                phone.say_packet(payload, 20, lost=lost)
            waiting.clear()
        await asyncio.sleep(TICK_S)
    counts = leg.jitter.counts
    assert counts.recovered_ms >= 60
    assert counts.concealed_ms < 100


# ------------------------------------------------------------------------------------------------ changes


@needs_opus
@on_virtual_time
async def test_the_codec_changes_within_a_call(media: Media) -> None:
    app = await media.app()
    app.say(pcm.tone(700, 16_000, 20.0, LEVEL).tobytes())
    phone = await coded(media, "PCMU")
    for name in ("opus", "G722", "PCMA", "opus", "PCMU"):
        one = Coded(phone.telephone, name)
        await media.order(AgreeRtp("leg", name, one.type, 101))
        one.heard_from = len(one.telephone.received) + 2
        await one.say(one.tone(440))
        assert {packet[0] for packet in one.packets()} == {one.type}
        assert abs(one.hears(700) - LEVEL) < TOLERANCE
        assert abs(app_hears(pcm.as_samples(app.heard()), 440, 16_000) - LEVEL) < TOLERANCE
        assert media.leg().codec == name
    assert media.faults() == [0, 0]


@on_virtual_time
async def test_what_is_agreed_on_again_changes_nothing(media: Media) -> None:
    phone = await coded(media, "G722")
    await phone.say(phone.tone(440, 0.5))
    leg = media.leg()
    row, before = leg.row, media.counts()["received"]
    await media.order(AgreeRtp("leg", "G722", 9, 101, held=True), AgreeRtp("leg", "G722", 9, 101))
    assert leg.row is row
    await phone.say(phone.tone(440, 0.5))
    assert media.counts()["received"] == before + 25
    assert leg.receiver.jitter.counts.concealed_ms == 0


@pytest.mark.parametrize("name", EVERY_CODEC)
def test_a_leg_can_be_opened_with_any_codec(name: str) -> None:
    async def main() -> None:
        media = Media()
        await media.order(OpenRtp("leg", name, TYPES[name], HOST), ConnectLeg("leg", "call", "4:leg"))
        assert [type(tiding) for tiding in media.tidings] == [RtpOpened, LegJoined]

    run(main())


def test_a_codec_that_cannot_be_spoken_ends_the_leg(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        media = Media()
        await media.telephone()
        monkeypatch.setattr(opus, "missing", lambda: "no library")
        await media.order(AgreeRtp("leg", "opus", 107))
        (gone,) = media.told(LegGone)
        assert gone.reason == "its audio could not be changed: codec opus: no library"
        assert all(one.closed for one in media.network.sockets.values())

    run(main())


# ------------------------------------------------------------------------------------------------ junk


@pytest.mark.parametrize("name", EVERY_CODEC)
def test_mutated_packets_hurt_nobody(name: str) -> None:
    async def main() -> None:
        media = Media()
        phone, other = await coded(media, name), await media.telephone("other", "other call")
        await phone.say(phone.tone(440, 0.1))
        payloads = [phone.payload(piece) for piece in phone.pieces(phone.tone(440, 0.5))]
        source, chance = media.leg().receiver, random.Random(4)
        full = pcm.bytes_per_frame(phone.rate) if phone.coding.decoder.stateful else 160
        for number in range(2000):
            packet = bytearray(phone.telephone.packet(chance.choice(payloads), chance.choice([phone.type, NOISE, 101])))
            phone.skip(20)
            for _ in range(chance.randint(0, 4)):
                packet[chance.randrange(len(packet))] = chance.randrange(256)
            phone.telephone.send(bytes(packet[: chance.choice([len(packet), chance.randint(0, len(packet))])]))
            if number % 2 == 0:
                frame = source.poll(number / 100)
                assert frame is None or len(frame) == full
        await other.say(pcm.tone(500, 8000, 0.3))
        assert media.faults() == [0, 0]
        media.legs.close()
        await media.worker.close()

    run(main())
