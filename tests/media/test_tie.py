"""Legs that are lent: two media workers on virtual time, with real sockets between them."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from offhook.audio import pcm
from offhook.media import tie
from offhook.media.link import BorrowLeg, EndLeg, LendLeg, Listen, ReseatLeg, ReturnLeg, call_of, lent_mix
from offhook.media.plane import SLOTS
from offhook.media.tidings import DigitsPressed, SpeechEnded
from offhook.media.tie import DEPTH, RATE, Ties
from offhook.testing.clock import run
from offhook.testing.memory import MemoryMedia, MemoryParty

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has the media in one process")

FRAME = pcm.bytes_per_frame(RATE)
MIX = lent_mix("call", "A")
STEPS = b"".join(bytes([number]) + bytes([1]) + bytes(FRAME - 2) for number in range(1, 51))


class Workers:
    """Worker 0, where A is, and worker 1, where `call` is with B in it; A is lent to it."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.home, self.other = MemoryMedia(), MemoryMedia()
        self.ties = [Ties(media.worker, n, self.directory) for n, media in enumerate((self.home, self.other))]
        self.a: MemoryParty
        self.b: MemoryParty

    async def lend(self) -> None:
        self.a = await self.home.party("A", call="before")
        self.b = await self.other.party("B")
        await self.order_lending()
        await asyncio.sleep(0.1)

    async def order_lending(self) -> None:
        await self.other.order(BorrowLeg("A", "call", "A", of=0))
        await self.home.order(ReseatLeg("A", MIX))
        await self.home.order(LendLeg("A", MIX, to=1))

    async def close(self) -> None:
        for media in (self.home, self.other):
            await media.legs.close()
            await media.worker.close()
        for ties in self.ties:
            ties.close()


def hold(scenario: Callable[[Workers], Awaitable[None]]) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            workers = Workers(directory)
            await workers.lend()
            await scenario(workers)
            await workers.close()

    run(main())


def numbers(heard: list[bytes]) -> list[int]:
    """The numbers of the frames of STEPS, in the order in which they were heard."""
    return [frame[0] for frame in heard if any(frame)]


def level(party: MemoryParty, hz: float) -> float:
    """How loud a tone was to the party in the last half second, in dBFS."""
    return pcm.tone_level(pcm.as_samples(b"".join(party.frames[-25:])), hz, RATE)


def test_the_name_of_a_lent_mix_tells_its_call() -> None:
    assert (call_of(MIX), call_of("call"), call_of("")) == ("call", "call", "")


def test_every_frame_arrives_in_order_and_bit_for_bit_both_ways() -> None:
    async def scenario(workers: Workers) -> None:
        workers.a.say(STEPS)
        workers.b.say(STEPS)
        await asyncio.sleep(1.5)
        for party in (workers.a, workers.b):
            assert numbers(party.frames) == list(range(1, 51))
        assert STEPS in workers.a.heard
        assert STEPS in workers.b.heard

    hold(scenario)


@pytest.mark.parametrize("home", range(SLOTS))
@pytest.mark.parametrize("other", range(SLOTS))
def test_a_lent_leg_is_heard_within_two_frames(home: int, other: int) -> None:
    async def scenario(workers: Workers) -> None:
        workers.home.worker.plane.move(MIX, home)
        workers.other.worker.plane.move("call", other)
        await asyncio.sleep(0.2)
        loop = asyncio.get_running_loop()
        for speaker, hearer in ((workers.a, workers.b), (workers.b, workers.a)):
            said = loop.time()
            speaker.say(STEPS[:FRAME])
            await asyncio.sleep(0.2)
            heard = next(at for at, frame in zip(hearer.times, hearer.frames, strict=True) if any(frame))
            assert heard - said <= 0.02 + 0.01 + 0.03 + 1e-9, "its tick, half a tick as anywhere, and 30 ms at most"

    hold(scenario)


def test_tones_say_who_hears_whom() -> None:
    async def scenario(workers: Workers) -> None:
        third = await workers.other.party("C")
        behind = await workers.home.party("D", call="before")
        parties = {"A": workers.a, "B": workers.b, "C": third, "D": behind}
        tones = dict(zip(parties, (440.0, 560.0, 680.0, 800.0), strict=True))
        for name, party in parties.items():
            party.say(pcm.tone(tones[name], RATE, 3).tobytes())
        await asyncio.sleep(1)
        heard = {
            name: {by for by, hz in tones.items() if abs(level(party, hz) + 12) < 1} for name, party in parties.items()
        }
        assert heard == {"A": {"B", "C"}, "B": {"A", "C"}, "C": {"A", "B"}, "D": set()}

        await workers.other.order(ReturnLeg("A"))
        await workers.home.order(ReturnLeg("A"))
        await workers.home.order(ReseatLeg("A", "before"))
        await asyncio.sleep(1)
        heard = {
            name: {by for by, hz in tones.items() if abs(level(party, hz) + 12) < 1} for name, party in parties.items()
        }
        assert heard == {"A": {"D"}, "B": {"C"}, "C": {"B"}, "D": {"A"}}
        assert workers.home.worker.lent == {}

    hold(scenario)


