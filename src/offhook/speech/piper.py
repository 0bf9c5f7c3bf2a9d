"""Piper: many languages, one voice model a file. A program of its own, told by a command: it is GPL, never imported.

Takes the options that both of its kinds understand, the C++ program and the Python one. Bounds: `LONGEST_S` for a text.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offhook.audio import pcm
from offhook.speech.engines import speaks
from offhook.speech.values import Fault, Speech, SpeechError, Voice

LONGEST_S = 50.0  # of work: less than the server waits for it


class Piper:
    """The `Synthesizer`. Its model says what language it speaks and who its speakers are, not whether these are men."""

    def __init__(self, command: str, model: Path) -> None:
        program = shutil.which(command)
        if program is None:
            raise SpeechError(Fault.MISSING, f"there is no program {command!r}")
        if not model.is_file():
            raise SpeechError(Fault.MISSING, f"there is no Piper model {model}")
        self._command = [program, "--model", str(model), "--output_raw"]
        about = _about(model.with_name(f"{model.name}.json"))
        try:
            self._rate = int(about["audio"]["sample_rate"])
            code = about["language"]["code"] if "language" in about else about["espeak"]["voice"]
            self._language = str(code).lower().replace("_", "-").partition("-")[0]
            self._speakers = {str(name): int(number) for name, number in about.get("speaker_id_map", {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SpeechError(Fault.MISSING, f"{model}.json does not describe a Piper model") from None

    def say(self, text: str, voice: Voice) -> Speech:
        """See `Synthesizer`. Names are those of the model's speakers."""
        line = " ".join(text.split())  # one line, for it says each of them apart
        if not any(map(str.isalnum, line)):
            raise SpeechError(Fault.EMPTY, "there is nothing to say")
        if not speaks(voice.language, self._language):
            raise SpeechError(Fault.LOCALE, f"this Piper model speaks {self._language!r}, not {voice.language!r}")
        options = ["--length_scale", f"{1 / voice.speed:.3f}"]
        if voice.name in self._speakers:
            options += ["--speaker", str(self._speakers[voice.name])]
        return Speech(self._rate, pcm.as_samples(self._run(options, line)))

    def _run(self, options: list[str], line: str) -> bytes:
        try:
            done = subprocess.run(
                [*self._command, *options],
                input=f"{line}\n".encode(),
                capture_output=True,
                timeout=LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SpeechError(Fault.FAILED, f"Piper was not done within {LONGEST_S:g} s") from None
        except OSError as error:
            raise SpeechError(Fault.FAILED, f"Piper does not start: {error.strerror}") from None
        if done.returncode or not done.stdout or len(done.stdout) % 2:
            lines = done.stderr.decode(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it has said nothing")
            raise SpeechError(Fault.FAILED, f"Piper failed ({done.returncode}): {last[:200]}")
        return done.stdout


def _about(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        raise SpeechError(Fault.MISSING, f"there is no {file}, which comes with the Piper model") from None


def make(options: Mapping[str, str]) -> Piper:
    """`model`: the .onnx file, beside it its .onnx.json. `command`: the program, "piper" if it is not said."""
    return Piper(options.get("command") or "piper", Path(options["model"]).expanduser())
