"""The pictures of docs/performance.md: cost and lateness against the number of calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from offhook.bench.report import Line

SIZE_PX = (1000, 460)
_DPI = 100
# Each has a contrast of 3 or more both to white and to GitHub's dark paper; nothing is drawn behind them.
_INK, _GRID = "#768390", "#76839040"
_OURS, _FLOOR, _WORST = "#2f81d6", "#c8702a", "#a371c7"


def draw(scale: Sequence[Line], folder: Path) -> None:
    """Write `cost.png` and `lateness.png` from the summaries of the run `scale`, one a number of calls."""
    figure, axes = _figure("ms of CPU per call-second", "What a call costs, against the number of calls")
    _line(axes, scale, [line["cpu_ms_per_call_s"] for line in scale], _OURS, "Offhook")
    _line(axes, scale, [line["floor_cpu_ms_per_call_s"] for line in scale], _FLOOR, "the floor: its bare sockets")
    _finish(figure, axes, folder / "cost.png")
    figure, axes = _figure("ms late", "How late a slot's tick begins, against the number of calls")
    for part, colour in (("p50", _FLOOR), ("p99", _OURS), ("max", _WORST)):
        _line(axes, scale, [line["late_ms"][part] for line in scale], colour, part)
    _finish(figure, axes, folder / "lateness.png")


def _figure(unit: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE_PX[0] / _DPI, SIZE_PX[1] / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, color=_INK, fontsize=13, loc="left")
    axes.set_xlabel("calls on one worker", color=_INK)
    axes.set_ylabel(unit, color=_INK)
    return figure, axes


def _line(
    axes: Axes, scale: Sequence[Line], values: Sequence[float | dict[str, float]], colour: str, name: str
) -> None:
    calls = [line["calls"] for line in scale]
    middle = [value["median"] if isinstance(value, dict) else value for value in values]
    axes.plot(calls, middle, color=colour, marker="o", linewidth=2, label=name)
    ranges = [value for value in values if isinstance(value, dict)]
    if ranges:
        axes.fill_between(calls, [r["min"] for r in ranges], [r["max"] for r in ranges], color=colour, alpha=0.25)


def _finish(figure: Figure, axes: Axes, path: Path) -> None:
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=_GRID)
    axes.tick_params(colors=_INK)
    axes.spines[:].set_color(_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, labelcolor=_INK)
    figure.tight_layout()
    figure.savefig(path, format="png", transparent=True, metadata={"Software": None})
