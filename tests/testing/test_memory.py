"""The in-memory ends behave as the sockets that they stand for."""

from __future__ import annotations

import asyncio

import pytest

from offhook.legs.simulated import Told
from offhook.media.dial import DialError
from offhook.media.tidings import LegGone, LegJoined, StreamDown, StreamUp
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia
from offhook.wire import streaming


def test_an_app_answers_what_it_hears() -> None:
    async def main() -> None:
        media = MemoryMedia()

        def echo(message: bytes) -> None:
            parsed = streaming.parse_from_server(message)
            if isinstance(parsed, streaming.AudioData):
                app.say(parsed.pcm)

        app = MemoryApp(echo)
        caller = await media.party("caller")
        await media.app("app", app=app)
        caller.say(b"\1\2" * 16_000)
        await asyncio.sleep(1.5)
        assert caller.heard.strip(b"\0") == b"\1\2" * 16_000
        assert len(caller.times) == len(caller.frames)

    run(main())


def test_refusals_are_eaten_one_a_try() -> None:
    async def main() -> None:
        media = MemoryMedia()
        app = MemoryApp()
        app.refusals = [DialError("unreachable", "first"), None, DialError("forbidden", "third", final=True)]
        await media.app("app", app=app)
        await asyncio.sleep(2)
        assert media.told(StreamUp) == [StreamUp("app")]
        await asyncio.sleep(10)
        app.drop()
        await asyncio.sleep(0.1)
        assert media.told(StreamDown) == [StreamDown("app", "interrupted", "third")]
        assert len(app.opened) == 3

    run(main())


def test_an_app_without_a_socket_sends_into_the_void() -> None:
    async def main() -> None:
        app = MemoryApp()
        app.say(b"\1\0")
        app.stop()
        with pytest.raises(AssertionError):
            app.drop()

    run(main())


def test_a_party_joins_hears_and_leaves() -> None:
    async def main() -> None:
        media = MemoryMedia()
        ann, ben = await media.party("ann"), await media.party("ben")
        assert [told.leg for told in media.told(LegJoined)] == ["ann", "ben"]
        assert ann.told == [Told("ringing"), Told("connected", rate=16_000)]
        ben.say(b"\1\0" * 3200)
        await asyncio.sleep(0.5)
        assert ann.heard.strip(b"\0") == b"\1\0" * 3199 + b"\1"
        ben.drop()
        await asyncio.sleep(0.1)
        assert media.told(LegGone) == [LegGone("ben", "hung up")]

    run(main())
