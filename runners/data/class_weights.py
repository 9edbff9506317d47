"""What each class counts for in the loss of a run."""

from __future__ import annotations

from collections import Counter

from runners.config.task import Task
from runners.data.split import Split


def class_weights(task: Task, train: Split) -> list[float] | None:
    """Return a weight for each label, in the order of task.labels; None where all count alike.

    Balanced ones are n / (classes · n_c), of the n rows that are trained on and the n_c of a class
    among them, as scikit-learn's compute_class_weight has it.
    """
    weights = task.class_weights
    if weights is None or train.labels is None:
        return None
    if isinstance(weights, dict):
        return [weights[label] for label in task.labels]
    if isinstance(weights, list):
        return weights
    counts = Counter(train.labels)
    return [len(train) / (len(task.labels) * counts[i]) for i in range(len(task.labels))]
