"""Draws scores against what they cost, as SVG in a page, with names in a column at the right."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from results.pages.leaderboard.lines import Line
from results.pages.leaderboard.scale import Scale, scale, tick_text
from results.printable import cut, printable

LEFT, RIGHT, TOP, BOTTOM = 38, 300, 10, 34  # the frame; names stand right of it
WIDTH, STEP = 460, 14  # of the picture; between names
NAMED, LONGEST = 30, 23  # rows whose name has room; signs of a name

Spot = tuple[float, float, str]  # cost, score in percent, name


def scatter(lines: Sequence[Line], cost: str, label: str) -> str:
    """Return score against `cost`, a field of lines; empty where under two rows have both."""
    spots = [
        (float(x), 100 * line.score, line.name)
        for line in lines
        if line.score is not None and (x := getattr(line, cost)) is not None and x > 0
    ]
    return draw(spots, label) if len(spots) > 1 else ""


def draw(spots: Sequence[Spot], label: str) -> str:
    """Return the picture: dots, the line that no other beats at less cost, and names."""
    costs = [spot[0] for spot in spots]
    wide = max(costs) > 8 * min(costs)
    x_axis = _powers(costs) if wide else scale([*costs, 0.0], 4, whole=True)
    y_axis = scale([spot[1] for spot in spots])
    bottom = max(230, TOP + STEP * min(len(spots), NAMED))
    across = [_x(x_axis, math.log10(x) if wide else x) for x in costs]
    up = [_y(y_axis, spot[1], bottom) for spot in spots]
    frame = _frame(x_axis, y_axis, bottom, wide)
    best, line = -math.inf, ""
    for i in sorted(range(len(spots)), key=lambda i: (spots[i][0], -spots[i][1])):
        if spots[i][1] > best:
            line += f"H{across[i]:.1f}V{up[i]:.1f}" if line else f"M{across[i]:.1f},{up[i]:.1f}"
            best = spots[i][1]
    parts = [frame, f'<path class="front" d="{line}H{RIGHT}"/>']
    for i, (_, y, name) in enumerate(spots):
        title = f"<title>{html.escape(printable(name))}: {y:.1f}</title>"
        if way := y_axis.beyond(y):
            shape = f'd="M{across[i]:.1f},{up[i] - 5 * way:.1f}l-5,{7 * way}h10Z"'
            parts.append(f'<path class="spot" {shape}>{title}</path>')
        else:
            at = f'cx="{across[i]:.1f}" cy="{up[i]:.1f}"'
            parts.append(f'<circle class="spot" {at} r="4">{title}</circle>')
    parts.append(_names([spot[2] for spot in spots], across, up, bottom))
    parts.append(
        f'<text class="label" x="{(LEFT + RIGHT) / 2:.0f}" y="{bottom + 30}">{label}</text>'
    )
    return (
        f'<svg class="scatter" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" role="img"'
        f' aria-label="score against {label}">{"".join(parts)}</svg>'
    )


def _powers(costs: Sequence[float]) -> Scale:
    """Return an axis of powers of ten, in their logarithms; of under two, with 2 and 5 times."""
    low, high = (math.log10(f(costs)) for f in (min, max))
    room = 0.04 * (high - low)
    low, high = low - room, high + room
    ticks = [float(i) for i in range(math.ceil(low), math.floor(high) + 1)]
    if len(ticks) < 2:
        powers = range(math.floor(low), math.floor(high) + 1)
        between = [power + math.log10(times) for power in powers for times in (1, 2, 5)]
        ticks = [tick for tick in between if low <= tick <= high]
    return Scale(low, high, tuple(ticks))


def _x(axis: Scale, value: float) -> float:
    return LEFT + (RIGHT - LEFT) * axis.place(value)


def _y(axis: Scale, value: float, bottom: float) -> float:
    return bottom - (bottom - TOP) * axis.place(value)


def _frame(x_axis: Scale, y_axis: Scale, bottom: float, wide: bool) -> str:
    parts = []
    for tick in y_axis.ticks:
        y = _y(y_axis, tick, bottom)
        parts.append(f'<line class="tick" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="y" x="{LEFT - 5}" y="{y + 4:.1f}">{tick_text(tick)}</text>')
    for tick in x_axis.ticks:
        x = _x(x_axis, tick)
        parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        text = short(10**tick if wide else tick)
        parts.append(f'<text class="x" x="{x:.1f}" y="{bottom + 14}">{text}</text>')
    return "".join(parts)


def short(value: float) -> str:
    """Return a number with k or M for thousands and millions."""
    for size, sign in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size * (1 - 1e-9):
            return tick_text(value / size) + sign
    return tick_text(value)


def _names(
    names: Sequence[str], across: Sequence[float], up: Sequence[float], bottom: float
) -> str:
    """Return names in a column, each with a line to its dot and none over another."""
    order = sorted(range(len(names))[:NAMED], key=lambda i: (up[i], i))
    places: list[float] = []
    for i in order:
        places.append(max(up[i], places[-1] + STEP if places else TOP))
    limit = bottom
    for k in range(len(places) - 1, -1, -1):
        places[k] = min(places[k], limit)
        limit = places[k] - STEP
    return "".join(
        f'<path class="lead" d="M{across[i] + 5:.1f},{up[i]:.1f}L{RIGHT + 8},{y:.1f}"/>'
        f'<text class="name" x="{RIGHT + 11}" y="{y + 4:.1f}">{html.escape(_cut(names[i]))}</text>'
        for i, y in zip(order, places, strict=True)
    )


def _cut(name: str) -> str:
    return cut(printable(" ".join(name.split())), LONGEST)
