"""Numbers in E.164, and which trunk a number goes to."""

from __future__ import annotations

import pytest

from offhook.server.dialplan import Dialled, Route, dial, e164

ROUTES = (
    Route("+1", "america", strip=1, caller_id="+15550100"),
    Route("+1555", "near"),
    Route("+49", "germany", strip=3, prepend="0"),
)


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+15550100", "", "+15550100"),
        ("+1 (555) 010-0123", "", "+15550100123"),
        ("0049 30 1234567", "DE", "+49301234567"),
        ("030 1234567", "de", "+49301234567"),
        ("011 49 30 1234567", "US", "+49301234567"),
    ],
)
def test_numbers_are_written_in_e164(text: str, region: str, number: str) -> None:
    assert e164(text, region) == number


@pytest.mark.parametrize(
    ("text", "region"), [("anna", "US"), ("", ""), ("030 1234567", ""), ("+999 12", ""), ("100", "US"), ("110", "DE")]
)
def test_what_is_no_number_is_said(text: str, region: str) -> None:
    with pytest.raises(ValueError, match="no telephone number"):
        e164(text, region)


def test_the_longest_prefix_decides() -> None:
    assert dial(ROUTES, "+15550199", "+15550177") == Dialled("near", "+15550199", "+15550177")
    assert dial(ROUTES, "+12065550199", "+15550177") == Dialled("america", "12065550199", "+15550100")
    assert dial(ROUTES, "+49301234567") == Dialled("germany", "0301234567", "")


def test_what_no_route_names_cannot_be_dialled() -> None:
    assert dial(ROUTES, "+88216000000") is None
    assert dial((), "+15550199") is None


def test_only_the_numbers_of_a_route_are_shown() -> None:
    routes = (Route("+1", "america", caller_ids=("+15550100",)),)
    assert dial(routes, "+12065550199", "+15550100") == Dialled("america", "+12065550199", "+15550100")
    assert dial(routes, "+12065550199") == Dialled("america", "+12065550199", "")  # anonymous: no number is claimed
    with pytest.raises(ValueError, match="does not let"):
        dial(routes, "+12065550199", "+15550177")


def test_what_a_route_shows_instead_needs_no_leave() -> None:
    routes = (Route("+1", "america", caller_id="+15550100", caller_ids=("+15550101",)),)
    assert dial(routes, "+12065550199", "+15550177") == Dialled("america", "+12065550199", "+15550100")
