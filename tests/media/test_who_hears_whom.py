"""Mute, hold, prompts, ears and moves in a media worker, told by tones: who hears whom, and from which frame on."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from offhook.audio import pcm
from offhook.media.ear import PRE_ROLL, START, TAIL
from offhook.media.link import (
    DigitsPressed,
    DigitsSent,
    Listen,
    PlayBegan,
    PlayEnded,
    PressDigits,
    ReseatLeg,
    RouteParty,
    SendDigits,
    SpeechBegan,
    SpeechEnded,
    StartPlay,
    StopListening,
    StopPlay,
)
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia, MemoryParty

RATE = 16_000
FRAME = 640  # bytes
TONES = {"ann": 500, "ben": 800, "cat": 1300, "app": 1700}
MUSIC = 2300
FLOOR = -60.0  # dBFS: below it a tone is not there


def clip(path: Path, hz: float, seconds: float, rate: int = RATE) -> str:
    """A clip with a tone of -20 dBFS."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tone(hz, rate, seconds, -20).tobytes())
    return str(path)


class Call:
    """Ann, Ben and Cat, and an app, each with a tone of its own that goes on."""

    def __init__(self, media: MemoryMedia) -> None:
        self.media = media
        self.parties: dict[str, MemoryParty] = {}
        self.apps: dict[str, MemoryApp] = {}

    async def begin(self, *names: str, unmixed: bool = False) -> Call:
        for name in names:
            self.parties[name] = await self.media.party(name, RATE)
            self.parties[name].say(pcm.tone(TONES[name], RATE, 20, -20).tobytes())
        self.apps["app"] = await self.media.app("app", RATE)
        self.apps["app"].say(pcm.tone(TONES["app"], RATE, 20, -20).tobytes())
        if unmixed:
            self.apps["each"] = await self.media.app("each", RATE, unmixed=True)
        await asyncio.sleep(0.5)
        return self

    async def heard(self, seconds: float = 0.3) -> dict[str, set[str]]:
        """Who hears whom (and "music") from two frames after now on."""
        marks = {name: len(party.frames) for name, party in self.parties.items()}
        of_app = len(self.apps["app"].heard()) // FRAME
        await asyncio.sleep(seconds)
        sounds = {name: b"".join(self.parties[name].frames[mark + 2 :]) for name, mark in marks.items()} | {
            "app": self.apps["app"].heard()[(of_app + 2) * FRAME :]
        }
        return {name: heard_in(sound) for name, sound in sounds.items()}


def heard_in(sound: bytes) -> set[str]:
    tones = TONES | {"music": MUSIC}
    return {who for who, hz in tones.items() if pcm.tone_level(pcm.as_samples(sound), hz, RATE) > FLOOR}


EVERYBODY = {
    "ann": {"ben", "cat", "app"},
    "ben": {"ann", "cat", "app"},
    "cat": {"ann", "ben", "app"},
    "app": {"ann", "ben", "cat"},
}


def without(*names: str) -> dict[str, set[str]]:
    return {name: others - set(names) for name, others in EVERYBODY.items()}


def test_nobody_hears_who_is_muted_and_he_hears_everybody() -> None:
    async def main() -> None:
        call = await Call(MemoryMedia()).begin("ann", "ben", "cat")
        assert await call.heard() == EVERYBODY
        await call.media.order(RouteParty("call", "ben", muted=True))
        assert await call.heard() == without("ben") | {"ben": EVERYBODY["ben"]}
        await call.media.order(RouteParty("call", "ben"))
        assert await call.heard() == EVERYBODY

    run(main())


def test_two_alone_can_be_muted_too() -> None:
    async def main() -> None:
        call = await Call(MemoryMedia()).begin("ann")
        assert await call.heard() == {"ann": {"app"}, "app": {"ann"}}
        await call.media.order(RouteParty("call", "ann", muted=True))
        assert await call.heard() == {"ann": {"app"}, "app": set()}
        await call.media.order(RouteParty("call", "app", muted=True))
        assert await call.heard() == {"ann": set(), "app": set()}

    run(main())


def test_who_is_on_hold_hears_only_what_is_played_to_him(tmp_path: Path) -> None:
    async def main() -> None:
        call = await Call(MemoryMedia()).begin("ann", "ben", "cat")
        music = clip(tmp_path / "music.wav", MUSIC, 0.5, 8000)
        await call.media.order(RouteParty("call", "ben", on_hold=True))
        assert await call.heard() == without("ben") | {"ben": set()}
        await call.media.order(StartPlay("music", "call", "app", (music,), to=("ben",), loop=True))
        assert await call.heard(2) == without("ben") | {"ben": {"music"}}
        await call.media.order(StopPlay("music"))
        await call.media.order(RouteParty("call", "ben"))
        assert await call.heard() == EVERYBODY
        assert call.media.told(PlayEnded) == []

    run(main())


