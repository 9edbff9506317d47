"""What the schema and the data must know of each kind of task: one row a kind.

How a kind is encoded, trained and scored stands in its own file of runners/tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LABEL_METRICS = frozenset({"accuracy", "f1", "macro_f1", "matthews_correlation"})
CORRELATIONS = frozenset({"pearson", "spearmanr"})
Head = Literal["none", "texts", "tokens"]


@dataclass(frozen=True)
class KindFacts:
    """A kind's row.

    `metrics` are those that suit it. `answer` is what an example is answered with: a class of the
    task's labels, a score in the task's range, one of the example's own options, whose names are
    the labels, the tokens that were masked in it, or what several tasks answer with. A kind of
    `vectors` compares vectors of sentences: its sets are scored pairs, its model has no head, and
    it trains on other text through a method that makes vectors.
    """

    metrics: frozenset[str]
    answer: Literal["class", "score", "option", "token", "several"]
    vectors: bool = False

    @property
    def head(self) -> Head:
        """What stands on the encoder: nothing, a head drawn anew, or one that predicts tokens."""
        return "none" if self.vectors else "tokens" if self.answer == "token" else "texts"


KINDS = {
    "classification": KindFacts(LABEL_METRICS, "class"),
    "regression": KindFacts(CORRELATIONS, "score"),
    "multiple_choice": KindFacts(frozenset({"accuracy"}), "option"),
    "similarity": KindFacts(CORRELATIONS | {"spearmanr_subsets"}, "score", vectors=True),
    "masked_lm": KindFacts(frozenset({"accuracy"}), "token"),
    "multitask": KindFacts(LABEL_METRICS | CORRELATIONS, "several"),
}
