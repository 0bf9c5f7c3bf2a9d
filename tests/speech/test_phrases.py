"""Which of some phrases was said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.speech.phrases import chosen, words


@pytest.mark.parametrize(
    ("text", "heard"),
    [("  Yes, PLEASE! ", "yes please"), ("that’s it", "that's it"), ("Größe 5", "größe 5"), ("'a'", "a"), ("?", "")],
)
def test_words(text: str, heard: str) -> None:
    assert words(text) == heard


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("yes", "Yes"),
        ("Well, yes.", "Yes"),
        ("yes I am sure", "Yes, I am sure"),  # the longest of what is in it
        ("technical suport", "Technical support"),
        ("yesterday", ""),
        ("", ""),
        ("the weather", ""),
    ],
)
def test_chosen(text: str, phrase: str) -> None:
    assert chosen(text, ("Yes", "Yes, I am sure", "Technical support", "")) == phrase


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=50))
def test_it_is_one_of_them_or_none(phrases: list[str], text: str) -> None:
    assert chosen(text, phrases) in ("", *phrases)
    for phrase in phrases:
        if words(phrase):
            assert words(chosen(phrase, phrases)) in words(phrase)
