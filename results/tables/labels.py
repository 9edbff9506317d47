"""Names a table's rows: the methods, and whatever else tells two rows of one name apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from results.record import Record
from results.tables.conditions import is_untrained
from results.tables.leaves import leaves, short, without_effect
from results.tables.privacy import promised

# What a table's heading, its columns or the settings below say already.
_SAID = ("task", "model", "data", "budget", "protocol", "seed", "precision", "device", "method",
         "optimizer", "lr")  # fmt: skip


# The one switch of speed that draws otherwise; older records do not know it, and did not have it.
_FAST_DROPOUT = "speed.fast_dropout"


# Methods, and tuners of peft, of which an answer depends on what shares a batch.
MIXES_EXAMPLES = frozenset({"lily"})


_FIRST_OPTIMIZER = {"name": "adamw", "betas": [0.9, 0.999], "eps": 1e-08}  # before it was chosen


# What each task may have of its own, and hashes of contents: named only where nothing else tells
# rows of one task apart, of contents no such setting either.
_OWN = ("teacher", "task.mine.", "task.prompt.", "task.choices.", "task.descriptions.")
_CONTENTS = ("text.sha256", "mixed.sha256", "mined.sha256")
_OF_STAGES = ("content.start", "content.teacher")  # contents that older chains do not tell

# The section of a task that a method reads which may filter mined rows.
READ_BY = {"mlm_prompt": "prompt", "unimc": "choices", "description_cosine": "descriptions"}


def labels(records: Sequence[Record], groups: Mapping[str, str]) -> dict[str, str]:
    """Return each run's row. `groups` may say that runs are one row, whatever their settings.

    A setting that only later versions write does not tell a row apart from an older one, unless it
    tells later ones apart. Rows of a board that nothing else tells apart are numbered. Of a run's
    parts the first one names it, which is the task itself where the run has such a part.
    """
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.run, record)
    by_name: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for record in first.values():
        by_name[row_name(record) + promised(record)][record.run] = dict(_details(record))
    by_run = {}
    tasks = {run: record.task for run, record in first.items()}
    for name, details in by_name.items():
        _fill(details.values())
        _leave_out_contents(details, tasks)
        rows: dict[str, list[str]] = defaultdict(list)
        for run, own in details.items():
            rows[groups.get(run) or repr(sorted(own.items()))].append(run)
        times = Counter[str]()
        for group in sorted(rows, key=lambda key: (len(key), key)):  # a board's rows in order
            runs = rows[group]
            mine = _shared([details[run] for run in runs])
            apart = {k: v for k, v in mine.items() if any(o.get(k) != v for o in details.values())}
            shown = ", ".join(f"{k}={v}" for k, v in apart.items())
            label = f"{name} ({shown})" if shown else name
            times[label] += 1
            label += f"#{times[label]}" if times[label] > 1 else ""
            by_run.update(dict.fromkeys(runs, label))
    return by_run


def _fill(details: Collection[dict[str, str]]) -> None:
    """Make the switch that some records do not know equal for all, or false for these."""
    values = {own.get(_FAST_DROPOUT, "") for own in details}
    for own in details if "" in values else ():
        if len(values) == 2:
            own.pop(_FAST_DROPOUT, None)
        elif len(values) > 2:
            own.setdefault(_FAST_DROPOUT, "False")


def _leave_out_contents(details: Mapping[str, dict[str, str]], tasks: Mapping[str, str]) -> None:
    """Leave out contents where, on each task, equal settings had equal contents."""
    hashes = (*_CONTENTS, *_OF_STAGES)
    for content in (*_OWN, *hashes):
        besides = hashes if content in hashes else (*_OWN, *hashes)
        seen: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
        for run, own in details.items():
            rest = {k: v for k, v in own.items() if not k.startswith(besides)}
            of_run = {k: v for k, v in own.items() if k.startswith(content)}
            seen[tasks[run], repr(sorted(rest.items()))].append(of_run)
        if all(_agree(contents, content in _OF_STAGES) for contents in seen.values()):
            for own in details.values():
                for key in [key for key in own if key.startswith(content)]:
                    del own[key]


def _agree(contents: Sequence[dict[str, str]], old_are_silent: bool) -> bool:
    """Say whether contents are equal, where both are told if older records do not tell them."""
    if not old_are_silent:
        return all(one == contents[0] for one in contents)
    values: dict[str, set[str]] = defaultdict(set)
    for key, value in (item for one in contents for item in one.items()):
        values[key].add(value)
    return all(len(each) == 1 for each in values.values())


def _shared(details: Sequence[dict[str, str]]) -> dict[str, str]:
    first, *rest = details
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in rest)}


def row_name(record: Record) -> str:
    """Return a record's methods, its optimizer where it is not AdamW, and its way there."""
    optimizer = record.config.get("optimizer", _FIRST_OPTIMIZER).get("name", "adamw")
    name = "+".join(record.methods)
    return name + ("" if optimizer == "adamw" else f", {optimizer}") + way(record)


