"""Differentially private fine-tuning: each example's gradient is clipped, and noise is added.

DP-SGD of Abadi et al., CCS 2016 (arXiv 1607.00133), for fine-tuning as in Yu et al., ICLR 2022
(arXiv 2110.06500), authors' code huseyinatahaninan/Differentially-Private-Fine-tuning-of-Language-
Models a9f7259, and Li et al., ICLR 2022 (arXiv 2110.05679), lxuechen/private-transformers 18ccc4e.

A step of B examples expected of N, with ℓ_i the loss of example i:

    g_i = ∂ℓ_i/∂θ over all trained parameters
    ĝ = 1/B (Σ_i min(1, C / (‖g_i‖ + 1e-6)) g_i + N(0, σ²C² I))

and the optimizer takes ĝ as its gradient; nothing else is clipped. Where papers and code differ:
- both releases cut shuffled rows into batches and account as if rows had been drawn by themselves
  (Poisson); here they are drawn so, and `sampling=shuffled` is marked as approximate;
- C is 0.1 in Li's code, 10 or 2 in Yu's; with Adam it hardly matters once all are clipped;
- 1e-6 beside the norm is Opacus'; Yu's code divides without it;
- ε is the PRV accountant's (`accountant=rdp`: RDP's), the other is recorded beside it.
Not charged to ε: the search for learning rates, the scores on dev, which count as public, and what
the record says of the training itself (losses, lengths). Seeded generators make runs repeatable, so
that a run's weights are a benchmark's and no release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from methods.method import Batch, Batches, Method, Options, ParameterGroup, Setting
from methods.surgery import accountant as accountants
from methods.surgery.presets import BARE
from results.errors import UserError

if TYPE_CHECKING:
    import torch

NOT_CHARGED = (
    "dev, which is scored, counts as public",
    "the search for learning rates",
    "what the record says of training: losses, numbers of tokens, what was seen in the rows",
    "which rows data.train_size draws, by their classes where data.balanced says so",
)
_USUAL = 8.0  # ε of both papers
_WEAK = 10.0  # an ε above which next to nothing is promised
_PER_TEXT = "so that no example's own gradient follows from what its layers see"
# Methods that are refused, and why; with one example at a time the second kind is right too.
_NEVER: Mapping[str, str] = {
    "child_tuning_d": "child_tuning_d reads the training rows before the first step, uncounted",
    "child_tuning_f": "child_tuning_f scales the noisy gradient's entries, and their noise is then"
    " another than what is recorded",
}
_ONE_BY_ONE: Mapping[str, str] = {
    "description_cosine": f"description_cosine's head has a length of its own, {_PER_TEXT}",
    "ia3": f"ia3 multiplies by bare parameters, {_PER_TEXT}",
    "mixout": f"mixout mixes weights inside a pass, {_PER_TEXT}",
    "mlm_prompt": f"mlm_prompt computes some rows of the output layer, {_PER_TEXT}",
    "prefix": f"prefix is made once for a batch, {_PER_TEXT}",
    "prompt": f"prompt is looked up once for a batch, {_PER_TEXT}",
    "raft": f"raft's activations have bare parameters, {_PER_TEXT}",
    "unipelt": f"unipelt's prefix is made once for a batch, {_PER_TEXT}",
    **{
        n: f"{n} trains more than what linear layers multiply by, {_PER_TEXT}" for n in sorted(BARE)
    },
}


@dataclass(kw_only=True)
class Dp(Method):
    """Clip each example's gradient to `clip`, add noise, divide by the expected batch size.

    Either `epsilon` or `noise` is given, and the other follows from it, `delta`, the sampling rate
    and the number of steps; neither is ε = 8. `noise` is the noise multiplier σ; 0 only clips.
    `delta=null` is 1/(2N). A batch is computed in parts of `part` examples, fewer where memory runs
    out; 1 goes through examples one by one, which is right for any layer.
    """

    name: ClassVar[str] = "dp"
    paper: ClassVar[str] = "Yu et al. 2022; Li et al. 2022"
    trains: ClassVar[str] = (
        "each example's gradient is clipped, noise is added; `epsilon=`; DeBERTa-v2, MPNet, XLNet"
        " and T5 by `part=1`"
    )
    owns: ClassVar[frozenset[str]] = frozenset({"gradient", "loss"})  # each example's own
    per_example: ClassVar[bool] = True
    of_whole_texts: ClassVar[str] = "clips what each text's own answer asks for"
    hinders_capture: ClassVar[str] = "its batches have other numbers of examples at each step"
    narrow: ClassVar[Options] = {"noise": 1.0}
    with_others: ClassVar[Options] = {"part": 1}
    plain_order: ClassVar[Options] = {"sampling": "shuffled"}

    lr: Annotated[float, Gt(0)] | None = None
    epsilon: Annotated[float, Gt(0)] | None = None
    noise: Annotated[float, Ge(0)] | None = None
    delta: Annotated[float, Gt(0), Lt(1)] | None = None
    clip: Annotated[float, Gt(0)] = 0.1
    sampling: Literal["poisson", "shuffled"] = "poisson"
    accountant: Literal["prv", "rdp"] = "prv"
    part: Annotated[int, Ge(1)] = 64

    def model_known(self, architecture: str) -> None:
        self._of_segments = architecture == "xlnet"

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 where XLNet's parameters of segments train, which were left as they were."""
        train = all({"layers", "matrices"} <= m.moves for m in methods if "parameters" in m.owns)
        return self.version + int(train and getattr(self, "_of_segments", False))

    def say_alike(self) -> None:
        if self.epsilon is None and self.noise is None:
            self.epsilon = _USUAL

    @property
    def batches(self) -> Batches:
        return "poisson" if self.sampling == "poisson" else "random"

    def refuses(self, other: Method) -> str:
        if other.name in _NEVER:
            return _NEVER[other.name]
        if other.name in _ONE_BY_ONE and self.part > 1:
            return f"{_ONE_BY_ONE[other.name]}, unless method.dp.part=1"
        if type(other).before_training is not Method.before_training:
            return f"{other.name} reads the training rows before the first step, uncounted"
        return ""

    def data_known(self, rows: int, batch_size: int, steps: int, epoch: int = 0) -> list[str]:
        """Find noise or ε of the run; return what should be known of them."""
        if self.epsilon is not None and self.noise is not None:
            raise UserError(
                f"method.dp.epsilon={self.epsilon:g} and method.dp.noise={self.noise:g}: one"
                " follows from the other; leave one of them out"
            )
        if not accountants.is_installed():
            raise UserError(
                "method=dp accounts with opacus, which is not installed; type pip install"
                " 'tunebench[dp]'"
            )
        if batch_size > rows:
            raise UserError(
                f"method=dp: budget.batch_size={batch_size} is more than the {rows} rows to train"
                f" on, of which each is in a batch with probability batch_size/rows; use"
                f" budget.batch_size={rows} or less"
            )
        self.rows, self.batch_size = rows, batch_size
        self.rate, self.steps = batch_size / rows, steps
        self.chosen_delta = 1 / (2 * rows) if self.delta is None else self.delta
        if self.chosen_delta >= 1 / rows:
            raise UserError(
                f"method.dp.delta={self.chosen_delta:g} must be below 1/{rows}, or a run that"
                f" publishes a row of its {rows} would count as private; leave it out for"
                f" 1/(2·{rows})"
            )
        self.sigma = self._sigma() if self.noise is None else self.noise
        return self._warnings()

    def _sigma(self) -> float:
        target = _USUAL if self.epsilon is None else self.epsilon
        sigma = accountants.noise_for(
            self.accountant, target, self.rate, self.steps, self.chosen_delta
        )
        if sigma is None:
            raise UserError(
                f"method.dp.epsilon={target:g}: no amount of noise reaches it at"
                f" delta={self.chosen_delta:g}; use a larger one"
            )
        return sigma

    def _warnings(self) -> list[str]:
        warnings = []
        spent = self._epsilon(self.accountant, self.steps) if self.sigma else math.inf
        if spent > _WEAK:
            warnings.append(
                f"method=dp: ε = {spent:.4g} at δ = {self.chosen_delta:.3g}"
                f" ({self.accountant}, {self.rows} rows, σ = {self.sigma:.4g}) promises next to"
                " nothing"
            )
        share = self.sigma / self.batch_size
        if share > 0.05:  # in both papers it is below 0.001
            warnings.append(
                f"method=dp: {self.rows} rows are few: at ε = {spent:.4g} the noise of each entry"
                f" of a step is {share:.2g} of the longest gradient that an example may have"
            )
        if self.sampling == "shuffled":
            warnings.append(
                "method.dp.sampling=shuffled: approximate accounting, as ε is that of rows drawn"
                " independently"
            )
        return warnings

    def _epsilon(self, by: accountants.Accountant, steps: int) -> float:
        return accountants.epsilon_of(by, self.sigma, self.rate, steps, self.chosen_delta)

    def _planned(self) -> float | None:
        """Return ε of all the run's steps; None without noise."""
        return self._epsilon(self.accountant, self.steps) if self.sigma else None

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        from methods.surgery.streams import Streams

        self.streams = Streams(setting.generator)
        self.segments = "token_type_ids" in getattr(setting.tokenizer, "model_input_names", ())
        self.taken = 0

    def parameter_groups(
        self, model: torch.nn.Module, groups: list[ParameterGroup]
    ) -> list[ParameterGroup]:
        """Refuse a model with a layer whose gradient is not known example by example."""
        from methods.surgery.clipping import Clipping

        self.clipping = Clipping(model, self.part, self.segments)
        return groups

    def gradients(
        self, model: torch.nn.Module, batch: Batch, loss: Callable[[Batch], torch.Tensor]
    ) -> torch.Tensor:
        """Leave the noisy gradient; return the sum of the examples' losses by the expected size."""
        total = self.clipping(batch, loss, self.clip)
        for parameter in self.clipping.reached:
            gradient = parameter.grad
            if gradient is None:  # of an empty batch
                gradient = parameter.new_zeros(parameter.shape)
            if self.sigma:
                gradient += self.streams.normal(gradient, self.sigma * self.clip)
            parameter.grad = gradient / self.batch_size
        self.taken += 1
        return total / self.batch_size

    def state_dict(self) -> dict[str, Any]:
        return {
            "streams": self.streams.state_dict(),
            "part": self.clipping.part,
            "spent": [(self.sigma, self.rate, self.taken)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state["streams"])
        self.clipping.part = state["part"]
        [(self.sigma, self.rate, self.taken)] = state["spent"]

    def report(self) -> dict[str, Any]:
        """Return what was spent of privacy by the steps that were taken, and by which count."""
        spent = {
            by: None if math.isinf(epsilon := self._epsilon(by, self.taken)) else epsilon
            for by in accountants.ACCOUNTANTS
        }
        return {
            "epsilon": spent[self.accountant],
            "planned_epsilon": self._planned(),
            "accountant": self.accountant,
            "delta": self.chosen_delta,
            "noise_multiplier": self.sigma,
            "sample_rate": self.rate,
            "steps": self.taken,
            "rows": self.rows,
            "expected_batch_size": self.batch_size,
            "sampling": self.sampling,
            "accounting": "exact" if self.sampling == "poisson" else "approximate",
            "epsilon_by": spent,
            "part": self.clipping.part,
            "not_charged": list(NOT_CHARGED),
        }
