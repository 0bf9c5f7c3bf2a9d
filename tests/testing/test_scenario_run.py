"""Scenarios that are run in memory against bots made of tones: what passes, what fails and how, and what is left."""

from __future__ import annotations

import os
import sys
import wave
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio.pcm import tone
from offhook.testing import scenario_app
from offhook.testing.inprocess import App
from offhook.testing.junit import junit
from offhook.testing.scenario import Bot, Command, ScenarioError, load
from offhook.testing.scenario_app import hosted
from offhook.testing.scenario_run import Result, app_of, run

BOTS = """
from dataclasses import dataclass
from offhook.audio.pcm import tone
from offhook.testing import scenario_app
from offhook.bot import AudioData, BargeIn, DtmfData, SpeechEnded, SpeechStarted
from beside import HZ

@dataclass
class Said:
    hz: int

async def talker(stream):
    rate, barge_in = stream.metadata.sample_rate, BargeIn()
    said = Said(HZ)
    stream.speaker.say(tone(said.hz, rate, 3.0))
    async for message in stream:
        if isinstance(message, DtmfData):
            return
        if isinstance(message, AudioData):
            match barge_in.feed(message):
                case SpeechStarted():
                    await stream.speaker.interrupt()
                case SpeechEnded():
                    stream.speaker.say(tone(700, rate, 1.0))

async def stubborn(stream):
    await stream.speaker.say(tone(HZ, stream.metadata.sample_rate, 20.0))

async def broken(stream):
    raise KeyError("appointment")

no_function = 7
"""

ENDS = "{name: a, steps: [%s]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bots.py").write_text(BOTS, "utf-8")
    (tmp_path / "beside.py").write_text("HZ = 300\n", "utf-8")
    soundfile.write(tmp_path / "tone.wav", tone(440, 24_000, 0.5), 24_000)
    return tmp_path


def held(folder: Path, scenario: str, bot: str = "talker", hangs_up: bool = False) -> Result:
    path = folder / "calls.yaml"
    path.write_text(f"scenarios: [{scenario}]", "utf-8")
    side = app_of(Bot(f"bots.py:{bot}", hangs_up=hangs_up), folder)
    return run(path, load(path).scenarios[0], side, folder / "out")


@pytest.mark.parametrize(
    "steps",
    [
        "hears_speech, {hears_tone: {hz: 300, level: -12}}",
        "{hears_silence: {for: 1, within: 4}}",
        "{barge_in: {play: tone.wav, stops_within: 0.3}}, {hears_tone: 700}, {expects: {latency_below: 1}}",
        "{pause: 4}, {play: tone.wav}, {hears_tone: 700}",
        "hang_up, {expects: {answered: true, outcome: hung up, events: [CallConnected, CallDisconnected]}}",
        "{press: '1'}, {ends: 2}, {expects: {outcome: the other side hung up}}",
    ],
)
def test_a_call_that_goes_as_it_should_passes(folder: Path, steps: str) -> None:
    result = held(folder, ENDS % steps, hangs_up=True)
    assert result.failure == ""
    assert result.passed
    assert result.step is None


@pytest.mark.parametrize(
    ("steps", "step", "failure"),
    [
        ("hears_speech, {hears_tone: {hz: 900, within: 1}}", 2, "had not heard a tone of 900 Hz within 1 s"),
        ("{hears_silence: {within: 1}}", 1, "had not heard silence for 1 s"),
        (
            "{barge_in: {play: tone.wav, stops_within: 0.01}}",
            1,
            "should have been silent 0.01 s later; it was after 0.",
        ),
        ("{ends: 1}", 1, "had not heard the call to end within 1 s"),
        ("hang_up, hears_speech", 2, "had not heard speech"),
        ("hang_up, {press: '1'}", 2, "the call is over (hung up)"),
        ("{expects: {answered: false}}", 1, "the call was answered"),
        ("{expects: {outcome: busy}}", 1, "the outcome is 'open: the call goes on', not 'busy'"),
        ("{expects: {latency_below: 1}}", 1, "nothing was said yet"),
        ("{play: tone.wav}, {expects: {latency_below: 1}}", 2, "a reply within 1 s was expected; there was no reply"),
        (
            "{play: tone.wav}, {hears_tone: 700}, {expects: {latency_below: 0.1}}",
            3,
            "a reply within 0.1 s was expected; it took 0.",
        ),
        (
            "{expects: {events: [CallConnected, IncomingCall]}}",
            1,
            "no IncomingCall where it was expected; there were IncomingCall, CallConnected, ",
        ),
    ],
)
def test_a_call_that_does_not_says_at_which_step_and_why(folder: Path, steps: str, step: int, failure: str) -> None:
    result = held(folder, ENDS % steps)
    assert not result.passed
    assert failure in result.failure
    assert result.step == step


