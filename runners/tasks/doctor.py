"""Looks at a run's data before it trains: answers, lengths, unknown tokens, empty texts, copies.

Tokens are those that the run reads anyway, so lengths and unknown tokens cost no second look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.data.split import Label, TaskData, count_copies
from runners.tasks.kind import Encoded, Kind, Reading

if TYPE_CHECKING:
    from runners.config.task import Task
    from runners.jobs.job import Job

UNKNOWN = 0.05  # of the tokens: a warning
TRUNCATED = 0.1  # of the examples: a warning
SHOWN_CLASSES = 6  # in a line

Facts = dict[str, Any]


@dataclass(frozen=True)
class Examination:
    """What was seen, ready for JSON: facts of each split by name, counts all, and warnings."""

    splits: dict[str, Facts]
    warnings: list[str]

    @property
    def facts(self) -> Facts:
        """Return what a record keeps."""
        return {"splits": self.splits, "warnings": self.warnings}

    def lines(self) -> list[str]:
        """Return a line a split, then the warnings."""
        return [f"DATA: {_line(*one)}" for one in self.splits.items()] + self.warning_lines()

    def warning_lines(self) -> list[str]:
        """Return the warnings alone."""
        return [f"DATA: WARNING: {warning}" for warning in self.warnings]


def readings_by_split(task: Task, data: TaskData, encoded: Encoded) -> list[Reading]:
    """Return the readings of a kind that encodes each split by itself, under its own name."""
    return [
        Reading(name, task.of_split(name)[0], split, encoded[name].token_columns, name == "train")
        for name, split in data.splits().items()
    ]


def examine(job: Job, kind: Kind, encoded: Encoded, tokenizer: Any) -> Examination:
    """Return what is to be known of a run's data before it trains on them."""
    data, max_length = job.data, job.config.settings.budget.max_length
    readings = kind.readings(data, encoded)
    unknown = _unknown(tokenizer)
    special = np.asarray([i for i in tokenizer.all_special_ids if i != unknown], dtype=np.int64)
    splits = {}
    for reading in readings:
        facts = {"rows": len(reading.split), **_answers(reading.task, reading.split.labels)}
        whole = data.whole_labels.get(reading.name)
        if whole is not None and len(whole) > len(reading.split):
            facts["drawn_from"] = {"rows": len(whole), **_answers(reading.task, whole)}
        facts |= _texts(reading, special, unknown)
        splits[reading.name] = facts
    return Examination(splits, [*_warnings(readings, splits, tokenizer, max_length)])


def _unknown(tokenizer: Any) -> int | None:
    """Return the token for what a vocabulary lacks; None where it has none of its own."""
    unknown, others = tokenizer.unk_token_id, ("cls", "sep", "bos", "eos", "pad", "mask")
    taken = {getattr(tokenizer, f"{name}_token_id", None) for name in others}
    return None if unknown is None or unknown in taken else int(unknown)


def _answers(task: Task, labels: Sequence[Label] | None) -> Facts:
    """Return the rows of each class and the most that one answer for all gets right, or a range."""
    if not labels:
        return {}
    if task.facts.answer == "score":
        scores = np.asarray(labels, dtype=np.float64)
        return {
            "lowest": float(scores.min()),
            "highest": float(scores.max()),
            "mean": float(f"{scores.mean():.6g}"),
        }
    if not task.labels:
        return {}
    counts = Counter(labels)
    classes = {name: counts[i] for i, name in enumerate(task.labels)}
    most = max(classes, key=lambda name: classes[name])
    share = float(f"{classes[most] / len(labels):.6g}")
    return {"classes": classes, "majority": {"answer": most, "accuracy": share}}


def _texts(reading: Reading, special: np.ndarray[Any, Any], unknown: int | None) -> Facts:
    """Return the counts that answers have no part in."""
    split, columns = reading.split, reading.columns
    counts = np.zeros(1 + max((int(i) for i in special), default=0), dtype=np.int64)
    for column in columns:
        if len(column.input_ids):
            counted = np.bincount(column.input_ids, minlength=len(counts))
            counts = counted + np.pad(counts, (0, max(0, len(counted) - len(counts))))
    facts = {
        "truncated": int(np.any([column.truncated for column in columns], axis=0).sum()),
        "tokens": int(counts.sum() - counts[special].sum()),
    }
    if unknown is not None:
        facts["unknown_tokens"] = int(counts[unknown]) if unknown < len(counts) else 0
    empty = sum(any(not str(text).strip() for text in texts) for texts in split.texts)
    facts |= {"empty": empty, "copies": count_copies(split)}
    facts |= {"options_alike": alike} if (alike := _alike(reading)) else {}
    return {**facts, "also_in_train": split.also_in_train} if split.also_in_train else facts


def _alike(reading: Reading) -> int:
    """Return in how many examples the limit took away all that told two options apart."""
    columns, first = reading.columns, len(reading.task.text)
    if reading.task.facts.answer != "option" or len(columns) < 2:  # or they are read in one text
        return 0
    count = 0
    for row in np.flatnonzero(np.any([column.truncated for column in columns], axis=0)):
        ends = [column.offsets[row : row + 2] for column in columns]
        read = {c.input_ids[a:b].tobytes() for c, (a, b) in zip(columns, ends, strict=True)}
        count += len(read) < len({*reading.split.texts[row][first:]})
    return count


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.1f} %"


