"""The official SDKs, unmodified, as clients of a running server: over https, from a connection string."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal
from prometheus_client.parser import text_string_to_metric_families
from tests.sdk.conftest import RECORD, ROOT, Performances
from tests.sdk.performers import Performer, performers
from tests.sdk.runner import Runner
from tests.sdk.stage import Act, Stage, until

from offhook.wire.operations import OPERATIONS

HERE = Path(__file__).parent
EXTRACTS = HERE.parent / "contract" / "api-extracts"
PERFORMERS = performers()
NEWEST_PYTHON = PERFORMERS[-1]

pytestmark = [pytest.mark.sdk, pytest.mark.sockets]


@pytest.mark.timeout(400)  # the first ones wait for processes that all start at once
@pytest.mark.parametrize("performer", PERFORMERS, ids=str)
def test_the_whole_call(performer: Performer, sdk: Callable[[str], Path], performances: Performances) -> None:
    sdk(performer.folder)
    performance = performances.result(performer)
    extract = EXTRACTS / f"callautomation-{performance.api_version}.sdk-extract.json"
    if extract.exists() and performer.style != "aio":  # a stable api-version; some aio clients lose operations
        listed = {(each["method"], each["path"]) for each in json.loads(extract.read_text())["operations"]}
        called = {each.name for each in OPERATIONS if (each.method, each.path) in listed}
        assert performance.driven == {name for name in called if "ecord" not in name and "ranscri" not in name}


@pytest.mark.parametrize("language", sorted({performer.language for performer in PERFORMERS}))
def test_the_record_is_what_was_shown(language: str, performances: Performances) -> None:
    """`docs/coverage.md` is made from record.json, on machines without any SDK too."""
    if {each for each in PERFORMERS if each.language == language} - performances.played.keys():
        pytest.skip(f"not every {language} SDK has performed")
    shown = performances.shown()[language]
    assert shown == json.loads(RECORD.read_text("utf-8"))[language], (
        "copy build/sdk-coverage.json to tests/sdk/record.json"
    )


def test_the_server_was_asked_for_all_of_it(performances: Performances, stage: Stage) -> None:
    """What the runners say that they did is what the server counted."""
    with urllib.request.urlopen(f"{stage.http}/metrics") as answer:
        families = {each.name: each.samples for each in text_string_to_metric_families(answer.read().decode())}
    counted = {
        (sample.labels["operation"], int(sample.labels["status"])): sample.value
        for sample in families["offhook_rest_requests"]
        if sample.name.endswith("_total")
    }
    for operation in OPERATIONS:
        said = sum(operation.name in performance.driven for performance in performances.played.values())
        assert counted.get((operation.name, operation.success), 0) >= said, operation.name


@pytest.mark.parametrize("how", ["gateway", "connection"])
def test_an_answer_that_is_lost_and_asked_for_again_is_one_call(
    how: str, sdk: Callable[[str], Path], stage: Stage, portal: BlockingPortal
) -> None:
    path = os.pathsep.join(map(str, (sdk(NEWEST_PYTHON.folder), ROOT)))

    async def play() -> None:
        act = stage.act(f"lost-answer-{how}")
        program: list[str | Path] = [sys.executable, HERE / "python" / "lost_answer.py", how]
        log = stage.data_dir / f"lost-answer-{how}.log"
        runner = await Runner.start(program, stage.environment | {"PYTHONPATH": path}, log)
        try:
            await _one_call_of_two_requests(act, runner)
        finally:
            await runner.stop()
            await act.close()
        assert [state.state for state in act.calls[0].states] == ["ringing", "connected", "ended"]

    portal.call(play)


async def _one_call_of_two_requests(act: Act, runner: Runner) -> None:
    context = (await act.call())["incomingCallContext"]
    asked = {"incomingCallContext": context, "callbackUri": f"{act.url}/callbacks"}
    id = (await runner.do("answerCall", asked))["callConnectionId"]
    first, second = (await runner.do("sent"))["requests"]
    assert first == second
    assert None not in first.values()
    await until(lambda: "CallConnected" in act.kinds())
    assert (await runner.do("getCall", on=id))["callConnectionState"] == "connected"
    await runner.do("terminate", on=id)
    await until(lambda: "CallDisconnected" in act.kinds())
    assert {event["data"]["callConnectionId"] for event in act.callbacks} == {id}
    assert (act.kinds().count("CallConnected"), act.kinds().count("CallDisconnected")) == (1, 1)
