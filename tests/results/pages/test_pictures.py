"""Pictures draw every seed and cost, are the same again, and come only where records allow."""

from __future__ import annotations

import dataclasses
import itertools
import xml.etree.ElementTree as Tree
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from results.pages.pictures import (
    _is_cut,
    cost,
    highlighted,
    learning,
    pictures,
    published,
    seeds,
    svg,
    write_pdf,
)
from results.papers.published import papers
from results.printable import cut, printable
from results.tables.collect import tables
from tests.results.papers.test_published import _hype
from tests.results.simulated import grid, simulated


def _table(losses: bool = True) -> Any:
    records = grid({"full": 0, "bitfit": -0.05, "adapter": 0.01}, ["mrpc", "rte"], 6)
    for record in records:
        record.losses = list(np.linspace(1, 0.1, 43)) if losses else []
    return tables(records)[0]


def test_every_seed_is_a_dot_at_its_score() -> None:
    table = _table()
    panels = seeds(table).axes
    for panel, task in zip(panels, table.tasks, strict=True):
        drawn = [line.get_xdata() for line in panel.lines if line.get_marker() == "o"]
        expected = {round(100 * s, 6) for row in table.rows for s in row.cells[task].scores}
        assert {round(float(x), 6) for xs in drawn for x in xs} == expected
        assert len(panel.get_yticks()) == 3


def test_pareto_line_joins_what_nothing_beats_at_less_cost() -> None:
    figure = cost(_table())
    assert figure is not None
    [line] = [x for x in figure.axes[0].lines if x.get_marker() == "None"]
    # bitfit trains least, adapter more and better; full is beaten by adapter at less.
    assert list(line.get_xdata()) == [0.175106, 0.734978]
    assert [a.get_xlabel() for a in figure.axes] == [
        "trainable parameters, millions", "training seconds", "peak memory, MB",
    ]  # fmt: skip


def test_costs_of_different_devices_are_not_drawn() -> None:
    table = _table()
    mixed = [dataclasses.replace(row, devices=("one", "another")) for row in table.rows]
    table = dataclasses.replace(table, rows=tuple(mixed))
    figure = cost(table)
    assert figure is not None
    assert [a.get_xlabel() for a in figure.axes] == ["trainable parameters, millions"]
    alone = dataclasses.replace(table, rows=table.rows[:1])
    assert cost(alone) is None


def test_a_cost_that_all_rows_share_is_not_drawn() -> None:
    table = _table()
    rows = tuple(dataclasses.replace(row, trainable=2e7 + i) for i, row in enumerate(table.rows))
    figure = cost(dataclasses.replace(table, rows=rows))
    assert figure is not None
    assert [a.get_xlabel() for a in figure.axes] == ["training seconds", "peak memory, MB"]


def test_learning_curve_is_the_mean_of_ten_steps() -> None:
    figure = learning(_table())
    assert figure is not None
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [10, 20, 30, 40]
    assert line.get_ydata()[0] == pytest.approx(np.linspace(1, 0.1, 43)[:10].mean())
    assert learning(_table(losses=False)) is None


def test_of_many_curves_eight_are_coloured_and_full_is_one_of_them() -> None:
    gains = {f"m{i}": i / 100 for i in range(11)} | {"full": -0.2}
    records = grid(gains, ["mrpc"], 3)
    for record in records:
        record.losses = list(np.linspace(1, 0.1, 43))
    [table] = tables(records)
    assert highlighted(table) == ["full", *(f"m{i}" for i in range(10, 3, -1))]
    figure = learning(table)
    assert figure is not None
    colours = [line.get_color() for line in figure.axes[0].lines]
    pale = [colour for colour in colours if colour == "0.85"]
    assert len(colours) == 12
    assert len(set(colours) - set(pale)) == 8
    assert [text.get_text() for text in figure.legends[0].texts] == [
        *highlighted(table), "the others",
    ]  # fmt: skip


def test_tasks_whose_curves_have_no_room_are_told() -> None:
    for tasks, told in ((8, False), (9, True)):
        records = grid({"full": 0}, [f"t{i}" for i in range(tasks)], 1)
        for record in records:
            record.losses = list(np.linspace(1, 0.1, 43))
        [table] = tables(records)
        assert _is_cut(table) == told


