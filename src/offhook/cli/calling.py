"""What `call`, `phone`, `bot` and `keys` do."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from offhook.audio.resample import convert
from offhook.bot import Handler, apps, serve
from offhook.call.model import EndCause
from offhook.cli.where import Where
from offhook.testing.caller import CallerError, Party
from offhook.testing.weather import parse

FILE_LIMIT_S = 600  # seconds of a sound file: as much as the server holds
RING_S = 190  # longer than any ring time-out of the server
FAREWELL_S = 5.0  # for the server to confirm a hang-up
TAIL_S = 1.0  # listen so long after the last word, for the end of an answer

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Script:
    """What a party does once it is connected."""

    wav: Path | None = None
    say: str | None = None
    dtmf: str | None = None
    record: Path | None = None
    seconds: float | None = None
    rate: int = 24_000

    def audio(self) -> Samples:
        """Return all it says, mono at `rate`. Raises `CallerError` for a file that cannot be played."""
        parts = [np.zeros(0, np.int16)]
        if self.wav is not None:
            parts.append(load(self.wav, self.rate))
        if self.say is not None:
            parts.append(speak(self.say, self.rate))
        return np.concatenate(parts)


def load(path: Path, rate: int) -> Samples:
    """Read a sound file (WAV, FLAC, MP3 …), mixed down to mono, resampled to `rate`."""
    try:
        info = soundfile.info(path)
        if info.duration > FILE_LIMIT_S:
            raise CallerError(f"{path}: {info.duration:.0f} s; at most {FILE_LIMIT_S} s can be played")
        data, own_rate = soundfile.read(path, dtype="float64", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise CallerError(f"{path}: {error}") from error
    mono = np.clip(np.rint(data.mean(axis=1) * 32768), -32768, 32767).astype(np.int16)
    return mono if own_rate == rate else convert(mono, own_rate, rate)


def speak(text: str, rate: int) -> Samples:
    """Return `text` spoken. Raises `CallerError` when the extra for speech is missing."""
    try:
        from offhook.demo.voices import speak as synthesize
    except ModuleNotFoundError as error:
        raise CallerError(f"{error.name} is missing; --say needs: pip install 'offhook[speech]'") from error
    return synthesize(text, "caller", rate)


def save(path: Path, heard: bytes, rate: int) -> None:
    """Write what was heard as a mono 16-bit WAV."""
    soundfile.write(path, np.frombuffer(heard, np.int16), rate, subtype="PCM_16", format="WAV")


# ------------------------------------------------------------------------------------------------ call, phone


async def call(
    where: Callable[[], Where], to: str, from_: str, script: Script, as_json: bool, weather: str | None = None
) -> int:
    """Place one call, under `weather` (`offhook.testing.weather.parse`); return 0 when it was answered, 1 when not."""
    audio, faults = script.audio(), parse(weather) if weather is not None else None
    async with where().caller() as caller:
        party = await caller.call(to, from_, script.rate, weather=faults)
        if not as_json:
            print(f"calling {to} as {party.raw_id} …", flush=True)
        await party.wait_for("connected", "ended", timeout=RING_S)
        if party.connected:
            await _converse(party, script, audio, as_json)
            await party.hang_up()
            await party.wait_for("ended", timeout=FAREWELL_S)
        await party.close()
    _report(party, script, as_json)
    return 0 if party.connected_at is not None else 1


async def phone(
    where: Callable[[], Where], id: str, script: Script, decline: str | None, calls: int, as_json: bool
) -> int:
    """Wait for calls and answer or decline them; return 0 after `calls` of them."""
    audio = script.audio()
    async with where().caller() as caller:
        party = await caller.phone(id, script.rate)
        print(
            json.dumps({"ready": True, "rawId": party.raw_id}) if as_json else f"waiting as {party.raw_id}", flush=True
        )
        done = 0
        while not party.socket.closed and (calls == 0 or done < calls):
            await party.wait_for("ringing")
            if party.state != "ringing":
                break
            since = len(party.states) - 1
            party.connected_at = None
            if decline == "no-answer":
                await party.wait_for("ended", "waiting")
            elif decline is not None:
                await party.decline(decline)
            else:
                await party.answer()
                await party.wait_for("connected", "waiting", timeout=30)
                if party.connected:
                    await _converse(party, script, audio, as_json)
                    await party.hang_up()
            await party.wait_for("waiting")
            done += 1
            _report(party, script, as_json, since)
    return 0


async def _converse(party: Party, script: Script, audio: Samples, as_json: bool) -> None:
    """Say, press, listen; until the time is up, the script is done, or the call ends."""
    if not as_json:
        print("connected", flush=True)
    if len(audio):
        await party.say(audio, (script.say or "")[:1000])
    if script.dtmf:
        await party.played()
        await party.press(script.dtmf)
    if script.seconds is not None:
        await party.wait_for_frames(round(script.seconds * 50))
    elif len(audio) or script.dtmf:
        await party.played()
        await party.wait_for_frames(party.frames_heard + round(TAIL_S * 50))
    else:
        await party.wait_for("ended", "waiting")


def _report(party: Party, script: Script, as_json: bool, since: int = 0) -> None:
    heard = party.heard
    if script.record is not None and party.connected_at is not None:
        save(script.record, heard, script.rate)
    states = party.states[since:]
    result: dict[str, Any] = {
        "answered": party.connected_at is not None,
        "callId": party.call_id,
        "states": [
            {"at": round(s.at, 3), "state": s.state, **({"reason": s.reason} if s.reason else {})} for s in states
        ],
        "frames": party.frames_heard,
        "seconds": round(party.frames_heard / 50, 2),
        "first_audio_ms": party.first_audio_ms,
    }
    for error in party.errors:
        print(f"offhook: the server refused something: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps(result), flush=True)
        return
    reason = next((s.reason for s in reversed(states) if s.reason), "hung up")
    first = "no audio heard" if party.first_audio_ms is None else f"first audio after {party.first_audio_ms:.0f} ms"
    if reason == EndCause.UNREACHABLE.value:
        reason += ": no phone waits under that address, and no app is told of it (offhook serve --incoming URL)"
    verb = "answered" if result["answered"] else "not answered"
    print(f"{verb}; {reason}; {result['seconds']} s heard, {first}", flush=True)


# ------------------------------------------------------------------------------------------------ bot


class BotKind(StrEnum):
    """The reference apps."""

    echo = "echo"
    tone = "tone"
    record = "record"


async def bot(kind: BotKind, host: str, port: int, out: Path) -> int:
    """Run a reference app until it is interrupted."""
    handlers: dict[BotKind, Handler] = {
        BotKind.echo: apps.echo,
        BotKind.tone: apps.tone,
        BotKind.record: apps.record(out),
    }
    server = await serve(handlers[kind], host, port)
    print(json.dumps({"ready": True, "port": server.port}), flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await server.close()
    return 0
