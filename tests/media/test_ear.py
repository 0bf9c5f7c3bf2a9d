"""Ears in a media worker: what a party says, when it began and where it ends."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from offhook.audio import pcm
from offhook.media.ear import PRE_ROLL, START, TAIL, WORDS
from offhook.media.link import Listen, RouteParty, StopListening
from offhook.media.tidings import SpeechBegan, SpeechEnded
from offhook.testing.clock import run
from offhook.testing.memory import MemoryMedia

RATE = 16_000
FRAME = 640  # bytes


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


def test_words_told_before_the_ear_listened_are_no_truth() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        ann.tell("said", text="too early")
        ann.say(silence(0.2))
        await asyncio.sleep(0.1)
        await media.order(Listen("ear", "call", "ann"))
        for word in range(WORDS + 1):
            ann.tell("said", text=str(word))
        ann.say(pcm.tone(500, RATE, 0.5, -20).tobytes() + silence(2))
        await asyncio.sleep(3)
        [ended] = media.told(SpeechEnded)
        assert ended.truth == " ".join(map(str, range(1, WORDS + 1))), "the newest"

    run(main())


def test_what_others_say_is_not_this_ear_s() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann, ben = await media.party("ann", RATE), await media.party("ben", RATE)
        await media.order(Listen("ear", "call", "ann"))
        ben.tell("said", text="Monday")
        ben.say(pcm.tone(500, RATE, 1, -20).tobytes())
        await asyncio.sleep(2)
        assert media.told(SpeechBegan) == []
        ann.say(pcm.tone(500, RATE, 0.5, -20).tobytes() + silence(2))
        await asyncio.sleep(3)
        [ended] = media.told(SpeechEnded)
        assert ended.truth == ""

    run(main())
