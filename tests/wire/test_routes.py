from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.wire.operations import OPERATIONS, MethodNotAllowed, Operation, match

IDS = {
    "callConnectionId": "00000000-ffff-4fff-bfff-ffffffffffff",
    "participantRawId": "8:acs:2dee53b4_00000005",
    "recordingId": "eyJQbGF0Zm9ybUVuZHBvaW50SWQiOiJ-_",
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_found_at_its_path(operation: Operation) -> None:
    ids = {name: value for name, value in IDS.items() if f"{{{name}}}" in operation.path}
    for spelt in (ids, {name: quote(value, safe="") for name, value in ids.items()}):
        path = operation.path.format_map(spelt)
        for sent in (path, f"/{path}", f"//{path}"):
            assert match(operation.method, sent) == (operation, ids)


@given(st.text(min_size=1))
def test_any_raw_id_survives_the_path(raw_id: str) -> None:
    try:
        path = f"/calling/callConnections/c/participants/{quote(raw_id, safe='')}"
    except UnicodeEncodeError:
        return
    found = match("GET", path)
    assert isinstance(found, tuple)
    assert found[1] == {"callConnectionId": "c", "participantRawId": raw_id}


def test_a_phone_number_partly_decoded() -> None:
    found = match("GET", "/calling/callConnections/c/participants/4:%2B15550100")
    assert isinstance(found, tuple)
    assert found[1]["participantRawId"] == "4:+15550100"


def test_another_method_is_told_from_another_path() -> None:
    assert match("PUT", "/calling/callConnections/c") == MethodNotAllowed(("GET", "DELETE"))
    assert match("GET", "/calling/callConnections/c:terminate") == MethodNotAllowed(("POST",))


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/calling", "/calling/callConnections/", "/calling/callConnections:explode"),
        *("/calling/callConnections/c:explode", "/calling/callConnections/c:play:play"),
        *("/calling/callConnections/c/participants/a/b", "/calling//callConnections", "/calling/recordings/r:play"),
        *("/calling/callConnections\n", "/Calling/callConnections"),
    ],
)
def test_other_paths_are_not_ours(path: str) -> None:
    assert match("POST", path) is None
