"""Several media workers: which one gets a call, how a phone comes to it, and what is left when one is lost."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from offhook.call import messages as m
from offhook.call import operation_messages as o
from offhook.call import people_messages as p
from offhook.call.call import Refused
from offhook.call.model import Asker, CallData, Connection, EndCause, MediaStream, Shown, StreamOptions, StreamState
from offhook.legs.simulated_legs import PATH
from offhook.media.link import Order, Quit
from offhook.media.memory_link import LinkEnd, memory_pair
from offhook.media.tidings import KeptAll, Welcome
from offhook.media.tie import Ties
from offhook.server.control import Control
from offhook.server.delivery import Parcel, Settled
from offhook.server.placement import Busy, Worker, place
from offhook.server.processes import Slot
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp, MemoryMedia, MemoryParty
from offhook.testing.tone_studio import ToneStudio
from offhook.wire.ids import IdMint, locate

ONE, OTHER, THIRD = "4:+15550101", "4:+15550102", "4:+15550103"
AUDIO = "wss://app.example/audio"


class Exchange:
    """Control and so many media workers, in memory; the `Notifier` is this. It begins with all workers there."""

    def __init__(self, workers: int = 2) -> None:
        self.events: list[tuple[str, m.Event]] = []
        self.media = [MemoryMedia() for _ in range(workers)]
        for media in self.media:
            media.apps[AUDIO] = MemoryApp()
        self.workers = [Worker(number, partial(IdMint, 7, number), f"ws://worker{number}") for number in range(workers)]
        self.control = Control(
            workers=self.workers,
            notifier=self,
            socket_token=lambda: "token",
            wall=asyncio.get_running_loop().time,
            studio=ToneStudio(),
        )
        self._directory = tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        self.ties = [Ties(media.worker, number, directory) for number, media in enumerate(self.media)]
        for worker, media in zip(self.workers, self.media, strict=True):
            self.control.connect(worker, media.control)

    def notice(self, call: CallData, connection: Connection, event: m.Event, *_: object) -> Parcel | None:
        self.events.append((connection.id, event))
        return None

    def offer(
        self, call: CallData, to: str, shown: Shown, context: str, token: str, seconds: float, trunk: str = ""
    ) -> Parcel | None:
        return None

    def post(self, parcel: Parcel, settled: Settled) -> None:
        raise AssertionError("nobody is told anything by parcel")

    async def phone(self, party: str) -> MemoryParty:
        """Let a phone wait."""
        ticket = self.control.add_phone(party, 16_000)
        await settle()
        return await self.open(MemoryParty(), ticket.audio_url)

    async def open(self, party: MemoryParty, url: str) -> MemoryParty:
        """Open the audio socket there, as a client does that is told a URL."""
        worker, _, token = url.removeprefix("ws://worker").partition(PATH)
        assert party.open(self.media[int(worker)].legs, token)
        await settle()
        return party

    async def create(self, *targets: str) -> str:
        """An app calls; return its callConnectionId."""
        worker = self.control.place(targets)
        options = StreamOptions(AUDIO, start=True)
        stream = MediaStream(worker.ids.guid(), options, StreamState.INACTIVE)
        connection = Connection(worker.ids.guid(), "8:app", "https://app.example", "2025-06-15", stream, created=True)
        self.control.create_call(worker, connection, targets, "4:+15550199", "")
        await settle()
        return connection.id

    async def move(self, party: str, there: str, here: str) -> None:
        """The app of connection `here` moves somebody out of the call of connection `there`."""
        call, _ = self.control.connection(there)
        self.control.command(here, p.MoveHere(Asker(here), (party,), there, call.id))
        await settle()

    def nothing_is_lent(self) -> list[bool]:
        """Whether each worker has no leg of another worker's call, and no other's leg."""
        return [not ties._ties and not media.worker.lent for ties, media in zip(self.ties, self.media, strict=True)]

    async def close(self) -> None:
        for media, ties in zip(self.media, self.ties, strict=True):
            await media.legs.close()
            await media.worker.close()
            ties.close()
        self._directory.cleanup()

    def lose(self, number: int) -> None:
        """The worker's process dies: control finds the link closed."""
        link = self.workers[number].link
        assert isinstance(link, LinkEnd)
        assert link._peer is not None
        link._peer.close()

    def kinds(self, connection: str) -> list[str]:
        return [type(event).__name__ for of, event in self.events if of == connection]


