"""Prompts in a media worker: what is heard of their clips, and what is told of them."""

from __future__ import annotations

import asyncio
import wave
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.media.link import StartPlay, StopPlay
from offhook.media.player import UnfitClip, load
from offhook.media.tidings import PlayBegan, PlayEnded
from offhook.testing.clock import run
from offhook.testing.memory import MemoryMedia

RATE = 16_000


def clip(path: Path, hz: float, seconds: float, rate: int = RATE) -> str:
    """A clip with a tone of -20 dBFS."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tone(hz, rate, seconds, -20).tobytes())
    return str(path)


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


@given(st.data())
def test_whatever_the_bytes_a_clip_is_played_or_unfit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    clip(path, 500, 0.01)
    content = bytearray(path.read_bytes())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, 43), st.integers(0, 255)), max_size=4)):
        content[at] = byte
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(UnfitClip):
        _, [samples] = load([str(path)])
        assert samples.nbytes <= len(content)


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


def test_a_play_without_any_sound_begins_and_ends(tmp_path: Path) -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        await media.order(StartPlay("p", "call", "app", (clip(tmp_path / "p.wav", 500, 0),), loop=True))
        await asyncio.sleep(0.5)
        assert (media.told(PlayBegan), media.told(PlayEnded)) == ([PlayBegan("p")], [PlayEnded("p")])
        assert not any(ann.heard)

    run(main())


def test_a_loop_joins_its_end_to_its_beginning(tmp_path: Path) -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        path = clip(tmp_path / "p.wav", 500, 0.007)
        await media.order(StartPlay("p", "call", "app", (path,), loop=True))
        await asyncio.sleep(0.5)
        assert pcm.tone(500, RATE, 0.007, -20).tobytes() * 50 in ann.heard

    run(main())


def test_a_play_that_is_stopped_while_its_files_are_opened_never_begins(tmp_path: Path) -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", RATE)
        media.control.send(StartPlay("p", "call", "app", (clip(tmp_path / "p.wav", 500, 1),)))
        media.control.send(StopPlay("p"))
        await asyncio.sleep(0.5)
        assert not any(ann.heard)
        assert not media.told(PlayBegan) + media.told(PlayEnded)

    run(main())
