"""One picture of a call: what each side heard, on one time axis, with what happened when."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Side = Literal["caller", "bot", "call"]

SIZE_PX = (1400, 700)
COLOURS: dict[Side, str] = {"caller": "#1f6fb4", "bot": "#c8571b", "call": "#57606a"}

_DPI = 100
_INK, _QUIET, _PANEL, _PAPER = "#1b1f24", "#6a737d", "#f3f5f8", "#ffffff"
_COLUMNS = 2400  # a little more than one min/max pair per pixel column: sharp at any length of call
_ROWS = 6  # of labels above the waves; a mark in a thicker crowd than that is a line without words
_LABEL_PT = 10.0
_LABEL_CHARS = 48  # longer labels are cut


@dataclass(frozen=True)
class Mark:
    """Something that happened `at_s` seconds into the call, by the caller, the bot, or the call itself."""

    at_s: float
    label: str
    side: Side


def draw(
    caller_heard: NDArray[np.int16],
    bot_heard: NDArray[np.int16],
    rate: int,
    marks: Sequence[Mark],
    path: str | PathLike[str],
) -> None:
    """Write a PNG of 1400 × 700: two mono recordings at `rate` Hz that begin together, and the marks over both.

    Each wave is scaled to its own loudest sample, which its axis names in dBFS. A wave has the colour of who is *heard*
    in it: what the caller heard is the bot. Raises ValueError when both recordings are empty, and OSError when `path`
    cannot be written.
    """
    seconds = max(len(caller_heard), len(bot_heard)) / rate
    if not seconds:
        raise ValueError("nothing was heard on either side")
    figure = Figure(figsize=(SIZE_PX[0] / _DPI, SIZE_PX[1] / _DPI), dpi=_DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    words, top, bottom = figure.subplots(
        3, 1, sharex=True, height_ratios=[0.62, 1, 1],
        gridspec_kw={"left": 0.075, "right": 0.98, "top": 0.87, "bottom": 0.085, "hspace": 0.07},
    )  # fmt: skip
    figure.text(0.075, 0.935, "What each side of the call heard", fontsize=18, fontweight="bold", color=_INK)
    about = f"{seconds:.1f} s at {rate / 1000:g} kHz. Each wave is scaled to its own loudest sample."
    figure.text(0.075, 0.897, about, fontsize=11, color=_QUIET)
    handles = [Patch(color=colour, label=f"the {side}") for side, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.985, 0.985), ncols=len(handles), frameon=False,
                  fontsize=11, labelcolor="linecolor", handlelength=0.9, handleheight=0.9)  # fmt: skip
    _wave(top, caller_heard, rate, COLOURS["bot"], "The caller heard")
    _wave(bottom, bot_heard, rate, COLOURS["caller"], "The bot heard")
    top.tick_params(axis="x", length=0)
    bottom.set_xlabel("seconds", fontsize=11, color=_INK)
    bottom.xaxis.set_major_locator(MaxNLocator(nbins=16, steps=[1, 2, 5, 10]))
    _draw_marks(words, (top, bottom), [mark for mark in marks if 0 <= mark.at_s <= seconds], seconds)
    figure.savefig(path, format="png", facecolor=_PAPER)


def envelope(pcm: NDArray[np.int16], columns: int) -> tuple[NDArray[np.float64], NDArray[np.int16], NDArray[np.int16]]:
    """At most `columns` nearly equal pieces: the sample where each begins, its least and its greatest value."""
    starts = np.unique(np.linspace(0, len(pcm), min(columns, len(pcm)), endpoint=False).astype(np.intp))
    if not len(starts):
        return np.zeros(0), pcm, pcm
    return starts.astype(np.float64), np.minimum.reduceat(pcm, starts), np.maximum.reduceat(pcm, starts)


def rows_for(spans: Sequence[tuple[float, float]]) -> list[int]:
    """A row, from 0 at the bottom, for each label, so that labels neither overlap nor are crossed by another's line.

    A span (left, right) is a label that begins at its line, which comes up from below; spans are sorted by their left
    ends. So a label has to be higher than every later one whose line lies under it.
    """
    rows: list[int] = [0] * len(spans)
    for at in reversed(range(len(spans))):
        under = [rows[later] for later in range(at + 1, len(spans)) if spans[later][0] < spans[at][1]]
        rows[at] = max(under, default=-1) + 1
    return rows


def _wave(axes: Axes, pcm: NDArray[np.int16], rate: int, colour: str, title: str) -> None:
    starts, low, high = envelope(pcm, _COLUMNS)
    peak = int(max(high.max(initial=0), -int(low.min(initial=0))))
    scale = 0.94 / max(peak, 1)
    axes.set_facecolor(_PANEL)
    axes.fill_between(starts / rate, low * scale, high * scale, color=colour, linewidth=0.7, step="post")
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    level = f"peak {20 * np.log10(peak / 32_768):.1f} dBFS" if peak else "silence"
    axes.set_ylabel(f"{title}\n", fontsize=12, fontweight="bold", color=colour, labelpad=10)
    axes.text(-0.01, 0.5, level, transform=axes.transAxes, rotation=90, fontsize=9, color=_QUIET,
              ha="right", va="center")  # fmt: skip
    axes.tick_params(axis="x", labelsize=10, colors=_INK, length=4)
    axes.grid(axis="x", color=_PAPER, linewidth=1.2)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _draw_marks(words: Axes, waves: Sequence[Axes], marks: Sequence[Mark], seconds: float) -> None:
    """A thin line through both waves for each mark, up to its label; the time axis grows until the last label fits."""
    words.set_ylim(0, _ROWS)
    words.axis("off")
    marks = sorted(marks, key=lambda mark: mark.at_s)
    labels = [textwrap.shorten(mark.label, _LABEL_CHARS, placeholder="…") for mark in marks]
    room, widths = _widths(words, labels)
    end = max([seconds, *(mark.at_s / (1 - width / room) for mark, width in zip(marks, widths, strict=True))])
    words.set_xlim(0, end)
    spans = [(mark.at_s, mark.at_s + width / room * end) for mark, width in zip(marks, widths, strict=True)]
    for mark, label, row in zip(marks, labels, rows_for(spans), strict=True):
        colour = COLOURS[mark.side]
        for axes in waves:
            axes.axvline(mark.at_s, color=colour, linewidth=1.0, alpha=0.8)
        if row < _ROWS:
            words.plot([mark.at_s, mark.at_s], [-0.5, row + 0.85], color=colour, linewidth=1.0, clip_on=False)
            words.annotate(label, (mark.at_s, row + 0.5), (4, 0), textcoords="offset points", fontsize=_LABEL_PT,
                           color=colour, va="center")  # fmt: skip


def _widths(axes: Axes, labels: Sequence[str]) -> tuple[float, list[float]]:
    """The width of the axes, and of each label with the room it wants around it, in pixels."""
    room = axes.get_window_extent().width
    texts = [axes.text(0, 0, label, fontsize=_LABEL_PT) for label in labels]
    widths = [min(text.get_window_extent().width + 16, room / 2) for text in texts]
    for text in texts:
        text.remove()
    return room, widths
