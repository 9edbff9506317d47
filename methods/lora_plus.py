"""LoRA+: LoRA whose second matrices, zero at first, take larger steps than the first ones.

Hayou et al., ICML 2024 (arXiv 2402.12354), through peft, whose optimizer for it gives the groups:
B, and whatever is a vector, such as the head's bias, trains at `ratio` times the rate of A and of
all else. Decay is the run's, on what it is on without the method.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from methods.method import LearningRate, Method, ParameterGroup, Setting
from methods.peft import problems_of
from methods.surgery.presets import Targets

DEFAULTS = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}


@dataclass(kw_only=True)
class LoraPlus(Method):
    """Add a low-rank pair to the targeted matrices, the second one at a larger rate."""

    name: ClassVar[str] = "lora_plus"
    paper: ClassVar[str] = "Hayou et al. 2024"
    trains: ClassVar[str] = "low-rank updates, B at a rate `ratio` times as large"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})

    lr: LearningRate = 2e-4
    ratio: Annotated[float, Ge(1)] = 16
    targets: Targets = "query_value"
    options: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))

    def __post_init__(self) -> None:
        self.options = {**DEFAULTS, **self.options}

    def problems(self) -> list[str]:
        return problems_of("lora_plus", "lora", self.options, {})

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery.wrapped import wrap

        self.wrapped = wrap(model, "lora_plus", "lora", self.options, self.targets, setting)

    def parameter_groups(self, model: Any, groups: list[ParameterGroup]) -> list[ParameterGroup]:
        names = {id(parameter): name for name, parameter in model.named_parameters()}

        def faster(parameter: Any) -> bool:
            return ".lora_B." in names[id(parameter)] or parameter.ndim == 1

        split = []
        for group in groups:
            for factor, fast in ((1.0, False), (self.ratio, True)):
                chosen = [p for p in group["params"] if faster(p) == fast]
                if chosen:
                    split.append({**group, "params": chosen, "lr": group["lr"] * factor})
        return split

    def peft_config(self) -> Any:
        return self.wrapped.config
