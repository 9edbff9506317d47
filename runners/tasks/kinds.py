"""The kinds of task by name."""

from __future__ import annotations

from collections.abc import Callable

from results.errors import UserError
from runners.config.check import RunConfig
from runners.jobs.job import Job
from runners.models.pretrained import Loaded, count_embeddings
from runners.tasks.classification import Classification
from runners.tasks.kind import Encoded, Kind
from runners.tasks.masked_lm import MaskedLM
from runners.tasks.multiple_choice import MultipleChoice
from runners.tasks.multitask import Multitask
from runners.tasks.regression import Regression
from runners.tasks.similarity import Similarity

KIND_CLASSES: dict[str, Callable[[RunConfig], Kind]] = {
    "classification": Classification,
    "multitask": Multitask,
    "regression": Regression,
    "multiple_choice": MultipleChoice,
    "similarity": Similarity,
    "masked_lm": MaskedLM,
}


def kind_of(config: RunConfig) -> Kind:
    """Return what a run's task needs of its kind."""
    return KIND_CLASSES[config.settings.task.kind](config)


def encode(kind: Kind, job: Job, loaded: Loaded) -> Encoded:
    """Tokenise every split, or take the tokens from the cache; the methods have been prepared."""
    encoded = kind.encode(job, loaded.tokenizer)
    every_id = [ids for collate in encoded.values() for ids in collate.token_ids if len(ids)]
    highest = max((int(ids.max()) for ids in every_id), default=0)
    rows = count_embeddings(loaded.model)
    if highest >= rows:
        raise UserError(
            f"model {job.weights.name_or_path}: its tokenizer gives token ids up to {highest}, its"
            f" embedding has {rows} rows; the two do not belong together"
        )
    return encoded
