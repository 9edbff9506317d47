"""What methods are given to know of a run, and what they give back to be kept or read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TaskFacts:
    """What a method may know of its run's task when the configuration is checked.

    `kind` is its kind, `answer` what an example is answered with, such as "class" or "score",
    `columns` are the names of its texts, and `range` that of its scores. `template` and `words`,
    `descriptions`, and `question` and `options` are what its sections for methods that read them
    say. `tasks` are those of a mixture.
    """

    name: str
    kind: str
    answer: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    range: tuple[float, float] | None = None
    template: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    question: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[TaskFacts, ...] = ()


@dataclass(frozen=True)
class Arranged:
    """Examples as token ids, special ones included, and whether each was cut.

    `token_type_ids` are their types, for models that have some; without, all tokens are of the
    first.
    """

    input_ids: list[list[int]]
    truncated: list[bool]
    token_type_ids: list[list[int]] | None = None


@dataclass(frozen=True)
class Setting:
    """What a method may know when it prepares the model.

    `head` names the parameters that are drawn from the run's seed: those that the checkpoint did
    not hold (the classifier, and a pooler where there was none), and those of modules that it holds
    but that no training reached, `model.untrained`, such as minilm's pooler. `generator` is this
    method's own random stream, a CPU generator: draws from it leave data order and dropout as they
    are. `pretrained` holds a copy of every parameter as it was loaded, before any method; it is
    filled for methods that need it only. `methods` names all methods of the run in their order.
    `tokenizer` is the model's, and `files` are those that its weights were loaded from.
    `attributes` holds the values of each of the task's attributes that its training rows hold, for
    methods that need attributes only. A `stored` run is a record's or a delta's, which is taken as
    it is where the same would be refused if it was typed today.
    """

    head: frozenset[str]
    generator: torch.Generator
    num_labels: int
    regression: bool
    total_steps: int
    max_length: int
    precision: str = "fp32"
    pretrained: Mapping[str, torch.Tensor] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    tokenizer: Any = None
    files: tuple[Path, ...] = ()
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stored: bool = False


@dataclass(frozen=True)
class Folded:
    """What is kept of trained parameters that serve training only.

    `replaced` names the parameters, `kept` holds the tensors that stand for them afterwards. One
    that is kept under the name of a parameter takes its place in a whole model too.
    """

    replaced: frozenset[str] = frozenset()
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)
