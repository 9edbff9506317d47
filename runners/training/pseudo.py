"""Labels rows by agreement over dropout passes of another run's model: self-training.

A row's label is the one that most passes answer, and their share is its agreement (self-consistency
of a classifier, by Monte-Carlo dropout, Gal and Ghahramani 2016, arXiv 1506.02142). Rows of enough
agreement are kept, and of each class as many as the rarest has: those most agreed on, then those of
the highest mean probability. No constant is a paper's.

Answers are kept in OUT/.pseudo, by a hash of all that they follow from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from results.errors import UserError
from results.whole import whole
from runners.config.task import Task
from runners.config.unlabelled import Pseudo
from runners.data.split import Split
from runners.jobs.identity import PSEUDO_VERSION
from runners.jobs.job import Job
from runners.machine.console import say
from runners.seeds import derive
from runners.training.teaching import load_teacher

FOLDER = ".pseudo"  # beside the records
ROWS = 64  # a batch: which rows share one decides what dropout draws, so it is no setting


@dataclass(frozen=True)
class Votes:
    """What a teacher's passes say of each row, [rows] each.

    `labels` are what most passes answer, `agreement` the share of these, and `probability` the mean
    over all passes of what the model gives that label.
    """

    labels: NDArray[np.int64]
    agreement: NDArray[np.float64]
    probability: NDArray[np.float64]


def pseudo_labelled(job: Job, accelerator: Accelerator) -> tuple[Split, dict[str, Any]]:
    """Return the rows that are kept with their labels, and what the record says of all."""
    offered, task = job.data.offered, job.config.settings.task
    assert offered is not None
    options = job.config.settings.data.pseudo
    votes = _votes(job, offered.texts_alone, accelerator)
    enough = votes.agreement >= options.threshold
    kept = chosen(votes, options, len(task.labels))
    facts = _counts(task, votes, enough, kept, offered.rows.labels)
    if not kept.any():
        agreed = {k: v - facts["below_threshold"][k] for k, v in facts["answered"].items()}
        listed = ", ".join(f"{label} {n:,}" for label, n in agreed.items())
        raise UserError(
            f"data.pseudo.threshold={options.threshold:g}: no row is kept; so many reach it:"
            f" {listed}; lower it, offer more rows, or type data.pseudo.balance=false"
        )
    texts = tuple(row for row, stays in zip(offered.rows.texts, kept, strict=True) if stays)
    rows = Split("train", texts, tuple(votes.labels[kept].tolist()))
    return rows, {**facts, "sha256": rows.sha256}


def chosen(votes: Votes, options: Pseudo, classes: int) -> NDArray[np.bool_]:
    """Return which rows are kept, [rows]."""
    enough = votes.agreement >= options.threshold
    if not options.balance:
        return enough
    fewest = min(int((enough & (votes.labels == label)).sum()) for label in range(classes))
    kept = np.zeros_like(enough)
    order = np.lexsort((-votes.probability, -votes.agreement))  # stable: then as they are offered
    for label in range(classes):
        own = [row for row in order if enough[row] and votes.labels[row] == label]
        kept[own[:fewest]] = True
    return kept


def _counts(
    task: Task,
    votes: Votes,
    enough: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    gold: Sequence[float] | None,
) -> dict[str, Any]:
    """Return how many rows of each label were kept and dropped, and how many labels are right."""

    def by_label(which: NDArray[np.bool_]) -> dict[str, int]:
        counts = np.bincount(votes.labels[which], minlength=len(task.labels))
        return dict(zip(task.labels, counts.tolist(), strict=True))

    facts: dict[str, Any] = {
        "answered": by_label(np.ones_like(enough)),
        "below_threshold": by_label(~enough),
        "left_out_by_balance": by_label(enough & ~kept),
        "rows": by_label(kept),
    }
    if gold is not None:
        right = votes.labels == np.asarray(gold)
        facts["accuracy"] = {"answered": _share(right)}
        if kept.any():
            facts["accuracy"]["rows"] = _share(right[kept])
            facts["accuracy"]["by_label"] = {
                name: _share(right[kept & (votes.labels == number)])
                for number, name in enumerate(task.labels)
                if (kept & (votes.labels == number)).any()
            }
    return facts


def _share(right: NDArray[np.bool_]) -> float:
    return float(f"{right.mean():.6g}")


def _votes(job: Job, rows: Split, accelerator: Accelerator) -> Votes:
    """Return a teacher's votes, from where they are kept or from its passes."""
    settings, teacher = job.config.settings, job.teacher
    assert teacher is not None
    passes, device = settings.data.pseudo.passes, accelerator.device.type
    parts = [PSEUDO_VERSION, teacher.run, teacher.sha256, rows.sha256, passes, settings.seed, ROWS]
    computed = [device, job.config.precision]
    key = hashlib.sha256(json.dumps([*parts, *computed]).encode()).hexdigest()
    path = Path(settings.out) / FOLDER / f"{key[:16]}.npz"
    if (kept := _read(path, len(rows))) is not None:
        return kept
    say(f"{teacher.run} labels {len(rows):,} rows, {passes} times each")
    votes = _counted(_passes(job, rows, accelerator))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **vars(votes))
    return votes


def _read(path: Path, rows: int) -> Votes | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            votes = Votes(stored["labels"], stored["agreement"], stored["probability"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return votes if all(len(values) == rows for values in vars(votes).values()) else None


def _passes(job: Job, rows: Split, accelerator: Accelerator) -> NDArray[np.float64]:
    """Return what each pass gives each label, [passes, rows, labels].

    Each pass draws from a stream of its own of the run's seed.
    """
    settings = job.config.settings
    passes = settings.data.pseudo.passes
    teacher = load_teacher(job, accelerator)
    check_dropout(teacher.model, passes)
    teacher.model.train()
    collate = teacher.tokenised(rows)
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    each = []
    with torch.random.fork_rng(devices):
        for number in range(passes):
            torch.manual_seed(derive(settings.seed, f"pseudo pass {number}"))
            each.append(teacher.probabilities(collate, ROWS))
    return np.stack(each)


def check_dropout(model: torch.nn.Module, passes: int) -> None:
    """Refuse several passes of a teacher whose passes all agree."""
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    if passes > 1 and not any(rates):
        raise UserError(
            f"data.pseudo.passes={passes}: the teacher has no dropout, so that all passes agree;"
            " type data.pseudo.passes=1, or name one with dropout"
        )


def _counted(shares: NDArray[np.float64]) -> Votes:
    """Return the votes of passes, [passes, rows, labels]; of two labels as frequent the first."""
    passes, rows, classes = shares.shape
    counts = np.stack([(shares.argmax(axis=2) == label).sum(axis=0) for label in range(classes)], 1)
    labels = counts.argmax(axis=1)
    of_label = (np.arange(rows), labels)
    return Votes(labels, counts[of_label] / passes, shares.mean(axis=0)[of_label])
