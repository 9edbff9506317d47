"""Child-Tuning D: only the entries with the highest Fisher information train.

Xu et al., EMNLP 2021 (arXiv 2109.05687); authors' code RunxinXu/ChildTuning d0d8655.

Where paper and code differ, and what is the default here:
- `fisher=batch` squares the gradient of a batch's mean loss, with dropout on and each tensor's
  gradient clipped to `max_norm` (code); `fisher=example` averages squared gradients of single
  examples without dropout and clipping (paper), at one backward pass an example;
- the code masks parameters whose name contains "layer": those of the encoder's layers. Embeddings,
  pooler and head train whole, so p=0.3 trains 45.0 % of bert-base and 36.6 % of bert-large.
  `scope=all_but_head` and `scope=all` mask more;
- decoupled weight decay still shrinks masked entries in the code; `freeze=true` holds them exactly,
  also where other methods edit weights after a step, in whatever order they are named;
- the code reads no warm-up ratio, and so has none; here warm-up is the budget's.
The paper's controls are children of the same size: `select=lowest`, and `select=random`, drawn once
from the method's own stream, without a pass over the training set. `outside=zero` sets to zero
before the first step what is in scope and outside the child, which the paper does to show that the
child is no pruned network; by default it keeps its pretrained values.

Where a factor starts at zero, as beside many low-rank tuners, the entries of the others have no
Fisher information before the first step. Where fewer than the share `p` have any, a threshold would
keep all, and the run is refused there: method=[child_tuning_d,loha]: too few entries have any
Fisher information before the first step; use method.child_tuning_d.select=random or leave it out.

Gradients inside the mask are not rescaled. One threshold serves all tensors. The pass over the
training set is counted in preparation_seconds and in the tables' seconds, leaves the random streams
as they were, and other methods are paused in it. save=delta keeps the masks: a boolean tensor for
each in scope, true where an entry trains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Le

from methods.method import Batch, Forward, Method, Options, Setting
from methods.surgery.edits import edited_behind
from results.errors import UserError

if TYPE_CHECKING:
    import torch

Scores = dict[str, Any]


@dataclass(kw_only=True)
class ChildTuningD(Method):
    """Train the share `p` of entries in `scope` of highest Fisher score, and the rest whole."""

    name: ClassVar[str] = "child_tuning_d"
    paper: ClassVar[str] = "Xu et al. 2021"
    trains: ClassVar[str] = "entries of low Fisher information do not train"
    no_strength: ClassVar[Options | None] = {"p": 1}
    with_others: ClassVar[Options] = {"scope": "all"}
    may_stay: ClassVar[tuple[str, ...]] = (".layer.",)  # whole tensors below the threshold
    added: ClassVar[Options] = {"select": "highest", "outside": "keep"}

    p: Annotated[float, Gt(0), Le(1)] = 0.3
    fisher: Literal["batch", "example"] = "batch"
    max_norm: Annotated[float, Gt(0)] = 1.0
    scope: Literal["layers", "all_but_head", "all"] = "layers"
    freeze: bool = False
    select: Literal["highest", "lowest", "random"] = "highest"
    outside: Literal["keep", "zero"] = "keep"

    @property
    def unread(self) -> Mapping[str, str]:
        if self.p == 1:
            idle = ("fisher", "max_norm", "scope", "freeze", "select", "outside")
            return dict.fromkeys(idle, "p=1")
        if self.select == "random":
            return dict.fromkeys(("fisher", "max_norm"), "select=random")
        return {"max_norm": "fisher=example"} if self.fisher == "example" else {}

    @property
    def acts_on(self) -> frozenset[str]:
        return frozenset({"layers"} if self.scope == "layers" and self.p < 1 else ())

    @property
    def holds(self) -> bool:
        """Whether it holds the entries that do not train."""
        return self.freeze and self.p < 1

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 before a method that moved what is held."""
        return self.version + int(self.holds and edited_behind(self, methods))

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places

        self.draws = setting.generator
        self.masks: Scores = {}
        self.start: Scores = {}
        self.inside: tuple[str, ...] = ("",)
        if self.scope == "layers":
            layers = places.layers(model, "child_tuning_d")
            self.inside = tuple(f"{layer.name}." for layer in layers)
        self.spared = setting.head if self.scope != "all" else frozenset()
        self.together = ",".join(setting.methods)
        self.stored = setting.stored

    def in_scope(self, name: str) -> bool:
        """Tell whether a parameter, if it trains, competes for the share that is kept."""
        return name.startswith(self.inside) and name not in self.spared

    def before_training(
        self, model: torch.nn.Module, batches: Iterable[Batch], forward: Forward
    ) -> None:
        import torch

        if self.p == 1:
            return
        scored = {n: p for n, p in model.named_parameters() if p.requires_grad and self.in_scope(n)}
        if not scored:
            raise UserError(
                f"method=[{self.together}]: nothing in scope={self.scope} of child_tuning_d trains;"
                " use method.child_tuning_d.scope=all, or leave it out"
            )
        if self.select == "random":
            scores = {n: torch.rand(p.shape, generator=self.draws) for n, p in scored.items()}
        elif self.fisher == "batch":
            scores = self._of_batches(model, scored, batches, forward)
        else:
            scores = self._of_examples(model, scored, batches, forward)
        everything = torch.cat([scores[n].flatten().cpu() for n in scored])
        count = max(1, round(self.p * everything.numel()))
        if self.select == "highest":
            threshold = everything.kthvalue(everything.numel() - count + 1).values
            if not threshold and count < everything.numel() and not self.stored:
                raise UserError(self._too_few(everything))
            self.masks = {n: s >= threshold.to(s.device) for n, s in scores.items()}
        else:
            parts = lowest(everything, count).split([p.numel() for p in scored.values()])
            self.masks = {
                n: part.view(p.shape).to(p.device)
                for (n, p), part in zip(scored.items(), parts, strict=True)
            }
        if self.outside == "zero":
            with torch.no_grad():
                for name, parameter in scored.items():
                    parameter.mul_(self.masks[name])
        if self.freeze:
            self.start = {n: p.detach().clone() for n, p in scored.items()}

    def _too_few(self, scores: torch.Tensor) -> str:
        """Say why the entries of highest scores (N,) are not `p` of them, but all."""
        return (
            f"method=[{self.together}]: too few entries have any Fisher information before the"
            f" first step ({int((scores > 0).sum()):,} of {scores.numel():,}, fewer than"
            f" method.child_tuning_d.p={self.p} keeps); use method.child_tuning_d.select=random or"
            " leave it out"
        )

    def _of_batches(
        self, model: torch.nn.Module, scored: Scores, batches: Iterable[Batch], forward: Forward
    ) -> Scores:
        import torch

        sums = {n: torch.zeros_like(p, dtype=torch.float32) for n, p in scored.items()}
        seen = 0
        for batch in batches:
            model.zero_grad(set_to_none=True)
            forward(batch).loss.backward()
            for name, parameter in scored.items():
                if parameter.grad is not None:
                    gradient = parameter.grad.float()
                    size = gradient.norm() + 1e-6
                    sums[name] += (gradient * (self.max_norm / size).clamp(max=1.0)) ** 2
            seen += 1
        return {n: s / seen for n, s in sums.items()}

    def _of_examples(
        self, model: torch.nn.Module, scored: Scores, batches: Iterable[Batch], forward: Forward
    ) -> Scores:
        import torch

        sums = {n: torch.zeros_like(p, dtype=torch.float32) for n, p in scored.items()}
        seen = 0
        model.eval()
        for batch in batches:
            for i in range(len(batch["input_ids"])):
                model.zero_grad(set_to_none=True)
                forward({k: v[i : i + 1] for k, v in batch.items()}).loss.backward()
                for name, parameter in scored.items():
                    if parameter.grad is not None:
                        sums[name] += parameter.grad.float() ** 2
                seen += 1
        model.train()
        return {n: s / seen for n, s in sums.items()}

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        for name, parameter in model.named_parameters():
            if name in self.masks and parameter.grad is not None:
                parameter.grad.mul_(self.masks[name])

    def hold_weights(self, model: torch.nn.Module, step: int) -> None:
        import torch

        for name, parameter in model.named_parameters():
            if name in self.start:
                with torch.no_grad():
                    parameter.copy_(torch.where(self.masks[name], parameter, self.start[name]))

    def state_dict(self) -> dict[str, Any]:
        return {"masks": self.masks, "start": self.start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.masks, self.start = dict(state["masks"]), dict(state["start"])

    def tensors(self) -> dict[str, Any]:
        return dict(self.masks)

    def report(self) -> dict[str, Any]:
        if not self.masks:
            return {}
        kept = sum(int(m.sum()) for m in self.masks.values())
        entries = sum(math.prod(m.shape) for m in self.masks.values())
        return {"masked_entries": entries, "kept_entries": kept, "kept_share": kept / entries}


def lowest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Return which of scores (N,) are the `count` lowest, of equal ones the first: (N,) boolean."""
    threshold = scores.kthvalue(count).values
    chosen = scores < threshold
    equal = (scores == threshold).nonzero()[:, 0]
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen
