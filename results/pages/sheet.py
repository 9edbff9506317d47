"""Lays a table and what its seeds say out as entries, which text, LaTeX and HTML then write."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from results.pages.headline import headline, in_order
from results.papers.published import Beside, Paper, beside, elsewhere
from results.stats.collapsed import collapsed_seeds
from results.stats.compare import Comparison, points
from results.stats.paired import Difference
from results.stats.pairing import AVERAGE, average
from results.tables.collect import Cell, Row, Table
from results.tables.conditions import named_apart
from results.tables.privacy import privacy_notes

DAGGER = "†"


MOST_COLLAPSED = 6  # cells that a note lists, those first whose means change most


@dataclass(frozen=True)
class Entry:
    """One place of a sheet: text, what a pointer shows, a value to sort by, runs to link to.

    Of each run there is what is said of it, and its name as `named_apart` gives it.
    """

    text: str
    bold: bool = False
    title: str = ""
    value: float | None = None
    runs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A table before any markup: a title, heads, a line for each row, notes below.

    `lead` is what it answers, to stand first. `prose` says that the entries are sentences, to be
    folded. `files` are the addresses of its entries' runs, by the names that these give, where they
    are not the page's.
    """

    title: str
    heads: tuple[str, ...]
    body: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...]
    prose: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    lead: str = ""


def score_sheet(table: Table, comparison: Comparison, papers: Sequence[Paper] = ()) -> Sheet:
    """Return scores by method and task, the rows' tie groups in bold, and what each row costs."""
    several = len(table.counted) > 1
    printed = {task: beside(table, task, papers) for task in table.tasks}
    heads = ["method"]
    for task in table.tasks:
        heads += [task, "paper"] if printed[task] else [task]
    heads += [AVERAGE] if several else []
    heads += ["mean rank"] if comparison.ranks else []
    heads += ["n", "trainable %", "without head %", "stored MB"]
    cost = bool(table.timed)
    heads += ["training seconds"] if cost and not table.is_shared else []
    heads += ["peak MB"] if cost else []
    body = []
    for row in in_order(table):
        line = [Entry(row.method)]
        for task in table.tasks:
            tied = row.method in comparison.tied.get(task, ())
            line.append(_score(row.cells.get(task), tied))
            if printed[task]:
                line.append(_paper(printed[task].get(row.method, [])))
        if several:
            mean = average(row, table.counted)
            tied = row.method in comparison.tied.get(AVERAGE, ())
            line.append(_number(mean, 100, ".1f", tied))
        if comparison.ranks:
            line.append(_number(comparison.ranks.mean.get(row.method), 1, ".1f"))
        line.append(Entry(_counts(row, table.tasks)))
        line += [share_entry(row.trainable_share), share_entry(row.trainable_share_without_head)]
        stored = row.stored_bytes
        line.append(_number(stored, 1e-6, ".3g" if stored is None or stored < 1e8 else ".0f"))
        line += _cost(row, table) if cost else []
        body.append(tuple(line))
    return Sheet(
        table.conditions.heading(),
        tuple(heads),
        tuple(body),
        _notes(table, comparison, papers),
        lead=headline(table, comparison),
    )


def _notes(table: Table, comparison: Comparison, papers: Sequence[Paper]) -> tuple[str, ...]:
    notes = [
        "Scores in percent, mean ± standard deviation over seeds; a task with two metrics shows"
        " their mean."
    ]
    notes += [f"{task}: {mark}." for task, mark in table.marks.items()]
    if slices := [task for task in table.tasks if task in table.slices]:
        parts = f"{listed(slices)} {'are parts' if len(slices) > 1 else 'is a part'}"
        notes.append(f"{parts} of other columns' rows, and in no average or rank.")
    notes += start_notes(table)
    notes += collapsed_notes(table)
    notes += privacy_notes(p.record for p in table.points if p.record)
    tied, ranks = comparison.tied, comparison.ranks
    if tied:
        notes.append(
            f"Bold in {listed(list(tied))}: rows that are set below no other (step-down max-T over"
            " all pairs of a column's rows, by jointly flipped signs, and BCa interval)."
        )
    if any(comparison.untested.values()):
        notes.append("Rows that share enough seeds with no other are not tested, and never bold.")
    notes += comparison.reasons
    if ranks:
        notes.append(
            f"Mean ranks over {len(table.counted)} tasks: Friedman's p {ranks.p:.2g}; ranks"
            f" that differ by less than {ranks.critical_difference:.1f} do not separate"
            " (Nemenyi, level .05)."
        )
    notes += device_notes(table)
    printed = [
        f"Paper, {name}: {one.note}."
        for task in table.tasks
        for name, scores in beside(table, task, papers).items()
        for one in scores
    ]
    notes += dict.fromkeys(printed)
    named = elsewhere(table, papers)
    if named:
        notes.append(
            "Published on other models or data, so not compared: " + "; ".join(named) + "."
        )
    return tuple(notes)


