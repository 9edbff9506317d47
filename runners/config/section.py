"""The base of every part of the configuration's schema."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no coerced types, no nan."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Decay = Annotated[float, Field(ge=0, lt=1)]


Positive = Annotated[float, Field(gt=0)]
