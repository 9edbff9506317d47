"""Draws a table: seeds as dots, score against cost, paper against ours, learning curves."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from results.papers.published import Paper, beside
from results.printable import cut, printable
from results.stats.paired import bca_interval
from results.stats.pairing import average, baseline
from results.tables.collect import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


CostAxis = tuple[str, Callable[[Row], float | None], bool]  # name, value, whether logarithmic


HIGHLIGHTED = 8  # curves that an eye can follow in one panel


PANELS = 8  # of learning curves


_SMOOTH = 10  # steps of loss that a point of a learning curve is the mean of


def pictures(table: Table, papers: Sequence[Paper] = ()) -> dict[str, tuple[str, Figure]]:
    """Return each picture that the table's records allow, by name: a caption and the figure."""
    drawn = {"seeds": ("One dot a seed, a line at the mean; bars are 95 % BCa intervals, from five"
                       " seeds on.", seeds(table))}  # fmt: skip
    costs = cost(table)
    if costs is not None:
        drawn["cost"] = (
            f"{_what(table)} against what a method costs. The line joins the methods that no other"
            " beats at less cost (Pareto).",
            costs,
        )
    compared = published(table, papers)
    if compared is not None:
        drawn["published"] = (
            "Published scores against ours, on the same model and data.",
            compared,
        )
    curves = learning(table)
    if curves is not None:
        drawn["learning"] = (
            f"Training loss, mean of {_SMOOTH} steps and of the seeds; methods that own the loss"
            f" are not on one scale with the others. Of more than {HIGHLIGHTED} rows, full"
            " fine-tuning and the best are in colour."
            + (f" Of more than {PANELS} tasks, the first are drawn." if _is_cut(table) else ""),
            curves,
        )
    return drawn


def _what(table: Table) -> str:
    return "Average score" if len(table.counted) > 1 else f"Score on {table.counted[0]}"


def _figure(width: float, height: float, columns: int, rows: int = 1) -> tuple[Figure, list[Axes]]:
    import matplotlib

    from matplotlib.figure import Figure  # isort: skip

    matplotlib.rcParams.update({"font.size": 9, "font.family": _font(), "axes.spines.top": False})
    matplotlib.rcParams.update({"axes.spines.right": False, "axes.axisbelow": True})
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _font() -> str:
    """Name the font file that comes with matplotlib: a system's of that name has other glyphs."""
    import matplotlib
    from matplotlib.font_manager import FontEntry, fontManager

    name = "tunebench DejaVu Sans"
    if all(font.name != name for font in fontManager.ttflist):
        file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
        entry = FontEntry(fname=str(file), name=name, weight=400, size="scalable")
        fontManager.ttflist.append(entry)
    return name


