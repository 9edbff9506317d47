"""Lets `model.name_or_path=` take the place of a packaged model, as a configuration is composed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from results.errors import UserError
from runners.config.typed import is_typed


def with_named_weights(composed: dict[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """Return a configuration in which `model.name_or_path=` on a packaged model replaces that.

    What the model's file says of the package goes, and what is `typed` of the other weights stays.
    A package that is typed beside them is a UserError, and so is a file that has both: whose the
    rest of it is cannot be told.
    """
    model = composed.get("model")
    if not (isinstance(model, Mapping) and model.get("package") and model.get("name_or_path")):
        return composed
    path = str(model["name_or_path"])
    if is_typed(typed, "model.package"):
        raise UserError(
            f"model.package= and model.name_or_path= name two models ({model['package']} and"
            f" {path}); leave one of them out, or set model.name_or_path=null"
        )
    if not is_typed(typed, "model.name_or_path"):
        raise UserError(
            f"model {model.get('name')}: its file names two models (package {model['package']} and"
            f" name_or_path {path}); write package: null, and name, sha256 and untrained of its own"
        )
    named = re.sub(r"[^A-Za-z0-9._-]+", "-", path.rstrip("/").rsplit("/", 1)[-1]).strip("-.")
    of_package: dict[str, Any] = {
        "hub": None,
        "sha256": None,
        "untrained": [],
        "name": named or "model",
    }
    gone = {key: value for key, value in of_package.items() if not is_typed(typed, f"model.{key}")}
    return {**composed, "model": {**model, "package": None, **gone}}
