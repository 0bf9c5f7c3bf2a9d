"""What is to be played: a source as the app names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """One play source. `kind`: file, text or ssml, whose content is in `uri`, `text` or `ssml`.

    `locale`, `voice_kind` (male, female) and `voice_name` choose the voice of a text; "" leaves the choice to us.
    `cache_id`: files of the same one are fetched once.
    """

    kind: str
    uri: str = ""
    text: str = ""
    ssml: str = ""
    locale: str = ""
    voice_kind: str = ""
    voice_name: str = ""
    cache_id: str = ""
