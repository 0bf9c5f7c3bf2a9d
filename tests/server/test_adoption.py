"""A control process that is killed, at every point of a call, and the one that follows it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.call.model import (
    Addition,
    Asker,
    CallData,
    Connection,
    Invitation,
    Leg,
    LegState,
    MediaStream,
    Shown,
    StreamOptions,
    StreamState,
    Transfer,
)
from offhook.call.operations import Failure, Operation, OperationKind, OperationState, Problem
from offhook.call.people_messages import MoveHere
from offhook.call.prompts import Source
from offhook.legs.simulated_legs import PATH
from offhook.media.keeping import Keeping
from offhook.media.link import BorrowLeg, ExpectLeg, LendLeg, MoveLeg
from offhook.media.memory_link import LinkEnd, memory_pair
from offhook.media.tidings import LegAttached, LegJoined, Welcome
from offhook.server import adoption
from offhook.server.adoption import AnswerCopy, CallCopy, EventCopy, PhoneCopy, Ring, Step
from offhook.server.control import Control
from offhook.server.delivery import Parcel, Settled
from offhook.server.placement import Worker
from offhook.server.records import ANSWERS
from offhook.server.repeats import Answer, Done
from offhook.testing.clock import run
from offhook.testing.memory import MemoryApp
from offhook.testing.tone_studio import ToneStudio
from offhook.wire.ids import IdMint

if TYPE_CHECKING:
    from tests.conftest import InMemory, MemoryServer, Party, Posted, RestAnswer

RATE = 16_000
FRAME = RATE // 50
PHONE, MOBILE = "4:+15550177", "4:+15550178"
OTHER = "8:acs:11111111-2222-4333-8444-555555555555_00000000-0000-4000-8000-00000000000b"
AUDIO, OTHER_AUDIO = "wss://app.example/audio", "wss://other.example/audio"
A, B = "https://app.example/a", "https://app.example/b"


class Script:
    """People and apps of a server whose control process is killed: they try again when they get no answer."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.audio = server.audio
        self.other_audio = server.media.apps[OTHER_AUDIO] = MemoryApp()
        self.errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(self._unless_killed)

    def _unless_killed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), self.server.Killed):
            self.errors.append(context)

    @property
    def control(self) -> Control:
        return self.server.control

    # ------------------------------------------------------------------------------------------ what people do

    async def until(self, done: Callable[[], Any], seconds: float = 20) -> None:
        for _ in range(round(seconds * 100)):
            if self.server.alive and self.control.workers[0].up and done():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not come to that")

    async def ask(self, method: str, path: str, body: Any = None) -> RestAnswer:
        """Make a request, and the same again when its answer was lost with the control process."""
        headers = {"Repeatability-Request-ID": str(uuid.uuid4())}
        while True:
            await self.until(lambda: True)
            try:
                answer = await self.server.rest(method, path, body, version="2026-03-12", headers=headers)
                self.server.point()
            except self.server.Killed:
                continue
            return answer

    async def placed(self, path: str, body: Any) -> Party:
        """A simulated party whose client tries again when it gets no answer."""
        return await self.server._attach(await self.ask("POST", path, body))

    async def create(self, **body: Any) -> str:
        """An app calls; return its connection."""
        created = await self.ask("POST", "/calling/callConnections", body)
        assert created.status == 201, created.content
        return str(created.body["callConnectionId"])

    async def take(self, callback: str, url: str) -> str:
        """An app answers the newest IncomingCall; return its connection."""
        body = {
            "incomingCallContext": self.server.context,
            "callbackUri": callback,
            "operationContext": "answered",
            "mediaStreamingOptions": streaming(url),
        }
        answered = await self.ask("POST", "/calling/callConnections:answer", body)
        assert answered.status == 200, answered.content
        return str(answered.body["callConnectionId"])

    async def command(self, connection: str, name: str, **body: Any) -> Any:
        """`name`: an action, or a path such as `/participants:add`; return what was answered."""
        path = name if name.startswith("/") else f":{name}"
        answer = await self.ask("POST", f"/calling/callConnections/{connection}{path}", body)
        assert answer.status == 202, answer.content
        return answer.body

    async def phone(self, number: str) -> Party:
        """A phone waits for calls."""
        waits = sum(one.attached for one in self.control.registry.phones.values())
        phone = await self.placed("/offhook/phones", {"id": number, "rate": RATE})
        await self.until(lambda: sum(one.attached for one in self.control.registry.phones.values()) > waits)
        return phone

    async def pick_up(self, phone: Party) -> None:
        await self.until(lambda: phone.states[-1] == "ringing")
        phone.tell("answer")
        await self.until(lambda: phone.states[-1] == "connected")

    async def leave(self, connection: str) -> None:
        """An app hangs up. Of a call that is over nothing is known, not even that it was this app who ended it."""
        assert (await self.ask("DELETE", f"/calling/callConnections/{connection}")).status in (204, 404)

    def listens(self) -> bool:
        """Whether it is a caller's turn to press or say something."""
        operations = [each for call in self.control.registry.calls.values() for each in call.data.operations.values()]
        return any(operation.state is OperationState.LISTENING for operation in operations)

    # ------------------------------------------------------------------------------------------ what apps are told

    def told(self, callback: str) -> list[tuple[str, str | None, int]]:
        """What the app was told, as (kind, operationContext, code); twice only at once and with the same id."""
        events = [posted for posted in self.server.posted if posted.url == callback]
        once = [next(same) for _, same in groupby(events, key=lambda posted: str(posted.event["id"]))]
        assert len({posted.event["id"] for posted in events}) == len(once), "not repeated later"
        return [_essence(posted) for posted in once]

    def has_told(self, callback: str, kind: str, times: int = 1) -> bool:
        return sum(told[0] == kind for told in self.told(callback)) >= times


