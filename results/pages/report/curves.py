"""Draws how a run went: its loss, its scores at each evaluation, its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from results.pages.report.answers import section
from results.pages.report.draw import LARGEST, Points, by_step, dots, framed, line, picture
from results.pages.report.parts import cut, grid, heading, soft
from results.record import Record

DRAWN = 500  # points of a line
PANELS = 12
LINES = 6  # in a panel
SELECTION = "selection"
PERPLEXITY = "perplexity"
EQUAL = 1e-9  # of scores that differ by rounding alone


def curves(record: Record) -> str:
    """Return the pictures of a run's course, and sentences on what is not drawn."""
    panels = course(record)
    pictures = [_loss(record.losses), *(_panel(n, lines) for n, lines in panels[:PANELS])]
    pictures += [_rate(record)]
    said = _remarks(record, len(panels))
    if not any(pictures) and not said:
        return ""
    return heading("Course") + grid(pictures) + "".join(said)


def _loss(losses: Sequence[float]) -> str:
    """Return the loss of each step, thin, and its mean over a fiftieth of the run."""
    where = by_step(len(losses), losses)
    if where is None:
        return ""
    over = max(1, len(losses) // 50)
    each, mean = thinned(losses), thinned(running(losses, over))
    inside = line(where, each, "thin" if over > 1 else "k0")
    inside += line(where, mean, "k0") if over > 1 else ""
    caption = f"Each step's, and the mean of {over}." if over > 1 else "Each step's."
    if len(losses) > DRAWN:
        caption = (
            f"Of every {math.ceil(len(losses) / DRAWN)} steps the first, and the mean of {over}."
        )
    return framed("Training loss", picture(where, inside, "training loss", "step"), caption)


def running(values: Sequence[float], over: int) -> list[float]:
    """Return at each place the mean of so many values up to it, or of all there are."""
    means, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - over] if i >= over else 0.0)
        means.append(total / min(i + 1, over))
    return means


