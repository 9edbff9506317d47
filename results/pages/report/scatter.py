"""Draws predicted scores against references, with their correlations."""

from __future__ import annotations

import math

import numpy as np

from results.pages.report.answers import Answers
from results.pages.report.draw import axes, dots, framed, line, picture
from results.pages.report.parts import soft
from results.stats.resampling import METRICS, Floats

DRAWN = 2000  # dots


def scatter_section(answers: Answers) -> str:
    """Return the picture of a split's scores, and how far they go together."""
    said = correlations(answers.predictions, answers.gold)
    vectors = answers.of_vectors
    if not vectors:
        error = float(np.abs(answers.predictions - answers.gold).mean())
        said += f" The mean absolute error is {error:.4g}."
    every = max(1, math.ceil(len(answers.gold) / DRAWN))
    gold, predicted = (v[::every].tolist() for v in (answers.gold, answers.predictions))
    where = axes(gold, predicted) if vectors else axes([*gold, *predicted], [*gold, *predicted])
    if where is None:
        return soft("The scores are too large to be drawn. " + said)
    inside = dots(where, list(zip(gold, predicted, strict=True)), "k0 cloud")
    low, high = max(where.x.low, where.y.low), min(where.x.high, where.y.high)
    caption = f"One dot in {every} is drawn. " if every > 1 else ""
    if not vectors:
        inside = line(where, [(low, low), (high, high)], "equal") + inside
        caption += "On the line, both are equal."
    title = "Cosine against human score" if vectors else "Predicted against reference"
    across = "human score" if vectors else "reference"
    svg = picture(where, inside, f"{title}, {answers.split}", across)
    return framed(title, svg, caption) + soft(said)


def correlations(predictions: Floats, gold: Floats) -> str:
    """Return Pearson's and Spearman's correlation as a sentence; of constants there is none."""
    if len(gold) < 2:
        return "One row has no correlation."
    constant = [
        name
        for name, values in (("predictions", predictions), ("references", gold))
        if values.min() == values.max()
    ]
    if constant:
        return f"No correlation: all {' and all '.join(constant)} are equal."
    once = np.ones((1, len(gold)))
    pearson, spearman = (
        float(METRICS[name](predictions, gold, once, 1)[0]) for name in ("pearson", "spearmanr")
    )
    return f"Pearson's correlation is {pearson:.4f}, Spearman's {spearman:.4f}."
