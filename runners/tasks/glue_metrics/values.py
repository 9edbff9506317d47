"""GLUE's metrics under their official names: scikit-learn and scipy do the arithmetic.

Apart from the evaluate module of these, whose library takes seconds to import, and a run needs none
of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CORRELATIONS = ("pearson", "spearmanr")
KNOWN = ("accuracy", "f1", "macro_f1", "matthews_correlation", *CORRELATIONS)


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
        elif name in CORRELATIONS:
            correlate = scipy.stats.pearsonr if name == "pearson" else scipy.stats.spearmanr
            value = 0.0 if constant else correlate(predicted, gold)[0]
        else:
            raise ValueError(f"no metric called {name!r}; known: {', '.join(KNOWN)}")
        values[name] = float(value)
    lacking = not np.any((predicted == positive) | (gold == positive))
    undefined = {*CORRELATIONS, "matthews_correlation"} if constant else set[str]()
    undefined |= {"f1"} if lacking else set()
    return values, [name for name in names if name in undefined]
