"""Every example is run, over real sockets, and does what its docstring says."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from offhook.audio import pcm
from offhook.server.tokens import TokenSigner

if TYPE_CHECKING:
    from tests.docs.conftest import Served

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 24_000

pytestmark = pytest.mark.sockets


def example(name: str) -> str:
    return str(EXAMPLES / name)


def last_object(output: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(output.strip().splitlines()[-1])
    return found


def tone_heard(path: Path, hz: float) -> float:
    """The level at which a recording has a tone, in dBFS, in its loudest tenth of a second: without a gap, whatever a
    busy machine has left out elsewhere."""
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    pieces = np.array_split(samples, max(1, len(samples) // (RATE // 10)))
    return max(pcm.tone_level(piece, hz, RATE) for piece in pieces)


@pytest.mark.parametrize("name", ["echo_app.py", "echo_by_hand.py"])
def test_an_echo_app_answers_and_the_caller_hears_itself(name: str, served: Served, tmp_path: Path) -> None:
    pytest.importorskip("azure.communication.callautomation")
    soundfile.write(tmp_path / "said.wav", pcm.tone(440, RATE, 2.5), RATE)
    app, ready = served.start(example(name), "--port", str(served.app))
    assert json.loads(ready)["http"] == served.app
    arguments = ("--wav", str(tmp_path / "said.wav"), "--record", str(tmp_path / "heard.wav"), "--json")
    called = served.run("-m", "offhook", "call", "+15550199", *arguments)
    assert called.returncode == 0, called.stderr
    assert last_object(called.stdout)["answered"] is True
    assert tone_heard(tmp_path / "heard.wav", 440) == pytest.approx(-12, abs=1)
    printed = served.stop(app, after="CallDisconnected").split()
    assert [line for line in printed if line[0].isupper()] == [
        "CallConnected",
        "ParticipantsUpdated",
        "MediaStreamingStarted",
        "MediaStreamingStopped",
        "CallDisconnected",
    ]


def test_a_caller_by_hand_talks_to_an_app(served: Served) -> None:
    pytest.importorskip("azure.communication.callautomation")
    app, _ = served.start(example("echo_app.py"), "--port", str(served.app))
    server = f"http://127.0.0.1:{served.http}"
    called = served.run(example("caller_by_hand.py"), server, served.key, "+15550199")
    assert called.returncode == 0, called.stderr
    lines = [line.strip() for line in called.stdout.splitlines()]
    assert lines[:4] == ["rings", "ringing", "connected", "ended hung up"]
    frames, audible = (int(word) for word in lines[4].split() if word.isdigit())
    assert frames >= 100
    assert audible >= 5  # of the 50 of its tone: all but those before the app's socket was open
    served.stop(app)


def test_a_caller_by_hand_with_another_key_is_told_so(served: Served) -> None:
    server = f"http://127.0.0.1:{served.http}"
    called = served.run(example("caller_by_hand.py"), server, "b3RoZXI=", "+15550199")
    assert called.returncode == 1
    assert called.stderr.startswith("401: Hmac Validation Error")


def test_the_outbound_app_plays_its_tones_to_a_phone(served: Served, tmp_path: Path) -> None:
    pytest.importorskip("azure.communication.callautomation")
    arguments = ("--calls", "1", "--json", "--record", str(tmp_path / "phone.wav"))
    phone, _ = served.start("-m", "offhook", "phone", "+15550123", *arguments)
    app = served.run(example("outbound_app.py"), "+15550123", "--port", str(served.free_port()))
    assert app.returncode == 0, app.stderr
    assert app.stdout.split()[0] == "CallConnected"
    assert app.stdout.split()[-1] == "CallDisconnected"
    output, _ = phone.communicate(timeout=20)
    assert last_object(output)["answered"] is True
    for hz in (440, 550, 660):
        assert tone_heard(tmp_path / "phone.wav", hz) > -20


def test_the_outbound_app_says_when_it_is_declined(served: Served) -> None:
    pytest.importorskip("azure.communication.callautomation")
    phone, _ = served.start("-m", "offhook", "phone", "+15550124", "--calls", "1", "--json", "--decline", "busy")
    app = served.run(example("outbound_app.py"), "+15550124", "--port", str(served.free_port()))
    assert (app.returncode, app.stdout.split()) == (1, ["CreateCallFailed", "CallDisconnected"])
    phone.communicate(timeout=20)


def test_a_callbacks_token_can_be_verified(served: Served) -> None:
    audience = (served.data / "resource-id").read_text()
    issuer = "https://acscallautomation.communication.azure.com"
    token = TokenSigner(served.data, issuer, audience).callback(time.time())
    keys = f"http://127.0.0.1:{served.http}/calling/keys"
    verified = served.run(example("verify_callback.py"), keys, audience, text=f"Bearer {token}")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["aud"] == audience
    refused = served.run(example("verify_callback.py"), keys, "somebody else", text=token)
    assert refused.returncode == 1
    assert "InvalidAudienceError" in refused.stderr


def test_no_example_is_left_out() -> None:
    tests = [Path(__file__), *Path(__file__).parent.parent.glob("*/test_*.py")]
    run_here = "".join(test.read_text("utf-8") for test in tests)
    assert [
        path.name
        for path in EXAMPLES.glob("*.py")
        if not any(f'"{name}"' in run_here for name in (path.name, path.stem))
    ] == []