def device_notes(table: Table) -> list[str]:
    """Return what the table's seconds and memory were measured on, and whose are left out."""
    left_out = "are left out: the runs' devices, threads, sharing or speed settings differ"
    if not table.devices:
        return []
    if not table.timed:
        return [f"Seconds and memory {left_out} ({'; '.join(table.devices)})."]
    by_name = {row.method: row for row in table.rows}
    shared = by_name[table.timed[0]].devices
    notes = [f"Seconds on {shared[0]}, passes before the first step included."] if shared else []
    if table.is_shared:
        notes = [f"No seconds, as several runs shared a GPU ({shared[0]})."]
    elif notes and table.conditions.device != "cuda":
        notes[0] += " Memory is that of the whole process, libraries included."
    if table.untimed:
        others = sorted({d for name in table.untimed for d in by_name[name].devices} - {*shared})
        notes.append(
            f"Seconds and memory of {listed(table.untimed)} are left out: these runs were made"
            f" otherwise, in part or all ({'; '.join(others)})."
        )
    return notes


def start_notes(table: Table) -> list[str]:
    """Return which seeds of a row start from one run: they are no chains of their own."""
    notes: dict[str, None] = {}
    for row in in_order(table):
        for task in table.tasks:
            seeds: dict[str, list[str]] = defaultdict(list)
            for point in row.points_of(task):
                start = point.record.weights.get("start") if point.record else None
                if isinstance(start, dict):
                    seeds[str(start.get("run"))].append(str(point.seed))
            for run, own in seeds.items():
                if len(own) > 1:
                    said = f"{row.method}: seeds {listed(own)} start from one run, {run}; their"
                    notes[f"{said} spread is of what came after it."] = None
    return list(notes)


def collapsed_notes(table: Table) -> list[str]:
    """Return a note on the seeds that learned nothing, and the means without them; or none."""
    changes: list[tuple[float, str]] = []
    for row in in_order(table):
        for task in table.tasks:
            cell = row.cells.get(task)
            if cell is None or not (bad := collapsed_seeds(cell)):
                continue
            left = [score for seed, score in cell.by_seed.items() if seed not in bad]
            text = f"{row.method} on {task} {len(bad)} of {len(cell.scores)}"
            text += f", {100 * fmean(left):.1f} without" if left else ""
            changes.append((fmean(left) - (cell.mean or 0.0) if left else 0.0, text))
    if not changes:
        return []
    changes.sort(key=lambda change: -change[0])
    shown = [text for _, text in changes[:MOST_COLLAPSED]]
    rest = len(changes) - len(shown)
    return [
        f"{DAGGER} so many seeds score no better than always answering the majority class, and the"
        f" means hold them: {'; '.join(shown)}" + (f"; and {rest} cells more." if rest else ".")
    ]


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: a, b and c."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _score(cell: Cell | None, bold: bool) -> Entry:
    if cell is None:
        return Entry("–")
    each = [
        f"seed {p.seed}: " + (p.status if p.score is None else f"{100 * p.score:.2f}")
        for p in cell.points
    ]
    both = zip(each, cell.points, strict=True)
    runs = tuple((text, named_apart(p.record)) for text, p in both if p.record)
    if cell.mean is None:
        return Entry(_without_mean(cell), title="; ".join(each), runs=runs)
    spread = "" if cell.sd is None else f" ± {100 * cell.sd:.1f}"
    short = "" if len(cell.scores) == cell.planned else f" ({len(cell.scores)}/{cell.planned})"
    bad = len(collapsed_seeds(cell))
    mark = f" {DAGGER}{bad}" if bad else ""
    text = f"{100 * cell.mean:.1f}{spread}{short}{mark}"
    return Entry(text, bold, "; ".join(each), cell.mean, runs)


