"""The engines that there are, by the names that the configuration has for them.

An engine is made when it is first used, in the process that uses it. What the default ones need is inside their
packages, the others are told where their models are: nothing is ever downloaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from offhook.speech.values import Fault, Recognizer, SpeechError, Synthesizer


class Engine(NamedTuple):
    """`module` has a `make(options)` that makes it, and is imported only then. Options: those it needs, and others."""

    module: str
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


_AZURE = Engine("offhook.speech.azure", ("key",), ("region", "endpoint", "voice"))

SYNTHESIZERS: Mapping[str, Engine] = {
    "hibari": Engine("offhook.speech.hibari"),
    "piper": Engine("offhook.speech.piper", ("model",), ("command",)),
    "azure": _AZURE,
}
RECOGNIZERS: Mapping[str, Engine] = {
    "pocketsphinx": Engine("offhook.speech.sphinx"),
    "whisper": Engine("offhook.speech.whisper", ("model",)),
    "vosk": Engine("offhook.speech.vosk", ("model",), ("locale",)),
    "azure": _AZURE,
}


def synthesizer(name: str, options: Mapping[str, str]) -> Synthesizer:
    """Make the engine `name`. Raises `SpeechError` when what it needs is not there."""
    engine: Synthesizer = _make(SYNTHESIZERS, name, options)
    return engine


def recognizer(name: str, options: Mapping[str, str]) -> Recognizer:
    """Make the engine `name`. Raises `SpeechError` when what it needs is not there."""
    engine: Recognizer = _make(RECOGNIZERS, name, options)
    return engine


def problems(synthesizer: str, recognizer: str, options: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what is wrong with the options, by engine, of a configuration that uses these two."""
    engines = {**SYNTHESIZERS, **RECOGNIZERS}
    found = [f"there is no engine {name}" for name in options if name not in engines]
    for name, table in ((synthesizer, SYNTHESIZERS), (recognizer, RECOGNIZERS)):
        if name not in table:
            found.append(f"{name} is none of {', '.join(table)}")
    for name, engine in engines.items():
        given = options.get(name, {})
        found += [f"{name} takes no option {each}" for each in given if each not in engine.needs + engine.takes]
        if name in (synthesizer, recognizer):
            found += [f"{name} needs the option {each}" for each in engine.needs if not given.get(each)]
    return found


def _make(table: Mapping[str, Engine], name: str, options: Mapping[str, str]) -> Any:
    if name not in table:
        raise SpeechError(Fault.MISSING, f"there is no engine {name!r}; there are {', '.join(table)}")
    for option in table[name].needs:
        if not options.get(option):
            raise SpeechError(Fault.MISSING, f"{name} needs the option {option}")
    try:
        return importlib.import_module(table[name].module).make(options)
    except ModuleNotFoundError as error:
        raise SpeechError(Fault.MISSING, f"{name} needs the package {error.name}, which is not installed") from error


def speaks(locale: str, language: str) -> bool:
    """Whether a locale such as "en-GB" (or none) is one of `language`, such as "en"."""
    return not locale or locale.lower().replace("_", "-").partition("-")[0] == language
