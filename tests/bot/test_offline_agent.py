"""The offline agent of the examples: its dialogue as values, its hearing, and whole calls on virtual time."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from datetime import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offhook.bot import MediaStream
from offhook.testing.call import Call
from offhook.testing.harness import TestCaller
from offhook.testing.inprocess import App
from offhook.testing.speech import speak

for extra in ("azure.communication.callautomation", "hibari", "pocketsphinx"):
    pytest.importorskip(extra)

EXAMPLE = Path(__file__).parents[2] / "examples" / "offline_agent.py"


@cache
def example() -> Any:
    spec = importlib.util.spec_from_file_location("offline_agent", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------------------ the dialogue


def told(*words: str, keys: str = "") -> Any:
    """A dialogue in which the caller has pressed keys and then said something."""
    dialogue = example().Dialogue()
    dialogue.greet()
    for key in keys:
        dialogue.press(key)
    for said in words:
        dialogue.hear(said)
    return dialogue


def test_an_appointment_is_booked_step_by_step() -> None:
    dialogue = example().Dialogue()
    assert dialogue.greet().sentences[-1] == "On which day would you like to come?"
    assert dialogue.hear("i would like to come on tuesday").sentences == ("At what time on Tuesday?",)
    assert "phone number" in dialogue.hear("at half past nine").sentences[-1]
    assert [dialogue.press(key) for key in "555"] == [None, None, None]
    confirm = "That is Tuesday at nine thirty in the morning. Is that right?"
    assert dialogue.press("#").sentences[-1] == confirm
    done = dialogue.hear("yes please")
    assert done.over
    assert "5 5 5" in done.sentences[1]
    assert (dialogue.day, dialogue.at, dialogue.phone) == ("tuesday", time(9, 30), "555")


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("nine o'clock", time(9)),
        ("ten", time(10)),
        ("at ten thirty on friday", time(10, 30)),
        ("quarter to two in the afternoon", time(13, 45)),
        ("a quarter past twelve", time(12, 15)),
        ("five forty five", time(17, 45)),
        ("quarter to nine", None),
        ("six o'clock", None),
        ("eight thirty", None),
    ],
)
def test_times_are_taken_while_the_salon_is_open(words: str, at: time | None) -> None:
    dialogue = told(words)
    assert dialogue.at == at


@pytest.mark.parametrize("hour", range(1, 13))
@pytest.mark.parametrize("form", ["{}", "{} o'clock", "{} fifteen", "{} thirty", "{} forty five", "half past {}"])
def test_every_time_that_can_be_said_can_be_said_back(hour: int, form: str) -> None:
    words = form.format(example().HOURS[hour - 1])
    dialogue = told("tuesday", words, keys="555#")
    if dialogue.at is not None:
        before = dialogue.at
        reply = dialogue.hear(dialogue.hear("again").sentences[-1].lower())
        assert dialogue.at == before
        assert reply.sentences[-1].startswith("That is Tuesday at")


def test_all_at_once_and_in_any_order() -> None:
    dialogue = told("can i come on friday at two o'clock", keys="0199#")
    assert (dialogue.day, dialogue.at, dialogue.phone) == ("friday", time(14), "0199")


def test_a_correction_replaces_what_was_said() -> None:
    dialogue = told("tuesday at nine o'clock", keys="555#")
    assert dialogue.hear("no on wednesday please").sentences[-1].startswith("That is Wednesday at nine o'clock")
    assert dialogue.hear("i meant at ten").sentences[-1].startswith("That is Wednesday at ten o'clock")


def test_a_plain_no_begins_again_but_keeps_the_number() -> None:
    dialogue = told("tuesday at nine o'clock", "no thank you", keys="555#")
    assert (dialogue.day, dialogue.at, dialogue.phone) == ("", None, "555")


def test_yes_means_nothing_before_there_is_something_to_confirm() -> None:
    dialogue = told("tuesday")
    assert not dialogue.hear("yes").over


def test_a_closed_day_is_refused() -> None:
    dialogue = example().Dialogue()
    assert dialogue.hear("on monday").sentences[0] == "We are closed on Monday."
    assert dialogue.day == ""


def test_again_repeats_the_last_answer_not_an_apology() -> None:
    dialogue = example().Dialogue()
    greeting = dialogue.greet()
    assert dialogue.hear("").sentences[0] == "Sorry, I did not get that."
    assert dialogue.hear("say that again please") == greeting


@pytest.mark.parametrize("words", ["cancel", "please cancel please", "goodbye"])
def test_it_can_be_cancelled_at_any_time(words: str) -> None:
    assert told("tuesday").hear(words).over
    assert told("tuesday at nine o'clock", keys="555#").hear(words).over


def test_it_gives_up_when_nothing_is_understood_three_times_in_a_row() -> None:
    dialogue = told("", "", "tuesday", "")
    assert not dialogue.wait().over
    assert dialogue.hear("").over


@pytest.mark.parametrize("keys", ["#", "12#", "1234567890123456#", "123*"])
def test_a_number_that_is_none_is_asked_for_again(keys: str) -> None:
    dialogue = told("tuesday at nine o'clock")
    assert [dialogue.press(key) for key in keys][-1].sentences[0].startswith("Once more")
    assert dialogue.phone == ""
    for key in "555#":
        dialogue.press(key)
    assert dialogue.phone == "555"


# ------------------------------------------------------------------------------------------------------- the hearing


@pytest.mark.parametrize("said", ["I would like to come on Tuesday", "At half past ten", "Yes please"])
def test_what_is_in_the_grammar_is_written_down(said: str) -> None:
    assert example().write_down(heard(said)) == said.lower()


@pytest.mark.parametrize("said", ["Do you sell umbrellas?", "My dog wants a bath"])
def test_what_is_not_in_the_grammar_is_not_understood(said: str) -> None:
    assert example().write_down(heard(said)) == ""


def test_silence_is_no_words() -> None:
    assert example().write_down(bytes(6_400)) == ""


def heard(text: str) -> bytes:
    quiet = np.zeros(4800, np.int16)
    return np.concatenate([quiet, speak(text, 16_000), quiet]).tobytes()


# ---------------------------------------------------------------------------------------------------------- in calls


async def here(function: Callable[..., Any], *arguments: Any) -> Any:
    """Time stands still on virtual time while something is computed."""
    return function(*arguments)


async def agent(stream: MediaStream) -> None:
    await example().Agent(stream, here).talk()


def placed(caller: TestCaller) -> Call:
    return caller.call(App(agent, path="/?offhook-heard=1", hangs_up=True))


def turn_ends(call: Call) -> None:
    """Let the agent finish: it replies within a second, and pauses less between sentences."""
    call.hears_silence(for_=1.2, within=15)


def test_a_caller_books_an_appointment_and_changes_its_mind(caller: TestCaller) -> None:
    call = placed(caller)
    turn_ends(call)
    call.say("I would like to come on Tuesday.")
    turn_ends(call)
    call.say("At half past ten.")
    turn_ends(call)
    call.press("555#")
    call.hears("ten thirty in the morning", within=10)
    turn_ends(call)
    call.say("No, on Wednesday please.")
    call.hears("Wednesday at ten thirty", within=10)
    turn_ends(call)
    call.say("Yes please.")
    call.hears("anything changes", within=10)
    call.ends(within=15)
    assert call.outcome == "the other side hung up"
    assert max(latency for latency in call.latency if latency is not None) < 1.0


def test_a_caller_who_interrupts_is_answered_at_once(caller: TestCaller) -> None:
    call = placed(caller)
    interruption = call.barge_in("On Tuesday at nine o'clock please.", within=5, after=1.0)
    assert interruption.stopped_after_s is not None
    assert interruption.stopped_after_s < 0.4
    call.hears("phone number", within=10)


def test_the_agent_goes_on_where_it_was_interrupted_by_nothing(caller: TestCaller) -> None:
    call = placed(caller)
    call.hears_speech(within=2)
    call.wait(2.5)  # the first sentence has been heard, the second has not
    call.barge_in("Do you sell umbrellas?", within=5, after=0.1)
    call.hears("interrupt me at any time", within=10)
    assert "welcome" not in call.transcript().splitlines()[-1]


def test_what_is_not_understood_is_asked_again_and_a_silent_caller_is_left(caller: TestCaller) -> None:
    call = placed(caller)
    turn_ends(call)
    call.say("Do you sell umbrellas?")
    call.hears("sorry", within=10)
    call.hears("still there", within=20)
    call.ends(within=30)
