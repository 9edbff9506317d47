"""Writes a leaderboard as HTML: choosers, rows by rank with a forest plot, scores beside costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from results.pages.headline import headline
from results.pages.html import escape
from results.pages.leaderboard.data import to_json
from results.pages.leaderboard.forest import axis_strip, gap_scale, is_cut, strip
from results.pages.leaderboard.lines import (
    Line,
    collapsed_runs,
    gap_text,
    lines,
    trainable_text,
    untimed_note,
)
from results.pages.leaderboard.scale import Scale
from results.pages.leaderboard.scatter import scatter
from results.pages.sheet import DAGGER
from results.stats.compare import Comparison
from results.stats.pairing import lead
from results.tables.collect import Table

FOLDER = Path(__file__).parent


STYLE = (FOLDER / "leaderboard.css").read_text(encoding="utf-8")


SCRIPTS = ("scale.js", "statistics.js", "draw.js", "leaderboard.js")


SCRIPT = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)


COSTS = (("trainable", "trainable parameters"), ("seconds", "training seconds"))


COLLAPSED = f"{DAGGER}: runs that score no better than always answering the majority class."


ARROW = "An arrow is a difference, or the end of an interval, beyond the axis."


def leaderboard(table: Table, judged: Comparison, number: int, below: str = "") -> str:
    """Return the first section of a table: `number` counts a page's tables from 1.

    `below` is its differences by task in HTML, which other choices replace.
    """
    collapsed = collapsed_runs(table)
    ranked = [
        replace(line, collapsed=_in_counted(collapsed[line.name], table))
        for line in lines(table, judged)
    ]
    axis = gap_scale(ranked)
    pictures = "".join(
        f"<figure>{picture}</figure>"
        for cost, label in COSTS
        if (picture := scatter(ranked, cost, label))
    )
    data = to_json(table, judged, collapsed)
    conditions = f"<p class=soft>{escape(table.conditions.heading())}</p>"
    return (
        f'<section class="board" data-number="{number}">\n'
        f'<p class="say">{escape(headline(table, judged))}</p>\n{conditions}\n'
        f"{_choosers(table, judged)}"
        f'<div class="live">\n{_table(ranked, axis, judged, table)}'
        f"{_legend(ranked, axis, judged, table)}"
        f'<div class="costs">{pictures}</div>\n</div>\n'
        f'<div class="by-task">\n{below}</div>\n'
        f'<script type="application/json">{data}</script>\n</section>\n'
    )


def _in_counted(collapsed: Sequence[Sequence[int]], table: Table) -> int:
    """Return how many runs collapsed on the tasks that are counted."""
    each = zip(table.tasks, collapsed, strict=True)
    return sum(len(seeds) for task, seeds in each if task in table.counted)


def _choosers(table: Table, judged: Comparison) -> str:
    """Return what to choose with; it shows once the page's script runs.

    What is not ticked here is in no average: the script knows slices by it.
    """
    named = [row.method for row in table.rows]
    none = "" if judged.baseline is not None else '<option value="" selected>–</option>'
    options = "".join(
        f'<option value="{i}"{" selected" if name == judged.baseline else ""}>'
        f"{escape(name)}</option>"
        for i, name in enumerate(named)
    )
    boxes = "".join(
        f'<label><input type="checkbox" value="{i}"{"" if task in table.slices else " checked"}>'
        f" {escape(task)}</label>"
        for i, task in enumerate(table.tasks)
    )
    tasks = f"<fieldset><legend>tasks</legend>{boxes}</fieldset>" if len(table.tasks) > 1 else ""
    return (
        f'<form class="choose" hidden><label>baseline <select>{none}{options}</select></label>'
        f'{tasks}<button type="button" class="download">this view as CSV</button>'
        '<button type="reset" class="back" hidden>back to the first view</button></form>\n'
        '<p class="state" role="status" hidden></p>\n'
    )


def _table(ranked: Sequence[Line], axis: Scale, judged: Comparison, table: Table) -> str:
    score = escape(lead(table))
    base = "a baseline" if judged.baseline is None else escape(judged.baseline)
    timed = any(line.seconds is not None for line in ranked)
    gap = (
        f'<th scope="col" class="gap"><button>difference to {base}</button>{axis_strip(axis)}</th>'
    )
    heads = (
        f'<th scope="col"><button>method</button></th><th scope="col"><button>{score}</button></th>'
        f'{gap}<th scope="col"><button>seeds</button></th>'
        '<th scope="col"><button>trainable</button></th>'
    )
    heads += '<th scope="col"><button>seconds</button></th>' if timed else ""
    body = "".join(_row(place, line, axis, timed) for place, line in enumerate(ranked, start=1))
    return (
        f'<table class="ranks">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody></table>\n'
    )


def _row(place: int, line: Line, axis: Scale, timed: bool) -> str:
    rank = str(place) if line.score is not None else "–"
    score = "–" if line.score is None else f"{100 * line.score:.1f}"
    kinds = [("top", line.tied), ("base", line.is_baseline), ("claimed", line.claimed)]
    kind = " ".join(name for name, holds in kinds if holds)
    tie = ' <span class="tie">top group</span>' if line.tied else ""
    gap = f"<b>{gap_text(line)}</b>" if line.claimed else gap_text(line)
    mean = None if line.difference is None else line.difference.mean
    cells = (
        f'<th scope="row" data-v="{escape(line.name)}"><span class="rank">{rank}</span>'
        f' <span class="method">{escape(line.name)}</span>{tie}</th>'
        f'<td class="score"{_value(line.score)}>{score}</td>'
        f'<td class="gap"{_value(mean)} title="{_pairs(line)}"><div>{strip(line, axis)}'
        f'<span class="text">{gap}</span></div></td>'
        f'<td class="fact" data-h="seeds"{_value(_count(line))}>{line.seeds}'
        f"{f' {DAGGER}{line.collapsed}' if line.collapsed else ''}</td>"
        f'<td class="fact" data-h="trainable"{_value(line.trainable)}>'
        f"{trainable_text(line.trainable, line.share)}</td>"
    )
    if timed:
        seconds = "–" if line.seconds is None else f"{line.seconds:.0f}"
        cells += f'<td class="fact" data-h="seconds"{_value(line.seconds)}>{seconds}</td>'
    return f'<tr class="{kind}"{_numbers(line)}>{cells}</tr>\n'


def _value(value: float | None) -> str:
    return "" if value is None else f' data-v="{value:.9g}"'


def _count(line: Line) -> float:
    return float(line.seeds.partition("/")[0])


def _numbers(line: Line) -> str:
    """Return the line's numbers in full, which the download reads."""
    low, high = (line.difference and line.difference.interval) or (None, None)
    return (
        "".join(
            f' data-{name}="{value:.9g}"'
            for name, value in (("low", low), ("high", high), ("p", line.adjusted))
            if value is not None
        )
        + f' data-tied="{"" if line.tied is None else str(line.tied).lower()}"'
    )


def _pairs(line: Line) -> str:
    if line.difference is None:
        return ""
    p = "" if line.adjusted is None else f"; adjusted p {line.adjusted:.2g}"
    return f"{line.difference.pairs} pairs{p}"


def _legend(ranked: Sequence[Line], axis: Scale, judged: Comparison, table: Table) -> str:
    parts = [
        "Scores in percent, differences in points, paired by seed, with 95 % intervals from five"
        " seeds on."
    ]
    if any(line.tied for line in ranked):
        parts.append(
            "Top group (a bar at the left): the rows that the seeds do not set below another."
        )
    else:
        parts.append("No top group: the seeds are too few to set any row below another.")
    if any(line.claimed for line in ranked):
        parts.append(
            "Filled and bold: interval and test, adjusted for all"
            f" {len(judged.adjusted)} differences that have the seeds, both exclude zero."
        )
    parts += [COLLAPSED] if any(line.collapsed for line in ranked) else []
    parts += [ARROW] if is_cut(ranked, axis) else []
    parts += [untimed_note(table)] if untimed_note(table) else []
    return f'<p class="legend soft">{escape(" ".join(parts))}</p>\n'
