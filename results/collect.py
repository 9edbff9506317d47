"""Groups records into tables that may be compared, and each table's runs into cells."""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from results.record import Record

TASK_ORDER = (
    *("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"),
    *("STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R"),
)


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

    def heading(self) -> str:
        """Return the table's heading in words."""
        source = (
            "EMBEDDED data (generated, not GLUE)"
            if self.source == "embedded"
            else f"{self.source} data"
        )
        what = "sentence vectors, Spearman · " if self.vectors else ""
        return (
            f"{self.model} · {what}{source} · budget {self.budget} · {self.precision} · protocol"
            f" {self.protocol}"
        )


@dataclass(frozen=True)
class Cell:
    """The runs of one method on one task: fractions; `asked` counts unfinished runs too.

    `seeds` belong to `scores`, one each.
    """

    scores: tuple[float, ...]
    asked: int
    train_seconds: float | None
    seeds: tuple[int, ...]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def sd(self) -> float | None:
        """The sample standard deviation over seeds; None for a single run."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


@dataclass(frozen=True)
class Row:
    """A method's line: its cells by task and what it trains."""

    method: str
    cells: dict[str, Cell]
    trainable_share: float | None
    trainable_share_without_head: float | None


@dataclass(frozen=True)
class Table:
    """Comparable runs: a row for each method and its options, a column for each task."""

    conditions: Conditions
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    marks: dict[str, str]
    devices: tuple[str, ...]


def conditions(record: Record) -> Conditions:
    """Return what a record must share with another to be compared with it."""
    budget = record.config["budget"]
    return Conditions(
        source=record.data["source"],
        model=record.model,
        weights=record.weights["sha256"],
        budget=describe_budget(budget),
        precision=record.config["precision"],
        protocol=record.protocol,
        selection=str(record.config["protocol"].get("fraction")),
        vectors=_makes_vectors(record),
    )


def _makes_vectors(record: Record) -> bool:
    task = record.config.get("task")
    return isinstance(task, dict) and task.get("kind") == "similarity"


def _by_set(record: Record) -> list[Record]:
    """Return a record of sentence vectors as one for each set; each bears its share of the time."""
    sets = [name for name in record.data["splits"] if name not in ("train", "selection")]
    seconds = record.train_seconds
    text = record.data.get("text")
    if text is not None:  # of which data.train_size may have drawn a part
        drawn = record.data["splits"].get("train", {}).get("rows", text["rows"])
        text = {**text, "rows": drawn}
    found = []
    for name in sets:
        values = list(record.scores.get(name, {}).values())
        found.append(
            dataclasses.replace(
                record,
                task=name,
                score=statistics.fmean(values) if values else None,
                data={
                    **record.data,
                    "splits": {name: record.data["splits"][name]},
                    "text": text,
                },
                train_seconds=None if seconds is None else seconds / len(sets),
            )
        )
    return found


def describe_budget(budget: dict[str, object]) -> str:
    """Return a budget's name and the numbers that define it."""
    length = (
        f"{budget['steps']} steps" if budget["steps"] is not None else f"{budget['epochs']} epochs"
    )
    text = (
        f"{budget['name']} ({length}, batch {budget['batch_size']}, {budget['max_length']} tokens,"
        f" {budget['schedule']} with warm-up {budget['warmup']:g}"
    )
    if budget["weight_decay"]:
        text += f", weight decay {budget['weight_decay']:g}"
    if budget["max_grad_norm"] != 1.0:
        text += f", clipping {budget['max_grad_norm']:g}"
    if budget["dropout"] is not None:
        text += f", dropout {budget['dropout']:g}"
    return text + ")"


def tables(records: Iterable[Record]) -> list[Table]:
    """Return one table for each set of equal conditions, in the order of their headings."""
    groups: dict[Conditions, list[Record]] = defaultdict(list)
    for record in records:
        groups[conditions(record)] += _by_set(record) if _makes_vectors(record) else [record]
    return [
        _table(key, groups[key]) for key in sorted(groups, key=lambda c: (c.heading(), c.weights))
    ]


