"""`offhook demo`: a server, an app on the official SDK, and a caller, each a process of its own, and one whole call.

The app (`offhook.demo.app`) greets and gives a long answer; the caller (`offhook.demo.script`, in this process) asks,
listens for a while, interrupts and hangs up. What is measured is measured at the caller's ear.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile

from offhook.demo import script
from offhook.demo.picture import Mark, draw
from offhook.demo.timeline import Timeline
from offhook.demo.voices import pitch
from offhook.server import tls
from offhook.server.listening import free_port
from offhook.testing.caller import Caller

HOST = "127.0.0.1"
READY_S = 30.0  # for a process to say that it listens
STOP_S = 5.0  # for a process to end when asked to
NUMBER = "+15550199"  # what the caller dials
HEARD_LEAST_MS = 1000  # of audible speech: less is not "the caller heard the bot"


class DemoError(Exception):
    """The demo could not be held; the text says why."""


@dataclass(frozen=True)
class Result:
    """What `--json` prints last. Times in ms; frames are of 20 ms.

    frames_to_app: sent over the app's WebSocket; frames_from_app: of the app's audio, played to the caller;
    lost_frames: sent to either side and not received there, or dropped; first_audio_ms: from connected to the first
    audible frame at the caller's ear; stop_to_silence_ms: from the app's StopAudio to the first silent frame at the
    caller's ear; heard_ms: audible audio that the caller heard; *_pitch_hz: median pitch of what each side heard.
    """

    answered: bool
    heard_the_bot: bool
    frames_to_app: int
    frames_from_app: int
    lost_frames: int
    first_audio_ms: float | None
    stop_to_silence_ms: float | None
    heard_ms: int
    caller_heard_pitch_hz: float
    bot_heard_pitch_hz: float
    seconds: float
    files: list[str]


async def run(out: Path, timeline: Timeline) -> Result:
    """Hold the call, write the recordings and the picture into `out`, return what was measured.

    Raises `DemoError` when a process does not start, or the call is not answered.
    """
    await asyncio.to_thread(out.mkdir, parents=True, exist_ok=True)
    timeline.busy("making the caller's voice")
    words = asyncio.create_task(asyncio.to_thread(script.Words.spoken))
    with tempfile.TemporaryDirectory(prefix="offhook-demo-") as data:
        app_port = free_port(HOST, socket.SOCK_STREAM)
        timeline.busy("starting the server")
        incoming = f"http://{HOST}:{app_port}/api/incomingCall"
        serve = ["-m", "offhook", "serve", "--http", "0", "--https", "0", "--data-dir", data, "--incoming", incoming]
        serve += ["--workers", "0"]  # one call
        async with _process(serve, {}, lambda line: None) as server:
            told = json.loads((Path(data) / "server.json").read_bytes())
            timeline.add("call", f"server listens: https on {server['https']}, http on {server['http']}")
            connection_string = f"endpoint=https://{HOST}:{server['https']}/;accesskey={told['key']}"
            made = tls.ensure(Path(data))
            environment = {
                "ACS_CONNECTION_STRING": connection_string,
                "REQUESTS_CA_BUNDLE": str(made.bundle),  # as `offhook env` prints it
            }
            timeline.busy("starting the app: the official SDK, and the bot's voice")
            app = ["-m", "offhook.demo.app", "--listen", str(app_port), "--heard", str(out / "bot-heard.wav")]
            async with _process(app, environment, timeline.from_app) as ready:
                timeline.add("bot", f"app listens on {ready['http']}; azure-communication-callautomation, unmodified")
                async with Caller(f"http://{HOST}:{server['http']}", told["key"]) as caller:
                    call = await script.hold(caller, NUMBER, await words, timeline)
                    await timeline.until("stream closed", timeout=STOP_S)  # by then its figures are in the record
                    record = await caller.request("GET", f"/offhook/calls/{call.party.call_id}")
    return await asyncio.to_thread(_report, call, record, timeline, out)


def _report(call: script.Held, record: Mapping[str, Any], timeline: Timeline, out: Path) -> Result:
    """Write the files and measure."""
    rate = script.RATE
    caller_heard = call.heard
    soundfile.write(out / "caller-heard.wav", caller_heard, rate, subtype="PCM_16")
    bot_heard, _ = soundfile.read(out / "bot-heard.wav", dtype="int16")
    opened = timeline.first("stream opened")
    shift = round(max(0.0, (opened or call.connected_at) - call.connected_at) * rate)
    marks = [Mark(at - call.connected_at, text, side) for at, side, text in timeline.marks if at >= call.connected_at]
    on_one_axis = script.delayed(bot_heard, shift)
    picture = out / "demo.png"
    draw(caller_heard, on_one_axis, rate, marks, picture)

    stats: dict[str, int] = next(iter(record["streams"].values()), {})
    sent, dropped = stats.get("sent", 0), stats.get("dropped", 0)
    app_frames = len(bot_heard) // (rate // 50)
    heard_ms = call.audible_ms
    caller_heard_pitch = pitch(caller_heard, rate) if heard_ms else 0.0
    heard_the_bot = heard_ms >= HEARD_LEAST_MS and _is_the_bot(caller_heard_pitch, call.words)
    return Result(
        answered=True,
        heard_the_bot=heard_the_bot,
        frames_to_app=sent,
        frames_from_app=stats.get("played", 0),
        lost_frames=max(0, sent - app_frames) + dropped + call.lost_frames,
        first_audio_ms=call.party.first_audio_ms,
        stop_to_silence_ms=call.silence_after(timeline.first("bot interrupted")),
        heard_ms=heard_ms,
        caller_heard_pitch_hz=round(caller_heard_pitch, 1),
        bot_heard_pitch_hz=round(pitch(bot_heard, rate), 1) if bot_heard.any() else 0.0,
        seconds=round(len(caller_heard) / rate, 2),
        files=[str(out / name) for name in ("caller-heard.wav", "bot-heard.wav", "demo.png")],
    )


def _is_the_bot(heard_hz: float, words: script.Words) -> bool:
    """Whether a voice of this median pitch is nearer to the bot's than to the caller's own (an echo would be that)."""
    bot, caller = pitch(words.bot_sample, script.RATE), pitch(words.question, script.RATE)
    return heard_hz > 0 and abs(math.log(heard_hz / bot)) < abs(math.log(heard_hz / caller))


def as_json(result: Result) -> str:
    return json.dumps(asdict(result))


# ------------------------------------------------------------------------------------------------ processes


@contextlib.asynccontextmanager
async def _process(
    arguments: list[str], environment: Mapping[str, str], on_line: Callable[[str], None]
) -> AsyncIterator[dict[str, Any]]:
    """Run this Python with `arguments` until the block ends; gives the object of its ready line.

    Each further line of its stdout goes to `on_line`. It is asked to stop, and killed when it does not.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
        limit=1 << 20,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.create_task(process.stderr.read())
    reading: asyncio.Task[None] | None = None
    try:
        try:
            async with asyncio.timeout(READY_S):
                line = await process.stdout.readline()
        except TimeoutError:
            raise DemoError(f"{' '.join(arguments[:3])}: not ready within {READY_S:g} s") from None
        if not line:
            raise DemoError((await complaints).decode(errors="replace").strip() or f"{arguments[1]} ended at once")
        reading = asyncio.create_task(_pass_on(process.stdout, on_line))
        yield json.loads(line)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM) if os.name == "posix" else process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if reading is not None:
            await reading
        await complaints


async def _pass_on(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
    async for line in stream:
        on_line(line.decode())
