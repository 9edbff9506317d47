"""LoRA: low-rank updates W + (α/r) B A of frozen matrices, through peft.

Hu et al., ICLR 2022 (arXiv 2106.09685), authors' code microsoft/LoRA. Rank 8 and α 16 on queries
and values are that code's setting for RoBERTa on GLUE; peft's own default is α 8. ModernBERT has
one matrix for queries, keys and values: there the update is of all three. In T5's decoder the
attention to the encoder is updated too, as peft does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from methods.method import LearningRate, Method, Setting


@dataclass(kw_only=True)
class Lora(Method):
    """Add a low-rank pair to the targeted matrices of every layer; train these and the head.

    `targets`: query_value, attention (query, key, value) or all_linear (also the feed-forward
    pair). `dropout` acts on the input of A and draws from the stream that dropout draws from.
    """

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "Hu et al. 2022"
    trains: ClassVar[str] = "low-rank updates of queries and values; `targets=`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})

    lr: LearningRate = 1e-3
    rank: Annotated[int, Ge(1)] = 8
    alpha: Annotated[float, Gt(0)] = 16
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    targets: Literal["query_value", "attention", "all_linear"] = "query_value"

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    def prepare(self, model: Any, setting: Setting) -> None:
        from peft import LoraConfig, TaskType

        from methods.surgery import tuners

        wanted = ["query", "value"] if self.targets == "query_value" else ["query", "key", "value"]
        targets = tuners.matrices(model, "lora", wanted, self.targets == "all_linear")
        self.config = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=tuners.inside_layers(targets),
        )
        tuners.inject(model, self.config, setting)

    def peft_config(self) -> Any:
        return self.config
