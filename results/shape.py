"""Checks parsed JSON against a record's fields and against what is read out of their parts."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from results.errors import UserError


def check_shape(content: Mapping[str, Any], kind: type, where: str) -> None:
    """Raise a UserError unless a mapping has what a dataclass's fields need, each of its type.

    Nothing is converted: true is no number, and neither are nan and infinity. Unknown keys pass.
    """
    try:
        _model(kind).model_validate(dict(content))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        missing = [p["loc"][0] for p in problems if p["type"] == "missing" and len(p["loc"]) == 1]
        if missing:
            said = f"is no complete record: missing {', '.join(map(str, missing))}"
        else:
            said = f"is no record: {_sentence(problems[0])}"
        raise UserError(f"{where} {said}") from None


_KINDS = {
    "dict_type": "no mapping",
    "finite_number": "no number",
    "float_type": "no number",
    "int_type": "no whole number",
    "list_type": "no list",
    "model_type": "no mapping",
    "string_type": "no text",
    "greater_than_equal": "out of range",
    "less_than_equal": "out of range",
}


def _sentence(problem: Mapping[str, Any]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"])
    key = "".join(steps).removeprefix(".")
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error":
        return f"{key} {problem['ctx']['error']}"
    value = reprlib.repr(problem["input"])
    if problem["type"] in _KINDS:
        return f"{key}={value} is {_KINDS[problem['type']]}"
    return f"{key}={value}: {problem['msg']}"


@cache
def _model(kind: type) -> type[BaseModel]:
    hints = {name: _bounded(hint) for name, hint in get_type_hints(kind).items()} | _PARTS
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    types: dict[str, Any] = {
        f.name: (hints[f.name], ... if f.name in needed else None) for f in fields(kind)
    }
    return create_model(kind.__name__, __base__=_Part, **types)


# Beyond what float32 holds there is no loss and no score, and sums of numbers so large overflow.
_Float = Annotated[float, Field(ge=-1e40, le=1e40)]


def _bounded(hint: Any) -> Any:
    """Return a type with each float in it bounded."""
    if hint is float:
        return _Float
    inner = tuple(map(_bounded, get_args(hint)))
    if isinstance(hint, UnionType):
        return reduce(or_, inner)
    return get_origin(hint)[inner] if get_origin(hint) in (list, dict) else hint


def _counted(parameters: dict[str, int]) -> dict[str, int]:
    needed = {"total", "trainable", "trainable_without_head"}
    if parameters and (not needed <= parameters.keys() or parameters["total"] < 1):
        raise ValueError("lacks a count, or the total is 0")
    return parameters


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Environment(_Part):
    threads: Annotated[int, Field(ge=1, le=2**16)] | None = None


class _Budget(_Part):
    name: str
    epochs: int
    steps: int | None
    batch_size: int
    max_length: int
    schedule: str
    warmup: _Float
    weight_decay: _Float
    max_grad_norm: _Float
    dropout: _Float | None


class _Method(_Part):
    name: str


class _Task(_Part):
    name: str = ""
    labels: list[Any] = []
    diagnostics: dict[str, Any] = {}
    pairs: dict[str, Any] | None = None
    arm_of: str | None = None
    further: dict[str, _Further] = {}
    mixture: _Mixture | None = None


class _Further(_Part):
    definition: _Task


class _Mixture(_Part):
    tasks: dict[str, _Task]


class _Optimizer(_Part):
    name: str = "adamw"


class _Control(_Part):
    equal: Literal["updates", "data"]
    stages: list[str]
    steps: int | None
    train: str | None


class _Config(_Part):
    budget: _Budget
    precision: str
    protocol: dict[str, Any]
    method: list[_Method]
    lr: _Float
    task: _Task = _Task()
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    optimizer: _Optimizer = _Optimizer()
    speed: dict[str, Any] = {}
    start: dict[str, Any] = {}
    control: _Control | None = None


class _Selected(_Part):
    score: _Float


class _Split(_Part):
    sha256: str
    rows: int


class _Text(_Part):
    kind: str
    rows: int


class _Stage(_Part):
    task: str
    methods: str
    settings: str
    labelled: list[str] = []
    rows: dict[str, dict[str, str]] = {}


class _Teacher(_Part):
    run: str
    sha256: str
    chain: Annotated[list[_Stage], Field(min_length=1)]


class _Offered(_Part):
    sha256: str


class _Pseudo(_Part):
    teacher: _Teacher
    offered: _Offered


class _Generator(_Part):
    sha256: str
    files_sha256: str


class _Generated(_Part):
    generator: _Generator
    teacher: _Teacher | None = None


class _Mined(_Part):
    in_place_of: dict[str, _Split] = {}
    filter: dict[str, Any] = {}


class _Data(_Part):
    source: str
    splits: dict[str, _Split]
    text: _Text | None = None
    parts: dict[str, _Split] = {}
    draw: str = ""
    drawn_from: str | None = None
    doctor: dict[str, Any] = {}
    pseudo: _Pseudo | None = None
    generated: _Generated | None = None
    mined: _Mined | None = None


class _Start(_Part):
    run: str
    chain: list[_Stage]


class _Weights(_Part):
    sha256: str
    start: _Start | None = None


# What the tables and verify= read out of the parts without a class of their own.
_PARTS: dict[str, Any] = {
    "config": _Config,
    "data": _Data,
    "weights": _Weights,
    "selected": _Selected | None,
    "parameters": Annotated[dict[str, int], AfterValidator(_counted)],
    "environment": _Environment,
}
