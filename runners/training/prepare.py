"""Trains and scores one checked configuration, and fills in its record."""

from __future__ import annotations

import numpy as np
from accelerate import Accelerator

from runners.config.check import RunConfig
from runners.data.split import TaskData
from runners.models.build import apply_methods, load_pretrained
from runners.models.pretrained import Loaded
from runners.models.weights import Weights
from runners.tasks.collate import Collator
from runners.tasks.kinds import Collators, make_collators
from runners.training.loop import Loop
from runners.training.order import Order
from runners.training.schedule import total_steps


def prepare(
    config: RunConfig,
    data: TaskData,
    weights: Weights,
    accelerator: Accelerator,
    *,
    anew: bool = True,
    preparing: int | None = None,
) -> tuple[Loop, Collators, Loaded]:
    """Load, tokenise, let the methods prepare; return the loop before its first step.

    A run that goes on (`anew` false) loads what its methods saw of the training batches instead;
    with `preparing`, they see only so many.
    """
    settings, budget = config.settings, config.settings.budget
    loaded = load_pretrained(config, weights)
    alike = Order(settings.seed, np.ones(len(data.train), dtype=np.int64), budget.batch_size)
    loaded = apply_methods(config, loaded, weights, total_steps(budget, alike))
    collators = make_collators(config, data, loaded, weights)
    lengths = collators["train"].tokens.lengths
    order = Order(settings.seed, lengths, budget.batch_size, budget.length_bucket, budget.buckets)
    loaded.model.to(accelerator.device)
    loop = Loop(
        loaded.model,
        config.methods,
        collators["train"],
        order,
        budget,
        config.lr,
        settings.optimizer,
        accelerator,
        settings.speed.prefetch,
        settings.speed.release_memory,
    )
    if anew:
        loop.prepare_methods(preparing)
    return loop, collators, loaded


def trim_vocabulary(loop: Loop, collators: Collators) -> None:
    """Leave out the word embedding's rows that no split asks for, where that changes nothing."""
    plain = [c for c in collators.values() if isinstance(c, Collator)]
    if len(plain) == len(collators):
        loop.trim_vocabulary([c.tokens.input_ids for c in plain], plain[0].pad_id)
