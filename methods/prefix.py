"""Prefix-tuning: learned keys and values before those of every layer, through peft.

Li and Liang, ACL 2021 (arXiv 2101.00190); deep prompts of P-tuning v2 (arXiv 2110.07602). As in
peft, the prefix is a key-value cache: position ids of the real tokens are shifted by its length, so
that `length` fewer tokens fit. BERT, RoBERTa and ELECTRA take such a cache, others do not.
`projection=true` makes the prefix by an MLP while training; only its output is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from methods.method import Folded, LearningRate, Method, Setting
from results.errors import UserError


@dataclass(kw_only=True)
class Prefix(Method):
    """Prepend `length` learned key-value pairs in every layer; train these and the head."""

    name: ClassVar[str] = "prefix"
    paper: ClassVar[str] = "Li and Liang 2021"
    trains: ClassVar[str] = "10 keys and values in every layer; `length=`"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})
    leaves: ClassVar[str] = "leaves keys and values before those of every layer"
    changes_start: ClassVar[bool] = True  # a prefix takes attention, whatever it holds
    other_dropout: ClassVar[bool] = True

    lr: LearningRate = 1e-2
    length: Annotated[int, Ge(1)] = 10
    projection: bool = False
    projection_size: Annotated[int, Ge(1)] = 512

    @property
    def moves(self) -> frozenset[str]:
        return frozenset()

    @property
    def unread(self) -> Mapping[str, str]:
        return {} if self.projection else {"projection_size": "projection=false"}

    def prepare(self, model: Any, setting: Setting) -> None:
        from peft import PrefixTuningConfig, TaskType

        from methods.surgery import places, tuners

        kind = model.config.model_type
        if model.config.is_encoder_decoder:
            raise UserError(
                f"method=prefix: {kind} has an encoder and a decoder, and a prefix is of one stack"
                " of layers; use a BERT, RoBERTa or ELECTRA model, or method=lora"
            )
        if kind not in ("bert", "roberta", "xlm-roberta", "camembert", "electra"):
            raise UserError(
                f"method=prefix: a {kind} model takes no past keys and values; use a BERT, RoBERTa"
                " or ELECTRA model, or method=unipelt where it takes this one"
            )
        tuners.check_room(model, "prefix", self.length, setting)
        self.config = PrefixTuningConfig(
            task_type=TaskType.SEQ_CLS,
            num_virtual_tokens=self.length,
            token_dim=places.hidden_size(model),
            num_transformer_submodules=1,
            num_attention_heads=model.config.num_attention_heads,
            num_layers=model.config.num_hidden_layers,
            encoder_hidden_size=self.projection_size,
            prefix_projection=self.projection,
        )
        tuners.attach_prefix(model, self.config, setting)

    def fold(self, model: Any) -> Folded:
        return model.prompt_encoder.fold() if self.projection else Folded()

    def unfold(self, model: Any, tensors: dict[str, Any]) -> None:
        if self.projection:
            model.prompt_encoder.unfold(tensors)

    def peft_config(self) -> Any:
        return self.config