def _essence(posted: Posted) -> tuple[str, str | None, int]:
    return posted.kind, posted.data.get("operationContext"), posted.data["resultInformation"]["code"]


def streaming(url: str) -> dict[str, Any]:
    return {
        "transportUrl": url,
        "transportType": "websocket",
        "audioChannelType": "mixed",
        "startMediaStreaming": True,
        "enableBidirectional": True,
    }


def numbered(frames: int) -> bytes:
    """Audio of which each frame is one number."""
    return np.repeat(np.arange(1, frames + 1, dtype="<i2"), FRAME).tobytes()


def numbers(pcm: bytes) -> list[int]:
    return [int(number) for number in np.frombuffer(pcm, "<i2")[::FRAME] if number]


# ------------------------------------------------------------------------------------------------ scripted calls


async def inbound(script: Script) -> dict[str, Any]:
    """A caller is answered, presses keys; the app stops its stream, starts it again, and hangs up."""
    caller = await script.placed("/offhook/calls", {"to": "+15550199", "rate": RATE})
    await script.until(lambda: script.server.incoming)
    app = await script.take(A, AUDIO)
    caller.say(numbered(2000))
    await script.until(lambda: script.has_told(A, "MediaStreamingStarted"))
    caller.tell("dtmf", tones="12")
    await script.server.settle(0.2)
    await script.command(app, "stopMediaStreaming", operationContext="stop")
    await script.until(lambda: script.has_told(A, "MediaStreamingStopped"))
    first = numbers(script.audio.heard())
    assert first == list(range(first[0], first[0] + len(first))), "no frame is missing"
    await script.command(app, "startMediaStreaming", operationContext="again")
    await script.until(lambda: script.has_told(A, "MediaStreamingStarted", 2))
    await script.leave(app)
    await script.until(lambda: script.has_told(A, "CallDisconnected"))
    await script.until(lambda: caller.states == ["ringing", "connected", "ended"])
    return {"told": script.told(A), "opened": len(script.audio.opened), "closed": len(script.audio.closed)}


async def outbound(script: Script) -> dict[str, Any]:
    """An app calls a phone and another app; both answer; the first app leaves, then the phone, which waits again."""
    phone = await script.placed("/offhook/phones", {"id": "+15550177", "rate": RATE})
    await script.until(lambda: any(one.attached for one in script.control.registry.phones.values()))
    app = await script.create(
        targets=[{"rawId": PHONE}, {"rawId": OTHER}],
        callbackUri=A,
        operationContext="called",
        mediaStreamingOptions=streaming(AUDIO),
    )
    await script.until(lambda: script.server.incoming and phone.states[-1] == "ringing")
    phone.tell("answer")
    await script.until(lambda: script.has_told(A, "MediaStreamingStarted"))
    phone.say(numbered(2000))
    await script.take(B, OTHER_AUDIO)
    await script.until(lambda: script.has_told(B, "MediaStreamingStarted"))
    await script.server.settle(0.2)
    await script.leave(app)
    await script.until(lambda: script.has_told(A, "CallDisconnected"))
    await script.server.settle(0.2)
    phone.tell("hangUp")
    await script.until(lambda: script.has_told(B, "CallDisconnected"))
    heard = numbers(script.other_audio.heard())
    assert heard == list(range(heard[0], heard[0] + len(heard))), "no frame is missing"
    assert phone.states == ["waiting", "ringing", "connected", "ended", "waiting"]
    await script.until(lambda: [one.call for one in script.control.registry.phones.values() if one.attached] == [None])
    return {
        "A": script.told(A),
        "B": script.told(B),
        "opened": [len(a.opened) for a in (script.audio, script.other_audio)],
    }


