"""Who hears whom: the sums of any calls, and tones through mute, hold, prompts and moves, from which frame on."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.media.hearing import Hearing, Kept, Prompt, Routes, hears
from offhook.media.link import Listen, ReseatLeg, RouteParty, StartPlay, StopPlay
from offhook.media.plane import Row
from offhook.media.tidings import PlayEnded
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia, MemoryParty

# ------------------------------------------------------------------------------------------------ the rules as sums


class Nobody:
    def poll(self, now: float) -> bytes | None:
        return None

    def send(self, data: bytes | memoryview) -> None:
        raise AssertionError


NAMES = ("ann", "ben", "cat", "app")
KINDS = ("leg", "stream", "prompt for all", "prompt for legs", "prompt for ben", "ear")


def row(call: str, name: str, kind: str) -> Row:
    prompt = None
    if kind.startswith("prompt"):
        prompt = Prompt(name, frozenset({"ben"} if kind.endswith("ben") else ()), streams=not kind.endswith("legs"))
    ear_for = name if kind == "ear" else None
    return Row(call, name, 16_000, Nobody(), Nobody(), stream=kind == "stream", prompt=prompt, ear_for=ear_for)


kept = st.builds(Kept, muted=st.booleans(), on_hold=st.booleans()).filter(any)
calls_and_routes = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS)), min_size=1, max_size=5),
        st.dictionaries(st.sampled_from(NAMES), kept, max_size=2),
    ),
    min_size=1,
    max_size=5,
)


@given(calls_and_routes, st.integers(0, 2**32 - 1))
def test_every_line_hears_the_clipped_sum_of_those_whom_it_hears(
    made: list[tuple[list[tuple[str, str]], dict[str, Kept]]], seed: int
) -> None:
    calls = [[row(str(number), *each) for each in rows] for number, (rows, _) in enumerate(made)]
    routes: dict[str, Routes] = {str(number): kept for number, (_, kept) in enumerate(made)}
    hearing = Hearing(calls, routes.__getitem__)
    rng = np.random.default_rng(seed)
    lines = [row for call in calls for row in call]
    frames = np.zeros((hearing.silence + 1, 2), np.int16)
    frames[: len(lines)] = rng.integers(-32768, 32768, (len(lines), 2)) * rng.integers(0, 2, (len(lines), 1))
    audible = np.array(frames.any(axis=1))
    hearing.add(frames, audible)
    for line, listener in enumerate(lines):
        heard = [
            other
            for other, speaker in enumerate(lines)
            if speaker.call == listener.call and hears(listener, speaker, routes[listener.call])
        ]
        at = hearing.heard_by[line]
        expected = frames[heard].astype(int).sum(axis=0).clip(-32768, 32767)
        assert frames[at].tolist() == expected.tolist()
        assert audible[at] == audible[heard].any()
    assert not frames[hearing.silence].any()


def test_of_two_that_nothing_keeps_apart_each_has_the_other_s_line_and_no_sum_is_made() -> None:
    pairs = [[row(str(number), "ann", "leg"), row(str(number), "app", "stream")] for number in range(3)]

    def lines(routes: Routes) -> Sequence[int]:
        found: list[int] = Hearing(pairs, lambda call: routes if call == "1" else {}).heard_by.tolist()
        return found

    assert lines({}) == [1, 0, 3, 2, 5, 4]
    assert lines({"ann": Kept(muted=True)}) == [1, 0, 6, 7, 5, 4], "the others stay as they are"
    assert Hearing(pairs, lambda call: {}).sums == []


# ------------------------------------------------------------------------------------------------ tones

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
    """Whose tones are in it, each of them at its full level."""
    tones = TONES | {"music": MUSIC}
    levels = {who: pcm.tone_level(pcm.as_samples(sound), hz, RATE) for who, hz in tones.items()}
    heard = {who for who, level in levels.items() if level > FLOOR}
    assert all(abs(levels[who] + 20) < 0.3 for who in heard), levels
    return heard


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
