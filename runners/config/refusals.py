"""What is refused where it is typed, though a stored configuration may say it.

Old records verify, score and embed as before, so none of this is in the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from results.errors import nearest
from runners.config.resolvers import values
from runners.config.task import SEPARATOR, Further, Task

RESERVED = ("train", "selection")  # what a run itself calls splits
# What files may call a label or a column.
_MAY_BE_EMPTY = re.compile(
    r"task\.(labels|positive_label|text|options|\w+\.columns|\w+\.label_names)(\.|$)"
)


def empty_problems(composed: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each key with an empty text, which would count as none or as here."""
    return [
        f"{key}={text!r} (must not be empty; null is the word for none)"
        for key, text in values(dict(composed))
        if not text.strip() and not _MAY_BE_EMPTY.match(key)
    ]


def task_problems(task: Task, source: str, reads_tokens: bool = False) -> list[str]:
    """Return a sentence for each part of a task that would mislead, with data of a `source`.

    `reads_tokens` says whether a head that predicts tokens answers it, one for all tasks.
    """
    problems = [*_split_problems(task), *_answer_problems(task), *_diagnostic_problems(task)]
    problems += [*_mixture_problems(task, reads_tokens), *_attribute_problems(task)]
    problems += _column_problems(task)
    problems += [p for name, further in task.further.items() for p in _unlike(task, name, further)]
    files = [name for name in ("local", "hub", "pairs") if getattr(task, name)]
    if task.generated:
        problems += [
            f"task.generated=true: {task.name} has task.{name} too; leave out one of the two"
            for name in files
        ]
    elif not files and task.facts.head == "texts" and source == "auto" and not task.mixture:
        problems.append(
            f"task={task.name} says nowhere where its data lies; give it local.train and"
            " local.report, or hub.path and hub.report"
        )
    return problems


def text_problems(task: Task, text: str | list[str] | None) -> list[str]:
    """Say where a task that predicts masked tokens has no text, or two."""
    masked = task.mlm
    if masked is None:
        return []
    if not masked.on and not text:
        return [
            f"task={task.name} has no text: name tasks by mlm.on=[cola,rte], or a file by"
            " data.text=FILE"
        ]
    if masked.on and text:
        return [f"task={task.name}: mlm.on= and data.text= name two texts; give it one of them"]
    problems = []
    if not masked.on and masked.splits != ["train"]:
        problems.append("mlm.splits= goes with mlm.on=: data.text=FILE is read whole")
    twice = sorted({name for name in masked.splits if masked.splits.count(name) > 1})
    problems += [f"mlm.splits names {name} twice" for name in twice]
    known = {"train": 0} | {split: 0 for one in masked.tasks.values() for split in one.reported}
    problems += [
        f"mlm.splits: none of {', '.join(masked.on)} has a split {name}{nearest(name, known)}"
        for name in masked.splits
        if masked.on and name not in known
    ]
    return problems


def _split_problems(task: Task) -> list[str]:
    """Say where two splits would have one name: the later one would be taken for both."""
    named: dict[str, Iterable[str]] = {"pairs": task.pairs, "diagnostics": task.diagnostics}
    problems = []
    for source, files in (("local", task.local), ("hub", task.hub)):
        if files is None:
            continue
        named |= {f"{source}.report": files.report, f"{source}.where_present": files.where_present}
        problems += [
            f"task.{source}.where_present.{name}: task.{source}.report has a split of that name;"
            " name each split once"
            for name in files.where_present
            if name in files.report
        ]
    return [
        f"task.{key}.{name}: a run calls a split of its own {name}; choose another name, such as"
        " validation"
        for key, names in named.items()
        for name in names
        if name in RESERVED
    ] + problems


