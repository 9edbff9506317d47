"""Says what a run scored, beside what always answering the most frequent label would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from results.pages.html import escape
from results.pages.report.answers import Answers, answers_of, section, splits_of
from results.pages.report.parts import Cell, Markup, cut, facts, soft, table
from results.record import Record
from results.rescored import headline
from results.stats.collapsed import constant_scores
from results.stats.compare import points
from results.stats.resampling import METRICS

EQUAL = 1e-9  # of scores that differ by rounding alone
ROWS = 100  # of the table


def baseline(answers: Answers, metrics: Sequence[str]) -> dict[str, float]:
    """Return what always answering a split's most frequent label scores, a fraction each.

    Empty where no references are known, and of cosines, which are no answers.
    """
    known = [name for name in metrics if name in METRICS]
    if not answers.scored or answers.of_vectors:
        return {}
    return constant_scores(known, answers.gold, answers.positive)


def most_frequent(answers: Answers) -> str:
    """Return what the baseline always answers."""
    if not answers.of_classes:
        return "one token" if answers.of_tokens else "a constant"
    labels, counts = np.unique(answers.gold, return_counts=True)
    most = labels[counts == counts.max()]
    place = answers.positive if answers.positive in most else most[0]
    return answers.label(float(place))


def answer(record: Record) -> str:
    """Return the run's answer in a sentence, marked by whether it learned anything."""
    what = f"{'+'.join(record.methods)} on {record.task} with {record.model}"
    if record.status == "finished" and record.score is not None:
        said, kind = f"{what} scores {_percent(record.score)} %{_beside(record)}.", ""
        if "below" in said or "no better" in said:
            kind = " low"
    else:
        error = record.error or {}
        reason = cut(error.get("message", "no reason is recorded"), 500)
        name, step = error.get("type"), error.get("step")
        at = f" at step {cut(step)}" if step is not None and record.status == "failed" else ""
        named = f"{cut(name)}: " if name and record.status == "failed" else ""
        scores = "" if record.scores else " It has no scores."
        said, kind = f"{what} {record.status}{at}: {named}{reason.rstrip('.')}.{scores}", " low"
    return f'<p class="say{kind}">{escape(cut(said, 1500))}</p>\n'


def _beside(record: Record) -> str:
    """Return how far the score is from the mean of its splits' baselines."""
    floors = {
        split: baseline(answers_of(record, split), list(scores))
        for split, scores in record.scores.items()
    }
    whole = all(floors[split].keys() == scores.keys() for split, scores in record.scores.items())
    floor = headline(section(record.config, "task"), floors) if whole else None
    if floor is None or record.score is None:
        return ""
    gap = _distance(record.score - floor)
    return f", {gap} {_percent(floor)} % of always answering {_alike(record)}"


def _alike(record: Record) -> str:
    """Return what the baseline answers, in words."""
    every = [answers_of(record, split).of_classes for split in record.scores]
    return "the most frequent label" if all(every) else "alike"


def _distance(gap: float) -> str:
    if abs(gap) <= EQUAL:
        return "no better than the"
    way = "above" if gap > 0 else "below"
    return f"{points(abs(gap)).lstrip('+')} points {way} the"


def _percent(value: float) -> str:
    text = f"{100 * value:.1f}" if abs(value) < 1e6 else f"{100 * value:.3g}"
    return text.replace("-", "−")


def score_table(record: Record) -> str:
    """Return each metric of each report split beside its baseline."""
    body: list[list[Cell]] = []
    undefined = False
    for split in splits_of(record)[:ROWS]:
        answers = answers_of(record, split)
        floors = baseline(answers, list(record.scores.get(split, {})))
        always = most_frequent(answers) if floors else "–"
        for metric, value in record.scores.get(split, {}).items():
            mark = " ‡" if metric in record.undefined.get(split, []) else ""
            undefined |= bool(mark)
            gap = value - floors[metric] if metric in floors else None
            floor = _percent(floors[metric]) if metric in floors else "–"
            body.append([_name(split, metric), _percent(value) + mark, floor, _gap(gap), always])
    heads = ["split, metric", "score", "baseline", "difference", "always answering"]
    beside = any(row[2] != "–" for row in body)
    shown = table(heads if beside else heads[:2], [r if beside else r[:2] for r in body[:ROWS]])
    notes = ["In percent, differences in points."] if body else []
    notes += ["‡ undefined, and set to 0."] if undefined else []
    if beside:
        notes.append(
            "The baseline answers every row with the split's most frequent label; a correlation or"
            " Matthews' coefficient of a constant is 0."
        )
    if len(body) > ROWS:
        notes.append(f"{len(body) - ROWS} further rows are left out.")
    without = [cut(name) for name in splits_of(record) if not record.scores.get(name)]
    if without:
        notes.append(f"No gold answers, so no scores: {', '.join(without[:ROWS])}.")
    return shown + (soft(" ".join(notes)) if notes else "")


def _name(split: str, metric: str) -> Markup:
    return Markup(f'{escape(cut(split))} <span class="metric">{escape(cut(metric))}</span>')


def _gap(gap: float | None) -> Cell:
    if gap is None:
        return "–"
    kind = "up" if gap > EQUAL else "down"
    said = points(gap) if abs(gap) < 1e6 else f"{100 * gap:.3g}"
    words = " above" if gap > EQUAL else " below" if gap < -EQUAL else " equal"
    return Markup(f'<span class="{kind}">{escape(said + words)}</span>')


def identity(record: Record) -> str:
    """Return in short lines what run it is."""
    budget = section(record.config, "budget")
    length = f"{budget['steps']} steps" if budget.get("steps") else f"{budget.get('epochs')} epochs"
    lines: list[tuple[str, Cell]] = [
        ("status", record.status),
        ("task", record.task),
        ("method", "+".join(record.methods)),
        ("model", record.model),
        ("seed", f"{record.seed}"),
        ("budget", f"{record.budget}: {length}, batch {budget.get('batch_size')},"
         f" {budget.get('max_length')} tokens, {budget.get('schedule')}"),
        ("learning rate", f"{record.config.get('lr', '–')}"),
        ("protocol", record.protocol),
        ("data", f"{record.data.get('source', '–')}{_trained_on(record)}"),
        ("begun", record.start or "–"),
    ]  # fmt: skip
    return facts(
        [(name, cut(value, 200) if isinstance(value, str) else value) for name, value in lines]
    )


def _trained_on(record: Record) -> str:
    rows = section(record.data, "splits", "train").get("rows")
    return f", trained on {rows:,} rows" if isinstance(rows, int) else ""
