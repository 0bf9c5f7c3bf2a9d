"""What of the configuration concerns call records and logs: `[records]` and `[logs]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Records(_Section):
    """`[records]`: a line of JSON for each call that is over."""

    file: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] | None = Field(
        default=None, description="File that call records are added to; without it there are none."
    )
    redact_numbers: bool = Field(default=False, description="Whether numbers are masked, all but the last two digits.")


class Logs(_Section):
    """`[logs]`: what the server's processes say on standard error."""

    redact_numbers: bool = Field(default=False, description="Whether numbers are masked, all but the last two digits.")
