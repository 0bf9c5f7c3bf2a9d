"""What of the configuration concerns calls that come in: `[[inbound]]`, which app is told of a call to which number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from offhook.server.dialplan import Inbound, called, e164


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https URL")
    return url


def _pattern(text: str) -> str:
    if re.fullmatch(r"\*|\+?[0-9]{1,15}\*|[0-9]{1,15}", text):
        return text
    if text.startswith("+") and "*" not in text:
        return e164(text)
    raise ValueError(
        'a number is one in E.164 ("+49301234567"), an extension as it is dialled ("100"), '
        'the digits that several begin with and * ("+4930*"), or "*"'
    )


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class InboundTo(BaseModel):
    """`[[inbound]]`: who is told of calls to some numbers, instead of `incoming`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    numbers: list[Annotated[str, AfterValidator(_pattern)]] = Field(
        min_length=1, max_length=10_000, description='Numbers that are called (E.164); "+4930*" is all that begin so.'
    )
    trunk: str = Field(default="", max_length=64, description="Trunk that calls come by; without it, all calls.")
    endpoints: list[HttpUrl] = Field(
        max_length=10, description="Event Grid endpoints that are told of these calls; [] refuses them."
    )

    def keys(self, region: str) -> Iterator[tuple[str, str]]:
        """Yield a key of `Inbound` for each number; `region` as for `e164`."""
        for number in self.numbers:
            yield number if number.endswith("*") else called(number, region), self.trunk


def plan(incoming: Sequence[str], tables: Sequence[InboundTo], region: str) -> Inbound:
    """Return who is told of which calls; `incoming` of those that no table claims."""
    claimed = {key: tuple(table.endpoints) for table in tables for key in table.keys(region)}
    return {("*", ""): tuple(incoming), **claimed}


def contradictions(
    incoming: Sequence[str], tables: Sequence[InboundTo], region: str, trunks: Sequence[str]
) -> list[str]:
    """Return a line for everything that does not fit together. `trunks`: their names."""
    problems = [
        f"inbound: for {table.numbers[0]} there is no trunk {table.trunk!r}"
        for table in tables
        if table.trunk and table.trunk not in trunks
    ]
    counts = Counter(key for table in tables for key in table.keys(region))
    for (number, trunk), count in counts.items():
        if count > 1:
            problems.append(f"inbound: {number}{f' by trunk {trunk!r}' if trunk else ''} is there {count} times")
    if incoming and ("*", "") in counts:
        problems.append("inbound: both incoming and * say who is told of the calls that are left: take one of them")
    return problems
