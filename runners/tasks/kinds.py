"""Chooses, by a task's kind, how it is tokenised and scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator

from runners.config.check import RunConfig
from runners.data.split import TaskData
from runners.models.pretrained import Loaded
from runners.models.weights import Weights
from runners.tasks.collate import Collator, SentenceCollator
from runners.tasks.labelled import Scoring, _collator
from runners.tasks.similarity import SimilarityScoring, make_sentence_collators

Collators = Mapping[str, Collator] | Mapping[str, SentenceCollator]


def make_collators(
    config: RunConfig, data: TaskData, loaded: Loaded, weights: Weights
) -> Collators:
    """Tokenise every split, or take the tokens from the cache; the methods have been prepared."""
    if config.settings.task.kind == "similarity":
        return make_sentence_collators(config, data, loaded.tokenizer, weights)
    length, regression = config.settings.budget.max_length, config.settings.task.kind
    return {
        name: _collator(split, loaded, weights, length, regression == "regression")
        for name, split in data.splits().items()
    }


def make_scoring(
    config: RunConfig, data: TaskData, collators: Any, accelerator: Accelerator
) -> Scoring | SimilarityScoring:
    """Return what scores a model on the splits of the run's task."""
    similar = config.settings.task.kind == "similarity"
    return (SimilarityScoring if similar else Scoring)(config, data, collators, accelerator)
