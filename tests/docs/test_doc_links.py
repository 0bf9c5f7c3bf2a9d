"""Links lead somewhere, pictures are small, and no file names what only one machine or one person has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FOLDERS = ("src", "tests", "docs", "examples", ".ci")
TEXT = {".md", ".py", ".toml", ".txt", ".json", ".mjs", ".sh", ""}
PICTURE_BYTES = 200_000

# Put together here, so that this file does not have them. Folders of one machine, and hosts of package registries.
MACHINE = re.compile("|".join(f"(?<![\\w.~])/{folder}/" for folder in ("home", "root", "work", "Users")))
REGISTRIES = [
    ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"))
]


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in headings(linked), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text("utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [page for page in pages if page != "README.md" and f"({page})" not in index] == []


def test_pictures_are_small() -> None:
    for picture in ROOT.glob("docs/img/*"):
        assert picture.stat().st_size <= PICTURE_BYTES, picture.name


def files() -> Iterator[Path]:
    """The text files that are ours."""
    left_by_a_run = {".coverage"}
    for path in ROOT.glob("*"):
        if path.is_file() and path.suffix in TEXT and path.name not in left_by_a_run:
            yield path
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            ours = "node_modules" not in path.parts and "__pycache__" not in path.parts
            if ours and path.is_file() and path.suffix in TEXT and path.name != "package-lock.json":
                yield path


def test_no_file_names_a_folder_of_one_machine_or_a_registry() -> None:
    found = []
    for path in files():
        content = path.read_text("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in MACHINE.findall(content)]
        found += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRIES if host in content]
    assert found == []