def test_a_prompt_for_all_is_heard_by_legs_that_are_not_on_hold_and_by_other_apps_only(tmp_path: Path) -> None:
    async def main() -> None:
        call = await Call(MemoryMedia()).begin("ann", "ben", "cat")
        other = await call.media.app("other", RATE)
        await call.media.order(RouteParty("call", "cat", on_hold=True))
        await asyncio.sleep(0.1)
        await call.media.order(StartPlay("p", "call", "app", (clip(tmp_path / "p.wav", MUSIC, 2),)))
        await asyncio.sleep(0.1)
        before = len(other.heard())
        heard = await call.heard(0.5)
        assert [name for name, others in heard.items() if "music" in others] == ["ann", "ben"]
        assert "music" in heard_in(other.heard()[before:])

    run(main())


def test_an_unmixed_stream_has_silence_of_who_is_muted_and_nothing_of_prompts(tmp_path: Path) -> None:
    async def main() -> None:
        call = await Call(MemoryMedia()).begin("ann", "ben", unmixed=True)
        await call.media.order(RouteParty("call", "ben", muted=True))
        await call.media.order(StartPlay("p", "call", "app", (clip(tmp_path / "p.wav", MUSIC, 2),)))
        await asyncio.sleep(0.1)
        before = len(call.apps["each"].audio)
        await asyncio.sleep(0.5)
        messages = call.apps["each"].audio[before:]
        assert {message.participant_raw_id for message in messages} == {"ann", "ben", "app"}
        assert all(message.silent for message in messages if message.participant_raw_id == "ben")
        assert not any(message.silent for message in messages if message.participant_raw_id == "ann")

    run(main())


def test_a_stream_that_opens_later_is_kept_from_the_same() -> None:
    async def main() -> None:
        call = await Call(MemoryMedia()).begin("ann")
        await call.media.order(RouteParty("call", "late", muted=True))
        late = await call.media.app("late", RATE)
        late.say(pcm.tone(MUSIC, RATE, 2, -20).tobytes())
        assert (await call.heard())["ann"] == {"app"}

    run(main())


def test_a_leg_goes_over_into_another_call_and_goes_on_speaking() -> None:
    async def main() -> None:
        call = await Call(MemoryMedia()).begin("ann", "ben", "cat")
        there = await call.media.app("there", RATE, call="other call")
        await call.media.order(ReseatLeg("ben", "other call"))
        heard = await call.heard()
        assert heard == without("ben") | {"ben": set()}
        assert "ben" in heard_in(there.heard()[10 * FRAME :])

    run(main())


# ------------------------------------------------------------------------------------------------ playing


def test_clips_follow_each_other_without_a_gap_and_bit_for_bit(tmp_path: Path) -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        clips = (clip(tmp_path / "a.wav", 500, 0.333), clip(tmp_path / "b.wav", 900, 0.5))
        await media.order(StartPlay("p", "call", "app", clips))
        await asyncio.sleep(1.2)
        expected = b"".join(pcm.tone(hz, RATE, s, -20).tobytes() for hz, s in ((500, 0.333), (900, 0.5)))
        assert expected in b"".join(ann.frames)
        assert media.told(PlayBegan) == [PlayBegan("p")]
        assert media.told(PlayEnded) == [PlayEnded("p")]
        assert len(media.worker.plane.slots[0].calls["call"]) == 1, "its row is gone"

    run(main())


def test_clips_of_several_rates_have_their_pitch(tmp_path: Path) -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", 24_000)
        clips = (clip(tmp_path / "a.wav", 500, 0.5, 8000), clip(tmp_path / "b.wav", 900, 0.5, 24_000))
        await media.order(StartPlay("p", "call", "app", clips))
        await asyncio.sleep(1.2)
        sound = pcm.as_samples(b"".join(ann.frames))
        first, second = sound[2400:9600], sound[14_400:21_600]
        assert abs(pcm.tone_level(first, 500, 24_000) + 20) < 0.3
        assert abs(pcm.tone_level(second, 900, 24_000) + 20) < 0.3

    run(main())


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_a_clip_that_cannot_be_played_is_named(tmp_path: Path) -> None:
    good = clip(tmp_path / "good.wav", 500, 0.1)
    bad = [
        str(tmp_path / "missing.wav"),
        write(tmp_path / "noise.wav", b"not a sound at all" * 20),
        write(tmp_path / "empty.wav", b""),
        clip(tmp_path / "48k.wav", 500, 0.1, 48_000),
        write(tmp_path / "short.wav", Path(good).read_bytes()[:1000]),
    ]

    async def main() -> None:
        media = MemoryMedia()
        await media.party("ann", RATE)
        for path in bad:
            await media.order(StartPlay(path, "call", "app", (good, path)))
            await asyncio.sleep(0.5)
        assert [(ended.play, ended.failed) for ended in media.told(PlayEnded)] == [(path, 1) for path in bad]
        assert all(ended.failure for ended in media.told(PlayEnded))
        assert media.told(PlayBegan) == []

    run(main())


