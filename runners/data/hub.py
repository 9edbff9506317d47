"""Reads a task from the hub, through the datasets library, and says which commit was read."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from results.errors import UserError, nearest
from runners.config.task import Task
from runners.data.attributes import lacking, values_of
from runners.data.labels import hub_labels
from runners.data.split import Split, Values
from runners.network import bound_waiting

if TYPE_CHECKING:
    import datasets


ANSWER_SECONDS = 3.0


class NoSuchSplit(UserError):
    """A data set that the hub has, without the split or configuration that was wanted of it."""


def hub_answers(path: str) -> str | None:
    """Ask the hub for a data set; return None if it answered, else the reason."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    url = f"{constants.ENDPOINT}/api/datasets/{path}"
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"the hub answered {error.code} for {path}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"the hub did not answer ({reason})"


def read_hub(task: Task, revision: str | None) -> tuple[Split, dict[str, Split], str | None]:
    """Return train, report splits and the commit; a data set that cannot be read is a UserError."""
    files = task.hub
    assert files is not None
    commit = hub_commit(files.path, revision)
    train = _read(task, files.name, files.train, "train", commit)
    report = {k: _read(task, files.name, v, k, commit) for k, v in files.report.items()}
    for name, place in files.where_present.items():
        config, _, split = place.rpartition("/")
        report[name] = _read(task, config or files.name, split, name, commit)
    return train, report, commit


def read_hub_train(task: Task, revision: str | None) -> Split:
    """Return a task's training set alone."""
    files = task.hub
    assert files is not None
    return _read(task, files.name, files.train, "train", hub_commit(files.path, revision))


def hub_commit(path: str, revision: str | None) -> str | None:
    """Return the commit a branch or tag stands for now; offline, the name as given."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return revision
    try:
        return HfApi().dataset_info(path, revision=revision, timeout=10).sha
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        where = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
        raise UserError(
            f"data=hub: {path} at revision {revision or 'main'} could not be reached at {where}"
            f" ({type(error).__name__}: {reason}); works offline: data=embedded, or data=local"
            " data.dir=FOLDER"
        ) from None


def hub_table(
    path: str, config: str | None, split: str, commit: str | None, key: str
) -> datasets.Dataset:
    """Return a split of a hub data set; what cannot be read is a UserError that begins `key`."""
    import datasets

    bound_waiting()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, config, split=split, revision=commit)
    except Exception as error:  # the library raises many types, of several libraries
        reason = " ".join(str(error).split())[:200]
        lacking = re.search(r"(Unknown|Bad) split|BuilderConfig .* not found", reason)
        raise (NoSuchSplit if lacking else UserError)(
            f"{key}: {path} could not be read ({type(error).__name__}: {reason});"
            " works offline: data=embedded, or data=local data.dir=FOLDER"
        ) from None


def read_hub_texts(task: Task, place: str, commit: str | None) -> tuple[tuple[str, ...], ...]:
    """Return the texts of a split, or of another configuration's as CONFIGURATION/SPLIT.

    Where the data set has no such split, NoSuchSplit is raised.
    """
    assert task.hub is not None
    config, _, source = place.rpartition("/")
    return _texts(task, config or task.hub.name, source, commit)[1]


def _read(task: Task, config: str | None, source: str, name: str, commit: str | None) -> Split:
    assert task.hub is not None
    table, texts = _texts(task, config, source, commit, "label")
    column = task.hub.columns.get("label", "label")
    where = _shown(task, config, source)
    attributes = _attributes(task, table, where)
    labels = hub_labels(list(table[column]), table.features[column], task, where, name)
    return Split(name, texts, labels, attributes=attributes)


def _attributes(task: Task, table: datasets.Dataset, where: str) -> tuple[Values, ...] | None:
    """Return the values of each row's attributes, where the task has some."""
    assert task.hub is not None
    if not task.attributes:
        return None
    cells = []
    for name in task.attributes:
        column = task.hub.columns.get(name, name)
        if column not in table.column_names:
            raise lacking(column, table.column_names, where)
        cells.append([values_of(cell, task.separator) for cell in table[column]])
    return tuple(zip(*cells, strict=True))


def _texts(
    task: Task, config: str | None, source: str, commit: str | None, *beside: str
) -> tuple[datasets.Dataset, tuple[tuple[str, ...], ...]]:
    """Return a split and its texts; columns that are not there, these or `beside`, are an error."""
    assert task.hub is not None
    table = hub_table(task.hub.path, config, source, commit, "data=hub")
    columns = {c: task.hub.columns.get(c, c) for c in (*task.columns, *beside)}
    where = _shown(task, config, source)
    for column in columns.values():
        if column not in table.column_names:
            raise UserError(
                f"{where} has no column '{column}'{nearest(column, table.column_names)}"
            )
    return table, tuple(
        zip(*(_checked_texts(table, columns[c], where) for c in task.columns), strict=True)
    )


def _checked_texts(table: datasets.Dataset, column: str, where: str) -> list[str]:
    """Return a table's texts; a row without one, or with a number or a list, is a UserError."""
    texts: list[str] = table[column][:]
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(
                f"{where} row {row}: its {column} is {text!r:.60}, no text; name a column of texts,"
                " or take such rows out and read the rest as data=local"
            )
    return texts


def _shown(task: Task, config: str | None, source: str) -> str:
    assert task.hub is not None
    return f"task={task.name}: {task.hub.path} {config or ''} {source}".replace("  ", " ")