async def settle() -> None:
    await asyncio.sleep(0.05)


def states(party: MemoryParty) -> list[str]:
    return [told.kind for told in party.told]


def hold(scenario: Callable[[Exchange], Awaitable[None]], workers: int = 2) -> None:
    async def main() -> None:
        exchange = Exchange(workers)
        await settle()
        await scenario(exchange)
        await exchange.control.close()
        await settle()
        await exchange.close()

    run(main())


# ------------------------------------------------------------------------------------------------ which one


def test_a_call_goes_where_there_are_fewest() -> None:
    async def scenario(exchange: Exchange) -> None:
        for _ in range(7):
            exchange.control.place_call(ONE, OTHER, 16_000)
        assert [len(worker.calls) for worker in exchange.workers] == [3, 2, 2]

    hold(scenario, workers=3)


def test_phones_are_spread_and_a_call_goes_to_the_phone_it_dials() -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.phone(ONE)
        phone = await exchange.phone(OTHER)
        assert [of.worker.number for of in exchange.control.registry.phones.values()] == [0, 1]
        await exchange.create(OTHER)
        assert [len(worker.calls) for worker in exchange.workers] == [0, 1]
        assert states(phone) == ["waiting", "ringing"]

    hold(scenario)


def test_ids_say_which_worker_has_the_call() -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.phone(ONE)
        await exchange.phone(OTHER)
        for number, party in enumerate((ONE, OTHER)):
            place = locate(await exchange.create(party))
            assert (place.node, place.worker) == (7, number)
            (call,) = exchange.workers[number].calls
            assert locate(call).worker == number

    hold(scenario)


def test_nothing_is_placed_while_no_worker_is_there() -> None:
    with pytest.raises(Busy, match="No media worker is ready"):
        place([Worker(0, partial(IdMint, 0, 0))], 0.0)

    async def scenario(exchange: Exchange) -> None:
        exchange.lose(0)
        await settle()
        with pytest.raises(Busy, match="No media worker is ready"):
            exchange.control.place_call(ONE, OTHER, 16_000)
        with pytest.raises(Busy, match="No media worker is ready"):
            exchange.control.add_phone(ONE, 16_000)

    hold(scenario, workers=1)


def test_what_is_not_found_may_be_at_a_worker_that_has_not_told_yet() -> None:
    async def scenario(exchange: Exchange) -> None:
        registry, late = exchange.control.registry, exchange.workers[1]
        searches = (registry.of_connection, registry.offer, exchange.control.locate)
        late.told, late.slot = False, Slot(pid=4711)
        for search in searches:
            with pytest.raises(Busy, match="has not told yet which calls it carries"):
                search("unknown")
        for late.told, late.slot in ((False, Slot()), (False, None), (True, Slot(pid=4711))):
            for search in searches:
                with pytest.raises(Refused):
                    search("unknown")

    hold(scenario)


def test_a_worker_that_was_lost_is_not_waited_for() -> None:
    async def scenario(exchange: Exchange) -> None:
        exchange.workers[0].slot = Slot(pid=4711)
        exchange.lose(0)
        await settle()
        with pytest.raises(Refused):
            exchange.control.connection("unknown")

    hold(scenario, workers=1)


# ------------------------------------------------------------------------------------------------ phones that move


def test_a_phone_at_another_worker_comes_to_the_call() -> None:
    async def scenario(exchange: Exchange) -> None:
        one, other = await exchange.phone(ONE), await exchange.phone(OTHER)
        connection = await exchange.create(ONE, OTHER)
        assert states(one) == ["waiting", "ringing"]
        assert states(other) == ["waiting", "moved"]
        assert other.closed
        url = other.told[-1].url
        assert url.startswith("ws://worker0/legs/")
        await exchange.open(other, url)
        assert states(other) == ["waiting", "moved", "ringing"]
        assert other.told[-1].caller == "4:+15550199"
        assert other.told[-1].to == OTHER
        other.tell("answer")
        await settle()
        assert states(other)[-1] == "connected"
        assert exchange.kinds(connection)[:2] == ["CallConnected", "ParticipantsUpdated"]
        other.say(b"\1\0" * 320)
        await settle()
        assert b"\1\0" * 320 in exchange.media[0].apps[AUDIO].heard()
        exchange.control.command(connection, m.Terminate(connection))
        await settle()
        assert states(other)[-2:] == ["ended", "waiting"], "it waits where it is now"
        assert [phone.worker.number for phone in exchange.control.registry.phones.values()] == [0, 0]
        await exchange.create(OTHER)
        assert states(other)[-1] == "ringing"

    hold(scenario)


