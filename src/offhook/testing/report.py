"""What a failed test leaves of each of its calls: the recording, the timeline and a picture of both."""

from __future__ import annotations

import importlib.util
import wave
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np

from offhook.audio.pcm import Samples
from offhook.testing.call import Call, Event

_COLUMNS = 2000  # a little more than one min/max pair per pixel column
_LABEL_ROWS = 5


def keep(call: Call, directory: Path) -> list[Path]:
    """Write what is known of `call` into `directory`, made if need be; return the files.

    `recording.wav`: stereo, left what the caller said, right what it heard. `timeline.txt` and `timeline.json`: what
    the caller did, what it heard when, and the server's own timeline. `excerpt-N.wav`: what the N-th `hears…` listened
    to in vain. `call.png`, where matplotlib is installed. Earlier files of these names go. Raises OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("excerpt-*.wav"):
        stale.unlink()
    events = call.events
    recording, text, data = (directory / name for name in ("recording.wav", "timeline.txt", "timeline.json"))
    _write_wav(recording, [call.said, call.heard], call.rate)
    lines = timeline(call, events)
    text.write_text("".join(f"{at:8.2f} s  {who:<7} {what}\n" for at, who, what in lines), "utf-8")
    data.write_bytes(msgspec.json.format(msgspec.json.encode(_facts(call, events)), indent=2))
    files = [recording, text, data]
    for number, excerpt in enumerate(call.excerpts, 1):
        files.append(directory / f"excerpt-{number}.wav")
        _write_wav(files[-1], [excerpt], call.rate)
    if len(call.heard) and importlib.util.find_spec("matplotlib") is not None:
        files.append(directory / "call.png")
        _draw(call, lines, files[-1])
    return files


def timeline(call: Call, events: Sequence[Event]) -> list[tuple[float, str, str]]:
    """Return (seconds, who, what) in order of time; who is `caller`, `app` (what was heard of it) or `server`."""
    lines = [(event.at_s, "server", " ".join([event.what, *_told(event)])) for event in events]
    lines += [(act.at_s, "caller", act.what) for act in call.acts]
    lines += [(sound.from_s, "app", f"is heard for {sound.to_s - sound.from_s:.2f} s") for sound in call.sounds]
    return sorted(lines, key=lambda line: line[0])


def _told(event: Event) -> list[str]:
    return [f"{key}={value}" for key, value in event.details.items() if key != "connection"]


def _facts(call: Call, events: Sequence[Event]) -> dict[str, object]:
    return {
        "answered": call.answered,
        "outcome": call.outcome,
        "seconds": call.now_s,
        "rate": call.rate,
        "caller": [asdict(act) for act in call.acts],
        "app": [sound._asdict() for sound in call.sounds],
        "turns": [{**asdict(turn), "said": turn.said._asdict(), "latency_s": turn.latency_s} for turn in call.turns],
        "server": [asdict(event) for event in events],
    }


def _write_wav(path: Path, channels: Sequence[Samples], rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.stack(channels, axis=1).astype("<i2").tobytes())


def _draw(call: Call, lines: Sequence[tuple[float, str, str]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True)
    sides = (("caller", "The caller said", call.said, "#1f6fb4"), ("app", "The caller heard", call.heard, "#c8571b"))
    for plot, (who, title, samples, colour) in zip(axes, sides, strict=True):
        starts = np.unique(np.linspace(0, len(samples), min(_COLUMNS, len(samples)), endpoint=False).astype(np.intp))
        low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
        plot.fill_between(starts / call.rate, low, high, color=colour, step="post")
        peak = max(int(high.max()), -int(low.min()), 1)
        plot.set_ylim(-2.1 * peak, 1.1 * peak)
        plot.set_yticks([])
        plot.set_ylabel(title, color=colour)
        marks = [(at, what) for at, side, what in lines if side == who and at <= call.now_s]
        for number, (at, what) in enumerate(marks):
            height = -(1.15 + 0.17 * (number % _LABEL_ROWS)) * peak
            plot.axvline(at, color="#57606a", linewidth=0.8)
            last = at > 0.7 * call.now_s
            place = {"ha": "right" if last else "left", "va": "top", "fontsize": 8}
            plot.annotate(what[:60], (at, height), (-3 if last else 3, 0), textcoords="offset points", **place)
    axes[-1].set_xlabel("seconds since the caller was connected")
    figure.savefig(path, format="png")
