"""Builds the embedded data: seeded, no repeats, classes in turn, some of dev's words unseen."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from results.errors import UserError
from runners.config.task import Task
from runners.data.embedded import tastes
from runners.data.embedded.acceptability import cola
from runners.data.embedded.coreference import wnli
from runners.data.embedded.decisions import PARTS, component_splits
from runners.data.embedded.inference import mnli, rte
from runners.data.embedded.lexicon import Words
from runners.data.embedded.paraphrase import mrpc, qqp, stsb
from runners.data.embedded.questions import qnli
from runners.data.embedded.sentiment import sst2
from runners.data.split import Label, Split

VERSION = 1  # part of the seed: raising it makes other data


TRAIN_ROWS = {
    "sst2": 1200,
    "cola": 3000,
    "wnli": 1000,
}  # of the others 1,600; cola's sentences are short


DEV_ROWS = 400


UNSEEN = 0.5  # share of dev's content words that training never holds


_MAKERS: dict[str, Callable[[Words, int], Any]] = {
    "cola": cola,
    "sst2": sst2,
    "mrpc": mrpc,
    "qqp": qqp,
    "stsb": stsb,
    "mnli": mnli,
    "qnli": qnli,
    "rte": rte,
    "wnli": wnli,
}


# The official label order of each task, which the generators' numbers refer to.
_LABELS: dict[str, list[str]] = {
    "cola": ["unacceptable", "acceptable"],
    "sst2": ["negative", "positive"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qqp": ["not_duplicate", "duplicate"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
    "wnli": ["not_entailment", "entailment"],
    **{part: ["wrong", "right"] for part in PARTS},
    "tastes": list(tastes.LABELS),
}


_ATTRIBUTES = {"tastes": tastes.ATTRIBUTES}


_STSB_GRADES = 6
_HIGHEST = 5
_ONE_TEXT = ("cola", "sst2", "tastes")


EMBEDDED_SETS = ("STS-B",)  # of sentence similarity


def embedded_tasks() -> frozenset[str]:
    """Return the names of the tasks that have embedded data."""
    return frozenset({*_MAKERS, *PARTS, *_ATTRIBUTES})


def embedded_pairs(name: str) -> Split:
    """Return scored pairs for a set of sentence similarity, or for choosing by: halves of stsb's.

    The pairs come in two subsets.
    """
    _, report = _generated("stsb", ())
    half = dict(report)["validation"].take(
        range(DEV_ROWS // 2, DEV_ROWS) if name == "selection" else range(DEV_ROWS // 2)
    )
    return replace(half, name=name, subsets=tuple("ab"[i % 2] for i in range(len(half))))


def read_embedded(task: Task) -> tuple[Split, dict[str, Split]]:
    """Return train and report splits; the same example never occurs twice, in one or in two.

    A task of another shape than the one whose name it bears is a UserError.
    """
    _check_shape(task)
    train, report = _generated(task.name, tuple(task.labels), tuple(task.attributes))
    return train, dict(report)


def _check_shape(task: Task) -> None:
    """Refuse a task of a user's own to which the generated examples are no answers."""
    known = _LABELS.get(task.name, [])
    texts = 1 if task.name in _ONE_TEXT else 2
    shape = "class" if known else "score"
    if task.facts.answer != shape or task.facts.vectors:
        wrong = f"{'labels' if known else 'scores'}, and task.kind={task.kind}"
    elif lacking := [
        name for name in task.attributes if name not in _ATTRIBUTES.get(task.name, ())
    ]:
        wrong = f"no attribute {lacking[0]}"
    elif len(task.text) != texts:
        wrong = f"{texts} text columns, and task.text has {len(task.text)}"
    elif lacking := [label for label in known if label not in task.labels]:
        wrong = f"the labels {', '.join(known)}, and task.labels lacks {lacking[0]}"
    elif not known and task.range and not task.range[0] <= 0 < _HIGHEST <= task.range[1]:
        wrong = f"scores from 0 to {_HIGHEST}, and task.range={task.range}"
    else:
        return
    raise UserError(
        f"data=embedded: the generated data of {task.name} has {wrong}; give a task of your own"
        " another name and files, as data=local"
    )


@functools.cache
def _generated(
    task: str, labels: tuple[str, ...], attributes: tuple[str, ...] = ()
) -> tuple[Split, dict[str, Split]]:
    if task in PARTS:
        return component_splits(task, f"tunebench embedded {VERSION} cft", labels)
    if task == "tastes":
        return tastes.taste_splits(f"tunebench embedded {VERSION} tastes", labels, attributes)
    taken: set[tuple[str, ...]] = set()
    train = _split(task, labels, "train", TRAIN_ROWS.get(task, 1600), None, taken)
    unseen = {"validation": UNSEEN}
    if task == "mnli":  # mismatched and ax: every content word that has unseen ones is unseen
        unseen = {"validation_matched": UNSEEN, "validation_mismatched": 1.0, "ax": 1.0}
    return train, {
        name: _split(task, labels, name, DEV_ROWS, share, taken) for name, share in unseen.items()
    }


def _split(
    task: str,
    names: tuple[str, ...],
    name: str,
    rows: int,
    unseen: float | None,
    taken: set[tuple[str, ...]],
) -> Split:
    rng = random.Random(f"tunebench embedded {VERSION} {task} {name}")
    words = Words(rng, unseen)
    classes = _STSB_GRADES if task == "stsb" else len(_LABELS[task])
    texts: list[tuple[str, ...]] = []
    labels: list[Label] = []
    while len(texts) < rows:
        label: Label = len(texts) % classes
        text = _MAKERS[task](words, int(label))
        if task == "stsb":
            text, label = text
        else:
            label = names.index(_LABELS[task][int(label)])
        if text not in taken:
            taken.add(text)
            texts.append(text)
            labels.append(label)
    order = list(range(rows))
    rng.shuffle(order)
    return Split(name, tuple(texts[i] for i in order), tuple(labels[i] for i in order))
