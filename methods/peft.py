"""Any tuner of the installed peft: `method=peft method.peft.tuner=NAME`.

`tuner` is a name that peft registers, `options` are those of its configuration. They are checked
before torch is loaded, by what peft's own files say; a tuner that an encoder cannot have, or that
needs more than a run gives, is refused by name (docs/peft.md). Where the trained matrices are,
`targets` says for each architecture. What a tuner draws comes from the run's seed, what it keeps
frozen included. The version of peft is in the record, not in a run's name, as for `lora`.

Each row of `methods.surgery.presets` is a method of its own here, made by `_method`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, ClassVar

from methods.method import LearningRate, Method, Options, Setting
from methods.surgery.peft_files import option_problems, tuner_problem
from methods.surgery.presets import PRESETS, Preset, Targets

# Of tuners that are no method of their own; those of the others are the methods'.
_HINDERED = {
    "frod": "makes sparse tensors of its coefficients",
    "waveft": "makes tensors whose shapes depend on where its coefficients lie",
}


@dataclass(kw_only=True)
class Peft(Method):
    """Put a tuner of peft into the targeted matrices; train what it adds and the head."""

    name: ClassVar[str] = "peft"
    trains: ClassVar[str] = "what any tuner of peft adds; `tuner=`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    like: ClassVar[str] = "lora_plus"

    lr: LearningRate = 1e-3
    tuner: str = "lora"
    targets: Targets = "query_value"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        preset = next((p for p in PRESETS if p.tuner == self.tuner), None)
        said = preset.hinders_capture if preset else _HINDERED.get(self.tuner, "")
        vars(self)["hinders_capture"] = said

    def problems(self) -> list[str]:
        if why := tuner_problem(f"method.peft.tuner={self.tuner}", self.tuner):
            return [why]
        return option_problems("method.peft.options", self.tuner, self.options)

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    @property
    def mixes_examples(self) -> bool:
        return self.tuner == "lily"  # whose experts are weighed by a mean over all tokens

    @property
    def divisible(self) -> bool:
        return not self.mixes_examples

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery.wrapped import wrap

        self.wrapped = wrap(model, "peft", self.tuner, self.options, self.targets, setting)

    def peft_config(self) -> Any:
        return self.wrapped.config


def _method(preset: Preset) -> type[Method]:
    """Return the method that a row of the table describes."""

    @dataclass(kw_only=True)
    class Tuned(Method):
        name: ClassVar[str] = preset.name
        paper: ClassVar[str] = preset.paper
        trains: ClassVar[str] = preset.trains
        owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
        changes_start: ClassVar[bool] = preset.changes_start
        hinders_capture: ClassVar[str] = preset.hinders_capture
        leaves: ClassVar[str] = preset.leaves
        other_dropout: ClassVar[bool] = preset.other_dropout
        narrow: ClassVar[Options] = (
            {"options": {**preset.options, **preset.narrow}} if preset.narrow else {}
        )
        like: ClassVar[str] = preset.like

        lr: LearningRate = preset.lr
        targets: Targets = preset.targets
        options: dict[str, Any] = field(default_factory=lambda: dict(preset.options))

        def __post_init__(self) -> None:
            self.options = {**preset.options, **self.options}

        def problems(self) -> list[str]:
            return problems_of(preset.name, preset.tuner, self.options, preset.fixed)

        @property
        def moves(self) -> frozenset[str]:
            return frozenset({"layers"})

        @property
        def mixes_examples(self) -> bool:
            return not preset.divisible

        @property
        def divisible(self) -> bool:
            return not self.mixes_examples

        def prepare(self, model: Any, setting: Setting) -> None:
            from methods.surgery.wrapped import wrap

            options = {**self.options, **preset.fixed}
            self.wrapped = wrap(model, preset.name, preset.tuner, options, self.targets, setting)

        def peft_config(self) -> Any:
            return self.wrapped.config

    Tuned.__name__ = Tuned.__qualname__ = preset.name.capitalize()
    Tuned.__doc__ = inspect.cleandoc(preset.about)
    return Tuned


def problems_of(name: str, tuner: str, options: Options, fixed: Options) -> list[str]:
    """Say what is wrong with the options of a method that is one of peft's tuners."""
    key = f"method.{name}.options"
    if why := tuner_problem(f"method={name}", tuner, of_method=True):
        return [why]
    typed = [
        f"{key}.{option} is what makes it {name}; leave it out"
        for option in fixed
        if option in options
    ]
    return typed or option_problems(key, tuner, options)


globals().update({cls.__name__: cls for cls in map(_method, PRESETS)})
