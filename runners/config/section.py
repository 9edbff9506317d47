"""The base of every part of the configuration's schema."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from results.errors import UserError


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no coerced types, no nan."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def model_validate(cls, obj: Any, **more: Any) -> Self:
        """Return the part that `obj` describes, or raise pydantic's ValidationError.

        Half of a surrogate pair, at which pydantic stumbles in places, is a UserError.
        """
        try:
            return super().model_validate(obj, **more)
        except UnicodeEncodeError as error:
            raise UserError(
                f"{error.object!a} holds half of a surrogate pair, which is no text; write it anew"
            ) from None


Decay = Annotated[float, Field(ge=0, lt=1)]


Positive = Annotated[float, Field(gt=0)]
