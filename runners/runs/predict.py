"""A run's model put to use: answers to a user's own texts.

    from runners.runs.predict import load_predictor
    predict = load_predictor("runs/rte.bitfit….delta")
    predict([("It rains.", "It is wet."), ("It rains.", "It is dry.")]).answers

`python run.py predict=RUN text=FILE out=FILE` does the same for the rows of a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from results.errors import UserError, nearest
from results.places import OWN
from results.plain_file import is_file, is_folder
from results.record import check_writable
from results.whole import whole
from runners.config.acts import Acts
from runners.config.check import RunConfig, model_path
from runners.config.task import Task
from runners.config.typed import is_typed
from runners.data.attributes import values_of
from runners.data.rows import (
    TableRow,
    TableWriter,
    format_of,
    listed,
    read_table,
    texts_of,
)
from runners.data.split import Split, Values
from runners.jobs.job import Job
from runners.machine.console import say, show
from runners.machine.device import (
    choose_device,
    make_deterministic,
    put_in_place,
    set_threads,
)
from runners.models.pretrained import Loaded
from runners.runs.stored import Stored, find_stored
from runners.tasks.kind import Evaluation
from runners.tasks.kinds import kind_of
from runners.tasks.labelled import Labelled, read_answers

if TYPE_CHECKING:
    from accelerate import Accelerator

# Of a file as many rows are in memory as this, or as hold so many characters. Within them texts of
# like length share batches, as in an evaluation: a split that fits is answered to the bit alike.
ROWS, CHARACTERS = 2**16, 2**28
ANSWER, SHARE = "prediction", "probability_"  # columns of what is written


@dataclass(frozen=True)
class Predictions:
    """What a model answers to texts, in their order.

    `answers` holds a label's name for each text, or a score. `probabilities` are the softmax of the
    model's outputs, [texts, labels], in the order of `labels`; of scores there are none.
    """

    answers: list[str | float]
    labels: list[str]
    probabilities: NDArray[np.float64] | None


@dataclass(frozen=True)
class Predictor:
    """Answers texts as a run's evaluation did; of a mixture, as that of its `task`."""

    job: Job
    loaded: Loaded
    accelerator: Accelerator
    task: Task

    @property
    def columns(self) -> list[str]:
        """The names of an example's texts, in the order in which they are given."""
        return self.task.columns

    @property
    def attributes(self) -> list[str]:
        """The names of an example's attributes, where the model reads them."""
        return self.task.attributes if self.job.config.reads_attributes else []

    def __call__(
        self,
        rows: Sequence[str | Sequence[str]],
        attributes: Mapping[str, Sequence[Any]] | None = None,
    ) -> Predictions:
        """Return an answer a row: a text, or as many as the task has columns.

        `attributes` holds a cell a row for each of the model's, where it reads some: values in a
        list, or in a text as in the task's files. An empty text that is no option, what is no
        text, another number of texts or of cells, and other attributes are a UserError.
        """
        each = listed(rows, "texts to answer")
        if not each:
            raise UserError("there are no texts to answer")
        texts = []
        for number, row in enumerate(each, 1):
            where = f"row {number} of {len(each)}"
            texts.append(texts_of(row, self.task, where))
            for column, text in zip(self.columns, texts[-1], strict=True):
                if _lacks_words(self.task, column, text):
                    raise UserError(f"{where}: its {column} is empty")
        return self.answer(texts, self._values(attributes or {}, len(texts)))

    def _values(self, cells: Mapping[str, Sequence[Any]], rows: int) -> list[Values] | None:
        if set(cells) != set(self.attributes):
            raise UserError(
                f"the model reads the attributes {', '.join(self.attributes) or 'none'}, and"
                f" {', '.join(cells) or 'none'} were given"
            )
        for name, column in cells.items():
            if len(column) != rows:
                raise UserError(f"attribute {name} has {len(column)} cells for {rows} rows")
        if not self.attributes:
            return None
        separator = self.task.separator
        columns = [[values_of(cell, separator) for cell in cells[n]] for n in self.attributes]
        return list(zip(*columns, strict=True))

    def answer(
        self, texts: Sequence[tuple[str, ...]], values: Sequence[Values] | None = None
    ) -> Predictions:
        """Return an answer a row, of rows that may hold empty texts; `values` are attributes'."""
        name = self.task.name if self.job.config.settings.task.mixture is None else self._part
        attributes = None if values is None else tuple(values)
        split = Split(name, tuple(texts), None, attributes=attributes)
        kind = kind_of(self.job.config)
        assert isinstance(kind, Labelled)
        collate = kind.collator(split, self.job, self.loaded.tokenizer, keep=False)
        batch_size = self.job.config.settings.budget.eval_batch_size
        put_in_place(self.accelerator)
        evaluation = Evaluation(self.accelerator, batch_size)
        outputs = kind.all_outputs(self.loaded.model, collate, evaluation)
        if not np.isfinite(outputs).all():
            row = int(np.argmin(np.isfinite(outputs).all(axis=1)))
            raise UserError(f"the model's answer to '{texts[row][0][:60]}' is no finite number")
        answers = read_answers(torch.from_numpy(outputs), self.task).tolist()
        labels = self.task.labels
        if not labels:
            return Predictions(answers, [], None)
        return Predictions([labels[int(a)] for a in answers], labels, _softmax(outputs))

    @property
    def _part(self) -> str:
        """The name of a split of the mixture's task."""
        mixture = self.job.config.settings.task.mixture
        assert mixture is not None
        return next(f"{name}/text" for name, task in mixture.tasks.items() if task == self.task)


