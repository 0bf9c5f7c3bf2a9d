"""Telephone calls written down in YAML, for `offhook test`: what a file may say, and what each of its steps does.

A file has an `app`, or leaves it to the command line, and `scenarios`; a scenario is one call, and its `steps` are what
a test with the `caller` fixture does in Python (`offhook.testing.call`). docs/testing.md shows one. All that can be
found wrong without a call is found by `load`, in words that name the file, the scenario, the step and the keys there
are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from offhook.testing.scenario_steps import STEP_KINDS, Part, Seconds, Step, Text
from offhook.testing.weather import Weather
from offhook.testing.weather import weather as mixed_weather

FILE_BYTES = 1 << 20  # a bound, not a defence: a file may name a command to run, and is trusted like a Makefile
SCENARIOS = 1000  # of a file
STEPS = 1000  # of a scenario

_FOLDER_CHARS = 100

T = TypeVar("T", bound=msgspec.Struct)


class ScenarioError(ValueError):
    """A file that cannot be run; the text says where it is wrong."""


# ------------------------------------------------------------------------------------------------ the app


class AppUnderTest:
    """The other side of the calls: a `Bot` or a `Command`."""


class Bot(Part, AppUnderTest, frozen=True):
    """An app in this process, in memory and on virtual time: a handler for `offhook.bot`, and how it answers. The
    options are those of `offhook.testing.inprocess.App`."""

    bot: Annotated[str, Meta(pattern=r"\.py:[A-Za-z_]\w*$")]  # FILE.py:NAME
    rate: Literal[16_000, 24_000] = 16_000
    unmixed: bool = False
    bidirectional: bool = True
    dtmf: bool = True
    answer_after: Seconds = 0.0
    path: Annotated[str, Meta(pattern="^/")] = "/"
    hangs_up: bool = False


class Command(Part, AppUnderTest, frozen=True):
    """An app that is started beside a server of its own, in real time. `{port}` in either text is a free port;
    `incoming` is where it takes IncomingCall events."""

    command: Text
    incoming: Annotated[str, Meta(pattern="^https?://")] = "http://127.0.0.1:{port}/api/incomingCall"


def read_app(value: object) -> Bot | Command:
    """Return the `app` of a file or of `--app`: `FILE.py:NAME` is a bot, any other text a command. Raises
    `ScenarioError`."""
    if isinstance(value, str):
        value = {"bot" if re.fullmatch(r"\S+\.py:\w+", value) else "command": value}
    is_bot = isinstance(value, dict) and "bot" in value
    return _read(Bot, value) if is_bot else _read(Command, value)


# ------------------------------------------------------------------------------------------------ the file


class Phone(Part, frozen=True):
    """A phone that the app calls, and what it does then."""

    id: Text
    does: Literal["answer", "busy", "decline", "no-answer"] = "answer"
    within: Seconds = 10.0


class Scenario(Part, frozen=True, rename={"from_": "from"}):
    """One call: `from` calls `to`, or, with `phone`, the app calls that. `weather`: a seed for a mix of faults, or the
    fields of `offhook.testing.weather.Weather`."""

    name: Text
    steps: Annotated[list[Step], Meta(max_length=STEPS)]
    to: Text = "+15550199"
    from_: Text = "+15550100"
    rate: Literal[8_000, 16_000, 24_000, 48_000] = 16_000
    phone: Phone | None = None
    weather: int | Weather | None = None

    def __post_init__(self) -> None:
        self.faults()

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r"[^\w.-]+", "-", self.name).strip("-.")[:_FOLDER_CHARS] or "scenario"

    def faults(self) -> Weather | None:
        """Return the weather over the call. Raises ValueError."""
        return mixed_weather(self.weather) if isinstance(self.weather, int) else self.weather


class ScenarioFile(Part, frozen=True):
    """What a file says."""

    scenarios: Annotated[list[Scenario], Meta(min_length=1, max_length=SCENARIOS)]
    app: AppUnderTest | None = None

    def __post_init__(self) -> None:
        names: dict[str, str] = {}
        for scenario in self.scenarios:
            folder = scenario.folder.lower()
            if folder in names:
                raise ValueError(f"the names {names[folder]!r} and {scenario.name!r} are too much alike")
            names[folder] = scenario.name


def load(path: Path) -> ScenarioFile:
    """Read a file of at most 1 MiB. Raises `ScenarioError`, OSError."""
    with path.open("rb") as file:
        data = file.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise ScenarioError(f"{path}: larger than {FILE_BYTES} bytes")
    try:
        read = msgspec.yaml.decode(data, type=ScenarioFile, dec_hook=_hook)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{path}: {_explained(error, ScenarioFile)}") from None
    except msgspec.DecodeError as error:
        raise ScenarioError(f"{path}: not YAML: {error}") from None
    except ImportError as error:
        raise ScenarioError("scenarios need PyYAML: pip install 'offhook[testing]'") from error
    for scenario in read.scenarios:
        for number, step in enumerate(scenario.steps, 1):
            if step.sound_file is not None and not (path.parent / step.sound_file).is_file():
                raise ScenarioError(f"{path}: {scenario.name}, step {number}: there is no file {step.sound_file}")
    return read


def _hook(kind: type, value: object) -> object:
    """Read what is no Struct. Raises ValueError, which msgspec says the place of."""
    if kind is AppUnderTest:
        return read_app(value)
    name, arguments = (value, {}) if isinstance(value, str) else _only_item(value)
    step = STEP_KINDS.get(name)
    if step is None:
        raise ScenarioError(f"{name!r} is no step; steps are {', '.join(STEP_KINDS)}")
    names = _keys(step)
    if arguments is None:
        arguments = {}
    elif not isinstance(arguments, dict) and names:
        arguments = {names[0]: arguments}
    return _read(step, arguments, f"{name}: ")


def _only_item(step: object) -> tuple[str, Any]:
    if not isinstance(step, dict) or len(step) != 1:
        raise ScenarioError(f"a step is one of {', '.join(STEP_KINDS)}, with what belongs to it")
    (item,) = step.items()
    return str(item[0]), item[1]


def _read(kind: type[T], value: object, what: str = "") -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ScenarioError(what + _explained(error, kind)) from None


def _explained(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> str:
    """Say in words where it is, and what would be allowed there."""
    text, _, path = str(error).partition(" - at `$")
    if text.startswith("Expected `str") and text.endswith("got `int`"):
        text += " (a number that is meant as text needs quotes)"
    if text.startswith("Object ") and "its keys" not in text:
        parts: dict[str, type[msgspec.Struct]] = {".phone`": Phone, ".weather`": Weather, "]`": Scenario}
        inner = next((part for end, part in parts.items() if path.endswith(end)), kind)
        text += f"; its keys are {', '.join(_keys(inner))}"
    places = [
        key or f"{name.removesuffix('s')} {int(index) + 1}"
        for name, index, key in re.findall(r"\.(\w+)\[(\d+)\]|\.(\w+)", path)
    ]
    return f"{', '.join(places)}: {text}" if places else text


def _keys(kind: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]
