"""The picture: it is drawn whatever it is given, keeps every peak, and its labels stay apart."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from offhook.demo.picture import SIZE_PX, Mark, draw, envelope, rows_for

RATE = 8_000
EMPTY = np.zeros(0, np.int16)
NOISE = np.random.default_rng(0).normal(0, 2_000, RATE * 3).astype(np.int16)


def size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest.mark.parametrize(("caller", "bot"), [(NOISE, NOISE), (NOISE, EMPTY), (EMPTY, NOISE), (NOISE * 0, NOISE[:10])])
def test_a_png_of_the_promised_size(tmp_path: Path, caller: np.ndarray, bot: np.ndarray) -> None:
    marks = [Mark(0.0, "answered", "call"), Mark(1.2, "speaks", "caller"), Mark(2.999, "a label at the end", "bot")]
    draw(caller, bot, RATE, marks, tmp_path / "call.png")
    assert size(tmp_path / "call.png") == SIZE_PX


def test_a_crowd_of_marks_and_marks_outside_of_the_call_are_drawn_without_complaint(tmp_path: Path) -> None:
    crowd = [Mark(number / 10, f"event {number} " * number, "bot") for number in range(40)]
    draw(NOISE, NOISE, RATE, [*crowd, Mark(-1, "before", "call"), Mark(99, "after", "call")], tmp_path / "call.png")
    assert size(tmp_path / "call.png") == SIZE_PX


def test_nothing_heard_on_either_side_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing was heard"):
        draw(EMPTY, EMPTY, RATE, [], tmp_path / "call.png")


@given(arrays(np.int16, st.integers(0, 300)), st.integers(1, 50))
def test_the_envelope_keeps_every_peak(pcm: np.ndarray, columns: int) -> None:
    starts, low, high = envelope(pcm, columns)
    assert len(starts) == len(low) == len(high) <= columns
    if len(pcm):
        assert (starts[0], low.min(), high.max()) == (0, pcm.min(), pcm.max())
        ends = np.append(starts[1:], len(pcm)).astype(int)
        for start, end, least, most in zip(starts.astype(int), ends, low, high, strict=True):
            assert (least, most) == (pcm[start:end].min(), pcm[start:end].max())


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 30)), max_size=20))
def test_labels_neither_overlap_nor_are_crossed_by_a_line(marks: list[tuple[float, float]]) -> None:
    spans = sorted((left, left + width) for left, width in marks)
    rows = rows_for(spans)
    for at, (_, right) in enumerate(spans):
        for later in range(at + 1, len(spans)):
            if spans[later][0] < right:  # its line comes up under this label
                assert rows[at] > rows[later]


def test_labels_take_no_more_rows_than_they_need() -> None:
    assert rows_for([(0, 2), (1, 3), (1.5, 4), (5, 6), (7, 8)]) == [2, 1, 0, 0, 0]
