"""Heard truth: to the sample, and only for those who ask."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from offhook.audio import pcm
from offhook.bot import StreamingData
from offhook.media.heard import is_asked
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia
from offhook.wire import streaming

RATE = 24_000


def extras(app: MemoryApp) -> list[object]:
    """What the app was told besides audio."""
    read = (StreamingData.parse(message) for _, message in app.messages)
    return [m for m in read if not isinstance(m, streaming.AudioData | streaming.AudioMetadata)]


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("wss://app.example/audio?key=x&offhook-heard=1", True),
        ("ws://h/?offhook-heard=1", True),
        ("ws://h/", False),
        ("ws://h/offhook-heard=1", False),
        ("ws://h/?x=offhook-heard=1", False),
        ("ws://h/?offhook-heard=0", False),
    ],
)
def test_an_app_asks_by_the_query_of_its_url(url: str, asked: bool) -> None:
    assert is_asked(url) is asked


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.23])
def test_what_was_heard_is_what_the_caller_recorded(seconds: float) -> None:
    async def main() -> None:
        media = MemoryMedia()
        caller = await media.party("caller", RATE)
        app = await media.app("app", RATE, query=streaming.HEARD_QUERY)
        app.say(pcm.tone(440, RATE, 3.0).tobytes())
        await asyncio.sleep(seconds)
        app.stop()
        await asyncio.sleep(1)
        [heard] = extras(app)
        assert isinstance(heard, streaming.HeardData)
        recorded = np.frombuffer(caller.heard, np.int16)
        first, last = np.flatnonzero(recorded)[[0, -1]]
        assert heard.heard_ms == pytest.approx((last - first + 2) * 1000 / RATE, abs=0.1)  # a sine begins with 0
        assert heard.heard_ms + heard.flushed_ms == 3000

    run(main())


def test_marks_come_back_when_heard_or_flushed() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.party("caller", RATE)
        app = await media.app("app", RATE, query=streaming.HEARD_QUERY)
        began = asyncio.get_running_loop().time()
        app.say(pcm.tone(440, RATE, 1.0).tobytes())
        app.send(streaming.mark_data_out("one"))
        app.say(pcm.tone(440, RATE, 1.0).tobytes())
        app.send(streaming.mark_data_out("two"))
        await asyncio.sleep(1.5)
        at = next(at for at, message in app.messages if b'"one"' in message)
        assert at - began == pytest.approx(1.0, abs=0.021)
        app.stop()
        await asyncio.sleep(0)
        assert extras(app)[:2] == [
            streaming.MarkData("one", "Completed"),
            streaming.MarkData("two", "Cancelled"),
        ]

    run(main())


def test_without_asking_nothing_else_is_on_the_wire() -> None:
    async def main() -> None:
        media = MemoryMedia()
        await media.party("caller", RATE)
        app = await media.app("app", RATE)
        app.say(pcm.tone(440, RATE, 1.0).tobytes())
        app.send(streaming.mark_data_out("one"))
        await asyncio.sleep(0.5)
        app.stop()
        await asyncio.sleep(1)
        assert extras(app) == []
        assert (await media.stats("app"))["odd: mark"] == 1

    run(main())
