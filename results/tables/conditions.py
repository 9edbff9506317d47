"""What two scores must share to stand in one table, and the sentence for records that do not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from results.errors import UserError
from results.record import Record
from results.tables.leaves import HASH, apart, effective

UNSAID = "2"  # the version of all records that do not say theirs
CPU = "cpu"  # a device that headings do not name


@dataclass(frozen=True)
class Conditions:
    """What must be equal for two scores to stand in one table; the order is that of the heading.

    `settings` are all leaves of model, budget and protocol that can change a score, and hashes of
    the files. `device` is the kind of device: cpu, cuda or mps. `beside` says in words what of the
    settings tells this table from another of the same heading.
    """

    source: str
    model: str
    weights: str
    budget: str
    precision: str
    device: str
    protocol: str
    vectors: bool  # cosines of sentence vectors, not labels or scores that were trained on
    masked: bool  # predictions of masked tokens, not answers to texts
    harness: str  # version of the loop, the batches and the metrics
    settings: tuple[tuple[str, str], ...] = ()
    beside: str = field(default="", compare=False)

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
            f"{self.model} · {what}{self.data} · budget {self.budget} · {self.precision}"
            + ("" if self.device == CPU else f" · {self.device}")
            + f" · protocol {self.protocol}"
            + ("" if self.harness == UNSAID else f" · harness {self.harness}")
            + (f" · {self.beside}" if self.beside else "")
        )

    def leaves(self) -> dict[str, str]:
        """Return what a heading may pass over."""
        return {"weights.sha256": self.weights[:HASH], **dict(self.settings)}


def conditions(records: Sequence[Record]) -> list[Conditions]:
    """Return what each record must share with another to be compared with it.

    A run that failed before it knew its device is one of the device that all others of its
    conditions have, else of a CPU. A run that trained nothing is one of the budget of those that
    did, where there is one such and it reads texts alike. Equal headings of unlike conditions say
    what differs.
    """
    each = [_conditions(record) for record in records]
    devices: dict[Conditions, set[str]] = defaultdict(set)
    for one in each:
        devices[replace(one, device="")] |= {one.device} - {""}
    for i, one in enumerate(each):
        if not one.device:
            known = devices[one]
            each[i] = replace(one, device=known.pop() if len(known) == 1 else CPU)
            devices[one] = {each[i].device}
    each = _beside_trained(each, [is_untrained(record) for record in records])
    with_words = _set_apart(each)
    return [with_words[one] for one in each]


def _conditions(record: Record) -> Conditions:
    config = record.config
    budget, control = config["budget"], config.get("control") or {}
    if control.get("equal") == "updates":  # it is compared with runs of the budget without
        budget = {**budget, "steps": control["steps"]}
    return Conditions(
        source=record.data["source"],
        model=record.model,
        weights=record.weights["sha256"],
        budget=describe_budget(budget),
        precision=config["precision"],
        device=device_class(record),
        protocol=record.protocol,
        vectors=makes_vectors(record),
        masked=predicts_tokens(record),
        harness=harness(record),
        settings=tuple(sorted(_settings(record, budget).items())),
    )


def _beside_trained(each: Sequence[Conditions], untrained: Sequence[bool]) -> list[Conditions]:
    """Return each of several conditions, for what trained nothing those of the runs beside it."""
    trained: dict[Conditions, set[Conditions]] = defaultdict(set)
    for one, idle in zip(each, untrained, strict=True):
        if not idle:
            trained[_without_training(one)].add(one)
    result = []
    for one, idle in zip(each, untrained, strict=True):
        budgets = trained[_without_training(one)] if idle else set()
        result.append(next(iter(budgets)) if len(budgets) == 1 else one)
    return result


def _without_training(one: Conditions) -> Conditions:
    kept = tuple((key, value) for key, value in one.settings if key not in _OF_TRAINING)
    return replace(one, budget="", settings=kept)


def is_untrained(record: Record) -> bool:
    """Say whether a run scored the model as it was, by `budget.epochs=0`."""
    budget = record.config.get("budget") or {}
    return budget.get("steps") is None and budget.get("epochs") == 0


def _settings(record: Record, budget: dict[str, object]) -> dict[str, str]:
    config, weights = record.config, record.weights
    model = config.get("model")
    if isinstance(model, dict) and isinstance(untrained := model.get("untrained"), list):
        model = {**model, "untrained": sorted(map(str, untrained))}
    kept = effective(model, "model") | effective(config["protocol"], "protocol")
    kept |= effective(budget, "budget")
    if budget["steps"] is not None:
        kept.pop("budget.epochs", None)  # a budget of steps does not use it
    if record.protocol == "final":
        kept.pop("budget.evaluate", None)  # when the last weights count, looking changes nothing
    if config.get("data", {}).get("shots") is not None:  # which says how many rows select
        kept.pop("protocol.rows", None)
        kept.pop("protocol.fraction", None)
    elif (config["protocol"] or {}).get("rows") is not None:
        kept.pop("protocol.fraction", None)
    if files := weights.get("files_sha256"):
        kept["weights.files_sha256"] = str(files)[:HASH]
    if weights.get("unused_head") and not predicts_tokens(record):
        kept["weights.unused_head"] = "drawn"  # once a head of the files was kept
    if sides := _turned(weights.get("turned") or (), budget):
        kept["weights.turned"] = sides  # once the tokenizer's files said where to cut and pad
    return kept


def _turned(sides: Sequence[str], budget: Mapping[str, object]) -> str:
    """Return the sides of a tokenizer that a run did not follow and that decide what it reads."""
    decides = budget.get("truncate", "head") == "head"
    return ",".join(side for side in sides if side == "padding" or decides)


def _set_apart(each: Iterable[Conditions]) -> dict[Conditions, Conditions]:
    """Return each of several conditions with what tells it from others of the same heading."""
    by_heading: dict[str, list[Conditions]] = defaultdict(list)
    for one in dict.fromkeys(each):
        by_heading[one.heading()].append(one)
    with_words = {}
    for alike in by_heading.values():
        for one, differs in zip(alike, apart([one.leaves() for one in alike]), strict=True):
            words = ", ".join(f"{key}={value}" for key, value in sorted(differs.items()))
            with_words[one] = replace(one, beside=words)
    return with_words


def device_class(record: Record) -> str:
    """Return the kind of device that a run was on, or was to be; empty where nothing says it."""
    known = record.environment.get("device") or record.config.get("device") or "auto"
    kind = str(known).partition(":")[0]
    return "" if kind == "auto" else kind


def named_apart(record: Record) -> str:
    """Return a run's name and its kind of device: runs on two devices may bear one name."""
    return f"{record.run} {device_class(record)}".rstrip()


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
    if (shots := data.get("shots")) and split in ("train", "selection"):
        return f" ({shots} of each class{', others with each seed' * draws_by_seed(record)})"
    size = data.get({"train": "train_size", "selection": "none"}.get(split, "eval_size"))
    classes = bool(task.get("labels")) and not task.get("options")
    if size is None or not classes or (split == "train" and "balanced" not in data):
        return ""
    balanced = data.get("balanced", "all")
    even = balanced != "none" if split == "train" else balanced == "all"
    own = ", others with each seed" if split == "train" and draws_by_seed(record) else ""
    return f" (classes balanced{own})" if even else f" (drawn by chance{own})"


