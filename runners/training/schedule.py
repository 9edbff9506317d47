"""How many steps a run has, when it is evaluated, and how its rate goes."""

from __future__ import annotations

import math
from collections.abc import Callable

from runners.config.settings import Budget
from runners.training.order import Order


def total_steps(budget: Budget, order: Order) -> int:
    """Return the number of optimizer steps of a run."""
    return budget.steps if budget.steps is not None else budget.epochs * order.steps_per_epoch


def evaluation_steps(budget: Budget, order: Order) -> list[int]:
    """Return the steps after which the model is evaluated; the last step is always among them."""
    last = total_steps(budget, order)
    if budget.evaluate == "end":
        return [last]
    every = order.steps_per_epoch if budget.evaluate == "epoch" else budget.evaluate
    return sorted({*range(every, last + 1, every), last})


# Howard and Ruder 2018 (arXiv 1801.06146), section 3.2: the highest rate over the lowest.
SLANT = 32


def learning_rate_factor(budget: Budget, steps: int) -> Callable[[int], float]:
    """Return the schedule: linear warm-up from 0, then linear decay to 0 or a constant 1.

    The slanted triangle of ULMFiT rises and falls between 1/32 and 1 instead.
    """
    if budget.schedule == "slanted_triangular":
        return lambda step: _slanted(step, steps, math.floor(budget.warmup * steps))
    warmup = math.ceil(budget.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        if budget.schedule == "constant":
            return 1.0
        return max(0.0, (steps - step) / max(1, steps - warmup))

    return factor


def idle_line(budget: Budget, factor: Callable[[int], float], steps: int) -> str | None:
    """Return a sentence where a schedule leaves no step a rate above 0; None where it does."""
    if any(factor(step) > 0 for step in range(steps)):
        return None
    return (
        f"budget.warmup={budget.warmup:g} of {steps} step{'s' * (steps != 1)}: no step has a rate"
        " above 0, so that nothing is trained; use budget.warmup=0"
    )


def _slanted(step: int, steps: int, cut: int) -> float:
    share = step / cut if step < cut else 1 - (step - cut) / max(1, steps - cut)
    return (1 + max(0.0, share) * (SLANT - 1)) / SLANT