def _lacks_words(task: Task, column: str, text: str) -> bool:
    """Say whether a text that needs a word has none; an option may be without, as in training."""
    return column not in task.options and not text.split()


def _softmax(outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def load_predictor(
    run: str | Path,
    *,
    out: str | Path = OWN,
    device: str = "auto",
    model_path: str | None = None,
    task: str | None = None,
) -> Predictor:
    """Rebuild the model of a run whose task has labels, scores or options.

    `run` is a folder that save=delta wrote, or a record (its file, or the run's name in `out`) with
    that folder beside it. `model_path` names the pretrained weights where they lie elsewhere now,
    and `task` the one that is meant of a mixture's. Everything else is a UserError.
    """
    return predictor_of(find_stored(run, "predict", out=out, model_path=model_path), device, task)


def predictor_of(stored: Stored, device: str, task: str | None = None) -> Predictor:
    """Load what `load_predictor` returns, of a run that was looked up."""
    from runners.machine.device import make_accelerator

    chosen = answered_task(stored, task)
    job, loaded = stored.load()
    accelerator = make_accelerator(choose_device(device), job.config)
    make_deterministic()
    loaded.model.to(accelerator.device).eval()
    return Predictor(job, loaded, accelerator, chosen)


def answered_task(stored: Stored, named: str | None) -> Task:
    """Return the task that texts are to be answered for; one that answers none is a UserError."""
    task, where = stored.config.settings.task, f"{stored.named}: that run is of task"
    if task.facts.vectors:
        raise UserError(f"{where}={task.name}, which makes vectors: embed=RUN writes those")
    if task.facts.answer == "token":
        raise UserError(
            f"{where}={task.name}, which predicts masked tokens and answers no text: train a task"
            " from it by start=RUN"
        )
    if task.mixture is None:
        if named is not None:
            raise UserError(
                f"{where}={task.name} alone, and task={named} says which of several is meant; leave"
                " it out"
            )
        return task
    names = ", ".join(task.mixture.tasks)
    if named is None:
        raise UserError(f"{where}s {names}: say which is meant by task=NAME")
    if named not in task.mixture.tasks:
        raise UserError(f"{where}s {names}, not of {named}{nearest(named, task.mixture.tasks)}")
    return task.mixture.tasks[named]


def predict_file(acts: Acts, command: RunConfig, typed: Sequence[str]) -> int:
    """Write a table's rows with what a run answers to each, whole or not at all."""
    settings = command.settings
    if acts.text is None or not is_typed(typed, "out"):
        raise UserError(
            "predict=RUN needs text=FILE, a table with the task's texts, and out=FILE; both are"
            " .csv, .tsv or .jsonl"
        )
    assert acts.predict is not None
    path, out = Path(acts.text), Path(settings.out)
    end = _checked_places(path, out)
    named = settings.task.name if is_typed(typed, "task") else None
    stored = find_stored(acts.predict, "predict", model_path=model_path(command, typed))
    task = answered_task(stored, named)
    read = task.attributes if stored.config.reads_attributes else []
    table = _Table(path, task, read)
    count = table.check(TableWriter(end, f"text={path}"))
    check_writable(out.parent)
    set_threads(settings.threads)
    predictor = predictor_of(stored, settings.device, named)
    try:
        with whole(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer, done = TableWriter(end, f"text={path}", stream), 0
            for part in _parts(table.rows()):
                values = [one.values for one in part] if read else None
                predicted = predictor.answer([one.texts for one in part], values)
                for one, answer in zip(part, _columns(predicted), strict=True):
                    writer.write(one.row, answer)
                done += len(part)
                if done < count:
                    say(f"{done:,} of {count:,} rows")
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror})") from None
    show(f"{out}: {count:,} predictions of {predictor.task.name} by {stored.run}")
    return 0


