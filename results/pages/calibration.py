"""How far rows' probabilities can be trusted, and what ensembles of their seeds score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from results.errors import UserError
from results.logits import SUFFIX, is_of, logits_path, read_logits
from results.pages.headline import in_order
from results.pages.sheet import Entry, Sheet
from results.places import program
from results.record import Record
from results.stats.calibration import BINS, Calibration, calibration, ensemble_score
from results.stats.compare import points
from results.stats.resampling import positive_label, scored_splits
from results.tables.collect import Cell, Table, tables

NO_LOGITS = (
    f"no record keeps logits: run with save=logits, as in {program()} task=rte save=logits\n"
)


HEADS = ("method", "task", "n", "NLL", "ECE", "Brier", "mean score", "ensemble", "gain")


Logits = Mapping[str, NDArray[np.float32]]  # by report split, [examples, classes]

Key = tuple[str, str]  # a run's name, and its logits' sha256: two devices' records have one name


@dataclass(frozen=True)
class Calibrated:
    """What the seeds of a cell that kept logits say: means over them; scores are fractions.

    `ensemble` is None for a single seed, and where the seeds have not the same examples.
    """

    seeds: int
    mean: Calibration
    score: float
    ensemble: float | None


def calibration_sheets(records: Sequence[Record], folder: Path, bad: list[str]) -> list[Sheet]:
    """Return a sheet for each set of comparable records of which one kept logits.

    `folder` holds the records; files that are not their record's logits are named in `bad`.
    """
    kept = _all_logits(records, folder, bad)
    sheets, without = [], 0
    for table in tables(records):
        if any(_logits(point.record, kept) for point in table.points if point.score is not None):
            sheets.append(_sheet(table, kept))
        else:
            without += 1
    if sheets and without:
        left_out = f"{without} further table(s), of which no run kept logits, are left out."
        sheets[-1] = replace(sheets[-1], notes=(*sheets[-1].notes, left_out))
    return sheets


def _all_logits(records: Sequence[Record], folder: Path, bad: list[str]) -> dict[Key, Logits]:
    """Return the logits of each record that has some, read and checked.

    Two records of one run, made on two devices, have a file each of the same name.
    """
    places: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            places[path.name].append(path.parent)
    named = {record.run for record in records if record.logits_sha256 is not None}
    kept: dict[Key, Logits] = {}
    for record in records:
        having = places[f"{record.run}{SUFFIX}"]
        if record.logits_sha256 is None:
            if having and record.run not in named:
                bad.append(
                    f"{logits_path(record, having[-1])}: its record does not name it; run it again"
                    " with save=logits"
                )
            continue
        own = [place for place in having if len(having) > 1 and is_of(record, place)]
        try:
            logits = read_logits(record, [folder, *having, *own][-1])
        except UserError as error:
            bad.append(str(error))
            continue
        kept[record.run, record.logits_sha256] = logits
    return kept


def _logits(record: Record | None, kept: Mapping[Key, Logits]) -> Logits | None:
    """Return a record's logits; those of a part of a split are none, as its run kept more."""
    if record is None or record.logits_sha256 is None:
        return None
    return kept.get((record.run, record.logits_sha256))


def calibrated(cell: Cell, kept: Mapping[Key, Logits]) -> Calibrated | None:
    """Return what a cell's logits say; None where no seed has those of all splits of its score."""
    each = []
    for point in cell.points:
        own = _logits(point.record, kept)
        if point.record is None or point.score is None or own is None:
            continue
        splits = scored_splits(point.record)
        if splits and all(split in own for split, *_ in splits):
            each.append((point.record, splits, own))
    if not each:
        return None
    known = [
        calibration(logits[split], gold)
        for _, splits, logits in each
        for split, _, _, gold in splits
    ]
    return Calibrated(
        len(each),
        Calibration(*(fmean(getattr(one, k) for one in known) for k in ("nll", "ece", "brier"))),
        fmean(record.score for record, *_ in each if record.score is not None),
        _ensemble(each) if len(each) > 1 else None,
    )


Kept = tuple[Record, list[tuple[str, list[str], NDArray[np.float64], NDArray[np.float64]]], Logits]


def _ensemble(each: Sequence[Kept]) -> float | None:
    """Return the score of several runs' ensemble; None where their examples differ."""
    record, splits, _ = each[0]
    scores = []
    for place, (split, metrics, _, gold) in enumerate(splits):
        rows = [logits[split] for _, _, logits in each]
        others = [own[place] for _, own, _ in each if place < len(own)]
        same = len(others) == len(each) and all(
            name == split and names == metrics and np.array_equal(gold, theirs)
            for name, names, _, theirs in others
        )
        if not same or len({one.shape for one in rows}) > 1:
            return None
        scores.append(ensemble_score(rows, gold, metrics, positive_label(record)))
    return fmean(scores)


def _sheet(table: Table, kept: Mapping[Key, Logits]) -> Sheet:
    body, gains, lacking = [], [], False
    for row in in_order(table):
        for task in table.tasks:
            cell = row.cells.get(task)
            if cell is None or not cell.scores:
                continue
            known = calibrated(cell, kept)
            lacking |= known is None or known.seeds < len(cell.scores)
            body.append((Entry(row.method), Entry(task), *_line(cell, known)))
            if known is not None and known.ensemble is not None:
                gains.append(known.ensemble - known.score)
    notes = [
        "Means over the n seeds that kept logits. NLL in nats; ECE in percent, of the top class"
        f" over {BINS} equal bins; Brier from 0 to 2, summed over classes. All are low where"
        " probabilities can be trusted.",
        "The ensemble predicts by the mean of its seeds' probabilities, and gain is its score less"
        " the mean of theirs, in points. Scores in percent, always of predictions.",
    ]
    notes += [f"{task}: {mark}." for task, mark in table.marks.items()]
    if lacking:
        notes.append("– and missing seeds: no logits were kept; save=logits keeps a run's.")
    return Sheet(table.conditions.heading(), HEADS, tuple(body), tuple(notes), lead=_lead(gains))


def _line(cell: Cell, known: Calibrated | None) -> tuple[Entry, ...]:
    total = len(cell.scores)
    if known is None:
        return (Entry(f"0/{total}"), *(Entry("–") for _ in HEADS[3:]))
    count = str(total) if known.seeds == total else f"{known.seeds}/{total}"
    mean, whole = known.mean, known.ensemble
    return (
        Entry(count),
        Entry(f"{mean.nll:.3f}"),
        Entry(f"{100 * mean.ece:.1f}"),
        Entry(f"{mean.brier:.3f}"),
        Entry(f"{100 * known.score:.1f}"),
        Entry("–" if whole is None else f"{100 * whole:.1f}"),
        Entry("–" if whole is None else points(whole - known.score)),
    )


def _lead(gains: Sequence[float]) -> str:
    """Return the sentence on ensembles; no test stands behind it, and it claims none."""
    if not gains:
        return "No cell has two seeds with logits of the same examples: there is no ensemble."
    above = sum(gain > 0 for gain in gains)
    return (
        f"Ensembles of seeds score above the mean of their seeds in {above} of {len(gains)}"
        f" cell(s), by {points(fmean(gains))} points on average."
    )
