"""Writes the answers of runs of GLUE's tasks to its test sets, as GLUE's server takes them.

A zip holds a TSV a test set, without folders, with the header `index` and `prediction`: file names
and header as in nyu-mll/jiant, jiant/scripts/benchmarks/benchmarks.py, by GLUE's makers. Labels are
the words of the task's own files, which are 0 and 1 for CoLA, SST-2, MRPC, QQP and WNLI, and words
for MNLI, AX, QNLI and RTE (keras-team/keras-nlp, examples/glue_benchmark/glue.py). A score is held
between 0 and 5, outside of which the server fails (princeton-nlp/DinkyTrain, issue 2). It takes all
eleven files or none (README of that keras-nlp example). GLUE's own page, gluebenchmark.com/faq, was
not seen.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from results.errors import UserError
from results.plain_file import is_folder
from results.record import check_writable
from results.whole import whole
from runners.config.acts import Acts
from runners.config.check import RunConfig, model_path
from runners.config.task import Task
from runners.config.typed import is_typed
from runners.data.unanswered import Texts, read_unanswered, tasks_with_tests
from runners.machine.console import show
from runners.machine.device import set_threads
from runners.runs.predict import Predictor, predictor_of
from runners.runs.stored import Stored, data_of, find_stored

HEADER = "index\tprediction\n"


def write_submission(acts: Acts, command: RunConfig, typed: Sequence[str]) -> int:
    """Write a zip of a TSV for each test set of the runs' tasks, whole or not at all."""
    settings, out = command.settings, Path(command.settings.out)
    if out.suffix.lower() != ".zip" or is_folder(out):
        raise UserError("submission=[RUN,RUN] needs out=FILE.zip")
    path = model_path(command, typed)
    runs = _one_a_task([find_stored(run, "submission", model_path=path) for run in _named(acts)])
    few = settings.data.eval_size if is_typed(typed, "data.eval_size") else None
    sets: dict[str, dict[str, Texts]] = {}
    absent: dict[str, str] = {}
    for name, stored in runs.items():
        data = data_of(stored.config.settings.data, command, typed)
        data = data.model_copy(update={"eval_size": few})
        sets[name], lacking = read_unanswered(tasks_with_tests()[name], data)
        absent |= lacking
    if not any(sets.values()):
        raise UserError(
            f"submission=: no test set is there, {', '.join(absent.values())}; say where by"
            " data=local data.dir=GLUE, or data=hub"
        )
    check_writable(out.parent)
    set_threads(settings.threads)
    files: dict[str, str] = {}
    for name, stored in runs.items():
        if sets[name]:
            predictor = predictor_of(stored, settings.device)
            files |= {
                f"{one}.tsv": table(predictor, tasks_with_tests()[name], sets[name][one])
                for one in sets[name]
            }
    _write(out, files)
    for name, stored in runs.items():
        for one, texts in sets[name].items():
            show(f"{one}.tsv: {len(texts):,} predictions by {stored.run}")
    for one, place in absent.items():
        show(f"{one}.tsv: left out, as {place} is not there")
    show(f"{out}: {_verdict(files, few)}")
    return 0


def _named(acts: Acts) -> list[str]:
    assert acts.submission is not None
    if not acts.submission:
        raise UserError("submission= names no run; type 'submission=[RUN,RUN]'")
    return acts.submission


def _one_a_task(runs: Sequence[Stored]) -> dict[str, Stored]:
    """Return runs by their tasks; two of one task, and one of a task outside GLUE, are errors."""
    by_task: dict[str, Stored] = {}
    for stored in runs:
        task = stored.config.settings.task
        glue = tasks_with_tests().get(task.name)
        if glue is None:
            raise UserError(
                f"{stored.named}: that run is of task={task.name}, of which GLUE has no test set;"
                f" its tasks are {', '.join(tasks_with_tests())}"
            )
        own, theirs = ((t.kind, t.text, t.labels, t.attributes) for t in (task, glue))
        if own != theirs:
            raise UserError(
                f"{stored.named}: that run's task={task.name} has other texts or labels than GLUE's"
                f" ({', '.join(task.labels)}); name a run of that task as it is"
            )
        if task.name in by_task:
            raise UserError(
                f"submission=: {by_task[task.name].run} and {stored.run} are both of"
                f" task={task.name}; name one run a task"
            )
        by_task[task.name] = stored
    return by_task


def table(predictor: Predictor, task: Task, texts: Texts) -> str:
    """Return the lines of a test set's answers, the header first."""
    words = written_labels(task)
    answers = predictor.answer(texts).answers
    low, high = task.range or (0.0, 0.0)
    fields = [words[a] if isinstance(a, str) else f"{min(max(a, low), high):.6f}" for a in answers]
    return HEADER + "".join(f"{number}\t{field}\n" for number, field in enumerate(fields))


def written_labels(task: Task) -> Mapping[str, str]:
    """Return what a task's own files call each of its labels."""
    named = {} if task.local is None else task.local.label_names
    return {label: label for label in task.labels} | {
        ours: theirs for theirs, ours in named.items()
    }


def _write(out: Path, files: Mapping[str, str]) -> None:
    """Write the zip; the same answers give the same bytes."""
    try:
        with whole(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, content in sorted(files.items()):
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror})") from None


def _verdict(files: Mapping[str, str], few: int | None) -> str:
    """Say whether the files can be submitted."""
    every = [f"{name}.tsv" for task in tasks_with_tests().values() for name in task.test]
    lacking = [name for name in every if name not in files]
    if few is not None:
        return f"NOT TO BE SUBMITTED: the first rows of each set only (data.eval_size={few})"
    if lacking:
        return (
            f"{len(files)} of {len(every)} files, and GLUE takes all or none: add"
            f" {', '.join(lacking)}"
        )
    return f"all {len(every)} files, to be submitted as it is"
