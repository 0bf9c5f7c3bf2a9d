"""What a caller's script says is what the server's recognition hears."""

from __future__ import annotations

import asyncio

from offhook.media.link import Listen
from offhook.media.tidings import SpeechEnded
from offhook.testing.clock import run
from offhook.testing.memory import MemoryMedia
from offhook.testing.speech import words_of


def test_a_text_is_told_and_nothing_else() -> None:
    assert words_of("Tuesday, please") == "Tuesday, please"
    assert words_of("x" * 2000) == "x" * 1000
    assert words_of("voice.WAV") == words_of(b"\0\0") == ""


def test_words_are_told_before_the_audio_that_has_them() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann = await media.party("ann", 16_000)
        await media.order(Listen("ear", "call", "ann"))
        for words in ("Monday", "or Tuesday"):
            ann.tell("said", text=words)
            ann.say(b"\x10\x20" * 8000)
        ann.say(bytes(64_000))
        await asyncio.sleep(4)
        [ended] = media.told(SpeechEnded)
        assert ended.truth == "Monday or Tuesday"

    run(main())
