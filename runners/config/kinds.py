"""What the schema and the data must know of each kind of task: one row a kind.

How a kind is encoded, trained and scored stands in its own file of runners/tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LABEL_METRICS = frozenset({"accuracy", "f1", "macro_f1", "matthews_correlation"})
CORRELATIONS = frozenset({"pearson", "spearmanr"})


@dataclass(frozen=True)
class KindFacts:
    """A kind's row.

    `metrics` are those that suit it. `answer` is what an example is answered with: a class of the
    task's labels, a score in the task's range, or one of the example's own options, whose names are
    the labels. A kind of `vectors` compares vectors of sentences: its sets are scored pairs, its
    model has no head, and it trains on other text through a method that makes vectors.
    """

    metrics: frozenset[str]
    answer: Literal["class", "score", "option"]
    vectors: bool = False


KINDS = {
    "classification": KindFacts(LABEL_METRICS, "class"),
    "regression": KindFacts(CORRELATIONS, "score"),
    "multiple_choice": KindFacts(frozenset({"accuracy"}), "option"),
    "similarity": KindFacts(CORRELATIONS | {"spearmanr_subsets"}, "score", vectors=True),
}
