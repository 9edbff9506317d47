"""SimCSE: contrastive sentence vectors, with dropout or entailment as the only augmentation.

Gao, Yao and Chen, EMNLP 2021 (arXiv 2104.08821). `mode=unsupervised`: the same sentence passes
twice, under two dropout masks, and must find itself among the batch. `mode=supervised`: a premise
must find what it entails, among all of the batch's entailed sentences and contradictions
(`hard_negatives=false` leaves contradictions out and trains on every entailment pair). The loss is
cross-entropy over cosines divided by `temperature`.

The vector is the first token's last state through a linear layer and tanh; as in the authors' code,
unsupervised training drops that layer afterwards (`keep_head=auto`), supervised training keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from methods.method import Batch, Folded, LearningRate, Output, Setting, TrainingText
from methods.surgery.representation import (
    COLUMNS,
    Mode,
    Representation,
    add_projection,
    contrastive_text,
    fold_projection,
)
from results.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Simcse(Representation):
    """Pull two views of a sentence together, and apart from the rest of the batch."""

    name: ClassVar[str] = "simcse"
    paper: ClassVar[str] = "Gao et al. 2021"
    trains: ClassVar[str] = "sentence vectors, contrastively; `mode=` unsupervised, supervised"
    hinders_capture: ClassVar[str] = "its templates are as wide as a batch's sentences are long"

    mode: Mode = "unsupervised"
    temperature: Annotated[float, Gt(0)] = 0.05
    train_length: Annotated[int, Ge(1)] = 32  # a sentence's tokens in training
    hard_negatives: bool = True
    keep_head: Literal["auto"] | bool = "auto"
    lr: LearningRate = 3e-5
    pooling: Literal["cls", "mean"] = "cls"

    @property
    def unread(self) -> Mapping[str, str]:
        return {"hard_negatives": "mode=unsupervised"} if self.mode == "unsupervised" else {}

    def say_alike(self) -> None:
        if self.keep_head == (self.mode == "supervised"):
            self.keep_head = "auto"

    @property
    def training_text(self) -> TrainingText:
        return contrastive_text(self.mode, self.hard_negatives)

    @property
    def training_length(self) -> int:
        return max(1, self.train_length - self.around)

    @property
    def around(self) -> int:
        return self.wrapper.length

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import sentences

        self.wrapper = sentences.bare(setting.tokenizer)
        if self.pooling == "cls":
            sentences.check_class_token(self.wrapper, model, "simcse")
        self.beside, self.checked = setting.methods, False
        head = sentences.Projection(int(model.config.hidden_size), setting.generator)
        self.keeps_head = add_projection(model, head, self.mode, self.keep_head)
        self.pad: int = setting.tokenizer.pad_token_id

    def fold(self, model: torch.nn.Module) -> Folded:
        return fold_projection(model, self.keeps_head)

    def _pooled(self, model: Any, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        from methods.embedding import mean_of
        from methods.surgery import sentences

        wrapped = sentences.wrap(ids, lengths, self.wrapper, self.pad)
        last: torch.Tensor = sentences.states_of(model, wrapped).last_hidden_state
        return last[:, 0] if self.pooling == "cls" else mean_of(last, wrapped.attention)

    def objective(self, model: Any, batch: Batch) -> Output:
        from methods.surgery.sentences import contrastive

        ids, lengths = batch["input_ids"], batch["attention_mask"].sum(dim=1)
        if self.mode == "unsupervised":
            ids, lengths = ids.repeat(2, 1), lengths.repeat(2)
        pooled = self._pooled(model, ids, lengths)
        vectors = model.projection(pooled).chunk(max(2, COLUMNS[self.training_text]))
        unchecked, self.checked = not self.checked, True  # once, as looking waits for the device
        if self.mode == "unsupervised" and unchecked and vectors[0].equal(vectors[1]):
            raise UserError(
                f"method=[{','.join(self.beside)}]: the two passes of a sentence are equal, as"
                " dropout is off; set budget.dropout=0.1, let no other method switch it off, or use"
                " mode=supervised"
            )
        return Output(*contrastive(vectors[0], vectors[1], self.temperature, *vectors[2:]))

    def vectors(self, model: Any, batch: Batch) -> torch.Tensor:
        vectors = self._pooled(model, batch["input_ids"], batch["attention_mask"].sum(dim=1))
        if self.keeps_head:
            projected: torch.Tensor = model.projection(vectors)
            return projected
        return vectors

    def exported_pooling(self) -> str | None:
        return None if self.keeps_head else self.pooling
