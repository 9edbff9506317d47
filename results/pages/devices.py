"""Says whether runs of the same names on two devices agree in distribution."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from results.errors import UserError
from results.pages.sheet import Entry, Sheet, difference_text, listed
from results.pages.text import Format, write
from results.pages.two_rows import p_text
from results.record import Record
from results.stats.compare import points
from results.stats.paired import EXACT_PAIRS, LEVEL, Difference, compare, holm
from results.stats.spread import sd_within, swap_p
from results.tables.columns import columns_of, rank
from results.tables.conditions import CPU, conditions
from results.tables.labels import labels

ALL = "all"


@dataclass(frozen=True)
class Pair:
    """A run's records from both folders, and the row and the column that it is of."""

    first: Record
    second: Record
    row: str
    column: str

    @property
    def scores(self) -> tuple[float, float]:
        assert self.first.score is not None
        assert self.second.score is not None
        return self.first.score, self.second.score


@dataclass(frozen=True)
class Agreement:
    """What the pairs of a task say: of the mean by `gap`, of the spread by `spread_p`."""

    task: str
    equal: int
    gap: Difference
    sds: tuple[float | None, float | None]
    spread_p: float | None


def devices(
    first: tuple[Path, Sequence[Record]], second: tuple[Path, Sequence[Record]], form: Format
) -> str:
    """Return a sheet for each set of comparable pairs; a UserError where there is none."""
    if first[0].resolve() == second[0].resolve():
        raise UserError(f"devices {first[0]} {second[0]}: this is one folder; name two")
    pairs, alone = _pairs(first[1], second[1])
    if not pairs:
        raise UserError(
            f"devices {first[0]} {second[0]}: no run is finished in both; they need runs of"
            " the same names, as one board gives on two devices"
        )
    names = (
        _device(first[0], [pair.first for pair in pairs]),
        _device(second[0], [pair.second for pair in pairs]),
    )
    by_heading: dict[str, list[Pair]] = defaultdict(list)
    for one, pair in zip(conditions([pair.first for pair in pairs]), pairs, strict=True):
        by_heading[replace(one, device=CPU).heading()].append(pair)
    folders = (str(first[0]), str(second[0]))
    shown = [_sheet(heading, by_heading[heading], folders, names) for heading in sorted(by_heading)]
    if alone:
        note = f"{alone} run(s) finished in one of the folders alone are left out."
        shown[-1] = replace(shown[-1], notes=(*shown[-1].notes, note))
    return "\n".join(write(sheet, form) for sheet in shown)


def _device(folder: Path, records: Sequence[Record]) -> str:
    """Return the name of the device that a folder's runs were on, which must be of one kind."""
    kinds = sorted({one.device for one in conditions(records)})
    if len(kinds) > 1:
        raise UserError(
            f"devices: the runs in {folder} are of {listed(kinds)}; name a folder of one kind of"
            " device"
        )
    return ", ".join(sorted({str(r.environment.get("device_name")) for r in records}))


def _pairs(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Pair], int]:
    """Return the pairs of finished runs, and how many runs are finished on one side alone.

    Runs that trained to the same weights on both devices, as methods do that come to the same, are
    one pair.
    """
    one, two = map(_scored, (first, second))
    rows, columns = labels(list(one.values()), {}), columns_of(list(one.values()))
    pairs: dict[object, Pair] = {}
    for run in sorted(one.keys() & two.keys()):
        a, b = one[run], two[run]
        column = columns.name_of[run, a.task]
        weights = (column, a.seed, a.trained_sha256, b.trained_sha256)
        pair = Pair(a, b, rows[run], column)
        pairs.setdefault(weights if None not in weights else run, pair)
    return list(pairs.values()), len(one.keys() ^ two.keys())


