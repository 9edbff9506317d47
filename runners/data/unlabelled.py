"""The rows of a task that a run is offered without their labels, for another run to label."""

from __future__ import annotations

import random

from results.errors import UserError
from runners.config.settings import Data, Protocol
from runners.config.task import Task
from runners.data.evaluated import Evaluated
from runners.data.split import Offered, Split, rows_beyond
from runners.seeds import derive


def offered_rows(
    train: Split, task: Task, data: Data, protocol: Protocol, seed: int, evaluated: Evaluated
) -> Offered | None:
    """Return the rows of train that a run's teacher is to label; None where all are trained on.

    Those whose texts are scored are not among them. None left is a UserError.
    """
    if (size := data.train_size) is None:
        return None
    own, balanced = data.train_seed(seed), data.balanced != "none"
    beyond = rows_beyond(train, size, own, task, balanced, protocol.rows or 0)
    if not len(beyond):
        raise UserError(
            f"data.pseudo labels rows beyond data.train_size={size}, and none of the {len(train):,}"
            f" of task={task.name} is left; train on fewer"
        )
    unseen = [i for i, texts in enumerate(beyond.texts) if not evaluated.has_row(texts)]
    if len(unseen) < (wanted := data.pseudo.pool or 1):
        raise UserError(
            f"data.pseudo.pool={data.pseudo.pool or 'null'}: of task={task.name} {len(unseen):,}"
            f" rows are left beyond data.train_size={size}, without the {len(beyond) - len(unseen)}"
            " that are scored; ask for fewer, or train on fewer"
        )
    left_out = len(beyond) - len(unseen)
    if data.pseudo.pool is not None:
        random.Random(derive(own, "pool")).shuffle(unseen)
        unseen = sorted(unseen[:wanted])
    return Offered(beyond.take(unseen), left_out)