def test_paper_is_drawn_against_ours_where_they_may_be_compared() -> None:
    [table] = tables([_hype()])
    figure = published(table, papers())
    assert figure is not None
    points = [x for x in figure.axes[0].lines if x.get_marker() == "o"]
    assert {float(x.get_ydata()[0]) for x in points} == {80.0}
    assert published(tables([simulated("hype", "rte")])[0], papers()) is None


def test_pictures_are_the_same_bytes_again_and_well_formed(tmp_path: Any) -> None:
    first = {name: svg(figure) for name, (_, figure) in pictures(_table()).items()}
    again = {name: svg(figure) for name, (_, figure) in pictures(_table()).items()}
    assert first == again
    assert set(first) == {"seeds", "cost", "learning"}
    for text in first.values():
        assert Tree.fromstring(text).tag.endswith("svg")
    for name in ("a.pdf", "b.pdf"):
        write_pdf(seeds(_table()), tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_a_font_of_the_same_name_on_the_system_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = {name: svg(figure) for name, (_, figure) in pictures(_table()).items()}
    manager, folder = font_manager.fontManager, Path(matplotlib.get_data_path(), "fonts", "ttf")
    foreign = font_manager.FontEntry(
        fname=str(folder / "DejaVuSerif.ttf"), name="DejaVu Sans", weight=400, size="scalable"
    )
    monkeypatch.setattr(manager, "ttflist", [foreign, *manager.ttflist])
    manager._findfont_cached.cache_clear()
    try:
        assert Path(manager.findfont("DejaVu Sans")).name == "DejaVuSerif.ttf"
        assert {name: svg(figure) for name, (_, figure) in pictures(_table()).items()} == first
    finally:
        manager._findfont_cached.cache_clear()


def test_one_method_one_seed_and_equal_scores_are_drawn() -> None:
    for records in (
        [simulated()],
        [simulated(m, t, s) for m in ("full", "a") for t in ("mrpc", "rte") for s in range(6)],
        [simulated("full", "mrpc", 1, None)],
    ):
        for _, figure in pictures(tables(records)[0]).values():
            assert svg(figure)


@pytest.mark.parametrize("name", ["a $\\frac{$ b", "$x_1$ and 5$", "two\nlines", "a\x00b", "\\$"])
def test_name_of_any_signs_is_drawn_as_it_is_in_one_line(name: str) -> None:
    """An option of a method may be any text, of which matplotlib takes $…$ for a formula."""
    records = [
        *grid({"full": 0, "bitfit": -0.1}, ["rte"], 3),
        *(simulated("hype", "rte", s, 0.5, options={"mode": name}) for s in range(1, 4)),
        *(simulated("hype", "rte", s, 0.6, options={"mode": "b", "x": 1}) for s in range(4, 7)),
    ]
    for number, record in enumerate(records):
        record.losses, record.run = [0.5] * 20, f"{record.run}.{number}"
    [table] = tables(records)
    assert any(name in row.method for row in table.rows)
    shown = printable(name.replace("\n", " "))
    for _, figure in pictures(table).values():
        assert Tree.fromstring(svg(figure)).tag.endswith("svg")
        texts = [text for text in figure.findobj(Text) if "hype (mode=" in text.get_text()]
        assert texts
        drawn = [text._preprocess_math(text.get_text()) for text in texts]
        assert all(not formula for _, formula in drawn)
        assert any(shown in text for text, _ in drawn)
        assert not any("\n" in text for text, _ in drawn)


def test_names_beside_points_do_not_overlap() -> None:
    gains = {f"method{i}": i / 5000 for i in range(16)}
    figure = cost(tables(grid(gains, ["rte"], 3))[0])
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    for panel in figure.axes:
        boxes = [Text.get_window_extent(text) for text in panel.texts]  # without their lines
        assert len(boxes) == 16
        ends = sorted((box.y0, box.y1) for box in boxes)
        assert all(low[1] <= high[0] + 0.5 for low, high in itertools.pairwise(ends))
        edge = figure.bbox.x1
        assert all(box.x1 <= edge for box in boxes)


def test_a_name_that_is_cut_keeps_the_end_which_tells_rows_apart() -> None:
    names = [f"pats_provisional (mapping={end})" for end in ("uniform", "reversed_equal")]
    short = [cut(name, 23) for name in names]
    assert short == ["pats_prov…ping=uniform)", "pats_prov…versed_equal)"]
    assert cut(names[0], len(names[0])) == names[0]
