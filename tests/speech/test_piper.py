"""Piper, by a stand-in for its command; and, where OFFHOOK_PIPER_MODEL names an English model, the program itself.

OFFHOOK_PIPER is then its command, "piper" if it is not set.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from offhook.audio import pcm
from offhook.audio.resample import convert
from offhook.speech import engines, piper
from offhook.speech.values import RATE, Fault, SpeechError, Synthesizer, Voice

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a #! line")

DESCRIPTION = {
    "audio": {"sample_rate": 22_050},
    "espeak": {"voice": "en-us"},
    "language": {"code": "de_DE"},
    "speaker_id_map": {"anna": 0, "otto": 3},
}
SAY = """
import json, sys
text = sys.stdin.read()
open(__file__ + ".asked", "w").write(json.dumps([sys.argv[1:], text]))
sys.stdout.buffer.write(b"\\x10\\x00" * 2205)
"""


def command(tmp_path: Path, script: str) -> Path:
    program = tmp_path / "stand-in"
    program.write_text(f"#!{sys.executable} -S\n{script}")
    program.chmod(0o755)
    return program


def made(tmp_path: Path, script: str = SAY, description: object = DESCRIPTION) -> Synthesizer:
    model = tmp_path / "voice.onnx"
    model.write_bytes(b"")
    model.with_name("voice.onnx.json").write_text(json.dumps(description))
    return engines.synthesizer("piper", {"command": str(command(tmp_path, script)), "model": str(model)})


def asked(tmp_path: Path) -> tuple[list[str], str]:
    arguments, text = json.loads((tmp_path / "stand-in.asked").read_text())
    return arguments, text


def test_the_text_goes_in_as_one_line_and_sound_comes_out(tmp_path: Path) -> None:
    speech = made(tmp_path).say(" Guten Tag!\n--output_file\t/x ", Voice("de-AT"))
    assert (speech.rate, len(speech.samples), int(speech.samples[0])) == (22_050, 2205, 16)
    arguments, text = asked(tmp_path)
    assert text == "Guten Tag! --output_file /x\n"
    assert arguments == ["--model", str(tmp_path / "voice.onnx"), "--output_raw", "--length_scale", "1.000"]


def test_speed_and_speaker_are_told(tmp_path: Path) -> None:
    synthesizer = made(tmp_path)
    synthesizer.say("x", Voice(name="otto", speed=2.0))
    assert asked(tmp_path)[0][3:] == ["--length_scale", "0.500", "--speaker", "3"]
    synthesizer.say("x", Voice(name="nobody"))
    assert "--speaker" not in asked(tmp_path)[0]


@pytest.mark.parametrize("voice", [Voice("en-US"), Voice("fr"), Voice(name="en-US-JennyNeural")])
def test_a_language_that_is_not_the_models(tmp_path: Path, voice: Voice) -> None:
    with pytest.raises(SpeechError, match="speaks 'de', not") as caught:
        made(tmp_path).say("x", voice)
    assert caught.value.fault is Fault.LOCALE


def test_an_older_model_tells_its_language_by_that_of_espeak(tmp_path: Path) -> None:
    older = {"audio": {"sample_rate": 16_000}, "espeak": {"voice": "en-us"}}
    assert made(tmp_path, description=older).say("x", Voice("en-GB")).rate == 16_000


@pytest.mark.parametrize("text", ["", " \n", "...!"])
def test_nothing_to_say(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpeechError) as caught:
        made(tmp_path).say(text, Voice())
    assert caught.value.fault is Fault.EMPTY


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("import sys; sys.exit('first\\nlast words\\n')", r"Piper failed \(1\): last words"),
        ("import sys; sys.exit('x' * 1000)", r"\(1\): x{200}$"),
        ("", r"Piper failed \(0\): it has said nothing"),
        ("print('x' * 10)", "Piper failed"),  # not a whole number of samples
        ("import os; os.kill(os.getpid(), 9)", r"Piper failed \(-9\)"),
    ],
)
def test_a_program_that_fails(tmp_path: Path, script: str, problem: str) -> None:
    with pytest.raises(SpeechError, match=problem) as caught:
        made(tmp_path, script).say("x", Voice())
    assert caught.value.fault is Fault.FAILED


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piper, "LONGEST_S", 0.3)
    with pytest.raises(SpeechError, match=r"not done within 0\.3 s"):
        made(tmp_path, "import time; time.sleep(100)").say("x", Voice())


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    synthesizer = made(tmp_path)
    (tmp_path / "stand-in").write_text("#!/nowhere/at/all\n")
    with pytest.raises(SpeechError, match="Piper does not start: No such file"):
        synthesizer.say("x", Voice())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    program = str(command(tmp_path, SAY))
    model = tmp_path / "a.onnx"
    for options, problem in (
        ({}, "piper needs the option model"),
        ({"model": str(model), "command": "no-such-piper"}, "there is no program 'no-such-piper'"),
        ({"model": str(model), "command": program}, r"there is no Piper model .*a\.onnx"),
    ):
        with pytest.raises(SpeechError, match=problem) as caught:
            engines.synthesizer("piper", options)
        assert caught.value.fault is Fault.MISSING
    model.write_bytes(b"")
    with pytest.raises(SpeechError, match=r"there is no .*a\.onnx\.json"):
        engines.synthesizer("piper", {"model": str(model), "command": program})


@pytest.mark.parametrize(
    "description", [{}, [], "x", {"audio": {"sample_rate": "?"}}, {"audio": {"sample_rate": 8000}}]
)
def test_a_description_that_is_none(tmp_path: Path, description: object) -> None:
    with pytest.raises(SpeechError, match="does not describe a Piper model") as caught:
        made(tmp_path, description=description)
    assert caught.value.fault is Fault.MISSING


@pytest.mark.skipif("OFFHOOK_PIPER_MODEL" not in os.environ, reason="OFFHOOK_PIPER_MODEL names no English Piper model")
def test_the_program_itself_says_what_is_recognised_again() -> None:
    options = {"command": os.environ.get("OFFHOOK_PIPER", "piper"), "model": os.environ["OFFHOOK_PIPER_MODEL"]}
    synthesizer = engines.synthesizer("piper", options)
    speech = synthesizer.say("I would like to come on Tuesday.", Voice("en-US"))
    assert -35 < pcm.level(speech.samples) < -3
    heard = engines.recognizer("pocketsphinx", {}).recognise(convert(speech.samples, speech.rate, RATE), "en-US", ())
    assert heard.text == "i would like to come on tuesday"
    slowly = synthesizer.say("I would like to come on Tuesday.", Voice("en-US", speed=0.5))
    assert len(slowly.samples) > 1.5 * len(speech.samples)