def _line(name: str, facts: Facts) -> str:
    """Return what is to be read of a split."""
    whole = facts.get("drawn_from", {})
    rows = f"{facts['rows']:,}" + (f" of {whole['rows']:,}" if whole else "") + " rows"
    answers = _classes(name, facts, whole) if "classes" in facts else _scores(facts, whole)
    texts = f"cut at the limit {_share(facts['truncated'], facts['rows'])}"
    if "unknown_tokens" in facts:
        texts += f", unknown tokens {_share(facts['unknown_tokens'], facts['tokens'])}"
    texts += f", empty {facts['empty']:,}, copies {facts['copies']:,}"
    if "also_in_train" in facts:
        texts += f", in train {facts['also_in_train']:,}"
    return f"{name}: {rows}{answers}; {texts}"


def _classes(name: str, facts: Facts, whole: Facts) -> str:
    classes, most = facts["classes"], facts["majority"]
    if len(classes) > SHOWN_CLASSES:
        low, high = min(classes.values()), max(classes.values())
        shown = [f"{len(classes)} classes of {low:,} to {high:,}"]
    else:
        shown = []
        for label, count in classes.items():
            share = _share(count, facts["rows"])
            if whole:
                share += f", of all {_share(whole['classes'][label], whole['rows'])}"
            shown.append(f"{label or repr(label)} {count:,} ({share})")
    return f": {', '.join(shown)}; always {most['answer']}: {100 * most['accuracy']:.1f} % right"


def _scores(facts: Facts, whole: Facts) -> str:
    if "mean" not in facts:
        return ""
    of_all = f" (of all {whole['mean']:.2f})" if whole else ""
    return f": {facts['lowest']:g} to {facts['highest']:g}, mean {facts['mean']:.2f}{of_all}"


def _warnings(
    readings: Sequence[Reading], splits: dict[str, Facts], tokenizer: Any, max_length: int
) -> Iterator[str]:
    """Yield a sentence for each kind of trouble: where, how much, and what to do."""
    unknown = [
        f"{name} {_share(facts['unknown_tokens'], facts['tokens'])}"
        for name, facts in splits.items()
        if facts.get("unknown_tokens", 0) > UNKNOWN * facts["tokens"]
    ]
    if unknown:
        yield (
            f"tokens read as {tokenizer.unk_token}, unknown to the model: {', '.join(unknown)};"
            " take a model whose vocabulary has this language and script, by model.name_or_path="
        )
    yield from _cut_warnings(readings, splits, max_length)
    twice = [
        f"{facts['also_in_train']:,} of {facts['rows']:,} rows of {name}"
        for name, facts in splits.items()
        if facts.get("also_in_train")
    ]
    if twice:
        yield (
            f"trained on and scored too: {', '.join(twice)}; scores come out too high: take these"
            " rows out of train"
        )
    yield from _answer_warnings(readings, splits)


def _cut_warnings(
    readings: Sequence[Reading], splits: dict[str, Facts], max_length: int
) -> Iterator[str]:
    """Yield a sentence where the limit takes much away, or all that tells options apart."""
    cut = [
        f"{name} {_share(facts['truncated'], facts['rows'])}"
        for name, facts in splits.items()
        if facts["truncated"] > TRUNCATED * facts["rows"]
    ]
    if cut:
        one_text = all(len(reading.task.columns) == 1 for reading in readings)
        of_method = any(reading.task.facts.vectors for reading in readings)
        where = f"budget.max_length={max_length}" + (" or the method's own limit" * of_method)
        part = ", or choose the part that stays by budget.truncate=" if one_text else ""
        yield (
            f"texts cut at {where}: {', '.join(cut)}; give it more if the model reads more{part}"
        )
    alike = [
        f"{facts['options_alike']:,} of {facts['rows']:,} rows of {name}"
        for name, facts in splits.items()
        if facts.get("options_alike")
    ]
    if alike:
        yield (
            f"options read alike, as what differs is cut off at budget.max_length={max_length}:"
            f" {', '.join(alike)}; give it more, or shorten what stands before the options"
        )


def _answer_warnings(readings: Sequence[Reading], splits: dict[str, Facts]) -> Iterator[str]:
    """Yield a sentence for each answer that cannot be learnt, and for sets with one answer."""
    for reading in readings:
        classes = splits[reading.name].get("classes", {})
        lacking = [repr(label) for label, count in classes.items() if not count]
        if reading.is_trained_on and lacking:
            yield (
                f"no row of {reading.name} is labelled {', '.join(lacking)}, which cannot be learnt"
                " so: add such rows, or take the label out of task.labels"
            )
    alone = [
        name
        for name, facts in splits.items()
        if facts["rows"] > 1
        and (
            facts.get("majority", {}).get("accuracy") == 1
            or ("mean" in facts and facts["lowest"] == facts["highest"])
        )
    ]
    if alone:
        yield (
            f"all rows have one answer: {', '.join(alone)}; a score there says nothing, and nothing"
            " is learnt: add rows with other answers"
        )
