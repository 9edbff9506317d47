"""What two scores must share to stand in one table, and the sentence for records that do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from results.errors import UserError
from results.record import Record

UNSAID = "2"  # the version of all records that do not say theirs


@dataclass(frozen=True)
class Conditions:
    """What must be equal for two scores to stand in one table; the order is that of the heading."""

    source: str
    model: str
    weights: str
    budget: str
    precision: str
    protocol: str
    selection: str
    vectors: bool  # cosines of sentence vectors, not labels or scores that were trained on
    masked: bool  # predictions of masked tokens, not answers to texts
    harness: str  # version of the loop, the batches and the metrics

    @property
    def data(self) -> str:
        """Where the data come from, in words."""
        embedded = self.source == "embedded"
        return "EMBEDDED data (generated, not GLUE)" if embedded else f"{self.source} data"

    def heading(self) -> str:
        """Return the table's heading in words."""
        what = "sentence vectors, Spearman · " if self.vectors else ""
        what += "masked tokens, accuracy · " if self.masked else ""
        return (
            f"{self.model} · {what}{self.data} · budget {self.budget} · {self.precision} · protocol"
            f" {self.protocol}" + ("" if self.harness == UNSAID else f" · harness {self.harness}")
        )


def conditions(record: Record) -> Conditions:
    """Return what a record must share with another to be compared with it."""
    budget, control = record.config["budget"], record.config.get("control") or {}
    if control.get("equal") == "updates":  # it is compared with runs of the budget without
        budget = {**budget, "steps": control["steps"]}
    return Conditions(
        source=record.data["source"],
        model=record.model,
        weights=record.weights["sha256"],
        budget=describe_budget(budget),
        precision=record.config["precision"],
        protocol=record.protocol,
        selection=str(record.config["protocol"].get("fraction")),
        vectors=makes_vectors(record),
        masked=predicts_tokens(record),
        harness=harness(record),
    )


def harness(record: Record) -> str:
    """Return the version of the code that decides scores, which is in a run's name too."""
    return str(record.environment.get("harness", UNSAID))


def makes_vectors(record: Record) -> bool:
    """Say whether a run's task has sets of scored pairs, which vectors of sentences are to rank."""
    task = record.config.get("task")
    return isinstance(task, dict) and bool(task.get("pairs"))


def predicts_tokens(record: Record) -> bool:
    """Say whether a run's task is to predict masked tokens, as is done before another task."""
    task = record.config.get("task")
    return isinstance(task, dict) and bool(task.get("mlm"))


def drawn(record: Record, split: str) -> str:
    """Return how the classes of a drawn split were chosen, in brackets; else nothing.

    Records from before there was a choice had all balanced, and do not say it of train.
    """
    task, data = record.config.get("task"), record.config.get("data")
    if not (isinstance(task, dict) and isinstance(data, dict)):
        return ""
    size = data.get({"train": "train_size", "selection": "none"}.get(split, "eval_size"))
    classes = bool(task.get("labels")) and not task.get("options")
    if size is None or not classes or (split == "train" and "balanced" not in data):
        return ""
    balanced = data.get("balanced", "all")
    even = balanced != "none" if split == "train" else balanced == "all"
    return " (classes balanced)" if even else " (drawn by chance)"


def describe_budget(budget: dict[str, object]) -> str:
    """Return a budget's name and the numbers that define it."""
    length = (
        f"{budget['steps']} steps" if budget["steps"] is not None else f"{budget['epochs']} epochs"
    )
    text = (
        f"{budget['name']} ({length}, batch {budget['batch_size']}, {budget['max_length']} tokens,"
        f" {budget['schedule']} with warm-up {budget['warmup']:g}"
    )
    if (buckets := budget.get("buckets", 16)) != 16:
        text += f", {buckets} length buckets"
    if (truncate := budget.get("truncate", "head")) != "head":
        text += f", the {str(truncate).replace('_', ' and ')} of long texts"
    if budget["weight_decay"]:
        text += f", weight decay {budget['weight_decay']:g}"
    if budget["max_grad_norm"] != 1.0:
        text += f", clipping {budget['max_grad_norm']:g}"
    if budget["dropout"] is not None:
        text += f", dropout {budget['dropout']:g}"
    return text + ")"


def refuse_mixed(records: Sequence[Record]) -> None:
    """Raise a UserError that says which records differ in what, unless one table can hold all."""
    each = [conditions(record) for record in records]
    if len(set(each)) < 2:
        return
    lines = []
    for part in fields(Conditions):
        counts = Counter(_shown(part.name, getattr(c, part.name)) for c in each)
        if len(counts) > 1:
            listed = "; ".join(f"{value}: {n}" for value, n in sorted(counts.items()))
            lines.append(f"  {part.name}: {listed}")
    raise UserError(
        f"{len(records)} records cannot stand in one table; they differ in",
        *lines,
        "add --split for a table of each, or choose some with --only, as in --only precision=bf16",
    )


def _shown(part: str, value: object) -> str:
    if part == "vectors":
        return "sentence vectors" if value else "labels"
    if part == "masked":
        return "masked tokens" if value else "whole texts"
    return str(value)[:12] if part == "weights" else str(value)


CHOICES = ("data", "model", "budget", "precision", "protocol", "task", "method", "seed", "harness")


def only(records: Sequence[Record], choices: Sequence[str]) -> list[Record]:
    """Return the records of which every KEY=VALUE is true; what is unknown is a UserError."""
    kept = list(records)
    for choice in choices:
        key, _, value = choice.partition("=")
        if key not in CHOICES or not value:
            raise UserError(
                f"--only {choice}: needs KEY=VALUE with KEY one of {', '.join(CHOICES)}"
            )
        there = sorted({_choice(record, key) for record in kept})
        kept = [record for record in kept if _choice(record, key) == value]
        if not kept:
            raise UserError(f"--only {choice}: no record; there is {', '.join(there) or 'none'}")
    return kept


def _choice(record: Record, key: str) -> str:
    if key == "data":
        return str(record.data["source"])
    if key == "precision":
        return str(record.config["precision"])
    if key == "harness":
        return harness(record)
    return "+".join(record.methods) if key == "method" else str(getattr(record, key))