def draws_by_seed(record: Record) -> bool:
    """Say whether the rows that a run learned from were drawn by its own seed."""
    data = record.config.get("data")
    return isinstance(data, dict) and data.get("seed") == "seed"


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
    each = conditions(records)
    if len(set(each)) < 2:
        return
    lines = []
    for part in fields(Conditions):
        counts = Counter(_shown(part.name, getattr(c, part.name)) for c in each)
        if len(counts) > 1 and part.name not in ("settings", "beside"):
            lines.append(_counted(part.name, counts))
    differ = apart([dict(c.settings) for c in each])
    budgets = len({c.budget for c in each})
    for key in differ[0]:
        if budgets == 1 or key not in _IN_BUDGET:
            lines.append(_counted(key, Counter(one[key] for one in differ)))
    raise UserError(
        f"{len(records)} records cannot stand in one table; they differ in",
        *lines,
        "add --split for a table of each, or choose some with --only, as in --only precision=bf16",
    )


# What a budget's own words say.
_IN_BUDGET = {
    f"budget.{key}"
    for key in ("name", "epochs", "steps", "batch_size", "max_length", "schedule", "warmup",
                "buckets", "truncate", "weight_decay", "max_grad_norm", "dropout")
}  # fmt: skip


# What of a budget no run uses that trains nothing.
_OF_TRAINING = {
    f"budget.{key}"
    for key in ("name", "epochs", "steps", "batch_size", "length_bucket", "buckets", "schedule",
                "warmup", "weight_decay", "max_grad_norm", "dropout", "evaluate", "patience")
}  # fmt: skip


def _counted(what: str, counts: Counter[str]) -> str:
    return f"  {what}: " + "; ".join(f"{value}: {n}" for value, n in sorted(counts.items()))


def _shown(part: str, value: object) -> str:
    if part == "vectors":
        return "sentence vectors" if value else "labels"
    if part == "masked":
        return "masked tokens" if value else "whole texts"
    return str(value)[:HASH] if part == "weights" else str(value)


CHOICES = (
    *("data", "model", "budget", "precision", "device", "protocol"),
    *("task", "method", "seed", "harness"),
)


def only(records: Sequence[Record], choices: Sequence[str]) -> list[Record]:
    """Return the records that have one of the values chosen for each key, as in task=rte,mrpc.

    A key may be given several times. What is unknown is a UserError.
    """
    wanted: dict[str, list[str]] = {}
    for choice in choices:
        key, _, values = choice.partition("=")
        if key not in CHOICES or not all(values.split(",")):
            raise UserError(
                f"--only {choice}: needs KEY=VALUE or KEY=VALUE,VALUE with KEY one of"
                f" {', '.join(CHOICES)}"
            )
        wanted[key] = wanted.get(key, []) + values.split(",")
    kept = list(records)
    for key, chosen in wanted.items():
        own = [one.device for one in conditions(kept)] if key == "device" else []
        own = own or [_choice(record, key) for record in kept]
        there = sorted(set(own))
        for value in chosen:
            if value not in there:
                raise UserError(
                    f"--only {key}={value}: no record; there is {', '.join(there) or 'none'}"
                )
        kept = [record for record, one in zip(kept, own, strict=True) if one in chosen]
    return kept


def _choice(record: Record, key: str) -> str:
    if key == "data":
        return str(record.data["source"])
    if key == "precision":
        return str(record.config["precision"])
    if key == "harness":
        return harness(record)
    return "+".join(record.methods) if key == "method" else str(getattr(record, key))