def test_a_play_that_is_stopped_says_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        await media.order(StartPlay("p", "call", "app", (clip(tmp_path / "p.wav", 500, 5),)))
        await asyncio.sleep(0.5)
        await media.order(StopPlay("p"))
        await media.order(StopPlay("p"))
        quiet = len(ann.frames) + 2
        await asyncio.sleep(0.5)
        assert not any(b"".join(ann.frames[quiet:]))
        assert media.told(PlayEnded) == []

    run(main())


# ------------------------------------------------------------------------------------------------ listening


def silence(seconds: float) -> bytes:
    return bytes(2 * round(RATE * seconds))


def test_what_is_said_comes_with_a_little_quiet_around_it() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        app = await media.app("app", RATE)
        app.say(pcm.tone(900, RATE, 5, -20).tobytes())
        await media.order(Listen("ear", "call", "ann", end_silence_ms=500))
        speech = pcm.tone(500, RATE, 0.7, -20).tobytes()
        ann.tell("said", text="Tuesday")
        ann.say(silence(0.6) + speech + silence(2))
        await asyncio.sleep(0.95)
        assert media.told(SpeechBegan) == [SpeechBegan("ear")]
        assert media.told(SpeechEnded) == []
        await asyncio.sleep(2)
        [ended] = media.told(SpeechEnded)
        assert (ended.ear, ended.truth) == ("ear", "Tuesday")
        assert speech in ended.pcm
        frames = len(ended.pcm) / FRAME
        assert 35 < frames <= PRE_ROLL + 35 + START + TAIL
        assert pcm.tone_level(pcm.as_samples(ended.pcm), 900, RATE) < -60, "nobody else is heard"

    run(main())


def test_a_click_is_no_speech_and_who_never_stops_is_cut_off() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        await media.order(Listen("ear", "call", "ann", max_s=2))
        ann.say(silence(0.5) + pcm.tone(500, RATE, 0.04, -10).tobytes() + silence(0.5))
        await asyncio.sleep(1)
        assert media.told(SpeechBegan) == []
        rng = np.random.default_rng(1)
        ann.say(rng.integers(-9000, 9000, 10 * RATE).astype("<i2").tobytes())
        await asyncio.sleep(5)
        [ended] = media.told(SpeechEnded)
        assert len(ended.pcm) == 2 * 2 * RATE

    run(main())


@pytest.mark.parametrize("kept", [RouteParty("call", "ann", muted=True), RouteParty("call", "ann", on_hold=True)])
def test_an_ear_hears_who_is_muted_or_on_hold(kept: RouteParty) -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        await media.order(kept)
        await media.order(Listen("ear", "call", "ann"))
        ann.say(silence(0.3) + pcm.tone(500, RATE, 0.5, -20).tobytes() + silence(2))
        await asyncio.sleep(3)
        assert len(media.told(SpeechEnded)) == 1

    run(main())


def test_an_ear_that_is_closed_says_no_more() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        await media.order(Listen("ear", "call", "ann"))
        await media.order(StopListening("ear"))
        await media.order(StopListening("ear"))
        ann.say(pcm.tone(500, RATE, 0.5, -20).tobytes())
        await asyncio.sleep(3)
        assert media.told(SpeechBegan) == []
        assert len(media.worker.plane.slots[0].calls["call"]) == 1

    run(main())


# ------------------------------------------------------------------------------------------------ digits


def test_digits_are_sent_and_pressed_by_order() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        await media.order(SendDigits("ann", "12#", "operation"))
        await asyncio.sleep(0.5)
        assert media.told(DigitsSent) == []
        await asyncio.sleep(0.2)
        assert [told.tones for told in ann.told if told.kind == "dtmf"] == ["1", "2", "#"]
        assert media.told(DigitsSent) == [DigitsSent("ann", "operation")]
        await media.order(PressDigits("ann", "7"))
        assert media.told(DigitsPressed) == [DigitsPressed("ann", "7")]

    run(main())


def test_those_who_stay_lose_no_frame_when_others_come_and_go(tmp_path: Path) -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann, ben = await media.party("ann", RATE), await media.party("ben", RATE)
        counted = (np.arange(RATE * 4) % 31_991 + 1).astype("<i2").tobytes()
        ann.say(counted)
        path = clip(tmp_path / "p.wav", 500, 0.1)
        for turn in range(30):
            await asyncio.sleep(0.1 + 0.003 * turn % 0.02)
            await media.order(StartPlay(f"p{turn}", "call", "app", (path,), to=("nobody",)))
            await media.order(Listen(f"ear{turn}", "call", "ben"))
        await asyncio.sleep(3)
        assert counted in b"".join(ben.frames)

    run(main())
