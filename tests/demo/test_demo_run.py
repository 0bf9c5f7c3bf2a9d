"""The product: `offhook demo` holds a whole call and says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from offhook.demo.voices import pitch


@pytest.mark.sockets
def test_the_demo_holds_a_whole_call(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "offhook", "demo", "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["answered"] is True
    assert result["lost_frames"] == 0
    assert result["frames_to_app"] > 500
    assert result["frames_from_app"] > 100
    assert result["first_audio_ms"] is not None
    assert result["stop_to_silence_ms"] is not None
    assert result["heard_ms"] >= 1000
    for line in ("answer_call()", "interrupts", "StopAudio", "hangs up", "callback: CallDisconnected"):
        assert line in run.stderr

    caller_heard, rate = soundfile.read(tmp_path / "caller-heard.wav", dtype="int16")
    bot_heard, _ = soundfile.read(tmp_path / "bot-heard.wav", dtype="int16")
    assert pitch(caller_heard, rate) / pitch(bot_heard, rate) > 1.15  # two voices, told apart
    # The bot was cut off in the middle of a word: the last thing heard of it is loud, then digital silence.
    last = int(np.flatnonzero(caller_heard)[-1])
    assert len(caller_heard) - last > rate
    assert (tmp_path / "demo.png").stat().st_size > 10_000
