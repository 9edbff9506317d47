"""What a search for learning rates found: each trial, and the expected best of k trials."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from results.errors import UserError
from results.pages.sheet import Entry, Sheet
from results.record import DONE, Record
from results.stats.paired import expected_best
from results.tables.columns import columns_of
from results.tables.conditions import Conditions, conditions, named_apart
from results.tables.labels import labels
from results.tables.trials import best_choice, trial_score

MEAN = "mean"


@dataclass(frozen=True)
class Trials:
    """A row's trials on one task, or their means over its tasks: scores by learning rate.

    A score is a fraction, on rows of train that were not trained on; one that diverged counts as 0.
    `best` is the rate that a board chooses, None while some rates lack a seed that others have; of
    rows that differ in an option which its search tries, it takes the best.
    """

    method: str
    task: str
    scores: dict[float, float]
    runs: dict[float, tuple[Record, ...]]
    best: float | None


def trials(records: Sequence[Record]) -> list[Trials]:
    """Return the trials of comparable records by method and task, and each method's means.

    Several seeds of one rate are averaged. A mean over tasks is of rates tried on all of them. Two
    files of one trial are a UserError.
    """
    for run, times in Counter(r.run for r in records).items():
        if times > 1:
            raise UserError(
                f"{run}: {times} files are a record of this trial; keep one of them, or name a"
                " folder that holds only one"
            )
    plain = [dataclasses.replace(r, config={**r.config, "lr": 0.0}) for r in records]
    rows, columns = labels(plain, {}), columns_of(plain)
    by_method: dict[str, dict[str, dict[float, list[Record]]]] = defaultdict(dict)
    for record in sorted(records, key=lambda r: r.run):
        by_rate = by_method[rows[record.run]].setdefault(
            columns.name_of[record.run, record.task], {}
        )
        by_rate.setdefault(float(record.config["lr"]), []).append(record)
    collected = []
    for method, tasks in by_method.items():
        each = [_of_task(method, task, by_rate) for task, by_rate in sorted(tasks.items())]
        collected += each
        shared = set.intersection(*(set(t.scores) for t in each))
        if len(each) > 1 and shared:
            means = {r: fmean(t.scores[r] for t in each) for r in shared}
            runs = {r: [run for t in each for run in t.runs[r]] for r in shared}
            collected.append(Trials(method, MEAN, means, {}, _best(runs)))
    return collected


def _of_task(method: str, task: str, by_rate: Mapping[float, Sequence[Record]]) -> Trials:
    return Trials(
        method,
        task,
        {rate: fmean(map(_score, runs)) for rate, runs in by_rate.items()},
        {rate: tuple(runs) for rate, runs in by_rate.items()},
        _best(by_rate),
    )


def _best(by_rate: Mapping[float, Sequence[Record]]) -> float | None:
    by_seed: dict[float, dict[int, list[float]]] = {rate: defaultdict(list) for rate in by_rate}
    for rate, runs in by_rate.items():
        for run in runs:
            by_seed[rate][run.seed].append(trial_score(run))
    done = [{seed: len(scores) for seed, scores in seeds.items()} for seeds in by_seed.values()]
    return best_choice(by_seed) if all(seeds == done[0] for seeds in done) else None


def _score(record: Record) -> float:
    """Return a trial's score for a mean, to which one that diverged adds nothing."""
    score = trial_score(record)
    return score if math.isfinite(score) else 0.0


def search_sheets(records: Sequence[Record], files: Mapping[str, str] | None = None) -> list[Sheet]:
    """Return a sheet for each set of comparable trials; records that chose nothing are left out.

    `files` are the addresses of the records, for links to them.
    """
    groups: dict[Conditions, list[Record]] = defaultdict(list)
    chose = [r for r in records if r.protocol == "select" and r.status in DONE]
    for key, record in zip(conditions(chose), chose, strict=True):
        groups[key].append(record)
    return [
        _sheet(key, groups[key], files or {}) for key in sorted(groups, key=lambda c: c.heading())
    ]


