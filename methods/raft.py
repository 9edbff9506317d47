"""RAFT: the feed-forward activations become learnable rational functions.

Fang, Lee, Moosavi and Gurevych, Findings of EACL 2023 (arXiv 2208.14111), authors' code
UKPLab/2022-RAFT cffff41; safe Padé units of Molina et al., ICLR 2020 (arXiv 1907.06732).

The paper pretrains its models with rational activations. Putting them into a public checkpoint when
it is fine-tuned, as here, is an adaptation; its scores are not RAFT's.

Where paper and code differ, or do not fit a public checkpoint, and what is the default here:
- start: `fit=wide`, a fit of GELU on [-10, 10] (error at most 0.014 there); the code's fit on
  [-3, 3] is `fit=narrow`, and is off by 2.5 at -10;
- the pooler's tanh becomes rational too, starting as tanh; the code starts it as GELU
  (`pooler=gelu`), `pooler=keep` leaves it alone; a pooler that is not a module is left alone;
- coefficients have a learning rate of their own (`lr_rational`) under the budget's schedule, linear
  by default as in the code's fine-tuning scripts (constant where it pretrains; the scripts warm up
  over no steps), and do not decay (0.1 in the code, `decay_rational`). The code's 5e-3
  (5e-4 for little data) is for models pretrained with it: Adam moves every coefficient by about
  the rate at each step, and the wide fit's a5 is 6e-4, so one step at 5e-3 moves R(±10) by 13, and
  at 5e-4 by 1.3. A public checkpoint then collapses; 1e-5, the default, moves it by 0.03.
`train=coefficients` freezes all but coefficients and head (the code's ch_rf), `train=bitfit` also
frees the biases (bitfit_rf). Ten numbers a function; ALBERT's layers share one function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from methods.bitfit import is_bias
from methods.method import LearningRate, Method, ParameterGroup, Setting
from results.errors import UserError

if TYPE_CHECKING:
    import torch


# What architectures call it in their configurations.
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation", "ff_activation", "dense_act_fn")


@dataclass(kw_only=True)
class Raft(Method):
    """Replace every feed-forward activation by a rational one of its own."""

    name: ClassVar[str] = "raft"
    paper: ClassVar[str] = "Fang et al. 2023"
    trains: ClassVar[str] = "everything, and rational activations; `train=coefficients`, `bitfit`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    leaves: ClassVar[str] = "leaves rational activations in the encoder"
    changes_start: ClassVar[bool] = True  # the fit is not GELU itself

    lr: LearningRate = None
    lr_rational: Annotated[float, Gt(0)] = 1e-5
    decay_rational: Annotated[float, Ge(0)] = 0.0
    train: Literal["all", "coefficients", "bitfit"] = "all"
    fit: Literal["wide", "narrow"] = "wide"
    pooler: Literal["tanh", "gelu", "keep"] = "tanh"

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers", "matrices"} if self.train == "all" else {"layers"})

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places, rational

        layers = places.layers(model, "raft")
        named = (getattr(model.config, key, None) for key in _ACTIVATIONS)
        activation = next((name for name in named if name is not None), None)
        if not str(activation).startswith("gelu"):
            raise UserError(
                f"method=raft: the encoder's activation is {activation}, the rational functions"
                " start as GELU; use an encoder with GELU, such as minilm"
            )
        for name, parameter in model.named_parameters():
            biases = self.train == "bitfit" and is_bias(name)
            parameter.requires_grad_(self.train == "all" or biases or name in setting.head)
        self.functions: dict[str, rational.Rational] = {}
        for layer in layers:
            function = rational.Rational(rational.GELU[self.fit])
            layer.module.set_submodule(layer.places.activation, function, strict=True)
            self.functions[f"layer {layer.index}"] = function
        for name in [n for n, _ in model.base_model.named_modules()]:
            if name in ("pooler.activation", "pooler_activation") and self.pooler != "keep":
                start = rational.TANH if self.pooler == "tanh" else rational.GELU[self.fit]
                function = rational.Rational(start)
                model.base_model.set_submodule(name, function, strict=True)
                self.functions["pooler"] = function

    def parameter_groups(
        self, model: torch.nn.Module, groups: list[ParameterGroup]
    ) -> list[ParameterGroup]:
        own = [p for f in self.functions.values() for p in (f.numerator, f.denominator)]
        known = {id(p) for p in own}
        rest = [
            {**group, "params": [p for p in group["params"] if id(p) not in known]}
            for group in groups
        ]
        coefficients = {
            "params": own,
            "lr": self.lr_rational,
            "weight_decay": self.decay_rational,
        }
        return [coefficients, *(group for group in rest if group["params"])]

    def report(self) -> dict[str, Any]:
        return {
            name: {
                "numerator": function.numerator.detach().tolist(),
                "denominator": function.denominator.detach().tolist(),
                "input_range": [round(x, 3) for x in function.seen.tolist()],
            }
            for name, function in self.functions.items()
        }

    def drawings(self) -> dict[str, bytes]:
        from methods.surgery.curves import draw

        curves = {
            name: (
                function.numerator.detach().double().cpu().numpy(),
                function.denominator.detach().double().cpu().numpy(),
            )
            for name, function in self.functions.items()
        }
        return {"activations.svg": draw(curves)}
