"""Play, recognize, DTMF, mute and hold: request → DTO → Command (contract 2.3 #14 and #17 to #24).

A source that cannot be had is no error here: the answer is 202 or 200, and the event says what is wrong (recorded 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from offhook.call import operation_messages as o
from offhook.call.operations import Choice, RecognizeOptions
from offhook.call.prompts import Source
from offhook.server.repeats import Answer
from offhook.server.requests import raw_id
from offhook.wire import media, rest

if TYPE_CHECKING:
    from offhook.server.api import Api, Asked

LOCALE = "en-US"  # documented default of speechLanguage


class _Action(TypedDict):
    connection: str
    context: str | None
    callback: str | None


def _action(api: Api, asked: Asked, wanted: media.ActionRequest) -> _Action:
    """Return what the commands of all operations have in common."""
    callback = wanted.operation_callback_uri
    if callback is not None:
        callback = api.url(callback, "operationCallbackUri", ("http", "https"))
    return _Action(connection=_connection(asked), context=wanted.operation_context, callback=callback)


def _wanted(api: Api, asked: Asked, type: type[rest.T]) -> rest.T:
    """Return the body; raise `Refused` when the call is gone, whatever the body is."""
    api.control.registry.of_connection(_connection(asked))
    return rest.decode(type, asked.body)


def _connection(asked: Asked) -> str:
    return asked.path["callConnectionId"]


def _id(api: Api, asked: Asked) -> str:
    """Return the id of a new operation."""
    return api.control.registry.of_connection(_connection(asked)).worker.ids.guid()


# ------------------------------------------------------------------------------------------ play and recognize


def _play(api: Api, asked: Asked) -> Answer:
    wanted = _wanted(api, asked, media.PlayRequest)
    command = o.Play(
        operation=_id(api, asked),
        sources=_sources(wanted.play_sources, "playSources"),
        to=tuple(raw_id(each, "playTo") for each in wanted.play_to or ()),
        loop=wanted.play_options is not None and wanted.play_options.loop,
        interrupt=bool(wanted.interrupt_call_media_operation),
        **_action(api, asked, wanted),
    )
    return api.command(asked, command)


def _recognize(api: Api, asked: Asked) -> Answer:
    wanted = _wanted(api, asked, media.RecognizeRequest)
    prompts = _sources(wanted.play_prompts or (), "playPrompts")
    if not prompts and wanted.play_prompt is not None:
        prompts = (_source(wanted.play_prompt, "playPrompt"),)
    command = o.Recognize(
        operation=_id(api, asked),
        party=raw_id(wanted.recognize_options.target_participant, "recognizeOptions.targetParticipant"),
        options=_options(wanted.recognize_input_type.lower(), wanted.recognize_options),
        prompts=prompts,
        interrupt=wanted.interrupt_call_media_operation is not False,  # documented: true when it is not there
        **_action(api, asked, wanted),
    )
    return api.command(asked, command)


def _cancel_all(api: Api, asked: Asked) -> Answer:
    return api.command(asked, o.CancelMedia(_connection(asked)))


def _sources(sources: Sequence[media.PlaySource], field: str) -> tuple[Source, ...]:
    return tuple(_source(source, f"{field}[{index}]") for index, source in enumerate(sources))


def _source(source: media.PlaySource, field: str) -> Source:
    kind, cache_id = source.kind.lower(), source.play_source_cache_id or ""
    match kind:
        case "file" if source.file is not None:
            return Source(kind, uri=source.file.uri, cache_id=cache_id)
        case "text" if (text := source.text) is not None:
            voice = {"voice_kind": (text.voice_kind or "").lower(), "voice_name": text.voice_name or ""}
            return Source(kind, text=text.text, locale=text.source_locale or "", cache_id=cache_id, **voice)
        case "ssml" if source.ssml is not None:
            return Source(kind, ssml=source.ssml.ssml_text, cache_id=cache_id)
        case _:
            raise rest.InvalidBody(f"{field}.{kind} is required", f"{field}.{kind}")


def _options(kind: str, wanted: media.RecognizeOptions) -> RecognizeOptions:
    """Return what is to be recognised; options of another kind of input are ignored (documented: the SDKs)."""
    choices: tuple[Choice, ...] = ()
    if kind == "choices":
        choices = tuple(
            Choice(choice.label, tuple(choice.phrases), "" if choice.tone is None else media.keys([choice.tone]))
            for choice in wanted.choices or ()
        )
        if not choices:
            raise rest.InvalidBody("recognizeOptions.choices is required", "recognizeOptions.choices")
    dtmf = wanted.dtmf_options or media.DtmfOptions()
    speech = wanted.speech_options or media.SpeechOptions()
    initial_silence = wanted.initial_silence_timeout_in_seconds
    return RecognizeOptions(
        keys=kind in ("dtmf", "speechordtmf") or any(choice.tone for choice in choices),
        speech=kind in ("speech", "speechordtmf") or any(choice.phrases for choice in choices),
        max_tones=dtmf.max_tones_to_collect,
        stop_tones=media.keys(dtmf.stop_tones or ()),
        inter_tone_s=float(dtmf.inter_tone_timeout_in_seconds or 2),
        initial_silence_s=5.0 if initial_silence is None else float(initial_silence),
        end_silence_ms=speech.end_silence_timeout_in_ms or 500,
        locale=wanted.speech_language or LOCALE,
        choices=choices,
        interruptible=wanted.interrupt_prompt is not False,  # documented: true when it is not there
    )


# ------------------------------------------------------------------------------------------ tones


def _start_continuous(api: Api, asked: Asked) -> Answer:
    wanted = _wanted(api, asked, media.ContinuousDtmfRecognitionRequest)
    party = raw_id(wanted.target_participant, "targetParticipant")
    return api.command(asked, o.WatchTones(operation=_id(api, asked), party=party, **_action(api, asked, wanted)))


def _stop_continuous(api: Api, asked: Asked) -> Answer:
    wanted = _wanted(api, asked, media.ContinuousDtmfRecognitionRequest)
    party = raw_id(wanted.target_participant, "targetParticipant")
    return api.command(asked, o.UnwatchTones(party=party, **_action(api, asked, wanted)))


def _send_tones(api: Api, asked: Asked) -> Answer:
    wanted = _wanted(api, asked, media.SendDtmfTonesRequest)
    command = o.SendTones(
        operation=_id(api, asked),
        party=raw_id(wanted.target_participant, "targetParticipant"),
        tones=media.keys(wanted.tones),
        **_action(api, asked, wanted),
    )
    return _with_context(api.command(asked, command), wanted.operation_context)


# ------------------------------------------------------------------------------------------ mute and hold


def _mute(api: Api, asked: Asked) -> Answer:
    wanted = _wanted(api, asked, media.MuteParticipantsRequest)
    parties = tuple(raw_id(each, "targetParticipants") for each in wanted.target_participants)
    answer = api.command(asked, o.Mute(_connection(asked), parties))
    return _with_context(answer, wanted.operation_context)


def _hold(api: Api, asked: Asked) -> Answer:
    wanted = _wanted(api, asked, media.HoldRequest)
    command = o.Hold(
        operation=_id(api, asked),
        party=raw_id(wanted.target_participant, "targetParticipant"),
        music=None if wanted.play_source_info is None else _source(wanted.play_source_info, "playSourceInfo"),
        **_action(api, asked, wanted),
    )
    return api.command(asked, command)


def _unhold(api: Api, asked: Asked) -> Answer:
    wanted = _wanted(api, asked, media.UnholdRequest)
    party = raw_id(wanted.target_participant, "targetParticipant")
    return api.command(asked, o.Unhold(_action(api, asked, wanted)["connection"], party))


def _with_context(answer: Answer, context: str | None) -> Answer:
    return Answer(rest.encode(media.ContextAnswer(context)), answer.correlation)


HANDLERS: Mapping[str, Callable[[Api, Asked], Answer]] = {
    "play": _play,
    "cancelAllMediaOperations": _cancel_all,
    "recognize": _recognize,
    "startContinuousDtmfRecognition": _start_continuous,
    "stopContinuousDtmfRecognition": _stop_continuous,
    "sendDtmfTones": _send_tones,
    "mute": _mute,
    "hold": _hold,
    "unhold": _unhold,
}