def _sheet(key: Conditions, records: Sequence[Record], files: Mapping[str, str]) -> Sheet:
    each = trials(records)
    rates = sorted({rate for one in each for rate in one.scores})
    most = max(len(one.scores) for one in each)
    body = [
        (Entry(one.method), Entry(one.task), *_tried(one, rates), *_expected(one, most))
        for one in each
    ]
    hours = sum(r.whole_seconds or 0.0 for r in records) / 3600
    notes = (
        f"{len(records)} trials, {hours:.1f} hours of runs, counted in no other table. Scores in"
        " percent on other rows of train; report splits have no say. Bold: the best rate (of"
        " several seeds by the mean less its standard error), the smaller where two are equal; one"
        " at which a trial diverged comes last. In means and the"
        " best of k, a trial that diverged counts as 0.",
        "Best of k: the expected best score had only k of the row's rates been tried, over all"
        " choices of k (Tang et al. 2020, without replacement, unbiased). Rows that had unequal"
        " numbers of trials compare at a k that both have.",
        *_undecided(each),
        *_at_an_edge(each),
    )
    heads = ("method", "task", *(f"lr {r:g}" for r in rates))
    heads += tuple(f"best of {k}" for k in range(1, most + 1))
    return Sheet(f"Search for learning rates: {key.heading()}", heads, tuple(body), notes,
                 files=files)  # fmt: skip


def _undecided(each: Sequence[Trials]) -> tuple[str, ...]:
    """Return a note of the rows of which some rates lack trials that others have."""
    rows = dict.fromkeys(one.method for one in each if one.best is None)
    if not rows:
        return ()
    return (f"No rate is chosen yet where some lack seeds that others have: {', '.join(rows)}.",)


def _at_an_edge(each: Sequence[Trials]) -> tuple[str, ...]:
    """Return a note of the rows whose best rate is the lowest or highest of those they tried.

    What a row's mean over tasks chose counts, or where it has none, what each task chose.
    """
    of_means = {one.method for one in each if one.task == MEAN}
    edges: dict[str, list[str]] = {"lowest": [], "highest": []}
    for one in each:
        if len(one.scores) < 2 or (one.method in of_means and one.task != MEAN):
            continue
        name = one.method if one.task == MEAN else f"{one.method} on {one.task}"
        for edge, rate in (("lowest", min(one.scores)), ("highest", max(one.scores))):
            if one.best == rate:
                edges[edge].append(name)
    sentences = [f"the {edge}: {', '.join(rows)}" for edge, rows in edges.items() if rows]
    if not sentences:
        return ()
    return (
        "Best at an edge of the rates tried, so that a better one may lie beyond: "
        + "; ".join(sentences)
        + ".",
    )


def _tried(one: Trials, rates: Sequence[float]) -> list[Entry]:
    line = []
    for rate in rates:
        if rate not in one.scores:
            line.append(Entry("–"))
            continue
        runs = one.runs.get(rate, ())
        lost = bool(runs) and all(r.status != "finished" for r in runs)
        text = "diverged" if lost else f"{100 * one.scores[rate]:.1f}"
        line.append(
            Entry(
                text,
                rate == one.best,
                "; ".join(f"seed {r.seed}: {100 * _score(r):.2f}" for r in runs),
                one.scores[rate],
                tuple((f"seed {r.seed}: {100 * _score(r):.2f}", named_apart(r)) for r in runs),
            )
        )
    return line


def _expected(one: Trials, most: int) -> list[Entry]:
    """Return the expected best of 1, 2, … `most` trials, as far as the row has so many."""
    scores = list(one.scores.values())
    best = [expected_best(scores, k) for k in range(1, len(scores) + 1)]
    line = [Entry(f"{100 * value:.1f}", value=value) for value in best]
    return line + [Entry("–")] * (most - len(line))


def searched(records: Sequence[Record]) -> list[Sheet]:
    """Return the sheets of a folder that a user named; without a trial in it, a UserError."""
    sheets = search_sheets(records)
    if not sheets:
        raise UserError(
            "no record here chose by a part of train; name a folder that search=true or"
            " protocol=select wrote, such as results/searches/NAME"
        )
    return sheets