def way(record: Record) -> str:
    """Return how a run came to its task: by which rows, after which stages, or in place of them.

    It is empty for a run on the task's own rows that starts from the pretrained model.
    """
    name = "+".join(record.methods)
    before = [
        stage["task"] + (f" by {stage['methods']}" if stage["methods"] != name else "")
        for stage in _chain(record)
    ]
    after = f" on {record.task}" if arm_of(record) else ""
    if mined := record.data.get("mined"):
        by = mined.get("filter", {}).get("name")
        after += " on mined rows" + (f" filtered by {by}" if by else "")
    if parts := record.data.get("parts"):
        drawn = {"sqrt": " by square root", "even": " evenly"}
        after += f" mixing {', '.join(parts)}" + drawn.get(record.data.get("draw", ""), "")
    after += f" after {', '.join(before)}" if before else ""
    after += ", not trained" if is_untrained(record) else ""
    start = record.config.get("start", {})
    after += ", head kept" if start.get("head") == "keep" else ""
    after += ", frozen" if start.get("freeze") else ""
    if control := record.config.get("control"):
        much = {"updates": "as many updates", "data": "as many rows"}[control["equal"]]
        after += f", {much} as after {', '.join(control['stages'])}"
    return after + _labelled(record, name)


def _labelled(record: Record, name: str) -> str:
    """Return which rows were added to a run's own, and by which run where its methods differ."""
    section, added = _added(record)
    if not added:
        return ""
    chain = (added.get("teacher") or {}).get("chain") or [{"methods": name}]
    last = chain[-1]["methods"]
    rows = {"pseudo": "pseudo-labels", "generated": "generated rows"}[section]
    rows += "" if last == name else f" by {last}"
    control = _options(record, section).get("control")
    return f", as many updates as with {rows}" if control else f" with {rows}"


def _added(record: Record) -> tuple[str, dict[str, Any]]:
    """Return the section of data that added rows to a run's own, and what is known of them."""
    for section in ("pseudo", "generated"):
        if added := record.data.get(section):
            return section, added
    return "", {}


def _options(record: Record, section: str) -> dict[str, Any]:
    options = (record.config.get("data") or {}).get(section)
    return options if isinstance(options, dict) else {}


def arm_of(record: Record) -> str | None:
    """Return the task of which a record's own is that one with other rows to train on."""
    task = record.config.get("task")
    named = task.get("arm_of") if isinstance(task, dict) else None
    return named if isinstance(named, str) else None


def read_by_filter(record: Record) -> str | None:
    """Return the section of a record's task that its filter of mined rows reads, and no method."""
    name = ((record.data.get("mined") or {}).get("filter") or {}).get("name")
    return None if name in record.methods else READ_BY.get(str(name))


def _chain(record: Record) -> list[dict[str, str]]:
    """Return the runs that a run starts from, the first one first."""
    start = record.weights.get("start")
    chain = start.get("chain") if isinstance(start, dict) else None
    return chain if isinstance(chain, list) else []


def _contents(chain: Sequence[Mapping[str, Any]], key: str) -> Iterator[tuple[str, str]]:
    """Yield what each stage of a chain says of its contents."""
    for number, stage in enumerate(chain, start=1):
        if "content" in stage:
            yield key + (f".{number}" if len(chain) > 1 else ""), str(stage["content"])


def _details(record: Record) -> Iterator[tuple[str, str]]:
    rate = record.config["lr"]
    yield "lr", f"{rate:g}" if float(f"{rate:g}") == rate else str(rate)
    alone = len(record.config["method"]) == 1
    if any(MIXES_EXAMPLES & {m["name"], m.get("tuner")} for m in record.config["method"]):
        yield "budget.eval_batch_size", str(record.config["budget"].get("eval_batch_size"))
    for method in record.config["method"]:
        for key, value in method.items():
            if key != "name":
                yield key if alone else f"{method['name']}.{key}", str(value)
    for key, value in record.config.get("optimizer", _FIRST_OPTIMIZER).items():
        if key != "name":
            yield f"optimizer.{key}", str(value)
    if chain := _chain(record):
        yield "start", " ".join(stage["settings"] for stage in chain)
        yield from _contents(chain, "content.start")
        yield "start.version", str(record.weights["start"].get("version", 1))
    text = record.data.get("text")
    if isinstance(text, dict):
        yield "text", f"{text['rows']} {text['kind']}"
        yield "text.sha256", short(str(text.get("sha256")))
    section, added = _added(record)
    if teacher := added.get("teacher"):
        yield "teacher", " ".join(stage["settings"] for stage in teacher["chain"])
        yield from _contents(teacher["chain"], "content.teacher")
    if generator := added.get("generator"):
        yield "generator.sha256", short(str(generator["sha256"]))
    for key, value in _options(record, section).items() if added else ():
        if key not in ("teacher", "generator", "control"):
            yield f"{section}.{key}", str(value)
    if mined := record.data.get("mined"):
        by = {f"filter.{k}": v for k, v in mined.get("filter", {}).items() if k != "name"}
        for key, value in {**_options(record, "mine"), **by}.items():
            yield f"mine.{key}", str(value)
        yield "mined.from", str(mined.get("from"))
        if "sha256" in mined:
            yield "mined.sha256", short(str(mined["sha256"]))
        task = record.config.get("task")
        how = task.get("mine") if isinstance(task, dict) else None
        yield from ((leaf, str(own)) for leaf, own in leaves(how or {}, "task.mine"))
        if isinstance(task, dict) and (read := read_by_filter(record)) in task:
            yield from ((leaf, str(own)) for leaf, own in leaves(task[read], f"task.{read}"))
    if "mixed" in record.data:
        yield "mixed.sha256", short(record.data["mixed"])
    for key, value in record.config.items():
        for leaf, own in leaves(value, key) if key not in _SAID else ():
            if key not in ("start", "control") and not without_effect(leaf):
                yield leaf, str(own)
