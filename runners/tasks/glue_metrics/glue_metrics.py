"""GLUE's metrics under their official names, as an evaluate module that needs no download.

evaluate.load("runners/tasks/glue_metrics", "mrpc") works from the repository's root; scikit-learn
and scipy do the arithmetic. Unlike the hub's module it also defines the values that arithmetic
leaves open: a correlation with a constant side is 0, and `undefined` says that it was.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from runners.tasks.glue_metrics.values import CORRELATIONS, KNOWN, score

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


class GlueMetrics(evaluate.Metric):  # type: ignore[misc]
    """The evaluate module: config_name is a GLUE task or one metric's name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _OF_TASK and self.config_name not in KNOWN:
            raise ValueError(
                f"config_name {self.config_name!r} is unknown; known: {[*_OF_TASK, *KNOWN]}"
            )
        kind = "float32" if set(self._names()) & set(CORRELATIONS) else "int64"
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
