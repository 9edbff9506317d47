"""Attributes of an example, such as its author, injected through adapters.

Amplayo, Yoo and Lee, COLING 2022 (arXiv 2109.07953): adapters extended with a part that attributes
add regardless of the text and one that is joint with it, weights made of low-rank factors and sums
of Kronecker products, and mechanisms for several values and for sparse ones. That is all that could
be read: the paper's body, its constants and its code (the repository holds none) could not, so the
formulas here are this project's own, and no number is comparable with the paper's. The Kronecker
products are those of `compacter` (Karimi Mahabadi et al., NeurIPS 2021, arXiv 2106.04647).

An attribute has a table with a row of `dimension` numbers a value that train holds, and one for
unknown values; e is the sum over attributes of the mean over an example's values. In each adapter
A(h) = U φ(D h + b) + c:
- independent: b ← b + P e, the same for every token;
- joint: D ← D + Σ_i R_i ⊗ (s_i diag(Q_i e) t_i), n products of rank `rank`. The rule R is one for
  all layers, drawn from N(0, 1/n²), which keeps the scale of a sum over n² products.
P and Q are zero at first, so that the start is the adapter's. A value that train does not hold and
a cell without a value take the unknown row, which is trained as it replaces each attribute of an
example with probability `drop` in training. Tables and rule have no weight decay.

What it is to be compared with trains the same adapters: `inject=none` reads the text only, `text`
has values written in front of the text, `concat` has e concatenated to what the first layer of the
head reads, and `bias` has a number a value for each output, added to the logits. With a head of one
layer, as BERT's, concatenation too can only add to the logits, and differs in its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from methods.method import LearningRate, Method, Options, ParameterGroup, Setting
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Attributes(Method):
    """Insert adapters whose first matrix and bias depend on attributes; train these and the head.

    `size` is the adapters' bottleneck, `dimension` that of tables. `base` says whether the adapters
    are those of `adapter` or of `compacter`, at their defaults; with the latter or the joint part
    `n` must divide the size and the encoder's width.
    """

    name: ClassVar[str] = "attributes"
    paper: ClassVar[str] = "Amplayo et al. 2022, in a form of this project's own"
    trains: ClassVar[str] = "adapters that depend on attributes, tables; `inject=`, `parts=`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    needs: ClassVar[frozenset[str]] = frozenset({"attributes"})
    leaves: ClassVar[str] = "leaves adapters and tables that read attributes"
    of_whole_texts: ClassVar[str] = "reads attributes of whole texts"
    changes_start: ClassVar[bool] = True  # near the pretrained model, not at it
    narrow: ClassVar[Options] = {"size": 8}

    lr: LearningRate = 3e-4
    inject: Literal["adapter", "text", "concat", "bias", "none"] = "adapter"
    parts: Literal["both", "independent", "joint"] = "both"
    base: Literal["adapter", "compacter"] = "adapter"
    size: Annotated[int, Ge(1)] = 64
    dimension: Annotated[int, Ge(1)] = 64
    rank: Annotated[int, Ge(1)] = 4
    n: Annotated[int, Ge(1)] = 4
    drop: Annotated[float, Ge(0), Lt(1)] = 0.1
    std: Annotated[float, Gt(0)] = 0.02

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    @property
    def unread(self) -> Mapping[str, str]:
        joint = self.inject == "adapter" and self.parts != "independent"
        reads = {
            "parts": self.inject == "adapter",
            "dimension": self.inject in ("adapter", "concat"),
            "rank": joint,
            "n": joint or self.base == "compacter",
            "drop": self.inject not in ("none", "text"),
            "std": self.inject in ("adapter", "concat"),
        }
        beside = f"inject={self.inject}"
        beside += f" parts={self.parts}" if self.inject == "adapter" else ""
        return {option: beside for option, is_read in reads.items() if not is_read}

    def refuses(self, other: Method) -> str:
        if other.represents:
            return f"a task for {other.name} is of pairs of sentences and has no attributes"
        if other.per_example:
            return (
                f"{self.name} keeps which values train holds, which no noise of {other.name} hides"
            )
        if self.inject in ("concat", "bias") and other.of_classes:
            return (
                f"{other.name} fits a head of its own, which attributes.inject={self.inject} misses"
            )
        if self.inject in ("bias", "text") and other.model_head == "tokens":
            return (
                f"{other.name} lays out the texts and answers by words, of which"
                f" attributes.inject={self.inject} reaches none"
            )
        return ""

    @property
    def writes_text(self) -> bool:
        return self.inject == "text"

    def text_read(
        self, texts: tuple[str, ...], attributes: Mapping[str, Sequence[str]]
    ) -> tuple[str, ...]:
        if self.inject != "text":
            return texts
        said = [f"{name}: {', '.join(values)}" for name, values in attributes.items() if values]
        return (" . ".join([*said, texts[0]]), *texts[1:])

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places
        from methods.surgery.streams import Held, Streams

        width = places.hidden_size(model)
        self._check(width)
        self.known = {name: len(values) for name, values in setting.attributes.items()}
        self.undecayed: list[torch.nn.Parameter] = []
        self.base_method = self._base(width)
        self.base_method.prepare(model, setting)
        self.vector = Held()
        if self.inject == "adapter":
            self._extend(model, width, setting)
        elif self.inject in ("concat", "bias"):
            self._extend_head(model, setting)
        self.streams = Streams(setting.generator)
        model.register_forward_pre_hook(self._take, with_kwargs=True)

    def _check(self, width: int) -> None:
        joint = self.inject == "adapter" and self.parts != "independent"
        divides = not (self.size % self.n or width % self.n)
        if self.size > width:
            raise UserError(
                f"method.attributes.size={self.size}: a bottleneck is at most as wide as the"
                f" encoder's {width}"
            )
        if (joint or self.base == "compacter") and not divides:
            raise UserError(
                f"method.attributes.n={self.n} must divide the encoder's width {width} and"
                f" method.attributes.size={self.size}; choose them accordingly"
            )
        if self.base == "compacter" and width % self.size:
            raise UserError(
                f"method.attributes.size={self.size}: with base=compacter it must divide the"
                f" encoder's width {width}"
            )

    def _base(self, width: int) -> Method:
        from methods.adapter import Adapter
        from methods.compacter import Compacter

        if self.base == "adapter":
            return Adapter(size=self.size)
        return Compacter(n=self.n, reduction=width // self.size)

    def _tables(self, model: Any, width: int, std: float, setting: Setting) -> None:
        """Put the tables into the model, where they are `attr.tables`."""
        from methods.surgery.attribute_parts import Tables

        model.attr = Tables([*self.known.values()], width, std, setting.generator)
        self.undecayed += model.attr.parameters()

    def _extend(self, model: Any, width: int, setting: Setting) -> None:
        """Let each adapter depend on the attributes."""
        import torch

        from methods.surgery import attribute_parts as surgery
        from methods.surgery.bottleneck import Bottleneck

        n, stream = self.n, setting.generator
        adapters = [module for module in model.modules() if isinstance(module, Bottleneck)]
        self._tables(model, self.dimension, self.std, setting)
        rule = None
        if self.parts != "independent":
            rule = torch.nn.Parameter(torch.empty(n, n, n).normal_(std=1 / n, generator=stream))
            self.undecayed.append(rule)
        for adapter in adapters:
            independent = joint = None
            if self.parts != "joint":
                independent = surgery.zero_map(self.dimension, self.size)
            if rule is not None:
                sizes = (width, self.size)
                joint = surgery.Joint(rule, sizes, self.rank, self.dimension, stream)
            part = surgery.AttributePart(self.vector, independent, joint)
            surgery.add_to_bottleneck(adapter, part)

    def _extend_head(self, model: Any, setting: Setting) -> None:
        """Let the head read e: as inputs beside its first layer's, or as a bias of its last."""
        from methods.surgery import attribute_parts as surgery

        linears = surgery.head_linears(model)
        first, last = linears[0], linears[-1]
        if self.inject == "bias":
            self._tables(model, setting.num_labels, 0.0, setting)
            surgery.add_to_linear(last, self.vector, None)
            return
        self._tables(model, self.dimension, self.std, setting)
        model.attr.concat = surgery.zero_map(self.dimension, first.out_features)
        surgery.add_to_linear(first, self.vector, model.attr.concat.weight)

    def _take(self, model: Any, inputs: Any, named: dict[str, Any]) -> Any:
        """Take the numbers of values from what the model is given, and hold what they stand for."""
        from methods.surgery.attribute_parts import only_unknown

        rest = dict(named)
        numbers = rest.pop("attributes", None)
        if self.inject in ("none", "text"):
            return inputs, rest
        if numbers is None:
            raise UserError("method=attributes: the model was called without attributes")
        if model.training and not self.paused and self.drop:
            like = numbers[:, :, 0].float()
            numbers = only_unknown(numbers, self.streams.keep(like, 1 - self.drop))
        self.vector.value = model.attr(numbers)
        return inputs, rest

    def parameter_groups(
        self, model: torch.nn.Module, groups: list[ParameterGroup]
    ) -> list[ParameterGroup]:
        """Keep weight decay off the tables and the rule; their rates stay."""
        groups = self.base_method.parameter_groups(model, groups)
        apart = {id(parameter) for parameter in self.undecayed}
        split = []
        for group in groups:
            own = [p for p in group["params"] if id(p) not in apart]
            free = [p for p in group["params"] if id(p) in apart]
            split += [{**group, "params": own}] if own else []
            split += [{**group, "params": free, "weight_decay": 0.0}] if free else []
        return split

    def report(self) -> dict[str, Any]:
        """Return how many values are known, and what grows with them apart from what does not."""
        tables = sum(p.numel() for p in self.undecayed if p.ndim == 2)
        return {"known_values": self.known, "table_parameters": tables}

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