async def unanswered(script: Script) -> dict[str, Any]:
    """Nobody answers a caller, who rings for 3 s."""
    caller = await script.placed("/offhook/calls", {"to": "+15550199", "rate": RATE})
    await script.until(lambda: caller.states == ["ringing", "ended"])
    assert 2.9 < asyncio.get_running_loop().time() < 3.5 + 2 * script.server.AWAY_S
    return {"reason": caller.reason, "offers": len({posted.event["id"] for posted in script.server.posted})}


CALLER = {"targetParticipant": {"rawId": "4:+15550100"}}


def prompt(words: str) -> dict[str, Any]:
    return {"kind": "text", "text": {"text": words}}


async def prompted(script: Script) -> dict[str, Any]:
    """An app plays prompts, asks for keys and for a word, holds the caller, and hangs up while something plays."""
    caller = await script.placed("/offhook/calls", {"to": "+15550199", "rate": RATE})
    await script.until(lambda: script.server.incoming)
    app = await script.take(A, "")
    await script.until(lambda: script.has_told(A, "MediaStreamingFailed"))
    await script.command(app, "play", playSources=[prompt("440 0.1"), prompt("!download")], operationContext="play")
    await script.until(lambda: script.has_told(A, "PlayFailed"))
    await script.ask("POST", f"/calling/callConnections/{app}:startContinuousDtmfRecognition", CALLER)
    keys = {**CALLER, "initialSilenceTimeoutInSeconds": 1, "dtmfOptions": {"interToneTimeoutInSeconds": 1}}
    await script.command(app, "recognize", recognizeInputType="dtmf", recognizeOptions=keys, operationContext="none")
    await script.until(lambda: script.has_told(A, "RecognizeFailed"))
    body = {"recognizeInputType": "dtmf", "recognizeOptions": keys, "playPrompts": [prompt("500 0.1")]}
    await script.command(app, "recognize", **body, operationContext="some")
    await script.until(script.listens)
    caller.tell("dtmf", tones="12")
    await script.until(lambda: script.has_told(A, "RecognizeCompleted"))
    body = {"recognizeInputType": "speech", "recognizeOptions": CALLER}
    await script.command(app, "recognize", **body, operationContext="speech")
    await script.until(script.listens)
    caller.tell("said", text="tuesday")
    caller.say(pcm.tone(500, RATE, 0.5, -20).tobytes())
    await script.until(lambda: script.has_told(A, "RecognizeCompleted", 2))
    for action in ("hold", "unhold"):
        assert (await script.ask("POST", f"/calling/callConnections/{app}:{action}", CALLER)).status == 200
    await script.command(app, "play", playSources=[prompt("440 9")], operationContext="last")
    await script.until(lambda: script.has_told(A, "PlayStarted", 2))
    await script.leave(app)
    await script.until(lambda: script.has_told(A, "CallDisconnected"))
    return {"told": script.told(A)}