def test_a_call_that_ends_before_the_phone_has_come() -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.phone(ONE)
        other = await exchange.phone(OTHER)
        connection = await exchange.create(ONE, OTHER)
        exchange.control.command(connection, m.Terminate(connection))
        await exchange.open(other, other.told[-1].url)
        assert states(other) == ["waiting", "moved", "waiting"]
        await exchange.create(OTHER)
        assert states(other)[-1] == "ringing"

    hold(scenario)


def test_a_client_that_does_not_move_is_gone() -> None:
    async def scenario(exchange: Exchange) -> None:
        one, other = await exchange.phone(ONE), await exchange.phone(OTHER)
        connection = await exchange.create(ONE, OTHER)
        other.drop()
        one.tell("decline", reason="busy")
        await asyncio.sleep(11)
        assert exchange.kinds(connection) == ["CreateCallFailed", "CallDisconnected"]
        assert [phone.party for phone in exchange.control.registry.phones.values()] == [ONE]

    hold(scenario)


def test_a_client_that_hangs_up_while_it_is_told_to_move() -> None:
    async def scenario(exchange: Exchange) -> None:
        one, other = await exchange.phone(ONE), await exchange.phone(OTHER)
        worker = exchange.control.place([ONE])
        other.drop()  # What the worker tells of it, and the order to move, cross.
        stream = MediaStream(worker.ids.guid(), None, StreamState.DISABLED)
        connection = Connection(worker.ids.guid(), "8:app", "https://app.example", "2025-06-15", stream, created=True)
        exchange.control.create_call(worker, connection, [ONE, OTHER], "4:+15550199", "")
        await settle()
        one.tell("answer")
        await settle()
        assert exchange.kinds(connection.id)[:1] == ["CallConnected"]
        await asyncio.sleep(11)
        assert [phone.party for phone in exchange.control.registry.phones.values()] == [ONE]

    hold(scenario)


async def talking(exchange: Exchange) -> tuple[MemoryParty, MemoryParty, str]:
    """An app talks to phone ONE at worker 0; phone OTHER waits at worker 1."""
    one, other = await exchange.phone(ONE), await exchange.phone(OTHER)
    connection = await exchange.create(ONE)
    one.tell("answer")
    await settle()
    return one, other, connection


def test_a_phone_at_another_worker_is_added() -> None:
    async def scenario(exchange: Exchange) -> None:
        _, other, connection = await talking(exchange)
        shown = Shown("4:+15550142")
        exchange.control.command(connection, p.AddParticipant(Asker(connection), "invitation", OTHER, shown))
        await settle()
        await exchange.open(other, other.told[-1].url)
        assert (states(other)[-1], other.told[-1].caller) == ("ringing", "4:+15550142")
        other.tell("answer")
        await settle()
        assert exchange.kinds(connection)[-1] == "AddSucceeded"

    hold(scenario)


def test_somebody_is_transferred_to_a_phone_at_another_worker() -> None:
    async def scenario(exchange: Exchange) -> None:
        one, other, connection = await talking(exchange)
        transfer = p.TransferParticipant(Asker(connection), "call", "invitation", OTHER)
        exchange.control.command(connection, transfer)
        await settle()
        await exchange.open(other, other.told[-1].url)
        assert (states(other)[-1], other.told[-1].caller) == ("ringing", ONE)
        other.tell("answer")
        await settle()
        assert exchange.kinds(connection)[-3:] == ["TransferAccepted", "StreamingStopped", "CallDisconnected"]
        other.say(b"\1\0" * 320)
        await settle()
        assert b"\1\0" * 320 in one.heard
        other.tell("hangUp")
        await settle()
        assert states(one)[-2:] == states(other)[-2:] == ["ended", "waiting"]

    hold(scenario)


# ------------------------------------------------------------------------------------------------ legs that move


async def moved(exchange: Exchange) -> tuple[MemoryParty, MemoryParty, str]:
    """An app talks to ONE in a call at worker 0 and has moved OTHER there, who talked to it in a call at worker 1."""
    one, other, connection = await talking(exchange)
    there = await exchange.create(OTHER)
    other.tell("answer")
    await settle()
    await exchange.move(OTHER, there, connection)
    return one, other, connection


