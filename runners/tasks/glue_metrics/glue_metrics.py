"""GLUE's metrics under their official names, as an evaluate module that needs no download.

evaluate.load("runners/tasks/glue_metrics", "mrpc") works from the repository's root; scikit-learn
and scipy do the arithmetic. Unlike the hub's module it also defines the values that arithmetic
leaves open: a correlation with a constant side is 0, and `undefined` says that it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

_OF_TASK = {
    "cola": ["matthews_correlation"],
    "sst2": ["accuracy"],
    "mrpc": ["accuracy", "f1"],
    "qqp": ["accuracy", "f1"],
    "stsb": ["pearson", "spearmanr"],
    "mnli": ["accuracy"],
    "mnli_matched": ["accuracy"],
    "mnli_mismatched": ["accuracy"],
    "qnli": ["accuracy"],
    "rte": ["accuracy"],
    "wnli": ["accuracy"],
    "ax": ["matthews_correlation"],
}


_CORRELATIONS = ("pearson", "spearmanr")


KNOWN = ("accuracy", "f1", "macro_f1", "matthews_correlation", *_CORRELATIONS)


def score(
    names: Sequence[str],
    predictions: Sequence[float],
    references: Sequence[float],
    positive: int = 1,
) -> tuple[dict[str, float], list[str]]:
    """Return each named metric as a fraction, and the names of those that were undefined.

    An undefined one is 0.

    Labels are class indices, `positive` the one whose F1 is meant; correlations take scores.
    """
    import scipy.stats
    import sklearn.metrics

    predicted, gold = np.asarray(predictions), np.asarray(references)
    if predicted.shape != gold.shape or predicted.ndim != 1 or not len(gold):
        raise ValueError(
            f"need as many predictions as references, got {predicted.shape} and {gold.shape}"
        )
    constant = bool(np.all(predicted == predicted[0]) or np.all(gold == gold[0]))
    values: dict[str, float] = {}
    for name in names:
        if name == "accuracy":
            value = sklearn.metrics.accuracy_score(gold, predicted)
        elif name == "f1":
            value = sklearn.metrics.f1_score(
                gold == positive, predicted == positive, zero_division=0.0
            )
        elif name == "macro_f1":
            value = sklearn.metrics.f1_score(gold, predicted, average="macro", zero_division=0.0)
        elif name == "matthews_correlation":
            value = sklearn.metrics.matthews_corrcoef(gold, predicted)
        elif name in _CORRELATIONS:
            correlate = scipy.stats.pearsonr if name == "pearson" else scipy.stats.spearmanr
            value = 0.0 if constant else correlate(predicted, gold)[0]
        else:
            raise ValueError(f"no metric called {name!r}; known: {', '.join(KNOWN)}")
        values[name] = float(value)
    undefined = [n for n in names if constant and n in (*_CORRELATIONS, "matthews_correlation")]
    return values, undefined


class GlueMetrics(evaluate.Metric):  # type: ignore[misc]
    """The evaluate module: config_name is a GLUE task or one metric's name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _OF_TASK and self.config_name not in KNOWN:
            raise ValueError(
                f"config_name {self.config_name!r} is unknown; known: {[*_OF_TASK, *KNOWN]}"
            )
        kind = "float32" if set(self._names()) & set(_CORRELATIONS) else "int64"
        return evaluate.MetricInfo(
            description="GLUE's metrics by their official names.",
            citation="Wang et al. 2019, GLUE, arXiv 1804.07461",
            inputs_description=(
                "predictions and references: class indices, or scores for correlations"
            ),
            features=datasets.Features(
                {"predictions": datasets.Value(kind), "references": datasets.Value(kind)}
            ),
            format="numpy",
        )

    def _names(self) -> list[str]:
        return _OF_TASK.get(self.config_name, [self.config_name])

    def _compute(self, predictions: Any, references: Any, positive: int = 1) -> dict[str, float]:
        return score(self._names(), predictions, references, positive)[0]
