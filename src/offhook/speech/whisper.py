"""faster-whisper: many languages, good at free speech. Its model is a folder that is named: it is never downloaded."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from offhook.audio.pcm import Samples
from offhook.speech.phrases import chosen
from offhook.speech.values import Fault, Recognition, SpeechError


class Whisper:
    """The `Recognizer`."""

    def __init__(self, model: Path) -> None:
        package: Any = importlib.import_module("faster_whisper")
        if not (model / "model.bin").is_file():  # what is no folder it would take for a name, and ask the network
            raise SpeechError(Fault.MISSING, f"there is no Whisper model in {model}")
        self._model = package.WhisperModel(str(model), device="cpu", compute_type="int8", local_files_only=True)
        self._languages = frozenset(self._model.supported_languages)

    def recognise(self, samples: Samples, locale: str, phrases: tuple[str, ...]) -> Recognition:
        """See `Recognizer`. Without a locale it finds out which language it is. It writes capitals and punctuation."""
        language = locale.lower().replace("_", "-").partition("-")[0]
        if language and language not in self._languages:
            raise SpeechError(Fault.LOCALE, f"this Whisper model does not understand {locale!r}")
        segments, _ = self._model.transcribe(
            samples.astype(np.float32) / 32_768,
            language=language or None,
            condition_on_previous_text=False,  # or one mistake makes others
            without_timestamps=True,
            vad_filter=True,  # of what is no speech it would make some
        )
        heard = list(segments)
        text = " ".join(" ".join(segment.text for segment in heard).split())
        if phrases:
            text = chosen(text, phrases)
        return Recognition(text, _confidence(heard)) if text else Recognition("", 0.0)


def _confidence(segments: list[Any]) -> float:
    """Return the geometric mean of the probabilities of the tokens."""
    tokens = sum(len(segment.tokens) for segment in segments)
    if not tokens:
        return 0.0
    mean = sum(segment.avg_logprob * len(segment.tokens) for segment in segments) / tokens
    return min(1.0, math.exp(mean))


def make(options: Mapping[str, str]) -> Whisper:
    """`model`: a folder with a model of CTranslate2's form. Loads it: seconds."""
    return Whisper(Path(options["model"]).expanduser())