async def hear(exchange: Exchange, speaker: MemoryParty, number: int, *hearers: MemoryParty) -> list[bool]:
    """Whether each of them, and last the app, hears the speaker."""
    frame = bytes([number, 1]) * 320
    for media in exchange.media:
        media.apps[AUDIO].messages.clear()
    speaker.say(frame)
    await asyncio.sleep(0.2)
    return [frame in hearer.heard for hearer in hearers] + [any(frame in m.apps[AUDIO].heard() for m in exchange.media)]


def test_somebody_is_moved_to_a_call_of_another_worker() -> None:
    async def scenario(exchange: Exchange) -> None:
        one, other, connection = await moved(exchange)
        event = next(event for of, event in exchange.events if isinstance(event, p.MoveSucceeded))
        assert event.party == OTHER
        assert [each.party for each in exchange.control.participants(connection)] == [ONE, OTHER, "8:app"]
        assert [len(worker.calls) for worker in exchange.workers] == [1, 0], "the other call is over"
        assert await hear(exchange, other, 1, one) == [True, True]
        assert await hear(exchange, one, 2, other) == [True, True]

        asker = Asker(connection)
        exchange.control.command(connection, o.Mute(connection, (OTHER,)))
        assert await hear(exchange, other, 3, one) == [False, False]
        exchange.control.command(connection, o.WatchTones(connection, "watch", OTHER))
        other.tell("dtmf", tones="6")
        await settle()
        assert [event.tone for _, event in exchange.events if isinstance(event, o.ToneReceived)] == ["6"]
        exchange.control.command(connection, o.SendTones(connection, "send", OTHER, "1"))
        await asyncio.sleep(1)
        assert (other.told[-1].kind, other.told[-1].tones) == ("dtmf", "1")
        assert exchange.kinds(connection)[-1] == "SendTonesCompleted"

        exchange.control.command(connection, p.RemoveParticipant(asker, OTHER))
        await settle()
        assert states(other)[-2:] == ["ended", "waiting"]
        assert all(exchange.nothing_is_lent())

    hold(scenario)


def test_somebody_who_was_moved_hangs_up() -> None:
    async def scenario(exchange: Exchange) -> None:
        _, other, connection = await moved(exchange)
        other.tell("hangUp")
        await settle()
        assert [each.party for each in exchange.control.participants(connection)] == [ONE, "8:app"]
        assert all(exchange.nothing_is_lent())
        await exchange.create(OTHER)
        assert states(other)[-1] == "ringing", "at its own worker"

    hold(scenario)


def test_somebody_is_moved_on_and_back() -> None:
    async def scenario(exchange: Exchange) -> None:
        one, other, first = await moved(exchange)
        third = await exchange.phone(THIRD)  # at worker 2
        second = await exchange.create(THIRD)
        third.tell("answer")
        await settle()
        await exchange.move(OTHER, first, second)
        assert await hear(exchange, other, 1, one, third) == [False, True, True]
        assert await hear(exchange, third, 2, one, other) == [False, True, True]

        await exchange.phone("4:+15550105")  # at worker 0
        fourth = await exchange.phone("4:+15550104")  # at worker 1, as OTHER is
        last = await exchange.create("4:+15550104")
        assert {record.worker.number for record in exchange.control.registry.calls.values()} == {0, 1, 2}
        fourth.tell("answer")
        await settle()
        await exchange.move(OTHER, second, last)
        assert await hear(exchange, other, 3, one, third, fourth) == [False, False, True, True]
        assert await hear(exchange, fourth, 4, one, third, other) == [False, False, True, True]
        assert all(exchange.nothing_is_lent())

    hold(scenario, workers=3)


def test_somebody_who_was_moved_is_transferred() -> None:
    async def scenario(exchange: Exchange) -> None:
        one, other, connection = await moved(exchange)
        third = await exchange.phone(THIRD)
        exchange.control.command(connection, p.TransferParticipant(Asker(connection), "call", "id", THIRD, OTHER))
        await settle()
        if states(third)[-1] == "moved":
            await exchange.open(third, third.told[-1].url)
        third.tell("answer")
        await settle()
        assert await hear(exchange, other, 1, one, third) == [False, True, False]
        assert await hear(exchange, third, 2, one, other) == [False, True, False]
        third.tell("hangUp")
        await settle()
        assert states(other)[-2:] == ["ended", "waiting"]
        assert all(exchange.nothing_is_lent())

    hold(scenario)


