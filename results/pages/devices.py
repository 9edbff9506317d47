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
from results.tables.columns import rank
from results.tables.conditions import CPU, conditions
from results.tables.labels import labels

ALL = "all"


@dataclass(frozen=True)
class Pair:
    """A run's records from both folders, and the row that it is of."""

    first: Record
    second: Record
    row: str

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

    @property
    def ps(self) -> list[float]:
        return [p for p in (self.gap.p, self.spread_p) if p is not None]


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
    shown = [
        _sheet(heading, by_heading[heading], (str(first[0]), str(second[0])), names, alone)
        for heading in sorted(by_heading)
    ]
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
    sides = [{r.run: r for r in records} for records in (first, second)]
    rows = labels(list(sides[0].values()), {})
    pairs: dict[object, Pair] = {}
    alone = 0
    for run in sorted(set(sides[0]) & set(sides[1])):
        one, two = (side[run] for side in sides)
        done = [r.status == "finished" and r.score is not None for r in (one, two)]
        alone += done[0] != done[1]
        weights = (one.task, one.seed, one.trained_sha256, two.trained_sha256)
        if all(done):
            pairs.setdefault(weights if None not in weights else run, Pair(one, two, rows[run]))
    return list(pairs.values()), alone


def _agreement(task: str, pairs: Sequence[Pair]) -> Agreement:
    one, two = zip(*(pair.scores for pair in pairs), strict=True)
    rows = [(pair.first.task, pair.row) for pair in pairs]
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
    alone: int,
) -> Sheet:
    tasks = sorted({pair.first.task for pair in pairs}, key=rank)
    each = [_agreement(task, [p for p in pairs if p.first.task == task]) for task in tasks]
    whole = _agreement(ALL, pairs)
    shown = [*each, whole] if len(each) > 1 else each
    heads = (
        *("task", "pairs", "equal", "difference", "p", "sd of a run's difference"),
        *(f"sd over seeds, {folder}" for folder in folders),
        "p of equal spread",
    )
    notes = [
        f"Points, {folders[1]} ({names[1]}) minus {folders[0]} ({names[0]}), of runs of one name;"
        " methods that came to the same weights on both are one pair. 95 % BCa interval; p by"
        f" flipped signs, exact to {EXACT_PAIRS} pairs, else drawn.",
        "Sd over seeds is within rows, pooled. Were two devices as two draws of a seed, a run's"
        " difference would have √2 times that. Equal spread is tested by swaps within pairs.",
    ]
    if alone:
        notes.append(f"{alone} run(s) finished in one of the folders alone are left out.")
    body = tuple(_line(one) for one in shown)
    return Sheet(heading, heads, body, tuple(notes), lead=verdict(each, whole))


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
    if gap.interval is None:
        return f"{gap.pairs} pair(s) are too few to say whether the devices agree in distribution."
    questions = [(a.task, kind, p) for a in each for kind, p in
                 (("mean", a.gap.p), ("spread", a.spread_p)) if p is not None]  # fmt: skip
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
