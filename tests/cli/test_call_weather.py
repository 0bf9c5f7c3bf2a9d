"""`offhook call --weather`: what is passed on, and what is refused before any call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from offhook.cli import calling
from offhook.cli.verbs import app
from offhook.cli.where import Where
from offhook.media.weather import Weather, weather
from offhook.testing.caller import CallerError


class Asked:
    """A `Where` whose server refuses every call, but sees it."""

    def __init__(self) -> None:
        self.weather: Weather | None = None

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Asked]:
        yield self

    async def call(self, *_: Any, weather: Weather | None) -> None:
        self.weather = weather
        raise CallerError("503")


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("7", weather(7)), ("7,drop_at=9", Weather(seed=7, drop_at=9))]
)
def test_the_call_is_asked_for_with_the_weather(text: str | None, expected: Weather | None) -> None:
    asked = Asked()
    where = cast(Where, asked)
    with pytest.raises(CallerError):
        asyncio.run(calling.call(lambda: where, "+15550199", "+15550100", calling.Script(), False, text))
    assert asked.weather == expected


def test_what_is_no_weather_is_told_in_a_line() -> None:
    result = CliRunner().invoke(app, ["call", "+15550199", "--weather", "7,drop=1"])
    assert result.exit_code == 2
    assert "offhook: weather '7,drop=1' is not SEED[,KEY=VALUE…]: Object contains unknown field `drop`" in result.output