def thinned(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return values by their step, counted from 1; of many, every so manyth."""
    every = math.ceil(len(values) / DRAWN)
    places = range(0, len(values), max(1, every))
    return [(float(i + 1), values[i]) for i in places]


def course(record: Record) -> list[tuple[str, dict[str, list[tuple[float, float]]]]]:
    """Return for each split its metrics' values by step, in percent but for the perplexity.

    A split that was evaluated once has no course. Entries that do not say so much are passed over.
    """
    by_split: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def note(split: str, metric: str, step: float, value: Any) -> None:
        number = _number(value)
        if number is not None:
            times = 1 if metric == PERPLEXITY else 100
            by_split.setdefault(split, {}).setdefault(metric, []).append((step, times * number))

    for split, measured in record.measured.items():
        for metric, value in measured.get("before", {}).items():
            note(split, metric, 0.0, value)
    for entry in record.evaluations:
        step = _number(entry.get("step"))
        if step is None:
            continue
        for metric, value in section(entry, SELECTION).items():
            note(SELECTION, metric, step, value)
        for part in ("scores", "measured"):
            for split in section(entry, part):
                for metric, value in section(entry, part, split).items():
                    note(split, metric, step, value)
    return [
        panel
        for split, metrics in by_split.items()
        for panel in _panels(split, {m: p for m, p in metrics.items() if len(p) > 1})
    ]


def _panels(
    split: str, metrics: Mapping[str, list[tuple[float, float]]]
) -> list[tuple[str, dict[str, list[tuple[float, float]]]]]:
    """Return a panel for what is in percent, and one for the perplexity."""
    percent = {m: p for m, p in metrics.items() if m != PERPLEXITY}
    rest = {m: p for m, p in metrics.items() if m == PERPLEXITY}
    return [(split, part) for part in (percent, rest) if part]


def _number(value: Any) -> float | None:
    """Return a number that can be drawn, else None."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good and abs(value) <= LARGEST / 100 else None


def _panel(split: str, metrics: Mapping[str, Points]) -> str:
    chosen = dict(list(metrics.items())[:LINES])
    every = [point for points in chosen.values() for point in points]
    where = by_step(max(x for x, _ in every), [y for _, y in every])
    if where is None:
        return ""
    inside = "".join(
        line(where, _few(points), f"k{n}") + dots(where, _few(points), f"k{n}")
        for n, points in enumerate(chosen.values())
    )
    title = f"{cut(split)}, perplexity" if PERPLEXITY in metrics else f"{cut(split)}, percent"
    left = len(metrics) - len(chosen)
    caption = f"{left} further metric(s) are not drawn." if left else ""
    names = [cut(name) for name in chosen]
    return framed(title, picture(where, inside, f"scores on {split}", "step"), caption, names)


def _few(points: Points) -> Points:
    return points[:: max(1, math.ceil(len(points) / DRAWN))]


def _rate(record: Record) -> str:
    """Return the learning rate of each step, where the record tells it."""
    budget, rate = section(record.config, "budget"), record.config.get("lr")
    optimizer = section(record.config, "optimizer").get("name", "adamw")
    steps = record.steps or 0
    planned = _planned(record, steps)
    known = optimizer in ("adamw", "adamw_nobc") and 1 < steps < LARGEST
    if not known or not isinstance(rate, int | float) or not record.losses:
        return ""
    every = max(1, steps // DRAWN)
    schedule, warmup = budget.get("schedule"), budget.get("warmup")
    if not isinstance(schedule, str) or not isinstance(warmup, int | float):
        return ""
    factors = [(s + 1, factor(schedule, warmup, planned, s)) for s in range(0, steps, every)]
    points = [(float(step), rate * share) for step, share in factors if share is not None]
    where = by_step(steps, [y for _, y in points])
    if where is None:
        return ""
    caption = f"{schedule}, as configured; parameters with rates of their own follow its shape."
    inside = line(where, points, "k0")
    return framed("Learning rate", picture(where, inside, "learning rate", "step"), caption)


def _planned(record: Record, steps: int) -> int:
    """Return the steps of a run's budget, which are more than were done where it was stopped."""
    planned = (record.stopped or {}).get("of")
    return planned if isinstance(planned, int) and steps < planned < LARGEST else steps


def factor(schedule: str, warmup: float, steps: int, step: int) -> float | None:
    """Return the rate over its highest at a step, counted from 0; None of an unknown schedule.

    As runners/training/schedule.py has it, which this floor does not know.
    """
    if not 0 <= warmup <= 1:
        return None
    if schedule == "slanted_triangular":
        top = math.floor(warmup * steps)
        share = step / top if step < top else 1 - (step - top) / max(1, steps - top)
        return (1 + max(0.0, share) * 31) / 32
    if schedule not in ("linear", "constant"):
        return None
    top = math.ceil(warmup * steps)
    if step < top:
        return step / max(1, top)
    return 1.0 if schedule == "constant" else max(0.0, (steps - step) / max(1, steps - top))


def _remarks(record: Record, panels: int) -> list[str]:
    """Return what the pictures do not say."""
    said = []
    if not record.losses:
        said.append("The record holds no losses of steps.")
    elif max(map(abs, record.losses)) > LARGEST:
        said.append("The losses are too large to be drawn.")
    if not panels and len(record.evaluations) == 1:
        more = "" if _vectors(record) else "; budget.evaluate=epoch gives its scores a course"
        said.append(f"It was evaluated once, at its end{more}.")
    if record.stopped is not None:
        at, of, why = (cut(record.stopped.get(key), 200) for key in ("step", "of", "why"))
        said.append(f"Training ended at step {at} of {of}: {why}.")
    if panels > PANELS:
        said.append(f"{panels - PANELS} further panels are not drawn.")
    if record.selected is not None:
        step, score = record.selected.get("step"), _number(record.selected.get("score"))
        if score is not None:
            said.append(
                f"The weights reported are those of step {cut(step)}, chosen by"
                f" {100 * score:.1f} on the selection split."
            )
    best = _number((record.best_on_dev or {}).get("score"))
    if best is not None and record.score is not None and best > record.score + EQUAL:
        said.append(
            f"Its best evaluation on the report splits had {100 * best:.1f} (step"
            f" {cut((record.best_on_dev or {}).get('step'))}). Papers print such a number; the"
            " score above is that of the weights that the protocol reports."
        )
    if record.resumed:
        steps = ", ".join(map(str, record.resumed[:20]))
        said.append(f"The run was killed and went on from step {steps}.")
    return [soft(one) for one in said]


def _vectors(record: Record) -> bool:
    """Say whether a run compares vectors, which are scored at its end only."""
    return bool(section(record.config, "task").get("pairs"))
