"""Which of some phrases was said, for recognisers that write down freely."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

ALIKE = 0.75  # how much of a phrase has to be heard as it is, of 1


def words(text: str) -> str:
    """Return a text as what is heard of it: lower case, without marks, one space between words."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("’", "'")))


def chosen(text: str, phrases: Iterable[str]) -> str:
    """Return the phrase that `text` is, has in it, or nearly is; "" for none. Of several in it the longest counts."""
    heard = words(text)
    said = [(words(phrase), phrase) for phrase in phrases]
    within = [each for each in said if each[0] and f" {each[0]} " in f" {heard} "]
    if within:
        return max(within, key=lambda each: len(each[0]))[1]
    alike = [(SequenceMatcher(None, each, heard).ratio(), phrase) for each, phrase in said if each]
    likeness, phrase = max(alike, default=(0.0, ""))
    return phrase if likeness >= ALIKE else ""