def test_the_worker_that_lends_is_lost() -> None:
    async def scenario(exchange: Exchange) -> None:
        *_, connection = await moved(exchange)
        exchange.lose(1)
        await settle()
        assert [each.party for each in exchange.control.participants(connection)] == [ONE, "8:app"]
        assert exchange.nothing_is_lent()[0]

    hold(scenario)


def test_the_worker_that_borrows_is_lost() -> None:
    async def scenario(exchange: Exchange) -> None:
        _, other, connection = await moved(exchange)
        exchange.lose(0)
        await settle()
        assert exchange.kinds(connection)[-1] == "CallDisconnected"
        assert states(other)[-2:] == ["ended", "waiting"]
        assert exchange.nothing_is_lent()[1]

    hold(scenario)


# ------------------------------------------------------------------------------------------------ workers that go


def test_a_lost_worker_ends_a_transfer() -> None:
    async def scenario(exchange: Exchange) -> None:
        _, other, connection = await talking(exchange)
        transfer = p.TransferParticipant(Asker(connection), "call", "invitation", OTHER)
        exchange.control.command(connection, transfer)
        await settle()
        exchange.lose(0)
        await settle()
        assert exchange.kinds(connection).count("TransferFailed") == 1
        assert exchange.kinds(connection)[-1] == "CallDisconnected"
        assert exchange.control.registry.calls == {}
        assert other.closed

    hold(scenario)


def test_a_lost_worker_ends_its_calls_only() -> None:
    async def scenario(exchange: Exchange) -> None:
        one, other = await exchange.phone(ONE), await exchange.phone(OTHER)
        lost, kept = await exchange.create(ONE), await exchange.create(OTHER)
        for phone in (one, other):
            phone.tell("answer")
        await settle()
        exchange.lose(0)
        await settle()
        assert exchange.kinds(lost)[-2:] == ["StreamingStopped", "CallDisconnected"]
        end = exchange.events[-1][1]
        assert isinstance(end, m.CallDisconnected)
        assert end.cause is EndCause.MEDIA_LOST
        assert "CallDisconnected" not in exchange.kinds(kept)
        with pytest.raises(Refused):
            exchange.control.connection(lost)
        assert [phone.party for phone in exchange.control.registry.phones.values()] == [OTHER]
        assert [len(worker.calls) for worker in exchange.workers] == [0, 1]
        exchange.control.command(kept, m.Terminate(kept))
        await settle()
        assert exchange.kinds(kept)[-1] == "CallDisconnected"
        assert exchange.kinds(lost).count("CallDisconnected") == 1
        assert exchange.control.registry.by_stream.keys() == exchange.control.registry.by_leg.keys() == set()

    hold(scenario)


def test_a_worker_that_was_started_again_carries_calls_with_ids_of_its_own_boot() -> None:
    async def scenario(exchange: Exchange) -> None:
        exchange.lose(0)
        await settle()
        control, end = memory_pair()
        exchange.control.connect(exchange.workers[0], control)
        end.on_receive(lambda order: None)
        with pytest.raises(Busy):
            exchange.control.place([ONE])
        end.send(Welcome(worker=0, boot=5_000_000))
        end.send(KeptAll())
        await settle()
        assert locate(exchange.control.place([ONE]).ids.guid()).epoch == 5_000 & 0xFFF

    hold(scenario, workers=1)


def test_a_worker_that_comes_back_after_its_calls_were_reported_as_lost_has_to_start_anew() -> None:
    async def scenario(exchange: Exchange) -> None:
        boot = exchange.workers[0].boot
        assert boot is not None
        exchange.lose(0)
        await settle()
        control, end = memory_pair()
        got: list[Order] = []
        gone: list[bool] = []
        end.on_receive(got.append)
        end.on_lost(lambda: gone.append(True))
        exchange.control.connect(exchange.workers[0], control)
        end.send(Welcome(worker=0, boot=boot))
        await settle()
        assert got == [Quit()]
        assert gone == [True]
        assert not exchange.workers[0].up

    hold(scenario, workers=1)
