"""`OPERATIONS` holds against what the newest SDK calls, and no older SDK calls anything else."""

import json
from pathlib import Path
from typing import Any

import pytest

from offhook.wire.operations import OPERATIONS, Operation

EXTRACTS = sorted((Path(__file__).parent / "api-extracts").glob("*.json"))
NEWEST = EXTRACTS[-1]


def operations(extract: Path) -> dict[tuple[str, str], dict[str, Any]]:
    listed = json.loads(extract.read_text())["operations"]
    return {(operation["method"], operation["path"]): operation for operation in listed}


def test_the_newest_extract_is_that_of_2026_03_12() -> None:
    assert NEWEST.name == "callautomation-2026-03-12.sdk-extract.json"


def test_the_operations_are_those_of_the_newest_sdk() -> None:
    ours = [(operation.method, operation.path) for operation in OPERATIONS]
    assert len(ours) == len(set(ours)) == 34
    assert set(ours) == set(operations(NEWEST))
    assert len({operation.name for operation in OPERATIONS}) == 34


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_status_and_repeatability_are_those_of_the_newest_sdk(operation: Operation) -> None:
    listed = operations(NEWEST)[operation.method, operation.path]
    assert operation.success in listed["success"]
    assert operation.repeatable == listed["repeatability"]


@pytest.mark.parametrize("extract", EXTRACTS, ids=lambda extract: extract.name)
def test_an_older_sdk_calls_nothing_else_and_takes_our_status(extract: Path) -> None:
    ours = {(operation.method, operation.path): operation for operation in OPERATIONS}
    for key, listed in operations(extract).items():
        assert ours[key].success in listed["success"], key
