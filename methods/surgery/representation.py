"""What methods that make vectors of sentences share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from methods.method import Batch, Folded, Method, Output, Setting, TrainingText

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(kw_only=True)
class Representation(Method):
    """Turns raw sentences, ids without special tokens [B, L], into vectors [B, width].

    In training a batch holds its columns one after the other: with sentences [N, L], with pairs
    first all first sentences and then all second ones [2 N, L], with triplets [3 N, L].
    """

    represents: ClassVar[bool] = True
    owns: ClassVar[frozenset[str]] = frozenset({"loss", "head", "places"})
    changes_start: ClassVar[bool] = True

    anisotropy: float | None = field(default=None, init=False, repr=False)

    @property
    def training_length(self) -> int | None:
        """Tokens of a sentence in training; None: as many as fit."""
        return None

    @property
    def around(self) -> int:
        """Tokens that stand around a sentence."""
        raise NotImplementedError

    def text(self, sentence: str, training: bool) -> str:
        """Return a sentence as the tokenizer is given it."""
        return sentence

    def objective(self, model: Any, batch: Batch) -> Output:
        """Return the loss of a training batch, and the similarities it is made of."""
        raise NotImplementedError

    def vectors(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the vectors of a batch of sentences, [B, width], as they are compared."""
        raise NotImplementedError

    def exported_pooling(self) -> str | None:
        """Return the pooling by which sentence-transformers makes the same vectors, or None."""
        return None

    def seen(self, vectors: NDArray[np.float32]) -> None:
        """Take note of the vectors of all evaluated sentences, [n, width]."""
        import numpy as np

        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float64)
        n = len(unit)
        total = float(np.square(unit.sum(axis=0)).sum() - np.square(unit).sum())
        self.anisotropy = abs(total) / (n * n - n)

    def report(self) -> dict[str, Any]:
        return {} if self.anisotropy is None else {"anisotropy": round(self.anisotropy, 6)}


@dataclass(kw_only=True)
class Contrastive(Representation):
    """A representation that is trained to find its pair among a batch, through a head.

    `mode=unsupervised` trains on sentences; `mode=supervised` on what NLI's premises entail, with
    their contradictions as further negatives unless `hard_negatives` is false. `train_length` is a
    sentence's tokens in training. The head is dropped after unsupervised training (`keep_head`).
    """

    mode: Literal["unsupervised", "supervised"] = "unsupervised"
    temperature: Annotated[float, Gt(0)] = 0.05
    train_length: Annotated[int, Ge(1)] = 32
    hard_negatives: bool = True
    keep_head: Literal["auto"] | bool = "auto"

    @property
    def training_text(self) -> TrainingText:
        if self.mode == "unsupervised":
            return "sentences"
        return "triplets" if self.hard_negatives else "pairs"

    @property
    def columns(self) -> int:
        """Sentences of a training example."""
        return {"sentences": 1, "pairs": 2, "triplets": 3}[self.training_text]

    def add_head(self, model: Any, setting: Setting, head: torch.nn.Module) -> None:
        """Give the model the head `projection`; unless it is kept, it serves training only."""
        model.add_module("projection", head)
        supervised = self.mode == "supervised"
        self.keeps_head = supervised if self.keep_head == "auto" else self.keep_head
        self.pad: int = setting.tokenizer.pad_token_id

    def fold(self, model: torch.nn.Module) -> Folded:
        if self.keeps_head:
            return Folded()
        names = {n for n, _ in model.named_parameters() if n.startswith("projection.")}
        return Folded(frozenset(names))