def _without_mean(cell: Cell) -> str:
    """Return why a cell has no mean; a run without gold answers is finished, and has no score."""
    kinds = {p.status for p in cell.points}
    if kinds == {"missing"}:
        return f"0/{cell.planned}"
    return "no score" if "finished" in kinds else "failed"


def _number(value: float | None, times: float, form: str, bold: bool = False) -> Entry:
    if value is None:
        return Entry("–")
    return Entry(format(value * times, form), bold, value=value)


def share_entry(share: float | None) -> Entry:
    """Return a share in percent, to three digits below 100."""
    return _number(share, 1, ".3g" if share is None or share < 99.95 else ".0f")


def difference_text(difference: Difference) -> str:
    """Return a difference in points and, where there is one, its interval."""
    text = points(difference.mean)
    if difference.interval is None:
        return text
    low, high = difference.interval
    return f"{text} [{points(low)}, {points(high)}]"


def _paper(scores: Sequence[Beside]) -> Entry:
    if not scores:
        return Entry("–")
    shown = " / ".join(dict.fromkeys(one.shown for one in scores))
    return Entry(shown, title="\n".join(one.title for one in scores), value=scores[0].theirs / 100)


def _counts(row: Row, tasks: Sequence[str]) -> str:
    counts = [_count(row.cells.get(task)) for task in tasks]
    present = {_count(cell) for cell in row.cells.values()}
    return present.pop() if len(present) == 1 else " ".join(counts)


def _count(cell: Cell | None) -> str:
    if cell is None:
        return "0"
    finished = len(cell.scores)
    return str(finished) if finished == cell.planned else f"{finished}/{cell.planned}"


def _cost(row: Row, table: Table) -> list[Entry]:
    """Return seconds summed over tasks and the largest peak, both only where no task lacks it.

    There are no seconds in a table whose rows shared a GPU.
    """
    seconds = _number(table.training_seconds(row), 1, ".0f")
    peak = _number(table.peak_bytes(row), 1e-6, ".0f")
    return [peak] if table.is_shared else [seconds, peak]


def difference_sheet(table: Table, comparison: Comparison) -> Sheet | None:
    """Return the differences to full fine-tuning in points; None where nothing can be compared."""
    differences = comparison.differences
    rows = [row.method for row in in_order(table) if any(k[0] == row.method for k in differences)]
    if not rows:
        return None
    body = []
    for name in rows:
        line = [Entry(name)]
        for column in comparison.columns:
            difference = differences.get((name, column))
            if difference is None:
                line.append(Entry("–"))
                continue
            text = difference_text(difference)
            p, over = difference.p, comparison.over_examples.get((name, column))
            said = [f"{difference.pairs} pairs"]
            said += [] if p is None else [f"p {p:.2g}"]
            among = comparison.adjusted.get((name, column))
            said += [] if among is None else [f"among all {among:.2g}"]
            if over is not None:
                said.append(f"over seeds and examples [{points(over[0])}, {points(over[1])}]")
            claimed = comparison.claimed((name, column))
            line.append(Entry(text, claimed, "; ".join(said), difference.mean))
        body.append(tuple(line))
    notes = ["Points, paired by seed; 95 % BCa intervals from five seeds on."]
    if comparison.adjusted:
        notes[0] += (
            f" Bold: interval, and step-down max-T test over the {len(comparison.adjusted)}"
            " comparisons that have the seeds, both exclude zero."
        )
    notes += [comparison.choice] if comparison.choice else []
    if AVERAGE in comparison.columns:
        times = len(table.counted) if table.trained_apart else 1
        notes.append(
            "The average's test has a pair for each task and seed."
            if table.trained_apart
            else "The average's test has a pair for each seed: one training has several columns."
        )
        counts = {(key[0], d.pairs) for key, d in differences.items() if key[1] in table.counted}
        whole = {key[0]: d.pairs for key, d in differences.items() if key[1] == AVERAGE}
        if any(pairs * times > whole.get(name, math.inf) for name, pairs in counts):
            notes.append(
                "Where a row's tasks have different seeds, its average is over the seeds that all"
                " of them have, and so not the difference of the averages above."
            )
    if differences and not any(comparison.claimed(key) for key in differences):
        notes.append("None of these differences is shown to be there by so many seeds.")
    heads = ("method", *comparison.columns)
    return Sheet(f"Difference to {comparison.baseline}", heads, tuple(body), tuple(notes))
