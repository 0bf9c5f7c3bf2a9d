"""What docs/audio-quality.md says is what the code gives, and concealment is better than silence."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from offhook.bench import quality
from offhook.bench.quality import Score

PAGE = Path(__file__).parents[2] / "docs" / "audio-quality.md"

# A little under what one loss pattern a voice gave: (pattern, share) → least score, least gain.
FLOORS = {
    ("random", 0.01): (3.85, 0.08),
    ("random", 0.05): (3.3, 0.2),
    ("random", 0.10): (2.9, 0.5),
    ("bursts", 0.01): (3.8, 0.05),
    ("bursts", 0.05): (3.05, 0.15),
    ("bursts", 0.10): (2.7, 0.3),
}


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def documented(heading: str) -> list[list[str]]:
    """The table of the page whose first heading this is."""
    tables = re.findall(r"(?:^\|.*\n)+", PAGE.read_text("utf-8"), re.MULTILINE)
    return next(cells(table) for table in tables if cells(table)[0][0] == heading)


@pytest.mark.parametrize("measure", [quality.resampling, quality.round_trip, quality.stalls, quality.drift])
def test_the_page_has_the_figures_of_the_code(measure: Callable[[], str]) -> None:
    measured = cells(measure())
    page = documented(measured[0][0])
    assert page[0] == measured[0]
    for row, expected in zip(page, measured, strict=True):
        assert row[0] == expected[0]
        if row[1].replace("-", ""):  # not the line under the headings
            for cell, figure in zip(row[1:], expected[1:], strict=True):
                # Another processor's floats may differ in the last place.
                assert cell == figure or float(cell) == pytest.approx(float(figure), rel=0.03, abs=0.1)


def test_the_page_is_the_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the figures: nobody edits it by hand."""
    for measured in ("resampling", "round_trip", "stalls", "drift"):
        monkeypatch.setattr(quality, measured, str)
    nothing = [Score("none", 0.0, 0.0, 0.0)]
    made = re.sub(r"^\|.*\n", "", quality.page(nothing), flags=re.MULTILINE)
    assert re.sub(r"^\|.*\n", "", PAGE.read_text("utf-8"), flags=re.MULTILINE) == made
    assert cells(quality.concealment(nothing))[0] == documented("loss")[0]


def test_concealment_is_better_than_silence() -> None:
    missing = [name for name in ("pesq", "hibari") if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"speech quality cannot be measured without the package {missing[0]}"
        (pytest.fail if os.environ.get("OFFHOOK_REQUIRE_PEERS") == "1" else pytest.skip)(reason)
    whole, *lossy = quality.scores(seeds=1)
    assert whole.concealed == whole.silenced >= 4.2
    assert {(one.pattern, one.share) for one in lossy} == FLOORS.keys()
    for one in lossy:
        least, gain = FLOORS[one.pattern, one.share]
        assert one.concealed >= least, one
        assert one.concealed >= one.silenced + gain, one
