"""Draws lines, dots and bars between axes, as SVG in a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from results.pages.html import escape
from results.pages.leaderboard.scale import Scale, scale
from results.pages.leaderboard.scatter import short

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 388, 10, 208
LARGEST = 1e12  # what is beyond is told and not drawn

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axes:
    """Where values lie in a picture."""

    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> str:
        """Return a point's coordinates."""
        across = LEFT + (RIGHT - LEFT) * self.x.place(x)
        return f"{across:.1f},{BOTTOM - (BOTTOM - TOP) * self.y.place(y):.1f}"


def axes(xs: Iterable[float], ys: Iterable[float]) -> Axes | None:
    """Return axes over all values; None where there are none, or some that are too large."""
    across, up = list(xs), list(ys)
    if not across or not up or max(map(abs, (*across, *up))) > LARGEST:
        return None
    return Axes(scale(across, 5, whole=True), scale(up, 4, whole=True))


def by_step(last: float, ys: Iterable[float]) -> Axes | None:
    """Return axes of a run's steps, from 0 to the last one; None as `axes` does."""
    where = axes([0.0, last], ys)
    if where is None or last <= 0:
        return None
    ticks = tuple(tick for tick in where.x.ticks if tick <= last)
    return Axes(Scale(0.0, last, ticks), where.y)


def line(where: Axes, points: Points, kind: str) -> str:
    """Return a line through points, in their order; of one point, a dot."""
    if len(points) == 1:
        return dots(where, points, kind)
    path = "L".join(where.at(x, y) for x, y in points)
    return f'<path class="line {kind}" d="M{path}"/>' if points else ""


def dots(where: Axes, points: Points, kind: str = "") -> str:
    """Return a dot for each point."""
    path = "".join(f"M{where.at(x, y)}h0" for x, y in points)
    return f'<path class="dots {kind}" d="{path}"/>' if points else ""


def bar(where: Axes, left: float, right: float, height: float, title: str) -> str:
    """Return a bar that stands on the lower end of the axis."""
    (x1, y1), (x2, y2) = (
        where.at(x, y).split(",") for x, y in ((left, where.y.low), (right, height))
    )
    return f'<path class="bar" d="M{x1},{y1}V{y2}H{x2}V{y1}Z"><title>{escape(title)}</title></path>'


def picture(where: Axes, inside: str, said: str, across: str) -> str:
    """Return a picture: the axes' ticks, what is inside them, and what the x axis is of."""
    parts = []
    for tick in where.y.ticks:
        height = where.at(where.x.low, tick).split(",")[1]
        parts.append(f'<path class="tick" d="M{LEFT},{height}H{RIGHT}"/>')
        text = f'<text class="y" x="{LEFT - 6}" y="{float(height) + 4:.1f}">{short(tick)}</text>'
        parts.append(text)
    for tick in where.x.ticks:
        place = where.at(tick, where.y.low).split(",")[0]
        parts.append(f'<path class="tick" d="M{place},{TOP}V{BOTTOM}"/>')
        parts.append(f'<text class="x" x="{place}" y="{BOTTOM + 16}">{short(tick)}</text>')
    middle = (LEFT + RIGHT) / 2
    label = f'<text class="x" x="{middle:.0f}" y="{HEIGHT - 8}">{escape(across)}</text>'
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{''.join(parts)}{inside}{label}</svg>"
    )


def framed(title: str, svg: str, caption: str, names: Sequence[str] = ()) -> str:
    """Return a picture with its title, a key to its lines, and a caption."""
    key = "".join(
        f'<span class="key k{number % COLOURS}">{escape(name)}</span> '
        for number, name in enumerate(names)
    )
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="one"><h3>{escape(title)}</h3>{key}{svg}{below}</figure>\n'


COLOURS = 6  # that report.css names k0, k1, …
