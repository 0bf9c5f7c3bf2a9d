"""Media operations, told message by message: what goes in, and every effect that comes out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.call import messages as m
from offhook.call import operation_messages as o
from offhook.call.call import Call, Refusal, Refused
from offhook.call.model import (
    CallData,
    Connection,
    EndCause,
    MediaStream,
    Participant,
    StreamState,
)
from offhook.call.operations import (
    MAX_SENDING,
    MAX_WAITING,
    Choice,
    Failure,
    OperationKind,
    Outcome,
    Problem,
    RecognizeOptions,
)
from offhook.call.prompts import Source
from offhook.call.recognize import INITIAL_SILENCE, INTER_TONE, choose

CALLER, PHONE = "4:+15550100", "4:+15550199"
APP = "8:acs:res_app"
FILE, TEXT = Source("file", uri="https://x/y.wav"), Source("text", text="hello")
KEYS = RecognizeOptions(keys=True)
SPEECH = RecognizeOptions(speech=True)
BOTH = RecognizeOptions(keys=True, speech=True)
YES_NO = (Choice("Yes", ("yes", "sure"), "1"), Choice("No", ("no", "no thanks"), "2"))
CHOICES = RecognizeOptions(keys=True, speech=True, choices=YES_NO)
CONTEXT, CALLBACK = "context", "https://app.example/own"

# ------------------------------------------------------------------------------------------------ calls to try it on


def connection(id: str, party: str = APP) -> Connection:
    stream = MediaStream(f"s-{id}", None, StreamState.DISABLED)
    return Connection(id, party, f"https://app.example/{id}", "2025-06-15", stream)


def talking() -> Call:
    """A caller (on leg "caller") talks to app "a"."""
    call = Call(CallData("call", "server", "correlation", CALLER))
    call.handle(m.PlaceCall("caller", "i", APP), 0)
    call.handle(m.LegReady("caller"), 0)
    call.handle(m.Answer("i", connection("a")), 0)
    call.handle(m.LegConnected("caller"), 0)
    return call


def three(party: str = PHONE) -> Call:
    """App "a" has called two phones, CALLER (on "caller") and PHONE (on "phone"), and talks to both."""
    call = Call(CallData("call", "server", "correlation", APP))
    created = connection("a")
    created.created = True
    call.handle(m.CreateCall(created, {"i": CALLER, "j": party}), 0)
    for invitation, leg in (("i", "caller"), ("j", "phone")):
        call.handle(m.PhoneRings(invitation, leg), 0)
        call.handle(m.LegAnswered(leg), 0)
        call.handle(m.LegConnected(leg), 0)
    return call


def tell(call: Call, *messages: m.Message) -> list[m.Effect]:
    """What the last one leads to."""
    effects: list[m.Effect] = []
    for message in messages:
        effects = call.handle(message, 1)
    return effects


def play(id: str = "p", *sources: Source, **more: Any) -> o.Play:
    return o.Play("a", id, sources or (FILE,), **{"context": CONTEXT, **more})


def recognize(options: RecognizeOptions, *prompts: Source, id: str = "r", **more: Any) -> o.Recognize:
    return o.Recognize("a", id, CALLER, options, prompts, **{"context": CONTEXT, **more})


def event(event: m.Event, callback: str | None = None) -> m.Notify:
    return m.Notify("a", event, callback)


def events(effects: list[m.Effect]) -> list[m.Event]:
    return [effect.event for effect in effects if isinstance(effect, m.Notify)]


def refusal(call: Call, command: m.Command) -> Refusal:
    with pytest.raises(Refused) as refused:
        call.handle(command, 9)
    return refused.value.refusal


PLAYING = (play(), o.Prepared("p", ("clip",)))

# ------------------------------------------------------------------------------------------------ play


def test_a_play_from_its_request_to_its_end() -> None:
    call = talking()
    assert tell(call, play(callback=CALLBACK)) == [o.Prepare("p")]
    assert tell(call, o.Prepared("p", ("clip",))) == [o.StartPlay("p", ("clip",))]
    assert tell(call, o.PlayBegan("p")) == [event(o.PlayStarted(CONTEXT), CALLBACK)]
    assert tell(call, o.PlayEnded("p")) == [o.Release("p"), event(o.PlayCompleted(CONTEXT), CALLBACK)]
    assert call.data.operations == {}


def test_an_only_source_that_is_bad_fails_alone() -> None:
    """Recorded: E15."""
    failure = Failure(Problem.FORMAT, "not audio", 0)
    assert tell(talking(), play(), o.Prepared("p", (), failure)) == [
        o.Release("p"),
        event(o.PlayFailed(failure, CONTEXT)),
    ]


def test_a_second_source_that_is_bad_fails_after_the_first_was_played() -> None:
    """Recorded: E25."""
    call, failure = talking(), Failure(Problem.DOWNLOAD, "404", 1)
    assert tell(call, play("p", FILE, FILE), o.Prepared("p", ("clip",), failure)) == [o.StartPlay("p", ("clip",))]
    assert events(tell(call, o.PlayEnded("p"))) == [o.PlayFailed(failure, CONTEXT)]


def test_a_clip_that_cannot_be_played() -> None:
    failure = Failure(Problem.FORMAT, "gone", 0)
    assert events(tell(talking(), *PLAYING, o.PlayEnded("p", failure))) == [o.PlayFailed(failure, CONTEXT)]


def test_plays_and_recognitions_wait_for_their_turn() -> None:
    call = talking()
    tell(call, play("p1"))
    assert tell(call, play("p2")) == []
    assert tell(call, recognize(KEYS)) == []
    tell(call, o.Prepared("p1", ("clip",)))
    assert tell(call, o.PlayEnded("p1")) == [o.Release("p1"), event(o.PlayCompleted(CONTEXT)), o.Prepare("p2")]
    failure = Failure(Problem.EMPTY, index=0)
    assert tell(call, o.Prepared("p2", (), failure))[-1] == o.Prepare("r")
    assert tell(call, o.Prepared("r", ())) == [o.SetTimer("r", INITIAL_SILENCE, 5.0)]


def test_so_many_may_wait() -> None:
    call = talking()
    for number in range(1 + MAX_WAITING):
        tell(call, play(f"p{number}"))
    assert refusal(call, play("one more")) is Refusal.TOO_MANY_OPERATIONS
    assert refusal(call, recognize(KEYS)) is Refusal.TOO_MANY_OPERATIONS
    assert o.Prepare("urgent") in tell(call, play("urgent", interrupt=True))


def test_one_that_interrupts_cancels_all_before_it() -> None:
    call = talking()
    tell(call, *PLAYING, recognize(KEYS))
    assert tell(call, play("now", interrupt=True)) == [
        o.StopPlay("p"),
        o.Release("p"),
        o.Release("r"),
        event(o.PlayCanceled(CONTEXT)),
        event(o.RecognizeCanceled(CONTEXT)),
        o.Prepare("now"),
    ]


def test_a_recognition_that_interrupts() -> None:
    call = talking()
    effects = tell(call, *PLAYING, recognize(KEYS, interrupt=True))
    assert events(effects) == [o.PlayCanceled(CONTEXT)]
    assert effects[-1] == o.Prepare("r")


def test_cancel_all_ends_what_the_connection_plays_and_recognises_in_order() -> None:
    call = talking()
    tell(call, o.WatchTones("a", "w", CALLER), *PLAYING, play("p2"), recognize(KEYS))
    cancelled = [o.PlayCanceled(CONTEXT), o.PlayCanceled(CONTEXT), o.RecognizeCanceled(CONTEXT)]
    assert events(tell(call, o.CancelMedia("a"))) == cancelled
    assert list(call.data.operations) == ["w"]
    assert tell(call, o.CancelMedia("a")) == []


@pytest.mark.parametrize(
    "late",
    [o.Prepared("p", ("clip",)), o.PlayBegan("p"), o.PlayEnded("p"), o.SpeechBegan("p"), o.TimedOut("p", INTER_TONE)],
)
def test_what_comes_too_late_is_dropped(late: m.Message) -> None:
    assert tell(talking(), *PLAYING, o.CancelMedia("a"), late) == []


def test_a_play_to_somebody_who_is_not_there() -> None:
    assert refusal(talking(), play(to=(CALLER, PHONE))) is Refusal.PARTICIPANT_NOT_FOUND
    assert tell(talking(), play(to=(CALLER, APP))) == [o.Prepare("p")]


def test_nothing_is_played_before_the_call_stands() -> None:
    call = Call(CallData("call", "server", "correlation", CALLER))
    call.handle(m.CreateCall(connection("a"), {"i": PHONE}), 0)
    for command in COMMANDS:
        assert refusal(call, command) is Refusal.NOT_ESTABLISHED


COMMANDS: list[m.Command] = [
    play(),
    recognize(KEYS),
    o.CancelMedia("a"),
    o.WatchTones("a", "w", CALLER),
    o.UnwatchTones("a", CALLER),
    o.SendTones("a", "s", CALLER, "1"),
    o.Mute("a", (CALLER,)),
    o.Hold("a", "h", CALLER),
    o.Unhold("a", CALLER),
]

# ------------------------------------------------------------------------------------------------ recognize: keys


def test_keys_up_to_the_most_that_are_wanted() -> None:
    call = talking()
    tell(call, recognize(replace(KEYS, max_tones=2, inter_tone_s=3.0)))
    assert tell(call, o.Prepared("r", ())) == [o.SetTimer("r", INITIAL_SILENCE, 5.0)]
    assert tell(call, o.TonesPressed("caller", "1")) == [
        o.StopTimer("r", INITIAL_SILENCE),
        o.SetTimer("r", INTER_TONE, 3.0),
    ]
    assert tell(call, o.TonesPressed("caller", "#"))[-2:] == [
        o.Release("r"),
        event(o.RecognizeCompleted(Outcome.MAX_TONES, "1#", CONTEXT)),
    ]


def listening(options: RecognizeOptions, call: Call | None = None) -> Call:
    call = call or talking()
    tell(call, recognize(options), o.Prepared("r", ()))
    return call


def test_a_stop_tone_is_no_part_of_the_result() -> None:
    call = listening(replace(KEYS, max_tones=4, stop_tones="#*"))
    assert events(tell(call, o.TonesPressed("caller", "12#3"))) == [
        o.RecognizeCompleted(Outcome.STOP_TONE, "12", CONTEXT)
    ]


def test_a_stop_tone_alone() -> None:
    call = listening(replace(KEYS, stop_tones="#"))
    assert events(tell(call, o.TonesPressed("caller", "#"))) == [o.RecognizeCompleted(Outcome.STOP_TONE, "", CONTEXT)]


def test_nothing_is_pressed() -> None:
    call = listening(KEYS)
    failed = o.RecognizeFailed(Failure(Problem.INITIAL_SILENCE), CONTEXT)
    assert events(tell(call, o.TimedOut("r", INITIAL_SILENCE))) == [failed]


def test_too_few_are_pressed() -> None:
    call = listening(replace(KEYS, max_tones=4))
    completed = o.RecognizeCompleted(Outcome.INTER_TONE_TIMEOUT, "12", CONTEXT)
    assert events(tell(call, o.TonesPressed("caller", "12"), o.TimedOut("r", INTER_TONE))) == [completed]


def test_only_keys_of_the_party_count() -> None:
    call = listening(replace(KEYS, max_tones=1), three())
    assert tell(call, o.TonesPressed("phone", "1")) == []
    assert tell(call, o.TonesPressed("nobody", "1")) == []


def test_a_key_while_the_prompt_plays_ends_it_and_counts() -> None:
    call = talking()
    tell(call, recognize(replace(KEYS, max_tones=1), TEXT), o.Prepared("r", ("clip",)))
    assert tell(call, o.PlayBegan("r")) == []  # No PlayStarted (recorded: E16).
    assert tell(call, o.TonesPressed("caller", "1")) == [
        o.StopPlay("r"),
        o.Release("r"),
        event(o.RecognizeCompleted(Outcome.MAX_TONES, "1", CONTEXT)),
    ]


def test_after_a_key_into_the_prompt_only_the_time_between_keys_runs() -> None:
    call = talking()
    tell(call, recognize(replace(KEYS, max_tones=2), TEXT), o.Prepared("r", ("clip",)))
    assert tell(call, o.TonesPressed("caller", "1")) == [o.StopPlay("r"), o.SetTimer("r", INTER_TONE, 2.0)]
    assert tell(call, o.PlayEnded("r")) == []  # It crossed the stop.


def test_keys_while_a_prompt_plays_that_may_not_be_interrupted_do_not_count() -> None:
    call = talking()
    tell(call, recognize(replace(BOTH, max_tones=1, interruptible=False), TEXT))
    assert tell(call, o.TonesPressed("caller", "1")) == []
    assert tell(call, o.Prepared("r", ("clip",))) == [o.StartPlay("r", ("clip",))]
    assert tell(call, o.TonesPressed("caller", "1")) == []
    assert tell(call, o.PlayEnded("r")) == [o.Listen("r"), o.SetTimer("r", INITIAL_SILENCE, 5.0)]


def test_a_prompt_that_fails() -> None:
    """Recorded: E17."""
    failure = Failure(Problem.FORMAT, "not audio", 0)
    assert events(tell(talking(), recognize(KEYS, FILE), o.Prepared("r", (), failure))) == [
        o.RecognizeFailed(failure, CONTEXT)
    ]


def test_keys_before_the_recognition_runs_do_not_count() -> None:
    call = talking()
    tell(call, *PLAYING, recognize(replace(KEYS, max_tones=1)))
    assert tell(call, o.TonesPressed("caller", "1")) == []


# ------------------------------------------------------------------------------------------------ recognize: speech


def test_speech_from_the_request_to_the_words() -> None:
    call = talking()
    tell(call, recognize(SPEECH))
    assert tell(call, o.Prepared("r", ())) == [o.Listen("r"), o.SetTimer("r", INITIAL_SILENCE, 5.0)]
    assert tell(call, o.SpeechBegan("r")) == [o.StopTimer("r", INITIAL_SILENCE)]
    assert tell(call, o.SpeechEnded("r", b"pcm")) == [o.Recognise("r", b"pcm")]
    words = o.Words("hello", 0.9)
    assert tell(call, o.Recognised("r", "hello", 0.9)) == [
        o.Release("r"),
        event(o.RecognizeCompleted(Outcome.SPEECH, words, CONTEXT)),
    ]


def spoken(options: RecognizeOptions, *said: m.Message) -> list[m.Event]:
    return events(tell(listening(options), o.SpeechBegan("r"), *said))


def test_what_a_script_says_needs_no_recognition() -> None:
    completed = o.RecognizeCompleted(Outcome.SPEECH, o.Words("tuesday", 1.0), CONTEXT)
    assert spoken(SPEECH, o.SpeechEnded("r", b"pcm", "tuesday")) == [completed]


def test_nothing_can_be_made_of_it() -> None:
    failed = o.RecognizeFailed(Failure(Problem.NOT_RECOGNISED), CONTEXT)
    assert spoken(SPEECH, o.SpeechEnded("r", b"pcm"), o.Recognised("r", "", 0.0)) == [failed]


def test_the_engine_fails() -> None:
    failure = Failure(Problem.UNSUPPORTED, "no Klingon")
    failed = o.RecognizeFailed(failure, CONTEXT)
    assert spoken(SPEECH, o.SpeechEnded("r", b"pcm"), o.RecognitionFailed("r", failure)) == [failed]


def test_a_word_into_the_prompt_ends_it() -> None:
    call = talking()
    tell(call, recognize(SPEECH, TEXT))
    assert tell(call, o.Prepared("r", ("clip",))) == [o.StartPlay("r", ("clip",)), o.Listen("r")]
    assert tell(call, o.SpeechBegan("r")) == [o.StopPlay("r")]
    assert tell(call, o.SpeechEnded("r", b"pcm")) == [o.Recognise("r", b"pcm")]


def test_the_silence_counts_from_the_end_of_the_prompt() -> None:
    call = talking()
    tell(call, recognize(SPEECH, TEXT), o.Prepared("r", ("clip",)))
    assert tell(call, o.PlayEnded("r")) == [o.SetTimer("r", INITIAL_SILENCE, 5.0)]


def test_after_the_first_key_nobody_listens() -> None:
    call = listening(replace(BOTH, max_tones=2))
    assert o.StopListening("r") in tell(call, o.TonesPressed("caller", "1"))
    assert tell(call, o.SpeechBegan("r")) == []
    assert tell(call, o.SpeechEnded("r", b"pcm")) == []
    assert events(tell(call, o.TonesPressed("caller", "2"))) == [o.RecognizeCompleted(Outcome.MAX_TONES, "12", CONTEXT)]


def test_after_the_first_word_keys_do_not_count() -> None:
    call = listening(replace(BOTH, max_tones=1))
    tell(call, o.SpeechBegan("r"))
    assert tell(call, o.TonesPressed("caller", "1")) == []
    assert tell(call, o.TimedOut("r", INITIAL_SILENCE)) == []
    assert tell(call, o.SpeechEnded("r", b"pcm")) == [o.Recognise("r", b"pcm")]


def test_canceled_while_somebody_listens() -> None:
    call = listening(SPEECH)
    assert tell(call, o.CancelMedia("a")) == [
        o.StopListening("r"),
        o.Release("r"),
        event(o.RecognizeCanceled(CONTEXT)),
    ]


# ------------------------------------------------------------------------------------------------ recognize: choices


@pytest.mark.parametrize(
    ("said", "label", "phrase"),
    [
        ("yes", "Yes", "yes"),
        ("Sure!", "Yes", "sure"),
        ("Well, yes please.", "Yes", "yes"),
        ("no", "No", "no"),
        ("oh no thanks", "No", "no thanks"),
        ("yesterday", None, None),
        ("know", None, None),
        ("", None, None),
    ],
)
def test_choices_by_phrase(said: str, label: str | None, phrase: str | None) -> None:
    chosen = choose(YES_NO, said)
    assert (chosen[0].label, chosen[1]) == (label, phrase) if chosen else label is None


@given(st.text(), st.lists(st.text(), max_size=3))
def test_a_choice_is_made_of_any_text_or_not(said: str, phrases: list[str]) -> None:
    chosen = choose([Choice("any", tuple(phrases))], said)
    assert chosen is None or chosen[1] in phrases


def test_a_choice_by_what_is_said() -> None:
    completed = o.RecognizeCompleted(Outcome.CHOICE_BY_SPEECH, o.Chosen("Yes", o.Words("yes", 0.8)), CONTEXT)
    assert spoken(CHOICES, o.SpeechEnded("r", b"pcm"), o.Recognised("r", "yes please", 0.8)) == [completed]


def test_what_is_said_is_no_choice() -> None:
    failed = o.RecognizeFailed(Failure(Problem.NO_CHOICE, "heard 'perhaps'"), CONTEXT)
    assert spoken(CHOICES, o.SpeechEnded("r", b"", "perhaps")) == [failed]


def test_a_choice_by_key() -> None:
    completed = o.RecognizeCompleted(Outcome.CHOICE_BY_TONE, o.Chosen("No"), CONTEXT)
    assert events(tell(listening(CHOICES), o.TonesPressed("caller", "2"))) == [completed]


def test_a_key_that_is_no_choice() -> None:
    failed = o.RecognizeFailed(Failure(Problem.WRONG_TONE), CONTEXT)
    assert events(tell(listening(CHOICES), o.TonesPressed("caller", "3"))) == [failed]


def test_keys_do_not_count_when_no_choice_has_one() -> None:
    call = listening(RecognizeOptions(speech=True, choices=YES_NO))
    assert tell(call, o.TonesPressed("caller", "1")) == []


# ------------------------------------------------------------------------------------------------ tones


def test_every_key_is_told_to_whoever_watches() -> None:
    call = three()
    assert tell(call, o.WatchTones("a", "w1", CALLER, CONTEXT, CALLBACK)) == []
    tell(call, o.WatchTones("a", "w2", PHONE))
    assert tell(call, o.TonesPressed("caller", "1#")) == [
        event(o.ToneReceived("1", 1, CONTEXT), CALLBACK),
        event(o.ToneReceived("#", 2, CONTEXT), CALLBACK),
    ]
    assert tell(call, o.TonesPressed("phone", "5")) == [event(o.ToneReceived("5", 1, None))]
    assert tell(call, o.UnwatchTones("a", CALLER)) == [o.Release("w1"), event(o.TonesStopped(CONTEXT), CALLBACK)]
    assert tell(call, o.TonesPressed("caller", "1")) == []


def test_watching_again_goes_on_with_the_new_context() -> None:
    call = talking()
    tell(call, o.WatchTones("a", "w1", CALLER), o.TonesPressed("caller", "1"), o.WatchTones("a", "w2", CALLER, "new"))
    assert events(tell(call, o.TonesPressed("caller", "2"))) == [o.ToneReceived("2", 2, "new")]
    assert len(call.data.operations) == 1


def test_the_context_of_the_stop_rules() -> None:
    call = talking()
    tell(call, o.WatchTones("a", "w", CALLER, CONTEXT))
    assert events(tell(call, o.UnwatchTones("a", CALLER, "stop"))) == [o.TonesStopped("stop")]


def test_stopping_what_does_not_run_is_told_all_the_same() -> None:
    assert tell(talking(), o.UnwatchTones("a", CALLER, "stop", CALLBACK)) == [event(o.TonesStopped("stop"), CALLBACK)]


def test_keys_are_told_beside_a_recognition() -> None:
    call = listening(replace(KEYS, max_tones=1))
    tell(call, o.WatchTones("a", "w", CALLER))
    assert [type(each) for each in events(tell(call, o.TonesPressed("caller", "1")))] == [
        o.RecognizeCompleted,
        o.ToneReceived,
    ]


def test_sending_tones() -> None:
    call = talking()
    send = o.SendTones("a", "s", CALLER, "12#", CONTEXT, CALLBACK)
    assert tell(call, send) == [o.PressTones("s", "caller")]
    assert call.data.operations["s"].tones == "12#"
    assert tell(call, o.TonesSent("s")) == [o.Release("s"), event(o.SendTonesCompleted(CONTEXT), CALLBACK)]


def test_tones_that_could_not_be_sent() -> None:
    failure = Failure(Problem.NOT_SENT, "no telephone events")
    sent = tell(talking(), o.SendTones("a", "s", CALLER, "1"), o.TonesSent("s", "no telephone events"))
    assert events(sent) == [o.SendTonesFailed(failure, None)]


def test_tones_need_a_party_with_a_telephone_and_are_bounded() -> None:
    call = talking()
    assert refusal(call, o.SendTones("a", "s", PHONE, "1")) is Refusal.PARTICIPANT_NOT_FOUND
    assert refusal(call, o.SendTones("a", "s", APP, "1")) is Refusal.PARTICIPANT_NOT_FOUND
    for number in range(MAX_SENDING):
        tell(call, o.SendTones("a", f"s{number}", CALLER, "1"))
    assert refusal(call, o.SendTones("a", "s", CALLER, "1")) is Refusal.TOO_MANY_OPERATIONS


# ------------------------------------------------------------------------------------------------ mute and hold


def participants(call: Call, *, muted: str = "", on_hold: str = "", sequence: int) -> m.Notify:
    people = tuple(Participant(p.party, p.party == muted, p.party == on_hold) for p in call.participants())
    return event(m.ParticipantsUpdated(people, sequence))


def test_mute() -> None:
    call = talking()
    effects = tell(call, o.Mute("a", (CALLER,)))
    assert effects == [o.RouteParty(CALLER, True, False), participants(call, muted=CALLER, sequence=2)]
    assert tell(call, o.Mute("a", (CALLER,))) == []


def test_hold_with_music_and_its_end() -> None:
    call = talking()
    assert tell(call, o.Hold("a", "h", CALLER, FILE, CONTEXT, CALLBACK)) == [
        o.RouteParty(CALLER, False, True),
        participants(call, on_hold=CALLER, sequence=2),
        o.Prepare("h"),
    ]
    operation = call.data.operations["h"]
    assert (operation.sources, operation.to, operation.loop) == ((FILE,), (CALLER,), True)
    assert tell(call, o.Prepared("h", ("clip",))) == [o.StartPlay("h", ("clip",))]
    assert operation.sources == ()
    assert tell(call, o.PlayBegan("h")) == []
    assert tell(call, o.Unhold("a", CALLER)) == [
        o.StopPlay("h"),
        o.Release("h"),
        o.RouteParty(CALLER, False, False),
        participants(call, sequence=3),
    ]
    assert tell(call, o.Unhold("a", CALLER)) == []


def test_hold_without_music_has_the_default() -> None:
    call = talking()
    assert tell(call, o.Hold("a", "h", CALLER))[-1] == o.Prepare("h")
    assert call.data.operations["h"].sources == ()


def test_other_music_for_who_is_on_hold() -> None:
    call = talking()
    tell(call, o.Hold("a", "h1", CALLER, FILE), o.Prepared("h1", ("clip",)))
    assert tell(call, o.Hold("a", "h2", CALLER, TEXT)) == [o.StopPlay("h1"), o.Release("h1"), o.Prepare("h2")]


@pytest.mark.parametrize("playing", [False, True])
def test_a_hold_whose_music_fails_is_taken_back(playing: bool) -> None:
    """Recorded: E14."""
    call, failure = talking(), Failure(Problem.FORMAT, "not audio", 0)
    tell(call, o.Hold("a", "h", CALLER, FILE, CONTEXT))
    if playing:
        tell(call, o.Prepared("h", ("clip",)))
    failed: m.Report = o.PlayEnded("h", failure) if playing else o.Prepared("h", (), failure)
    effects = tell(call, failed)
    assert [effect for effect in effects if not isinstance(effect, o.StopPlay | o.Release)] == [
        event(o.HoldFailed(failure, CONTEXT)),
        o.RouteParty(CALLER, False, False),
        participants(call, sequence=3),
    ]


def test_hold_does_not_wait_for_what_plays_and_is_not_canceled_with_it() -> None:
    call = talking()
    tell(call, *PLAYING, o.Hold("a", "h", CALLER), o.CancelMedia("a"))
    assert [each.kind for each in call.data.operations.values()] == [OperationKind.HOLD]


def test_muted_and_on_hold_at_once() -> None:
    call = talking()
    tell(call, o.Mute("a", (CALLER,)))
    assert o.RouteParty(CALLER, True, True) in tell(call, o.Hold("a", "h", CALLER))
    assert o.RouteParty(CALLER, True, False) in tell(call, o.Unhold("a", CALLER))


@pytest.mark.parametrize(
    "command",
    [
        recognize(KEYS),
        o.WatchTones("a", "w", PHONE),
        o.Mute("a", (CALLER, PHONE)),
        o.Hold("a", "h", PHONE),
        o.Unhold("a", PHONE),
    ],
)
def test_who_is_not_there(command: m.Command) -> None:
    if isinstance(command, o.Recognize):
        command = replace(command, party=PHONE)
    assert refusal(talking(), command) is Refusal.PARTICIPANT_NOT_FOUND


# ------------------------------------------------------------------------------------------------ who leaves


def busy(call: Call) -> None:
    """Everything that can go on at a time."""
    tell(call, *PLAYING, recognize(SPEECH), o.WatchTones("a", "w", CALLER, CONTEXT))
    tell(call, o.SendTones("a", "s", CALLER, "1", CONTEXT), o.Hold("a", "h", CALLER), o.Prepared("h", ("clip",)))
    tell(call, o.Mute("a", (CALLER,)))


@pytest.mark.parametrize(
    "end", [m.HangUp("a"), m.Terminate("a"), m.LegEnded("caller", EndCause.REMOTE_LEFT), m.EndCall(EndCause.MEDIA_LOST)]
)
def test_when_the_call_ends_everything_ends_before_it(end: m.Message) -> None:
    call = talking()
    busy(call)
    effects = tell(call, end)
    assert events(effects)[:-1] == [
        o.PlayCanceled(CONTEXT),
        o.RecognizeCanceled(CONTEXT),
        o.TonesStopped(CONTEXT),
        o.SendTonesFailed(Failure(Problem.CANCELED), CONTEXT),
    ]
    assert isinstance(events(effects)[-1], m.CallDisconnected)
    assert {o.StopPlay("p"), o.StopPlay("h"), *(o.Release(id) for id in ("p", "r", "w", "s", "h"))} <= set(effects)
    assert effects[-1] == m.CallOver()
    assert call.data.operations == {}


def test_when_a_party_leaves_what_is_about_it_fails() -> None:
    call = three()
    tell(call, recognize(KEYS), play("p", to=(PHONE,)), play("all"), o.WatchTones("a", "w", CALLER, CONTEXT))
    tell(call, o.SendTones("a", "s", CALLER, "1", CONTEXT), o.Hold("a", "h", CALLER), o.Mute("a", (CALLER,)))
    effects = tell(call, m.LegEnded("caller", EndCause.REMOTE_LEFT))
    left = Failure(Problem.PARTY_LEFT)
    assert events(effects)[:-1] == [
        o.RecognizeFailed(left, CONTEXT),
        o.ToneFailed(left, CONTEXT),
        o.SendTonesFailed(left, CONTEXT),
    ]
    assert isinstance(events(effects)[-1], m.ParticipantsUpdated)
    assert o.RouteParty(CALLER, False, False) in effects
    assert o.Prepare("p") in effects, "it is its turn"
    assert set(call.data.operations) == {"p", "all"}
    assert call.data.muted == set()


def test_a_play_to_several_goes_on_until_the_last_of_them_leaves() -> None:
    call = three()
    tell(call, play(to=(CALLER, APP)), o.Prepared("p", ("clip",)))
    assert [type(each) for each in events(tell(call, m.LegEnded("caller", EndCause.REMOTE_LEFT)))] == [
        m.ParticipantsUpdated
    ]


def test_one_who_is_there_twice_has_not_left() -> None:
    call = three(CALLER)
    tell(call, recognize(KEYS))
    tell(call, m.LegEnded("caller", EndCause.REMOTE_LEFT))
    assert set(call.data.operations) == {"r"}


def test_who_was_put_on_hold_by_an_app_that_leaves_is_let_go() -> None:
    call = three()
    tell(call, o.Hold("a", "h", CALLER))
    effects = tell(call, m.HangUp("a"))
    assert o.RouteParty(CALLER, False, False) in effects
    assert not call.data.over
    assert call.participants() == (Participant(CALLER), Participant(PHONE))
