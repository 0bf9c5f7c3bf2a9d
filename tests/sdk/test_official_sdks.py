"""The official SDKs, unmodified, as clients of a running server: over https, from a connection string."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sdk.conftest import Act, Play

HERE = Path(__file__).parent
PYTHON = [line.partition("==")[2] for line in (HERE / "python.txt").read_text().splitlines() if "==" in line]
JAVASCRIPT = [
    alias.removeprefix("acs-") for alias in json.loads((HERE / "js" / "package.json").read_text())["dependencies"]
]

pytestmark = [pytest.mark.sdk, pytest.mark.sockets]


def assert_the_play_went_as_written(act: Act) -> None:
    """What the scenario cannot see: what its caller heard, and what reached the app besides what it asked for."""
    talker = act.callers[0]
    assert act.voice in talker.heard  # bit for bit: caller, stream and call have one rate
    assert [state.state for state in talker.states] == ["ringing", "connected", "ended"]
    assert [caller.connected_at is not None for caller in act.callers] == [True, False, False, False, True]
    assert act.incoming == []
    kinds = act.kinds()
    assert kinds.count("CallConnected") == kinds.count("CallDisconnected") == 2
    assert kinds.count("MediaStreamingStarted") == kinds.count("MediaStreamingStopped") == 2
    assert not [kind for kind in kinds if kind.endswith("Failed")]


@pytest.mark.parametrize("style", ["sync", "aio"])
@pytest.mark.parametrize("version", PYTHON)
def test_python(version: str, style: str, sdk: Callable[[str], Path], play: Play) -> None:
    folder = sdk(f"py-{version}")
    act = play([sys.executable, HERE / "scenario.py", style, version], PYTHONPATH=str(folder))
    assert_the_play_went_as_written(act)


@pytest.mark.parametrize("version", JAVASCRIPT)
def test_javascript(version: str, sdk: Callable[[str], Path], play: Play) -> None:
    # Node looks for packages from where the importing file lies.
    scenario = shutil.copy(HERE / "js" / "scenario.mjs", sdk("js"))
    assert_the_play_went_as_written(play(["node", scenario, version]))


@pytest.mark.parametrize("how", ["gateway", "connection"])
def test_an_answer_that_is_lost_and_asked_for_again_is_one_call(
    how: str, sdk: Callable[[str], Path], play: Play
) -> None:
    act = play([sys.executable, HERE / "lost_answer.py", how], PYTHONPATH=str(sdk(f"py-{PYTHON[-1]}")))
    (caller,) = act.callers
    assert [state.state for state in caller.states] == ["ringing", "connected", "ended"]
    assert len({json.loads(body)[0]["data"]["callConnectionId"] for body in act.callbacks}) == 1
    assert (act.kinds().count("CallConnected"), act.kinds().count("CallDisconnected")) == (1, 1)
