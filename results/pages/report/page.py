"""Writes the page of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from results.errors import UserError
from results.logits import read_logits
from results.pages.html import document
from results.pages.leaderboard.table import STYLE
from results.pages.report.about import chain, configuration, cost, repeat
from results.pages.report.answers import Answers, answers_of, splits_of
from results.pages.report.classes import class_section, confusion_section
from results.pages.report.curves import curves
from results.pages.report.find import find_run
from results.pages.report.parts import cut, grid, heading, soft, table
from results.pages.report.scatter import scatter_section
from results.pages.report.scores import answer, identity, score_table
from results.pages.report.texts import texts_of
from results.pages.report.trust import trust_section
from results.pages.report.worst import worst_section
from results.plain_file import is_file, is_there, read_plain
from results.record import Record, read
from results.whole import whole

SPLITS = 30  # that have a section of their own


OWN_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


BEGIN = b"<!doctype html>"


@dataclass(frozen=True)
class Logits:
    """A record's logits by split, or in a sentence why there are none."""

    by_split: Mapping[str, NDArray[np.float32]]
    lacking: str = ""


def write_report(named: str, folder: Path, out: Path | None, data: Path | None) -> Path:
    """Write the page of a run, by its record's file or its name in a folder; return where.

    Without `out` that is RUN.html here. What is no record, or a place that holds something else
    than a page, is a UserError.
    """
    path = find_run(named, folder)
    record = read(path)
    to = Path(f"{record.run}.html") if out is None else out
    _check_place(to)
    text = report_page(record, path, data)
    try:
        with whole(to) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {to}: cannot be written ({error.strerror})") from None
    return to


def _check_place(to: Path) -> None:
    """Refuse to write over what is no page."""
    if not is_there(to):
        return
    page = False
    if is_file(to):
        try:
            page = read_plain(to, 2**28)[: len(BEGIN)].lower() == BEGIN
        except OSError:
            page = False
    if not page:
        raise UserError(f"--out {to}: what lies there is no page; name another file, as RUN.html")


def report_page(record: Record, path: Path, data: Path | None = None) -> str:
    """Return the page of a record that lies at `path`; `data` is a folder of its task's files."""
    logits = _logits(record, path.parent)
    names = splits_of(record)
    parts = [answer(record), score_table(record), identity(record), curves(record)]
    parts += [_of_split(record, answers_of(record, name), logits, data) for name in names[:SPLITS]]
    if len(names) > SPLITS:
        parts.append(soft(f"{len(names) - SPLITS} further splits have no section."))
    parts += [chain(record), cost(record), repeat(record, path), configuration(record)]
    return document(record.run, parts, STYLE + OWN_STYLE)


def _logits(record: Record, folder: Path) -> Logits:
    if record.logits_sha256 is None:
        return Logits(
            {}, "No logits were kept: save=logits, typed behind the run's command, keeps them."
        )
    try:
        return Logits(read_logits(record, folder))
    except UserError as error:
        return Logits({}, f"The logits cannot be read: {error}.")


def _of_split(record: Record, answers: Answers, logits: Logits, data: Path | None) -> str:
    """Return all that the predictions of a split say."""
    top = heading(f"{cut(answers.split)} · {len(answers.predictions):,} {_unit(answers)}")
    if not answers.scored:
        none = not len(answers.predictions)
        why = (
            "The record holds no predictions of it." if none else "Its gold answers are not known."
        )
        return top + soft(why)
    if answers.of_tokens:
        return top + _masked(record, answers)
    texts = texts_of(record, answers, data)
    own = logits.by_split.get(answers.split)
    worst = worst_section(answers, own, texts)
    if not answers.of_classes:
        scatter = scatter_section(answers)
        return top + (scatter + worst if texts.heads else grid([_part(scatter), _part(worst)]))
    both = grid([_part(confusion_section(answers)), _part(class_section(answers))])
    trust = ""
    if answers.of_labels:
        trust = trust_section(answers, own) if own is not None else _untrusted(answers, logits)
    about = (
        soft("An answer is a place among the options of its own row.") if answers.of_options else ""
    )
    return top + about + both + trust + worst


def _part(inside: str) -> str:
    return f"<div>{inside}</div>\n"


def _untrusted(answers: Answers, logits: Logits) -> str:
    why = logits.lacking or "The logits hold none of this split."
    if not answers.may_keep_logits:
        why = f"{'A mixture' if answers.mixed else 'A set of another task'} keeps no logits."
    return heading("Calibration", 3) + soft(why)


def _unit(answers: Answers) -> str:
    return "masked tokens" if answers.of_tokens else "rows"


def _masked(record: Record, answers: Answers) -> str:
    """Return what a split says of masked tokens, before training and after."""
    measured = record.measured.get(answers.split, {})
    before, after = measured.get("before", {}), measured.get("after", {})
    body = [
        [cut(name), *(_value(side.get(name), name) for side in (before, after))]
        for name in dict.fromkeys([*before, *after])
    ]
    said = "A perplexity is exp of the mean loss of the masked tokens, the rest is in percent."
    if not body:
        said = "The record does not say what was measured before training."
    return table(["of the masked tokens", "before", "after"], body) + soft(said)


def _value(value: float | None, name: str) -> str:
    if value is None:
        return "–"
    if name == "perplexity":
        return f"{value:,.2f}" if value < 1e7 else f"{value:.4g}"
    return f"{100 * value:.1f}"
