"""Recognitions: a prompt, if there is one, then what a party presses or says, until it makes a result or a failure.

What the party does first decides: after the first key nobody listens to speech any more, after the first word keys do
not count any more (documented: gathering user input). While a prompt plays that may not be interrupted nothing counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from offhook.call import operation_messages as o
from offhook.call.lifecycle import check_present, end, enqueue, fail
from offhook.call.model import step
from offhook.call.operations import (
    OPERATION,
    Choice,
    Failure,
    Operation,
    OperationInput,
    OperationKind,
    OperationState,
    Outcome,
    Problem,
)

if TYPE_CHECKING:
    from offhook.call.call import Call

INITIAL_SILENCE = "initial silence"  # timers
INTER_TONE = "inter-tone"


def recognize(call: Call, command: o.Recognize) -> None:
    connection = call.established(command.connection)
    check_present(call, command.party)
    operation = Operation(
        command.operation,
        OperationKind.RECOGNIZE,
        connection.id,
        to=(command.party,),
        context=command.context,
        callback=command.callback,
        sources=command.prompts,
        options=command.options,
    )
    enqueue(call, operation, command.interrupt)


# ------------------------------------------------------------------------------------------ the prompt


def prompt_begins(call: Call, operation: Operation) -> None:
    if operation.options.interruptible:
        _open_ear(call, operation)


def listen(call: Call, operation: Operation) -> None:
    """The prompt is over, or there was none: now it is the party's turn."""
    operation.state = step(OPERATION, operation.state, OperationInput.LISTEN)
    _open_ear(call, operation)
    call.effect(o.SetTimer(operation.id, INITIAL_SILENCE, operation.options.initial_silence_s))


def _open_ear(call: Call, operation: Operation) -> None:
    if operation.options.speech and not operation.ear:
        operation.ear = True
        call.effect(o.Listen(operation.id))


def _may_answer(call: Call, operation: Operation) -> bool:
    """Whether what the party does now counts. If so, it ends the prompt, and the silence."""
    if operation.state is OperationState.PLAYING and operation.options.interruptible:
        call.effect(o.StopPlay(operation.id))
        operation.state = step(OPERATION, operation.state, OperationInput.LISTEN)
    elif operation.state is OperationState.LISTENING:
        call.effect(o.StopTimer(operation.id, INITIAL_SILENCE))
    return operation.state is OperationState.LISTENING


# ------------------------------------------------------------------------------------------ keys


def pressed(call: Call, operation: Operation, tone: str) -> None:
    options = operation.options
    if not options.keys or operation.speaking or not _may_answer(call, operation):
        return
    if operation.ear:
        operation.ear = False
        call.effect(o.StopListening(operation.id))
    if options.choices:
        _choose_by_key(call, operation, tone)
    elif tone in options.stop_tones:  # It is not a part of the result.
        _complete(call, operation, Outcome.STOP_TONE, operation.tones)
    else:
        operation.tones += tone
        if len(operation.tones) == options.max_tones:
            _complete(call, operation, Outcome.MAX_TONES, operation.tones)
        else:
            call.effect(o.SetTimer(operation.id, INTER_TONE, options.inter_tone_s))


def _choose_by_key(call: Call, operation: Operation, tone: str) -> None:
    choice = next((choice for choice in operation.options.choices if choice.tone == tone), None)
    if choice is None:
        fail(call, operation, Failure(Problem.WRONG_TONE))
    else:
        _complete(call, operation, Outcome.CHOICE_BY_TONE, o.Chosen(choice.label))


def timed_out(call: Call, report: o.TimedOut) -> None:
    operation = call.data.operations[report.operation]
    if operation.state is not OperationState.LISTENING or operation.speaking:
        return
    if report.timer == INTER_TONE:
        _complete(call, operation, Outcome.INTER_TONE_TIMEOUT, operation.tones)
    else:
        fail(call, operation, Failure(Problem.INITIAL_SILENCE))


# ------------------------------------------------------------------------------------------ speech


def speech_began(call: Call, report: o.SpeechBegan) -> None:
    operation = call.data.operations[report.operation]
    if operation.ear and _may_answer(call, operation):
        operation.speaking = True


def speech_ended(call: Call, report: o.SpeechEnded) -> None:
    operation = call.data.operations[report.operation]
    if not operation.ear:
        return  # A key came first, and this crossed the word that nobody listens any more.
    operation.state = step(OPERATION, operation.state, OperationInput.RECOGNISE)
    operation.ear = False  # It listens once.
    if report.truth:
        _understand(call, operation, o.Words(report.truth, 1.0))
    else:
        call.effect(o.Recognise(operation.id, report.pcm))


def recognised(call: Call, report: o.Recognised) -> None:
    operation = call.data.operations[report.operation]
    _understand(call, operation, o.Words(report.text, report.confidence))


def recognition_failed(call: Call, report: o.RecognitionFailed) -> None:
    fail(call, call.data.operations[report.operation], report.failure)


def _understand(call: Call, operation: Operation, words: o.Words) -> None:
    if not words.text:
        fail(call, operation, Failure(Problem.NOT_RECOGNISED))
    elif not operation.options.choices:
        _complete(call, operation, Outcome.SPEECH, words)
    elif (chosen := choose(operation.options.choices, words.text)) is not None:
        choice, phrase = chosen
        result = o.Chosen(choice.label, o.Words(phrase, words.confidence))
        _complete(call, operation, Outcome.CHOICE_BY_SPEECH, result)
    else:
        fail(call, operation, Failure(Problem.NO_CHOICE, f"heard {words.text!r}"))


def choose(choices: Sequence[Choice], text: str) -> tuple[Choice, str] | None:
    """Return the choice that `text` means, and the phrase by which; None when it means none.

    A phrase may be anywhere in the text, as whole words, whatever their case and the punctuation between them; the
    longest one that is there rules, and of equally long ones the first.
    """
    heard = f" {_plain(text)} "
    found = [
        (choice, phrase)
        for choice in choices
        for phrase in choice.phrases
        if (plain := _plain(phrase)) and f" {plain} " in heard
    ]
    return max(found, key=lambda match: len(_plain(match[1])), default=None)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _complete(call: Call, operation: Operation, outcome: Outcome, result: str | o.Words | o.Chosen) -> None:
    end(call, operation, o.RecognizeCompleted(outcome, result, operation.context))
