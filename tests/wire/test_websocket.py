"""Masked messages: RFC 6455's own example, every length form, and a slot's audio at once against one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.audio import pcm
from offhook.wire import streaming
from offhook.wire.websocket import PING, TEXT, AudioMessages, masked, payload_of

KEY_OF_RFC = bytes.fromhex("37fa213d")


def test_the_examples_of_rfc_6455_5_7() -> None:
    assert masked(TEXT, b"Hello", KEY_OF_RFC).hex() == "818537fa213d7f9f4d5158"
    assert masked(PING, b"Hello", KEY_OF_RFC).hex() == "898537fa213d7f9f4d5158"


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8180"),
        (125, "81fd"),
        (126, "81fe007e"),
        (65_535, "81feffff"),
        (65_536, "81ff0000000000010000"),
    ],
)
def test_the_length_takes_the_shortest_form(size: int, head: str) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    message = masked(TEXT, payload, b"\1\2\3\4")
    assert message.startswith(bytes.fromhex(head) + b"\1\2\3\4")
    assert payload_of(message) == payload


@given(payload=st.binary(max_size=300), key=st.binary(min_size=4, max_size=4))
def test_masking_is_exclusive_or_with_the_key_over_and_over(payload: bytes, key: bytes) -> None:
    message = masked(TEXT, payload, key)
    assert message[-len(payload) :] == bytes(b ^ key[i % 4] for i, b in enumerate(payload)) or not payload
    assert payload_of(message) == payload


@given(
    rate=st.sampled_from([8000, 16_000, 24_000, 44_100, 48_000]),
    names=st.one_of(
        st.integers(1, 5).map(lambda rows: [None] * rows),
        st.lists(st.from_regex(r"4:\+1555[0-9]{4}", fullmatch=True), min_size=1, max_size=5),
        st.lists(st.sampled_from(['a"b', "c\\d"]), min_size=1, max_size=3),
    ),
    data=st.data(),
)
def test_many_at_once_are_each_as_one_alone(rate: int, names: list[str | None], data: st.DataObject) -> None:
    size = pcm.bytes_per_frame(rate)
    messages = AudioMessages(names, size)
    for _ in range(2):  # What the first one left behind must not show in the second.
        noise = np.random.default_rng(data.draw(st.integers(0, 99)))
        frames = [noise.bytes(size) for _ in names]
        silent = data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
        keys = [noise.bytes(4) for _ in names]
        samples = pcm.as_samples(b"".join(frames)).reshape(len(names), -1)
        made = messages.make(samples, streaming.timestamp(1.7e9), np.array(silent), b"".join(keys))
        for message, name, frame, quiet, key in zip(made, names, frames, silent, keys, strict=True):
            assert bytes(message[4:8]) == key
            text = payload_of(message)
            assert masked(TEXT, text, key) == message
            read = streaming.parse_from_server(text)
            assert isinstance(read, streaming.AudioData)
            assert (read.pcm, read.participant_raw_id, read.silent) == (frame, name, quiet)
            assert read.timestamp == "2023-11-14T22:13:20.000Z"
