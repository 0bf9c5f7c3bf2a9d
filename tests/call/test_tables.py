"""Every pair of state and input, every message in every state of a call, and what holds however a call goes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from enum import Enum
from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from offhook.call import messages as m
from offhook.call import model, operations
from offhook.call import operation_messages as o
from offhook.call import people_messages as p
from offhook.call.call import Call, Refused
from offhook.call.lifecycle import present
from offhook.call.model import (
    Asker,
    CallData,
    Connection,
    ConnectionState,
    EndCause,
    IllegalTransition,
    Leg,
    LegState,
    MediaStream,
    Move,
    Shown,
    StreamFailure,
    StreamOptions,
    StreamState,
    step,
)
from offhook.call.operations import Failure, OperationState, Problem, RecognizeOptions
from offhook.call.prompts import Source

# ------------------------------------------------------------------------------------------------ the three tables

LEG = """
              ready     connect    end
  waiting     ringing   -          ended
  ringing     -         connected  ended
  connected   -         -          ended
  ended       -         -          -
"""
CONNECTION = """
                join        leave
  connecting    connected   disconnected
  connected     -           disconnected
  disconnected  -           -
"""
STREAM = """
              start     opened    reopened  failed    stop      closed
  disabled    -         -         -         -         -         -
  inactive    opening   -         -         -         inactive  -
  opening     opening   active    -         inactive  inactive  inactive
  active      active    -         active    inactive  inactive  inactive
"""
OPERATION = """
               prepare    play     played  listen     recognise
  queued       preparing  -        -       -          -
  preparing    -          playing  -       listening  -
  playing      -          -        played  listening  -
  played       -          -        -       listening  -
  listening    -          -        -       -          recognising
  recognising  -          -        -       -          -
  running      -          -        -       -          -
