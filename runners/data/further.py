"""Reads sets of other tasks that a run reports and never trains on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runners.config.settings import Data
from runners.config.task import Further, Task
from runners.data.embedded.splits import read_embedded
from runners.data.hub import read_hub
from runners.data.local import read_file
from runners.data.sources import check_possible, local_folder, named_folder
from runners.data.split import Split, check_split


def read_further(
    name: str, further: Further, data: Data, source: str, path: str | None = None
) -> Split:
    """Return the set, with its own labels, from where the run's data come from.

    `path` is the run's own data set on the hub, of which data.revision is.
    """
    theirs = further.definition
    assert theirs is not None
    check_possible(theirs, source)
    if theirs.hub is None or theirs.hub.path != path:
        data = data.model_copy(update={"revision": None})
    split = _split_of(name, theirs, further, data, source)
    check_split(split, theirs, f"task.further.{name}")
    return replace(split, name=name)


def _split_of(name: str, theirs: Task, further: Further, data: Data, source: str) -> Split:
    if source == "embedded":
        report = read_embedded(theirs)[1]
        return report[further.split or next(iter(report))]
    if source == "hub":
        report = read_hub(theirs, data.revision)[1]
        return report[further.split or next(iter(report))]
    files = theirs.local
    assert files is not None
    if further.dir is None:
        folder = local_folder(theirs, data)
    else:
        folder = named_folder(further.dir, "GLUE_DIR", f"task.further.{name}.dir")
    split = further.split or next(iter(files.report))
    path = Path({**files.report, **files.where_present}[split])
    skip = data.malformed_rows == "skip"
    hint = f"; say where it lies by +task.further.{name}.dir=FOLDER"
    return read_file(theirs, files, folder / path, split, skip, hint)


def translation(task: Task, further: Further) -> list[int]:
    """Return, for each label of a task, the number of its counterpart in another task's."""
    theirs = further.definition
    assert theirs is not None
    return [theirs.labels.index(further.merge.get(label, label)) for label in task.labels]
