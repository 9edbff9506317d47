"""Draws differences with their intervals, a strip for each row, as SVG in a page."""

from __future__ import annotations

from collections.abc import Sequence

from results.pages.leaderboard.lines import Line
from results.pages.leaderboard.scale import Scale, scale, tick_text

EDGE = 4.0  # percent of the width left free at either end


def gap_scale(lines: Sequence[Line]) -> Scale:
    """Return the axis of the differences in points, with zero on it; without any, no ticks."""
    values = [0.0]
    for line in lines:
        if line.difference is not None:
            ends = line.difference.interval or ()
            values += [100 * value for value in (line.difference.mean, *ends)]
    return scale(values) if len(values) > 1 else Scale(-1, 1, ())


def is_cut(lines: Sequence[Line], axis: Scale) -> bool:
    """Say whether a difference or an end of its interval lies beyond the axis."""
    return any(
        axis.beyond(100 * value)
        for line in lines
        if line.difference is not None
        for value in (line.difference.mean, *(line.difference.interval or ()))
    )


def across(axis: Scale, value: float) -> str:
    """Return where a value lies across a strip, in percent."""
    return f"{EDGE + (100 - 2 * EDGE) * axis.place(value):.2f}%"


def strip(line: Line, axis: Scale) -> str:
    """Return a row's strip: ticks, zero, the interval, and a dot at the mean."""
    parts = [
        f'<line class="{"zero" if tick_text(tick) == "0" else "tick"}" x1="{across(axis, tick)}"'
        f' x2="{across(axis, tick)}" y1="0" y2="26"/>'
        for tick in axis.ticks
    ]
    difference = line.difference
    if difference is not None:
        mean = 100 * difference.mean
        if difference.interval is not None:
            low, high = (100 * end for end in difference.interval)
            parts.append(
                f'<line class="span" x1="{across(axis, low)}" x2="{across(axis, high)}"'
                ' y1="13" y2="13"/>'
            )
            parts += [_arrow(axis, end) for end in (low, high) if axis.beyond(end)]
        if not axis.beyond(mean):
            parts.append(f'<circle cx="{across(axis, mean)}" cy="13" r="4.5"/>')
        elif difference.interval is None or not any(map(axis.beyond, (low, high))):
            parts.append(_arrow(axis, mean))
    elif line.is_baseline:
        parts.append(f'<circle class="base" cx="{across(axis, 0)}" cy="13" r="3.5"/>')
    kind = "strip claimed" if line.claimed else "strip"
    return f'<svg class="{kind}" height="26" aria-hidden="true">{"".join(parts)}</svg>'


def _arrow(axis: Scale, value: float) -> str:
    """Return a mark at the end of the axis that a value lies beyond."""
    way = axis.beyond(value)
    return (
        f'<svg x="{across(axis, value)}" y="13" overflow="visible">'
        f'<path class="arrow" d="M{9 * way},0L{way},-5L{way},5Z"/></svg>'
    )


def axis_strip(axis: Scale) -> str:
    """Return the numbers of the axis, in points."""
    numbers = "".join(
        f'<text x="{across(axis, tick)}" y="12">{tick_text(tick)}</text>' for tick in axis.ticks
    )
    return f'<svg class="axis" height="16" aria-hidden="true">{numbers}</svg>'