def test_a_transcript_is_compared_word_by_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.testing.speech.recognize", lambda samples: "we are CLOSED, on monday")
    assert held(folder, ENDS % "{pause: 1}, {expects: {transcript: Closed on Monday}}").passed
    result = held(folder, ENDS % "{pause: 1}, {expects: {transcript: close}}")
    assert "'close' is not in what was heard: 'we are CLOSED, on monday'" in result.failure


def test_an_app_that_goes_on_when_interrupted_is_found_out(folder: Path) -> None:
    result = held(folder, ENDS % "{barge_in: {play: tone.wav, stops_within: 0.3}}", "stubborn")
    assert "it was never" in result.failure


@pytest.mark.parametrize("steps", ["hears_speech", ""])
def test_an_error_of_the_app_is_told_with_its_trace(folder: Path, steps: str) -> None:
    result = held(folder, ENDS % steps, "broken")
    assert result.failure == "the app raised KeyError: 'appointment'"
    assert result.step == (1 if steps else None)
    assert 'raise KeyError("appointment")' in result.trace


@pytest.mark.parametrize(("does", "outcome"), [("busy", "busy"), ("decline", "declined"), ("no-answer", "no answer")])
def test_an_app_that_calls_is_turned_down(folder: Path, does: str, outcome: str) -> None:
    steps = "{expects: {answered: false, events: [CreateCallFailed]}}"
    assert held(folder, f"{{name: a, phone: {{id: '+15550177', does: {does}}}, steps: [{steps}]}}").failure == ""
    result = held(folder, f"{{name: a, phone: {{id: '+15550177', does: {does}}}, steps: [hears_speech]}}")
    assert result.failure.startswith("the call was not answered")


def test_an_app_that_calls_is_answered(folder: Path) -> None:
    assert held(folder, "{name: a, phone: {id: '+15550177'}, steps: [{hears_tone: 300}]}").passed


def test_a_phone_is_patient_only_so_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offhook.testing.harness.Phone.answer", _in_vain)
    result = held(folder, "{name: a, phone: {id: '+15550177'}, steps: []}")
    assert result.failure == "TimeoutError: no answer in time"
    assert result.artefacts == []


def _in_vain(phone: object, within: float) -> None:
    raise TimeoutError


def test_the_weather_is_over_the_call(folder: Path) -> None:
    steps = "[{pause: 2}, {expects: {events: [StreamingStarted, StreamingStarted]}}]"
    assert held(folder, f"{{name: lost, weather: {{drop_at: 20}}, steps: {steps}}}").passed
    assert not held(folder, f"{{name: fine, steps: {steps}}}").passed


def test_what_is_left_of_a_call(folder: Path) -> None:
    result = held(folder, "{name: 'It rings / twice', steps: [{play: tone.wav}, {hears_tone: 700}, {pause: 1}]}")
    kept = folder / "out" / "It-rings-twice"
    assert result.artefacts[:3] == [kept / name for name in ("recording.wav", "timeline.txt", "timeline.json")]
    with wave.open(str(kept / "recording.wav")) as recording:
        assert recording.getnchannels() == 2
        assert recording.getnframes() / recording.getframerate() == pytest.approx(result.call_seconds)
    assert "has heard a tone of 700 Hz" in result.timeline
    (latency,) = result.latency_s
    assert latency is not None
    assert latency == pytest.approx(0.66, abs=0.1)  # of the audio, on virtual time


@pytest.mark.parametrize(
    ("bot", "why"),
    [
        ("missing.py:a", "there is no file"),
        ("bots.py:missing", "has no function missing"),
        ("bots.py:no_function", "has no function no_function"),
        ("bad.py:a", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_bot_that_cannot_be_had(folder: Path, bot: str, why: str) -> None:
    (folder / "bad.py").write_text("1 / 0\n", "utf-8")
    with pytest.raises(ScenarioError, match=why):
        app_of(Bot(bot), folder)


def test_the_options_of_a_bot_are_those_of_an_app(folder: Path) -> None:
    bot = Bot("bots.py:talker", 24_000, True, False, False, 2.0, "/a?b", True)
    app = app_of(bot, folder)
    expected = App(app.handler, 24_000, True, False, False, 2.0, "/a?b", True)
    assert app == expected


# ------------------------------------------------------------------------------------------------ commands


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="a Unix command line")
@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("no-such-program --port {port}", "no-such-program cannot be started"),
        (f"{sys.executable} -c 'print(\"sorry\"); exit(3)'", r"ended with exit code 3:\nsorry"),
        ("what's this", "No closing quotation"),
    ],
)
def test_an_app_that_cannot_be_started(tmp_path: Path, command: str, why: str) -> None:
    with pytest.raises(ScenarioError, match=why), hosted(Command(command), tmp_path, tmp_path / "logs"):
        pass


