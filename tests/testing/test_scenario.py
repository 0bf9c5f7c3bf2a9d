"""What a scenario file may say, and how it is told what is wrong with it. No call is held here."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.testing.scenario import (
    FILE_BYTES,
    Bot,
    Command,
    Phone,
    ScenarioError,
    load,
    read_app,
)
from offhook.testing.scenario_steps import STEP_KINDS, BargeIn, Expects, HangUp, Hears, HearsSilence, Press, Say
from offhook.testing.weather import Weather, weather

WHOLE = """
app: {bot: clerk.py:clerk, rate: 24000, hangs_up: true}
scenarios:
  - name: the first
    to: "+15550123"
    from: support
    rate: 8000
    weather: 7
    steps:
      - say: hello
      - press: "12#"
      - hears: {words: hello, within: 3}
      - hears_silence: {for: 2}
      - barge_in: {say: stop, stops_within: 0.3}
      - expects: {events: [CallConnected], latency_below: 1, answered: true}
      - hang_up
  - name: the second
    phone: {id: "+15550177", does: busy}
    weather: {drop_at: 50}
    steps: []
"""


def complaint(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "calls.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ScenarioError) as error:
        load(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.yaml"
    path.write_text(WHOLE, "utf-8")
    file = load(path)
    assert file.app == Bot("clerk.py:clerk", rate=24_000, hangs_up=True)
    first, second = file.scenarios
    assert (first.to, first.from_, first.rate, first.faults()) == ("+15550123", "support", 8000, weather(7))
    steps: list[object] = list(first.steps)
    assert steps == [
        Say("hello"),
        Press("12#"),
        Hears("hello", within=3),
        HearsSilence(for_=2),
        BargeIn(say="stop", stops_within=0.3),
        Expects(events=["CallConnected"], latency_below=1, answered=True),
        HangUp(),
    ]
    assert second.phone == Phone("+15550177", "busy")
    assert second.faults() == Weather(drop_at=50)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("say", "text", "'1'"),
        ("play", "file", "'1'"),
        ("press", "keys", "'1'"),
        ("pause", "seconds", "1"),
        ("hears", "words", "'1'"),
        ("hears_speech", "within", "1"),
        ("hears_silence", "for", "1"),
        ("hears_tone", "hz", "1"),
        ("ends", "within", "1"),
    ],
)
def test_the_first_key_of_a_step_can_be_left_out(name: str, key: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    path = tmp_path / "calls.yaml"
    path.write_text(f"scenarios: [{{name: a, steps: [{{{name}: {value}}}, {{{name}: {{{key}: {value}}}}}]}}]", "utf-8")
    short, long = load(path).scenarios[0].steps
    assert short == long


STEPS = "scenarios: [{name: a, steps: [hang_up, %s]}]"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{hearz: a}", "'hearz' is no step; steps are say, play, press, pause, barge_in, hears, "),
        ("hangup", "'hangup' is no step; steps are say, "),
        ("{say: a, press: '1'}", "a step is one of say, "),
        ("7", "a step is one of say, "),
        ("{hears: {word: a}}", "hears: Object contains unknown field `word`; its keys are words, within"),
        ("{hears: {within: 1}}", "hears: Object missing required field `words`; its keys are words, within"),
        ("{hears: '…'}", r"hears: words: Expected `str` matching regex '\\w'"),
        ("{press: 12}", "press: keys: Expected `str`, got `int` (a number that is meant as text needs quotes)"),
        ("{press: 12x}", "press: keys: Expected `str` matching regex '^[0-9*#A-Da-d]{1,100}$'"),
        ("{pause: -1}", "pause: seconds: Expected `float` >= 0.0"),
        ("{pause: .nan}", "pause: seconds: Expected `float` >= 0.0"),
        ("{pause: 4000}", "pause: seconds: Expected `float` <= 3600.0"),
        ("{say: a.wav}", "say: a text is said, a file is played: use `play`"),
        ("{say: ''}", "say: text: Expected `str` of length >= 1"),
        ("{barge_in: {say: a, play: b}}", "barge_in: it needs either `say` or `play`"),
        ("expects", "expects: it needs one of events, latency_below, transcript, answered, outcome"),
        ("{barge_in: {after: 1}}", "barge_in: it needs either `say` or `play`"),
        ("{hears_tone: {hz: 440, level: 3}}", "hears_tone: level: Expected `float` <= 0.0"),
        ("{hang_up: 1}", "hang_up: Expected `object`, got `int`"),
    ],
)
def test_a_bad_step_is_told_by_its_number_with_what_there_is(step: str, said: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, STEPS % step).startswith(f"scenario 1, step 2: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "scenarios: [{name: a, steps: [], too: b}]",
            "scenario 1: Object contains unknown field `too`; its keys are name",
        ),
        (
            "scenarios: [{name: a}]",
            "scenario 1: Object missing required field `steps`; its keys are name, steps, to, from",
        ),
        ("scenarios: []", "scenarios: Expected `array` of length >= 1"),
        ("scenaros: []", "Object contains unknown field `scenaros`; its keys are scenarios, app"),
        ("[]", "Expected `object`, got `array`"),
        ("", "Expected `object`, got `null`"),
        ("a: [", "not YAML: "),
        (b"\xff\xff", "not YAML: "),
        ("a: !!python/name:os.system", "not YAML: "),
        ("scenarios: [{name: a, steps: [], to: +15550199}]", "scenario 1, to: Expected `str`, got `int` (a number "),
        ("scenarios: [{name: a, steps: [], rate: 11025}]", "scenario 1, rate: Invalid enum value 11025"),
        (
            "scenarios: [{name: a, steps: [], phone: {}}]",
            "scenario 1, phone: Object missing required field `id`; its keys are id",
        ),
        (
            "scenarios: [{name: a, steps: [], weather: {drop: 1}}]",
            "scenario 1, weather: Object contains unknown field `drop`; its keys are seed, drop_at",
        ),
        (
            "scenarios: [{name: a, steps: [], weather: {late: 7}}]",
            "scenario 1, weather: late: 7.0 is not between 0 and 1",
        ),
        (
            "scenarios: [{name: a, steps: [], weather: {late: x}}]",
            "scenario 1, weather, late: Expected `float`, got `str`",
        ),
        ("scenarios: [{name: a, steps: []}, {name: a, steps: []}]", "the names 'a' and 'a' are too much alike"),
        ("scenarios: [{name: A b, steps: []}, {name: a/b, steps: []}]", "the names 'A b' and 'a/b' are too much alike"),
        (
            "app: {bot: a.py:b, rat: 1}\nscenarios: [{name: a, steps: []}]",
            "app: Object contains unknown field `rat`; its keys are bot, rate",
        ),
        ("app: 7\nscenarios: [{name: a, steps: []}]", "app: Expected `object`, got `int`"),
        ("scenarios: [{name: a, steps: [{play: missing.wav}]}]", "a, step 1: there is no file missing.wav"),
        ("scenarios: [{name: a, steps: [{barge_in: {play: no.wav}}]}]", "a, step 1: there is no file no.wav"),
    ],
)
def test_a_bad_file_is_told_where_with_what_there_is(text: str | bytes, said: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, text).startswith(said)


def test_a_file_is_bounded(tmp_path: Path) -> None:
    assert complaint(tmp_path, "#" * (FILE_BYTES + 1)) == f"larger than {FILE_BYTES} bytes"
    many = ", ".join(["hang_up"] * 1001)
    assert "steps: Expected `array` of length <= 1000" in complaint(
        tmp_path, f"scenarios: [{{name: a, steps: [{many}]}}]"
    )


@pytest.mark.parametrize(
    ("value", "app"),
    [
        ("clerk.py:clerk", Bot("clerk.py:clerk")),
        ("bots/clerk.py:make_it", Bot("bots/clerk.py:make_it")),
        ("python clerk.py --port {port}", Command("python clerk.py --port {port}")),
        ({"command": "a", "incoming": "https://h/"}, Command("a", "https://h/")),
    ],
)
def test_an_app_is_a_bot_file_or_a_command(value: object, app: Bot | Command) -> None:
    assert read_app(value) == app


@pytest.mark.parametrize("value", ["", {"bot": "clerk.py"}, {"command": "a", "incoming": "h"}, [], None])
def test_what_is_no_app(value: object) -> None:
    with pytest.raises(ScenarioError):
        read_app(value)


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(list(STEP_KINDS)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*STEP_KINDS, "words", "within", "name", "phone"]) | st.text(max_size=3), inner
        )
    ),
    max_leaves=8,
)


@given(steps=YAML, app=YAML, more=YAML)
def test_whatever_a_file_says_it_is_read_or_told(
    steps: object, app: object, more: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    scenario = {"name": "a", "steps": steps, "weather": more}
    path.write_text(json.dumps({"scenarios": [scenario], "app": app}), "utf-8")  # JSON is YAML
    with suppress(ScenarioError):
        load(path)