def _mixture_problems(task: Task, reads_tokens: bool) -> list[str]:
    """Say which tasks cannot be mixed."""
    able = ("class", "score", *(["option"] if reads_tokens else []))
    if task.mixture is None:
        return []
    if len(task.mixture.of) < 2:
        return [f"task={task.name} mixes two tasks or more: name them by mix=[mnli,rte]"]
    return [
        f"mix.of: task={name} is of kind={one.kind}, and a mixture is of tasks with classes or"
        " scores; tasks with options are mixed by method=unimc"
        for name, one in task.mixture.tasks.items()
        if one.facts.answer not in able
    ] + [
        f"mix.of: task={name} has class_weights, and a mixture weighs no classes; leave them out"
        for name, one in task.mixture.tasks.items()
        if one.class_weights is not None
    ]


def _column_problems(task: Task) -> list[str]:
    """Say where one column is read as two texts, or as a text and the answer, which it tells."""
    mixed = {} if task.mixture is None else task.mixture.tasks
    each = {"task": task} | {f"mix.of: task={name}": one for name, one in mixed.items()}
    each |= {
        f"task.further.{k}: task": f.definition for k, f in task.further.items() if f.definition
    }
    problems = [
        f"{whose}.{source}.columns: {names[0]} and {names[1]} are both column {place}; give each a"
        " column of its own"
        for whose, one in each.items()
        for source, files in (("local", one.local), ("hub", one.hub))
        if files is not None
        for place, names in _shared({n: files.columns.get(n, n) for n in (*one.columns, "label")})
    ]
    sets = {f"task.pairs.{name}": files for name, files in task.pairs.items()}
    sets |= {} if task.selection is None else {"task.selection": task.selection}
    roles = ("the first sentence", "the second one", "the score")
    return problems + [
        f"{key}.columns: {names[0]} and {names[1]} are both column {place}; give each a column of"
        " its own"
        for key, files in sets.items()
        for place, names in _shared(dict(zip(roles, files.columns, strict=True)))
    ]


def _shared(places: Mapping[str, str | int]) -> list[tuple[str | int, list[str]]]:
    """Return each place that several names lead to, with these."""
    named: dict[str | int, list[str]] = {}
    for name, place in places.items():
        named.setdefault(place, []).append(name)
    return [(place, names) for place, names in named.items() if len(names) > 1]


def _attribute_problems(task: Task) -> list[str]:
    """Say where attributes are no columns of their own, or of a task that can have none."""
    names, others = task.attributes, (*task.columns, "label")
    if not names:
        mixed = {} if task.mixture is None else task.mixture.tasks
        problems = [
            f"mix.of: task={name} has attributes ({', '.join(one.attributes)}), which a mixture"
            " does not read; mix tasks without"
            for name, one in mixed.items()
            if one.attributes
        ]
        if task.separator != SEPARATOR:
            problems.append(
                f"task.separator={task.separator} stands between values of attributes, and task="
                f"{task.name} has none; name their columns in task.attributes, or leave it out"
            )
        return problems
    if task.facts.answer not in ("class", "score") or task.facts.vectors:
        return [
            f"task.attributes are for kind=classification and kind=regression; task={task.name} is"
            f" of kind={task.kind}: leave them out"
        ]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems = [f"task.attributes: {name} is named twice; name each once" for name in twice]
    problems += [_not_its_own("task.attributes:", n, n) for n in names if n in others]
    for source, files in (("local", task.local), ("hub", task.hub)):
        columns: Mapping[str, str | int] = {} if files is None else files.columns
        place = {name: columns.get(name, name) for name in (*others, *names)}
        problems += [
            _not_its_own(f"task.{source}.columns: column {place[name]} of", name, other)
            for i, name in enumerate(names)
            for other in (*others, *names[:i])
            if name not in others and name != other and place[name] == place[other]
        ]
    return problems


def _not_its_own(where: str, name: str, other: str) -> str:
    role = "the answer's" if other == "label" else f"that of {other}"
    if name == other and other != "label":
        role = "a text's"
    return f"{where} attribute {name} is {role} too; an attribute has a column of its own"