def seeds(table: Table) -> Figure:
    """Draw every seed's score, a panel for each task, best mean first."""
    columns = min(4, len(table.tasks))
    lines = -(-len(table.tasks) // columns)
    height = 0.22 * len(table.rows) + 0.9
    figure, panels = _figure(2.2 + 2.3 * columns, height * lines, columns, lines)
    order = sorted(table.rows, key=lambda r: _rank(r, table), reverse=True)
    for i, panel in enumerate(panels):
        if i >= len(table.tasks):
            panel.set_visible(False)
            continue
        task = table.tasks[i]
        for y, row in enumerate(order):
            cell = row.cells.get(task)
            if cell is None or cell.mean is None:
                continue
            scores = [100 * s for s in cell.scores]
            panel.plot(scores, [y] * len(scores), "o", ms=3.5, mfc="none", mec="C0", mew=0.8)
            panel.plot([100 * cell.mean], [y], "|", ms=9, mew=1.8, color="C1")
            interval = bca_interval(cell.scores)
            if interval is not None:
                panel.plot([100 * interval[0], 100 * interval[1]], [y, y], color="C1", lw=1)
        panel.set_title(_plain(task), fontsize=10)
        panel.set_yticks(range(len(order)), [_short(r.method) for r in order])
        panel.set_ylim(len(order) - 0.5, -0.5)
        panel.grid(axis="x", lw=0.4, alpha=0.6)
        panel.set_xlabel("score, percent")
        if i % columns:
            panel.tick_params(labelleft=False)
    return figure


def _rank(row: Row, table: Table) -> float:
    mean = average(row, table.counted)
    known = [c.mean for c in row.cells.values() if c.mean is not None]
    return mean if mean is not None else fmean(known) - 1 if known else -2.0


def _short(label: str) -> str:
    return _plain(cut(" ".join(label.split()), 41))


def _plain(text: str) -> str:
    """Return text in one line of which matplotlib sets no part as a formula."""
    return printable(" ".join(text.split())).replace("$", r"\$")


def cost(table: Table) -> Figure | None:
    """Draw score against trainable parameters, seconds and memory; None for under two methods."""
    costs: list[CostAxis] = [("trainable parameters, millions", _millions, True)]
    if table.timed:
        costs += [
            ("training seconds", table.training_seconds, False),
            ("peak memory, MB", lambda r: _megabytes(r, table), False),
        ]
    drawn = []
    for name, of, logarithmic in costs:
        known = [(of(r), average(r, table.counted), r.method) for r in table.rows]
        points = [(x, 100 * y, m) for x, y, m in known if x is not None and y is not None]
        points = [p for p in points if p[0] > 0 or not logarithmic]
        low, high = (f(p[0] for p in points) for f in (min, max)) if points else (0, 0)
        if len(points) > 1 and (high > 1.001 * low or not logarithmic):  # heads differ by less
            wide = high > 8 * low
            drawn.append((name, points, logarithmic and wide))
    if not drawn:
        return None
    height = max(3.0, 0.19 * max(len(points) for _, points, _ in drawn) + 1)
    figure, panels = _figure(4.6 * len(drawn), height, len(drawn))
    for panel, (name, points, logarithmic) in zip(panels, drawn, strict=True):
        _scatter(panel, points, logarithmic)
        panel.set_xlabel(name)
        panel.set_ylabel(f"{_plain(_what(table).lower())}, percent")
    return figure


def _millions(row: Row) -> float | None:
    return None if row.trainable is None else row.trainable / 1e6


def _megabytes(row: Row, table: Table) -> float | None:
    peak = table.peak_bytes(row)
    return None if peak is None else peak / 1e6


def _scatter(panel: Axes, points: Sequence[tuple[float, float, str]], logarithmic: bool) -> None:
    """Draw points, their Pareto line, and names in a column at the right with a line to each."""
    if logarithmic:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")  # powers of ten would be set in another font
        panel.xaxis.set_minor_formatter("")
    else:
        panel.locator_params(axis="x", nbins=5)
    front, best = [], float("-inf")
    for x, y, _ in sorted(points, key=lambda p: (p[0], -p[1])):
        if y > best:
            front.append((x, y))
            best = y
    panel.plot(*zip(*front, strict=True), color="C1", lw=1.2, drawstyle="steps-post", zorder=1)
    panel.plot([p[0] for p in points], [p[1] for p in points], "o", ms=4.5, color="C0", zorder=2)
    panel.grid(lw=0.4, alpha=0.6)
    low, high = panel.get_ylim()
    ordered = sorted(points, key=lambda p: p[1])
    step = 1 / max(len(ordered), 12)
    places: list[float] = []
    for _, y, _ in ordered:  # upwards, never closer than a line
        places.append(max((y - low) / (high - low), places[-1] + step if places else 0.0))
    over = places[-1] - 1
    for i in range(len(places) - 1, -1, -1):  # and back into the frame
        limit = 1.0 if i == len(places) - 1 else places[i + 1] - step
        places[i] = min(places[i], limit) if over > 0 else places[i]
    for (x, y, name), place in zip(ordered, places, strict=True):
        panel.annotate(
            _short(name), (x, y), xytext=(1.06, place), textcoords="axes fraction", fontsize=7.5,
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.6", "shrinkA": 1, "shrinkB": 2,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def published(table: Table, papers: Sequence[Paper]) -> Figure | None:
    """Draw published scores against ours; None where none may be compared."""
    pairs = [
        (one.theirs, one.ours, f"{_short(method)}, {_plain(task)}")
        for task in table.tasks
        for method, scores in beside(table, task, papers).items()
        for one in scores
    ]
    if not pairs:
        return None
    figure, [panel] = _figure(5.4, 3.6, 1)
    ends = [min(min(p[:2]) for p in pairs) - 1, max(max(p[:2]) for p in pairs) + 1]
    panel.plot(ends, ends, color="0.6", lw=0.8)
    _scatter_names(panel, pairs)
    panel.set_xlabel("published, percent")
    panel.set_ylabel("ours, percent")
    return figure


def _scatter_names(panel: Axes, pairs: Sequence[tuple[float, float, str]]) -> None:
    low, high = panel.get_ylim()
    for i, (x, y, name) in enumerate(sorted(pairs, key=lambda p: p[1])):
        panel.plot([x], [y], "o", ms=4, color="C0")
        panel.annotate(
            name, (x, y), xytext=(1.04, (i + 0.5) / len(pairs)), textcoords="axes fraction",
            fontsize=7.5, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.6", "shrinkA": 1, "shrinkB": 2,
                        "relpos": (0, 0.5)},
        )  # fmt: skip
    panel.set_ylim(low, high)


def learning(table: Table) -> Figure | None:
    """Draw the training loss of every method, a panel for each task; None without losses."""
    curves = {
        task: {r.method: c for r in table.rows if (c := _curve(r, task))} for task in table.tasks
    }
    tasks = [task for task in table.tasks if curves[task]][:PANELS]
    if not tasks or table.conditions.vectors:
        return None
    columns = min(2, len(tasks))
    lines = -(-len(tasks) // columns)
    figure, panels = _figure(4.2 * columns + 2.2, 3.0 * lines, columns, lines)
    colours = {name: f"C{i}" for i, name in enumerate(highlighted(table))}
    handles: dict[str, Any] = {}
    for panel, task in zip(panels, tasks, strict=False):
        for row in table.rows:
            curve = curves[task].get(row.method)
            if curve:
                x = [_SMOOTH * (i + 1) for i in range(len(curve))]
                bright = row.method in colours
                [line] = panel.plot(
                    x, curve, color=colours.get(row.method, "0.85"), lw=1.2 if bright else 0.8,
                    zorder=2.5 if bright else 1.5,
                )  # fmt: skip
                handles[row.method if bright else _OTHERS] = line
        panel.set_title(_plain(task), fontsize=10)
        panel.set_xlabel("step")
        panel.set_ylabel("training loss")
        panel.grid(lw=0.4, alpha=0.6)
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    shown = [name for name in (*colours, _OTHERS) if name in handles]
    figure.legend(
        [handles[name] for name in shown],
        [_short(name) for name in shown],
        loc="outside right upper",
        fontsize=7.5,
        frameon=False,
    )
    return figure


_OTHERS = "the others"


def highlighted(table: Table) -> list[str]:
    """Return the rows whose curves have a colour: full fine-tuning and the best of the others."""
    if len(table.rows) <= HIGHLIGHTED:
        return [row.method for row in table.rows]
    base, _ = baseline(table)
    others = sorted((r for r in table.rows if r is not base), key=lambda r: -_rank(r, table))
    return [row.method for row in [*([base] if base else []), *others][:HIGHLIGHTED]]


def _is_cut(table: Table) -> bool:
    """Say whether more tasks have curves than there are panels."""
    return sum(any(_curve(row, t) for row in table.rows) for t in table.tasks) > PANELS


def _curve(row: Row, task: str) -> list[float]:
    """Return a cell's loss, averaged over steps and seeds, as far as all seeds go."""
    points = row.cells[task].points if task in row.cells else ()
    runs = [p.record.losses for p in points if p.record is not None and p.score is not None]
    length = min((len(losses) for losses in runs), default=0) // _SMOOTH
    return [
        fmean(x for losses in runs for x in losses[_SMOOTH * i : _SMOOTH * (i + 1)])
        for i in range(length)
    ]


def svg(figure: Figure) -> str:
    """Return a figure as SVG text, the same for the same figure."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "tunebench", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().splitlines())


def write_pdf(figure: Figure, path: Path) -> None:
    """Write a figure as PDF, the same for the same figure."""
    figure.savefig(path, format="pdf", metadata={"CreationDate": None, "Creator": None})
