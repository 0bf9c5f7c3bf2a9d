"""Who hears whom, at what level: the media plane without sockets, loop or clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

import numpy as np
import pytest

from offhook.audio import g711, pcm
from offhook.media.plane import FILL, FILLING, SLOTS, Plane, Row
from offhook.wire import streaming, websocket

TOLERANCE = 0.3  # dB


class Party:
    """Source and Sink of a row: says `frames`, then nothing; keeps what it hears."""

    def __init__(self, frames: Iterable[bytes | None] = ()) -> None:
        self._frames: Iterator[bytes | None] = chain(frames, repeat(None))
        self.heard: list[bytes] = []  # frames, or what messages say

    def poll(self, now: float) -> bytes | None:
        return next(self._frames)

    def send(self, data: bytes | memoryview) -> None:
        self.heard.append(websocket.payload_of(data) if isinstance(data, memoryview) else data)

    def messages(self) -> list[streaming.AudioData]:
        """What a stream was sent."""
        parsed = [streaming.parse_from_server(message) for message in self.heard]
        assert all(isinstance(message, streaming.AudioData) for message in parsed)
        return [message for message in parsed if isinstance(message, streaming.AudioData)]

    def pcm(self, speaker: str | None = None) -> bytes:
        """The audio that a stream was sent; of one participant when it is unmixed."""
        return b"".join(message.pcm for message in self.messages() if message.participant_raw_id == speaker)


class Broken(Party):
    """Raises at every turn."""

    def poll(self, now: float) -> bytes | None:
        raise OSError("broken")

    def send(self, data: bytes | memoryview) -> None:
        raise OSError("broken")


def cut(samples: pcm.Samples | bytes, rate: int) -> list[bytes]:
    data = samples if isinstance(samples, bytes) else samples.tobytes()
    size = pcm.bytes_per_frame(rate)
    return [data[at : at + size] for at in range(0, len(data), size)]


def sine(hz: float, rate: int, seconds: float = 1.0, dbfs: float = -20.0) -> Party:
    return Party(cut(pcm.tone(hz, rate, seconds, dbfs), rate))


def run(plane: Plane, ticks: int, start: int = 0) -> None:
    for tick in range(start, start + ticks):
        for slot in range(SLOTS):
            plane.tick(slot, tick * 0.020)


def join(
    plane: Plane,
    party: Party,
    rate: int,
    name: str = "",
    *,
    call: str = "",
    stream: bool = False,
    unmixed: bool = False,
) -> Row:
    row = Row(call, name, rate, party, party, stream, unmixed)
    plane.add(row)
    return row


def level(data: bytes, hz: float, rate: int) -> float:
    """The level of a tone, without the first 100 ms, in which filters start up."""
    return pcm.tone_level(pcm.as_samples(data)[rate // 10 :], hz, rate)


# ------------------------------------------------------------------------------------------------ who hears whom

TONES = {"ann": 500, "ben": 700, "cat": 1100, "app a": 1500, "app b": 1900}
LEVELS = {"ann": -20.0, "ben": -26.0, "cat": -23.0, "app a": -30.0, "app b": -20.0}


@pytest.mark.parametrize(("rate_a", "rate_b"), [(16_000, 16_000), (16_000, 24_000), (24_000, 16_000)])
@pytest.mark.parametrize("rates", [(8000, 16_000, 48_000), (24_000, 8000, 16_000)])
def test_everybody_hears_everybody_else_and_nobody_hears_themselves(
    rates: tuple[int, int, int], rate_a: int, rate_b: int
) -> None:
    rate_of = dict(zip(TONES, (*rates, rate_a, rate_b), strict=True))
    party = {name: sine(TONES[name], rate_of[name], dbfs=LEVELS[name]) for name in TONES}
    plane = Plane(0.0)
    for name in ("ann", "ben", "cat"):
        join(plane, party[name], rate_of[name], name)
    join(plane, party["app a"], rate_a, "app a", stream=True)
    join(plane, party["app b"], rate_b, "app b", stream=True, unmixed=True)
    run(plane, 50)

    for hearer in ("ann", "ben", "cat", "app a"):
        heard = party[hearer].pcm() if hearer == "app a" else b"".join(party[hearer].heard)
        assert len(heard) == 2 * rate_of[hearer]
        for speaker, hz in TONES.items():
            found = level(heard, hz, rate_of[hearer])
            if speaker == hearer:
                assert found < -70, (hearer, speaker)
            else:
                assert abs(found - LEVELS[speaker]) < TOLERANCE, (hearer, speaker)
    for speaker in ("ann", "ben", "cat", "app a"):
        heard = party["app b"].pcm(speaker)
        assert len(heard) == 2 * rate_b
        for other, hz in TONES.items():
            found = level(heard, hz, rate_b)
            assert abs(found - LEVELS[speaker]) < TOLERANCE if other == speaker else found < -70, (speaker, other)
    assert party["app b"].pcm("app b") == b""


def test_an_unmixed_stream_gets_one_frame_of_each_participant_in_each_tick_silence_included() -> None:
    plane, app = Plane(0.0), Party()
    join(plane, sine(500, 16_000, 0.1), 16_000, "4:+15550100")
    join(plane, Party(), 8000, "4:+15550101")
    join(plane, Party(), 24_000, "8:acs:other-app", stream=True)
    join(plane, app, 16_000, "8:acs:app", stream=True, unmixed=True)
    run(plane, 20)
    named = [message.participant_raw_id for message in app.messages()]
    assert named == ["4:+15550100", "4:+15550101", "8:acs:other-app"] * 20
    assert b'"participantRawID":"4:+15550100"' in app.heard[0]


def test_a_mixed_stream_has_no_participant_and_one_frame_a_tick() -> None:
    plane, app = Plane(0.0), Party()
    join(plane, sine(500, 16_000), 16_000, "4:+15550100")
    join(plane, sine(700, 16_000), 16_000, "4:+15550101")
    join(plane, app, 16_000, "8:acs:app", stream=True)
    run(plane, 20)
    assert len(app.heard) == 20
    assert not any(b"participantRawID" in message for message in app.heard)


def test_calls_do_not_hear_each_other() -> None:
    plane, parties = Plane(0.0), {}
    for number in range(2 * SLOTS + 1):
        call = f"call {number}"
        parties[call] = (sine(300 + 100 * number, 8000), Party())
        join(plane, parties[call][0], 8000, call=call)
        join(plane, parties[call][1], 16_000, call=call, stream=True)
    run(plane, 50)
    for number, (_, app) in enumerate(parties.values()):
        heard = pcm.as_samples(app.pcm())[1600:]
        own = pcm.tone_level(heard, 300 + 100 * number, 16_000)
        assert abs(own + 20) < TOLERANCE
        assert abs(pcm.level(heard) - own) < 0.01  # and nothing else


def test_a_party_alone_hears_silence() -> None:
    plane, alone = Plane(0.0), sine(500, 8000)
    join(plane, alone, 8000)
    run(plane, 5)
    assert alone.heard == [bytes(320)] * 5


def test_a_mix_that_is_too_loud_is_clipped_not_wrapped() -> None:
    plane, hearer = Plane(0.0), Party()
    loud, louder = np.full(320, 30_000, np.int16).tobytes(), np.full(320, -30_000, np.int16).tobytes()
    join(plane, Party([loud, louder]), 16_000)
    join(plane, Party([loud, louder]), 16_000)
    join(plane, hearer, 16_000)
    run(plane, 2)
    assert [set(pcm.as_samples(frame)) for frame in hearer.heard] == [{32_767}, {-32_768}]


# ------------------------------------------------------------------------------------------------ bit for bit


@pytest.mark.parametrize("unmixed", [False, True])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_caller_at_the_streams_rate_is_carried_bit_for_bit(rate: int, unmixed: bool) -> None:
    noise = np.random.default_rng(3).integers(-32_768, 32_767, rate, np.int16)
    plane, app, caller = Plane(0.0), Party(), Party(cut(noise, rate))
    join(plane, caller, rate, "caller")
    join(plane, app, rate, "app", stream=True, unmixed=unmixed)
    run(plane, 50)
    assert app.pcm("caller" if unmixed else None) == noise.tobytes()


def test_an_app_at_the_callers_rate_is_heard_bit_for_bit() -> None:
    noise = np.random.default_rng(4).integers(-32_768, 32_767, 24_000, np.int16)
    plane, caller = Plane(0.0), Party()
    join(plane, caller, 24_000)
    join(plane, Party(cut(noise, 24_000)), 24_000, stream=True)
    run(plane, 50)
    assert b"".join(caller.heard) == noise.tobytes()


def test_rows_that_come_and_go_leave_no_gap_in_the_others() -> None:
    quiet = Plane(0.0)
    busy = Plane(0.0)
    apps = []
    for plane in (quiet, busy):
        app = Party()
        apps.append(app)
        join(plane, sine(500, 8000), 8000, "caller", call="call")
        join(plane, app, 24_000, "app", call="call", stream=True)
    visitors = []
    for tick in range(50):
        if tick % 3 == 0:
            visitors.append(join(busy, Party(), (8000, 16_000, 24_000)[tick % 9 // 3], call="call"))
        if tick % 3 == 2:
            busy.remove(visitors.pop(0))
        run(quiet, 1, tick)
        run(busy, 1, tick)
    difference = pcm.as_samples(apps[0].pcm()).astype(int) - pcm.as_samples(apps[1].pcm())
    assert np.abs(difference).max() <= 1  # a filter that started anew would be off by thousands


def test_the_first_and_the_last_stream_change_the_rate_of_the_mix() -> None:
    plane = Plane(0.0)
    ann, ben = sine(500, 48_000, 3), Party()
    join(plane, ann, 48_000, call="call")
    join(plane, ben, 48_000, call="call")
    run(plane, 50)
    app = Party()
    stream = join(plane, app, 24_000, call="call", stream=True)
    run(plane, 50, 50)
    plane.remove(stream)
    run(plane, 50, 100)
    assert len(ben.heard) == 150
    for second in range(3):
        heard = b"".join(ben.heard[50 * second : 50 * second + 50])
        assert abs(level(heard, 500, 48_000) + 20) < TOLERANCE
    assert abs(level(app.pcm(), 500, 24_000) + 20) < TOLERANCE


# ------------------------------------------------------------------------------------------------ `silent`


def test_silent_means_digital_silence_before_resampling_of_all_who_are_heard() -> None:
    click = np.zeros(160, np.int16)
    click[-1] = 1  # after resampling, it may well round to nothing, or to the next frame
    frames = [bytes(320), click.tobytes(), None, bytes(320)]
    plane, mixed, unmixed = Plane(0.0), Party(), Party()
    join(plane, Party(frames), 8000, "caller")
    join(plane, Party([None] * 3 + [b"\1\0" * 320]), 16_000, "friend")
    join(plane, mixed, 24_000, "mixed", stream=True)
    join(plane, unmixed, 16_000, "unmixed", stream=True, unmixed=True)
    run(plane, 5)
    assert [message.silent for message in mixed.messages()] == [True, False, True, False, True]
    of_caller = [m.silent for m in unmixed.messages() if m.participant_raw_id == "caller"]
    of_friend = [m.silent for m in unmixed.messages() if m.participant_raw_id == "friend"]
    assert of_caller == [True, False, True, True, True]
    assert of_friend == [True, True, True, False, True]
    assert all(b'"silent":true}' in message or b'"silent":false}' in message for message in mixed.heard)


def test_an_apps_own_audio_does_not_make_its_stream_audible() -> None:
    plane, app = Plane(0.0), sine(500, 16_000)
    join(plane, Party(), 16_000)
    join(plane, app, 16_000, stream=True)
    run(plane, 5)
    assert all(message.silent and not any(message.pcm) for message in app.messages())


# ------------------------------------------------------------------------------------------------ many participants


def voices(loudness: dict[str, list[float]], rate: int = 16_000) -> dict[str, Party]:
    """Parties whose level in dBFS is given for each second."""
    return {
        name: Party(cut(np.concatenate([pcm.tone(500, rate, 1.0, dbfs) for dbfs in levels]), rate))
        for name, levels in loudness.items()
    }


def carried(app: Party) -> list[set[str]]:
    """Who was carried in each tick."""
    ticks: dict[str, set[str]] = {}
    for message in app.messages():
        assert message.participant_raw_id is not None
        ticks.setdefault(message.timestamp, set()).add(message.participant_raw_id)
    return list(ticks.values())


def crowd(loudness: dict[str, list[float]]) -> tuple[Plane, Party]:
    plane, app = Plane(0.0), Party()
    for name, party in voices(loudness).items():
        join(plane, party, 16_000, name)
    join(plane, app, 16_000, "app", stream=True, unmixed=True)
    return plane, app


def test_of_more_than_four_the_loudest_four_are_carried() -> None:
    plane, app = crowd({"a": [-50], "b": [-20], "c": [-25], "d": [-30], "e": [-40], "f": [-22]})
    run(plane, 50)
    assert carried(app) == [{"b", "c", "d", "f"}] * 50


def test_four_are_all_carried_however_quiet() -> None:
    plane, app = crowd({"a": [-90], "b": [-20], "c": [-20], "d": [-20]})
    run(plane, 50)
    assert carried(app) == [{"a", "b", "c", "d"}] * 50


def test_a_newly_loud_one_replaces_the_quietest_when_200_ms_say_so() -> None:
    plane, app = crowd({"a": [-50, -28], "b": [-20, -20], "c": [-25, -25], "d": [-30, -30], "e": [-31, -31]})
    run(plane, 100)
    ticks = carried(app)
    assert ticks[:50] == [{"b", "c", "d", "e"}] * 50
    changed = ticks.index({"a", "b", "c", "d"})
    assert 50 < changed <= 60
    assert ticks[changed:] == [{"a", "b", "c", "d"}] * (100 - changed)


def test_who_was_chosen_stays_for_a_second() -> None:
    plane, app = crowd({"a": [-50] * 4, "b": [-20] * 4, "c": [-20] * 4, "d": [-20] * 4, "e": [-30] * 4})
    quiet, loud = pcm.tone(500, 16_000, 0.4, -40), pcm.tone(500, 16_000, 0.4, -25)
    join(plane, Party(cut(np.concatenate([quiet, loud] * 5), 16_000)), 16_000, "restless")
    run(plane, 200)
    ticks = carried(app)
    assert all(len(names) == 4 for names in ticks)
    changes = [tick for tick in range(1, 200) if ticks[tick] != ticks[tick - 1]]
    assert len(changes) >= 3
    assert min(np.diff(changes)) >= 50  # e and the restless one take turns


def test_the_choice_outlives_those_who_come_and_go() -> None:
    plane, app = crowd({"a": [-50] * 2, "b": [-20] * 2, "c": [-25] * 2, "d": [-30] * 2})
    pausing = [*cut(pcm.tone(500, 16_000, 0.8, -31), 16_000), *[None] * 4, *cut(pcm.tone(500, 16_000, 1, -31), 16_000)]
    join(plane, Party(pausing), 16_000, "e")
    run(plane, 40)
    visitor = join(plane, Party(), 16_000, "visitor")
    run(plane, 2, 40)
    plane.remove(visitor)
    run(plane, 38, 42)
    assert carried(app) == [{"b", "c", "d", "e"}] * 80


def test_a_pause_in_the_first_tick_does_not_decide_a_second() -> None:
    plane, app = crowd({name: [-20.0] for name in "abcd"})
    late = [None, *cut(pcm.tone(500, 16_000, 0.9, -10), 16_000)]
    join(plane, Party(late), 16_000, "late")
    run(plane, 45)
    assert all("late" in names for names in carried(app)[12:])


# ------------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 48_000])
def test_base64_is_right_at_every_rate_and_number_of_rows(rate: int) -> None:
    noise = np.random.default_rng(rate).integers(-32_768, 32_767, (3, rate // 50), np.int16)
    plane, app = Plane(0.0), Party()
    for number, frame in enumerate(noise):
        join(plane, Party([frame.tobytes()]), rate, str(number))
    join(plane, app, rate, "app", stream=True, unmixed=True)
    run(plane, 1)
    assert [app.pcm(str(number)) for number in range(3)] == [frame.tobytes() for frame in noise]


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_message_fits_the_buffer_of_the_published_net_receiver(rate: int) -> None:
    plane, app = Plane(1_767_225_600.0), Party()
    join(plane, Party(), rate, "8:acs:" + "f" * 79)
    join(plane, app, rate, "app", stream=True, unmixed=True)
    run(plane, 1)
    assert len(app.heard[0]) < 2048  # contract 4.2


@pytest.mark.parametrize("epoch", [0.0, 1_767_225_600.0, 1_767_225_600.1239996, 1_790_000_000.999_999_7])
def test_timestamps_are_exactly_20_ms_apart(epoch: float) -> None:
    plane, app = Plane(epoch), Party()
    join(plane, app, 16_000, stream=True)
    run(plane, 200, start=987_654)  # five hours of clock
    stamps = np.array([message.timestamp.rstrip("Z") for message in app.messages()], "datetime64[ms]")
    assert set(np.diff(stamps).astype(int)) == {20}


# ------------------------------------------------------------------------------------------------ faults and slots


def test_a_source_or_sink_that_raises_hurts_nobody_else() -> None:
    plane, app, friend = Plane(0.0), Party(), Party()
    rows = [
        join(plane, Broken(), 16_000, "broken leg"),
        join(plane, Broken(), 16_000, "broken stream", stream=True),
        join(plane, Broken(), 16_000, "broken unmixed stream", stream=True, unmixed=True),
    ]
    join(plane, sine(500, 16_000), 16_000, "caller")
    join(plane, app, 16_000, "app", stream=True)
    join(plane, friend, 16_000, "friend")
    run(plane, 50)
    assert level(app.pcm(), 500, 16_000) == pytest.approx(-20, abs=TOLERANCE)
    assert level(b"".join(friend.heard), 500, 16_000) == pytest.approx(-20, abs=TOLERANCE)
    assert [row.faults for row in rows] == [100, 100, 50 + 4 * 50]  # an unmixed one is sent four frames a tick


@pytest.mark.parametrize("wrong", [b"", b"\1", b"\1" * 639, b"\1" * 641, b"\1" * 1280])
def test_a_frame_of_a_wrong_size_is_silence_and_counted(wrong: bytes) -> None:
    plane, friend = Plane(0.0), Party()
    row = join(plane, Party([wrong, b"\1\0" * 320]), 16_000)
    join(plane, friend, 16_000)
    run(plane, 2)
    assert friend.heard == [bytes(640), b"\1\0" * 320]
    assert row.faults == 1


def test_slots_are_filled_one_after_the_other_then_evenly_and_a_call_stays_in_one() -> None:
    plane = Plane(0.0)
    rows = [join(plane, Party(), 16_000, call=f"call {number}") for number in range(FILL + 3)]
    assert [plane.slots[slot].rows for slot in FILLING] == [FILL, 3] + [0] * (SLOTS - 2)
    rows += [join(plane, Party(), 16_000, call=f"more {number}") for number in range(FILL * (SLOTS - 1) - 3 + SLOTS)]
    assert [slot.rows for slot in plane.slots] == [FILL + 1] * SLOTS
    rows += [join(plane, Party(), 16_000, call="call 0") for _ in range(5)]
    assert plane.slots[FILLING[0]].rows == FILL + 6
    assert [plane.slots[slot].rows for slot in FILLING[1:]] == [FILL + 1] * (SLOTS - 1)
    for row in rows:
        plane.remove(row)
        plane.remove(row)  # one that is not there is ignored
    assert [slot.rows for slot in plane.slots] == [0] * SLOTS
    assert not plane.busy()
    assert not any(plane.busy_in(slot) for slot in range(SLOTS))


def test_a_removed_row_is_neither_polled_nor_sent_anything() -> None:
    plane, gone = Plane(0.0), Party()
    row = join(plane, gone, 16_000, call="call")
    join(plane, Party(), 16_000, call="call")
    run(plane, 3)
    plane.remove(row)
    run(plane, 3, 3)
    assert len(gone.heard) == 3


@pytest.mark.parametrize("codec", [g711.PCMU, g711.PCMA], ids=lambda codec: codec.name)
def test_a_row_with_a_codec_says_and_hears_octets(codec: g711.Codec) -> None:
    plane = Plane(0.0)
    octets = codec.encode(pcm.tone(500, 8000, 1.0, -20.0)).tobytes()
    phone = Party(octets[at : at + 160] for at in range(0, len(octets), 160))
    app = sine(1100, 16_000, dbfs=-26.0)
    plane.add(Row("call", "phone", 8000, phone, phone, codec=codec))
    join(plane, app, 16_000, "app", call="call", stream=True)
    run(plane, 50)
    assert {len(frame) for frame in phone.heard} == {160}
    heard = codec.decode(np.frombuffer(b"".join(phone.heard), np.uint8))[800:]
    assert abs(pcm.tone_level(heard, 1100, 8000) + 26) < TOLERANCE
    assert pcm.tone_level(heard, 500, 8000) < -60
    assert abs(level(app.pcm(), 500, 16_000) + 20) < TOLERANCE


@pytest.mark.parametrize("codec", [g711.PCMU, g711.PCMA], ids=lambda codec: codec.name)
def test_silence_in_octets_is_silent_and_a_frame_of_pcm_size_is_a_fault(codec: g711.Codec) -> None:
    plane = Plane(0.0)
    phone, app = Party([bytes([codec.silence]) * 160, bytes(320), None]), Party()
    row = Row("call", "phone", 8000, phone, phone, codec=codec)
    plane.add(row)
    join(plane, app, 16_000, "app", call="call", stream=True)
    run(plane, 4)
    assert [message.silent for message in app.messages()] == [True] * 4
    assert row.faults == 1
    assert set(phone.heard) == {bytes([codec.silence]) * 160}


def test_a_call_that_moves_to_another_slot_keeps_what_its_filters_remember() -> None:
    def heard(moves: bool) -> bytes:
        plane = Plane(0.0)
        caller, app = sine(500, 8000), Party()
        join(plane, caller, 8000, "caller", call="call")
        join(plane, app, 24_000, "app", call="call", stream=True)
        stays = Party()
        join(plane, stays, 16_000, call="other")
        run(plane, 10)
        if moves:
            plane.move("call", SLOTS - 1)
            plane.move("call", SLOTS - 1)
            assert [slot.rows for slot in plane.slots] == [1] + [0] * (SLOTS - 2) + [2]
        run(plane, 30, 10)
        assert len(stays.heard) == 40
        return app.pcm()

    assert heard(moves=True) == heard(moves=False)