@pytest.mark.sockets
def test_an_app_that_never_listens_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario_app, "READY_S", 0.2)
    asleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        pytest.raises(ScenarioError, match=r"does not listen after 0\.2 s$"),
        scenario_app._process(asleep, os.environ, tmp_path, tmp_path / "log", lambda: False),
    ):
        pass


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="nothing survives being asked there")
def test_an_app_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario_app, "STOP_S", 0.2)
    deaf = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True)"
    log = tmp_path / "log"
    deaf_app = [sys.executable, "-c", f"{deaf}; time.sleep(60)"]
    with scenario_app._process(deaf_app, os.environ, tmp_path, log, lambda: bool(log.read_text("utf-8"))):
        pid = int(log.read_text("utf-8"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


SLOW = """
import os, socket, sys, time
print(*(os.environ[name] for name in ("PORT", "OFFHOOK_INCOMING_URL", "ACS_CONNECTION_STRING")), os.getcwd())
print(os.path.isfile(os.environ["SSL_CERT_FILE"]), sys.argv[1], flush=True)
time.sleep(0.3)
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))):
    time.sleep(60)
"""


@pytest.mark.sockets
def test_an_app_is_waited_for_told_of_its_server_and_ended(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW, "utf-8")
    command = Command(f"{sys.executable} slow.py {{port}}", "http://127.0.0.1:{port}/in")
    with hosted(command, tmp_path, tmp_path / "logs") as running:
        assert running.url.startswith("http://127.0.0.1:")
    port, incoming, secret, folder, bundle, argument = (tmp_path / "logs" / "app.log").read_text("utf-8").split()
    assert incoming == f"http://127.0.0.1:{port}/in"
    assert argument == port
    assert secret.startswith("endpoint=https://127.0.0.1:")
    assert secret.endswith(f"accesskey={running.key}")
    assert os.path.samefile(folder, tmp_path)
    assert bundle == "True"
    assert "Traceback" not in (tmp_path / "logs" / "server.log").read_text("utf-8")


# ------------------------------------------------------------------------------------------------ JUnit


def result(**more: object) -> Result:
    fields: dict[str, object] = {
        "file": Path("calls.yaml"),
        "name": "a",
        "failure": "",
        "step": None,
        "trace": "",
        "seconds": 1.25,
        "call_seconds": 9.0,
        "latency_s": [],
        "timeline": "    0.00 s  server  IncomingCall\n",
        "artefacts": [Path("out/recording.wav")],
    }
    return Result(**{**fields, **more})  # type: ignore[arg-type]


def test_junit_has_a_suite_for_each_file_and_a_case_for_each_scenario() -> None:
    failed = result(name="b", failure="not heard", step=2, trace="Traceback …")
    document = ET.fromstring(junit([result(), failed, result(file=Path("more/others.yaml"))]))
    first, second = document.findall("testsuite")
    assert first.attrib == {"name": "calls.yaml", "tests": "2", "failures": "1", "errors": "0", "time": "2.500"}
    assert (second.attrib["name"], second.attrib["failures"]) == (str(Path("more/others.yaml")), "0")
    passed, broken = first.findall("testcase")
    assert passed.attrib == {"classname": "calls", "name": "a", "time": "1.250"}
    assert passed.find("failure") is None
    assert passed.findtext("system-out") == (
        f"    0.00 s  server  IncomingCall\n[[ATTACHMENT|{Path('out/recording.wav')}]]\n"
    )
    failure = broken.find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "not heard"
    assert failure.text == "step 2: not heard\nTraceback …"


@given(st.text(st.characters()), st.text(st.characters()))
def test_junit_can_be_read_whatever_was_said(name: str, failure: str) -> None:
    (case,) = ET.fromstring(junit([result(name=name, failure=failure + "!", timeline=name)])).iter("testcase")
    assert case.find("failure") is not None