"""
TABLES: list[tuple[Any, type[Enum], type[Enum], str]] = [
    (model.LEG, model.LegState, model.LegInput, LEG),
    (model.CONNECTION, model.ConnectionState, model.ConnectionInput, CONNECTION),
    (model.STREAM, model.StreamState, model.StreamInput, STREAM),
    (operations.OPERATION, operations.OperationState, operations.OperationInput, OPERATION),
]


def grid(text: str) -> dict[tuple[str, str], str]:
    heading, *lines = text.strip().splitlines()
    return {
        (state, input): follows
        for state, *row in (line.split() for line in lines)
        for input, follows in zip(heading.split(), row, strict=True)
    }


@pytest.mark.parametrize(("table", "states", "inputs", "text"), TABLES)
def test_every_state_takes_every_input_or_refuses_it(
    table: Any, states: type[Enum], inputs: type[Enum], text: str
) -> None:
    expected = grid(text)
    assert set(expected) == {(state.value, input.value) for state in states for input in inputs}
    for state, input in product(states, inputs):
        try:
            follows = step(table, state, input).value
        except IllegalTransition:
            follows = "-"
        assert follows == expected[state.value, input.value], (state, input)


# ------------------------------------------------------------------------------------------------ calls to try it on

AUDIO = StreamOptions("wss://app.example/audio", start=True)
PHONES = ("4:+15550101", "4:+15550102")


def connection(id: str, streaming: bool = True, created: bool = False, joined: bool = False) -> Connection:
    stream = MediaStream(f"s-{id}", AUDIO, StreamState.INACTIVE)
    if not streaming:
        stream = MediaStream(f"s-{id}", None, StreamState.DISABLED)
    return Connection(id, f"8:acs:r_{id}", "https://app.example", "2025-06-15", stream, created=created, joined=joined)


Script = tuple[m.Message, ...]
PLACED: Script = (m.PlaceCall("caller", "i", "8:acs:r_a"),)
RINGING: Script = (*PLACED, m.LegReady("caller"))


def answered() -> Script:
    return (*RINGING, m.Answer("i", connection("a")))


def talking() -> Script:
    return (*answered(), m.LegConnected("caller"))


def dialling() -> Script:
    create = m.CreateCall(connection("a", created=True), {"i": PHONES[0], "j": "8:acs:r_b"})
    return (create, m.PhoneRings("i", "phone"))


def three() -> Script:
    phone = (m.LegAnswered("phone"), m.LegConnected("phone"))
    return (*dialling(), *phone, m.Answer("j", connection("b")))


SOURCE = Source("text", text="hello")
LISTENING = RecognizeOptions(keys=True, speech=True, max_tones=2, stop_tones="#")


def playing() -> Script:
    return (*talking(), o.Play("a", "o", (SOURCE,)), o.Prepared("o", ("clip",)))


def recognising() -> Script:
    recognition = (o.Recognize("a", "o", "4:+15550100", LISTENING), o.Prepared("o", ()))
    return (*talking(), *recognition, o.SpeechBegan("o"), o.SpeechEnded("o", b""))


def everything() -> Script:
    more = (o.Hold("a", "h", "4:+15550100"), o.WatchTones("a", "w", "4:+15550100"), o.Mute("a", ("4:+15550100",)))
    return (*playing(), o.Recognize("a", "waits", "4:+15550100", LISTENING), *more)


SHOWN, A, HERE = Shown("4:+15550142"), Asker("a", "context"), Move("there", Asker("a"))


def adding() -> Script:
    add = [p.AddParticipant(A, invitation, to, SHOWN, 30) for invitation, to in (("i", PHONES[0]), ("j", "8:acs:r_b"))]
    return (*talking(), *add, m.PhoneRings("i", "phone"))


def transferring() -> Script:
    return (*three(), p.TransferParticipant(A, "new", "n", PHONES[1], PHONES[0]))


def transferee_calls() -> Script:
    return (p.PlaceTransfer("caller", "old", "i", PHONES[0]), m.PhoneRings("i", "phone"))


def referring() -> Script:
    return (*three(), p.Refer("phone", "i", PHONES[1]))


SITUATIONS: dict[str, Callable[[], Script]] = {
    "nothing yet": lambda: (),
    "placed": lambda: PLACED,
    "ringing": lambda: RINGING,
    "redirected": lambda: (*RINGING, m.Redirect("i", "j", PHONES[0])),
    "redirected, phone rings": lambda: (*RINGING, m.Redirect("i", "i2", PHONES[0]), m.PhoneRings("i2", "phone")),
    "answered": answered,
    "talking, stream opens": talking,
    "streaming": lambda: (*talking(), m.StreamOpened("a", 1)),
    "stream stopped": lambda: (*talking(), m.StreamOpened("a", 1), m.StopStream("a")),
    "stream opens again": lambda: (*talking(), m.StopStream("a"), m.StartStream("a")),
    "dialling": dialling,
    "phone answered": lambda: (*dialling(), m.LegAnswered("phone")),
    "talking, app rings": lambda: (*dialling(), m.LegAnswered("phone"), m.LegConnected("phone")),
    "three talk": three,
    "the first has left": lambda: (*three(), m.HangUp("a")),
    "playing": playing,
    "a prompt plays": lambda: (
        *talking(),
        o.Recognize("a", "o", "4:+15550100", LISTENING, (SOURCE,)),
        o.Prepared("o", ("clip",)),
    ),
    "listening": lambda: recognising()[:-2],
    "recognising": recognising,
    "much goes on": everything,
    "two are added": adding,
    "one added has answered": lambda: (*adding(), m.LegAnswered("phone")),
    "two were added": lambda: (
        *adding(),
        m.LegAnswered("phone"),
        m.LegConnected("phone"),
        m.Answer("j", connection("b")),
    ),
    "being transferred": transferring,
    "a transferee calls": transferee_calls,
    "a transferee's call is answered": lambda: (*transferee_calls(), m.LegAnswered("phone")),
    "a transferee has come": lambda: (
        *transferee_calls(),
        m.LegAnswered("phone"),
        p.LegArrived(Leg("caller", "4:+15550100", LegState.CONNECTED)),
    ),
    "a phone refers": referring,
    "a phone has referred, and hangs up": lambda: (*referring(), m.LegEnded("phone", EndCause.REMOTE_LEFT)),
    "whom a phone refers to answers": lambda: (*referring(), m.PhoneRings("i", "new"), m.LegAnswered("new")),
    "a phone is replaced": lambda: (*three(), p.TakePlace("new", "phone", PHONES[1])),
    "a phone was replaced": lambda: (
        *(*three(), p.TakePlace("new", "phone", PHONES[1])),
        *(m.LegReady("new"), m.LegConnected("new")),
    ),
    "an app waits for a call": lambda: (*RINGING, p.Join(connection("b", joined=True))),
    "an app looks on": lambda: (*talking(), p.Join(connection("b", joined=True))),
    "over": lambda: (*talking(), m.HangUp("a")),
    "rejected": lambda: (*RINGING, m.Reject("i", EndCause.BUSY)),
}

LEGS, INVITATIONS, CONNECTIONS, EPOCHS = ("caller", "phone", "none"), ("i", "j", "none"), ("a", "b", "none"), (0, 1, 2)


def messages() -> list[m.Message]:
    """Every kind of message, about everything there is and something there is not."""
    return [
        m.CreateCall(connection("z", created=True), {"y": PHONES[1]}),
        *(m.PlaceCall(leg, "y", PHONES[1]) for leg in ("another",)),
        *(
            m.Answer(invitation, connection("z", streaming))
            for invitation in INVITATIONS
            for streaming in (True, False)
        ),
        *(m.Reject(invitation, EndCause.REJECTED) for invitation in INVITATIONS),
        *(m.Redirect(invitation, "y", PHONES[1]) for invitation in INVITATIONS),
        *(kind(id) for kind in (m.HangUp, m.Terminate, m.StartStream, m.StopStream) for id in CONNECTIONS),
        m.EndCall(EndCause.ENDED_BY_OTHER_APP),
        *(kind(leg) for kind in (m.LegReady, m.LegAnswered, m.LegConnected) for leg in LEGS),
        *(m.LegEnded(leg, cause) for leg in LEGS for cause in EndCause),
        *(m.PhoneRings(invitation, "another") for invitation in INVITATIONS),
        *(m.Unreachable(invitation) for invitation in INVITATIONS),
        *(m.RingTimedOut(invitation) for invitation in INVITATIONS),
        *(m.StreamOpened(id, epoch, again) for id in CONNECTIONS for epoch in EPOCHS for again in (False, True)),
        *(m.StreamFailed(id, epoch, cause, "") for id in CONNECTIONS for epoch in EPOCHS for cause in StreamFailure),
        *(m.StreamClosed(id, epoch) for id in CONNECTIONS for epoch in EPOCHS),
        *operation_messages(),
        *people_messages(),
    ]


def people_messages() -> list[m.Message]:
    askers, parties = [Asker(id) for id in CONNECTIONS], ("4:+15550100", *PHONES, "8:acs:r_a", "8:acs:r_b", "none")
    return [
        *(p.AddParticipant(asker, "y", PHONES[1], SHOWN) for asker in askers),
        *(p.CancelAdd(asker, invitation) for asker in askers for invitation in INVITATIONS),
        *(p.RemoveParticipant(asker, party) for asker in askers for party in parties),
        p.Join(connection("z", joined=True)),
        *(p.TransferParticipant(asker, "x", "y", PHONES[1], party) for asker in askers for party in (None, *parties)),
        p.PlaceTransfer("another", "old", "y", PHONES[1]),
        *(p.MoveHere(asker, parties, "there", "other") for asker in askers),
        *(p.TransferAnswered(call) for call in ("new", "none")),
        *(p.TransferEnded(call, EndCause.BUSY) for call in ("new", "none")),
        *(p.TransferDone(call) for call in ("new", "none")),
        *(p.Refer(leg, "y", PHONES[1]) for leg in LEGS),
        *(p.TakePlace("another", leg, PHONES[1]) for leg in LEGS),
        *(p.HandAllOver(leg, "other", "there") for leg in LEGS),
        p.Abandoned(),
        *(p.Wanted((party,), "other", HERE) for party in parties),
        *(p.NotMoved("somebody", HERE, problem) for problem in p.MoveProblem),
        *(p.LegArrived(Leg("another", PHONES[1], LegState.CONNECTED), move) for move in (None, HERE)),
    ]


def operation_messages() -> list[m.Message]:
    failure = Failure(Problem.FORMAT, index=0)
    ids, parties = ("o", "h", "w", "waits", "none"), ("4:+15550100", "none")
    return [
        *(o.Play(id, "n", (SOURCE,), interrupt=interrupt) for id in CONNECTIONS for interrupt in (False, True)),
        *(o.Recognize(id, "n", party, LISTENING) for id in CONNECTIONS for party in parties),
        *(o.CancelMedia(id) for id in CONNECTIONS),
        *(o.Mute(id, (party,)) for id in CONNECTIONS for party in parties),
        *(kind(id, "n", party) for kind in (o.WatchTones, o.Hold) for id in CONNECTIONS for party in parties),
        *(kind(id, party) for kind in (o.UnwatchTones, o.Unhold) for id in CONNECTIONS for party in parties),
        *(o.SendTones(id, "n", party, "1") for id in CONNECTIONS for party in parties),
        *(o.Prepared(id, clips, None if clips else failure) for id in ids for clips in ((), ("clip",))),
        *(o.Prepared(id, ()) for id in ids),
        *(kind(id) for kind in (o.PlayBegan, o.SpeechBegan) for id in ids),
        *(o.PlayEnded(id, problem) for id in ids for problem in (None, failure)),
        *(o.SpeechEnded(id, b"pcm", truth) for id in ids for truth in ("", "yes")),
        *(o.Recognised(id, "yes", 0.5) for id in ids),
        *(o.RecognitionFailed(id, failure) for id in ids),
        *(o.TonesPressed(leg, tones) for leg in LEGS for tones in ("1", "1#", "12")),
        *(o.TonesSent(id, problem) for id in ids for problem in ("", "no")),
        *(o.TimedOut(id, timer) for id in ids for timer in ("initial silence", "inter-tone")),
    ]


def test_every_kind_of_message_is_tried() -> None:
    assert {type(message) for message in messages()} == set(get_args(m.Message))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_message_in_every_situation(situation: str) -> None:
    """Commands are carried out or refused, reports are taken or dropped, and a refusal changes nothing."""
    for message in messages():
        watch = Watch()
        for earlier in SITUATIONS[situation]():
            watch.handle(earlier)
        watch.handle(copy.deepcopy(message))
        watch.handle(m.EndCall(EndCause.CANCELED))
        watch.check_over()


@pytest.mark.parametrize("situation", ["over", "rejected"])
def test_nothing_moves_a_call_that_is_over(situation: str) -> None:
    call = Call(CallData("call", "server", "correlation", "4:+15550100"))
    for message in SITUATIONS[situation]():
        call.handle(message, 0)
    before = copy.deepcopy(call.data)
    for message in messages():
        if isinstance(message, m.Command):
            with pytest.raises(Refused, match="Call not found"):
                call.handle(message, 1)
        else:
            assert call.handle(message, 1) == []
    assert call.data == before


# ------------------------------------------------------------------------------------------------ what always holds


class Watch:
    """Feeds a call, and checks every effect against those before it."""

    def __init__(self) -> None:
        self.call = Call(CallData("call", "server", "correlation", "4:+15550100"))
        self.now = 0.0
        self.over = False
        self.invited: set[str] = set()  # and not withdrawn
        self.connected_legs: set[str] = set()  # told to connect, and not ended
        self.open_streams: set[str] = set()
        self.epochs: dict[str, int] = {}  # of the last opening
        self.told: dict[str, list[m.Event]] = {}
        self.plays: set[str] = set()  # operations that play, and have not been told to stop
        self.ears: set[str] = set()
        self.released: set[str] = set()

    def handle(self, message: m.Message) -> None:
        self.now += 1
        before = copy.deepcopy(self.call.data)
        try:
            effects = self.call.handle(message, self.now)
        except Refused:
            assert isinstance(message, m.Command), "a report must never raise"
            assert self.call.data == before, "a refusal must not change the call"
            return
        assert not (self.over and effects), "a call that is over is over"
        match message:
            case m.LegEnded(leg):
                self.connected_legs.discard(leg)
            case m.StreamOpened(connection, epoch) if effects:
                assert epoch == self.epochs[connection], "a report about an earlier opening"
            case m.StreamFailed(connection, epoch) | m.StreamClosed(connection, epoch) if effects:
                assert epoch == self.epochs[connection], "a report about an earlier opening"
                self.open_streams.discard(connection)
            case p.LegArrived(leg) if effects:
                self.connected_legs.add(leg.id)
            case o.PlayEnded(id):
                self.plays.discard(id)
            case o.SpeechEnded(id) if effects:
                self.ears.discard(id)
        for index, effect in enumerate(effects):
            self._see(effect, index == len(effects) - 1)
        self.check()

    def _see(self, effect: m.Effect, last: bool) -> None:
        match effect:
            case m.Invite(invitation):
                self.invited.add(invitation)
            case m.SetRingTimer(invitation):
                assert invitation in self.invited
            case m.Withdraw(invitation):
                self.invited.discard(invitation)
            case m.ConnectLeg(leg):
                self.connected_legs.add(leg)
            case m.EndLeg(leg):
                assert self.call.data.legs[leg].of_call is None, "it is another call's"
                self.connected_legs.discard(leg)
            case p.HandOver(handed):
                assert handed.id not in self.call.data.legs
                assert handed.state is LegState.CONNECTED
                self.connected_legs.discard(handed.id)
            case m.OpenStream(connection, epoch):
                assert connection not in self.open_streams
                self.open_streams.add(connection)
                self.epochs[connection] = epoch
            case m.CloseStream(connection):
                self.open_streams.remove(connection)
            case m.Notify(connection, event):
                self._see_event(self.told.setdefault(connection, []), event)
                if isinstance(event, m.CallDisconnected):
                    assert connection not in self.open_streams
            case m.CallOver():
                assert last
                self.over = True
            case o.StartPlay(id):
                assert id not in self.plays | self.released
                self.plays.add(id)
            case o.StopPlay(id):
                self.plays.remove(id)
            case o.Listen(id):
                assert id not in self.ears | self.released
                self.ears.add(id)
            case o.StopListening(id):
                self.ears.remove(id)
            case o.Release(id):
                assert id not in self.released | self.plays | self.ears
                self.released.add(id)

    def _see_event(self, told: list[m.Event], event: m.Event) -> None:
        kinds = [type(earlier) for earlier in told]
        assert m.CallDisconnected not in kinds, "nothing follows CallDisconnected"
        match event:
            case m.CallConnected():
                assert m.CallConnected not in kinds
            case m.CreateCallFailed() | m.AnswerFailed() | p.ConnectFailed():
                assert m.CallConnected not in kinds
            case p.AddSucceeded() | p.AddFailed() | p.TransferAccepted() | p.TransferFailed() | p.MoveSucceeded():
                assert m.CallConnected in kinds
            case m.ParticipantsUpdated(participants, sequence):
                assert m.CallConnected in kinds
                assert sequence == kinds.count(m.ParticipantsUpdated) + 1
                assert len({participant.party for participant in participants}) == len(participants)
            case m.StreamingStarted() | m.StreamingStopped() | m.StreamingFailed():
                assert m.CallConnected in kinds
        told.append(event)

    def check(self) -> None:
        data = self.call.data
        assert data.over is self.over
        assert set(data.invitations) >= self.invited
        ringing = {invitation.leg for invitation in data.invitations.values()}
        legs = [leg for leg in data.legs.values() if leg.state is not LegState.ENDED and leg.id not in ringing]
        apps = [app for app in data.connections.values() if app.state is not ConnectionState.DISCONNECTED]
        assert {transfer.leg for transfer in data.transfers.values()} <= {leg.id for leg in legs}
        assert self.over or legs or apps or not (data.legs or data.connections), "nobody is in the call"
        for id, connection in data.connections.items():
            disconnected = connection.state is ConnectionState.DISCONNECTED
            assert disconnected == (m.CallDisconnected in map(type, self.told.get(id, [])))
            streams = connection.stream.state in (StreamState.OPENING, StreamState.ACTIVE)
            assert streams == (id in self.open_streams)
        assert not self.released & set(data.operations)
        assert {each.id for each in data.operations.values() if each.state is OperationState.PLAYING} == self.plays
        assert {each.id for each in data.operations.values() if each.ear} == self.ears

    def check_over(self) -> None:
        assert self.over
        assert not self.invited
        assert not self.connected_legs
        assert not self.open_streams
        assert not self.call.data.operations
        assert not self.call.data.transfers
        assert all(leg.state is LegState.ENDED for leg in self.call.data.legs.values())
        for id in self.call.data.connections:
            assert [type(event) for event in self.told[id]].count(m.CallDisconnected) == 1
            assert isinstance(self.told[id][-1], m.CallDisconnected)


class AnyCall(RuleBasedStateMachine):
    """A call that goes any way at all, told about by whoever takes part in it."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch()
        self.ids = iter(f"n{number}" for number in range(1000))

    @property
    def data(self) -> CallData:
        return self.watch.call.data

    def pick(self, choice: st.DataObject, ids: Any) -> str:
        """One of the ids that are in the call, or, now and then, one that is not."""
        picked: str = choice.draw(st.sampled_from([*ids, *ids, *ids, "none"]))
        return picked

    @rule(streaming=st.booleans(), callees=st.integers(1, 3))
    def create(self, streaming: bool, callees: int) -> None:
        if not self.data.connections and not self.data.legs:
            created = connection(next(self.ids), streaming, created=True)
            self.watch.handle(m.CreateCall(created, {next(self.ids): PHONES[0] for _ in range(callees)}))

    @rule()
    def place(self) -> None:
        if not self.data.connections and not self.data.legs:
            leg = next(self.ids)
            self.watch.handle(m.PlaceCall(leg, next(self.ids), "8:acs:r_a"))
            self.watch.handle(m.LegReady(leg))

    @rule(choice=st.data(), streaming=st.booleans())
    def answer(self, choice: st.DataObject, streaming: bool) -> None:
        self.watch.handle(m.Answer(self.pick(choice, self.data.invitations), connection(next(self.ids), streaming)))

    @rule(choice=st.data())
    def phone_rings(self, choice: st.DataObject) -> None:
        waiting = [id for id, invitation in self.data.invitations.items() if invitation.leg is None]
        self.watch.handle(m.PhoneRings(self.pick(choice, waiting), next(self.ids)))

    @rule(choice=st.data())
    def redirect(self, choice: st.DataObject) -> None:
        self.watch.handle(m.Redirect(self.pick(choice, self.data.invitations), next(self.ids), PHONES[1]))

    @rule(choice=st.data(), kind=st.sampled_from([m.RingTimedOut, m.Unreachable, m.Reject]))
    def not_answered(self, choice: st.DataObject, kind: Any) -> None:
        cause = (EndCause.BUSY,) if kind is m.Reject else ()
        self.watch.handle(kind(self.pick(choice, self.data.invitations), *cause))

    @rule(choice=st.data(), kind=st.sampled_from([m.LegAnswered, m.LegConnected]))
    def leg_moves(self, choice: st.DataObject, kind: Any) -> None:
        self.watch.handle(kind(self.pick(choice, self.data.legs)))

    @rule(choice=st.data(), cause=st.sampled_from(EndCause))
    def leg_ends(self, choice: st.DataObject, cause: EndCause) -> None:
        self.watch.handle(m.LegEnded(self.pick(choice, self.data.legs), cause))

    @rule(choice=st.data(), kind=st.sampled_from([m.HangUp, m.Terminate, m.StartStream, m.StopStream]))
    def app_asks(self, choice: st.DataObject, kind: Any) -> None:
        self.watch.handle(kind(self.pick(choice, self.data.connections)))

    @rule(choice=st.data())
    def app_asks_people(self, choice: st.DataObject) -> None:
        asker = Asker(self.pick(choice, self.data.connections))
        party = self.pick(choice, sorted(present(self.watch.call)))
        calls = [*self.data.transfers]
        commands: dict[str, m.Message] = {
            "add": p.AddParticipant(asker, next(self.ids), PHONES[1], SHOWN),
            "cancel": p.CancelAdd(asker, self.pick(choice, self.data.invitations)),
            "remove": p.RemoveParticipant(asker, party),
            "join": p.Join(connection(next(self.ids), joined=True)),
            "transfer": p.TransferParticipant(asker, next(self.ids), next(self.ids), PHONES[1], party),
            "move": p.MoveHere(asker, (party,), "there", "other"),
            "transferred": p.TransferAnswered(self.pick(choice, calls)),
            "put through": p.TransferDone(self.pick(choice, calls)),
            "not transferred": p.TransferEnded(self.pick(choice, calls), EndCause.BUSY),
            "wanted": p.Wanted((party,), "other", HERE),
            "arrived": p.LegArrived(Leg(next(self.ids), PHONES[1], LegState.CONNECTED), HERE),
        }
        if self.data.legs or self.data.connections:
            self.watch.handle(commands[choice.draw(st.sampled_from(sorted(commands)))])

    @rule(choice=st.data())
    def telephone_asks(self, choice: st.DataObject) -> None:
        leg = self.pick(choice, self.data.legs)
        commands: dict[str, m.Message] = {
            "refer": p.Refer(leg, next(self.ids), PHONES[1]),
            "replace": p.TakePlace(next(self.ids), leg, PHONES[1]),
            "unite": p.HandAllOver(leg, "other", "there"),
        }
        if self.data.legs or self.data.connections:
            self.watch.handle(commands[choice.draw(st.sampled_from(sorted(commands)))])

    @rule(choice=st.data())
    def app_asks_media(self, choice: st.DataObject) -> None:
        id, party = self.pick(choice, self.data.connections), self.pick(choice, sorted(present(self.watch.call)))
        operation = next(self.ids)
        commands: dict[str, m.Command] = {
            "play": o.Play(id, operation, (SOURCE,), (party,), interrupt=choice.draw(st.booleans())),
            "recognize": o.Recognize(id, operation, party, LISTENING, choice.draw(st.sampled_from([(), (SOURCE,)]))),
            "hold": o.Hold(id, operation, party),
            "unhold": o.Unhold(id, party),
            "watch": o.WatchTones(id, operation, party),
            "unwatch": o.UnwatchTones(id, party),
            "send": o.SendTones(id, operation, party, "1"),
            "cancel": o.CancelMedia(id),
            "mute": o.Mute(id, (party,)),
        }
        self.watch.handle(commands[choice.draw(st.sampled_from(sorted(commands)))])

    @rule(choice=st.data())
    def something_is_told_of_an_operation(self, choice: st.DataObject) -> None:
        id = self.pick(choice, self.data.operations)
        failure = choice.draw(st.sampled_from([None, Failure(Problem.FORMAT, index=0)]))
        reports: list[m.Report] = [
            o.Prepared(id, choice.draw(st.sampled_from([(), ("clip",)])), failure),
            o.PlayBegan(id),
            o.PlayEnded(id, failure),
            o.SpeechBegan(id),
            o.SpeechEnded(id, b"", choice.draw(st.sampled_from(["", "yes"]))),
            o.Recognised(id, "yes", 0.5),
            o.TonesSent(id),
            o.TonesPressed(self.pick(choice, self.data.legs), choice.draw(st.sampled_from(["1", "1#"]))),
            o.TimedOut(id, choice.draw(st.sampled_from(["initial silence", "inter-tone"]))),
        ]
        self.watch.handle(choice.draw(st.sampled_from(reports)))

    @rule(choice=st.data(), epoch=st.integers(0, 3), kind=st.sampled_from(["up", "again", "closed", "failed"]))
    def stream_tells(self, choice: st.DataObject, epoch: int, kind: str) -> None:
        id = self.pick(choice, self.data.connections)
        reports: dict[str, m.Report] = {
            "up": m.StreamOpened(id, epoch),
            "again": m.StreamOpened(id, epoch, again=True),
            "closed": m.StreamClosed(id, epoch),
            "failed": m.StreamFailed(id, epoch, StreamFailure.INTERRUPTED, "lost"),
        }
        self.watch.handle(reports[kind])

    def teardown(self) -> None:
        if not self.watch.over:
            self.watch.handle(m.EndCall(EndCause.CANCELED))
        self.watch.check_over()


AnyCall.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
test_any_call = AnyCall.TestCase