async def added(script: Script) -> dict[str, Any]:
    """An app adds a phone that answers, one that does not, and one that it calls off; then it removes the first."""
    phone, other = await script.phone("+15550177"), await script.phone("+15550178")
    caller = await script.placed("/offhook/calls", {"to": "+15550199", "rate": RATE})
    await script.until(lambda: script.server.incoming)
    app = await script.take(A, AUDIO)
    await script.until(lambda: script.has_told(A, "MediaStreamingStarted"))
    await script.command(app, "/participants:add", participantToAdd={"rawId": PHONE}, operationContext="first")
    await script.pick_up(phone)
    await script.until(lambda: script.has_told(A, "AddParticipantSucceeded"))
    phone.say(numbered(500))
    invitation = {"participantToAdd": {"rawId": MOBILE}, "operationContext": "second"}
    await script.command(app, "/participants:add", **invitation, invitationTimeoutInSeconds=1)
    await script.until(lambda: script.has_told(A, "AddParticipantFailed"))
    await script.until(lambda: other.states[-1] == "waiting")
    id = (await script.command(app, "/participants:add", **invitation))["invitationId"]
    await script.command(app, "/participants:cancelAddParticipant", invitationId=id, operationContext="third")
    await script.until(lambda: script.has_told(A, "CancelAddParticipantSucceeded"))
    await script.command(app, "/participants:remove", participantToRemove={"rawId": PHONE}, operationContext="out")
    await script.until(lambda: script.has_told(A, "RemoveParticipantSucceeded"))
    await script.until(lambda: phone.states[-1] == other.states[-1] == "waiting")
    heard = numbers(caller.heard)
    assert heard == list(range(heard[0], heard[0] + len(heard))), "no frame is missing"
    await script.leave(app)
    await script.until(lambda: caller.states[-1] == "ended")
    return {"told": script.told(A), "phone": phone.states}


async def transferred(script: Script) -> dict[str, Any]:
    """An app transfers its caller to a phone that declines, then to one that answers; the two talk, one hangs up."""
    phone, other = await script.phone("+15550177"), await script.phone("+15550178")
    caller = await script.placed("/offhook/calls", {"to": "+15550199", "rate": RATE})
    await script.until(lambda: script.server.incoming)
    app = await script.take(A, AUDIO)
    await script.until(lambda: script.has_told(A, "MediaStreamingStarted"))
    await script.command(app, "transferToParticipant", targetParticipant={"rawId": MOBILE}, operationContext="no")
    await script.until(lambda: other.states[-1] == "ringing")
    other.tell("decline", reason="busy")
    await script.until(lambda: script.has_told(A, "CallTransferFailed"))
    await script.command(app, "transferToParticipant", targetParticipant={"rawId": PHONE}, operationContext="yes")
    await script.pick_up(phone)
    await script.until(lambda: script.has_told(A, "CallDisconnected"))
    phone.say(numbered(500))
    await script.server.settle(0.2)
    heard = numbers(caller.heard)
    assert heard == list(range(heard[0], heard[0] + len(heard))), "no frame is missing"
    phone.tell("hangUp")
    await script.until(lambda: caller.states[-1] == "ended")
    await script.until(lambda: phone.states[-1] == other.states[-1] == "waiting")
    return {"told": script.told(A), "states": [caller.states, phone.states, other.states], "reason": caller.reason}


async def moved(script: Script) -> dict[str, Any]:
    """An app has called a phone, and lets it move into the call of another app with a caller."""
    phone = await script.phone("+15550177")
    there = await script.create(targets=[{"rawId": PHONE}], callbackUri=B)
    await script.pick_up(phone)
    await script.until(lambda: script.has_told(B, "CallConnected"))
    caller = await script.placed("/offhook/calls", {"to": "+15550199", "rate": RATE})
    await script.until(lambda: script.server.incoming)
    app = await script.take(A, AUDIO)
    await script.until(lambda: script.has_told(A, "MediaStreamingStarted"))
    people = [{"rawId": PHONE}, {"rawId": MOBILE}]
    await script.command(
        app, "/participants:moveHere", targetParticipants=people, fromCall=there, operationContext="come"
    )
    await script.until(lambda: script.has_told(A, "MoveParticipantSucceeded"))
    await script.until(lambda: script.has_told(B, "CallDisconnected"))
    phone.say(numbered(500))
    await script.server.settle(0.2)
    assert numbers(caller.heard)
    await script.leave(app)
    await script.server.settle()
    phone.tell("hangUp")
    await script.until(lambda: caller.states[-1] == "ended" and phone.states[-1] == "waiting")
    return {"A": script.told(A), "B": script.told(B), "phone": phone.states}


Play = Callable[[Script], Awaitable[dict[str, Any]]]


