"""Calls with simulated parties and apps, in memory and on virtual time: who hears what, when; nothing is lost."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from offhook.audio import pcm
from offhook.media.stream import QUEUE
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia, MemoryParty

TOLERANCE = 0.3  # dB


def level(data: bytes, hz: float, rate: int) -> float:
    """The level of a tone, without the first 100 ms, in which filters start up."""
    return pcm.tone_level(pcm.as_samples(data)[rate // 10 :], hz, rate)


def counted(seconds: float, rate: int) -> bytes:
    """PCM whose samples count up and are never zero, so that any loss, doubling or reordering shows."""
    return (np.arange(round(seconds * rate)) % 31_991 + 1).astype("<i2").tobytes()


def sound(data: bytes) -> bytes:
    """`data` without the zeros before and after."""
    samples = pcm.as_samples(data)
    loud = np.flatnonzero(samples)
    return samples[loud[0] : loud[-1] + 1].tobytes() if len(loud) else b""


def milliseconds(app: MemoryApp) -> list[int]:
    stamps = [np.datetime64(message.timestamp.rstrip("Z"), "ms") for message in app.audio]
    return [int(step) for step in np.diff(np.array(stamps)).astype(int)]


# ------------------------------------------------------------------------------------------------ who hears whom


@pytest.mark.parametrize("rates", [(8000, 16_000, 48_000), (24_000, 48_000, 8000)])
def test_three_parties_and_two_apps_of_different_rates(rates: tuple[int, int, int]) -> None:
    async def main() -> None:
        media = MemoryMedia()
        tones = {"ann": (500, -20.0), "ben": (800, -26.0), "cat": (1300, -23.0), "mixed": (1700, -20.0)}
        parties = {name: await media.party(name, rate) for name, rate in zip(("ann", "ben", "cat"), rates, strict=True)}
        mixed = await media.app("mixed", 16_000)
        unmixed = await media.app("unmixed", 24_000, unmixed=True)
        rate_of = dict(zip(parties, rates, strict=True)) | {"mixed": 16_000}
        for name, (hz, dbfs) in tones.items():
            say = mixed.say if name == "mixed" else parties[name].say
            say(pcm.tone(hz, rate_of[name], 1.2, dbfs).tobytes())
        await asyncio.sleep(1.0)

        heard = {name: party.heard for name, party in parties.items()} | {"mixed": mixed.heard()}
        for hearer, data in heard.items():
            for speaker, (hz, dbfs) in tones.items():
                found = level(data, hz, rate_of[hearer])
                assert found < -70 if speaker == hearer else abs(found - dbfs) < TOLERANCE, (hearer, speaker)
        for speaker in tones:
            for other, (hz, dbfs) in tones.items():
                found = level(unmixed.heard(speaker), hz, 24_000)
                assert abs(found - dbfs) < TOLERANCE if other == speaker else found < -70, (speaker, other)
        assert {message.participant_raw_id for message in unmixed.audio} == set(tones)
        assert {message.participant_raw_id for message in mixed.audio} == {None}

    run(main())


@pytest.mark.parametrize(("rate_a", "rate_b"), [(16_000, 16_000), (16_000, 24_000)])
def test_two_apps_on_a_call_hear_the_caller_and_each_other_but_not_themselves(rate_a: int, rate_b: int) -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 16_000)
        a, b = await media.app("a", rate_a), await media.app("b", rate_b)
        caller.say(pcm.tone(500, 16_000, 1.2, -20).tobytes())
        a.say(pcm.tone(900, rate_a, 1.2, -20).tobytes())
        b.say(pcm.tone(1400, rate_b, 1.2, -20).tobytes())
        await asyncio.sleep(1.0)
        for data, rate, own in [(caller.heard, 16_000, 500), (a.heard(), rate_a, 900), (b.heard(), rate_b, 1400)]:
            for hz in (500, 900, 1400):
                found = level(data, hz, rate)
                assert found < -70 if hz == own else abs(found + 20) < TOLERANCE

    run(main())


# ------------------------------------------------------------------------------------------------ nothing lost


@pytest.mark.parametrize("unmixed", [False, True])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_minute_of_a_caller_at_the_streams_rate_arrives_byte_for_byte(rate: int, unmixed: bool) -> None:
    async def main() -> None:
        media = MemoryMedia(epoch=1_767_225_600.7)
        caller = await media.party("caller", rate)
        app = await media.app("app", rate, unmixed=unmixed)
        said = counted(60, rate)
        for start in range(0, len(said), 100_001):  # pieces of any size, odd ones too
            caller.say(said[start : start + 100_001])
        await asyncio.sleep(60.2)
        assert sound(app.heard("caller" if unmixed else None)) == said
        speaking = [message for message in app.audio if not message.silent]
        assert len(speaking) == 3000
        assert all(len(message.pcm) == rate // 25 for message in app.audio)
        assert set(milliseconds(app)) == {20}
        stats = await media.stats("app")
        assert stats["dropped"] == 0
        assert stats["sent"] == len(app.audio)
        assert media.worker.clock.jumped == 0

    run(main())


def test_a_minute_of_an_app_at_the_callers_rate_is_heard_byte_for_byte() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 24_000)
        app = await media.app("app", 24_000)
        said = counted(60, 24_000)
        for start in range(0, len(said), 33_333):
            app.say(said[start : start + 33_333])
        await asyncio.sleep(60.2)
        assert sound(caller.heard) == said

    run(main())


def test_silent_is_digital_silence_and_nothing_else() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 8000)
        app = await media.app("app", 16_000)
        caller.say(bytes(320) + b"\0\0" * 159 + b"\1\0" + bytes(320))
        await asyncio.sleep(0.2)
        flags = [message.silent for message in app.audio]
        assert flags.count(False) == 1
        assert all(not any(message.pcm) for message in app.audio[: flags.index(False)])

    run(main())


# ------------------------------------------------------------------------------------------------ playing and stopping


def loud(party: MemoryParty) -> list[bool]:
    """Of each frame that a party heard, whether there was anything in it."""
    return [any(frame) for frame in party.frames]


@pytest.mark.parametrize(("rate", "caller_rate"), [(16_000, 16_000), (24_000, 24_000), (24_000, 8000)])
def test_after_stop_audio_silence_starts_within_two_frames_and_nothing_queued_is_heard(
    rate: int, caller_rate: int
) -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", caller_rate)
        app = await media.app("app", rate)
        app.say(pcm.tone(500, rate, 10).tobytes())
        await asyncio.sleep(1.0)
        before = len(caller.frames)
        assert all(loud(caller)[5:])
        app.stop()
        await asyncio.sleep(2.0)
        assert not any(loud(caller)[before + 2 :])
        app.say(pcm.tone(900, rate, 1.0).tobytes())
        resumed = len(caller.frames)
        await asyncio.sleep(1.5)
        after = b"".join(caller.frames[resumed:])[: 2 * caller_rate]
        assert level(after, 900, caller_rate) == pytest.approx(-12, abs=TOLERANCE)
        assert level(after, 500, caller_rate) < -70
        assert loud(caller)[resumed:].count(True) in (50, 51)
        assert (await media.stats("app"))["stops"] == 1

    run(main())


def test_stop_and_new_audio_in_one_breath_plays_the_new_audio_only() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 24_000)
        app = await media.app("app", 24_000)
        app.say(b"\1\0" * 24_000)
        await asyncio.sleep(0.5)
        app.say(b"\1\0" * 24_000)
        app.stop()
        app.say(b"\2\0" * 24_000)
        await asyncio.sleep(1.5)
        heard = pcm.as_samples(sound(caller.heard))
        turn = int(np.argmax(heard == 2))
        assert set(heard[:turn]) == {1}
        assert set(heard[turn:]) == {2}
        assert turn <= 0.5 * 24_000 + 480
        assert len(heard) - turn == 24_000

    run(main())


def test_two_greetings_sent_at_once_play_one_after_the_other() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 16_000)
        app = await media.app("app", 16_000)
        first, second = counted(2, 16_000), counted(1.5, 16_000)[::-1]
        app.say(first)
        app.say(second)
        await asyncio.sleep(4)
        assert sound(caller.heard) == first + second

    run(main())


def test_what_is_left_of_an_utterance_is_heard_to_its_last_sample() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 16_000)
        app = await media.app("app", 16_000)
        app.say(counted(0.1234375, 16_000)[:-1])  # no whole number of frames, and half a sample missing
        await asyncio.sleep(0.5)
        assert sound(caller.heard) == counted(0.1234375, 16_000)[:-2]

    run(main())


def test_ten_minutes_within_a_second_play_in_time_are_flushed_at_once_and_delay_nobody() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 24_000)
        app = await media.app("app", 24_000)
        other = await media.party("other", 24_000, call="other call")
        other_app = await media.app("other app", 24_000, call="other call")
        speech = counted(600, 24_000)
        piece = 786_000  # 1 MiB as base64 in JSON
        began, other_began = len(caller.frames), len(other.frames)
        for start in range(0, len(speech), piece):
            app.say(speech[start : start + piece])
            await asyncio.sleep(1 / 40)
        assert asyncio.get_running_loop().time() < 1.0
        await asyncio.sleep(20)
        heard = b"".join(caller.frames[began:])
        assert sound(heard) == speech[: len(sound(heard))]
        assert loud(caller).count(True) >= len(caller.frames) - 2
        before = len(caller.frames)
        app.stop()
        await asyncio.sleep(10)
        assert not any(loud(caller)[before + 1 :])

        steps = np.diff(other.times)
        assert np.allclose(steps, 0.020)
        assert len(other.frames) - other_began == len(caller.frames) - began
        assert set(milliseconds(other_app)) == {20}
        stats = await media.stats("app")
        assert stats["refused_bytes"] == stats["skipped"] == 0
        assert stats["received"] == -(-len(speech) // piece) + 1

    run(main())


# ------------------------------------------------------------------------------------------------ a slow app


def test_a_slow_app_loses_its_oldest_frames_and_another_call_none() -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", 16_000)
        slow = await media.app("slow", 16_000)
        await media.party("other", 16_000, call="other call")
        quick = await media.app("quick", 16_000, call="other call")
        said = counted(12, 16_000)
        caller.say(said)
        await asyncio.sleep(2.0)
        at_stall = len(slow.audio)
        slow.stall()
        await asyncio.sleep(5.0)
        assert len(slow.audio) == at_stall
        ticks = len(quick.audio) - at_stall
        slow.resume()
        assert len(slow.audio) == at_stall + QUEUE  # at once, and the newest
        await asyncio.sleep(3.0)
        heard = sound(slow.heard())
        gap = (ticks - QUEUE) * 640
        lost_from = next(at for at in range(0, len(heard), 640) if heard[at : at + 640] != said[at : at + 640])
        assert heard[:lost_from] + said[lost_from : lost_from + gap] + heard[lost_from:] == said[: len(heard) + gap]
        stats = await media.stats("slow")
        assert stats["dropped"] == ticks - QUEUE
        assert set(milliseconds(quick)) == {20}
        assert (await media.stats("quick"))["dropped"] == 0

    run(main())


def test_a_stream_that_ends_leaves_the_call_to_the_others() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann, ben = await media.party("ann", 8000), await media.party("ben", 8000)
        app = await media.app("app", 24_000)
        ann.say(pcm.tone(500, 8000, 3).tobytes())
        await asyncio.sleep(1.0)
        await media.stats("app")
        frames = len(app.audio)
        assert app.closed[0][1] == 1000
        await asyncio.sleep(1.0)
        assert len(app.audio) == frames
        assert level(b"".join(ben.frames[50:]), 500, 8000) == pytest.approx(-12, abs=TOLERANCE)

    run(main())
