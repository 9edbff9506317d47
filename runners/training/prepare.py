"""Makes a job ready for its first step."""

from __future__ import annotations

from dataclasses import dataclass

from accelerate import Accelerator

from runners.jobs.job import Job
from runners.machine.console import say
from runners.models.pretrained import Loaded
from runners.speed.padding_mask import use_padding_mask
from runners.speed.repeat import MULTIPLE, repeats_on
from runners.tasks.kind import Encoded, Kind
from runners.tasks.kinds import encode, kind_of
from runners.training.loop import Loop
from runners.training.mixed_order import steps_order
from runners.training.schedule import total_steps
from runners.training.start import build_model


@dataclass(frozen=True)
class Prepared:
    """A job with its model: what is trained (`loop`), and what scores it (`kind`, `encoded`)."""

    loop: Loop
    kind: Kind
    encoded: Encoded
    loaded: Loaded


def prepare(
    job: Job, accelerator: Accelerator, *, anew: bool = True, batches: int | None = None
) -> Prepared:
    """Load, tokenise, let the methods prepare; return the loop before its first step.

    A run that goes on (`anew` false) loads what its methods saw of the training batches instead;
    with `batches`, they see only so many.
    """
    config, budget = job.config, job.config.settings.budget
    order = steps_order(config.settings, job.data.train)
    steps, sizes = total_steps(budget, order), (len(job.data.train), budget.batch_size)
    for method in config.methods:
        for warning in method.data_known(*sizes, steps, order.steps_per_epoch):
            say(warning)
    loaded = build_model(job, steps)
    kind = kind_of(config)
    encoded = encode(kind, job, loaded)
    loaded.model.to(accelerator.device)
    if repeats_on(str(accelerator.device)):
        encoded = {name: collate.padded_to(MULTIPLE) for name, collate in encoded.items()}
        use_padding_mask(loaded.model)
    loop = Loop(loaded.model, config, kind, encoded["train"], accelerator)
    if anew:
        loop.prepare_methods(batches)
    return Prepared(loop, kind, encoded, loaded)