def play(Server: type[MemoryServer], script: Play, *kill_at: int) -> tuple[Any, int]:
    """Play a script on a server that is killed at those points; return what came of it, and how many points there were.

    When it goes wrong, the error says where it was killed.
    """

    async def main() -> tuple[Any, int]:
        server = Server(kill_at=kill_at, ring_timeout_s=3)
        await server.settle()
        people = Script(server)
        result = await script(people)
        points = server.points
        await people.until(lambda: True)
        await server.settle(11)  # What a client did not come for, because it was not told, is given up by then.
        assert not server.control.registry.calls
        await server.close()
        assert people.errors == []
        return result, points

    try:
        return run(main())
    except BaseException as error:
        raise AssertionError(f"killed at {kill_at}: {error}") from error


@pytest.mark.parametrize("script", [inbound, outbound, unanswered, prompted, added, transferred, moved])
def test_a_control_that_is_killed_at_any_point_is_not_missed(memory_server: type[MemoryServer], script: Play) -> None:
    undisturbed, points = play(memory_server, script)
    for point in range(1, points + 1, 3 if script is prompted else 1):  # That one takes long.
        assert play(memory_server, script, point)[0] == undisturbed, point


@pytest.mark.parametrize("script", [inbound, outbound, unanswered, transferred])
def test_nor_one_that_is_killed_while_it_takes_over(memory_server: type[MemoryServer], script: Play) -> None:
    undisturbed, points = play(memory_server, script)
    for point in range(1, points + 1, 5):
        for later in (1, 2, 3, 5, 8):
            assert play(memory_server, script, point, point + later)[0] == undisturbed, (point, later)


