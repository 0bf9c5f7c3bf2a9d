"""What of the configuration concerns speech: `[speech]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from offhook.speech.engines import RECOGNIZERS, SYNTHESIZERS


def _one_of(names: object) -> AfterValidator:
    def check(name: str) -> str:
        known = list(names)  # type: ignore[call-overload]
        if name not in known:
            raise ValueError(f"one of {', '.join(known)} is expected")
        return name

    return AfterValidator(check)


class Speech(BaseModel):
    """`[speech]`, and `[speech.options.ENGINE]` with what an engine has to be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    synthesizer: Annotated[str, _one_of(SYNTHESIZERS)] = Field(default="hibari", description="Engine that says texts.")
    recognizer: Annotated[str, _one_of(RECOGNIZERS)] = Field(
        default="pocketsphinx", description="Engine that writes down what callers say."
    )
    options: dict[str, dict[str, str]] = Field(default={}, repr=False, description="By engine: what it has to be told.")
