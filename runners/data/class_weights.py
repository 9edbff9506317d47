"""What each class counts for in the loss of a run."""

from __future__ import annotations

from collections import Counter

from results.errors import UserError
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
    absent = [label for i, label in enumerate(task.labels) if not counts[i]]
    if absent:
        raise UserError(
            f"task.class_weights=balanced: no row of train is {', '.join(absent)}, which would"
            " count for infinitely much; give a number for each label"
        )
    return [len(train) / (len(task.labels) * counts[i]) for i in range(len(task.labels))]