def _column(record: Record) -> tuple[str, str]:
    """Return the task, and what tells its data apart: contents of the splits."""
    splits = record.data["splits"]
    return record.task, " ".join(
        f"{name}:{facts['sha256']}" for name, facts in sorted(splits.items())
    )


def _table(key: Conditions, records: Sequence[Record]) -> Table:
    # Two columns of one task (different subsets) never share a column: the later ones are numbered.
    columns = sorted({_column(r) for r in records}, key=lambda c: (_rank(c[0]), c))
    names: dict[tuple[str, str], str] = {}
    for column in columns:
        same = sum(1 for c in names if c[0] == column[0])
        names[column] = column[0] if not same else f"{column[0]}#{same + 1}"
    marks = {}
    for record in records:
        rows = {n: f["rows"] for n, f in record.data["splits"].items()}
        partial = [n for n, f in record.data["splits"].items() if f.get("complete") is False]
        if partial and key.source != "embedded":
            marks[names[_column(record)]] = "subset: " + ", ".join(f"{n} {rows[n]:,}" for n in rows)
    by_row: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    labels = _row_labels(records)
    for record in records:
        by_row[labels[record.run]][names[_column(record)]].append(record)
    rows_found = [
        _row(label, cells)
        for label, cells in sorted(by_row.items(), key=lambda kv: _method_rank(kv[0]))
    ]
    devices = tuple(sorted({_device(r) for r in records if r.environment.get("device")}))
    return Table(
        key, tuple(names.values()), tuple(rows_found), dict(sorted(marks.items())), devices
    )


def _rank(task: str) -> tuple[int, str]:
    return (TASK_ORDER.index(task) if task in TASK_ORDER else len(TASK_ORDER), task)


def _method_rank(label: str) -> tuple[int, str]:
    return (0 if label == "full" or label.startswith("full ") else 1, label)


def _row_labels(records: Sequence[Record]) -> dict[str, str]:
    """Name each record's row: its methods, and the options in which rows of one name differ."""
    detail: dict[str, list[str]] = {}
    for record in records:
        options = [
            f"{m['name']}.{k}={v}"
            for m in record.config["method"]
            for k, v in m.items()
            if k not in ("name",)
        ]
        optimizer = record.config.get("optimizer", {})
        options += [f"optimizer.{k}={v}" for k, v in optimizer.items() if k != "name"]
        text = record.data.get("text")
        options += [f"text={text['rows']} {text['kind']}"] if isinstance(text, dict) else []
        detail[record.run] = [f"lr={record.config['lr']:g}", *options]
    labels = {}
    for record in records:
        name = _row_name(record)
        same = [set(detail[r.run]) for r in records if _row_name(r) == name]
        shared = set.intersection(*same)
        differing = [d for d in detail[record.run] if d not in shared]
        labels[record.run] = name if not differing else f"{name} ({', '.join(differing)})"
    return labels


def _row_name(record: Record) -> str:
    """Return a record's methods, and its optimizer where it is not AdamW."""
    optimizer = record.config.get("optimizer", {}).get("name", "adamw")
    return "+".join(record.methods) + ("" if optimizer == "adamw" else f", {optimizer}")


def _row(label: str, by_task: dict[str, list[Record]]) -> Row:
    cells = {}
    for task, found in by_task.items():
        finished = [
            r
            for r in sorted(found, key=lambda r: r.seed)
            if r.status == "finished" and r.score is not None
        ]
        seconds = [r.train_seconds for r in finished if r.train_seconds is not None]
        cells[task] = Cell(
            tuple(r.score for r in finished if r.score is not None),
            len(found),
            statistics.fmean(seconds) if seconds else None,
            tuple(r.seed for r in finished),
        )
    counted = [r.parameters for found in by_task.values() for r in found if r.parameters]
    share = [100 * p["trainable"] / p["total"] for p in counted]
    bare = [100 * p["trainable_without_head"] / p["total"] for p in counted]
    return Row(
        label,
        cells,
        statistics.fmean(share) if share else None,
        statistics.fmean(bare) if bare else None,
    )


def _device(record: Record) -> str:
    facts = record.environment
    threads = f", {facts.get('threads')} thread(s)" if facts.get("device") == "cpu" else ""
    return f"{facts.get('device_name')}{threads}"
