"""Lists the rows that a run answers worst."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from results.pages.report.answers import Answers
from results.pages.report.parts import heading, soft, table
from results.pages.report.texts import Texts
from results.stats.calibration import log_softmax
from results.stats.resampling import Floats

ROWS = 20


def worst_section(answers: Answers, logits: NDArray[np.float32] | None, texts: Texts) -> str:
    """Return the worst rows of a split with gold answers; `texts` says where they lie."""
    if answers.of_vectors:
        heads, order, columns, note = _cosines(answers)
    elif not answers.of_classes:
        heads, order, columns, note = _scores(answers)
    elif logits is not None:
        heads, order, columns, note = _losses(answers, logits)
    else:
        heads, order, columns, note = _wrong(answers)
    if not len(order):
        return heading("Worst rows", 3) + soft("No row is answered wrongly.")
    body = [
        [f"{i + 1}", *(column[k] for column in columns), *texts.of(i)]
        for k, i in enumerate(order.tolist())
    ]
    shown = table(["row", *heads, *texts.heads], body)
    return heading("Worst rows", 3) + shown + soft(f"{note} {texts.said}")


Columns = tuple[list[str], NDArray[np.int64], list[list[str]], str]


def largest(values: Floats) -> NDArray[np.int64]:
    """Return the places of the largest values, the largest first; of equal ones, the first."""
    return np.argsort(-values, kind="stable")[:ROWS]


def _scores(answers: Answers) -> Columns:
    error = answers.predictions - answers.gold
    order = largest(np.abs(error))
    columns = [_numbers(values, order) for values in (answers.gold, answers.predictions, error)]
    note = "Those whose prediction is farthest from the reference."
    return ["reference", "prediction", "error"], order, columns, note


def _cosines(answers: Answers) -> Columns:
    """Return the pairs whose cosine ranks farthest from where the human score does."""
    cosine, gold = (_shares(values) for values in (answers.predictions, answers.gold))
    order = largest(np.abs(cosine - gold))
    columns = [_numbers(values, order) for values in (answers.gold, answers.predictions)]
    columns += [[f"{100 * v:.0f} %" for v in values[order]] for values in (gold, cosine)]
    note = (
        "Those whose cosine ranks farthest from where the score does; a rank of 100 % is the top."
    )
    return ["score", "cosine", "rank of the score", "of the cosine"], order, columns, note


def _shares(values: Floats) -> Floats:
    """Return each value's middle rank, from 0 to 1."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(ranks[place] / max(1, len(values) - 1), np.float64)


def _losses(answers: Answers, logits: NDArray[np.float32]) -> Columns:
    logs = log_softmax(logits)
    gold, said = answers.gold.astype(np.int64), answers.predictions.astype(np.int64)
    rows = np.arange(len(gold))
    loss = -logs[rows, gold]
    order = largest(loss)
    shares = [np.exp(logs[rows, places])[order] for places in (gold, said)]
    columns = [*_labels(answers, order), [f"{x:.3f}" for x in loss[order]]]
    columns += [[f"{100 * x:.1f} %" for x in share] for share in shares]
    heads = ["reference", "answer", "loss", "p(reference)", "p(answer)"]
    return heads, order, columns, "Those with the largest loss on the right label, in nats."


def _wrong(answers: Answers) -> Columns:
    wrong = np.flatnonzero(answers.predictions != answers.gold)
    order = wrong[:ROWS]
    note = f"The first of {len(wrong):,} that are answered wrongly"
    note += "; which are worst, logits would tell." if answers.may_keep_logits else "."
    return ["reference", "answer"], order, _labels(answers, order), note


def _labels(answers: Answers, order: NDArray[np.int64]) -> list[list[str]]:
    sides: Sequence[Floats] = (answers.gold, answers.predictions)
    return [[answers.label(value) for value in side[order].tolist()] for side in sides]


def _numbers(values: Floats, order: NDArray[np.int64]) -> list[str]:
    return [f"{value:.4g}".replace("-", "−") for value in values[order].tolist()]
