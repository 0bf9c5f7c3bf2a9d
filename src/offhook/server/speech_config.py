"""What of the configuration concerns speech: `[speech]`."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from offhook.speech import engines


class Speech(BaseModel):
    """`[speech]`, and `[speech.options.ENGINE]` with what an engine has to be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    synthesizer: str = Field(default="hibari", description="Engine that says texts.")
    recognizer: str = Field(default="pocketsphinx", description="Engine that writes down what callers say.")
    preload: bool = Field(
        default=False, description="Load the synthesizer at the start, not with the first call that is to need it."
    )
    options: dict[str, dict[str, str]] = Field(default={}, repr=False, description="By engine: what it has to be told.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """A server that could not speak should say so when it starts, not in the first call."""
        if problems := engines.problems(self.synthesizer, self.recognizer, self.options):
            raise ValueError("; ".join(problems))
        return self
