"""AdaLoRA: low-rank updates P Λ Q of which the least important ranks are taken away in training.

Zhang et al., ICLR 2023 (arXiv 2303.10512), through peft, which is given its call after each step.
A share of the steps, `warmup`, has all ranks, and a share at the end, `final`, has those that are
left; the authors' GLUE scripts (QingruZhang/AdaLoRA) give them in steps of each task's training,
9 to 15 and 44 to 58 percent of it. The penalty on P and Q that are not orthogonal is added to the
gradients, which is its gradient added to the loss's: a loss that is reported leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Lt

from methods.method import Folded, LearningRate, Method, Options, Setting
from methods.peft import problems_of
from methods.surgery.presets import Targets

DEFAULTS = {
    "init_r": 12,
    "target_r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "deltaT": 1,
    "beta1": 0.85,
    "beta2": 0.85,
    "orth_reg_weight": 0.1,
}
_KEPT = ("ipt", "exp_avg_ipt", "exp_avg_unc")


@dataclass(kw_only=True)
class Adalora(Method):
    """Add a low-rank triplet to the targeted matrices; take ranks away by what they do."""

    name: ClassVar[str] = "adalora"
    paper: ClassVar[str] = "Zhang et al. 2023"
    trains: ClassVar[str] = "low-rank updates whose ranks are taken where they matter least"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    hinders_capture: ClassVar[str] = "reads which ranks matter least at a step"
    may_stay: ClassVar[tuple[str, ...]] = ("lora_E",)  # it masks them
    narrow: ClassVar[Options] = {"options": {**DEFAULTS, "init_r": 4, "target_r": 2}}

    lr: LearningRate = 1e-3
    targets: Targets = "all_linear"
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.1
    final: Annotated[float, Ge(0), Lt(1)] = 0.5
    options: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))

    def __post_init__(self) -> None:
        self.options = {**DEFAULTS, **self.options}

    def problems(self) -> list[str]:
        key = "method.adalora.options"
        problems = problems_of("adalora", "adalora", self.options, {})
        if "r" in self.options:
            problems.append(f"{key}.r is not AdaLoRA's: type init_r and target_r")
        if problems:
            return problems
        first, last = self.options["init_r"], self.options["target_r"]
        if not last < first:
            problems.append(f"{key}.target_r={last} must be below init_r={first}")
        if self.options["deltaT"] < 1:
            problems.append(f"{key}.deltaT={self.options['deltaT']} (must be ≥ 1)")
        if self.warmup + self.final >= 1:
            problems.append(
                f"method.adalora.warmup={self.warmup} and final={self.final} leave no steps in"
                " which ranks are taken away; their sum must be < 1"
            )
        return problems

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    def refuses(self, other: Method) -> str:
        if "average" in other.owns:
            return f"{other.name} gives back in its average the ranks that adalora took away"
        return ""

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery.wrapped import wrap

        steps = setting.total_steps
        begin = int(self.warmup * steps)
        # Ranks are taken for good when so many steps are left, and peft asks for one before.
        end = min(max(1, int(self.final * steps)), max(0, steps - begin - 1))
        schedule = {
            "tinit": begin,
            "tfinal": end,
            "total_step": steps,
        }
        options = {**self.options, **schedule}
        self.wrapped = wrap(model, "adalora", "adalora", options, self.targets, setting)
        for name, parameter in model.named_parameters():
            if ".ranknum." in name:
                parameter.requires_grad_(False)  # in peft it trains where it changed the device

    def after_backward(self, model: Any, step: int) -> None:
        """Add the gradient of the penalty: the mean of |P Pᵀ - 1| and |Qᵀ Q - 1| over matrices."""
        import torch

        weight, sides = self.options["orth_reg_weight"], self._sides(model)
        if not weight or not sides:
            return
        with torch.enable_grad():
            grams = [p @ p.T if right else p.T @ p for p, right in sides]
            apart = [
                torch.linalg.norm(g - torch.eye(len(g), dtype=g.dtype, device=g.device))
                for g in grams
            ]
            penalty = weight * torch.stack(apart).mean()
            gradients = torch.autograd.grad(penalty, [p for p, _ in sides])
        for (parameter, _), gradient in zip(sides, gradients, strict=True):
            before = parameter.grad
            parameter.grad = gradient if before is None else before + gradient

    def _sides(self, model: Any) -> list[tuple[Any, bool]]:
        """Return the outer matrices of every triplet, and whether one is the right of its two.

        Under a frozen start none of them trains, and none is returned.
        """
        return [
            (parameter, "lora_A" in name)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and ("lora_A.default" in name or "lora_B.default" in name)
        ]

    def after_step(self, model: Any, step: int) -> None:
        if self._sides(model):  # else the ranks stay as the run before left them
            self.wrapped.tuner.update_and_allocate(step)

    def state_dict(self) -> dict[str, Any]:
        allocator = self.wrapped.tuner.rankallocator
        scores = {name: dict(getattr(allocator, name)) for name in _KEPT}
        return {**scores, "rank_pattern": self.wrapped.config.rank_pattern}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        allocator = self.wrapped.tuner.rankallocator
        for name in _KEPT:
            setattr(allocator, name, dict(state[name]))
        self.wrapped.config.rank_pattern = state["rank_pattern"]

    def fold(self, model: Any) -> Folded:
        """Name the numbers of ranks at the start, which peft keeps as frozen parameters."""
        return Folded(frozenset(n for n, _ in model.named_parameters() if ".ranknum." in n))

    def peft_config(self) -> Any:
        """Return peft's configuration of the trained model, in which no rank is to be taken away.

        Ranks that were are zeros of their triplets: to leave them out would change its scale.
        """
        from copy import copy

        config = copy(self.wrapped.config)
        config.rank_pattern, config.total_step = None, 1
        config.tinit, config.tfinal = 0, 0
        return config

    def report(self) -> dict[str, Any]:
        pattern = self.wrapped.config.rank_pattern
        if not pattern:
            return {}
        return {"ranks_left": sum(sum(kept) for kept in pattern.values())}
