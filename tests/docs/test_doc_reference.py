"""The tables and snippets of the documentation agree with the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from offhook.cli.verbs import app
from offhook.demo import script
from offhook.demo.app import GREETING
from offhook.server.config import Settings
from offhook.wire import streaming

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def rows(page: str) -> Iterator[list[str]]:
    """The rows of a page's tables, cells without their backquotes."""
    for line in page.splitlines():
        if line.startswith("|"):
            yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


# ------------------------------------------------------------------------------------------------ command line


def verbs() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = group.commands
    return found


def sections(page: str) -> dict[str, str]:
    parts = re.split(r"^## offhook (\w+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_verb_has_a_section() -> None:
    assert sections(text("docs/cli.md")).keys() == verbs().keys()


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_option_and_its_default_are_documented(verb: str) -> None:
    section = sections(text("docs/cli.md"))[verb]
    documented = {row[0]: row[2] for row in rows(section) if re.match("--[a-z]", row[0])}
    options = [option for option in verbs()[verb].params if option.param_type_name == "option"]
    assert sorted(documented) == sorted(option.opts[0] for option in options)
    for option in options:
        if option.default not in (None, False):
            assert documented[option.opts[0]] == str(option.default)


# ------------------------------------------------------------------------------------------------ settings


def test_every_setting_is_documented_in_order() -> None:
    table = [row for row in rows(text("docs/configuration.md")) if row[0] in Settings.model_fields and len(row) == 4]
    serve = {option.opts[0] for option in verbs()["serve"].params}
    singular = {"names": "--name", "keys": "--key"}
    expected = []
    for name, option in Settings.model_fields.items():
        flag = singular.get(name, "--" + name.replace("_", "-"))
        default = next(row[2] for row in table if row[0] == name)
        if option.default_factory is None:
            default = "none" if option.default in (None, []) else str(option.default)
        description = str(option.description)
        expected.append([name, flag if flag in serve else "", default, description])
    assert [[cell.replace("`", "") for cell in row] for row in table] == [
        [cell.replace("`", "") for cell in row] for row in expected
    ]


def test_the_production_example_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = fenced(text("docs/configuration.md"), "toml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "offhook.toml").write_text(example)
    settings = Settings.load(tmp_path / "offhook.toml", data_dir=tmp_path / "data")
    assert settings.profile == "production"
    for name in ("server.pem", "server-key.pem"):
        (tmp_path / name).touch()
    (tmp_path / "access-keys").write_text("# two of 32 bytes\n" + "b" * 43 + "=\n" + "c" * 43 + "=\n")
    settings.check()


# ------------------------------------------------------------------------------------------------ bounds


def bounds() -> list[tuple[str, str]]:
    table = (row for row in rows(text("docs/architecture.md")) if len(row) == 4)
    return [(row[1], row[2]) for row in table if re.fullmatch(r"[a-z_]+\.[\w.]+", row[1])]


def value(dotted: str) -> Any:
    """`audio.playout.Playout.limit_ms` → a constant of that name in a module, or the default of a constructor."""
    package, module, *names = dotted.split(".")
    found: Any = importlib.import_module(f"offhook.{package}.{module}")
    for name in names:
        if inspect.isclass(found):
            return inspect.signature(found).parameters[name].default
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(("where", "documented"), bounds())
def test_every_documented_bound_is_that_of_the_code(where: str, documented: str) -> None:
    assert value(where) == float(documented)


def test_bounds_are_found_at_all() -> None:
    assert len(bounds()) > 20


# ------------------------------------------------------------------------------------------------ snippets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_and_json_of_a_page_can_be_read(page: Path) -> None:
    for snippet in fenced(page.read_text("utf-8"), "python"):
        compile(snippet, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for snippet in fenced(page.read_text("utf-8"), "json"):
        try:
            json.loads(snippet)
        except json.JSONDecodeError:
            for line in snippet.splitlines():  # one message a line
                json.loads(line)


def test_the_quickstarts_code_is_that_of_the_examples() -> None:
    answer, echo, by_hand, _ = fenced(text("docs/quickstart.md"), "python")
    for snippet, example in ((answer, "echo_app.py"), (echo, "echo_app.py")):
        code = [line.strip() for line in text(f"examples/{example}").splitlines()]
        assert [line for line in snippet.splitlines() if line.strip() not in code] == []
    code = [line.strip() for line in text("examples/echo_by_hand.py").splitlines()]
    lines = [line.strip() for line in by_hand.splitlines()]
    assert {line for line in lines if "socket" in line or "pcm" in line} <= {
        re.sub(r"^message = ", "", line) for line in code
    } | {"async for message in socket:"}


def test_one_line_changes_and_only_its_connection_string() -> None:
    [diff] = fenced(text("README.md"), "diff")
    before, after = diff.splitlines()
    assert (before[0], after[0]) == ("-", "+")
    calls = [ast.parse(line[1:]).body[0] for line in (before, after)]
    strings = [next(node.value for node in ast.walk(call) if isinstance(node, ast.Constant)) for call in calls]
    assert before[1:].replace(str(strings[0]), "") == after[1:].replace(str(strings[1]), "")
    assert strings[1] == "endpoint=https://127.0.0.1:7443/;accesskey=…"
    table = [row[1] for row in rows(text("README.md")) if "accesskey" in row[1]]
    assert len(table) == 4
    assert all(str(strings[1]) in line for line in table)


def test_the_versions_that_are_said_to_be_tested_are() -> None:
    run = {row[0]: row[3] for row in rows(text("README.md")) if row[0] in ("Python", "JavaScript")}
    assert sorted(run["Python"].split(", ")) == sorted(
        re.findall(r"callautomation==(\S+)", text("tests/sdk/python.txt"))
    )
    packages = json.loads(text("tests/sdk/js/package.json"))["dependencies"].values()
    assert sorted(run["JavaScript"].split(", ")) == sorted(
        version.rpartition("@")[2] for version in packages if "call-automation" in version
    )


def test_the_demos_timeline_is_what_the_demo_says() -> None:
    shown = next(block for block in fenced(text("README.md"), "text") if "dials" in block)
    for said in (GREETING, script.INTERRUPTION):
        assert said in shown


# ------------------------------------------------------------------------------------------------ the wire


def test_the_wires_samples_are_what_we_send_and_read() -> None:
    metadata, audio, digit, from_app, callback, error = fenced(text("docs/wire.md"), "json")
    made = streaming.audio_metadata(json.loads(metadata)["audioMetadata"]["subscriptionId"], 24_000)
    assert metadata.strip() == made.decode()
    envelope = streaming.AudioEnvelope(json.loads(audio)["audioData"]["participantRawID"])
    stamp = json.loads(audio)["audioData"]["timestamp"].encode()
    message = b"".join((envelope.head, stamp, envelope.middle, b"AAAA", streaming.TAIL[False]))
    assert audio.strip() == message.decode()
    assert digit.strip() == streaming.dtmf_data("3").decode()
    speech, stop = (streaming.parse(line) for line in from_app.splitlines())
    assert isinstance(speech, streaming.Audio)
    assert isinstance(stop, streaming.StopAudio)
    assert len(json.loads(callback)) == 1
    assert json.loads(error)["error"].keys() == {"code", "message", "target"}


def test_every_odd_message_of_the_app_is_documented() -> None:
    page = text("docs/wire.md")
    for path in ("wire/streaming.py", "media/stream.py"):
        source = text(f"src/offhook/{path}")
        for cause in re.findall(r'(?:Ignored\(|_odd\(\s*)"([^"]+)"', source):
            if cause not in ("malformed",):  # of messages to the app
                assert f"`{cause}`" in page, cause
