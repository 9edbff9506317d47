"""What methods that make vectors of sentences share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from methods.method import Batch, Folded, Method, Output, TrainingText

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


Mode = Literal["unsupervised", "supervised"]


COLUMNS: dict[TrainingText, int] = {"sentences": 1, "pairs": 2, "triplets": 3}


def contrastive_text(mode: Mode, hard_negatives: bool) -> TrainingText:
    """Return what finds its pair among a batch: a sentence, or what NLI's premises entail.

    With `hard_negatives` the premises' contradictions are there too.
    """
    if mode == "unsupervised":
        return "sentences"
    return "triplets" if hard_negatives else "pairs"


def add_projection(
    model: torch.nn.Module, head: torch.nn.Module, mode: Mode, keep: Literal["auto"] | bool
) -> bool:
    """Give the model the head `projection`; return whether it is kept after training.

    `keep=auto` drops it after unsupervised training.
    """
    model.add_module("projection", head)
    return mode == "supervised" if keep == "auto" else keep


def fold_projection(model: torch.nn.Module, kept: bool) -> Folded:
    """Say that the head `projection` need not be kept, unless it is."""
    if kept:
        return Folded()
    names = {n for n, _ in model.named_parameters() if n.startswith("projection.")}
    return Folded(frozenset(names))


@dataclass(kw_only=True)
class Representation(Method):
    """Turns raw sentences, ids without special tokens [B, L], into vectors [B, width].

    In training a batch holds its columns one after the other: with sentences [N, L], with pairs
    first all first sentences and then all second ones [2 N, L], with triplets [3 N, L].
    """

    represents: ClassVar[bool] = True
    owns: ClassVar[frozenset[str]] = frozenset({"loss", "criterion", "head", "places"})
    of_whole_texts: ClassVar[str] = "makes vectors of sentences"
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