def test_the_answer_to_a_transfer_outlives_the_call_that_it_made(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        script = Script(server)
        await server.call()
        app = await script.take(A, AUDIO)
        await server.settle()
        await script.command(app, "transferToParticipant", targetParticipant={"rawId": PHONE})
        await script.until(lambda: script.has_told(A, "CallTransferFailed"))
        answers = [key for key in server.media.keeping._kept if key.startswith("answer ")]
        assert len(answers) == 2
        await script.leave(app)

    in_memory(scenario)


# ------------------------------------------------------------------------------------------------ two workers


class Place:
    """A media worker of which only the keeping is there: it notes its orders."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.orders: list[Any] = []
        self.keeping = Keeping(Welcome(number, boot=1))
        self.keeping.on_receive(self.orders.append)


class Mute:
    """A `Notifier` with which every incoming call is offered and nobody is told."""

    def notice(self, *_: object) -> None:
        """Nobody is told."""

    def offer(
        self, call: CallData, to: str, shown: Shown, context: str, token: str, seconds: float, trunk: str = ""
    ) -> Parcel:
        return Parcel(token, "", "", "IncomingCall", b"", until=seconds)

    def post(self, parcel: Parcel, settled: Settled) -> None:
        """Nobody is told."""


def control_of(*places: Place) -> tuple[Control, list[LinkEnd]]:
    """A new control process, connected to all of them; its ends of the links."""
    workers = [Worker(place.number, lambda epoch: IdMint(), f"ws://{place.number}") for place in places]
    control = Control(workers=workers, notifier=Mute(), socket_token=str, wall=lambda: 0.0, studio=ToneStudio())
    ends = []
    for worker, place in zip(workers, places, strict=True):
        end, worker_end = memory_pair()
        control.connect(worker, end)
        place.keeping.connect(worker_end)
        ends.append(end)
    return control, ends


@pytest.mark.parametrize("told", [0, 1, 2], ids=["nobody", "the new worker", "both"])
def test_a_phone_that_was_about_to_move_is_in_one_place(told: int) -> None:
    """A call is redirected to a phone at another worker, and control dies when it has `told` so many of the two."""

    async def main() -> None:
        new, old = Place(0), Place(1)
        control, ends = control_of(new, old)
        await asyncio.sleep(0.01)
        control.add_phone("8:acs:another", RATE)
        phone = control.add_phone(PHONE, RATE).leg  # where there are fewer
        await asyncio.sleep(0.01)
        old.keeping.send(LegAttached(phone))
        call = control.place_call("4:+15550100", "4:+15550199", RATE)
        await asyncio.sleep(0.01)
        new.keeping.send(LegAttached(call.leg))
        await asyncio.sleep(0.01)
        for end in ends[told:]:
            end.close()
        control.redirect(next(iter(control.registry.offers)), PHONE)
        for end in ends[:told]:
            end.close()
        await asyncio.sleep(0.01)

        control, _ = control_of(new, old)
        await asyncio.sleep(0.01)
        moved = [order for order in old.orders if isinstance(order, MoveLeg)]
        expected = [order for order in new.orders if isinstance(order, ExpectLeg) and order.leg == phone]
        assert len(moved) == len(expected) == min(told, 1)
        assert [move.url for move in moved] == [f"ws://0{PATH}{order.token}" for order in expected]
        stands = control.registry.phones[phone]
        assert (stands.worker.number, stands.call) == ((0, call.call) if told else (1, None))
        assert (phone in new.keeping._kept, phone in old.keeping._kept) == ((True, False) if told else (False, True))

    run(main())


@pytest.mark.parametrize("told", [0, 1, 2], ids=["nobody", "the new worker", "both"])
def test_a_leg_that_was_about_to_move_is_in_one_call(told: int) -> None:
    """Somebody moves to a call at another worker, and control dies when it has `told` so many of the two."""

    async def main() -> None:
        new, old = Place(0), Place(1)
        control, ends = control_of(new, old)
        await asyncio.sleep(0.01)
        legs, connections = [], []
        for place, worker in zip((new, old), control.workers, strict=True):
            ticket = control.place_call("4:+15550100", "4:+15550199", RATE)
            place.keeping.send(LegAttached(ticket.leg))
            await asyncio.sleep(0.01)
            stream = MediaStream(worker.ids.guid(), None, StreamState.DISABLED)
            connection = Connection(worker.ids.guid(), "8:app", "https://app.example", "2026-03-12", stream)
            control.answer(list(control.registry.offers)[-1], connection)
            await asyncio.sleep(0.01)
            place.keeping.send(LegJoined(ticket.leg))
            await asyncio.sleep(0.01)
            legs.append(ticket.leg)
            connections.append(connection.id)
        there, _ = control.connection(connections[1])
        for end in ends[told:]:
            end.close()
        control.command(connections[0], MoveHere(Asker(connections[0]), ("4:+15550100",), connections[1], there.id))
        for end in ends[:told]:
            end.close()
        await asyncio.sleep(0.01)

        control, _ = control_of(new, old)
        await asyncio.sleep(0.01)
        borrowed = [order for order in new.orders if isinstance(order, BorrowLeg)]
        lent = [order for order in old.orders if isinstance(order, LendLeg)]
        assert len(borrowed) == len(lent) == min(told, 1)
        having = [record for record in control.registry.calls.values() if legs[1] in record.data.legs]
        alive = [record for record in having if record.data.legs[legs[1]].state is LegState.CONNECTED]
        assert alive == [control.registry.by_leg[legs[1]]]
        assert [record.worker.number for record in alive] == [0 if told else 1]

    run(main())


# ------------------------------------------------------------------------------------------------ copies

TEXT = st.text(max_size=10)
NUMBER = st.integers(0, 1 << 40)
SECONDS = st.floats(0, 1e10)
OPTIONS = st.builds(StreamOptions, url=TEXT, rate=NUMBER)
STREAM = st.builds(MediaStream, id=TEXT, options=st.none() | OPTIONS, epoch=NUMBER)
CONNECTION = st.builds(Connection, stream=STREAM, sequence=NUMBER)
ASKER = st.builds(Asker, TEXT, st.none() | TEXT, st.none() | TEXT)
ADDITION = st.builds(Addition, asker=ASKER)
SHOWN = st.builds(Shown, TEXT, TEXT, st.none() | st.dictionaries(TEXT, st.dictionaries(TEXT, TEXT)))
INVITATION = st.builds(
    Invitation, shown=st.none() | SHOWN, ring_timeout=st.none() | SECONDS, addition=st.none() | ADDITION
)
DATA = st.builds(
    CallData,
    ring_timeout=SECONDS,
    legs=st.dictionaries(TEXT, st.builds(Leg, of_call=st.none() | TEXT, addition=st.none() | ADDITION)),
    connections=st.dictionaries(TEXT, CONNECTION, max_size=3),
    invitations=st.dictionaries(TEXT, INVITATION, max_size=3),
    transfers=st.dictionaries(TEXT, st.builds(Transfer, asker=ASKER), max_size=3),
    locator=st.none() | TEXT,
)
CALL = st.builds(
    CallCopy,
    data=DATA,
    began=SECONDS,
    rings=st.dictionaries(TEXT, st.builds(Ring, SECONDS, TEXT), max_size=3),
    streams=st.lists(st.tuples(TEXT, NUMBER), max_size=3),
    stats=st.dictionaries(TEXT, st.dictionaries(TEXT, NUMBER), max_size=3),
    timeline=st.lists(st.dictionaries(TEXT, TEXT | NUMBER, max_size=3), max_size=3),
)
ANSWER = st.builds(Done, st.binary(max_size=32), SECONDS, st.builds(Answer, st.binary(max_size=10), TEXT))
PHONE_COPY = st.builds(PhoneCopy, TEXT, TEXT, NUMBER, st.booleans(), TEXT)
PARCEL = st.builds(Parcel, TEXT, TEXT, TEXT, TEXT, st.binary(max_size=10), st.booleans(), st.none() | SECONDS)


@given(CALL | PHONE_COPY | st.builds(EventCopy, TEXT, PARCEL) | st.builds(AnswerCopy, TEXT, TEXT, ANSWER))
def test_a_copy_is_read_as_it_was_written(copy: adoption.Copy) -> None:
    assert adoption.decode(adoption.encode(copy)) == copy


@given(st.binary(max_size=50))
def test_what_is_no_copy_is_said_to_be_none(data: bytes) -> None:
    with suppress(msgspec.DecodeError):
        adoption.decode(data)


def test_a_copy_that_is_too_large_goes_without_what_matters_least() -> None:
    large = {"voipHeaders": {"a": "x" * (1 << 18)}}
    invitation = Invitation("i", PHONE, shown=Shown("4:+1", "Support", large))
    data = CallData("id", "server", "correlation", "4:+1", custom_context=large, invitations={"i": invitation})
    copy = CallCopy(data, 0.0, {}, [], {}, [{"what": "something"}])
    kept = adoption.encode(copy)
    assert len(kept) < 1000
    smaller = replace(invitation, shown=Shown("4:+1", "Support"))
    without = replace(data, custom_context=None, invitations={"i": smaller})
    assert adoption.decode(kept) == CallCopy(without, 0.0, {}, [], {}, [])
    assert data.custom_context is not None, "the call itself keeps it"


def test_a_copy_that_is_still_too_large_goes_without_the_prompts_that_are_not_made() -> None:
    long = Operation("long", OperationKind.PLAY, "connection", sources=(Source("ssml", ssml="x" * (1 << 18)),))
    plays = Operation("plays", OperationKind.PLAY, "connection", state=OperationState.PLAYING)
    data = CallData("id", "server", "correlation", "4:+1", operations={"plays": plays, "long": long})
    kept = adoption.encode(CallCopy(data, 0.0, {}, [], {}, []))
    assert len(kept) < 1000
    adopted = adoption.decode(kept)
    assert isinstance(adopted, CallCopy)
    assert adopted.data.operations["plays"] == plays
    failure = Failure(Problem.SPEECH_SERVICE, adoption.INTERRUPTED, 0)
    assert adopted.data.operations["long"] == replace(long, sources=(), failure=failure)
    assert long.sources, "the call itself keeps it"


class Sent:
    """A link that only notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def test_what_stays_too_large_is_not_kept_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    link: Any = Sent()
    step = Step()
    step.keeps = True
    step.put("large", PhoneCopy("x" * adoption.COPY_LIMIT, "", 0, False))
    step.put("small", PhoneCopy("x", "", 0, False))
    step.take(link)
    (commit,) = link.sent
    assert (list(commit.put), commit.delete) == (["small"], ("large",))
    assert "large has 262" in caplog.text


def test_tidings_that_change_nothing_are_acknowledged_now_and_then() -> None:
    link: Any = Sent()
    step = Step()
    step.keeps = True
    for _ in range(2 * (adoption.LAZY + 1)):
        step.saw(LegAttached("unknown"))
        step.take(link)
    assert [commit.seen for commit in link.sent] == [adoption.LAZY + 1, 2 * (adoption.LAZY + 1)]


def test_no_more_than_the_newest_answers_of_a_call_are_kept(in_memory: InMemory) -> None:
    async def scenario(server: MemoryServer) -> None:
        script = Script(server)
        await server.call()
        app = await script.take(A, AUDIO)
        await server.settle()
        for _ in range(ANSWERS):
            await script.command(app, "stopMediaStreaming")
        await server.settle()
        answers = [key for key in server.media.keeping._kept if key.startswith("answer ")]
        assert len(answers) == ANSWERS
        await script.leave(app)

    in_memory(scenario)