def test_the_borrower_reseats_it_within_itself() -> None:
    async def scenario(workers: Workers) -> None:
        other = await workers.other.party("E", call="next")
        await workers.other.order(ReseatLeg("A", "next"))
        workers.a.say(STEPS)
        await asyncio.sleep(1.5)
        assert numbers(other.frames) == list(range(1, 51))
        assert numbers(workers.b.frames) == []

    hold(scenario)


def test_digits_are_told_by_the_worker_of_the_call() -> None:
    async def scenario(workers: Workers) -> None:
        workers.a.tell("dtmf", tones="12#")
        await asyncio.sleep(0.1)
        assert workers.other.told(DigitsPressed) == [DigitsPressed("A", "12#")]
        assert workers.home.told(DigitsPressed) == []
        app = await workers.other.app("app", dtmf=True)
        workers.a.tell("dtmf", tones="7")
        await asyncio.sleep(0.1)
        assert any(b'"7"' in message for _, message in app.messages)

    hold(scenario)


def test_words_reach_the_ear_that_listens_to_it() -> None:
    async def scenario(workers: Workers) -> None:
        await workers.other.order(Listen("ear", "call", "A"))
        workers.a.tell("said", text="on Tuesday")
        workers.a.say(pcm.tone(440, RATE, 0.5).tobytes() + bytes(RATE * 4))
        await asyncio.sleep(3)
        (ended,) = workers.other.told(SpeechEnded)
        assert ended.truth == "on Tuesday"

    hold(scenario)


def test_what_was_left_of_an_earlier_tie_is_not_heard() -> None:
    async def scenario(workers: Workers) -> None:
        await workers.other.order(ReturnLeg("A"))
        workers.a.say(STEPS[:FRAME])
        await asyncio.sleep(0.5)
        await workers.home.order(ReturnLeg("A"))
        await workers.order_lending()
        await asyncio.sleep(0.5)
        assert numbers(workers.b.frames) == []

    hold(scenario)


def test_a_borrower_that_was_late_plays_the_newest_frames() -> None:
    async def scenario(workers: Workers) -> None:
        tied = workers.ties[1]._ties["A"]
        for number in range(1, 11):
            tied.take(tie.AUDIO, bytes([number]) + bytes([1]) + bytes(FRAME - 2))
        await asyncio.sleep(0.5)
        assert numbers(workers.b.frames) == list(range(12 - DEPTH, 11)), "and the silence of this tick"

    hold(scenario)


def test_a_worker_that_was_started_again_is_found_again() -> None:
    async def scenario(workers: Workers) -> None:
        workers.ties[1].close()
        await workers.other.order(ReturnLeg("A"))
        await asyncio.sleep(0.2)
        workers.other = MemoryMedia()
        workers.ties[1] = Ties(workers.other.worker, 1, workers.directory)
        workers.b = await workers.other.party("B")
        await workers.other.order(BorrowLeg("A", "call", "A", of=0))
        await asyncio.sleep(0.2)
        workers.a.say(STEPS)
        workers.b.say(STEPS)
        await asyncio.sleep(1.5)
        assert numbers(workers.b.frames) == numbers(workers.a.frames) == list(range(1, 51))

    hold(scenario)


def test_a_worker_that_does_not_read_costs_the_other_nothing() -> None:
    async def scenario(workers: Workers) -> None:
        workers.other.worker.clock.stop()
        await asyncio.sleep(60)
        assert workers.home.worker.plane.busy()
        rows = [row for slot in workers.home.worker.plane.slots for rows in slot.calls.values() for row in rows]
        assert [row.faults for row in rows] == [0, 0]

    hold(scenario)


def test_an_unknown_leg_is_ignored_and_nothing_is_left() -> None:
    async def scenario(workers: Workers) -> None:
        await workers.home.order(ReturnLeg("nobody"))
        for media in (workers.home, workers.other):
            await media.order(EndLeg("A", "hung up"))
            await media.order(ReturnLeg("A"))
        await workers.other.order(EndLeg("B", "hung up"))
        for media in (workers.home, workers.other):
            assert not media.worker.plane.busy()
        assert sorted(os.listdir(workers.directory)) == ["0-1", "1-0"]

    hold(scenario)


def test_the_longest_that_is_told_fits_into_a_datagram() -> None:
    longest = max(FRAME, 4 * 1000)
    assert longest + len("w") + 36 + len(" ") <= tie.DATAGRAM