def _checked_places(path: Path, out: Path) -> str:
    """Return the end of the name of what is written, once both names can be what they are."""
    format_of(path, f"text={path}")
    end = format_of(out, f"out={out}")
    if is_folder(out):
        raise UserError(f"out={out}: that is a folder; name a file")
    if path.absolute() == out.absolute() or (is_file(path) and is_file(out) and path.samefile(out)):
        raise UserError(f"out={out} is text=, which would be lost; name another file")
    return end


@dataclass(frozen=True)
class _Example:
    """A row of a user's table, its texts, and the values of the attributes that are read."""

    row: TableRow
    texts: tuple[str, ...]
    values: Values


@dataclass(frozen=True)
class _Table:
    """A user's table with the texts of a task, and the attributes that the model reads."""

    path: Path
    task: Task
    attributes: Sequence[str] = ()

    @property
    def where(self) -> str:
        return f"text={self.path}"

    def rows(self) -> Iterator[_Example]:
        """Yield each row with what is read of it."""
        for row in read_table(self.path, self.where):
            yield self._example(row)

    def check(self, writer: TableWriter) -> int:
        """Return how many rows there are; one that cannot be answered or written is a UserError."""
        count = 0
        labels = {f"{SHARE}{label}": 0.0 for label in self.task.labels}
        for one in self.rows():
            at = f"{self.where} line {one.row.line}"
            for column, text in zip(self.task.columns, one.texts, strict=True):
                if not isinstance(text, str):
                    raise UserError(f"{at}: its {column} is {text!r}, no text")
                if _lacks_words(self.task, column, text):
                    raise UserError(f"{at}: its {column} is empty, and needs a word")
            writer.write(one.row, {ANSWER: "", **labels})
            count += 1
        if not count:
            raise UserError(f"{self.where} has a header and no rows")
        return count

    def _example(self, row: TableRow) -> _Example:
        values = dict(zip(row.columns, row.values, strict=True))
        taken = [n for n in (ANSWER, *(SHARE + label for label in self.task.labels)) if n in values]
        if taken:
            raise UserError(
                f"{self.where} has a column '{taken[0]}', and so will what is written; rename it"
            )
        texts = tuple(values[self._place(column, row)] for column in self.task.columns)
        cells = [values[self._place(name, row)] for name in self.attributes]
        for name, cell in zip(self.attributes, cells, strict=True):
            several = cell if isinstance(cell, list) else [cell]
            if not all(one is None or isinstance(one, str | int) for one in several):
                raise UserError(
                    f"{self.where} line {row.line}: its {name} is {cell!r}; a value is a text or a"
                    " number, and several are a list"
                )
        return _Example(row, texts, tuple(values_of(cell, self.task.separator) for cell in cells))

    def _place(self, column: str, row: TableRow) -> str:
        """Return what a column is called: as by the task, else as in the files it was read from."""
        local = None if self.task.local is None else self.task.local.columns.get(column)
        names = [column, *([local] if isinstance(local, str) and local != column else [])]
        there = [name for name in names if name in row.columns]
        if not there:
            shown = ", ".join(row.columns[:12]) + (", …" if len(row.columns) > 12 else "")
            raise UserError(
                f"{self.where} line {row.line} has no column {' or '.join(map(repr, names))}, which"
                f" task={self.task.name} reads; it has {shown}"
            )
        name, *other = there
        if other:
            raise UserError(
                f"{self.where} has a column '{name}' and a column '{other[0]}', which is what"
                f" task={self.task.name} calls {name} in its own files; take out or rename the one"
                " that is not meant"
            )
        if row.columns.count(name) > 1:
            raise UserError(f"{self.where} has several columns called '{name}'; rename all but one")
        return name


def _parts(rows: Iterable[_Example]) -> Iterator[list[_Example]]:
    """Yield rows in lists that fit in memory."""
    part: list[_Example] = []
    characters = 0
    for one in rows:
        part.append(one)
        characters += sum(map(len, one.texts))
        if len(part) == ROWS or characters >= CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _columns(predicted: Predictions) -> Iterator[dict[str, str | float]]:
    """Yield the columns that are written of each answer."""
    names = [f"{SHARE}{label}" for label in predicted.labels]
    if predicted.probabilities is None:
        yield from ({ANSWER: answer} for answer in predicted.answers)
        return
    for answer, shares in zip(predicted.answers, predicted.probabilities.tolist(), strict=True):
        yield {ANSWER: answer, **dict(zip(names, shares, strict=True))}
