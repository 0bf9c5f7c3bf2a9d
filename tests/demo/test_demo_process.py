"""The demo's app as its users start it: the ready line, both ports, and the way it ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import picows
import pytest

pytest.importorskip("azure.communication.callautomation")
pytest.importorskip("hibari")

COMMAND = [sys.executable, "-m", "offhook.demo.app"]


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to end it by")
def test_it_says_when_it_is_ready_serves_both_ports_and_ends_on_sigterm(tmp_path: Path) -> None:
    environment = {**os.environ, "ACS_CONNECTION_STRING": "endpoint=https://127.0.0.1:1/;accesskey=c2VjcmV0"}
    command = [*COMMAND, "--listen", "0", "--heard", str(tmp_path / "heard.wav")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as app:
        try:
            assert app.stdout is not None
            ready = json.loads(app.stdout.readline())
            assert ready["ready"] is True
            event = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "1"}}
            request = urllib.request.Request(
                f"http://127.0.0.1:{ready['http']}/api/incomingCall", json.dumps([event]).encode(), method="POST"
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                assert json.load(response) == {"validationResponse": "1"}

            async def dial() -> None:
                transport, _ = await picows.ws_connect(picows.WSListener, f"ws://127.0.0.1:{ready['ws']}/")
                transport.disconnect()
                await transport.wait_disconnected()

            asyncio.run(dial())
        finally:
            app.send_signal(signal.SIGTERM)
            output, errors = app.communicate(timeout=20)
    assert (app.returncode, output, errors) == (0, "", "")


def test_without_a_connection_string_it_says_what_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ACS_CONNECTION_STRING"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ACS_CONNECTION_STRING" in done.stderr