def _unlike(task: Task, name: str, further: Further) -> list[str]:
    """Say where a set of another task cannot be answered by a model of this one."""
    theirs, where = further.definition, f"task.further.{name}"
    if theirs is None:
        return [f"{where}: the definition of task={further.task} is not there"]
    if name in (*task.reported, *RESERVED):
        return [f"{where}: a run calls a split of its own {name}; choose another name"]
    if theirs.kind != task.kind or task.facts.answer not in ("class", "score"):
        return [f"{where}: task={theirs.name} is of kind={theirs.kind}, this one of {task.kind}"]
    if task.attributes and theirs.attributes != task.attributes:
        return [
            f"{where}: this task has the attributes {', '.join(task.attributes)}, and task="
            f"{theirs.name} has {', '.join(theirs.attributes) or 'none'}; name the same in both"
        ]
    if len(theirs.text) != len(task.text):
        return [f"{where}: task={theirs.name} has {len(theirs.text)} texts, this {len(task.text)}"]
    if further.split is not None and further.split not in theirs.reported:
        return [
            f"{where}.split={further.split}: task={theirs.name} has no such report split"
            f"{nearest(further.split, theirs.reported)}"
        ]
    if theirs.local is not None and theirs.local.split is not None:
        return [
            f"{where}: task={theirs.name} cuts its report rows from train (local.split); write them"
            " into a file of their own, named in its local.report"
        ]
    unknown = [label for label in further.merge if label not in task.labels]
    problems = [f"{where}.merge: {label} is no label of task={task.name}" for label in unknown]
    return problems + [
        f"{where}: label {label} has no counterpart among those of task={theirs.name}"
        f" ({', '.join(theirs.labels)}); give {where}.merge.{label}=LABEL"
        for label in task.labels
        if further.merge.get(label, label) not in theirs.labels
    ]


def _answer_problems(task: Task) -> list[str]:
    """Say where columns and labels cannot be told apart, or do not exist."""
    problems = []
    if "label" in task.columns:
        problems.append(
            "task.text: label is the answer's column; name the text otherwise, and say where it"
            " lies, as in local.columns={NAME: label, label: ANSWER}"
        )
    twice = sorted({name for name in task.columns if task.columns.count(name) > 1})
    problems += [f"task.text: {name} is named twice; name each column once" for name in twice]
    if task.positive_label is not None and task.positive_label not in task.labels:
        known = ", ".join(task.labels)
        problems.append(f"task.positive_label={task.positive_label} is not a label; known: {known}")
    if task.range is not None and task.range[0] >= task.range[1]:
        problems.append(f"task.range={task.range}: the lowest score stands first")
    return problems


def _diagnostic_problems(task: Task) -> list[str]:
    """Say where a diagnostic split does not exist, cannot be scored, or leaves nothing to score."""
    known = {*task.pairs}
    problems = []
    for source, files in (("local", task.local), ("hub", task.hub)):
        if files is None:
            continue
        known |= {*files.reported}
        main = set(files.reported) - set(files.where_present)
        if main and main <= set(task.diagnostics):
            problems.append(
                f"task.{source}.report holds diagnostics only, which are no part of a score; leave"
                " one of its splits out of task.diagnostics"
            )
    if task.pairs and set(task.pairs) <= set(task.diagnostics):
        problems.append("task.pairs holds diagnostics only, which are no part of a score")
    for name, metrics in task.diagnostics.items():
        if name not in known:
            problems.append(f"task.diagnostics.{name}: no such split{nearest(name, known)}")
        wrong = [m for m in metrics if m not in task.facts.metrics]
        if wrong:
            problems.append(
                f"task.diagnostics.{name}: {', '.join(wrong)} does not suit kind={task.kind}"
            )
        if "f1" in metrics and (len(task.labels) != 2 or task.positive_label not in task.labels):
            problems.append(
                f"task.diagnostics.{name}: f1 needs two labels and positive_label; else macro_f1"
            )
    return problems
