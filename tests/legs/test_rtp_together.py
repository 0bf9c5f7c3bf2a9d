"""Telephones that are read and written together with others hear and say exactly what each would alone."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from tests.legs.rtp_scene import Media, Telephone, at_phase, tone

from offhook.audio import pcm
from offhook.legs.rtp_receiver import Receiver
from offhook.legs.rtp_sender import Sender
from offhook.media.batch import alone
from offhook.media.clock import TICK_S
from offhook.media.link import EndLeg, SendDigits
from offhook.media.reader import LOOK_EVERY
from offhook.media.tidings import LegFigures
from offhook.testing.clock import run

Network = list[tuple[str, int]]  # what becomes of packets, and of how many


class Line:
    """A telephone that speaks, and the network between it and us."""

    def __init__(self, telephone: Telephone, hz: float) -> None:
        self._telephone = telephone
        self._octets = telephone.codec.encode(tone(hz, 8.0)).tobytes()
        self._at = 0
        self._late: list[bytes] = []

    def tick(self, what: str) -> None:
        """Say 20 ms, of which the network makes `what`."""
        payload = self._octets[self._at : self._at + 160]
        self._at = (self._at + 160) % len(self._octets)
        telephone = self._telephone
        kind = telephone.codec.payload_type
        if what == "is a digit":
            pieces = [telephone.packet(bytes((5, 10, 0, 160)), 101)]
        else:
            pieces = [telephone.packet(payload, kind)]
        telephone.timestamp += 160
        if what == "is late":
            self._late += pieces
        elif what != "is lost":
            for packet in [*self._late, *pieces]:
                telephone.send(packet)
            self._late = []


async def talk(
    lines: list[Network], together: bool, relaid_every: int = 0
) -> tuple[list[object], list[bytes], dict[str, dict[str, int]]]:
    """Let two telephones talk, each in a call with an app that talks, too; return all that came of it.

    `relaid_every`: ticks after which the slots are laid out anew, as when others come or go.
    """
    singly = mock.patch.object(Receiver, "regular", return_value=None)
    slowly = mock.patch.object(Sender, "steady", return_value=None)
    if not together:
        singly.start()
        slowly.start()
    try:
        media = Media()
        telephones = [await media.telephone(f"leg {n}", f"call {n}") for n in range(len(lines))]
        apps = [await media.app(f"app {n}", call=f"call {n}") for n in range(len(lines))]
        for app in apps:
            app.say(pcm.tone(1100, 16_000, 6.0, -26.0).tobytes())
        speaking = [Line(telephone, 437 + 100 * n) for n, telephone in enumerate(telephones)]
        todo = [[what for what, packets in network for _ in range(packets)] for network in lines]
        await at_phase(0.0013)  # Between two slots: at the very time of one it would be chance which one comes first.
        begin = asyncio.get_running_loop().time()
        for tick in range(max(map(len, todo))):
            for line, network in zip(speaking, todo, strict=True):
                line.tick(network[tick] if tick < len(network) else "comes")
            if relaid_every and tick % relaid_every == 0:
                for slot in media.worker.plane.slots:
                    slot.stale = True
            if tick == 60:
                await media.order(SendDigits("leg 0", "42", "operation"))
            await asyncio.sleep(begin + (tick + 1) * TICK_S - asyncio.get_running_loop().time())
        await asyncio.sleep(0.1)
        for n in range(len(lines)):
            await media.order(EndLeg(f"leg {n}", ""))
        figures = {tiding.leg: tiding.counts for tiding in media.told(LegFigures)}
        said: list[object] = []
        for telephone in telephones:
            received = telephone.received
            said.append(
                [
                    (kind, marker, sequence - received[0][2] & 0xFFFF, stamp - received[0][3] & 0xFFFFFFFF, payload)
                    for kind, marker, sequence, stamp, _, payload in received
                ]
            )
        heard = [app.heard() for app in apps]
        media.legs.close()
        await media.worker.close()
        return said, heard, figures
    finally:
        mock.patch.stopall()


@pytest.mark.parametrize("odd", ["comes", "is lost", "is a digit"])
@pytest.mark.parametrize("packets", [1, 2, 5])
@pytest.mark.parametrize("relaid_every", [0, 4])
def test_who_is_read_together_is_heard_as_if_alone(odd: str, packets: int, relaid_every: int) -> None:
    """To the octet, for some seconds: later on, as the delay is looked at once a second instead of at each tick, one
    may be played 20 ms earlier for a while than the other."""
    lines: list[Network] = [[("comes", 60), (odd, packets), ("comes", 60)], [("comes", 121)]]
    assert run(talk(lines, together=True, relaid_every=relaid_every)) == run(talk(lines, together=False))


@pytest.mark.parametrize("packets", [1, 2, 5])
def test_who_is_late_loses_nothing_by_being_read_together(packets: int) -> None:
    lines: list[Network] = [[("comes", 60), ("is late", packets), ("comes", 60)], [("comes", 121)]]
    (said, heard, together), (said_alone, heard_alone, alone) = (
        run(talk(lines, together=True)),
        run(talk(lines, together=False)),
    )
    assert said == said_alone
    assert [len(audio) for audio in heard] == [len(audio) for audio in heard_alone]
    for leg, counts in together.items():
        assert counts["received"] == alone[leg]["received"]
        assert counts["lost"] == counts["late"] == counts["discarded"] == 0
        # When it is made shorter again is looked at once a second, so not in the same place.
        assert abs(counts["concealed_ms"] - alone[leg]["concealed_ms"]) <= 20


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the ways through receivers and senders."""
    ways: Counter[str] = Counter()
    poll, send = Receiver.poll, Sender.send

    def counted_poll(self: Receiver, now: float, received: memoryview | None = None) -> bytes | None:
        ways["polls"] += 1
        return poll(self, now, received)

    def counted_send(self: Sender, data: bytes | memoryview) -> None:
        ways["sends"] += 1
        send(self, data)

    with mock.patch.object(Receiver, "poll", counted_poll), mock.patch.object(Sender, "send", counted_send):
        yield ways