def _scored(records: Sequence[Record]) -> dict[str, Record]:
    """Return a folder's finished runs by name; two records of one are a UserError."""
    by_run: dict[str, Record] = {}
    for record in records:
        if record.status == "finished" and record.score is not None:
            if record.run in by_run:
                raise UserError(
                    f"devices: {record.run} has two records in one of the folders; name folders"
                    " that hold one of each run"
                )
            by_run[record.run] = record
    return by_run


def _agreement(task: str, pairs: Sequence[Pair]) -> Agreement:
    one, two = zip(*(pair.scores for pair in pairs), strict=True)
    rows = [(pair.column, pair.row) for pair in pairs]
    return Agreement(
        task,
        sum(a == b for a, b in zip(one, two, strict=True)),
        compare(two, one),
        (sd_within(one, rows), sd_within(two, rows)),
        swap_p(one, two, rows),
    )


def _sheet(
    heading: str,
    pairs: Sequence[Pair],
    folders: tuple[str, str],
    names: tuple[str, str],
) -> Sheet:
    tasks = sorted({pair.column for pair in pairs}, key=rank)
    each = [_agreement(task, [p for p in pairs if p.column == task]) for task in tasks]
    whole = _agreement(ALL, pairs)
    shown = [*each, whole] if len(each) > 1 else each
    heads = (
        *("task", "pairs", "equal", "difference", "p", "sd of a run's difference"),
        *(f"sd over seeds, {folder}" for folder in folders),
        "p of equal spread",
    )
    notes = (
        f"Points, {folders[1]} ({names[1]}) minus {folders[0]} ({names[0]}), of runs of one name;"
        " methods that came to the same weights on both are one pair. 95 % BCa interval; p by"
        f" flipped signs, exact to {EXACT_PAIRS} pairs, else drawn.",
        "Sd over seeds is within rows, pooled. Were two devices as two draws of a seed, a run's"
        " difference would have √2 times that. Equal spread is tested by swaps within pairs.",
    )
    body = tuple(_line(one) for one in shown)
    return Sheet(heading, heads, body, notes, lead=verdict(each, whole))


def _line(one: Agreement) -> tuple[Entry, ...]:
    return (
        Entry(one.task),
        Entry(str(one.gap.pairs)),
        Entry(str(one.equal)),
        Entry(difference_text(one.gap)),
        _p(one.gap.p),
        *(_sd(value) for value in (one.gap.sd, *one.sds)),
        _p(one.spread_p),
    )


def _p(p: float | None) -> Entry:
    return Entry("–" if p is None else p_text(p))


def _sd(value: float | None) -> Entry:
    return Entry("–" if value is None else f"{100 * value:.1f}")


def verdict(each: Sequence[Agreement], whole: Agreement) -> str:
    """Return one sentence: whether the pairs show the devices to differ, in mean or in spread.

    Tasks are judged together, means and spreads, after Holm.
    """
    gap = whole.gap
    if whole.equal == gap.pairs:
        return f"Both devices have equal scores in each of {gap.pairs} pairs."
    questions = [(a.task, kind, p) for a in each for kind, p in
                 (("mean", a.gap.p), ("spread", a.spread_p)) if p is not None]  # fmt: skip
    if gap.interval is None or not questions:
        return f"{gap.pairs} pair(s) are too few to say whether the devices agree in distribution."
    adjusted = holm([p for _, _, p in questions])
    differing = [
        f"the {kind} of {task} (p {p_text(p)})"
        for (task, kind, _), p in zip(questions, adjusted, strict=True)
        if p < LEVEL
    ]
    low, high = (points(end) for end in gap.interval)
    said = f"{points(gap.mean)} points [{low}, {high}] over {gap.pairs} pairs"
    if differing:
        return f"The devices differ in {listed(differing)}; over all by {said}."
    return (
        "No difference between the devices is to be seen, in mean or spread, on any task"
        f" (smallest p {p_text(min(adjusted))} after Holm over {len(adjusted)} questions): over all"
        f" {said}."
    )
