"""The API reference is up to date and complete; the tutorials do what they say, with the code of the examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = ("tutorial-echo.md", "tutorial-barge-in.md", "offline-agent.md")

pytest.importorskip("griffe")
if TYPE_CHECKING:
    from tests.docs import make_reference
    from tests.docs.test_doc_commands import PAGE_S, Shell, blocks, environment, follow, heard, scratch
else:  # pytest puts this folder on the path
    import make_reference
    from test_doc_commands import PAGE_S, Shell, blocks, environment, follow, heard, scratch

__all__ = ["scratch"]  # a fixture


@pytest.mark.parametrize("name", make_reference.PAGES)
def test_a_page_of_the_reference_is_up_to_date(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text("utf-8")
    assert written == make_reference.pages()[name], "run: python tests/docs/make_reference.py"


def test_every_public_name_has_a_docstring() -> None:
    assert list(make_reference.undocumented()) == []


@pytest.mark.sockets
@pytest.mark.timeout(PAGE_S)
@pytest.mark.parametrize("name", TUTORIALS)
def test_the_commands_of_a_tutorial_do_what_it_says(
    name: str, scratch: Path, tmp_path: Path, ports: dict[str, str]
) -> None:
    for extra in ("azure.communication.callautomation", "hibari", "pocketsphinx"):
        pytest.importorskip(extra)
    for block in blocks(ROOT / "docs" / name, "python"):
        if file := re.match(r"# (test_\w+\.py)\n", block):
            (scratch / file[1]).write_text(block, "utf-8")
    shell = Shell(scratch, environment(tmp_path, ports))
    try:
        follow(ROOT / "docs" / name, shell, ports)
    finally:
        shell.close()
    if name != "tutorial-barge-in.md":
        assert heard(scratch / "heard.wav").any()


@pytest.mark.parametrize(
    ("page", "source"),
    [
        ("tutorial-echo.md", "examples/bot_echo.py"),
        ("tutorial-barge-in.md", "examples/bot_barge_in.py"),
        ("offline-agent.md", "tests/bot/test_offline_agent.py"),
    ],
)
def test_the_code_of_a_tutorial_is_that_of_its_example(page: str, source: str) -> None:
    shown = next(block for block in blocks(ROOT / "docs" / page, "python") if not block.startswith("# test_"))
    code = {line.strip() for line in (ROOT / source).read_text("utf-8").splitlines()}
    assert [line for line in shown.splitlines() if line.strip() not in code] == []