@pytest.mark.parametrize("relaid_every", [0, 3])
def test_a_regular_telephone_costs_one_read_and_one_write_a_tick(relaid_every: int) -> None:
    with counted() as ways:
        _, _, figures = run(talk([[("comes", 400)]] * 2, together=True, relaid_every=relaid_every))
    assert ways["polls"] < 2 * 60  # not 2 * 400: some at the beginning, while its slot is looked for, and at reports
    assert ways["sends"] < 2 * 60
    assert [one["received"] for one in figures.values()] == [400, 400]


def test_what_was_late_is_read_together_again_when_the_delay_is_gone() -> None:
    """Though packets do not begin with frames any more, as what was left out was as long as it happened to be."""
    with counted() as ways:
        _, _, figures = run(talk([[("comes", 60), ("is late", 2), ("comes", 600)]] * 2, together=True))
    assert [one["shortened_ms"] % 20 > 0 for one in figures.values()] == [True, True]
    assert ways["polls"] < 2 * 100


def test_a_second_packet_is_found_behind_the_one_that_is_read() -> None:
    async def main() -> None:
        media = Media()
        telephone = await media.telephone()
        await at_phase(0.0013)
        await telephone.say(tone(440, 1.0))
        assert media.leg().receiver.leave is not alone, "it is read together with others by now"
        unread = media.network.sockets[telephone.port]._queue
        telephone.say_frame(bytes(160))
        await telephone.say(tone(440, 0.1))
        assert len(unread) == 1
        await telephone.say(tone(440, LOOK_EVERY * TICK_S))
        assert len(unread) == 0
        assert media.counts()["received"] == 50 + 1 + 5 + LOOK_EVERY

    run(main())


@pytest.mark.parametrize("others", [0, 1])
def test_what_is_over_needs_no_garbage_collection(others: int) -> None:
    """One that has much to collect takes as long as two ticks."""

    async def calls() -> None:
        media = Media()
        telephones = [await media.telephone(f"leg {n}", f"call {n}") for n in range(1 + others)]
        await asyncio.gather(*(telephone.say(tone(440, 1.0)) for telephone in telephones))
        leg, _ = media.legs._legs["leg 0"]
        assert leg.receiver.leave is not alone, "it is read together with others by now"
        held = [weakref.ref(one) for one in (leg, leg.receiver, leg.sender, leg.path)]
        gc.collect()
        gc.disable()
        try:
            del leg
            await media.order(EndLeg("leg 0", "over"))
            await asyncio.sleep(1.0)
            assert [one() for one in held] == [None] * 4
        finally:
            gc.enable()

    run(calls())
